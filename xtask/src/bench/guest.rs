//! Instructions per request and per program, counted in guests, and the gate on them.
//!
//! tests/vm/cost.sh measures in a guest whose clock counts instructions (two nanoseconds each) and
//! prints `cost NAME REQUESTS all=NS server=NS agent=NS` for each server without the agent
//! (`nginx-base`) and with it (`nginx-traced`). What a request costs more is held against
//! tests/vm/baseline.json, and so is what the verifier walks through in each program: both depend
//! on this repository and the guests alone, however busy or slow the machine is.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::table::Table;
use crate::check::Count;
use crate::shell::{self, say};
use crate::vm::{self, Guest};
use crate::{agent, toolchain};

/// Flags of `cargo xtask bench vm`.
#[derive(Args)]
pub struct Gate {
    /// Kernels to measure on.
    #[arg(short, long, value_delimiter = ',', default_values = COUNTED)]
    kernels: Vec<String>,
    /// Make the figures of this run the baseline.
    #[arg(long)]
    save: bool,
}

impl Gate {
    /// Of both paths.
    pub fn all() -> Self {
        Self {
            kernels: COUNTED.iter().map(|&kernel| kernel.to_owned()).collect(),
            save: false,
        }
    }

    /// Measures, keeps the tables, and holds against the baseline or makes it.
    pub fn go(&self) -> Result<()> {
        toolchain::ensure()?;
        let guests = self.measure()?;
        requests(&guests).keep()?;
        programs(&guests).keep()?;
        let figures = figures(&guests);
        if self.save {
            return save(&figures, &self.kernels);
        }
        hold(&figures).map(drop)
    }

    /// The same as one of the checks: nothing is written.
    pub fn check(&self) -> Result<Count> {
        let guests = self.measure()?;
        requests(&guests).show();
        programs(&guests).show();
        let passed = hold(&figures(&guests))?;
        Ok(Count {
            passed,
            ..Count::default()
        })
    }

    fn measure(&self) -> Result<Vec<Measured>> {
        shell::install(&["nginx-light", "apache2-utils"], "bench")?;
        let spantap = agent::build(true)?.display().to_string();
        let kernels: Vec<&str> = self.kernels.iter().map(String::as_str).collect();
        let measured = vm::on_each(&kernels, |kernel| Measured::on(kernel, &spantap))?;
        measured.into_iter().collect()
    }
}

/// What was counted on one kernel.
struct Measured {
    kernel: String,
    /// By what was measured: `nginx-base`.
    costs: BTreeMap<String, Cost>,
    /// Instructions by `path/program`.
    programs: BTreeMap<String, f64>,
}

impl Measured {
    fn on(kernel: &str, spantap: &str) -> Result<Self> {
        let mut guest = Guest::new(kernel);
        guest.icount = true;
        guest.limit = Duration::from_secs(1500);
        guest.env = vec![("SPANTAP_BIN".to_owned(), spantap.to_owned())];
        guest.shown = false;
        let ended = guest
            .run(&format!("{}; exec bash tests/vm/cost.sh", vm::DOCTOR))
            .with_context(|| format!("measure on {kernel}"))?;
        let (report, said) = vm::examined(&ended.output)?;
        if ended.code != 0 {
            bail!(
                "tests/vm/cost.sh exited with {} on {kernel}: {said}",
                ended.code
            );
        }
        say(format!(
            "bench: {kernel}: counted in {:.0} s",
            ended.time.as_secs_f64()
        ));
        Ok(Self {
            kernel: kernel.to_owned(),
            costs: read(said),
            programs: report.programs(),
        })
    }

    /// Every server that was measured both ways: name, alone, traced.
    fn servers(&self) -> impl Iterator<Item = (&str, &Cost, &Cost)> {
        self.costs.iter().filter_map(|(name, alone)| {
            let server = name.strip_suffix("-base")?;
            Some((server, alone, self.costs.get(&format!("{server}-traced"))?))
        })
    }
}

