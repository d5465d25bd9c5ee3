//! `cargo xtask protocols`: what of each protocol is read, and how well, with real servers and
//! drivers.
//!
//! The protocols come from the registries (agent/src/protocol/mod.rs, and protocol/http/over.rs for what
//! is spoken over HTTP), the cells from the live tests of the same names (tests/live/NAME.rs; several
//! that are spoken over HTTP share tests/live/over.rs), which report a line of JSON per case (tests/src/report.rs). Of
//! both this makes docs/protocols.md; the live step of `cargo xtask test` holds the page to what came
//! out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::bench::table::Table;
use crate::matrix::Cell;
use crate::{check, shell};

/// Flags of `cargo xtask protocols`.
#[derive(Args)]
pub struct Protocols {
    /// Run only the cases whose names contain one of these; the table is then shown and not kept.
    words: Vec<String>,
    /// Run nothing, and make the page of what a run of all live tests reported
    /// (target/live/report.json).
    #[arg(long, value_name = "FILE", conflicts_with = "words")]
    from: Option<PathBuf>,
}

impl Protocols {
    /// Runs it; success only if every span of every case was right.
    pub fn go(&self) -> Result<ExitCode> {
        let registries = Registries::read()?;
        if let Some(report) = &self.from {
            return self.tell(&registries, report);
        }
        let families = registries.families();
        let families = families.filter(|name| Path::new(&format!("tests/live/{name}.rs")).exists());
        // TLS's are no deeds, and its name is part of others.
        let families = families.filter(|name| *name != "tls");
        let report = match self.words.is_empty() {
            true => {
                let all: Vec<String> = families.map(|name| format!("{name}::")).collect();
                check::reported("protocols", &all)?
            }
            false => check::reported("protocols", &self.words)?,
        };
        self.tell(&registries, &report)
    }

    /// Says what a report comes to, and keeps the page where it is of all.
    fn tell(&self, registries: &Registries, report: &Path) -> Result<ExitCode> {
        let cells = Cells::read(report, registries)?;
        let page = page(registries, &cells);
        println!("\n{page}");
        for (case, problem) in &cells.wrong {
            println!("not right: {case}: {problem}");
        }
        if self.words.is_empty() {
            fs::write(PAGE, page).with_context(|| format!("write {PAGE}"))?;
        }
        Ok(match cells.wrong.is_empty() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}

/// Why the page is not what the registry and a report of all live tests make of it; nothing if it is.
pub fn stale(report: &Path) -> Result<Option<String>> {
    let registries = Registries::read()?;
    let page = page(&registries, &Cells::read(report, &registries)?);
    let kept = fs::read_to_string(PAGE).unwrap_or_default();
    let mut pairs = page.lines().zip(kept.lines().chain(std::iter::repeat("")));
    let differs = pairs.find(|(new, kept)| new != kept).map(|(line, _)| line);
    let longer = kept.lines().nth(page.lines().count());
    Ok(differs
        .or(longer)
        .map(|line| format!("{PAGE} differs from {line:?} on: `cargo xtask protocols` renews it")))
}

/// One protocol of the registry.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name, which is its file's and its live tests' too.
    pub name: String,
    /// Its doc comment.
    pub about: String,
}

/// What is known.
pub struct Registries {
    /// Protocols of connections.
    pub protocols: Vec<Entry>,
    /// What is spoken over HTTP.
    over: Vec<Entry>,
}

impl Registries {
    /// Both, from their files.
    pub fn read() -> Result<Self> {
        let root = shell::workspace();
        Ok(Self {
            protocols: registry(&fs::read_to_string(root.join(REGISTRY))?),
            over: registry(&fs::read_to_string(root.join(OVER_HTTP))?),
        })
    }

    /// Names that families of live tests may have.
    fn families(&self) -> impl Iterator<Item = &str> {
        let all = self.protocols.iter().chain(&self.over);
        all.map(|entry| &*entry.name).chain(["over"])
    }
}

/// The entries of `registry! { … }`, not those of the macro's own definition.
pub fn registry(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut about = String::new();
    let inside = text.split("\nregistry! {\n").nth(1).unwrap_or_default();
    for line in inside.lines().map(str::trim) {
        if line == "}" {
            break;
        }
        match line.strip_prefix("///") {
            Some(words) => about += words,
            None => entries.push(Entry {
                name: line.trim_end_matches(',').to_owned(),
                about: std::mem::take(&mut about).trim().to_owned(),
            }),
        }
    }
    entries.retain(|entry| !entry.name.is_empty());
    entries
}

/// What the cases came to.
#[derive(Default)]
struct Cells {
    /// By protocol and driver: at the client, and at the server.
    rows: BTreeMap<(String, String), [Option<Cell>; 2]>,
    /// Cases with problems, and the first of each.
    wrong: Vec<(String, String)>,
}

impl Cells {
    fn read(report: &Path, registries: &Registries) -> Result<Self> {
        let lines = fs::read_to_string(report);
        let lines = lines.with_context(|| format!("no report at {}", report.display()))?;
        Self::of(&lines, registries)
    }

