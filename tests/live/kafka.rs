//! Kafka, broker and controller in one, with four clients: messages sent to partitions by one and by
//! several, with contexts in their headers and compressed, one that is refused, a poll and a commit.
//! The controller's port is traced too: what goes on there makes no span.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use spantap_tests::agent::Capture;
use spantap_tests::process::free_port;
use spantap_tests::program::Setup;
use spantap_tests::span::Kind;
use spantap_tests::{Case, Deed, Program, Span, Stage, agent, install};

use crate::deeds::{Cell, Way};

/// All of them.
pub fn cases() -> Vec<Case> {
    const FALL_BACK: Way = Way::NEW.by(Capture::Syscall);
    let cells: [(&'static Driver, &[Way]); 4] = [
        (&JAVA, &[Way::NEW, Way::OLD, FALL_BACK]),
        (&LIBRDKAFKA, &[Way::NEW, FALL_BACK]),
        (&PYTHON, &[Way::NEW]),
        (&GO, &[Way::NEW]),
    ];
    let mut cases = Vec::new();
    for (driver, ways) in cells {
        for &way in ways {
            let name = format!("kafka::{}::{}", driver.name, way.name());
            cases.push(Case::new(name, move |stage| run(stage, driver, way)));
        }
    }
    cases
}

/// A client and what is its own in what it does.
struct Driver {
    name: &'static str,
    /// How it is started, but for its arguments.
    start: fn(&Path) -> Result<Setup>,
    /// What its clients call themselves: without compression, with it, who reads.
    clients: [&'static str; 3],
    /// Whether it sends to two partitions by one request.
    both: bool,
    /// The client that wants no acknowledgement.
    careless: Option<&'static str>,
    /// Whether it commits.
    commits: bool,
    /// What it does on connections that name topics by ids, which were told before.
    unnamed: &'static [&'static str],
}

const JAVA: Driver = Driver {
    name: "java",
    start: java,
    clients: ["java-plain", "java-gzip", "java-consumer"],
    both: true,
    careless: None,
    commits: true,
    unnamed: &["send"],
};
const LIBRDKAFKA: Driver = Driver {
    name: "librdkafka",
    start: |folder| python(folder, "librdkafka"),
    clients: ["rd-plain", "rd-gzip", "rd-consumer"],
    both: false,
    careless: None,
    commits: true,
    unnamed: &["poll"],
};
const PYTHON: Driver = Driver {
    name: "python",
    start: |folder| python(folder, "pure"),
    clients: ["py-plain", "py-gzip", "py-consumer"],
    both: false,
    careless: Some("py-careless"),
    commits: true,
    unnamed: &[],
};
const GO: Driver = Driver {
    name: "go",
    start: go,
    clients: ["go-plain", "go-gzip", "go-consumer"],
    both: false,
    careless: None,
    commits: false,
    unnamed: &[],
};

fn java(folder: &Path) -> Result<Setup> {
    let words = ["-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"];
    let setup = Setup::new("driver", folder, "java").args(words);
    Ok(setup.args(["-cp", &classes()?, "Driver"]))
}

fn python(folder: &Path, script: &str) -> Result<Setup> {
    let (file, _) = install::app(&format!("kafka/{script}.py"))?;
    let python = install::python_of("kafka", &[])?.join("python");
    Ok(Setup::new("driver", folder, python).arg(file))
}

fn go(folder: &Path) -> Result<Setup> {
    let binary = install::go_build("go-kafka", "kafka", &["main.go", "go.mod", "go.sum"])?;
    Ok(Setup::new("driver", folder, binary))
}

fn classes() -> Result<String> {
    install::maven("kafka", "kafka", "Driver.java")
}

const TOPIC: &str = "orders";

fn run(stage: &mut Stage, driver: &Driver, way: Way) -> Result<()> {
    let ports = [free_port()?, free_port()?];
    let [port, _] = ports;
    let server = broker(&stage.folder, ports)?;
    let mut setup = (driver.start)(&stage.folder)?;
    setup = setup.args([&format!("127.0.0.1:{port}"), TOPIC]);
    if way.before {
        setup = setup.arg("warm");
    }
    let cell = Cell::new("kafka", driver.name, &server, way);
    let agent = stage.agent()?.ports(&ports);
    let spans = cell.run(stage, agent, setup, &deeds(driver, way.before))?;
    if agent::dry() {
        return Ok(());
    }
    counted(stage, &spans);
    Ok(())
}

/// Java is slow to start where others are busy.
fn broker(folder: &Path, [port, controller]: [u16; 2]) -> Result<Program> {
    let properties = folder.join("server.properties");
    let text = format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={}
auto.create.topics.enable=false
message.max.bytes=100000
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
",
        folder.join("data").display()
    );
    fs::write(&properties, text)?;
    let words = ["-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"];
    let setup = Setup::new("broker", folder, "java").args(words);
    let setup = setup.args(["-cp", &classes()?, "Broker"]).arg(properties);
    let server = setup.port(port).start()?;
    ensure!(!server.pids().is_empty(), "the broker is gone");
    Ok(server)
}

