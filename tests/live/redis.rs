//! Redis with drivers of four languages: commands, errors, a pipeline and a transaction on one
//! connection, from before the agent and after it; a server of a cluster that has not all slots.

use std::path::Path;

use anyhow::Result;
use spantap_tests::process::free_port;
use spantap_tests::program::{Program, Setup};
use spantap_tests::span::Kind;
use spantap_tests::{Case, Deed, Stage, install};

use crate::deeds::{Cell, Way};

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |driver: &'static Driver, way: Way| {
        cases.push(way.case("redis", driver.name, move |stage| run(stage, driver, way)));
    };
    for way in Way::ALL {
        add(&PYTHON, way);
    }
    add(&PYTHON, Way::NEW.unix());
    for driver in [&PYTHON3, &NODE, &GO, &JAVA] {
        add(driver, Way::NEW);
    }
    cases.push(Case::new(
        "redis::redis-py::cluster::socket::after",
        cluster,
    ));
    cases
}

/// A program that does the list.
struct Driver {
    name: &'static str,
    /// How it is started, to reach what place.
    program: fn(&Path, &str) -> Result<Setup>,
    /// The database it takes.
    index: &'static str,
    /// What it asks while it connects, with what is answered.
    connects: fn() -> Vec<Deed>,
    /// Whether it does more than the others.
    more: bool,
}

const PYTHON: Driver = Driver {
    name: "redis-py",
    program: |folder, place| python(folder, [place, "2", "more"]),
    index: "0",
    connects: || vec![command("PING", 0)],
    more: true,
};

const PYTHON3: Driver = Driver {
    name: "redis-py-resp3",
    program: |folder, place| python(folder, [place, "3", "more"]),
    index: "0",
    connects: || {
        vec![
            command("HELLO", 1),
            command("CLIENT MAINT_NOTIFICATIONS", 3).fails("ERR"),
            command("PING", 0),
        ]
    },
    more: true,
};

const NODE: Driver = Driver {
    name: "ioredis",
    program: |folder, place| {
        let script = install::modules("node-redis", "redis", &["client.js"])?.join("client.js");
        Ok(Setup::new("node", folder, "node").arg(script).arg(place))
    },
    index: "0",
    connects: || {
        vec![
            command("HELLO", 1),
            command("CLIENT SETINFO", 2).fails("ERR"),
            command("CLIENT SETINFO", 2).fails("ERR"),
            command("INFO", 0),
            command("PING", 0),
        ]
    },
    more: false,
};

const GO: Driver = Driver {
    name: "go-redis",
    program: |folder, place| {
        let files = ["client.go", "go.mod", "go.sum"];
        let program = install::go_build("go-redis", "redis", &files)?;
        Ok(Setup::new("go", folder, program).arg(place))
    },
    index: "0",
    connects: || {
        // Amid the list it takes a new connection.
        let hello = || {
            [
                command("HELLO", 1),
                command("CLIENT SETINFO", 2).fails("ERR"),
                command("CLIENT SETINFO", 2).fails("ERR"),
            ]
        };
        let mut deeds = vec![command("PING", 0)];
        deeds.extend(hello());
        deeds.extend(hello());
        deeds
    },
    more: false,
};

const JAVA: Driver = Driver {
    name: "jedis",
    program: |folder, place| {
        let classes = install::maven("jedis", "redis", "JedisClient.java")?;
        let words = ["-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"];
        let java = Setup::new("java", folder, "java").args(words);
        Ok(java.args(["-cp", &classes, "JedisClient", place]))
    },
    index: "0",
    connects: || vec![command("PING", 0)],
    more: false,
};

fn python(folder: &Path, words: [&str; 3]) -> Result<Setup> {
    let (file, _) = install::app("redis/client.py")?;
    let program = install::python_of("redis", &[])?.join("python");
    Ok(Setup::new("python", folder, program).arg(file).args(words))
}

/// A command with so many arguments, on the first database.
fn command(name: &str, arguments: usize) -> Deed {
    let text = format!("{name}{}", " ?".repeat(arguments));
    let facts = [
        ("db.system.name", "redis"),
        ("db.namespace", "0"),
        ("db.operation.name", name),
        ("db.query.text", &text),
    ];
    Deed::new(name, facts)
}