    fn of(lines: &str, registries: &Registries) -> Result<Self> {
        let mut cells = Self::default();
        for line in lines.lines() {
            let case: Value = serde_json::from_str(line).context("a line of the report")?;
            let name = case["case"].as_str().unwrap_or_default();
            let family = name.split("::").next().unwrap_or_default();
            if !registries.families().any(|name| name == family) {
                continue;
            }
            if let Some(problem) = case["problems"][0].as_str() {
                cells.wrong.push((name.into(), problem.into()));
            }
            for tally in case["tallies"].as_array().into_iter().flatten() {
                cells.add(family, tally);
            }
        }
        if cells.rows.is_empty() {
            bail!("no case of a protocol ran");
        }
        Ok(cells)
    }

    fn add(&mut self, family: &str, tally: &Value) {
        let driver = tally["service"].as_str().unwrap_or_default();
        let row = self.rows.entry((family.into(), driver.into())).or_default();
        let [client, server] = row;
        let side = match tally["side"].as_str() {
            Some("client") => client,
            _ => server,
        };
        let cell = Cell::of(tally);
        side.get_or_insert_with(|| cell.clone()).worsen(cell);
    }
}

fn page(registries: &Registries, cells: &Cells) -> String {
    let known = |entries: &[Entry]| {
        let mut known = Table::head(&["protocol", "what it is"]);
        for Entry { name, about } in entries {
            known.push(vec![format!("`{name}`"), about.clone()]);
        }
        known
    };
    let mut rows = Table::head(&["protocol", "driver", "client", "server"]);
    for ((protocol, driver), [client, server]) in &cells.rows {
        let text = |cell: &Option<Cell>| cell.as_ref().map_or_else(|| "–".into(), Cell::text);
        rows.push(vec![
            protocol.clone(),
            driver.clone(),
            text(client),
            text(server),
        ]);
    }
    let table = |name: &str, caption: &str, rows| {
        let table = Table {
            name: name.into(),
            caption: caption.into(),
            rows,
        };
        table.markdown()
    };
    format!(
        "{HEAD}\n{}\n{}\n{}",
        table(
            "registry",
            "The registry, in sniffing order.",
            known(&registries.protocols)
        ),
        table("over", "What is spoken over HTTP.", known(&registries.over)),
        table("cells", CELLS, rows)
    )
}

const REGISTRY: &str = "agent/src/protocol/mod.rs";
const OVER_HTTP: &str = "agent/src/protocol/http/over.rs";
const PAGE: &str = "docs/protocols.md";
const HEAD: &str = "# Protocols

Written by `cargo xtask protocols`. HTTP and TLS have a page of their own: [matrix.md](matrix.md). How one more is added:
[adding-a-protocol.md](adding-a-protocol.md).
";
const CELLS: &str = "Real drivers, each of which does a known list of things with the real server or, where that is not to be had \
here, a stand-in: FerretDB for MongoDB, versitygw for Amazon's S3, a server of our own for language models. Each does so at least on \
the socket path with the agent there first; and of each protocol some driver on the other capture path, and on a connection from \
before the agent (not of dns). All is over TCP, dns over UDP too; beanstalkd, fastcgi, memcached, mongodb, mqtt, mysql, postgresql and \
redis also have cases on a unix socket. A cell says, of the worst of its runs: right spans of things done · right spans of spans \
received (how many runs). Right is a span with the right name, kind, attributes and error; that parents are right too is asked of \
every case. What is not right yet is listed in tests/live/main.rs.";

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "macro_rules! registry {\n    () => {};\n}\n\nregistry! {\n    /// One\n    /// thing.\n    one,\n    two,\n}\nfn x() {}\n";

    fn line(case: &str, side: &str, right: u64) -> String {
        format!(
            r#"{{"case": "{case}", "problems": [], "tallies": [{{"side": "{side}", "service": "go", "version": "one", "expected": 5, "right": {right}, "received": 5}}]}}"#
        )
    }

    #[test]
    fn the_registry_is_read_and_not_its_macro() {
        let entry = |name: &str, about: &str| Entry {
            name: name.into(),
            about: about.into(),
        };
        let entries = [entry("one", "One thing."), entry("two", "")];
        assert_eq!(registry(TEXT), entries);
        assert_eq!(registry("fn x() {}"), []);
    }

    #[test]
    fn a_cell_is_the_worst_of_its_runs() {
        let lines = [
            line("one::go::a", "client", 5),
            line("one::go::b", "client", 4),
            line("one::go::b", "server", 5),
            line("matrix::go", "client", 1),
        ];
        let registries = Registries {
            protocols: registry(TEXT),
            over: Vec::new(),
        };
        let cells = Cells::of(&lines.join("\n"), &registries).expect("a report");
        let page = page(&registries, &cells);
        assert!(
            page.contains("| one      | go     | 4/5 · 4/5 (2) | 5/5 · 5/5 (1) |"),
            "{page}"
        );
        assert!(Cells::of("", &registries).is_err());
    }

    #[test]
    fn the_page_begins_as_it_would_be_written() {
        let registries = Registries::read().expect("the registries");
        let new = page(&registries, &Cells::default());
        let kept = fs::read_to_string(shell::workspace().join(PAGE)).expect("the page");
        let cells = new.find(CELLS).expect("what the cells are") + CELLS.len();
        assert!(kept.starts_with(&new[..cells]), "{PAGE} is old");
    }
}