/// Instructions per request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Cost {
    all: f64,
    server: f64,
    agent: f64,
}

/// The lines of tests/vm/cost.sh.
fn read(output: &str) -> BTreeMap<String, Cost> {
    let line = |line: &str| {
        let mut words = line.strip_prefix("cost ")?.split_whitespace();
        let name = words.next()?.to_owned();
        let requests: f64 = words.next()?.parse().ok()?;
        let mut cost = Cost::default();
        for word in words {
            let (of, time) = word.split_once('=')?;
            let count = time.parse::<f64>().ok()? / NANOSECONDS / requests;
            match of {
                "all" => cost.all = count,
                "server" => cost.server = count,
                "agent" => cost.agent = count,
                _ => return None,
            }
        }
        Some((name, cost))
    };
    output.lines().filter_map(line).collect()
}

/// Where a request's instructions go. What is added besides the agent's own is the kernel side, at
/// work inside the calls of client and server, and what it costs to switch to the agent and back.
fn requests(guests: &[Measured]) -> Table {
    let mut rows = Table::head(&[
        "kernel, server",
        "alone",
        "of it server",
        "traced",
        "added",
        "of it agent",
        "of it kernel side",
    ]);
    for guest in guests {
        for (server, alone, traced) in guest.servers() {
            let added = traced.all - alone.all;
            let figures = [
                alone.all,
                alone.server,
                traced.all,
                added,
                traced.agent,
                added - traced.agent,
            ];
            let figures = figures.iter().map(|figure| format!("{figure:.0}"));
            let name = format!("{}, {server}", guest.kernel);
            rows.push(std::iter::once(name).chain(figures).collect());
        }
    }
    Table {
        name: "vm".to_owned(),
        caption: "Instructions per request in a guest with one CPU: client, server and agent \
                  together; one keep-alive connection (nginx), one connection a request (python)."
            .to_owned(),
        rows,
    }
}

/// What each program costs the verifier, by kernel.
fn programs(guests: &[Measured]) -> Table {
    let kernels: Vec<&str> = guests.iter().map(|guest| guest.kernel.as_str()).collect();
    let mut rows = Table::head(&[&["program"], kernels.as_slice()].concat());
    let names: std::collections::BTreeSet<&String> = guests
        .iter()
        .flat_map(|guest| guest.programs.keys())
        .collect();
    for name in names {
        let figures = guests.iter().map(|guest| match guest.programs.get(name) {
            Some(count) => format!("{count:.0}"),
            None => "–".to_owned(),
        });
        rows.push(std::iter::once(name.clone()).chain(figures).collect());
    }
    Table {
        name: "programs".to_owned(),
        caption:
            "Instructions of the loaded programs: those the verifier walks through (its limit is \
                  1,000,000), or before Linux 5.16, which does not tell, the program's own."
                .to_owned(),
        rows,
    }
}

/// By `kernel/added/server` and `kernel/path/program`.
type Figures = BTreeMap<String, f64>;

fn figures(guests: &[Measured]) -> Figures {
    let mut figures = Figures::new();
    for guest in guests {
        let kernel = &guest.kernel;
        for (server, alone, traced) in guest.servers() {
            figures.insert(format!("{kernel}/added/{server}"), traced.all - alone.all);
        }
        for (name, count) in &guest.programs {
            figures.insert(format!("{kernel}/{name}"), *count);
        }
    }
    figures
}

/// Fails where anything is worse than the baseline; how many figures were compared.
fn hold(figures: &Figures) -> Result<usize> {
    if !figures.keys().any(|name| name.contains("/added/")) {
        bail!("tests/vm/cost.sh measured nothing");
    }
    let baseline = baseline()?;
    let (worse, better) = compare(figures, &baseline);
    for line in &better {
        say(format!("bench: better than the baseline: {line}"));
    }
    if !worse.is_empty() {
        bail!(
            "over {TOLERANCE} % above {BASELINE}:\n  {}\nif that is worth its cost, `cargo xtask \
             bench vm --save` renews the baseline; the commit says why",
            worse.join("\n  ")
        );
    }
    say(format!(
        "bench: none of {} figures is over {TOLERANCE} % above the baseline",
        figures.len()
    ));
    Ok(figures.len())
}

