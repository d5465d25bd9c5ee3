//! PostgreSQL: Debian's server, and drivers in four languages that do the same things in their own
//! ways: simple and extended queries, prepared statements, errors, transactions, results larger than
//! what is copied, of which the end is read, batches; over TCP and unix sockets, on connections old
//! and new.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use spantap_tests::process::{self, free_port};
use spantap_tests::program::Setup;
use spantap_tests::{Case, Deed, Program, Stage, install};

use crate::deeds::{Cell, Place, Way};

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |driver: &'static Driver, way: Way| {
        cases.push(way.case("postgresql", driver.name, move |stage| {
            run(stage, driver, way)
        }));
    };
    for way in Way::ALL {
        add(&PSYCOPG, way);
        add(&PSYCOPG, way.unix());
    }
    for driver in [&ASYNCPG, &NODE, &PGX, &JDBC] {
        add(driver, Way::NEW);
    }
    add(&ASYNCPG, Way::OLD.unix());
    cases
}

struct Driver {
    name: &'static str,
    /// Its program, but for the words that say where the server is.
    program: fn(&Path) -> Result<Setup>,
    /// What it does behind what all do; whether the connection is older.
    further: fn(bool) -> Vec<Deed>,
    /// Whether it sends two statements as one.
    several: bool,
}

const PSYCOPG: Driver = Driver {
    name: "psycopg",
    program: |folder| python(folder, "with_psycopg.py"),
    further: |_| {
        let late = one("SELECT", "SELECT ? / (? - i) FROM generate_series(?, ?) i");
        let late = late.fails("22012").with("db.response.status_code", "22012");
        let skipped = one("SELECT", "SELECT ?/$1::int").fails("22012");
        vec![
            one("COPY copies", "COPY copies (id, name) FROM STDIN").without(ROWS),
            one("COPY copies", "COPY copies TO STDOUT").with(ROWS, 20_000),
            one("SELECT items", "SELECT id FROM items WHERE id = $1").with(ROWS, 1),
            one("SELECT items", "SELECT id FROM items WHERE id = $1").with(ROWS, 1),
            one("SELECT", "SELECT i, ? FROM generate_series(?, ?) i").with(ROWS, 100_000),
            late,
            skipped,
        ]
    },
    several: true,
};

const ASYNCPG: Driver = Driver {
    name: "asyncpg",
    program: |folder| python(folder, "with_asyncpg.py"),
    further: |_| {
        let update = || one("UPDATE items", "UPDATE items SET name = $1 WHERE id = $2");
        let fetch = || one("SELECT items", "SELECT id FROM items WHERE id < $1");
        vec![
            update(),
            update(),
            one("BEGIN", "BEGIN;"),
            fetch().with(ROWS, 3),
            fetch().with(ROWS, 2),
            one("COMMIT", "COMMIT;"),
        ]
    },
    several: true,
};

const NODE: Driver = Driver {
    name: "node-postgres",
    program: |folder| {
        let folder_of = install::modules("node-postgresql", "postgresql", &["with_pg.js"])?;
        Ok(Setup::new("driver", folder, "node").arg(folder_of.join("with_pg.js")))
    },
    further: |_| Vec::new(),
    several: true,
};

const PGX: Driver = Driver {
    name: "pgx",
    program: |folder| {
        let files = ["with_pgx.go", "go.mod", "go.sum"];
        let program = install::go_build("with_pgx", "postgresql", &files)?;
        Ok(Setup::new("driver", folder, program))
    },
    further: |_| {
        vec![
            one("SELECT items", "SELECT id FROM items WHERE id = $1").with(ROWS, 1),
            one("UPDATE items", "UPDATE items SET name = $1 WHERE id = $2"),
        ]
    },
    several: true,
};

const JDBC: Driver = Driver {
    name: "pgjdbc",
    program: |folder| {
        let path = install::maven("java-postgresql", "postgresql", "WithJdbc.java")?;
        let words = ["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"];
        let setup = Setup::new("driver", folder, "java").args(words);
        Ok(setup.args(["-cp", &path, "WithJdbc"]))
    },
    further: |_| {
        let update = || one("UPDATE items", "UPDATE items SET name = $1 WHERE id = $2");
        vec![update(), update(), update()]
    },
    several: false,
};

fn python(folder: &Path, program: &str) -> Result<Setup> {
    let (file, _) = install::app(&format!("postgresql/{program}"))?;
    let python = install::python_of("postgresql", &[])?.join("python");
    Ok(Setup::new("driver", folder, python).arg(file))
}

/// Rows that came with the answer.
const ROWS: &str = "db.response.returned_rows";

/// A statement that went well.
fn one(name: &str, text: &str) -> Deed {
    let operation = name.split(' ').next().unwrap_or(name);
    let deed = Deed::new(
        name,
        [
            ("db.system.name", "postgresql"),
            ("db.query.summary", name),
            ("db.operation.name", operation),
            ("db.query.text", text),
        ],
    );
    match name.split_once(' ') {
        Some((_, table)) => deed.with("db.collection.name", table),
        None => deed.without("db.collection.name"),
    }
}

