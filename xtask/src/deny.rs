//! Licences, sources and known defects of what we depend on, by cargo-deny (deny.toml).
//!
//! The database of advisories is fetched over the network. Where it cannot be had the check is
//! skipped and says so: it never passes unseen.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::check::Count;
use crate::shell::{self, say};
use crate::toolchain::find::TOOLS;

/// All of cargo-deny's checks.
pub fn go() -> Result<Count> {
    let deny = ensure()?;
    for check in ["licenses", "bans", "sources"] {
        let mut command = Command::new(&deny);
        command.args([
            "--log-level",
            "warn",
            "check",
            "--hide-inclusion-graph",
            check,
        ]);
        shell::run(&mut command).context("deny.toml says what is allowed and why")?;
    }
    let mut count = Count {
        passed: 3,
        ..Count::default()
    };
    say("deny: fetching the database of advisories");
    let mut fetch = Command::new(&deny);
    fetch
        .args(["--log-level", "off", "fetch", "db"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Err(error) = shell::run_for(&mut fetch, Duration::from_secs(60)) {
        say(format!(
            "deny: skipped: advisory database not reachable ({error:#})"
        ));
        count.skipped = 1;
        count.remark = Some("advisories skipped: advisory database not reachable".to_owned());
        return Ok(count);
    }
    let mut command = Command::new(&deny);
    shell::run(command.args([
        "--log-level",
        "warn",
        "check",
        "--disable-fetch",
        "advisories",
    ]))?;
    count.passed += 1;
    Ok(count)
}

/// cargo-deny itself: built once and not optimised: it runs for a second.
fn ensure() -> Result<PathBuf> {
    let tools = shell::workspace().join(TOOLS);
    let program = tools.join("bin/cargo-deny");
    let mut version = Command::new(&program);
    version.arg("--version");
    if program.exists() && shell::read(&mut version)?.trim() == format!("cargo-deny {VERSION}") {
        return Ok(program);
    }
    say(format!(
        "deny: building cargo-deny {VERSION} (some minutes, once)"
    ));
    let mut install = shell::cargo("install");
    install
        .args([
            "cargo-deny",
            "--locked",
            "--quiet",
            "--force",
            "--version",
            VERSION,
            "--root",
        ])
        .arg(&tools)
        .arg("--target-dir")
        .arg(tools.join("build"))
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "256");
    shell::run(&mut install).context("build cargo-deny")?;
    std::fs::remove_dir_all(tools.join("build")).ok();
    Ok(program)
}

const VERSION: &str = "0.20.2";
