//! Elasticsearch's and OpenSearch's own clients, and what answers them with the heads of the stores:
//! a stand-in, not the stores themselves.

use std::path::Path;

use anyhow::Result;
use spantap_tests::agent::Capture;
use spantap_tests::process::free_port;
use spantap_tests::program::Setup;
use spantap_tests::{Case, Deed, Stage, install};

use crate::deeds::Cell;

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for driver in DRIVERS {
        for before in [true, false] {
            // What an older connection needs is the same for all.
            if before && driver.0 != "python" {
                continue;
            }
            let capture = Capture::Socket;
            let when = Cell::name(capture, before);
            let name = format!("elasticsearch::{}::tcp::{when}", driver.0);
            cases.push(Case::new(name, move |stage| {
                run(stage, driver, capture, before)
            }));
        }
    }
    cases
}

/// How a driver is started, but for its arguments.
type Program = fn(&Path) -> Result<Setup>;

/// Name in the table, program, and what it takes the server for.
const DRIVERS: &[(&str, Program, &str)] = &[
    ("python", python, "elasticsearch"),
    ("node", node, "elasticsearch"),
    ("opensearch-py", python, "opensearch"),
];

fn python(folder: &Path) -> Result<Setup> {
    let (file, _) = install::app("elasticsearch/client.py")?;
    let python = install::python_of("elasticsearch", &[])?.join("python");
    Ok(Setup::new("python", folder, python).arg(file))
}

fn node(folder: &Path) -> Result<Setup> {
    let folder_of = install::modules("node-elasticsearch", "elasticsearch", &["client.js"])?;
    Ok(Setup::new("node", folder, "node").arg(folder_of.join("client.js")))
}

fn run(
    stage: &mut Stage,
    (name, program, system): &(&str, Program, &str),
    capture: Capture,
    before: bool,
) -> Result<()> {
    let port = free_port()?;
    let (file, _) = install::app("elasticsearch/stand_in.py")?;
    let python = install::python_of("elasticsearch", &[])?.join("python");
    let server = Setup::new("stand-in", &stage.folder, python).arg(file);
    let server = server.args([&port.to_string(), *system]).port(port);
    let server = server.start()?;
    let driver = program(&stage.folder)?;
    let driver = driver.args([&format!("http://127.0.0.1:{port}"), *system]);
    let agent = stage.agent()?.ports(&[port]);
    let cell = Cell {
        protocol: "elasticsearch",
        driver: name,
        server: &server,
        capture,
        before,
        tls: false,
    };
    let spans = cell.run(stage, agent, driver, &deeds(system, before))?;
    for span in spans {
        let told = format!("{:?}", span.attributes);
        stage.check(!told.contains("secret"), || format!("a query: {told}"));
    }
    Ok(())
}

/// What the clients do.
fn deeds(system: &str, before: bool) -> Vec<Deed> {
    let of = |operation: &str| {
        let deed = call(system, operation).with("db.collection.name", "orders");
        Deed {
            name: format!("{operation} orders"),
            ..deed.with("db.operation.parameter.index", "orders")
        }
    };
    let one = |operation: &str, id: &str| of(operation).with("db.operation.parameter.id", id);
    let mut deeds = vec![
        of("indices.create"),
        one("index", "a b"),
        of("search"),
        of("bulk"),
        one("get", "a b"),
        one("get", "absent")
            .with("db.response.status_code", "404")
            .fails_client("404"),
        of("count"),
        one("delete", "a b"),
        call(system, "cat.indices").without("db.collection.name"),
        of("indices.delete"),
    ];
    if !before {
        deeds.push(call(system, "info").without("db.collection.name"));
    }
    deeds
}

fn call(system: &str, operation: &str) -> Deed {
    let attributes = [
        ("db.system.name", system),
        ("db.operation.name", operation),
        ("db.response.status_code", "200"),
        ("network.protocol.name", "http"),
    ];
    Deed::new(operation, attributes)
}
