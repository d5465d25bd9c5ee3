//! `cargo xtask bench`: what tracing costs, with and without the agent, in turns.
//!
//! Results are medians over rounds, printed as a table and kept in docs/performance.md between
//! markers that name the benchmark. The figures that gate a change are not these, which move with
//! the machine, but the instruction counts of `bench vm`.

mod client;
mod criterion;
mod first;
pub mod guest;
mod load;
mod probe;
mod programs;
mod receiver;
mod server;
mod steady;
mod stores;
pub mod table;
mod traced;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};

use crate::shell::say;
use criterion::Criterion;
use first::First;
use guest::Gate;
use load::Load;
use probe::Pairs;
use server::{CALLS, Kind};
use steady::Steady;
use stores::Stores;

/// Flags of `cargo xtask bench`.
#[derive(Args)]
pub struct Bench {
    /// All of them where none is named.
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand)]
enum What {
    /// Bytes per second through the HTTP parser (criterion).
    Parser(Criterion),
    /// Time for each message, and bytes per second, of every protocol's parser (criterion).
    Parsers(Criterion),
    /// Exchanges per second through user space, from recorded records to OTLP, and through its
    /// parts (criterion).
    Pipeline(Criterion),
    /// nginx: CPU per request, throughput, latency; traced, and beside another that is traced.
    Nginx(Load),
    /// A Node server.
    Node(Load),
    /// A Python server.
    Python(Load),
    /// nginx over TLS, keep-alive.
    Tls(Load),
    /// nginx over HTTP/2, with TLS and without.
    H2(Load),
    /// A gRPC server in Go, with TLS and without.
    Grpc(Load),
    /// Servers in Go, asyncio, Node.js and Java that make a call for each request: without links inside them,
    /// with them, and with traces that are carried to other hosts.
    Calls(Load),
    /// PostgreSQL, Redis and Kafka: throughput, CPU, exchanges lost; a large COPY.
    Stores(Stores),
    /// One SSL_write and SSL_read, beside what a probe costs on this machine.
    Probe(Pairs),
    /// The agent at 10,000 exchanges a second: CPU, memory, losses.
    Steady(Steady),
    /// From the agent's start to its first span.
    First(First),
    /// Instructions per request and per program in guests, held against tests/vm/baseline.json.
    ///
    /// Guest time counts executed instructions, so this repeats on a busy machine. It fails where
    /// anything is over a tenth above the baseline (and so does `cargo xtask test`, step cost); `--save`
    /// makes the figures of this run the baseline.
    Vm(Gate),
}

impl Bench {
    /// Runs one benchmark, or every one.
    pub fn go(&self) -> Result<()> {
        match &self.what {
            Some(what) => what.go(),
            None => all(),
        }
    }
}

impl What {
    fn go(&self) -> Result<()> {
        match self {
            Self::Parser(flags) => flags.go("parser", &["http1"]),
            Self::Parsers(flags) => flags.go_by_message("parsers", &["parsers"]),
            Self::Pipeline(flags) => flags.go("pipeline", &["pipeline", "link", "export"]),
            Self::Nginx(load) => load.go(Kind::Nginx),
            Self::Node(load) => load.go(Kind::Node),
            Self::Python(load) => load.go(Kind::Python),
            Self::Tls(load) => load.go(Kind::Tls),
            Self::H2(load) => load.go(Kind::H2).and_then(|()| load.go(Kind::H2c)),
            Self::Grpc(load) => load.go(Kind::Grpc).and_then(|()| load.go(Kind::GrpcTls)),
            Self::Calls(load) => CALLS.iter().try_for_each(|kind| load.go(*kind)),
            Self::Stores(stores) => stores.go(),
            Self::Probe(pairs) => pairs.go(),
            Self::Steady(steady) => steady.go(),
            Self::First(first) => first.go(),
            Self::Vm(gate) => gate.go(),
        }
    }
}

/// Each with its usual settings; the first failure is told at the end, after the others ran.
fn all() -> Result<()> {
    let every = [
        ("parser", What::Parser(Criterion::default())),
        ("parsers", What::Parsers(Criterion::default())),
        ("pipeline", What::Pipeline(Criterion::default())),
        ("nginx", What::Nginx(Load::default())),
        ("node", What::Node(Load::default())),
        ("python", What::Python(Load::default())),
        ("tls", What::Tls(Load::default())),
        ("h2", What::H2(Load::default())),
        ("grpc", What::Grpc(Load::default())),
        ("calls", What::Calls(Load::default())),
        ("stores", What::Stores(Stores::default())),
        ("probe", What::Probe(Pairs::default())),
        ("steady", What::Steady(Steady::default())),
        ("first", What::First(First::default())),
        ("vm", What::Vm(Gate::all())),
    ];
    let mut failed = Vec::new();
    for (name, what) in &every {
        say(format!("=== bench {name}"));
        if let Err(error) = what.go().with_context(|| format!("bench {name}")) {
            say(format!("{error:#}"));
            failed.push(*name);
        }
    }
    if !failed.is_empty() {
        bail!("not measured, or over the baseline: {}", failed.join(", "));
    }
    Ok(())
}
