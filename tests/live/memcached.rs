//! memcached with Python's drivers: the text protocol and the binary one, on one connection, from
//! before the agent and after it.

use anyhow::Result;
use spantap_tests::agent::Capture;
use spantap_tests::process::free_port;
use spantap_tests::program::{Program, Setup};
use spantap_tests::{Case, Deed, Stage, install};

use crate::deeds::Cell;

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |driver: &'static Driver, unix: bool, capture, before| {
        let how = if unix { "unix" } else { "tcp" };
        let name = format!(
            "memcached::{}::{how}::{}",
            driver.name,
            Cell::name(capture, before)
        );
        cases.push(Case::new(name, move |stage| {
            run(stage, driver, unix, capture, before)
        }));
    };
    for capture in [Capture::Socket, Capture::Syscall] {
        for before in [true, false] {
            add(&PYMEMCACHE, false, capture, before);
        }
    }
    add(&PYMEMCACHE, true, Capture::Socket, false);
    for driver in [&BMEMCACHED, &PYLIBMC, &PYLIBMC_BINARY] {
        add(driver, false, Capture::Socket, false);
    }
    add(&BMEMCACHED, false, Capture::Socket, true);
    cases
}

struct Driver {
    name: &'static str,
    /// What it asks before it is told to.
    connects: fn() -> Vec<Deed>,
    /// What it asks then.
    list: fn() -> Vec<Deed>,
}

const PYMEMCACHE: Driver = Driver {
    name: "pymemcache",
    connects: || vec![command("version", 0)],
    list: || {
        vec![
            command("set", 4),
            rows(command("get", 1), 1),
            rows(command("get", 1), 0),
            rows(command("get", 3), 1),
            rows(command("gets", 1), 1),
            command("set", 5),
            command("incr", 2),
            command("delete", 1),
            command("set", 4).fails("SERVER_ERROR"),
            command("touch", 2),
            command("stats", 0),
        ]
    },
};

const BMEMCACHED: Driver = Driver {
    name: "bmemcached",
    connects: || vec![command("get", 1)],
    list: || {
        vec![
            command("set", 1),
            command("get", 1),
            command("get", 1),
            command("set", 1),
            command("set", 1),
            command("noop", 0),
            command("get", 1),
            command("get", 1),
            command("get", 1),
            command("delete", 1),
        ]
    },
};

const PYLIBMC: Driver = Driver {
    name: "pylibmc",
    connects: || vec![rows(command("get", 1), 0)],
    list: || {
        vec![
            command("set", 4),
            rows(command("get", 1), 1),
            rows(command("get", 1), 0),
            rows(command("get", 2), 1),
            command("delete", 1),
        ]
    },
};

const PYLIBMC_BINARY: Driver = Driver {
    name: "pylibmc-binary",
    connects: || vec![command("get", 1)],
    list: || {
        vec![
            command("set", 1),
            command("get", 1),
            command("get", 1),
            command("get", 1),
            command("get", 1),
            command("noop", 0),
            command("delete", 1),
        ]
    },
};

/// A command with so many arguments.
fn command(name: &str, arguments: usize) -> Deed {
    let text = format!("{name}{}", " ?".repeat(arguments));
    let facts = [
        ("db.system.name", "memcached"),
        ("db.operation.name", name),
        ("db.query.text", &text),
    ];
    Deed::new(name, facts)
}

fn rows(deed: Deed, values: u32) -> Deed {
    deed.with("db.response.returned_rows", values)
}

fn run(
    stage: &mut Stage,
    driver: &Driver,
    unix: bool,
    capture: Capture,
    before: bool,
) -> Result<()> {
    let port = free_port()?;
    let path = stage.folder.join("memcached.sock");
    let path = path.to_string_lossy().into_owned();
    let server = server(stage, port, unix.then_some(&path))?;
    let (place, agent) = match unix {
        true => {
            let commands = ["--command", "*memcached*", "--command", "*client.py*"];
            (path, stage.agent()?.args(commands))
        }
        false => (port.to_string(), stage.agent()?.ports(&[port])),
    };
    let (file, _) = install::app("memcached/client.py")?;
    let program = install::python_of("memcached", &[])?.join("python");
    let client = Setup::new("python", &stage.folder, program)
        .arg(file)
        .args([driver.name, &place]);
    let mut deeds = (driver.list)();
    if !before {
        deeds.extend((driver.connects)());
    }
    let cell = Cell {
        protocol: "memcached",
        driver: driver.name,
        server: &server,
        capture,
        before,
        tls: false,
    };
    cell.run(stage, agent, client, &deeds).map(drop)
}

fn server(stage: &Stage, port: u16, path: Option<&String>) -> Result<Program> {
    let memcached = install::debian("memcached", &["memcached"])?;
    let setup = Setup::new(
        "memcached",
        &stage.folder,
        memcached.file("usr/bin/memcached")?,
    )
    .env("LD_LIBRARY_PATH", memcached.libraries())
    .args(["-u", "root", "-U", "0", "-t", "2"]);
    let Some(path) = path else {
        let words = ["-l", "127.0.0.1", "-p", &port.to_string()];
        return setup.args(words).port(port).start();
    };
    let server = setup.args(["-s", path]).start()?;
    // With a socket it listens on no port: the file says that it has started.
    for _ in 0..100 {
        if std::path::Path::new(path).exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    Ok(server)
}
