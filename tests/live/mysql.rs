//! MariaDB's server with drivers of four languages: statements as text and prepared, several results,
//! errors, another database, on TCP, on a unix socket and in TLS, on a connection from before the
//! agent and on a new one.

use std::path::Path;

use anyhow::{Result, ensure};
use spantap_tests::agent::Capture;
use spantap_tests::certificates::Certificates;
use spantap_tests::process::free_port;
use spantap_tests::program::Setup;
use spantap_tests::{Case, Deed, Program, Stage, install};

use crate::deeds::{Cell, Place, Way};

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for driver in DRIVERS {
        for &way in driver.ways {
            cases.push(way.case("mysql", driver.name, move |stage| run(stage, driver, way)));
        }
    }
    for capture in [Capture::Socket, Capture::Syscall] {
        let name = Cell::name(capture, false);
        let name = format!("mysql::pymysql::tls::{name}");
        cases.push(Case::new(name, move |stage| encrypted(stage, capture)));
    }
    cases
}

/// By TCP on both paths and both connections, and by a unix socket.
const ALL: &[Way] = &{
    let [old, new, old_by, new_by] = Way::ALL;
    [old, new, old_by, new_by, new.unix(), new_by.unix()]
};

struct Driver {
    name: &'static str,
    /// What it says is the same on both paths.
    ways: &'static [Way],
    /// How it is started; it is told where the server listens.
    start: fn(&Path, &str) -> Result<Setup>,
    /// What it does on its own while it connects.
    connects: &'static [&'static str],
    /// What it does, the connection being older than the agent or not.
    deeds: fn(bool) -> Vec<Deed>,
}

const DRIVERS: &[Driver] = &[
    Driver {
        name: "pymysql",
        ways: ALL,
        start: |folder, place| python(folder, "pymysql", place),
        connects: &["SET NAMES utf8mb4"],
        deeds: by_python,
    },
    Driver {
        name: "mysqlclient",
        ways: &[Way::NEW],
        start: |folder, place| python(folder, "MySQLdb", place),
        connects: &["SET NAMES utf8mb4"],
        deeds: by_python,
    },
    Driver {
        name: "mysql2",
        ways: &[Way::OLD, Way::NEW],
        start: |folder, place| {
            let file = install::modules("node-mysql", "mysql", &["driver.js"])?.join("driver.js");
            Ok(Setup::new("driver", folder, "node").arg(file).arg(place))
        },
        connects: &[],
        deeds: by_node,
    },
    Driver {
        name: "go",
        ways: &[Way::NEW],
        start: |folder, place| {
            let files = ["driver.go", "go.mod", "go.sum"];
            let program = install::go_build("go-mysql", "mysql", &files)?;
            Ok(Setup::new("driver", folder, program).arg(place))
        },
        connects: &[],
        deeds: by_go,
    },
    Driver {
        name: "mariadb-java",
        ways: &[Way::NEW],
        start: |folder, place| java(folder, "mariadb", place, "useServerPrepStmts=true"),
        connects: &[
            "set sql_mode=CONCAT(@@sql_mode,?),session_track_system_variables=CONCAT(?,\
             IF(LOCATE(?,@@session_track_system_variables)>? OR \
             FIND_IN_SET(?,LOWER(REPLACE(@@session_track_system_variables,?,?)))>?,?,?)),\
             session_track_schema=?,NAMES utf8mb4",
        ],
        deeds: by_java,
    },
    Driver {
        name: "mysql-java",
        ways: &[Way::NEW],
        start: |folder, place| java(folder, "mysql", place, "useServerPrepStmts=true"),
        connects: &["SET character_set_results = NULL", "SET autocommit=?"],
        deeds: by_mysql_java,
    },
];

fn python(folder: &Path, module: &str, place: &str) -> Result<Setup> {
    let needs = [
        ("/usr/include/mariadb/mysql.h", "libmariadb-dev"),
        ("/usr/bin/pkg-config", "pkg-config"),
    ];
    let python = install::python_of("mysql", &needs)?.join("python");
    let (file, _) = install::app("mysql/driver.py")?;
    Ok(Setup::new("driver", folder, python)
        .arg(file)
        .args([module, place]))
}

fn java(folder: &Path, kind: &str, place: &str, options: &str) -> Result<Setup> {
    let words = ["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"];
    let path = install::maven("java-mysql", "mysql", "Driver.java")?;
    let url = format!("jdbc:{kind}://127.0.0.1:{place}/shop?sslMode=DISABLED&{options}");
    let setup = Setup::new("driver", folder, "java").args(words);
    Ok(setup.args(["-cp", &path, "Driver", &url]))
}

/// What is there before anybody connects.
const INIT: &str = "\
CREATE DATABASE shop;
CREATE DATABASE other;
CREATE TABLE shop.items(id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(40));
INSERT INTO shop.items(name) VALUES ('a'), ('b'), ('c');
CREATE USER app@'%' IDENTIFIED BY 'secret';
GRANT ALL ON *.* TO app@'%';
CREATE DEFINER=app@'%' PROCEDURE shop.three(n INT) SELECT id FROM shop.items WHERE id <= 3 AND id < n;
";

