//! One SSL_write and SSL_read: what they cost alone and traced, and what a probe without any work
//! costs on the same machine. tests/apps/tls/pair.c does both, in one thread, by its own CPU time.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::programs::{Counting, Runs};
use super::receiver::Receiver;
use super::server::{self, Kind, Server};
use super::table::{Table, machine, median};
use super::traced::{self, Agent};
use crate::shell::{self, say};
use crate::{agent, check, toolchain};

/// Flags of `cargo xtask bench probe`.
#[derive(Args)]
pub struct Pairs {
    /// Rounds; each runs every mode once.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Pairs of each mode of each round.
    #[arg(long, default_value_t = 20_000)]
    count: u32,
}

impl Default for Pairs {
    fn default() -> Self {
        Self {
            rounds: 7,
            count: 20_000,
        }
    }
}

/// One round, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    /// A pair: no agent, traced, another is traced.
    pairs: [f64; 3],
    /// A bare hit at an instruction that is emulated, and at one that is single-stepped.
    bare: [f64; 2],
    /// Of a pair: hits, time in probes' programs, time in others.
    programs: [f64; 3],
}

impl Pairs {
    /// Rounds of every mode, then the table.
    pub fn go(&self) -> Result<()> {
        toolchain::ensure()?;
        let spantap = agent::build(true)?;
        let other = Server::start(Kind::Tls)?;
        let receiver = Receiver::start()?;
        let mut program = Program::start()?;
        let mut rounds = Vec::new();
        for number in 1..=self.rounds {
            let round = self.round(&mut program, &spantap, &other, &receiver)?;
            say(format!(
                "bench: round {number} of {}: {:.0} ns alone, {:.0} ns traced",
                self.rounds, round.pairs[0], round.pairs[1]
            ));
            rounds.push(round);
        }
        self.table(&rounds).keep()
    }

    fn round(
        &self,
        program: &mut Program,
        spantap: &Path,
        other: &Server,
        receiver: &Receiver,
    ) -> Result<Round> {
        let mut round = Round::default();
        program.ask("pairs", self.count)?;
        round.pairs[0] = program.ask("pairs", self.count)?;
        let pid = program.child.id();
        let selected = ["--pid".to_owned(), pid.to_string()];
        let agent = Agent::start(spantap, &selected, &receiver.endpoint())?;
        program.ask("pairs", self.count / 10)?;
        round.pairs[1] = program.ask("pairs", self.count)?;
        let counting = Counting::begin()?;
        let before = agent.runs();
        program.ask("pairs", self.count)?;
        let Runs { probes, others } = agent.runs().since(before);
        drop(counting);
        if agent.end()?.spans == 0 {
            bail!("no span of the pairs: nothing was measured");
        }
        let count = f64::from(self.count);
        round.programs = [probes[0], probes[1], others[1]].map(|sum| sum / count);
        let agent = Agent::start(spantap, &other.selected(), &receiver.endpoint())?;
        round.pairs[2] = program.ask("pairs", self.count)?;
        agent.end()?;
        let none = program.ask("none", self.count)?;
        round.bare = [
            program.ask("emulated", self.count)? - none,
            program.ask("stepped", self.count)? - none,
        ];
        Ok(round)
    }

    fn table(&self, rounds: &[Round]) -> Table {
        let middle = |figure: &dyn Fn(&Round) -> f64| median(rounds.iter().map(figure));
        let mut rows = Table::head(&["", "ns"]);
        let mut row = |what: &str, figure: &dyn Fn(&Round) -> f64| {
            rows.push(vec![what.to_owned(), format!("{:.0}", middle(figure))]);
        };
        let added = |r: &Round| r.pairs[1] - r.pairs[0];
        row("SSL_write and SSL_read, no agent", &|r| r.pairs[0]);
        row("the same, traced", &|r| r.pairs[1]);
        row("the same, another is traced", &|r| r.pairs[2]);
        row("added by tracing", &added);
        row("of it in the programs of probes", &|r| r.programs[1]);
        row("of it in the programs of sockets", &|r| r.programs[2]);
        row("added for each hit of a probe", &|r| {
            added(r) / r.programs[0]
        });
        row("a hit of an empty probe, emulated", &|r| r.bare[0]);
        row("a hit of an empty probe, single-stepped", &|r| r.bare[1]);
        let caption = format!(
            "CPU of one SSL_write and the SSL_read of the same 100 bytes (OpenSSL, TLS 1.3, over a \
             socketpair, one thread, {:.1} hits of probes), beside a probe whose program does \
             nothing; time in programs by the kernel's own count, which costs some itself; medians \
             of {} rounds of {} pairs, {}.",
            middle(&|r| r.programs[0]),
            self.rounds,
            self.count,
            machine()
        );
        Table {
            name: "probe".to_owned(),
            caption,
            rows,
        }
    }
}

/// The running program.
struct Program {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Program {
    fn start() -> Result<Self> {
        let folder = check::kept("bench")?;
        let certificate = server::certificate(&folder)?;
        let mut command = shell::tied(built(&folder)?, false)?;
        command
            .args([certificate, folder.join(server::KEY)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().context("start the pairs")?;
        let asks = child.stdin.take().context("its standard input")?;
        let answers = child.stdout.take().context("its standard output")?;
        Ok(Self {
            child,
            asks,
            answers: BufReader::new(answers),
        })
    }

    /// Nanoseconds for one.
    fn ask(&mut self, what: &str, count: u32) -> Result<f64> {
        writeln!(self.asks, "{what} {count}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let answer = line.trim().parse();
        answer.with_context(|| format!("{what}: the program said {line:?}"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        traced::end(&mut self.child);
    }
}

fn built(folder: &Path) -> Result<PathBuf> {
    shell::install(&["gcc", "libc6-dev", "libssl-dev"], "bench")?;
    let program = folder.join("pair");
    let mut command = Command::new("cc");
    command
        .args(["-O2", "-o"])
        .arg(&program)
        .arg(shell::workspace().join("tests/apps/tls/pair.c"))
        .args(["-lssl", "-lcrypto"]);
    shell::run(&mut command)?;
    fs::canonicalize(&program).context("the program that was built")
}
