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
        let begun = std::time::SystemTime::now();
        for name in benches {
            say(format!("bench: {name}"));
            let mut command = shell::cargo("bench");
            command
                .args(["--package", "spantap", "--bench", name, "--"])
                .args(["--warm-up-time", "1", "--measurement-time", "2"]);
            shell::run(command.args(&self.arguments))?;
        }
        let mut rows = Table::head(&["benchmark", "time", "for", "per second and core"]);
        for estimate in estimates(&shell::target().join("criterion"))? {
            let made = fs::metadata(&estimate).and_then(|data| data.modified())?;
            if made >= begun {
                rows.push(row(&estimate)?);
            }
        }
        if rows.len() == 1 {
            bail!("criterion left no estimates in target/criterion");
        }
        Table {
            name: table.to_owned(),
            caption: format!("Medians by criterion, one thread, {}.", machine()),
            rows,
        }
        .keep()
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

/// One benchmark: its name, its median, and what that is per second.
fn row(estimate: &Path) -> Result<Vec<String>> {
    let read = |path: &Path| -> Result<Value> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        Ok(serde_json::from_str(&text)?)
    };
    let (estimate, about) = (
        read(estimate)?,
        read(&estimate.with_file_name("benchmark.json"))?,
    );
    let nanos = estimate["median"]["point_estimate"]
        .as_f64()
        .context("no median")?;
    let (amount, unit) = throughput(&about["throughput"], nanos);
    let name = about["full_id"].as_str().unwrap_or_default().to_owned();
    Ok(vec![name, time(nanos), amount, unit])
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
