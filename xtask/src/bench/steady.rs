//! The agent at a constant 10,000 exchanges a second: its CPU, its memory, what it loses, and what
//! it does to latency. nginx is asked by a client of our own that keeps the pace; the agent sees the
//! server's end alone, or both ends, which are twice as many exchanges.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::client::Pace;
use super::receiver::Receiver;
use super::server::{Kind, SMALL, Server};
use super::table::{Table, machine, median};
use super::traced::Agent;
use crate::shell::say;
use crate::{agent, toolchain};

/// Flags of `cargo xtask bench steady`.
#[derive(Args)]
pub struct Steady {
    /// Rounds; each runs every mode once.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of load for each mode of each round.
    #[arg(long, default_value_t = 8)]
    seconds: u32,
    /// Requests per second.
    #[arg(long, default_value_t = 10_000.0)]
    rate: f64,
}

impl Default for Steady {
    fn default() -> Self {
        Self {
            rounds: 3,
            seconds: 8,
            rate: 10_000.0,
        }
    }
}

/// What is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Nothing,
    Server,
    Both,
}

const MODES: [(Mode, &str); 3] = [
    (Mode::Nothing, "no agent"),
    (Mode::Server, "server traced"),
    (Mode::Both, "both ends traced"),
];

/// One mode of one round.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    /// Of requests, per second.
    rate: f64,
    /// CPU per request, and the agent's per span, microseconds.
    server: f64,
    agent: f64,
    /// Of all CPUs.
    share: f64,
    /// MiB: when it was ready, at the end of the load, the most ever.
    memory: [f64; 3],
    spans: f64,
    missing: f64,
    lost: f64,
    p99: f64,
}

impl Steady {
    /// Rounds of every mode, then the table.
    pub fn go(&self) -> Result<()> {
        toolchain::ensure()?;
        let spantap = agent::build(true)?;
        let server = Server::start(Kind::Nginx)?;
        let receiver = Receiver::start()?;
        let mut samples: [Vec<Sample>; MODES.len()] = Default::default();
        for round in 1..=self.rounds {
            for ((mode, name), samples) in MODES.iter().zip(&mut samples) {
                let sample = self.sample(*mode, &server, &receiver, &spantap)?;
                say(format!(
                    "bench: round {round} of {}, {name}: {:.0} requests/s, {:.0} spans",
                    self.rounds, sample.rate, sample.spans
                ));
                samples.push(sample);
            }
        }
        self.table(&samples).keep()
    }

    fn sample(
        &self,
        mode: Mode,
        server: &Server,
        receiver: &Receiver,
        spantap: &Path,
    ) -> Result<Sample> {
        let port = server.address.port().to_string();
        let arguments = match mode {
            Mode::Nothing => None,
            Mode::Server => Some(server.selected()),
            Mode::Both => Some(vec!["--port".to_owned(), port]),
        };
        let agent = arguments
            .map(|arguments| Agent::start(spantap, &arguments, &receiver.endpoint()))
            .transpose()?;
        let ready = agent.as_ref().map_or(f64::NAN, |agent| agent.memory().1);
        let pace = Pace {
            address: server.address,
            path: SMALL,
            rate: self.rate,
            connections: 16,
        };
        let time = Duration::from_secs(self.seconds.into());
        let used = || [server.cpu(), agent.as_ref().map_or(0.0, Agent::cpu)];
        let (spans, before) = (receiver.spans(), used());
        let paced = pace.run(time, &AtomicBool::new(false))?;
        // What is under way leaves within a second, and is paid for.
        thread::sleep(Duration::from_millis(1200));
        let after = used();
        let (rss, peak) = agent.as_ref().map_or((f64::NAN, f64::NAN), Agent::memory);
        let ended = agent.map(Agent::end).transpose()?.unwrap_or_default();
        let spans = (receiver.spans() - spans) as f64;
        let ends = match mode {
            Mode::Nothing => 0.0,
            Mode::Server => 1.0,
            Mode::Both => 2.0,
        };
        let cpus = thread::available_parallelism().map_or(1, usize::from) as f64;
        Ok(Sample {
            rate: paced.count() / time.as_secs_f64(),
            server: (after[0] - before[0]) / paced.count(),
            agent: (after[1] - before[1]) / spans,
            share: (after[1] - before[1]) / 1e6 / time.as_secs_f64() / cpus,
            memory: [ready, rss, peak],
            spans,
            missing: paced.count() * ends - spans,
            lost: ended.lost as f64,
            p99: paced.quantile(0.99),
        })
    }

    fn table(&self, samples: &[Vec<Sample>]) -> Table {
        let mut rows = Table::head(&[
            "mode",
            "requests/s",
            "server us",
            "p99 ms",
            "spans",
            "missing",
            "lost",
            "agent us/span",
            "of all CPUs",
            "MiB ready",
            "MiB after",
            "MiB most",
        ]);
        for ((mode, name), samples) in MODES.iter().zip(samples) {
            let middle = |figure: fn(&Sample) -> f64| median(samples.iter().map(figure));
            let mut row = vec![
                (*name).to_owned(),
                format!("{:.0}", middle(|s| s.rate)),
                format!("{:.2}", middle(|s| s.server)),
                format!("{:.2}", middle(|s| s.p99)),
            ];
            if *mode == Mode::Nothing {
                row.extend((0..8).map(|_| "–".to_owned()));
            } else {
                row.extend([
                    format!("{:.0}", middle(|s| s.spans)),
                    format!("{:.0}", middle(|s| s.missing)),
                    format!("{:.0}", middle(|s| s.lost)),
                    format!("{:.2}", middle(|s| s.agent)),
                    format!("{:.1} %", middle(|s| s.share) * 100.0),
                    format!("{:.1}", middle(|s| s.memory[0])),
                    format!("{:.1}", middle(|s| s.memory[1])),
                    format!("{:.1}", middle(|s| s.memory[2])),
                ]);
            }
            rows.push(row);
        }
        let caption = format!(
            "nginx at a constant {:.0} requests/s on 16 connections, spans sent by OTLP over HTTP; \
             medians of {} rounds of {} s, {}. Missing: spans that did not arrive, of which the agent \
             counts as lost those it knows of. Memory: the most until it was ready, resident at the \
             end of the load, the most at all.",
            self.rate,
            self.rounds,
            self.seconds,
            machine()
        );
        Table {
            name: "steady".to_owned(),
            caption,
            rows,
        }
    }
}
