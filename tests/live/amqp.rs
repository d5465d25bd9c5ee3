//! RabbitMQ with pika, aio-pika and amqplib (Node.js): messages published with confirms and without,
//! to exchanges and queues that are there and that are not, pulled and pushed, acknowledged, refused,
//! put back, or none of it. One server for all drivers of a case.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use spantap_tests::agent::Capture;
use spantap_tests::process::free_port;
use spantap_tests::program::Setup;
use spantap_tests::span::Kind;
use spantap_tests::{Case, Client, Deed, Doers, Program, Stage, install};

use crate::deeds::Cell;

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for capture in [Capture::Socket, Capture::Syscall] {
        for before in [true, false] {
            let name = format!("amqp::{}", Cell::name(capture, before));
            cases.push(Case::new(name, move |stage| run(stage, capture, before)));
        }
    }
    cases.push(Case::new("amqp::client", client_alone));
    cases
}

/// How a program is started, but for its arguments.
type Driver = fn(&Path) -> Result<Setup>;

/// Name, and the program.
const DRIVERS: [(&str, Driver); 3] = [("pika", pika), ("aio", aio), ("node", node)];

fn python(folder: &Path, script: &str) -> Result<Setup> {
    let (file, _) = install::app(&format!("amqp/{script}"))?;
    let python = install::python_of("amqp", &[])?.join("python");
    Ok(Setup::new("driver", folder, python).arg(file))
}

fn pika(folder: &Path) -> Result<Setup> {
    python(folder, "deeds_pika.py")
}

fn aio(folder: &Path) -> Result<Setup> {
    python(folder, "deeds_aio.py")
}

fn node(folder: &Path) -> Result<Setup> {
    let scripts = install::modules("node-amqp", "amqp", &["deeds.js"])?;
    Ok(Setup::new("driver", folder, "node").arg(scripts.join("deeds.js")))
}

/// A broker, and the register of Erlang's nodes that it wants.
struct Broker {
    server: Program,
    _register: Program,
}

impl Broker {
    fn start(folder: &Path, port: u16) -> Result<Self> {
        let files = install::debian("rabbitmq", &["rabbitmq-server"])?;
        let erlang = files.file("usr/lib/erlang")?;
        let programs = begins(&erlang, "erts-")?.join("bin");
        let home = begins(&files.file("usr/lib/rabbitmq/lib")?, "rabbitmq_server-")?;
        let folder = folder.join("broker");
        std::fs::create_dir_all(&folder)?;
        let (register, nodes) = (free_port()?, free_port()?);
        let setup = |name, program: &str| {
            Setup::new(name, &folder, programs.join(program))
                .env("LD_LIBRARY_PATH", files.libraries())
                .env("ERL_EPMD_PORT", register.to_string())
                .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        };
        let register = setup("epmd", "epmd").port(register).start()?;
        // As RabbitMQ's own script does, which knows only where Debian installs it.
        let server = setup("rabbitmq", "erlexec")
            .args(["-noinput", "-s", "rabbit", "boot", "-boot"])
            .arg(erlang.join("bin/start_sasl"))
            .args(["+W", "w", "+S", "1", "+sbwt", "none"])
            .args(["-kernel", "prevent_overlapping_partitions", "false"])
            .env("HOME", &folder)
            .env("ROOTDIR", &erlang)
            .env("BINDIR", &programs)
            .env("EMU", "beam")
            .env("PROGNAME", "erl")
            .env("ERL_LIBS", home.join("plugins"))
            .env("RABBITMQ_HOME", &home)
            .env("RABBITMQ_PLUGINS_DIR", home.join("plugins"))
            .env("RABBITMQ_ENABLED_PLUGINS", "")
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("plugins"))
            .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq"))
            .env("RABBITMQ_GENERATED_CONFIG_DIR", folder.join("config"))
            .env("RABBITMQ_MNESIA_BASE", folder.join("mnesia"))
            .env("RABBITMQ_FEATURE_FLAGS_FILE", folder.join("flags"))
            .env("RABBITMQ_PID_FILE", folder.join("pid"))
            .env("RABBITMQ_LOG_BASE", folder.join("log"))
            .env("RABBITMQ_LOGS", "-")
            .env("RABBITMQ_NODENAME", "rabbit@localhost")
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", port.to_string())
            .env("RABBITMQ_DIST_PORT", nodes.to_string())
            .port(port)
            .start()?;
        Ok(Self {
            server,
            _register: register,
        })
    }
}

/// The entry of a folder whose name begins so, whatever version follows.
fn begins(folder: &Path, name: &str) -> Result<PathBuf> {
    let is = |path: &PathBuf| {
        let file = path.file_name().and_then(|file| file.to_str());
        file.is_some_and(|file| file.starts_with(name))
    };
    let entries = std::fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut found: Vec<PathBuf> = entries.filter(is).collect();
    found.sort();
    let first = found.into_iter().next();
    first.with_context(|| format!("no {name} in {}", folder.display()))
}

/// Bytes of a long message: of several frames, where calls are copied whole.
fn long(capture: Capture) -> usize {
    match capture {
        Capture::Syscall => 30_000,
        _ => 300_000,
    }
}

fn start(stage: &Stage, (name, driver): (&str, Driver), port: u16, size: usize) -> Result<Client> {
    let folder = stage.folder.join(name);
    std::fs::create_dir_all(&folder)?;
    let driver = driver(&folder)?.arg(port.to_string()).arg(name);
    Client::start(driver.arg(size.to_string()))
}

