//! Elasticsearch and OpenSearch, each asked by its own clients of two languages.

use std::path::Path;

use anyhow::Result;
use spantap_tests::agent::Capture;
use spantap_tests::process::free_port;
use spantap_tests::program::Setup;
use spantap_tests::{Case, Deed, Program, Stage, install};

use crate::deeds::{Cell, Way};

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for driver in DRIVERS {
        // What an older connection needs is the same for all, what the other path needs for a server.
        let ways: &[Way] = match driver.0 {
            "python" => &[Way::OLD, Way::NEW, Way::NEW.by(Capture::Syscall)],
            "opensearch-js" => &[Way::NEW, Way::NEW.by(Capture::Syscall)],
            _ => &[Way::NEW],
        };
        for &way in ways {
            cases.push(way.case("elasticsearch", driver.0, move |stage| {
                run(stage, driver, way)
            }));
        }
    }
    cases
}

/// How a driver is started, but for its arguments.
type Start = fn(&Path) -> Result<Setup>;

/// Name in the table, program, and the server.
const DRIVERS: &[(&str, Start, &str)] = &[
    ("python", python, "elasticsearch"),
    ("node", node, "elasticsearch"),
    ("opensearch-py", python, "opensearch"),
    ("opensearch-js", node, "opensearch"),
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

fn run(stage: &mut Stage, (name, start, system): &(&str, Start, &str), way: Way) -> Result<()> {
    let port = free_port()?;
    let server = server(&stage.folder, system, port)?;
    let driver = start(&stage.folder)?;
    let driver = driver.args([&format!("http://127.0.0.1:{port}"), *system]);
    let agent = stage.agent()?.ports(&[port]);
    let cell = Cell::new("elasticsearch", name, &server, way);
    let spans = cell.run(stage, agent, driver, &deeds(system, way.before))?;
    for span in spans {
        let told = format!("{:?}", span.attributes);
        stage.check(!told.contains("secret"), || format!("a query: {told}"));
    }
    Ok(())
}

/// A node of its own, of what Maven Central has of the server.
fn server(folder: &Path, system: &str, port: u16) -> Result<Program> {
    let starter = install::classes("single-node", "elasticsearch", &["SingleNode.java"])?;
    let libraries = install::libraries(&format!("{system}-server"), system)?;
    let java = install::java_of("elasticsearch")?;
    let setup = Setup::new("server", folder, java).args(QUICK);
    let setup = setup.arg("-cp").arg(starter).args(["SingleNode", system]);
    let setup = setup.arg(libraries.trim_end_matches("/*"));
    let setup = setup.arg(folder.join("home")).arg(port.to_string());
    setup.port(port).start()
}

/// A node is to start soon rather than to run fast.
const QUICK: [&str; 5] = [
    "-Xmx512m",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-XX:+UnlockDiagnosticVMOptions",
    "-XX:-BytecodeVerificationRemote",
];

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
        one("index", "a b").with("db.response.status_code", "201"),
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
        let first = match system {
            "elasticsearch" => "cluster.health",
            _ => "info",
        };
        deeds.push(call(system, first).without("db.collection.name"));
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
