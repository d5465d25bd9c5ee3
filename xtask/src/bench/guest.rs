//! Instructions per request, counted in a guest, and the gate on them.
//!
//! tests/vm/cost.sh measures in the guest and prints lines `cost NAME REQUESTS NANOSECONDS` for
//! each server without the agent (`nginx-base`) and with it (`nginx-traced`); a nanosecond of a
//! guest that counts is half an instruction. What one request costs more is the figure.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::{Map, Value};

use super::table::Table;
use crate::shell::{self, say};
use crate::vm::Guest;
use crate::{agent, toolchain};

/// Flags of `cargo xtask bench vm`.
#[derive(Args)]
pub struct Gate {
    /// Kernels to measure on.
    #[arg(short, long, value_delimiter = ',', default_values = ["6.1", "6.12"])]
    kernels: Vec<String>,
    /// Make the figures of this run the baseline.
    #[arg(long)]
    save: bool,
}

/// Instructions that tracing adds to one request, by `kernel/server`.
type Added = BTreeMap<String, f64>;

impl Gate {
    /// Measures, shows, and holds against the baseline.
    pub fn go(&self) -> Result<()> {
        toolchain::ensure()?;
        shell::install(&["nginx-light", "apache2-utils"], "bench")?;
        let spantap = agent::build(true)?;
        let mut rows = vec![
            ["kernel, server", "alone", "traced", "added"]
                .map(str::to_owned)
                .to_vec(),
        ];
        let mut added = Added::new();
        for kernel in &self.kernels {
            let mut guest = Guest::new(kernel);
            guest.icount = true;
            guest.limit = Duration::from_secs(900);
            guest.env = vec![("SPANTAP_BIN".to_owned(), spantap.display().to_string())];
            let ended = guest.run("exec bash tests/vm/cost.sh")?;
            if ended.code != 0 {
                bail!("tests/vm/cost.sh exited with {} on {kernel}", ended.code);
            }
            let costs = read(&ended.output);
            for (server, base) in costs
                .iter()
                .filter_map(|(name, cost)| Some((name.strip_suffix("-base")?, cost)))
            {
                let traced = costs
                    .get(&format!("{server}-traced"))
                    .context("no traced figure")?;
                let name = format!("{kernel}/{server}");
                let figures = [*base, *traced, traced - base].map(|figure| format!("{figure:.0}"));
                rows.push(std::iter::once(name.clone()).chain(figures).collect());
                added.insert(name, traced - base);
            }
        }
        if added.is_empty() {
            bail!("tests/vm/cost.sh measured nothing");
        }
        let caption =
            "Instructions per request in a guest, client included, agent included.".to_owned();
        Table {
            name: "vm".to_owned(),
            caption,
            rows,
        }
        .keep()?;
        if self.save {
            return save(&added);
        }
        let worse = worse(&added, &baseline()?);
        if !worse.is_empty() {
            bail!("over 10 % above {BASELINE}: {}", worse.join("; "));
        }
        say("bench: nothing is over 10 % above the baseline");
        Ok(())
    }
}

/// Instructions per request by name.
fn read(output: &str) -> BTreeMap<String, f64> {
    let mut costs = BTreeMap::new();
    for line in output.lines().filter_map(|line| line.strip_prefix("cost ")) {
        let mut words = line.split_whitespace();
        let (Some(name), Some(requests), Some(time)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let (Ok(requests), Ok(time)) = (requests.parse::<f64>(), time.parse::<f64>()) else {
            continue;
        };
        costs.insert(name.to_owned(), time / NANOSECONDS / requests);
    }
    costs
}

/// What costs over 10 % more than it did; a figure the baseline lacks is worse than any.
fn worse(added: &Added, baseline: &Added) -> Vec<String> {
    let judge = |(name, now): (&String, &f64)| match baseline.get(name) {
        None => Some(format!("{name}: no baseline (--save makes one)")),
        Some(before) if *now > before * 1.1 => Some(format!("{name}: {now:.0}, was {before:.0}")),
        Some(_) => None,
    };
    added.iter().filter_map(judge).collect()
}

fn baseline() -> Result<Added> {
    let text = fs::read_to_string(BASELINE).with_context(|| format!("read {BASELINE}"))?;
    let map: Map<String, Value> =
        serde_json::from_str(&text).with_context(|| BASELINE.to_owned())?;
    Ok(map
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.as_f64()?)))
        .collect())
}

fn save(added: &Added) -> Result<()> {
    let map: Map<String, Value> = added
        .iter()
        .map(|(name, figure)| (name.clone(), Value::from(figure.round())))
        .collect();
    fs::write(BASELINE, serde_json::to_string_pretty(&map)? + "\n")
        .context("write the baseline")?;
    say(format!("bench: {BASELINE} holds the figures of this run"));
    Ok(())
}

const BASELINE: &str = "tests/vm/baseline.json";
/// Of guest time for one instruction.
const NANOSECONDS: f64 = 2.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_read() {
        let costs =
            read("noise\ncost nginx-base 100 40000\ncost nginx-traced 100 50000\ncost bad x 1\n");
        assert_eq!(costs.len(), 2);
        assert_eq!(costs["nginx-base"], 200.0);
    }

    #[test]
    fn the_gate_closes() {
        let figures = |figure: f64| Added::from([("6.1/nginx".to_owned(), figure)]);
        assert!(worse(&figures(109.0), &figures(100.0)).is_empty());
        assert_eq!(worse(&figures(111.0), &figures(100.0)).len(), 1);
        assert_eq!(worse(&figures(1.0), &Added::new()).len(), 1);
    }
}