/// What every driver does once it is told to.
fn list() -> Vec<Deed> {
    vec![
        command("SET", 2),
        command("GET", 1),
        command("GET", 1),
        command("HSET", 3),
        command("HGETALL", 1),
        command("INCR", 1)
            .fails("ERR")
            .with("db.response.status_code", "ERR"),
        command("SET", 2),
        command("GET", 1),
        command("DEL", 1),
        command("MULTI", 0),
        command("SET", 2),
        command("INCRBY", 2),
        command("EXEC", 0).with("db.operation.batch.size", 2),
    ]
}

/// What redis-py does besides: what is published goes over a new connection.
fn more() -> [Vec<Deed>; 2] {
    let script = "098e0f0d1448c0a81dafe820f66d460eb09263da";
    let message = Deed::new(
        "message news",
        [
            ("messaging.system", "redis"),
            ("messaging.operation.type", "process"),
            ("messaging.destination.name", "news"),
        ],
    );
    let own = vec![
        command("SCRIPT LOAD", 1),
        command("EVALSHA", 4).with("db.stored_procedure.name", script),
        command("BLPOP", 2),
        command("CONFIG SET", 2),
        command("SUBSCRIBE", 1),
    ];
    let new = vec![
        command("PUBLISH", 2),
        message.kinds(Kind::Consumer, Kind::Client),
    ];
    [own, new]
}

/// Half of the slots are nobody's: of them nothing can be had, of others where they are.
fn cluster(stage: &mut Stage) -> Result<()> {
    let port = free_port()?;
    // The bus has a port of its own, 10000 above where it is not said.
    let bus = free_port()?.to_string();
    let words = ["--cluster-enabled", "yes", "--cluster-port", &bus];
    let server = server(stage, port, words)?;
    let agent = stage.agent()?.ports(&[port]);
    let place = port.to_string();
    let client = python(&stage.folder, [&place, "2", "cluster"])?;
    let down = |name| {
        let code = "CLUSTERDOWN";
        command(name, 1)
            .fails(code)
            .with("db.response.status_code", code)
    };
    let deeds = [
        command("PING", 0),
        down("GET"),
        down("GET"),
        command("CLUSTER KEYSLOT", 1),
    ];
    let cell = Cell::new("redis", PYTHON.name, &server, Way::NEW);
    cell.run(stage, agent, client, &deeds).map(drop)
}

fn run(stage: &mut Stage, driver: &Driver, way: Way) -> Result<()> {
    let place = way.place(&stage.folder)?;
    let words = place.path.iter().flat_map(|path| ["--unixsocket", path]);
    let server = server(stage, place.port, words)?;
    let agent = place.agent(stage, &["*redis-server*", "*client.py*"])?;
    let client = (driver.program)(&stage.folder, &place.to_string())?;
    let mut deeds = list();
    let mut new = Vec::new();
    if driver.more {
        let [own, publisher] = more();
        deeds.extend(own);
        // It says the same while it connects, but for its ping.
        new = (driver.connects)();
        new.retain(|deed| deed.name != "PING");
        new.extend(publisher);
    }
    for deed in &mut deeds {
        let known = deed.clone().with("db.namespace", driver.index);
        *deed = match way.before {
            true => known.without("db.namespace"),
            false => known,
        };
    }
    if !way.before {
        deeds.extend((driver.connects)());
    }
    deeds.extend(new);
    let cell = Cell::new("redis", driver.name, &server, way);
    cell.run(stage, agent, client, &deeds).map(drop)
}

/// A server with these words for its command line.
pub fn server<'a>(
    stage: &Stage,
    port: u16,
    words: impl IntoIterator<Item = &'a str>,
) -> Result<Program> {
    server_at(stage, "127.0.0.1", port)?.args(words).start()
}

/// A server at an address, to be started.
pub fn server_at(stage: &Stage, address: &str, port: u16) -> Result<Setup> {
    let redis = install::debian("redis", &["redis-server", "redis-tools"])?;
    let setup = Setup::new("redis", &stage.folder, redis.file("usr/bin/redis-server")?);
    let port_word = port.to_string();
    let words = ["--port", &port_word, "--save", "", "--bind", address];
    Ok(setup
        .env("LD_LIBRARY_PATH", redis.libraries())
        .args(words)
        .port(port))
}
