//! Beanstalkd: its server, and clients in two languages that put jobs into a tube and take them out, by
//! TCP and by a unix socket.

use std::path::Path;

use anyhow::Result;
use spantap_tests::program::{Program, Setup};
use spantap_tests::span::Kind;
use spantap_tests::{Case, Deed, Stage, install};

use crate::deeds::{Cell, Place, Way};

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |driver: &'static Driver, way: Way| {
        cases.push(way.case("beanstalkd", driver.name, move |stage| {
            run(stage, driver, way)
        }));
    };
    for way in Way::ALL {
        add(&GREENSTALK, way);
    }
    for way in [Way::OLD, Way::NEW] {
        add(&GREENSTALK, way.unix());
    }
    add(&JACKD, Way::NEW);
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

fn run(stage: &mut Stage, driver: &Driver, way: Way) -> Result<()> {
    let place = way.place(&stage.folder)?;
    let server = server(stage, &place)?;
    let agent = place.agent(stage, &["*beanstalkd*", "*client.py*"])?;
    let program = (driver.program)(&stage.folder)?.arg(place.to_string());
    let cell = Cell::new("beanstalkd", driver.name, &server, way);
    let deeds = (driver.deeds)(way.before);
    cell.run(stage, agent, program, &deeds).map(drop)
}

fn server(stage: &Stage, place: &Place) -> Result<Program> {
    let beanstalkd = install::debian("beanstalkd", &["beanstalkd"])?;
    let program = beanstalkd.file("usr/bin/beanstalkd")?;
    let setup = Setup::new("beanstalkd", &stage.folder, program)
        .env("LD_LIBRARY_PATH", beanstalkd.libraries());
    place.start(match &place.path {
        Some(path) => setup.args(["-l", &format!("unix:{path}")]),
        None => setup.args(["-l", "127.0.0.1", "-p", &place.port.to_string()]),
    })
}
