//! `cargo xtask matrix`: which programs' TLS is read, by which version of HTTP, and how well.
//!
//! The live tests (tests/live/matrix.rs) run and judge; they report a line of JSON per case
//! (tests/src/report.rs), of which this makes the table in docs/matrix.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::bench::table::{Table, machine};
use crate::check;

/// Flags of `cargo xtask matrix`.
#[derive(Args)]
pub struct Matrix {
    /// Run only the cases whose names contain one of these; the table is then shown and not kept.
    words: Vec<String>,
}

impl Matrix {
    /// Runs it; success only if every span of every case was right.
    pub fn go(&self) -> Result<ExitCode> {
        let report = match self.words.is_empty() {
            true => check::reported("matrix", &["--all".to_owned(), CASES.to_owned()])?,
            false => check::reported("matrix", &self.words)?,
        };
        let lines = fs::read_to_string(&report)
            .with_context(|| format!("no report at {}", report.display()))?;
        let matrix = Cells::read(&lines)?;
        let text = matrix.markdown();
        println!("\n{text}");
        if self.words.is_empty() {
            fs::write(DOCUMENT, text).with_context(|| format!("write {DOCUMENT}"))?;
        }
        Ok(if matrix.wrong.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// What the cases came to.
#[derive(Default)]
struct Cells {
    cases: usize,
    /// By program and side, then by HTTP version.
    rows: BTreeMap<(String, String), BTreeMap<String, Cell>>,
    /// The versions of TLS of each row.
    tls: BTreeMap<(String, String), BTreeSet<String>>,
    /// Cases with problems, and the first of each.
    wrong: Vec<(String, String)>,
}

/// The worst run of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    runs: usize,
    expected: u64,
    right: u64,
    received: u64,
}

impl Cells {
    fn read(lines: &str) -> Result<Self> {
        let mut cells = Self::default();
        for line in lines.lines() {
            let case: Value = serde_json::from_str(line).context("a line of the report")?;
            cells.cases += 1;
            if let Some(problem) = case["problems"].get(0) {
                let problem = problem.as_str().unwrap_or_default();
                cells.wrong.push((text(&case, "case"), problem.into()));
            }
            for tally in case["tallies"].as_array().into_iter().flatten() {
                cells.add(tally);
            }
        }
        if cells.cases == 0 {
            bail!("no case ran");
        }
        Ok(cells)
    }

    fn add(&mut self, tally: &Value) {
        let row = (text(tally, "service"), text(tally, "side"));
        let tls = tally["tls"].as_array().into_iter().flatten();
        let tls = tls.filter_map(|version| version.as_str().map(str::to_owned));
        self.tls.entry(row.clone()).or_default().extend(tls);
        let cell = Cell::of(tally);
        let versions = self.rows.entry(row).or_default();
        let kept = versions.entry(text(tally, "version"));
        let kept = kept.or_insert_with(|| cell.clone());
        kept.worsen(cell);
    }

    fn markdown(&self) -> String {
        let mut rows = Table::head(&["program", "side", "HTTP/1.1", "HTTP/2", "TLS"]);
        for (row, versions) in &self.rows {
            let cell = |version| versions.get(version).map_or_else(|| "–".into(), Cell::text);
            let tls: Vec<&str> = self.tls[row].iter().map(String::as_str).collect();
            let (program, side) = row;
            let name = PROGRAMS.iter().find(|(service, _)| service == program);
            let name = name.map_or(program.as_str(), |(_, name)| name);
            rows.push(vec![
                name.into(),
                side.clone(),
                cell("1.1"),
                cell("2"),
                tls.join(", "),
            ]);
        }
        let table = Table {
            name: "matrix".into(),
            caption: format!("{} cases, {}.", self.cases, machine()),
            rows,
        };
        let mut text = format!("{HEAD}\n{}", table.markdown());
        if self.wrong.is_empty() {
            text += "\nEvery span of every case was right, and its parent too; what is older than the agent may have none.\n";
        } else {
            text += "\nNot right, with the first of what is wrong:\n\n";
        }
        for (case, problem) in &self.wrong {
            text += &format!("- `{case}`: {problem}\n");
        }
        text
    }
}

impl Cell {
    /// What a report's tally says, of no run yet.
    pub fn of(tally: &Value) -> Self {
        let number = |name| tally[name].as_u64().unwrap_or_default();
        Self {
            runs: 0,
            expected: number("expected"),
            right: number("right"),
            received: number("received"),
        }
    }

    /// One run more; of equals the shorter one stands for both, whichever came first.
    pub fn worsen(&mut self, other: Self) {
        let runs = self.runs + 1;
        let key = |cell: &Self| (cell.faults(), std::cmp::Reverse(cell.expected));
        if key(&other) > key(self) {
            *self = other;
        }
        self.runs = runs;
    }

    /// Spans missing or wrong, and spans nobody expected.
    fn faults(&self) -> u64 {
        self.expected.abs_diff(self.right) + self.received.abs_diff(self.right)
    }

    /// As the page has it.
    pub fn text(&self) -> String {
        let Self {
            runs,
            expected,
            right,
            received,
        } = self;
        format!("{right}/{expected} · {right}/{received} ({runs})")
    }
}

fn text(object: &Value, name: &str) -> String {
    object[name].as_str().unwrap_or_default().into()
}

/// The cases' family.
const CASES: &str = "matrix::";
const DOCUMENT: &str = "docs/matrix.md";
const HEAD: &str = "# TLS and HTTP, with real programs

Written by `cargo xtask matrix`: programs as people run them, over TLS, on the running kernel. Each client asks nginx, each server
is asked by Python's httpx, 200 requests a run: by HTTP/1.1 and HTTP/2, on the socket and the syscall path, on a connection from before
the agent and with the agent there first (curl and wget end by themselves and have no before). Node and aiohttp, whose TLS library
sees no socket, also ask four servers at once, 32 requests at a time.
A cell says, of the worst of its runs: right spans of requests made · right spans of spans received (how many runs).
Right is a span of the right process with the right path, status, sizes, version, server, peer and times.
";

/// What the services of the tests are.
const PROGRAMS: &[(&str, &str)] = &[
    ("aiohttp", "Python aiohttp (asyncio)"),
    ("go", "Go net/http"),
    ("gunicorn", "Python gunicorn (threads)"),
    ("httpx", "Python httpx"),
    ("hyper", "Rust hyper (tokio-rustls)"),
    ("hypercorn", "Python hypercorn (asyncio)"),
    ("node", "Node https, http2"),
    ("requests", "Python requests"),
    ("reqwest", "Rust reqwest (rustls)"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn line(right: u64, received: u64, problems: &str) -> String {
        format!(
            r#"{{"case": "matrix::x", "problems": [{problems}], "tallies": [{{"side": "client", "service": "go",
                "version": "2", "expected": 200, "right": {right}, "received": {received}, "tls": ["1.3"]}}]}}"#
        )
        .replace('\n', " ")
    }

    #[test]
    fn a_cell_is_the_worst_of_its_runs() {
        let lines = [
            line(200, 200, ""),
            line(199, 203, r#""missing", "surplus""#),
            line(200, 200, ""),
        ];
        let cells = Cells::read(&lines.join("\n")).expect("a report");
        assert_eq!(cells.wrong, [("matrix::x".into(), "missing".into())]);
        let text = cells.markdown();
        let row = "| Go net/http | client | –        | 199/200 · 199/203 (3) | 1.3 |";
        assert!(text.contains(row), "{text}");
        assert!(text.contains("- `matrix::x`: missing"), "{text}");
    }

    #[test]
    fn what_is_no_report_is_refused() {
        assert!(Cells::read("").is_err());
        assert!(Cells::read("test result: ok").is_err());
        let cells = Cells::read(&line(200, 200, "")).expect("a report");
        assert!(cells.wrong.is_empty() && cells.markdown().contains("Every span"));
    }
}
