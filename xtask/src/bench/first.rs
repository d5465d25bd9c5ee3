//! How long after its start the agent is ready, and the first span is there: printed, or arrived by
//! OTLP. nginx is asked 200 times a second all the while.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::client::Pace;
use super::receiver::Receiver;
use super::server::{Kind, SMALL, Server};
use super::table::{Table, machine, median};
use super::traced::{self, Agent};
use crate::{agent, shell, toolchain};

/// Flags of `cargo xtask bench first`.
#[derive(Args)]
pub struct First {
    /// Rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

impl Default for First {
    fn default() -> Self {
        Self { rounds: 5 }
    }
}

impl First {
    /// Starts agents, one after the other, and shows the times.
    pub fn go(&self) -> Result<()> {
        toolchain::ensure()?;
        let spantap = agent::build(true)?;
        let server = Server::start(Kind::Nginx)?;
        let stop = AtomicBool::new(false);
        let pace = Pace {
            address: server.address,
            path: SMALL,
            rate: 200.0,
            connections: 4,
        };
        let rounds = thread::scope(|scope| {
            let load = scope.spawn(|| pace.run(Duration::from_secs(600), &stop).map(drop));
            let rounds = self.rounds(&spantap, &server);
            stop.store(true, Ordering::Relaxed);
            match load.join() {
                Ok(ended) => ended.and(rounds),
                Err(_) => bail!("the load's thread panicked"),
            }
        })?;
        let mut rows = Table::head(&["", "median ms", "longest ms"]);
        for (at, name) in ["ready", "first span printed", "first span by OTLP"]
            .iter()
            .enumerate()
        {
            let times = || rounds.iter().map(|times| times[at].as_secs_f64() * 1000.0);
            rows.push(vec![
                (*name).to_owned(),
                format!("{:.0}", median(times())),
                format!("{:.0}", times().fold(0.0, f64::max)),
            ]);
        }
        Table {
            name: "first".to_owned(),
            caption: format!(
                "From the agent's start, beside nginx at 200 requests/s; {} rounds, {}.",
                self.rounds,
                machine()
            ),
            rows,
        }
        .keep()
    }

    fn rounds(&self, spantap: &Path, server: &Server) -> Result<Vec<[Duration; 3]>> {
        let receiver = Receiver::start()?;
        let round = |_| -> Result<[Duration; 3]> {
            let before = receiver.spans();
            let agent = Agent::start(spantap, &server.selected(), &receiver.endpoint())?;
            receiver
                .more(before, Duration::from_secs(30))
                .context("no span arrived within 30 s")?;
            let (ready, sent) = (agent.ready, agent.age());
            agent.end()?;
            Ok([ready, printed(spantap, server)?, sent])
        };
        (0..self.rounds).map(round).collect()
    }
}

/// To the first line of JSON.
fn printed(spantap: &Path, server: &Server) -> Result<Duration> {
    let mut command = shell::tied(spantap, false)?;
    command
        .args(["agent", "--export", "json"])
        .args(server.selected())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let begun = Instant::now();
    let mut child = command.spawn().context("start the agent")?;
    let output = child.stdout.take().context("the agent's standard output")?;
    let first = BufReader::new(output).lines().next();
    let time = begun.elapsed();
    traced::end(&mut child);
    match first {
        Some(Ok(line)) if line.starts_with('{') => Ok(time),
        other => bail!("not a span: {other:?}"),
    }
}
