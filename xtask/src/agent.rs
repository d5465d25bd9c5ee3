//! Building the agent, and running it.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::shell::{self, say};
use crate::toolchain;

/// Flags of `cargo xtask run`.
#[derive(Args)]
pub struct Run {
    /// Arguments for `spantap agent`.
    #[arg(last = true)]
    arguments: Vec<String>,
}

impl Run {
    /// Sets up, builds, runs; the agent's exit code.
    pub fn go(&self) -> Result<ExitCode> {
        toolchain::ensure()?;
        let agent = build(true)?;
        let mut command = shell::as_root(&agent)?;
        command.arg("agent").args(&self.arguments);
        let through = if shell::is_root() {
            ""
        } else {
            " through sudo"
        };
        say(format!("starting spantap agent{through}; Ctrl-C ends it"));
        // In our place: signals reach it alone, and its exit code is ours.
        Err(command.exec()).context("start the agent")
    }
}

/// Flags of `cargo xtask build`.
#[derive(Args)]
pub struct Build {
    /// Optimised, as it is shipped; without it, fast to build.
    #[arg(long)]
    release: bool,
}

impl Build {
    /// Sets up as far as that goes, builds, and says where the result lies.
    pub fn go(&self) -> Result<PathBuf> {
        if let Err(error) = toolchain::ensure() {
            say(format!("no toolchain for the kernel side: {error:#}"));
        }
        build(self.release)
    }
}

/// Builds the agent.
pub fn build(release: bool) -> Result<PathBuf> {
    let profile = if release { "release" } else { "debug" };
    say(format!("building target/{profile}/spantap"));
    let mut command = shell::cargo("build");
    command.args(["--package", "spantap", "--bin", "spantap"]);
    if release {
        command.arg("--release");
    }
    shell::run(&mut command)?;
    let agent = shell::target().join(profile).join("spantap");
    let size = agent
        .metadata()
        .with_context(|| format!("look at {}", agent.display()))?
        .len();
    if size == 0 {
        bail!("{} is empty", agent.display());
    }
    say(format!(
        "built {} ({:.1} MB)",
        agent.display(),
        size as f64 / 1e6
    ));
    Ok(agent)
}