/// What every driver does.
fn deeds(driver: &Driver, before: bool) -> Vec<Deed> {
    let by_id = || one("SELECT items", "SELECT name FROM items WHERE id = $1");
    let nowhere = one("SELECT nowhere", "SELECT * FROM nowhere WHERE a = $1");
    let text = |deed: Deed, text: &str| deed.with("db.query.text", text);
    let mut begin = one("BEGIN", "BEGIN");
    let mut commit = one("COMMIT", "COMMIT");
    // As each writes them.
    match driver.name {
        "asyncpg" => (begin, commit) = (text(begin, "BEGIN;"), text(commit, "COMMIT;")),
        "pgx" => (begin, commit) = (text(begin, "begin"), text(commit, "commit")),
        _ => {}
    }
    let mut deeds = vec![
        one(
            "INSERT items",
            "INSERT INTO items (id, name) VALUES ($1, $2)",
        )
        .without(ROWS),
        by_id().with(ROWS, 1),
        by_id().with(ROWS, 0),
        nowhere
            .fails("42P01")
            .with("db.response.status_code", "42P01"),
        begin,
        one("UPDATE items", "UPDATE items SET name = $1 WHERE id = $2").without(ROWS),
        commit,
        one("SELECT", "SELECT repeat(?, ?) FROM generate_series(?, ?)").with(ROWS, 3000),
    ];
    if driver.several {
        let both = "DELETE items; SELECT items";
        let deed = one(
            both,
            "DELETE FROM items WHERE id = ?; SELECT ? FROM items LIMIT ?",
        );
        deeds.push(deed.with("db.collection.name", "items").with(ROWS, 3));
    }
    deeds.extend((driver.further)(before));
    match before {
        true => deeds
            .into_iter()
            .map(|deed| deed.without("db.namespace"))
            .collect(),
        false => deeds
            .into_iter()
            .map(|deed| deed.with("db.namespace", "shop"))
            .collect(),
    }
}

fn run(stage: &mut Stage, driver: &Driver, way: Way) -> Result<()> {
    let port = free_port()?;
    let home = stage.folder.clone();
    let (server, folder) = server(&home, port)?;
    let path = way.unix.then(|| folder.display().to_string());
    let place = Place { port, path };
    let agent = place.agent(stage, &["postgres", "python*"])?;
    let host = place.path.unwrap_or_else(|| "127.0.0.1".to_owned());
    let program = (driver.program)(&home)?.args([host, port.to_string()]);
    let cell = Cell::new("postgresql", driver.name, &server, way);
    let deeds = deeds(driver, way.before);
    let result = cell.run(stage, agent, program, &deeds);
    drop(server);
    let _ = fs::remove_dir_all(folder);
    result.map(drop)
}

/// Who runs the server: it refuses to be root's.
const NOBODY: u32 = 65534;

/// A server with tables, and the folder with its socket.
pub fn server(home: &Path, port: u16) -> Result<(Program, PathBuf)> {
    server_as(home, port, |setup| setup)
}

/// The same, started otherwise.
pub fn server_as(
    home: &Path,
    port: u16,
    adjust: impl FnOnce(Setup) -> Setup,
) -> Result<(Program, PathBuf)> {
    let debian = install::debian("postgresql", &["postgresql-15", "postgresql-client-15"])?;
    let program = debian.file("usr/lib/postgresql/15/bin/postgres")?;
    let programs = program.parent().context("a file is in a folder")?;
    // The path of a unix socket is short, and its folder the server's own.
    let folder = std::env::temp_dir().join(format!("spantap-pg-{port}"));
    fs::create_dir_all(&folder)?;
    chown(&folder, Some(NOBODY), Some(NOBODY))?;
    let data = folder.join("db");
    let with = |name: &str, program: &str| {
        let setup = Setup::new(name, home, "setpriv");
        let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
        setup
            .args(nobody)
            .args(["--pdeathsig", "KILL", "--"])
            .arg(programs.join(program))
            .env("LD_LIBRARY_PATH", debian.libraries())
            .inside(&folder)
    };
    let limit = Duration::from_secs(30);
    let ran = with("initdb", "initdb")
        .args(["-U", "app", "-A", "trust", "--no-sync", "-E", "UTF8"])
        .args(["--locale=C", "-D"])
        .arg(&data)
        .run(limit)?;
    ensure!(ran.code == Some(0), "initdb: {}", ran.errors);
    let setup = with("postgres", "postgres")
        .arg("-D")
        .arg(&data)
        .args(["-F", "-p", &port.to_string(), "-k"])
        .arg(&folder)
        .args(["-c", "listen_addresses=127.0.0.1", "-c", "autovacuum=off"]);
    let server = adjust(setup.port(port)).start()?;
    let filled = process::until("answers", limit, || {
        let psql = |database: &str, text: &str| {
            let ran = with("psql", "psql")
                .args(["-q", "-X", "-U", "app", "-h"])
                .arg(&folder)
                .args(["-p", &port.to_string(), "-d", database, "-c", text])
                .run(limit);
            ran.is_ok_and(|ran| ran.code == Some(0))
        };
        psql("postgres", "CREATE DATABASE shop") && psql("shop", TABLES)
    });
    filled?;
    Ok((server, folder))
}

/// What is in the database.
const TABLES: &str = "CREATE TABLE items (id int PRIMARY KEY, name text); \
     CREATE TABLE copies (id int, name text); \
     INSERT INTO items SELECT i, 'thing' FROM generate_series(1, 20) i";
