//! memcached with Python's drivers: the text protocol and the binary one, on one connection, from
//! before the agent and after it.

use anyhow::Result;
use spantap_tests::program::{Program, Setup};
use spantap_tests::{Case, Deed, Stage, install};

use crate::deeds::{Cell, Place, Way};

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |driver: &'static Driver, way: Way| {
        cases.push(way.case("memcached", driver.name, move |stage| {
            run(stage, driver, way)
        }));
    };
    for way in Way::ALL {
        add(&PYMEMCACHE, way);
    }
    add(&PYMEMCACHE, Way::NEW.unix());
    for driver in [&BMEMCACHED, &PYLIBMC, &PYLIBMC_BINARY] {
        add(driver, Way::NEW);
    }
    add(&BMEMCACHED, Way::OLD);
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

fn run(stage: &mut Stage, driver: &Driver, way: Way) -> Result<()> {
    let place = way.place(&stage.folder)?;
    let server = server(stage, &place)?;
    let agent = place.agent(stage, &["*memcached*", "*client.py*"])?;
    let (file, _) = install::app("memcached/client.py")?;
    let program = install::python_of("memcached", &[])?.join("python");
    let client = Setup::new("python", &stage.folder, program)
        .arg(file)
        .args([driver.name, &place.to_string()]);
    let mut deeds = (driver.list)();
    if !way.before {
        deeds.extend((driver.connects)());
    }
    let cell = Cell::new("memcached", driver.name, &server, way);
    cell.run(stage, agent, client, &deeds).map(drop)
}

fn server(stage: &Stage, place: &Place) -> Result<Program> {
    let memcached = install::debian("memcached", &["memcached"])?;
    let setup = Setup::new(
        "memcached",
        &stage.folder,
        memcached.file("usr/bin/memcached")?,
    )
    .env("LD_LIBRARY_PATH", memcached.libraries())
    .args(["-u", "root", "-U", "0", "-t", "2"]);
    place.start(match &place.path {
        Some(path) => setup.args(["-s", path]),
        None => setup.args(["-l", "127.0.0.1", "-p", &place.port.to_string()]),
    })
}
