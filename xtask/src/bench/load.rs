//! Servers under load: in turns without the agent, with the agent tracing them, and with the agent
//! tracing another, live server meanwhile. First saturated, for CPU and throughput; then at half of
//! what it does without the agent, for latency. CPU is what the kernel charged to the server's
//! processes and to the agent; the load's own does not count.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;

use super::client::Pace;
use super::programs::{Counting, Runs};
use super::receiver::Receiver;
use super::server::{Kind, LARGE, SMALL, Server};
use super::table::{Table, machine, median};
use super::traced::Agent;
use crate::shell::{self, say};
use crate::{agent, toolchain};

/// Flags of the server benchmarks.
#[derive(Args)]
pub struct Load {
    /// Rounds; each runs every mode once.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each load of each mode of each round.
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// Requests at once: connections, where each carries one at a time.
    #[arg(long, default_value_t = 16)]
    connections: u32,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            rounds: 5,
            seconds: 3,
            connections: 16,
        }
    }
}

/// What the agent does meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Without,
    /// Without what links calls inside a process, and nothing is carried to other hosts.
    Unlinked,
    /// Nothing is carried to other hosts.
    Kept,
    /// As it is unless told otherwise.
    Traced,
    /// And a header is written, too.
    Header,
    Unselected,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Without => "no agent",
            Self::Unlinked => "traced, not linked inside, not carried on",
            Self::Kept => "traced, not carried on",
            Self::Traced => "traced",
            Self::Header => "traced, carried on by a header",
            Self::Unselected => "another is traced",
        }
    }

    /// What is measured of a server. Some are too slow to show what not being selected costs.
    fn of(kind: Kind) -> &'static [Self] {
        match kind {
            Kind::Node | Kind::Python => &[Self::Without, Self::Kept, Self::Traced],
            Kind::CallsGo => &[
                Self::Without,
                Self::Unlinked,
                Self::Kept,
                Self::Traced,
                Self::Header,
            ],
            Kind::CallsAsyncio | Kind::CallsNode | Kind::CallsJava => {
                &[Self::Without, Self::Unlinked, Self::Kept, Self::Traced]
            }
            Kind::Nginx => &[Self::Without, Self::Kept, Self::Traced, Self::Unselected],
            _ => &[Self::Without, Self::Traced, Self::Unselected],
        }
    }

    /// What an agent is told.
    fn words(self) -> &'static [&'static str] {
        match self {
            Self::Unlinked => &[
                "--propagation=off",
                "--link-goroutines=false",
                "--link-asyncio=false",
                "--link-node=false",
                "--link-jvm=false",
            ],
            Self::Kept => &["--propagation=off"],
            Self::Header => &["--propagation=header", "--header-to=127.0.0.0/8"],
            Self::Without | Self::Traced | Self::Unselected => &[],
        }
    }
}

/// One saturating load.
#[derive(Clone, Copy, Debug, Default)]
struct Saturated {
    /// Requests per second.
    rate: f64,
    /// CPU per request, microseconds.
    server: f64,
    agent: f64,
}

/// One mode of one round.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    small: Saturated,
    large: Option<Saturated>,
    /// Per request: hits of probes, microseconds in their programs, runs of all others, microseconds in those.
    programs: [f64; 4],
    /// Milliseconds, at half load.
    p50: f64,
    p99: f64,
    spans: f64,
    lost: f64,
}

/// What every sample of a benchmark shares.
struct Bench<'a> {
    load: &'a Load,
    spantap: &'a Path,
    server: Server,
    /// The one that is traced in the third mode.
    other: Server,
    receiver: Receiver,
    kind: Kind,
    /// Requests per second for latencies: the same in all modes and rounds.
    half: f64,
}

impl Load {
    /// Rounds of every mode, then the tables.
    pub fn go(&self, kind: Kind) -> Result<()> {
        toolchain::ensure()?;
        shell::install(&["wrk", "nghttp2-client"], "bench")?;
        let spantap = agent::build(true)?;
        let mut bench = Bench {
            load: self,
            spantap: &spantap,
            server: Server::start(kind)?,
            other: Server::start(Kind::Nginx)?,
            receiver: Receiver::start()?,
            kind,
            half: 0.0,
        };
        if kind.paced() {
            let most = bench.pace(f64::INFINITY).most(Duration::from_secs(2))?;
            let most = most.min(bench.saturated(kind.path(), None, 2)?.rate);
            bench.half = (most / 2.0).round();
        }
        let mut rounds: Vec<Vec<Sample>> = Vec::new();
        for round in 1..=self.rounds {
            let mut samples = Vec::new();
            for &mode in Mode::of(kind) {
                let sample = bench.sample(mode)?;
                say(format!(
                    "bench: round {round} of {}, {}, {}: {:.0} requests/s, {:.2} us each",
                    self.rounds,
                    kind.name(),
                    mode.name(),
                    sample.small.rate,
                    sample.small.server
                ));
                samples.push(sample);
            }
            rounds.push(samples);
        }
        for table in self.tables(kind, &rounds, bench.half) {
            table.keep()?;
        }
        Ok(())
    }

