//! `cargo xtask`: the one door to building, running, testing and measuring spantap.
//!
//! One module is one command; `shell` is the only place that starts programs and talks about it.
//! Everything runs from the workspace root and what it keeps lies below `target/`.

mod agent;
mod apart;
mod bench;
mod causality;
mod check;
mod deny;
mod fuzz;
mod matrix;
mod propagation;
mod protocols;
mod shell;
mod tidy;
mod toolchain;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Builds, runs, tests and measures spantap.
///
/// On a fresh machine two commands do everything: `cargo xtask run` and `cargo xtask test`. Both
/// first install what building for the kernel needs, saying what they do: by rustup (nightly,
/// rust-src) where rustup can, else by the distribution's packages (Debian and Ubuntu). Tools of
/// our own go to target/tools; nothing global is overwritten.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Flags {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the agent and run it with root rights; spans appear in this terminal.
    ///
    /// No backend is needed. Programs that already run are seen too: start this, then send a
    /// request to any HTTP server on this machine. Arguments after `--` go to `spantap agent`;
    /// for example `cargo xtask run -- --export json`.
    Run(agent::Run),
    /// Build target/debug/spantap or target/release/spantap, the one file there is to install.
    ///
    /// Works without a toolchain for the kernel side too: what cannot be had is said, and the
    /// agent that comes out says at its start that it was built without the kernel side.
    Build(agent::Build),
    /// Run every check there is, in order; what CI runs.
    ///
    /// Steps: see `--list`. The first failure ends the run unless `--keep-going` is given. Some
    /// steps need root (live, vm through apt) and use sudo where they are not given it.
    Test(check::Test),
    /// Check the project's own rules: import order, lengths, words, links.
    ///
    /// Each rule is a function in xtask/src/tidy/, with a test that shows it can fail.
    Tidy,
    /// Boot Debian kernels under qemu (no KVM) and run something there.
    ///
    /// The guest sees this machine's files, read-only, with a layer in memory above them: what is
    /// written there is gone at power-off. Without COMMAND the matrix runs: on each kernel,
    /// `spantap doctor`, and HTTP traced in the clear, over OpenSSL and over Go's TLS
    /// (tests/vm/scenario.sh).
    #[command(after_help = "Examples:
  cargo xtask vm                         the matrix: every kernel, doctor and scenario
  cargo xtask vm -k 5.10 'uname -r'      one command on one kernel
  cargo xtask vm --icount 'COMMAND'      guest time counts instructions: repeats within 1 %")]
    Vm(vm::Vm),
    /// Run the matrix of TLS and HTTP: real programs on this kernel; the table goes to docs/matrix.md.
    Matrix(matrix::Matrix),
    /// Run the drivers of every protocol against its server; the table goes to docs/protocols.md.
    Protocols(protocols::Protocols),
    /// Count whose children calls are, by how they are made; the table goes to docs/causality.md.
    Causality(causality::Causality),
    /// Count whose children answers are, where who asks is on another host.
    Apart(apart::Apart),
    /// Compare what programs see with an agent and without one, by kernel and by mode of propagation; the table
    /// goes to docs/propagation.md.
    Propagation(propagation::Propagation),
    /// Measure what tracing costs; tables go to docs/performance.md.
    ///
    /// Without COMMAND all of them run, in this order and with their usual settings: that takes long, and
    /// wants a machine that does nothing else. One that fails does not end the others; it is told at
    /// the end. What they measure with is installed, by apt where that can.
    #[command(after_help = "Examples:
  cargo xtask bench                      all of them
  cargo xtask bench nginx --help         the settings of one
  cargo xtask bench parsers -- kafka     one protocol's parser")]
    Bench(bench::Bench),
    /// Fuzz the parsers (cargo-fuzz on nightly) for some seconds each.
    Fuzz(fuzz::Fuzz),
}

fn main() -> ExitCode {
    match run(Flags::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: Flags) -> Result<ExitCode> {
    std::env::set_current_dir(shell::workspace())?;
    match flags.command {
        Task::Run(run) => run.go(),
        Task::Build(build) => build.go().map(|_| ExitCode::SUCCESS),
        Task::Test(test) => test.go(),
        Task::Tidy => tidy::go().map(|()| ExitCode::SUCCESS),
        Task::Vm(vm) => vm.go(),
        Task::Matrix(matrix) => matrix.go(),
        Task::Protocols(protocols) => protocols.go(),
        Task::Causality(causality) => causality.go(),
        Task::Apart(apart) => apart.go(),
        Task::Propagation(propagation) => propagation.go(),
        Task::Bench(bench) => bench.go().map(|()| ExitCode::SUCCESS),
        Task::Fuzz(fuzz) => fuzz.go().map(|()| ExitCode::SUCCESS),
    }
}
