//! MongoDB's protocol with drivers of three languages, and FerretDB, which speaks it: commands, a
//! cursor, batches, documents of 300 KiB and errors, from before the agent and after it.

use std::path::Path;

use anyhow::Result;
use spantap_tests::program::{Program, Setup};
use spantap_tests::{Case, Deed, Stage, install};

use crate::deeds::{Cell, Place, Way};

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |driver: &'static Driver, way: Way| {
        cases.push(way.case("mongodb", driver.name, move |stage| run(stage, driver, way)));
    };
    for way in Way::ALL {
        add(&PYTHON, way);
    }
    add(&PYTHON, Way::NEW.unix());
    for driver in [&AIO, &NODE, &GO] {
        add(driver, Way::NEW);
    }
    add(&NODE, Way::OLD);
    cases
}

/// A program that does the list.
struct Driver {
    name: &'static str,
    /// How it is started, to reach what place.
    program: fn(&Path, &str) -> Result<Setup>,
}

const PYTHON: Driver = Driver {
    name: "pymongo",
    program: |folder, place| python(folder, [place, "plain"]),
};

const AIO: Driver = Driver {
    name: "pymongo-aio",
    program: |folder, place| python(folder, [place, "aio"]),
};

const NODE: Driver = Driver {
    name: "node",
    program: |folder, place| {
        let modules = install::modules("node-mongodb", "mongodb", &["client.js"])?;
        let script = modules.join("client.js");
        Ok(Setup::new("node", folder, "node").arg(script).arg(place))
    },
};

const GO: Driver = Driver {
    name: "go",
    program: |folder, place| {
        let program = ferretdb()?;
        Ok(Setup::new("go", folder, program).args(["client", place]))
    },
};

fn python(folder: &Path, words: [&str; 2]) -> Result<Setup> {
    let (file, _) = install::app("mongodb/client.py")?;
    let program = install::python_of("mongodb", &[])?.join("python");
    Ok(Setup::new("python", folder, program).arg(file).args(words))
}

/// The server, with the Go driver in it.
fn ferretdb() -> Result<std::path::PathBuf> {
    let files = ["main.go", "client.go", "go.mod", "go.sum"];
    install::go_build("ferretdb", "mongodb", &files)
}

/// A command of the one database, on the one collection.
fn command(name: &str) -> Deed {
    let facts = [
        ("db.system.name", "mongodb"),
        ("db.namespace", "shop"),
        ("db.operation.name", name),
        ("db.collection.name", "orders"),
    ];
    let deed = Deed::new(&format!("{name} orders"), facts);
    Deed {
        absent: vec!["db.operation.batch.size", "db.query.text"],
        ..deed
    }
}

/// The same on no collection.
fn bare(name: &str) -> Deed {
    Deed {
        name: name.into(),
        ..command(name).without("db.collection.name")
    }
}

/// The same with so many statements.
fn batch(name: &str, statements: u32) -> Deed {
    let deed = command(name);
    Deed {
        absent: Vec::new(),
        ..deed.with("db.operation.batch.size", statements)
    }
}

fn fails(deed: Deed, code: &str) -> Deed {
    deed.fails(code).with("db.response.status_code", code)
}

/// A command that there is not.
fn unknown() -> Deed {
    fails(bare("mongodb").without("db.operation.name"), "59")
}

/// What every driver does once it is told to. What it does while it connects is nobody's business.
fn list() -> Vec<Deed> {
    vec![
        command("insert"),
        command("insert"),
        command("find"),
        command("getMore"),
        command("find"),
        command("update"),
        batch("update", 3),
        command("findAndModify"),
        command("aggregate"),
        command("distinct"),
        command("aggregate"),
        batch("delete", 2),
        command("delete"),
        fails(command("insert"), "11000"),
        unknown(),
        command("find"),
        command("killCursors"),
        bare("listCollections"),
        command("drop"),
    ]
}

fn run(stage: &mut Stage, driver: &Driver, way: Way) -> Result<()> {
    let place = way.place(&stage.folder)?;
    let server = server(stage, &place)?;
    let agent = place.agent(stage, &["*ferretdb*", "*client.py*"])?;
    let client = (driver.program)(&stage.folder, &place.to_string())?;
    let cell = Cell::new("mongodb", driver.name, &server, way);
    cell.run(stage, agent, client, &list()).map(drop)
}

fn server(stage: &Stage, place: &Place) -> Result<Program> {
    Setup::new("ferretdb", &stage.folder, ferretdb()?)
        .inside(&stage.folder)
        .args(["server", &place.port.to_string()])
        .args(&place.path)
        .port(place.port)
        .start()
}