    /// The small body's, and that of the large one where there is one.
    fn tables(&self, kind: Kind, rounds: &[Vec<Sample>], half: f64) -> Vec<Table> {
        let name = format!("{kind:?}").to_lowercase();
        let conditions = format!(
            "{} requests at once, medians of {} rounds of {} s, {}",
            self.connections,
            self.rounds,
            self.seconds,
            machine()
        );
        let (head, more) = match kind.paced() {
            true => (LATENCY, latency(half)),
            false => (PROGRAMS, PROGRAMS_ARE.to_owned()),
        };
        let caption = format!(
            "{}: requests/s and CPU per request saturated by {}; {more}; {conditions}. Ratios are \
             medians of each round's own.",
            kind.name(),
            kind.load()
        );
        let head = [SATURATED, head, ENDED].concat();
        let mut tables = vec![Table {
            name: name.clone(),
            caption,
            rows: rows(kind, rounds, &head, |column| {
                let own = match kind.paced() {
                    true => column.latency(),
                    false => column.programs(),
                };
                [column.saturated(|s| s.small), own, column.ended()].concat()
            }),
        }];
        if kind == Kind::Nginx {
            let large = |sample: &Sample| sample.large.unwrap_or_default();
            tables.push(Table {
                name: format!("{name}-60k"),
                caption: format!("{name}, a file of 60 KiB, saturated by wrk; {conditions}."),
                rows: rows(kind, rounds, SATURATED, |column| column.saturated(large)),
            });
        }
        tables
    }
}

/// Most seconds to wait for a first span.
const WARM_UP: u32 = 20;

const SATURATED: &[&str] = &[
    "mode",
    "requests/s",
    "ratio",
    "server us",
    "added",
    "agent us",
];
const LATENCY: &[&str] = &["p50 ms", "p99 ms", "p99 ratio"];
const PROGRAMS: &[&str] = &["probe hits", "in probes us", "other runs", "in others us"];
const ENDED: &[&str] = &["spans", "lost"];

/// What the columns of latency are.
fn latency(half: f64) -> String {
    format!(
        "a body of 600 bytes; latency at a constant {half:.0} requests/s, half of what it does alone \
         for the client that keeps the pace"
    )
}

/// What those of programs are.
const PROGRAMS_ARE: &str = "hits of uprobes and runs of programs of sockets (all processes'), and \
                            time in both, per request by the kernel's own count in a second of its own";

/// A row for each mode.
fn rows(
    kind: Kind,
    rounds: &[Vec<Sample>],
    head: &[&str],
    row: impl Fn(Column<'_>) -> Vec<String>,
) -> Vec<Vec<String>> {
    let mut all = Table::head(head);
    for (mode, of) in Mode::of(kind).iter().enumerate() {
        let figures = row(Column { rounds, mode });
        all.push([vec![of.name().to_owned()], figures].concat());
    }
    all
}

/// The samples of one mode.
#[derive(Clone, Copy)]
struct Column<'a> {
    rounds: &'a [Vec<Sample>],
    mode: usize,
}

impl Column<'_> {
    fn saturated(self, of: impl Fn(&Sample) -> Saturated) -> Vec<String> {
        vec![
            format!("{:.0}", self.middle(|s| of(s).rate)),
            format!("{:.3}", self.ratio(|s| of(s).rate)),
            format!("{:.2}", self.middle(|s| of(s).server)),
            format!("{:+.1} %", (self.ratio(|s| of(s).server) - 1.0) * 100.0),
            format!("{:.2}", self.middle(|s| of(s).agent)),
        ]
    }

    fn latency(self) -> Vec<String> {
        vec![
            format!("{:.2}", self.middle(|s| s.p50)),
            format!("{:.2}", self.middle(|s| s.p99)),
            format!("{:.2}", self.ratio(|s| s.p99)),
        ]
    }

    fn programs(self) -> Vec<String> {
        let figure = |at: usize| format!("{:.2}", self.middle(|s| s.programs[at]));
        (0..4).map(figure).collect()
    }

    fn ended(self) -> Vec<String> {
        vec![
            format!("{:.0}", self.middle(|s| s.spans)),
            format!("{:.0}", self.middle(|s| s.lost)),
        ]
    }

    fn middle(self, figure: impl Fn(&Sample) -> f64) -> f64 {
        median(self.rounds.iter().map(|round| figure(&round[self.mode])))
    }

    /// To the same round's first mode.
    fn ratio(self, figure: impl Fn(&Sample) -> f64) -> f64 {
        let ratio = |round: &Vec<Sample>| figure(&round[self.mode]) / figure(&round[0]);
        median(self.rounds.iter().map(ratio))
    }
}