/// A server with data of its own, on a port and a unix socket.
fn serve(folder: &Path, port: u16, socket: &Path, further: &[String]) -> Result<Program> {
    let packages = ["mariadb-server-core", "mariadb-client-core"];
    let debian = install::debian("mariadb", &packages)?;
    let base = debian.file("usr")?;
    let data = folder.join("data");
    let init = folder.join("init.sql");
    std::fs::write(&init, INIT)?;
    let words = |setup: Setup| {
        setup
            .env("LD_LIBRARY_PATH", debian.libraries())
            // One that starts removes the temporary tables it finds there, another's too.
            .env("TMPDIR", folder)
            .args(["--no-defaults", "--user=root", "--innodb-log-file-size=4M"])
            .arg(format!("--basedir={}", base.display()))
            .arg(format!("--datadir={}", data.display()))
    };
    let install =
        Setup::new("install", folder, "sh").arg(debian.file("usr/bin/mariadb-install-db")?);
    let ran = words(install)
        .args(["--skip-test-db", "--auth-root-authentication-method=normal"])
        .run(PATIENCE)?;
    ensure!(ran.code == Some(0), "no data: {}{}", ran.output, ran.errors);
    words(Setup::new(
        "server",
        folder,
        debian.file("usr/sbin/mariadbd")?,
    ))
    .args(["--bind-address=127.0.0.1", "--skip-name-resolve"])
    .args([
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-buffer-pool-size=16M",
    ])
    .arg(format!("--port={port}"))
    .arg(format!("--socket={}", socket.display()))
    .arg(format!("--init-file={}", init.display()))
    .args(further)
    .port(port)
    .start()
}

fn run(stage: &mut Stage, driver: &Driver, way: Way) -> Result<()> {
    let port = free_port()?;
    // Its path has little room.
    let socket = std::env::temp_dir().join(format!("spantap-mysql-{port}"));
    let server = serve(&stage.folder, port, &socket, &[])?;
    let path = way.unix.then(|| socket.display().to_string());
    let place = Place { port, path };
    let setup = (driver.start)(&stage.folder, &place.to_string())?;
    let agent = place.agent(stage, &["*mariadbd*", "*driver.py*"])?;
    let mut deeds = (driver.deeds)(way.before);
    if !way.before {
        let told = driver.connects.iter().map(|text| {
            shop(
                "SET",
                [("db.operation.name", "SET"), ("db.query.text", text)],
            )
        });
        deeds.extend(told);
    }
    let cell = Cell::new("mysql", driver.name, &server, way);
    cell.run(stage, agent, setup, &deeds)?;
    Ok(())
}

/// The greeting is in the clear, what follows in TLS: there nobody says which server it is.
fn encrypted(stage: &mut Stage, capture: Capture) -> Result<()> {
    let port = free_port()?;
    let files = Certificates::make(&stage.folder, "mysql")?;
    let socket = std::env::temp_dir().join(format!("spantap-mysql-{port}"));
    let words = [("cert", &files.server), ("key", &files.server_key)];
    let words = words.map(|(word, file)| format!("--ssl-{word}={}", file.display()));
    let server = serve(&stage.folder, port, &socket, &words)?;
    let setup = python(&stage.folder, "pymysql", &port.to_string())?.arg(files.authority);
    let mut deeds = by_python(false);
    deeds.push(shop("SET", [("db.query.text", "SET NAMES utf8mb4")]));
    older(&mut deeds, true, 0);
    let cell = Cell {
        tls: true,
        ..Cell::new("mysql", "pymysql, TLS", &server, Way::NEW.by(capture))
    };
    let agent = stage.agent()?.tls().ports(&[port]);
    cell.run(stage, agent, setup, &deeds)?;
    Ok(())
}