/// What costs more than it did by over the tolerance, and what less. A figure that the baseline
/// lacks is worse than any.
fn compare(figures: &Figures, baseline: &Figures) -> (Vec<String>, Vec<String>) {
    let (mut worse, mut better) = (Vec::new(), Vec::new());
    for (name, now) in figures {
        let Some(before) = baseline.get(name) else {
            worse.push(format!("{name}: {now:.0}, not in the baseline"));
            continue;
        };
        let line = format!(
            "{name}: {now:.0}, was {before:.0} ({:+.1} %)",
            (now / before - 1.0) * 100.0
        );
        let slack = before * TOLERANCE / 100.0 + SLACK;
        if *now > before + slack {
            worse.push(line);
        } else if *now < before - slack {
            better.push(line);
        }
    }
    (worse, better)
}

fn baseline() -> Result<Figures> {
    let text = fs::read_to_string(BASELINE)
        .with_context(|| format!("read {BASELINE}: `cargo xtask bench vm --save` makes it"))?;
    serde_json::from_str(&text).context(BASELINE)
}

/// Writes the figures of these kernels; those of other kernels stay.
fn save(figures: &Figures, kernels: &[String]) -> Result<()> {
    let mut all = match fs::exists(BASELINE)? {
        true => baseline()?,
        false => Figures::new(),
    };
    all.retain(|name, _| {
        !kernels
            .iter()
            .any(|kernel| name.starts_with(&format!("{kernel}/")))
    });
    all.extend(
        figures
            .iter()
            .map(|(name, figure)| (name.clone(), figure.round())),
    );
    fs::write(BASELINE, serde_json::to_string_pretty(&all)? + "\n")
        .context("write the baseline")?;
    say(format!("bench: {BASELINE} holds the figures of this run"));
    Ok(())
}

/// One kernel for each path. 5.10's verifier takes longer than all the rest of the measurement.
const COUNTED: &[&str] = &["6.1", "6.12"];
const BASELINE: &str = "tests/vm/baseline.json";
/// Percent: the counts repeat within two or three.
const TOLERANCE: f64 = 10.0;
/// Instructions that the smallest program may grow by at another compiler's or kernel's whim.
const SLACK: f64 = 300.0;
/// Of guest time for one instruction.
const NANOSECONDS: f64 = 2.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_read() {
        let costs = read(
            "noise\ncost nginx-base 100 all=40000 server=20000\n\
             cost nginx-traced 100 all=50000 server=22000 agent=6000\ncost bad x all=1\n",
        );
        assert_eq!(costs.len(), 2);
        let want = Cost {
            all: 250.0,
            server: 110.0,
            agent: 30.0,
        };
        assert_eq!(costs["nginx-traced"], want);
        let guest = Measured {
            kernel: "6.1".to_owned(),
            costs,
            programs: BTreeMap::from([("syscall-path/returned".to_owned(), 900.0)]),
        };
        let figures = figures(&[guest]);
        assert_eq!(figures["6.1/added/nginx"], 50.0);
        assert_eq!(figures["6.1/syscall-path/returned"], 900.0);
    }

    #[test]
    fn the_gate_closes() {
        let figures = |figure: f64| Figures::from([("6.1/added/nginx".to_owned(), figure)]);
        let judge = |now, before| {
            let (worse, better) = compare(&figures(now), &before);
            (worse.len(), better.len())
        };
        assert_eq!(judge(11_200.0, figures(10_000.0)), (0, 0));
        assert_eq!(judge(11_400.0, figures(10_000.0)), (1, 0));
        assert_eq!(judge(8_600.0, figures(10_000.0)), (0, 1));
        assert_eq!(judge(390.0, figures(100.0)), (0, 0));
        assert_eq!(judge(1.0, Figures::new()), (1, 0));
    }
}
