//! Beanstalkd: its server, and clients in two languages that put jobs into a tube and take them out, by
//! TCP and by a unix socket.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use spantap_tests::agent::Capture;
use spantap_tests::process::{self, free_port};
use spantap_tests::program::{Program, Setup};
use spantap_tests::span::Kind;
use spantap_tests::{Case, Deed, Stage, install};

use crate::deeds::Cell;

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |driver: &'static Driver, unix: bool, capture, before| {
        let how = if unix { "unix" } else { "tcp" };
        let cell = Cell::name(capture, before);
        let name = format!("beanstalkd::{}::{how}::{cell}", driver.name);
        cases.push(Case::new(name, move |stage| {
            run(stage, driver, unix, capture, before)
        }));
    };
    for capture in [Capture::Socket, Capture::Syscall] {
        for before in [true, false] {
            add(&GREENSTALK, false, capture, before);
        }
    }
    for before in [true, false] {
        add(&GREENSTALK, true, Capture::Socket, before);
    }
    add(&JACKD, false, Capture::Socket, false);
    cases
}

struct Driver {
    name: &'static str,
    /// How it is started, but for its arguments.
    program: fn(&Path) -> Result<Setup>,
    /// What it does.
    deeds: fn(before: bool) -> Vec<Deed>,
}

const GREENSTALK: Driver = Driver {
    name: "greenstalk",
    program: |folder| {
        let (file, _) = install::app("beanstalkd/client.py")?;
        let python = install::python_of("beanstalkd", &[])?.join("python");
        Ok(Setup::new("python", folder, python).arg(file))
    },
    deeds: |before| {
        let of = |deed| of(deed, "orders", before);
        let tube = "messaging.destination.name";
        vec![
            of(put(5).with(ID, 1)),
            of(put(70_000).fails_client("JOB_TOO_BIG")),
            of(job("reserve", "receive", 1)),
            call("touch").with(ID, 1),
            job("release", "settle", 1),
            of(job("reserve-with-timeout", "receive", 1)),
            job("bury", "settle", 1),
            of(call("kick")),
            of(call("peek-ready").with(ID, 1)),
            of(job("reserve", "receive", 1)),
            job("delete", "settle", 1),
            job("delete", "settle", 99).fails_client("NOT_FOUND"),
            Deed {
                name: "stats-tube orders".into(),
                ..call("stats-tube").with(tube, "orders")
            },
            call("list-tubes"),
            of(put(60_000).with(ID, 2)),
            of(job("reserve", "receive", 2)),
            job("delete", "settle", 2),
        ]
    },
};

const JACKD: Driver = Driver {
    name: "jackd",
    program: |folder| {
        let modules = install::modules("node-beanstalkd", "beanstalkd", &["client.js"])?;
        Ok(Setup::new("node", folder, "node").arg(modules.join("client.js")))
    },
    deeds: |before| {
        let of = |deed| of(deed, "mails", before);
        vec![
            of(put(3).with(ID, 1)),
            of(put(3).with(ID, 2)),
            call("stats"),
            of(job("reserve", "receive", 1)),
            job("delete", "settle", 1),
            of(job("reserve-with-timeout", "receive", 2)),
            job("bury", "settle", 2),
            call("kick-job").with(ID, 2),
            job("reserve-job", "receive", 2),
            job("release", "settle", 2),
            call("peek").with(ID, 99).fails_client("NOT_FOUND"),
        ]
    },
};

const ID: &str = "messaging.message.id";

fn call(name: &str) -> Deed {
    let facts = [
        ("messaging.system", "beanstalkd"),
        ("messaging.operation.name", name),
    ];
    Deed::new(name, facts)
}

fn job(name: &str, operation: &str, id: u32) -> Deed {
    let deed = call(name).with("messaging.operation.type", operation);
    deed.with(ID, id)
}

fn put(size: u32) -> Deed {
    let deed = call("put").with("messaging.operation.type", "send");
    let deed = deed.with("messaging.message.body.size", size);
    deed.kinds(Kind::Producer, Kind::Server)
}

/// About this tube, which is not known where it was chosen before the agent came.
fn of(deed: Deed, tube: &str, before: bool) -> Deed {
    if before {
        return deed
            .without("messaging.destination.name")
            .with("spantap.partial", true);
    }
    Deed {
        name: format!("{} {tube}", deed.name),
        ..deed.with("messaging.destination.name", tube)
    }
}

fn run(
    stage: &mut Stage,
    driver: &Driver,
    unix: bool,
    capture: Capture,
    before: bool,
) -> Result<()> {
    let port = free_port()?;
    let path = stage.folder.join("beanstalkd.sock");
    let path = path.to_string_lossy().into_owned();
    let server = server(stage, port, unix.then_some(&path))?;
    let (place, agent) = match unix {
        true => {
            let commands = ["--command", "*beanstalkd*", "--command", "*client.py*"];
            (path, stage.agent()?.args(commands))
        }
        false => (port.to_string(), stage.agent()?.ports(&[port])),
    };
    let program = (driver.program)(&stage.folder)?.arg(place);
    let cell = Cell {
        protocol: "beanstalkd",
        driver: driver.name,
        server: &server,
        capture,
        before,
        tls: false,
    };
    let deeds = (driver.deeds)(before);
    cell.run(stage, agent, program, &deeds).map(drop)
}

fn server(stage: &Stage, port: u16, path: Option<&String>) -> Result<Program> {
    let beanstalkd = install::debian("beanstalkd", &["beanstalkd"])?;
    let program = beanstalkd.file("usr/bin/beanstalkd")?;
    let setup = Setup::new("beanstalkd", &stage.folder, program)
        .env("LD_LIBRARY_PATH", beanstalkd.libraries());
    let Some(path) = path else {
        let words = ["-l", "127.0.0.1", "-p", &port.to_string()];
        return setup.args(words).port(port).start();
    };
    let server = setup.args(["-l", &format!("unix:{path}")]).start()?;
    // With a socket it listens on no port: the file says that it has started.
    process::until("beanstalkd listens", Duration::from_secs(10), || {
        Path::new(path).exists()
    })?;
    Ok(server)
}
