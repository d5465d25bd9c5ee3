//! `cargo xtask apart`: whose children answers are, where who asks and who answers are on two hosts whose
//! agents share nothing: by case, and by hop.
//!
//! The live tests (tests/live/apart.rs) run and count; they report a line of JSON per case
//! (tests/src/report.rs), of which this makes tables.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::bench::table::{Table, machine};
use crate::causality::{methods, share};
use crate::check;

/// Flags of `cargo xtask apart`.
#[derive(Args)]
pub struct Apart {
    /// Run only the cases whose names contain one of these.
    words: Vec<String>,
    /// Run nothing, and show what a run of the live tests reported (target/live/report.json).
    #[arg(long, value_name = "FILE", conflicts_with = "words")]
    from: Option<PathBuf>,
}

impl Apart {
    /// Runs it; success only if all was as it is to be.
    pub fn go(&self) -> Result<ExitCode> {
        let report = match &self.from {
            Some(report) => report.clone(),
            None if self.words.is_empty() => {
                check::reported("apart", &["--all".to_owned(), CASES.to_owned()])?
            }
            None => check::reported("apart", &self.words)?,
        };
        let told = told(&read(&report)?)?;
        println!("\n{}", told.text);
        Ok(match told.fine {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}

fn read(report: &Path) -> Result<String> {
    fs::read_to_string(report).with_context(|| format!("no report at {}", report.display()))
}

type Counts = BTreeMap<String, u64>;

struct Told {
    text: String,
    fine: bool,
}

/// The tables of a report.
fn told(lines: &str) -> Result<Told> {
    let mut cases = Table::head(&[&["case"], VERDICTS, &["linked by", "one trace"]].concat());
    let mut parts: BTreeMap<(String, usize, String), Counts> = BTreeMap::new();
    let mut wrong = String::new();
    for line in lines.lines() {
        let case: Value = serde_json::from_str(line).context("a line of the report")?;
        let name = case["case"].as_str().unwrap_or_default();
        let Some(name) = name
            .strip_prefix(CASES)
            .filter(|_| case["left_out"] != true)
        else {
            continue;
        };
        if let Some(problem) = case["problems"][0].as_str() {
            wrong += &format!("\n- `{name}`: {problem}");
        }
        let counts = counts(&case["counts"]);
        let mut row = row(name, &counts);
        row.push(methods(&counts));
        row.push(format!(
            "{} of {}",
            of(&counts, "whole"),
            of(&counts, "requests")
        ));
        cases.push(row);
        let mode = name.rsplit_once("::").map_or(name, |(mode, _)| mode);
        for (part, its) in case["parts"].as_object().into_iter().flatten() {
            // What is between hosts comes first.
            let key = (
                mode.to_owned(),
                usize::from(part.starts_with("in ")),
                part.clone(),
            );
            for (name, count) in self::counts(its) {
                *parts
                    .entry(key.clone())
                    .or_default()
                    .entry(name)
                    .or_default() += count;
            }
        }
    }
    if cases.len() == 1 {
        bail!("no case of apart ran");
    }
    let mut by_part = Table::head(&[&["part"], VERDICTS].concat());
    let rows = parts.iter();
    by_part.extend(rows.map(|((mode, _, part), counts)| row(&format!("{mode} {part}"), counts)));
    let tables = [
        (format!("Answers, {}.", machine()), cases),
        (
            "Of all at once: answers by hop, and calls that a program makes for what it serves."
                .into(),
            by_part,
        ),
    ];
    let tables = tables.map(|(caption, rows)| {
        let name = String::new();
        Table {
            name,
            caption,
            rows,
        }
        .markdown()
    });
    let fine = wrong.is_empty();
    let text = tables.join("\n") + &wrong;
    Ok(Told { text, fine })
}

const VERDICTS: &[&str] = &["calls", "right", "wrong", "none", "unseen"];

fn row(name: &str, counts: &Counts) -> Vec<String> {
    let calls = of(counts, "calls");
    let mut row = vec![name.to_owned(), calls.to_string()];
    let verdicts = VERDICTS.iter().skip(1);
    row.extend(verdicts.map(|verdict| share(of(counts, verdict), calls)));
    row
}

fn of(counts: &Counts, name: &str) -> u64 {
    counts.get(name).copied().unwrap_or_default()
}

fn counts(told: &Value) -> Counts {
    let counts = told.as_object().into_iter().flatten();
    let counts = counts.filter_map(|(name, count)| Some((name.clone(), count.as_u64()?)));
    counts.collect()
}

/// The cases' family.
const CASES: &str = "apart::";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_a_case_and_one_a_hop_of_all_its_cases() {
        let line = |at_once: u32, problems: &str| {
            format!(
                r#"{{"case": "apart::off::plain::{at_once}", "problems": [{problems}],
                "counts": {{"calls": 8, "none": 8, "whole": 0, "requests": 4}},
                "parts": {{"in go": {{"calls": 3, "right": 3}}, "go>java": {{"calls": 4, "none": 4}}}}}}"#
            )
            .replace('\n', "")
        };
        let left_out = r#"{"case": "apart::off::tls::8", "left_out": true}"#;
        let lines = [line(8, ""), line(32, r#""one", "two""#), left_out.into()];
        let told = told(&lines.join("\n")).expect("a report");
        for has in [
            "| off::plain::8  | 8     | 0 · 0.0 % | 0 · 0.0 % | 8 · 100.0 % | 0 · 0.0 % | –         | 0 of 4    |",
            "| off::plain go>java | 8     | 0 · 0.0 %   | 0 · 0.0 % | 8 · 100.0 % | 0 · 0.0 % |",
            "| off::plain in go   | 6     | 6 · 100.0 % |",
            "- `off::plain::32`: one",
        ] {
            assert!(told.text.contains(has), "{has} in {}", told.text);
        }
        assert!(!told.fine && !told.text.contains("tls"));
        assert!(super::told(left_out).is_err());
    }
}