/// What the drivers do.
fn deeds(driver: &Driver, before: bool) -> Vec<Deed> {
    let [plain, gzip, reader] = driver.clients;
    let send = |client, links: &[u64]| {
        let mut deed = deed("send", "send", client).kinds(Kind::Producer, Kind::Server);
        deed.links = links.iter().map(context).collect();
        deed
    };
    let first = match (before, driver.both) {
        (false, _) => 0,
        (true, false) => 1,
        (true, true) => 2,
    };
    let mut deeds = vec![
        send(plain, &[1])
            .with(PARTITION, 0)
            .with(OFFSET, first)
            .without(COUNT),
        send(plain, &[2, 3, 4]).with(PARTITION, 1).with(COUNT, 3),
        send(gzip, &[]).with(PARTITION, 2).with(COUNT, 3),
        send(plain, &[])
            .with(PARTITION, 0)
            .without(COUNT)
            .without(OFFSET)
            .fails("MESSAGE_TOO_LARGE"),
    ];
    if driver.both {
        let both = send(plain, &[8]).with(COUNT, 2).without(PARTITION);
        deeds.push(both);
    }
    if let Some(client) = driver.careless {
        deeds.push(send(client, &[11]).with(PARTITION, 2).without(COUNT));
    }
    // How many it brought is not known to the broker's side: it sends files as they are.
    let mut poll = deed("poll", "receive", reader).with(PARTITION, 1);
    poll.links = [2, 3, 4].iter().map(context).collect();
    deeds.push(poll);
    if driver.commits {
        let commit = deed("commit", "settle", reader).with(PARTITION, 1);
        deeds.push(commit.with("messaging.consumer.group.name", "readers"));
    }
    let named = |deed: Deed| {
        let name = deed.name.split(' ').next().unwrap_or_default().to_owned();
        match before && driver.unnamed.contains(&&*name) {
            true => unnamed(deed, name),
            false => deed.without("spantap.partial"),
        }
    };
    deeds.into_iter().map(named).collect()
}

/// The same with a topic whose name was told before the agent came; unless the process was told it
/// again by then, on any of its connections.
fn unnamed(deed: Deed, name: String) -> Deed {
    let again = deed.clone().without("spantap.partial");
    let mut deed = deed.without("messaging.destination.name");
    deed.name = name;
    deed.with("spantap.partial", true).or(again)
}

fn deed(name: &str, kind: &str, client: &str) -> Deed {
    Deed::new(
        &format!("{name} {TOPIC}"),
        [
            ("messaging.system", "kafka"),
            ("messaging.operation.name", name),
            ("messaging.operation.type", kind),
            ("messaging.destination.name", TOPIC),
            ("messaging.client.id", client),
        ],
    )
}

/// The polls know how many messages they brought.
fn counted(stage: &mut Stage, spans: &[Span]) {
    for span in spans {
        let is_poll = span.kind == Kind::Client && span.name.starts_with("poll");
        stage.check(!is_poll || span.int(COUNT) == Some(3), || {
            format!("a poll brought {:?}", span.int(COUNT))
        });
    }
}

/// The context in the header of the message of this number.
fn context(number: &u64) -> (String, String) {
    (format!("{number:032x}"), format!("{number:016x}"))
}

const PARTITION: &str = "messaging.destination.partition.id";
const COUNT: &str = "messaging.batch.message_count";
const OFFSET: &str = "messaging.kafka.offset";