fn act(driver: &mut Client) -> Result<()> {
    driver.tell("go")?;
    let said = driver.line()?;
    ensure!(said == "done", "the driver said {said:?}");
    Ok(())
}

fn run(stage: &mut Stage, capture: Capture, before: bool) -> Result<()> {
    let port = free_port()?;
    let broker = Broker::start(&stage.folder, port)?;
    let agent = stage.agent()?.ports(&[port]).capture(capture);
    let mut drivers = Vec::new();
    let agent = if before {
        for driver in DRIVERS {
            drivers.push(start(stage, driver, port, long(capture))?);
        }
        agent.start()?
    } else {
        let agent = agent.start()?;
        for driver in DRIVERS {
            drivers.push(start(stage, driver, port, long(capture))?);
        }
        agent
    };
    for driver in &mut drivers {
        act(driver)?;
    }
    let deeds: Vec<Deed> = DRIVERS
        .iter()
        .flat_map(|(name, _)| deeds(name, before, false, long(capture)))
        .collect();
    let doers = Doers {
        client: drivers.iter().flat_map(Client::pids).collect(),
        server: broker.server.pids(),
        cell: ("amqp".into(), "rabbitmq".into()),
    };
    stage.judge_deeds(agent, &deeds, &doers).map(drop)
}

/// Where the broker is not traced, a message's own context is the parent of the consumer's span.
fn client_alone(stage: &mut Stage) -> Result<()> {
    let port = free_port()?;
    let _broker = Broker::start(&stage.folder, port)?;
    // By its port too: other cases beside this one are of Python as well.
    let agent = stage.agent()?.ports(&[port]).capture(Capture::Socket);
    let agent = agent.args(["--command", "python*"]).start()?;
    let mut driver = start(stage, DRIVERS[0], port, long(Capture::Socket))?;
    act(&mut driver)?;
    let doers = Doers {
        client: driver.pids(),
        server: Vec::new(),
        cell: ("amqp".into(), "pika".into()),
    };
    let deeds = deeds(DRIVERS[0].0, false, true, long(Capture::Socket));
    stage.judge_deeds(agent, &deeds, &doers).map(drop)
}

const SIZE: &str = "messaging.message.body.size";
const KEY: &str = "messaging.rabbitmq.destination.routing_key";
const TAG: &str = "messaging.rabbitmq.message.delivery_tag";

fn deed(operation: [&str; 2], target: &str, destination: &str) -> Deed {
    let [name, kind] = operation;
    let words = [
        ("messaging.system", "rabbitmq"),
        ("messaging.operation.name", name),
        ("messaging.operation.type", kind),
        ("messaging.destination.name", destination),
    ];
    Deed::new(&format!("{name} {target}"), words)
}

/// What every driver does, in places of its own. `before`: it has connected before the agent came, so
/// that nobody can tell whether its publishes are confirmed. `alone`: the broker is not traced.
/// `long`: bytes of the second message.
fn deeds(own: &str, before: bool, alone: bool, long: usize) -> Vec<Deed> {
    let (orders, shop) = (format!("{own}.orders"), format!("{own}.shop"));
    let (orders, shop) = (orders.as_str(), shop.as_str());
    let context = || {
        let trace = "0af7651916cd43dd8448eb211c80319c".to_owned();
        (trace, "b7ad6b7169203331".to_owned())
    };
    let publish = |target: &str, destination: &str, key: &str, size: usize| {
        deed(["publish", "send"], target, destination)
            .with(KEY, key)
            .with(SIZE, size)
            .kinds(Kind::Producer, Kind::Server)
    };
    let known = |deed: Deed| {
        let deed = deed.with("messaging.message.id", "m-1");
        deed.with("messaging.message.conversation_id", "c-1")
    };
    let made = || {
        let destination = format!("{shop}:order.made");
        let mut deed = known(publish(shop, &destination, "order.made", 3));
        deed.parent = Some(context());
        deed
    };
    let receive = |tag: usize, key: &str, size: usize| {
        deed(["receive", "receive"], orders, orders)
            .with(KEY, key)
            .with(TAG, tag)
            .with(SIZE, size)
    };
    let process = |tag: usize, destination: &str, key: &str, size: usize| {
        deed(["process", "process"], orders, destination)
            .with(KEY, key)
            .with(TAG, tag)
            .with(SIZE, size)
            .kinds(Kind::Consumer, Kind::Client)
    };
    let pushed = |tag| {
        let destination = format!("{shop}:order.made:{orders}");
        let mut deed = known(process(tag, &destination, "order.made", 3));
        deed.parent = alone.then(context);
        deed
    };
    let fails = |deed: Deed, error| if before { deed } else { deed.fails(error) };
    let mut first = known(receive(1, "order.made", 3));
    first.links = vec![context()];
    let nowhere = format!("{own}.nowhere");
    let nope = format!("{own}.nope");
    let none = format!("{own}.none");
    vec![
        made(),
        publish(orders, orders, orders, long),
        first,
        receive(2, orders, long),
        made(),
        made(),
        made(),
        pushed(3),
        pushed(4).fails("rejected"),
        pushed(5).fails("requeued"),
        pushed(6),
        publish(orders, orders, orders, 5),
        process(7, orders, orders, 5),
        fails(publish(&nowhere, &nowhere, &nowhere, 4), "NO_ROUTE"),
        fails(publish(&nope, &format!("{nope}:k"), "k", 4), "NOT_FOUND"),
        deed(["receive", "receive"], &none, &none).fails("NOT_FOUND"),
    ]
}
