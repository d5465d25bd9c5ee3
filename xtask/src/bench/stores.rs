//! Stores and a broker, saturated by the loads that come with them, without the agent and with it in
//! turns: what is left of the throughput, what it costs, and whether all exchanges became spans. The
//! servers are those of the live tests, as those get them.

mod servers;

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;

use super::receiver::Receiver;
use super::table::{Table, machine, median};
use super::traced::{Agent, Ended};
use crate::shell::say;
use crate::{agent, toolchain};
use servers::{Servers, cpu};

/// Flags of `cargo xtask bench stores`.
#[derive(Args)]
pub struct Stores {
    /// Only the loads whose names contain one of these; the tables are shown then, and not kept.
    names: Vec<String>,
    /// Rounds; each runs every load without the agent and with it.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each load.
    #[arg(long, default_value_t = 2)]
    seconds: u32,
}

impl Default for Stores {
    fn default() -> Self {
        Self {
            names: Vec::new(),
            rounds: 5,
            seconds: 2,
        }
    }
}

/// What is done to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    Pgbench { select: bool, unix: bool },
    Redis { pipeline: u32 },
    Kafka,
    Copy,
}

const LOADS: [Load; 8] = [
    pgbench(true, false),
    pgbench(true, true),
    pgbench(false, false),
    pgbench(false, true),
    Load::Redis { pipeline: 16 },
    Load::Redis { pipeline: 1 },
    Load::Kafka,
    Load::Copy,
];

const fn pgbench(select: bool, unix: bool) -> Load {
    Load::Pgbench { select, unix }
}

impl Load {
    fn name(self) -> &'static str {
        match self {
            Self::Pgbench { select, unix } => match (select, unix) {
                (true, false) => "pgbench -S, TCP",
                (true, true) => "pgbench -S, unix socket",
                (false, false) => "pgbench, TCP",
                (false, true) => "pgbench, unix socket",
            },
            Self::Redis { pipeline: 1 } => "redis-benchmark",
            Self::Redis { .. } => "redis-benchmark -P 16",
            Self::Kafka => "Kafka producer",
            Self::Copy => "COPY of 1 GiB",
        }
    }

    /// The least ratio that is aimed at.
    fn aim(self) -> f64 {
        match self {
            Self::Redis { pipeline: 1 } => 0.85,
            _ => 0.93,
        }
    }
}

/// One load, with the agent or without it.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    rate: f64,
    /// CPU of what is traced, for each of what is counted, microseconds.
    traced: f64,
    /// CPU of the agent, microseconds, and the exchanges that it is spent on.
    agent: f64,
    exchanges: f64,
    ended: Ended,
}

/// The samples of one load: without and with the agent, of each round.
type Pairs = Vec<[Sample; 2]>;

impl Stores {
    /// Rounds of all loads, then the tables.
    pub fn go(&self) -> Result<()> {
        toolchain::ensure()?;
        let spantap = agent::build(true)?;
        let chosen = |load: &Load| {
            let is = |name: &String| load.name().to_lowercase().contains(&name.to_lowercase());
            self.names.is_empty() || self.names.iter().any(is)
        };
        let loads: Vec<Load> = LOADS.into_iter().filter(chosen).collect();
        if loads.is_empty() {
            let all: Vec<&str> = LOADS.iter().map(|load| load.name()).collect();
            bail!("no such load; there are: {}", all.join("; "));
        }
        let mut servers = Servers::start(&loads)?;
        let receiver = Receiver::start()?;
        let mut all: Vec<(Load, Pairs)> = loads.iter().map(|load| (*load, Vec::new())).collect();
        for round in 0..self.rounds {
            for (load, pairs) in &mut all {
                let mut pair = [Sample::default(); 2];
                // Either goes first in turns, so that what the first leaves behind is no cost.
                for at in [round % 2, 1 - round % 2] {
                    let spantap = (at == 1).then_some(&*spantap);
                    pair[at] = self.sample(*load, spantap, &mut servers, &receiver)?;
                }
                say(format!(
                    "bench: round {} of {}, {}: {:.0} per second, {:.0} traced, {} of {:.0} spans",
                    round + 1,
                    self.rounds,
                    load.name(),
                    pair[0].rate,
                    pair[1].rate,
                    pair[1].ended.spans,
                    pair[1].exchanges
                ));
                pairs.push(pair);
            }
        }
        for table in [self.table(&all), self.copies(&all)] {
            match self.names.is_empty() {
                true => table.keep()?,
                false => table.show(),
            }
        }
        Ok(())
    }

