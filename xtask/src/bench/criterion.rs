//! The criterion benchmarks of agent/benches, and the table of what they measured.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::Value;

use super::table::{Table, machine};
use crate::shell::{self, say};

/// Flags of the criterion benchmarks.
#[derive(Args, Default)]
pub struct Criterion {
    /// Arguments for criterion, such as `--save-baseline before`.
    #[arg(last = true)]
    arguments: Vec<String>,
}

impl Criterion {
    /// Runs some of the files of agent/benches, and keeps one table of them.
    pub fn go(&self, table: &str, benches: &[&str]) -> Result<()> {
        let mut rows = Table::head(&["benchmark", "time", "for", "per second and core"]);
        rows.extend(self.figures(benches)?.iter().map(Figure::row));
        self.keep(table, rows, "")
    }

    /// The same of benchmarks that come in pairs, `PROTOCOL/messages` and `PROTOCOL/bytes`: a row for
    /// each pair, and for each of the others.
    pub fn go_by_message(&self, table: &str, benches: &[&str]) -> Result<()> {
        let figures = self.figures(benches)?;
        let mut rows = Table::head(&["benchmark", "ns a message", "MB/s"]);
        for figure in &figures {
            let (own, bytes) = match figure.name.strip_suffix("/messages") {
                Some(own) => {
                    let pair = format!("{own}/bytes");
                    let bytes = figures.iter().find(|other| other.name == pair);
                    (own, bytes.with_context(|| format!("no {pair}"))?)
                }
                None if figure.name.ends_with("/bytes") => continue,
                None => (&*figure.name, figure),
            };
            let messages = match figure.count("Elements") {
                Some(count) => format!("{:.0}", figure.nanos / count),
                None => "–".to_owned(),
            };
            let rate = bytes.count("Bytes").unwrap_or_default() / bytes.nanos * 1e3;
            rows.push(vec![own.to_owned(), messages, format!("{rate:.0}")]);
        }
        let of = " A message is a finding of the parser: a request, its end, an answer, its end.";
        self.keep(table, rows, of)
    }

    fn keep(&self, table: &str, rows: Vec<Vec<String>>, more: &str) -> Result<()> {
        if rows.len() == 1 {
            bail!("criterion left no estimates in target/criterion");
        }
        Table {
            name: table.to_owned(),
            caption: format!("Medians by criterion, one thread, {}.{more}", machine()),
            rows,
        }
        .keep()
    }

    /// Runs some of the files of agent/benches: what criterion left of each.
    fn figures(&self, benches: &[&str]) -> Result<Vec<Figure>> {
        let begun = std::time::SystemTime::now();
        for name in benches {
            say(format!("bench: {name}"));
            let mut command = shell::cargo("bench");
            command
                .args(["--package", "spantap", "--bench", name, "--"])
                .args(["--warm-up-time", "1", "--measurement-time", "2"]);
            shell::run(command.args(&self.arguments))?;
        }
        let mut figures = Vec::new();
        for estimate in estimates(&shell::target().join("criterion"))? {
            let made = fs::metadata(&estimate).and_then(|data| data.modified())?;
            if made >= begun {
                figures.push(Figure::read(&estimate)?);
            }
        }
        Ok(figures)
    }
}

/// The files with the newest estimates, in the order of their names.
fn estimates(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            let own = path.join("estimates.json");
            if path.file_name().is_some_and(|name| name == "new") && own.exists() {
                found.push(own);
            } else {
                found.extend(estimates(&path)?);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// One benchmark.
struct Figure {
    name: String,
    /// The median.
    nanos: f64,
    /// What goes through in one iteration.
    throughput: Value,
}

impl Figure {
    /// By its file of estimates.
    fn read(estimate: &Path) -> Result<Self> {
        let read = |path: &Path| -> Result<Value> {
            let text =
                fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
            Ok(serde_json::from_str(&text)?)
        };
        let (estimate, about) = (
            read(estimate)?,
            read(&estimate.with_file_name("benchmark.json"))?,
        );
        Ok(Self {
            name: about["full_id"].as_str().unwrap_or_default().to_owned(),
            nanos: estimate["median"]["point_estimate"]
                .as_f64()
                .context("no median")?,
            throughput: about["throughput"].clone(),
        })
    }

    fn count(&self, unit: &str) -> Option<f64> {
        self.throughput.get(unit)?.as_f64()
    }

    /// Its name, its median, and what that is per second.
    fn row(&self) -> Vec<String> {
        let (amount, unit) = throughput(&self.throughput, self.nanos);
        vec![self.name.clone(), time(self.nanos), amount, unit]
    }
}

/// What went through in one iteration, and per second.
fn throughput(of: &Value, nanos: f64) -> (String, String) {
    let count = |name: &str| Some(of.get(name)?.as_f64().unwrap_or_default());
    if let Some(bytes) = count("Bytes") {
        return (format!("{bytes:.0} B"), format!("{:.2} GB", bytes / nanos));
    }
    if let Some(elements) = count("Elements") {
        let rate = format!("{:.0} thousand", elements / nanos * 1e6);
        return (format!("{elements:.0}"), rate);
    }
    ("–".to_owned(), "–".to_owned())
}

fn time(nanos: f64) -> String {
    match nanos {
        n if n < 1e3 => format!("{n:.0} ns"),
        n if n < 1e6 => format!("{:.2} us", n / 1e3),
        n => format!("{:.2} ms", n / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_have_units() {
        assert_eq!(time(1500.0), "1.50 us");
        assert_eq!(time(2.5e6), "2.50 ms");
        let (amount, rate) = throughput(&json!({ "Bytes": 65536 }), 32_768.0);
        assert_eq!((amount.as_str(), rate.as_str()), ("65536 B", "2.00 GB"));
        let (amount, rate) = throughput(&json!({ "Elements": 10_000 }), 2e7);
        assert_eq!((amount.as_str(), rate.as_str()), ("10000", "500 thousand"));
        assert_eq!(throughput(&Value::Null, 1.0).0, "–");
    }
}