impl Bench<'_> {
    fn pace(&self, rate: f64) -> Pace<'_> {
        Pace {
            address: self.server.address,
            path: SMALL,
            rate,
            connections: self.load.connections,
        }
    }

    fn sample(&self, mode: Mode) -> Result<Sample> {
        let before = self.receiver.spans();
        let start = |server: &Server| {
            let mut arguments = server.selected();
            arguments.extend(mode.words().iter().map(|word| (*word).to_owned()));
            Agent::start(self.spantap, &arguments, &self.receiver.endpoint())
        };
        let agent = match mode {
            Mode::Without => None,
            Mode::Unselected => Some(start(&self.other)?),
            _ => Some(start(&self.server)?),
        };
        let stop = AtomicBool::new(false);
        // Somebody talks to the other server all the while, so that what is attached stays busy.
        let light = Pace {
            address: self.other.address,
            path: SMALL,
            rate: 20.0,
            connections: 1,
        };
        let mut sample = thread::scope(|scope| {
            let light = scope.spawn(|| light.run(Duration::from_secs(600), &stop).map(drop));
            let sample = self.loads(agent.as_ref());
            stop.store(true, Ordering::Relaxed);
            match light.join() {
                Ok(ended) => ended.and(sample),
                Err(_) => bail!("the light load's thread panicked"),
            }
        })?;
        if let Some(agent) = agent {
            let ended = agent.end()?;
            sample.spans = ended.spans as f64;
            sample.lost = ended.lost as f64;
            if self.receiver.spans() == before {
                bail!("{}: no span arrived: nothing was measured", mode.name());
            }
        }
        Ok(sample)
    }

    fn loads(&self, agent: Option<&Agent>) -> Result<Sample> {
        // Seconds to warm up, unmeasured: caches, and the agent's probes, late where much else is probed.
        let before = self.receiver.spans();
        for _ in 0..WARM_UP {
            let path = self.kind.path();
            self.server.saturate(path, self.load.connections, 1)?;
            if agent.is_none() || self.receiver.spans() > before {
                break;
            }
        }
        let small = self.saturated(self.kind.path(), agent, self.load.seconds)?;
        let large = match self.kind {
            Kind::Nginx => Some(self.saturated(LARGE, agent, self.load.seconds)?),
            _ => None,
        };
        if !self.kind.paced() {
            let programs = agent.map_or(Ok([0.0; 4]), |agent| self.programs(agent))?;
            return Ok(Sample {
                small,
                programs,
                ..Sample::default()
            });
        }
        let time = Duration::from_secs(self.load.seconds.into());
        let paced = self.pace(self.half).run(time, &AtomicBool::new(false))?;
        Ok(Sample {
            small,
            large,
            p50: paced.quantile(0.5),
            p99: paced.quantile(0.99),
            ..Sample::default()
        })
    }

    fn programs(&self, agent: &Agent) -> Result<[f64; 4]> {
        let _counting = Counting::begin()?;
        let before = agent.runs();
        let path = self.kind.path();
        let requests = self.server.saturate(path, self.load.connections, 1)?;
        let Runs { probes, others } = agent.runs().since(before);
        let [hits, inside] = probes;
        let [runs, beside] = others;
        Ok([hits, inside / 1000.0, runs, beside / 1000.0].map(|sum| sum / requests))
    }

    fn saturated(&self, path: &str, agent: Option<&Agent>, seconds: u32) -> Result<Saturated> {
        let used = || [self.server.cpu(), agent.map_or(0.0, Agent::cpu)];
        let before = used();
        let requests = self.server.saturate(path, self.load.connections, seconds)?;
        let after = used();
        Ok(Saturated {
            rate: requests / f64::from(seconds),
            server: (after[0] - before[0]) / requests,
            agent: (after[1] - before[1]) / requests,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_each_round() {
        let sample = |rate, p99| Sample {
            small: Saturated {
                rate,
                server: 1e6 / rate,
                agent: 1.0,
            },
            p99,
            ..Sample::default()
        };
        // The machine was twice as fast in the second round.
        let rounds = [
            vec![sample(100.0, 2.0), sample(50.0, 4.0), sample(40.0, 5.0)],
            vec![sample(200.0, 1.0), sample(100.0, 2.0), sample(80.0, 2.5)],
        ];
        let head = [SATURATED, LATENCY, ENDED].concat();
        let rows = rows(Kind::Node, &rounds, &head, |column| {
            [
                column.saturated(|s| s.small),
                column.latency(),
                column.ended(),
            ]
            .concat()
        });
        assert_eq!(rows.len(), 1 + Mode::of(Kind::Node).len());
        assert!(rows.iter().all(|row| row.len() == head.len()));
        assert_eq!(rows[1][2..5], ["1.000", "7500.00", "+0.0 %"]);
        assert_eq!(rows[2][2..5], ["0.500", "15000.00", "+100.0 %"]);
        assert_eq!(rows[2][8], "2.00");
        assert_eq!(rows[3][2..5], ["0.400", "18750.00", "+150.0 %"]);
    }
}