    fn sample(
        &self,
        load: Load,
        spantap: Option<&Path>,
        servers: &mut Servers,
        receiver: &Receiver,
    ) -> Result<Sample> {
        let pids = servers.traced(load)?;
        let selected: Vec<String> = pids
            .iter()
            .flat_map(|pid| ["--pid".to_owned(), pid.to_string()])
            .collect();
        let agent = spantap
            .map(|spantap| Agent::start(spantap, &selected, &receiver.endpoint()))
            .transpose()?;
        let used = || [cpu(&pids), agent.as_ref().map_or(0.0, Agent::cpu)];
        let before = used();
        let ran = servers.run(load, self.seconds)?;
        if agent.is_some() {
            // What is under way leaves within a second, and is paid for.
            thread::sleep(Duration::from_millis(1200));
        }
        let after = used();
        let ended = agent.map(Agent::end).transpose()?.unwrap_or_default();
        if spantap.is_some() && ended.spans == 0 {
            bail!("{}: no span: nothing was measured", load.name());
        }
        Ok(Sample {
            rate: ran.rate,
            traced: (after[0] - before[0]) / ran.count,
            agent: after[1] - before[1],
            exchanges: ran.exchanges,
            ended,
        })
    }

    fn table(&self, all: &[(Load, Pairs)]) -> Table {
        let mut rows = Table::head(&[
            "load",
            "per second",
            "traced",
            "ratio",
            "aim",
            "CPU us",
            "added",
            "agent us",
            "exchanges",
            "spans",
            "lost",
        ]);
        for (load, pairs) in all {
            if *load == Load::Copy {
                continue;
            }
            let middle = |figure: fn(&[Sample; 2]) -> f64| median(pairs.iter().map(figure));
            let added = middle(|[a, b]| b.traced / a.traced - 1.0);
            rows.push(vec![
                load.name().to_owned(),
                format!("{:.0}", middle(|[a, _]| a.rate)),
                format!("{:.0}", middle(|[_, b]| b.rate)),
                format!("{:.3}", middle(|[a, b]| b.rate / a.rate)),
                format!("{:.2}", load.aim()),
                format!("{:.2}", middle(|[a, _]| a.traced)),
                format!("{:+.1} %", added * 100.0),
                format!("{:.2}", middle(|[_, b]| b.agent / b.exchanges)),
                format!("{:.0}", middle(|[_, b]| b.exchanges)),
                format!("{:.0}", middle(|[_, b]| b.ended.spans as f64)),
                format!("{:.0}", middle(|[_, b]| b.ended.lost as f64)),
            ]);
        }
        let caption = format!(
            "Transactions of pgbench (4 clients; without -S, each has seven statements), commands of \
             redis-benchmark (SET of 100 bytes, 8 clients), records of 1000 bytes by a Java producer; \
             the servers are traced, of Kafka the producer too. CPU us: of what is traced, for each of \
             those; agent us: for each exchange. Exchanges, of them spans, and what the agent counts \
             as lost: of one load. Medians of {} rounds of {} s, {}. Ratios are medians of each \
             round's own.",
            self.rounds,
            self.seconds,
            machine()
        );
        Table {
            name: "stores".to_owned(),
            caption,
            rows,
        }
    }

    fn copies(&self, all: &[(Load, Pairs)]) -> Table {
        let mut rows = Table::head(&["", "figure"]);
        let pairs = all.iter().find(|(load, _)| *load == Load::Copy);
        if let Some((_, pairs)) = pairs {
            let middle = |figure: fn(&[Sample; 2]) -> f64| median(pairs.iter().map(figure));
            let figures = [
                ("seconds, no agent", middle(|[a, _]| 1024.0 / a.rate)),
                ("seconds, traced", middle(|[_, b]| 1024.0 / b.rate)),
                ("ratio of the rates", middle(|[a, b]| b.rate / a.rate)),
                ("CPU of the server, s", middle(|[a, _]| a.traced / 1e6)),
                ("the same, traced", middle(|[_, b]| b.traced / 1e6)),
                ("CPU of the agent, s", middle(|[_, b]| b.agent / 1e6)),
                (
                    "MiB the agent was given",
                    middle(|[_, b]| b.ended.bytes as f64 / MIB),
                ),
                ("records", middle(|[_, b]| b.ended.records as f64)),
                ("lost", middle(|[_, b]| b.ended.lost as f64)),
            ];
            rows.extend(figures.map(|(name, figure)| {
                let digits = if figure.fract() == 0.0 { 0 } else { 3 };
                vec![name.to_owned(), format!("{figure:.digits$}")]
            }));
        }
        let caption = format!(
            "`COPY … TO STDOUT` of 1 GiB to psql over TCP, the server traced; medians of {} rounds, {}.",
            self.rounds,
            machine()
        );
        Table {
            name: "copy".to_owned(),
            caption,
            rows,
        }
    }
}

const MIB: f64 = 1024.0 * 1024.0;
