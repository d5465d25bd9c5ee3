//! NATS: its server, and clients in three languages that publish, ask and answer; JetStream with one
//! of them.

use std::path::Path;

use anyhow::Result;
use spantap_tests::process::free_port;
use spantap_tests::program::Setup;
use spantap_tests::span::Kind;
use spantap_tests::{Case, Deed, Stage, install};

use crate::deeds::{self, Cell, Way};

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for driver in DRIVERS {
        // What the two paths and an older connection need is the same for all.
        let ways = match driver.0 {
            "go" => &Way::ALL[..],
            _ => &[Way::NEW],
        };
        for &way in ways {
            cases.push(way.case("nats", driver.0, move |stage| core(stage, driver, way)));
        }
    }
    cases.push(Way::NEW.case("nats", "jetstream", jetstream));
    cases
}

/// How a driver is started, but for its arguments.
type Program = fn(&Path) -> Result<Setup>;

const DRIVERS: &[(&str, Program)] = &[("go", go), ("python", python), ("node", node)];

fn go(folder: &Path) -> Result<Setup> {
    Ok(Setup::new("go", folder, binary()?).arg("client"))
}

fn python(folder: &Path) -> Result<Setup> {
    let (file, _) = install::app("nats/client.py")?;
    let python = install::python_of("nats", &[])?.join("python");
    Ok(Setup::new("python", folder, python).arg(file))
}

fn node(folder: &Path) -> Result<Setup> {
    let folder_of = install::modules("node-nats", "nats", &["client.js"])?;
    Ok(Setup::new("node", folder, "node").arg(folder_of.join("client.js")))
}

/// The server and the client on nats.go are one binary.
fn binary() -> Result<std::path::PathBuf> {
    install::go_build("go-nats", "nats", &["main.go", "go.mod", "go.sum"])
}

fn server(stage: &Stage, port: u16) -> Result<Setup> {
    let words = ["server", "--addr", "127.0.0.1", "--port"];
    let setup = Setup::new("nats-server", &stage.folder, binary()?).args(words);
    Ok(setup.arg(port.to_string()).port(port))
}

fn core(stage: &mut Stage, (name, program): &(&str, Program), way: Way) -> Result<()> {
    let port = free_port()?;
    let server = server(stage, port)?.start()?;
    let driver = program(&stage.folder)?.arg(format!("nats://127.0.0.1:{port}"));
    let agent = stage.agent()?.ports(&[port]);
    let cell = Cell::new("nats", name, &server, way);
    let spans = cell.run(stage, agent, driver, &deeds(way.before))?;
    deeds::in_trace(stage, &spans, "live.orders.traced", TRACE);
    Ok(())
}

/// What each driver does.
fn deeds(before: bool) -> Vec<Deed> {
    let parent = (TRACE.to_owned(), SPAN.to_owned());
    let mut traced = published("live.orders.traced");
    traced.parent = Some(parent);
    vec![
        published("live.orders.new"),
        traced,
        asked("live.orders.asked"),
        asked("live.nobody").fails("503"),
        published("live.orders.big"),
        processed("live.orders.new", before),
        processed("live.orders.traced", before),
        processed("live.orders.asked", before),
        processed("live.orders.big", before),
    ]
}

fn deed(operation: &str, kind: &str, subject: &str) -> Deed {
    let attributes = [
        ("messaging.system", "nats"),
        ("messaging.operation.name", operation),
        ("messaging.operation.type", kind),
        ("messaging.destination.name", subject),
        ("network.protocol.name", "nats"),
    ];
    Deed::new(&format!("{operation} {subject}"), attributes)
}

fn published(subject: &str) -> Deed {
    deed("publish", "send", subject).kinds(Kind::Producer, Kind::Server)
}

fn asked(subject: &str) -> Deed {
    deed("publish", "send", subject)
}

/// Of an older connection the subscription is not known.
fn processed(subject: &str, before: bool) -> Deed {
    let deed = deed("process", "process", subject).kinds(Kind::Consumer, Kind::Client);
    if before {
        return deed.with("spantap.partial", true);
    }
    let template = "live.orders.*";
    let deed = deed.with("messaging.destination.template", template);
    Deed {
        name: format!("process {template}"),
        ..deed.with("messaging.consumer.group.name", "workers")
    }
}

fn jetstream(stage: &mut Stage) -> Result<()> {
    let port = free_port()?;
    let store = stage.folder.join("store");
    let server = server(stage, port)?.arg("--jetstream").arg("--store_dir");
    let server = server.arg(store).start()?;
    let driver = Setup::new("go", &stage.folder, binary()?);
    let driver = driver.args(["stream", &format!("nats://127.0.0.1:{port}")]);
    let agent = stage.agent()?.ports(&[port]);
    let cell = Cell::new("nats", "jetstream", &server, Way::NEW);
    let api = |verb: &str, rest: &str| {
        let template = format!("$JS.API.{verb}.>");
        let deed = deed("request", "send", &format!("$JS.API.{verb}.{rest}"));
        Deed {
            name: format!("request {template}"),
            ..deed.with("messaging.destination.template", template)
        }
    };
    let fetched = || deed("process", "process", "kept.orders").kinds(Kind::Consumer, Kind::Client);
    let deeds = [
        api("STREAM.CREATE", "LIVE"),
        asked("kept.orders"),
        asked("kept.orders"),
        api("CONSUMER.CREATE", "LIVE.reader"),
        fetched(),
        fetched().fails("NAK"),
    ];
    cell.run(stage, agent, driver, &deeds).map(drop)
}

/// What the drivers write into a message's headers.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";
