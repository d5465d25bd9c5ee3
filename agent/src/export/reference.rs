//! Holds docs/output.md to the code: the counters in it are written by `UPDATE=1 cargo test -p
//! spantap --lib reference`, and of all else that can come out nothing may be missing there.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::stdout::Table;
use super::{json, text};
use crate::stats::{GAUGES, Stats};
use crate::trace::Method;

fn page() -> (PathBuf, String) {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/output.md"));
    let text = std::fs::read_to_string(&path).expect("the page is there");
    (path, text)
}

/// Every counter, as a table.
fn counters() -> String {
    let stats = Stats::default();
    let losses = stats.losses();
    let mut out = String::from("| counter | counts | kind |\n|---|---|---|\n");
    for (name, what, _) in stats.read() {
        let kind = match name {
            _ if losses.iter().any(|(lost, _)| *lost == name) => "**loss**",
            _ if GAUGES.contains(&name) => "gauge",
            _ => "",
        };
        let _ = writeln!(out, "| `{name}` | {} | {kind} |", what.trim());
    }
    out
}

#[test]
fn the_page_has_the_counters_as_they_are() {
    let (path, text) = page();
    let (before, rest) = text.split_once(BEGIN).expect("the table's beginning");
    let (_, after) = rest.split_once(END).expect("the table's end");
    let right = format!("{before}{BEGIN}{}{END}{after}", counters());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &right).expect("the tree can be written");
    } else {
        assert!(
            text == right,
            "docs/output.md is stale: UPDATE=1 cargo test -p spantap --lib reference"
        );
    }
}

#[test]
fn the_page_has_all_that_can_come_out() {
    let (_, page) = page();
    let mut names: Vec<String> = Vec::new();
    let header = Table::new(false, None).header();
    names.extend(
        header
            .split("  ")
            .filter(|n| !n.is_empty())
            .map(|n| n.trim().to_owned()),
    );
    let methods = [
        Method::TraceParent,
        Method::B3,
        Method::StreamKey,
        Method::Thread,
        Method::Goroutine,
        Method::Forwarded,
        Method::Asyncio,
        Method::AsyncId,
    ];
    names.extend(methods.map(|method| method.name().to_owned()));
    let line: serde_json::Value =
        serde_json::from_str(&json::json(&text::tests::server())).expect("it is JSON");
    names.extend(line.as_object().expect("an object").keys().cloned());
    for source in [
        include_str!("../span/semconv.rs"),
        include_str!("otlp/encode.rs"),
    ] {
        let words = source
            .split('"')
            .filter(|word| word.starts_with("spantap."));
        names.extend(words.map(str::to_owned));
    }
    assert!(names.len() > 40, "{names:?}");
    for name in names {
        assert!(
            page.contains(&format!("`{name}`")),
            "{name} is not in docs/output.md"
        );
    }
}

const BEGIN: &str = "<!-- counters -->\n\n";
const END: &str = "\n<!-- /counters -->";
