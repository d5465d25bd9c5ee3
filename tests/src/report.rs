//! What a run of the live tests came to, for a program to read: one line of JSON per case, as it
//! ends. `cargo xtask matrix` and others make their tables of it.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::expect::Score;
use crate::span::Kind;

/// Where the lines go; nowhere if nobody asked.
pub struct Report(Option<File>);

impl Report {
    /// Begins an empty file.
    pub fn new(path: Option<&Path>) -> Result<Self> {
        let file = |path: &Path| File::create(path).with_context(|| path.display().to_string());
        path.map(file).transpose().map(Self)
    }

    /// Adds a case that is left out of this run.
    pub fn leave_out(&mut self, case: &str) -> Result<()> {
        if let Some(file) = &mut self.0 {
            let line = json!({"case": case, "left_out": true});
            writeln!(file, "{line}").context("write the report")?;
        }
        Ok(())
    }

    /// Adds a case.
    pub fn add(&mut self, case: &str, score: &Score) -> Result<()> {
        if let Some(file) = &mut self.0 {
            writeln!(file, "{}", line(case, score)).context("write the report")?;
        }
        Ok(())
    }
}

/// `{"case", "problems", "tallies": [{"side": "client"|"server", "service", "version", "expected",
/// "right", "received", "tls": […]}], "counts": {NAME: NUMBER}, "parts": {NAME: {NAME: NUMBER}}}`; see [`crate::expect::Tally`].
fn line(case: &str, score: &Score) -> Value {
    let tallies = score
        .tallies
        .iter()
        .map(|((kind, service, version), tally)| {
            let side = match kind {
                Kind::Client => "client",
                Kind::Server => "server",
                Kind::Producer => "producer",
                Kind::Consumer => "consumer",
                Kind::Other => "other",
            };
            json!({
                "side": side, "service": service, "version": version, "expected": tally.expected,
                "right": tally.right, "received": tally.received, "tls": tally.tls,
            })
        });
    let tallies: Vec<Value> = tallies.collect();
    json!({
        "case": case, "problems": score.problems, "tallies": tallies, "counts": score.counts,
        "parts": score.parts,
    })
}
