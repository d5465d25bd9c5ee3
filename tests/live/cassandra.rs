//! Cassandra with drivers of three languages, by versions 4 and 5 of its protocol, in LZ4 and without:
//! statements as text and prepared, batches, many at once, long ones, an error. One server for all,
//! since it takes longest to start. What drivers ask the system's tables on their own is not judged.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use spantap_tests::agent::Capture;
use spantap_tests::process::{self, free_port};
use spantap_tests::program::Setup;
use spantap_tests::{Case, Deed, Program, Span, Stage, install};

use crate::deeds::{Cell, Way};

/// All of them.
pub fn cases() -> Vec<Case> {
    let all = [
        (&PYTHON, Way::NEW),
        (&PYTHON, Way::OLD),
        (&PYTHON, Way::NEW.by(Capture::Syscall)),
        (&LZ4, Way::NEW),
        (&LZ4, Way::OLD.by(Capture::Syscall)),
        (&NODE, Way::NEW),
        (&NODE, Way::OLD),
        (&GO, Way::NEW),
    ];
    let shared = Arc::new(Mutex::new(Shared::None));
    let last = all.len() - 1;
    let cases = all.into_iter().enumerate();
    let case = |(number, (driver, way)): (usize, (&'static Driver, Way))| {
        let shared = Arc::clone(&shared);
        way.case("cassandra", driver.name, move |stage| {
            let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            let server = match shared.replace() {
                Shared::Runs(server) => server,
                Shared::None => Server::start(&stage.folder)?,
                Shared::Failed => bail!("the server did not start for another case"),
            };
            let result = run(stage, driver, &server, way);
            *shared = match number < last {
                true => Shared::Runs(server),
                false => Shared::None,
            };
            result
        })
    };
    cases.map(case).collect()
}

/// The server of all cases.
enum Shared {
    None,
    Runs(Server),
    /// It does not start.
    Failed,
}

impl Shared {
    /// What there is; until something is put there again it has failed.
    fn replace(&mut self) -> Self {
        std::mem::replace(self, Self::Failed)
    }
}

/// A driver and what is its own in what it does.
struct Driver {
    name: &'static str,
    /// How it is started; it is told the port.
    start: fn(&Path, u16) -> Result<Setup>,
    deeds: fn(bool) -> Vec<Deed>,
}

const PYTHON: Driver = Driver {
    name: "python",
    start: |folder, port| python(folder, port, &[]),
    deeds: by_python,
};
const LZ4: Driver = Driver {
    name: "python-lz4",
    start: |folder, port| python(folder, port, &["lz4"]),
    deeds: by_python,
};
const NODE: Driver = Driver {
    name: "node",
    start: |folder, port| {
        let file = install::modules("node-cassandra", "cassandra", &["client.js"])?;
        let setup = Setup::new("driver", folder, "node").arg(file.join("client.js"));
        Ok(setup.arg(port.to_string()))
    },
    deeds: by_node,
};
const GO: Driver = Driver {
    name: "go",
    start: |folder, port| {
        let files = ["main.go", "go.mod", "go.sum"];
        let program = install::go_build("go-cassandra", "cassandra", &files)?;
        Ok(Setup::new("driver", folder, program).arg(port.to_string()))
    },
    deeds: by_go,
};

fn python(folder: &Path, port: u16, words: &[&str]) -> Result<Setup> {
    let python = install::python_of("cassandra", &[])?.join("python");
    let (file, _) = install::app("cassandra/client.py")?;
    let setup = Setup::new("driver", folder, python).arg(file);
    Ok(setup.arg(port.to_string()).args(words))
}

/// The server, and where it listens.
struct Server {
    program: Program,
    port: u16,
}

/// What Cassandra reaches into.
const OPENS: [&str; 17] = [
    "java.base/java.io",
    "java.base/java.lang",
    "java.base/java.lang.module",
    "java.base/java.lang.reflect",
    "java.base/java.nio",
    "java.base/java.util",
    "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.misc",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.util.jar",
    "java.base/sun.nio.ch",
    "jdk.management/com.sun.management.internal",
];
/// The same, where it needs less.
const EXPORTS: [&str; 6] = [
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.sql/java.sql",
    "jdk.attach/sun.tools.attach",
    "jdk.unsupported/sun.misc",
];

impl Server {
    /// It keeps all it has beside the folder of the case that starts it, and has a table.
    fn start(case: &Path) -> Result<Self> {
        let folder = &case.with_file_name("server");
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        let (port, storage) = (free_port()?, free_port()?);
        let file = folder.join("cassandra.yaml");
        fs::write(&file, settings(folder, port, storage))?;
        let log = folder.join("logback.xml");
        fs::write(&log, LOG)?;
        let words = ["-Xmx400m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"];
        let mut setup = Setup::new("cassandra", folder, "java").args(words);
        for (word, places) in [("--add-opens", &OPENS[..]), ("--add-exports", &EXPORTS)] {
            for place in places {
                setup = setup.arg(word).arg(format!("{place}=ALL-UNNAMED"));
            }
        }
        let program = setup
            .arg("-Djdk.attach.allowAttachSelf=true")
            .arg("-Djava.security.manager=allow")
            .arg(format!("-Dcassandra.config=file://{}", file.display()))
            .arg(format!("-Dcassandra.storagedir={}", folder.display()))
            .arg(format!("-Dlogback.configurationFile={}", log.display()))
            .args(["-Dcassandra-foreground=yes", "-Dcassandra.ring_delay_ms=0"])
            .args([
                "-Dcassandra.skip_wait_for_gossip_to_settle=0",
                "-Dcassandra.superuser_setup_delay_ms=0",
            ])
            .args(["-cp", &install::libraries("cassandra", "cassandra")?])
            .arg("org.apache.cassandra.service.CassandraDaemon")
            .start()?;
        // Longer than others take, where the machine is busy.
        process::until("Cassandra listens", Duration::from_secs(180), || {
            process::listening(program.pid(), port) || program.pids().is_empty()
        })
        .with_context(|| program.tail())?;
        let ran = python(folder, port, &["schema"])?.run(Duration::from_secs(120))?;
        ensure!(
            ran.code == Some(0),
            "no table: {}{}",
            ran.output,
            ran.errors
        );
        Ok(Self { program, port })
    }
}

/// One node with little memory.
fn settings(folder: &Path, port: u16, storage: u16) -> String {
    let at = folder.display();
    format!(
        "cluster_name: live
num_tokens: 1
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
endpoint_snitch: SimpleSnitch
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters:
      - seeds: \"127.0.0.1:{storage}\"
listen_address: 127.0.0.1
rpc_address: 127.0.0.1
storage_port: {storage}
native_transport_port: {port}
commitlog_sync: periodic
commitlog_sync_period: 10000ms
commitlog_directory: {at}/commitlog
commitlog_segment_size: 1MiB
commitlog_disk_access_mode: legacy
disk_access_mode: standard
data_file_directories: [{at}/data]
saved_caches_directory: {at}/saved
hints_directory: {at}/hints
memtable_heap_space: 32MiB
memtable_offheap_space: 32MiB
networking_cache_size: 8MiB
file_cache_size: 8MiB
key_cache_size: 0MiB
counter_cache_size: 0MiB
concurrent_reads: 4
concurrent_writes: 4
concurrent_compactors: 1
auto_snapshot: false
"
    )
}

/// What it says takes longer than what it does otherwise.
const LOG: &str = "<configuration>
  <appender name=\"OUT\" class=\"ch.qos.logback.core.ConsoleAppender\">
    <encoder><pattern>%level %logger %msg%n</pattern></encoder>
  </appender>
  <root level=\"WARN\"><appender-ref ref=\"OUT\"/></root>
</configuration>
";

fn run(stage: &mut Stage, driver: &Driver, server: &Server, way: Way) -> Result<()> {
    let setup = (driver.start)(&stage.folder, server.port)?;
    let cell = Cell::new("cassandra", driver.name, &server.program, way);
    let agent = stage.agent()?.ports(&[server.port]);
    let deeds = (driver.deeds)(way.before);
    cell.run_among(stage, agent, setup, &deeds, is_ours)?;
    Ok(())
}

/// Whether it is about other tables than the system's.
fn is_ours(span: &Span) -> bool {
    let table = span.text("db.collection.name");
    !table.is_some_and(|table| table.starts_with("system"))
}

const PAGE: &str = "cassandra.page.size";
const LEVEL: &str = "cassandra.consistency.level";
const ROWS: &str = "db.response.returned_rows";
const SIZE: &str = "db.operation.batch.size";
const TEXT: &str = "db.query.text";
const INSERT: &str = "INSERT INTO shop.items (id, name) VALUES (?, ?)";

/// A statement's span; `name` is its operation, and the table behind that.
fn deed(name: &str, text: &str, before: bool) -> Deed {
    let (operation, table) = name.rsplit_once(' ').unwrap_or((name, ""));
    let mut deed = Deed::new(
        name,
        [
            ("db.system.name", "cassandra"),
            ("db.operation.name", operation),
            ("db.query.summary", name),
            (TEXT, text),
        ],
    );
    if !table.is_empty() {
        deed = deed.with("db.collection.name", table);
    }
    // Which keyspace is used was said when the connection was made.
    let deed = match before {
        true => deed.without("db.namespace"),
        false => deed.with("db.namespace", "shop"),
    };
    deed.without("spantap.partial")
}

/// To prepare a statement.
fn prepare(name: &str, text: &str, before: bool) -> Deed {
    let (_, table) = name.rsplit_once(' ').unwrap_or_default();
    let deed = deed(&format!("PREPARE {name}"), text, before);
    let deed = deed.with("db.collection.name", table);
    deed.with("db.operation.name", "PREPARE").without(PAGE)
}

/// To use a keyspace, which drivers do on their own.
fn uses() -> Deed {
    let deed = Deed::new("USE", [("db.operation.name", "USE")]);
    deed.without("db.namespace").without(ROWS)
}

fn by_python(before: bool) -> Vec<Deed> {
    let deed = |name, text| deed(name, text, before).with(LEVEL, "local_one");
    let select = "SELECT id FROM shop.items WHERE id = ?";
    let early = "SELECT name FROM shop.items WHERE id = ?";
    let both = format!("{INSERT}; DELETE FROM items WHERE id = ?");
    // It says with a batch which keyspace is meant.
    let batch = |name, text| {
        let deed = self::deed(name, text, false);
        deed.with(LEVEL, "local_one").with(SIZE, 2)
    };
    let unknown = Deed::new("EXECUTE", [(LEVEL, "local_one")])
        .with("spantap.partial", true)
        .without(TEXT);
    let mut deeds = vec![
        deed("INSERT items", "INSERT INTO items (id, name) VALUES (?, ?)").without(ROWS),
        deed("SELECT items", "SELECT * FROM items WHERE id = ?")
            .with(PAGE, 7)
            .with(ROWS, 1),
        match before {
            true => unknown.with(ROWS, 1),
            false => deed("SELECT shop.items", early).with(ROWS, 1),
        },
        prepare("INSERT shop.items", INSERT, before),
        deed("INSERT shop.items", INSERT).with(PAGE, 100),
        batch("BATCH INSERT shop.items", INSERT),
        batch("BATCH INSERT shop.items; DELETE items", &both)
            .with("db.operation.name", "BATCH")
            .without("db.collection.name"),
        deed("SELECT nothere", "SELECT * FROM nothere").fails("0x2200"),
        prepare("SELECT shop.items", select, before),
        deed("INSERT shop.items", INSERT),
        deed(
            "SELECT shop.items",
            "SELECT name FROM shop.items WHERE id = ?",
        )
        .with(ROWS, 1),
    ];
    for number in 0..20 {
        let rows = u8::from((1..=5).contains(&number));
        deeds.push(deed("SELECT shop.items", select).with(ROWS, rows));
    }
    if !before {
        deeds.extend([uses(), prepare("SELECT shop.items", early, before)]);
    }
    deeds
}

fn by_node(before: bool) -> Vec<Deed> {
    let deed = |name, text| deed(name, text, before).with(LEVEL, "local_one");
    let mut deeds = vec![
        deed("INSERT items", "INSERT INTO items (id, name) VALUES (?, ?)").with(PAGE, 5000),
        deed("SELECT items", "SELECT * FROM items WHERE id = ?")
            .with(PAGE, 7)
            .with(ROWS, 1),
        prepare("INSERT shop.items", INSERT, before),
        deed("INSERT shop.items", INSERT),
        deed("INSERT shop.items", INSERT),
        deed("BATCH INSERT shop.items", INSERT).with(SIZE, 2),
        deed("SELECT nothere", "SELECT * FROM nothere").fails("0x2200"),
        deed("INSERT shop.items", INSERT),
        deed(
            "SELECT shop.items",
            "SELECT name FROM shop.items WHERE id = ?",
        )
        .with(ROWS, 1),
    ];
    let select = deed(
        "SELECT shop.items",
        "SELECT id FROM shop.items WHERE id = ?",
    );
    deeds.extend(vec![select.with(ROWS, 1); 20]);
    if !before {
        deeds.push(uses());
    }
    deeds
}

/// gocql prepares all.
fn by_go(before: bool) -> Vec<Deed> {
    let deed = |name, text| deed(name, text, before).with(LEVEL, "quorum");
    let select = "SELECT name FROM shop.items WHERE id = ?";
    let prepare = |name, text| prepare(name, text, before);
    vec![
        uses(),
        // Two texts, one of them with its values.
        prepare("INSERT shop.items", INSERT),
        prepare("INSERT shop.items", INSERT),
        deed("INSERT shop.items", INSERT),
        deed("INSERT shop.items", INSERT),
        deed("INSERT shop.items", INSERT),
        deed("BATCH INSERT shop.items", INSERT).with(SIZE, 2),
        prepare("SELECT nothere", "SELECT * FROM nothere").fails("0x2200"),
        deed("INSERT shop.items", INSERT),
        prepare("SELECT shop.items", select),
        deed("SELECT shop.items", select).with(ROWS, 1),
    ]
}
