//! `cargo xtask bench`: what tracing costs, with and without the agent, in turns.
//!
//! Results are medians over rounds, printed as a table and kept in docs/performance.md between
//! markers that name the benchmark. The figures that gate a change are not these, which move with
//! the machine, but the instruction counts of `bench vm`.

pub mod guest;
mod server;
mod table;

use std::process::Command;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::shell::{self, say};

/// Flags of `cargo xtask bench`.
#[derive(Args)]
pub struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Bytes per second through the HTTP parser (criterion).
    Parser(Criterion),
    /// Exchanges per second through the whole of user space, from recorded events (criterion).
    Pipeline(Criterion),
    /// nginx with keep-alive, saturated by wrk: CPU per request, throughput, latency.
    Nginx(server::Load),
    /// A Node server, saturated by wrk.
    Node(server::Load),
    /// A Python server, saturated by wrk.
    Python(server::Load),
    /// Instructions per request and per program in guests, held against tests/vm/baseline.json.
    ///
    /// Guest time counts executed instructions, so this repeats on a busy machine. It fails where
    /// anything is over 5 % above the baseline (and so does `cargo xtask test`, step cost); `--save`
    /// makes the figures of this run the baseline.
    Vm(guest::Gate),
}

/// Flags of the criterion benchmarks.
#[derive(Args)]
struct Criterion {
    /// Arguments for criterion, such as `--save-baseline before`.
    #[arg(last = true)]
    arguments: Vec<String>,
}

impl Bench {
    /// Runs one benchmark.
    pub fn go(&self) -> Result<()> {
        match &self.what {
            What::Parser(flags) => flags.go("http1"),
            What::Pipeline(flags) => flags.go("pipeline"),
            What::Nginx(load) => load.go(server::Kind::Nginx),
            What::Node(load) => load.go(server::Kind::Node),
            What::Python(load) => load.go(server::Kind::Python),
            What::Vm(gate) => gate.go(),
        }
    }
}

impl Criterion {
    fn go(&self, name: &str) -> Result<()> {
        say(format!("bench: {name}"));
        let mut command: Command = shell::cargo("bench");
        command.args(["--package", "spantap", "--bench", name, "--"]);
        shell::run(command.args(&self.arguments))
    }
}