/// Something done in the database `shop`.
fn shop<const N: usize>(name: &str, attributes: [(&'static str, &str); N]) -> Deed {
    Deed::new(name, attributes)
        .with("db.system.name", "mariadb")
        .with("db.namespace", "shop")
}

/// A statement and its operation, table and rows.
fn statement(text: &str, operation: &str, table: &str, rows: Option<u32>) -> Deed {
    let name = format!("{operation} {table}");
    let deed = shop(
        name.trim(),
        [("db.operation.name", operation), ("db.query.text", text)],
    );
    let deed = match table {
        "" => deed.without("db.collection.name"),
        table => deed.with("db.collection.name", table),
    };
    match rows {
        Some(rows) => deed.with("db.response.returned_rows", rows),
        None => deed.without("db.response.returned_rows"),
    }
}

/// The same, prepared only.
fn prepare(text: &str, operation: &str, table: &str) -> Deed {
    let mut deed = statement(text, operation, table, None).with("db.operation.name", "PREPARE");
    deed.name = format!("PREPARE {}", deed.name);
    deed
}

fn insert() -> Deed {
    statement(INSERT, "INSERT", "items", None)
}

fn update() -> Deed {
    let text = "UPDATE items SET name = ? WHERE id IN (?)";
    statement(text, "UPDATE", "items", None)
}

fn wrong() -> Deed {
    statement(
        "SELECT * FROM missing WHERE id = ?",
        "SELECT",
        "missing",
        None,
    )
    .with("db.response.status_code", "1146")
    .fails("1146")
}

/// On a connection that is older than the agent nobody knows the database until it changes, and the
/// server's kind never.
fn older(deeds: &mut [Deed], before: bool, known: usize) {
    if !before {
        return;
    }
    for (at, deed) in deeds.iter_mut().enumerate() {
        *deed = deed.clone().with("db.system.name", "mysql");
        if at < known {
            *deed = deed.clone().without("db.namespace");
        }
    }
}

const MANY: &str = "SELECT seq, REPEAT(?, ?) FROM seq_1_to_1000";
const FILTER: &str = "SELECT id, name FROM items WHERE id < ? AND name <> ?";
const INSERT: &str = "INSERT INTO items(name) VALUES (?)";
const ONE: &str = "SELECT name FROM items WHERE id = ?";

fn by_python(before: bool) -> Vec<Deed> {
    let mut deeds = vec![
        statement(FILTER, "SELECT", "items", Some(3)),
        insert(),
        wrong(),
        statement(MANY, "SELECT", "seq_1_to_1000", Some(1000)),
        statement("BEGIN", "BEGIN", "", None),
        update(),
        statement("COMMIT", "COMMIT", "", None),
        shop("USE", [("db.operation.name", "USE")]),
        statement("SELECT ? AS a", "SELECT", "", Some(1)).with("db.namespace", "other"),
        statement("USE shop", "USE", "", None).with("db.namespace", "other"),
        statement("CALL three(?)", "CALL", "three", Some(3)).without("db.collection.name"),
    ];
    older(&mut deeds, before, 8);
    deeds
}

fn by_node(before: bool) -> Vec<Deed> {
    let mut deeds = vec![
        statement(FILTER, "SELECT", "items", Some(3)),
        prepare(ONE, "SELECT", "items"),
        statement(ONE, "SELECT", "items", Some(1)),
        statement(ONE, "SELECT", "items", Some(1)),
        prepare(INSERT, "INSERT", "items"),
        insert(),
        wrong(),
        prepare("SELECT * FROM missing WHERE id = ?", "SELECT", "missing")
            .with("db.response.status_code", "1146")
            .fails("1146"),
        statement(MANY, "SELECT", "seq_1_to_1000", Some(1000)),
        statement("START TRANSACTION", "START", "", None),
        update(),
        statement("COMMIT", "COMMIT", "", None),
        statement("SELECT ? AS a", "SELECT", "", Some(1)).with("db.namespace", "other"),
        statement("USE shop", "USE", "", None).with("db.namespace", "other"),
        prepare("CALL three(?)", "CALL", "three").without("db.collection.name"),
        statement("CALL three(?)", "CALL", "three", Some(3)).without("db.collection.name"),
    ];
    older(&mut deeds, before, 12);
    deeds
}

/// How drivers begin that prepare what has parameters.
fn prepared() -> Vec<Deed> {
    vec![
        statement(
            "SELECT id, name FROM items WHERE id < ?",
            "SELECT",
            "items",
            Some(3),
        ),
        prepare(ONE, "SELECT", "items"),
        statement(ONE, "SELECT", "items", Some(1)),
        statement(ONE, "SELECT", "items", Some(1)),
        prepare(INSERT, "INSERT", "items"),
        insert(),
        wrong(),
        statement(MANY, "SELECT", "seq_1_to_1000", Some(1000)),
    ]
}

fn by_go(before: bool) -> Vec<Deed> {
    let mut deeds = prepared();
    deeds.extend([
        statement("START TRANSACTION", "START", "", None),
        update(),
        statement("COMMIT", "COMMIT", "", None),
        statement("USE other", "USE", "", None),
        statement("SELECT ? AS a", "SELECT", "", Some(1)).with("db.namespace", "other"),
    ]);
    older(&mut deeds, before, 12);
    deeds
}

fn by_java(before: bool) -> Vec<Deed> {
    let mut deeds = prepared();
    deeds.extend([
        shop("USE", [("db.operation.name", "USE")]),
        statement("SELECT ? AS a", "SELECT", "", Some(1)).with("db.namespace", "other"),
    ]);
    older(&mut deeds, before, 9);
    deeds
}

/// It asks for variables at first, sends what is many one by one, and gives a statement the database
/// it was made in for as long as it runs.
fn by_mysql_java(_before: bool) -> Vec<Deed> {
    let mut deeds = prepared();
    let other = |deed: Deed| deed.with("db.namespace", "other");
    deeds.extend([
        shop("SELECT", [("db.response.returned_rows", "1")]),
        insert(),
        insert(),
        statement("USE `other`", "USE", "", None),
        other(statement("USE `shop`", "USE", "", None)),
        statement("SELECT ? AS a", "SELECT", "", Some(1)),
        statement("USE `other`", "USE", "", None),
    ]);
    deeds
}

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
