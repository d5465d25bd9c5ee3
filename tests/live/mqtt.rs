//! MQTT: mosquitto, and clients in two languages that publish with each quality of service and take
//! what comes, by TCP and by a unix socket.

use std::path::Path;

use anyhow::Result;
use spantap_tests::agent::Capture;
use spantap_tests::process::free_port;
use spantap_tests::program::{Program as Server, Setup};
use spantap_tests::span::Kind;
use spantap_tests::{Case, Deed, Stage, install};

use crate::deeds::{self, Cell};

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for driver in DRIVERS {
        for unix in [false, true] {
            for capture in [Capture::Socket, Capture::Syscall] {
                for before in [true, false] {
                    // What the two paths and an older connection need is the same for all.
                    let first = driver.name == "python" && !unix;
                    let other = before || capture == Capture::Syscall;
                    if other && !first || unix && driver.name != "python" {
                        continue;
                    }
                    let place = if unix { "unix" } else { "tcp" };
                    let cell = Cell::name(capture, before);
                    let name = format!("mqtt::{}::{place}::{cell}", driver.name);
                    cases.push(Case::new(name, move |stage| {
                        run(stage, driver, unix, capture, before)
                    }));
                }
            }
        }
    }
    cases
}

struct Driver {
    name: &'static str,
    /// How it is started, but for its arguments.
    program: fn(&Path) -> Result<Setup>,
    /// Whether it writes a context into a message.
    traces: bool,
}

const DRIVERS: &[Driver] = &[
    Driver {
        name: "python",
        program: python,
        traces: true,
    },
    Driver {
        name: "node",
        program: node,
        traces: false,
    },
];

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

fn run(
    stage: &mut Stage,
    driver: &Driver,
    unix: bool,
    capture: Capture,
    before: bool,
) -> Result<()> {
    let port = free_port()?;
    let socket = stage.folder.join("mqtt.sock");
    let server = mosquitto(stage, port, &socket)?;
    let program = (driver.program)(&stage.folder)?;
    let (program, agent) = if unix {
        let program = program.arg("unix").arg(&socket);
        let both = ["--command", "*mosquitto.conf", "--command", "*mqtt.sock"];
        (program, stage.agent()?.args(both))
    } else {
        let program = program.arg("tcp").arg(port.to_string());
        (program, stage.agent()?.ports(&[port]))
    };
    let cell = Cell {
        protocol: "mqtt",
        driver: driver.name,
        server: &server,
        capture,
        before,
        tls: false,
    };
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
            deed = match before {
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
