//! `cargo xtask protocols`: what of each protocol is read, and how well, with real servers and
//! drivers.
//!
//! The protocols come from the registry (agent/src/protocol/mod.rs), the cells from the live tests of
//! the same names (tests/live/NAME.rs), which report a line of JSON per case (tests/src/report.rs). Of
//! both this makes docs/protocols.md; the live step of `cargo xtask test` holds the page to what came
//! out.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::bench::table::Table;
use crate::matrix::Cell;
use crate::{check, shell, toolchain};

/// Flags of `cargo xtask protocols`.
#[derive(Args)]
pub struct Protocols {
    /// Run only the cases whose names contain one of these; the table is then shown and not kept.
    words: Vec<String>,
}

impl Protocols {
    /// Runs it; success only if every span of every case was right.
    pub fn go(&self) -> Result<ExitCode> {
        toolchain::ensure()?;
        let registry = registry(&fs::read_to_string(REGISTRY)?);
        let report = check::kept("protocols")?.join("report.json");
        if report.exists() {
            fs::remove_file(&report)?;
        }
        let mut command = check::live_tests()?;
        command
            .arg("--")
            .arg(format!("--report={}", report.display()));
        let families = registry.iter().map(|entry| &entry.name);
        let families = families.filter(|name| Path::new(&format!("tests/live/{name}.rs")).exists());
        match self.words.is_empty() {
            // TLS's are no deeds, and its name is part of others.
            true => command.args(families.filter(|n| *n != "tls").map(|n| format!("{n}::"))),
            false => command.args(&self.words),
        };
        // Whether all is right is in the report, known gaps too.
        shell::status(&mut command)?;
        let cells = Cells::read(&report, &registry)?;
        let page = page(&registry, &cells);
        println!("\n{page}");
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
    let registry = registry(&fs::read_to_string(REGISTRY)?);
    let page = page(&registry, &Cells::read(report, &registry)?);
    let kept = fs::read_to_string(PAGE).unwrap_or_default();
    let differs = page
        .lines()
        .find(|line| !kept.lines().any(|kept| kept == *line));
    Ok(differs
        .map(|line| format!("{PAGE} has no line {line:?}: `cargo xtask protocols` renews it")))
}

/// One protocol of the registry.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name, which is its file's and its live tests' too.
    pub name: String,
    /// Its doc comment.
    pub about: String,
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
    fn read(report: &Path, registry: &[Entry]) -> Result<Self> {
        let lines = fs::read_to_string(report);
        let lines = lines.with_context(|| format!("no report at {}", report.display()))?;
        Self::of(&lines, registry)
    }

    fn of(lines: &str, registry: &[Entry]) -> Result<Self> {
        let mut cells = Self::default();
        for line in lines.lines() {
            let case: Value = serde_json::from_str(line).context("a line of the report")?;
            let name = case["case"].as_str().unwrap_or_default();
            let family = name.split("::").next().unwrap_or_default();
            if !registry.iter().any(|entry| entry.name == family) {
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

fn page(registry: &[Entry], cells: &Cells) -> String {
    let mut known = Table::head(&["protocol", "what it is"]);
    for Entry { name, about } in registry {
        known.push(vec![format!("`{name}`"), about.clone()]);
    }
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
    let mut text = format!(
        "{HEAD}\n{}\n{}",
        table("registry", "The registry, in sniffing order.", known),
        table("cells", CELLS, rows)
    );
    if cells.wrong.is_empty() {
        text += "\nEvery span of every case was right.\n";
    } else {
        text += "\nNot right, with the first of what is wrong:\n\n";
    }
    for (case, problem) in &cells.wrong {
        text += &format!("- `{case}`: {problem}\n");
    }
    text
}

const REGISTRY: &str = "agent/src/protocol/mod.rs";
const PAGE: &str = "docs/protocols.md";
const HEAD: &str = "# Protocols

Written by `cargo xtask protocols`. HTTP and TLS have a page of their own: [matrix.md](matrix.md). How one more is added:
[adding-a-protocol.md](adding-a-protocol.md).
";
const CELLS: &str = "Real drivers and the real server: each does a known list of things, on both capture paths, on connections \
from before the agent and with the agent there first, over TCP and, where the server has one, a unix socket. A cell says, of the worst \
of its runs: right spans of things done · right spans of spans received (how many runs). Right is a span with the right name, kind, \
attributes, error and, at the server, parent.";

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
        let registry = registry(TEXT);
        let cells = Cells::of(&lines.join("\n"), &registry).expect("a report");
        let page = page(&registry, &cells);
        assert!(
            page.contains("| one      | go     | 4/5 · 4/5 (2) | 5/5 · 5/5 (1) |"),
            "{page}"
        );
        assert!(Cells::of("", &registry).is_err());
    }
}
