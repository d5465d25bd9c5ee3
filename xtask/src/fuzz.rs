//! `cargo xtask fuzz`: the parsers against bytes that libFuzzer makes up.
//!
//! It needs nightly and cargo-fuzz. The same entry points run for a moment, on stable, within
//! `cargo xtask test`; this is for long runs.

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::shell::{self, say};
use crate::toolchain::find::TOOLS;

/// Flags of `cargo xtask fuzz`.
#[derive(Args)]
pub struct Fuzz {
    /// Seconds for each target.
    #[arg(default_value_t = 60)]
    seconds: u64,
    /// This target alone.
    #[arg(long)]
    target: Option<String>,
}

impl Fuzz {
    /// Fuzzes each target in turn; the first crash ends it.
    pub fn go(&self) -> Result<()> {
        let mut nightly = Command::new("rustup");
        nightly
            .args(["run", "nightly", "rustc", "--version"])
            .env("RUSTUP_AUTO_INSTALL", "0");
        let nightly = shell::read(&mut nightly).context("fuzzing needs rustup's nightly")?;
        say(format!("fuzz: {}", nightly.trim()));
        let tools = shell::workspace().join(TOOLS);
        if !tools.join("bin/cargo-fuzz").exists() {
            say("fuzz: building cargo-fuzz (a minute)");
            let mut install = shell::cargo("install");
            shell::run(
                install
                    .args(["cargo-fuzz", "--locked", "--quiet", "--root"])
                    .arg(&tools),
            )?;
        }
        let targets = match &self.target {
            Some(target) => vec![target.clone()],
            None => targets()?,
        };
        say("fuzz: seeds, from the dialogues");
        let mut seeds = shell::cargo("test");
        seeds.args(["--package", "spantap", "--test", "fuzz", "--quiet"]);
        seeds.env("AYA_BUILD_SKIP", "1");
        seeds.env("CORPUS", shell::workspace().join(FOLDER).join("corpus"));
        shell::run(&mut seeds)?;
        for target in targets {
            say(format!("fuzz: {target} for {} s", self.seconds));
            let mut command = Command::new("rustup");
            command
                .args(["run", "nightly"])
                .arg(tools.join("bin/cargo-fuzz"));
            command.args(["run", "--fuzz-dir", FOLDER, &target, "--"]);
            command.arg(format!("-max_total_time={}", self.seconds));
            // User space alone: the kernel side has nothing to fuzz here.
            command.env("AYA_BUILD_SKIP", "1");
            shell::run(&mut command)?;
        }
        Ok(())
    }
}

/// Every target there is: one file each.
fn targets() -> Result<Vec<String>> {
    let folder = format!("{FOLDER}/fuzz_targets");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("read {folder}"))? {
        let path = entry?.path();
        if let Some(stem) = path
            .file_stem()
            .filter(|_| path.extension().is_some_and(|e| e == "rs"))
        {
            names.push(stem.to_string_lossy().into_owned());
        }
    }
    names.sort();
    if names.is_empty() {
        bail!("{folder} holds no target");
    }
    Ok(names)
}

const FOLDER: &str = "tests/fuzz";
