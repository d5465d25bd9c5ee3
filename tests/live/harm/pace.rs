//! How much later responses come.

use anyhow::{Context as _, Result};
use spantap_tests::process::in_guest;
use spantap_tests::{Stage, agent};

use super::ground::Ground;
use super::{Mode, some, with_agent};

/// Keep-alive requests to nginx with an agent and without one, in turns: the machine is as busy for the one as
/// for the other, and what one turn came to by chance the others make up for. Where so many were not enough for
/// that there are more.
pub fn latency(stage: &mut Stage, mode: Mode) -> Result<()> {
    let ground = Ground::start(stage, mode)?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let (turns, most) = match in_guest() {
        // An emulated processor is so many times slower.
        true => (3, 20 * MOST),
        false => (5, MOST),
    };
    let mut later = 0;
    for turn in 1..=3 * turns {
        without.push(Pace::of(&ground)?);
        let agent = with_agent(stage, mode, &ground.ports(), &format!("agent-{turn}"))?;
        with.push(Pace::of(&ground)?);
        agent.kill()?;
        let [less, more] = [&without, &with].map(|all| median(all, |pace| pace.p999));
        later = more.saturating_sub(less);
        if turn >= turns && later <= most {
            break;
        }
    }
    let figures: [(&str, fn(&Pace) -> u64); 2] =
        [("p50", |pace| pace.p50), ("p99.9", |pace| pace.p999)];
    for (name, figure) in figures {
        for (who, all) in [("without", &without), ("with", &with)] {
            let micros = usize::try_from(median(all, figure) / 1000)?;
            stage.count(&format!("{name} us {who}"), micros);
        }
    }
    stage.check(later <= most || agent::dry(), || {
        format!("{} µs later at the 99.9th percentile", later / 1000)
    });
    Ok(())
}

/// Nanoseconds.
const MOST: u64 = 5_000_000;

struct Pace {
    p50: u64,
    p999: u64,
}

impl Pace {
    fn of(ground: &Ground) -> Result<Self> {
        let told = ground.client(&["pace", &ground.at_proxy(), &some(8000)])?;
        let of = |name: &str| -> Result<u64> {
            let mut lines = told.lines().filter_map(|line| line.split_once(' '));
            let line = lines.find(|(key, _)| *key == name);
            Ok(line.with_context(|| told.clone())?.1.parse()?)
        };
        Ok(Self {
            p50: of("p50")?,
            p999: of("p99.9")?,
        })
    }
}

fn median(all: &[Pace], figure: impl Fn(&Pace) -> u64) -> u64 {
    let mut all: Vec<u64> = all.iter().map(figure).collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or_default()
}
