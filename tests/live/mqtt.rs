//! MQTT: mosquitto, and clients in two languages that publish with each quality of service and take
//! what comes, by TCP and by a unix socket.

use std::path::Path;

use anyhow::Result;
use spantap_tests::process::free_port;
use spantap_tests::program::{Program as Server, Setup};
use spantap_tests::span::Kind;
use spantap_tests::{Case, Deed, Stage, install};

use crate::deeds::{self, Cell, Place, Way};

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |driver: &'static Driver, way: Way| {
        cases.push(way.case("mqtt", driver.name, move |stage| run(stage, driver, way)));
    };
    // What the two paths and an older connection need is the same for all.
    for way in Way::ALL {
        add(&PYTHON, way);
    }
    add(&PYTHON, Way::NEW.unix());
    add(&NODE, Way::NEW);
    cases
}

struct Driver {
    name: &'static str,
    /// How it is started, but for its arguments.
    program: fn(&Path) -> Result<Setup>,
    /// Whether it writes a context into a message.
    traces: bool,
}

const PYTHON: Driver = Driver {
    name: "python",
    program: python,
    traces: true,
};

const NODE: Driver = Driver {
    name: "node",
    program: node,
    traces: false,
};

fn python(folder: &Path) -> Result<Setup> {
    let (file, _) = install::app("mqtt/client.py")?;
    let python = install::python_of("mqtt", &[])?.join("python");
    Ok(Setup::new("python", folder, python).arg(file))
}

fn node(folder: &Path) -> Result<Setup> {
    let folder_of = install::modules("node-mqtt", "mqtt", &["client.js"])?;
    Ok(Setup::new("node", folder, "node").arg(folder_of.join("client.js")))
}

fn mosquitto(stage: &Stage, port: u16, socket: &Path) -> Result<Server> {
    let packages = install::debian("mosquitto", &["mosquitto"])?;
    let file = stage.folder.join("mosquitto.conf");
    let socket = socket.display();
    let lines = format!(
        "listener {port} 127.0.0.1\nlistener 0 {socket}\nallow_anonymous true\nuser root\n"
    );
    std::fs::write(&file, lines)?;
    Setup::new(
        "mosquitto",
        &stage.folder,
        packages.file("usr/sbin/mosquitto")?,
    )
    .env("LD_LIBRARY_PATH", packages.libraries())
    .arg("-c")
    .arg(file)
    .port(port)
    .start()
}

fn run(stage: &mut Stage, driver: &Driver, way: Way) -> Result<()> {
    let port = free_port()?;
    let socket = stage.folder.join("mqtt.sock");
    let server = mosquitto(stage, port, &socket)?;
    let program = (driver.program)(&stage.folder)?;
    let path = way.unix.then(|| socket.display().to_string());
    let place = Place { port, path };
    let program = program.args([way.transport(), &place.to_string()]);
    let agent = place.agent(stage, &["*mosquitto.conf", "*mqtt.sock"])?;
    let cell = Cell::new("mqtt", driver.name, &server, way);
    let mut deeds = Vec::new();
    for word in ["zero", "4711", "two", "traced"] {
        let context = driver.traces && word == "traced";
        let context = context.then(|| (TRACE.to_owned(), SPAN.to_owned()));
        for (operation, kind, client) in [
            ("publish", "send", "live-asks"),
            ("process", "process", "live-takes"),
        ] {
            let mut deed = deed(operation, kind, word);
            // Who it is was said before.
            deed = match way.before {
                true => deed.with("spantap.partial", true).without(CLIENT),
                false => deed.with(CLIENT, client),
            };
            // What is handed on is a child of the broker's span for that.
            deed.parent = context.clone().filter(|_| operation == "publish");
            deeds.push(deed);
        }
    }
    let spans = cell.run(stage, agent, program, &deeds)?;
    if driver.traces {
        deeds::in_trace(stage, &spans, "live/traced/up", TRACE);
    }
    Ok(())
}

fn deed(operation: &str, kind: &str, word: &str) -> Deed {
    let topic = format!("live/{word}/up");
    let template = "live/{id}/up";
    let is_id = word == "4711";
    let name = if is_id { template } else { &topic };
    let attributes = [
        ("messaging.system", "mqtt"),
        ("messaging.operation.name", operation),
        ("messaging.operation.type", kind),
        ("messaging.destination.name", &topic),
        ("network.protocol.name", "mqtt"),
    ];
    let deed = Deed::new(&format!("{operation} {name}"), attributes);
    let deed = match operation {
        "publish" => deed.kinds(Kind::Producer, Kind::Server),
        _ => deed.kinds(Kind::Consumer, Kind::Client),
    };
    match is_id {
        true => deed.with(TEMPLATE, template),
        false => deed.without(TEMPLATE),
    }
}

const CLIENT: &str = "messaging.client.id";
const TEMPLATE: &str = "messaging.destination.template";
/// What a driver writes into a message's properties.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";
