//! Gets what building the kernel side needs: a compiler with the source of `core`, and bpf-linker.
//!
//! `find` looks, this installs. Rustup is tried first and given little time: where it cannot fetch,
//! the distribution's packages take over. An installed nightly is completed, never updated: a newer
//! one may have an LLVM that no bpf-linker can be built for.

pub mod find;

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};

use crate::shell::{self, say};
use find::{Compiler, LINKER_VERSION, Origin, Toolchain};

/// A toolchain that is ready; what is missing is installed.
pub fn ensure() -> Result<Toolchain> {
    let root = shell::workspace();
    if let Ok(toolchain) = Toolchain::find(&root) {
        return Ok(toolchain);
    }
    let mut failures = Vec::new();
    for origin in find::origins() {
        say(format!("kernel side: setting up by {origin}"));
        match set_up(origin, &root) {
            Ok(toolchain) => {
                let Toolchain { compiler, linker } = &toolchain;
                say(format!(
                    "kernel side: {} and {}",
                    compiler.version,
                    linker.display()
                ));
                return Ok(toolchain);
            }
            Err(error) => {
                say(format!("kernel side: not by {origin}: {error:#}"));
                failures.push(format!("{origin}: {error:#}"));
            }
        }
    }
    bail!(
        "nothing can build the kernel side here:\n  {}",
        failures.join("\n  ")
    )
}

/// Clippy of the compiler that builds the kernel side.
pub fn ensure_clippy(toolchain: &Toolchain) -> Result<()> {
    let driver = toolchain.compiler.rustc.with_file_name("clippy-driver");
    if driver.exists() {
        return Ok(());
    }
    match toolchain.compiler.origin {
        Origin::Rustup => rustup(&["component", "add", "--toolchain", "nightly", "clippy"]),
        Origin::Packages if shell::installed("rustc-web") => {
            shell::install(&["rust-web-clippy"], "clippy for the kernel side")
        }
        Origin::Packages => shell::install(&["rust-clippy"], "clippy for the kernel side"),
    }
}

/// Clippy and rustfmt of the toolchain that builds the rest.
pub fn ensure_lints() -> Result<()> {
    for (tool, component, package) in [
        ("cargo-clippy", "clippy", "rust-web-clippy"),
        ("rustfmt", "rustfmt", "rustfmt-web"),
    ] {
        if shell::works(tool, "--version") {
            continue;
        }
        say(format!("{component} is missing: getting it"));
        if rustup(&["component", "add", component]).is_err() {
            shell::install(&[package], component)?;
        }
    }
    Ok(())
}

fn set_up(origin: Origin, root: &Path) -> Result<Toolchain> {
    let compiler = match find::compiler(origin) {
        Ok(compiler) => compiler,
        Err(_) => {
            match origin {
                Origin::Rustup => complete_nightly()?,
                Origin::Packages => install_compiler()?,
            }
            find::compiler(origin).map_err(|reason| anyhow!(reason))?
        }
    };
    let linker = match find::linker(root, compiler.llvm) {
        Ok(linker) => linker,
        Err(_) => build_linker(&compiler, root)?,
    };
    Ok(Toolchain { compiler, linker })
}

/// Nightly with the source of `core`, by rustup.
fn complete_nightly() -> Result<()> {
    if !shell::works("rustup", "--version") {
        bail!("no rustup");
    }
    let mut which = Command::new("rustup");
    which
        .args(["which", "--toolchain", "nightly", "rustc"])
        .env("RUSTUP_AUTO_INSTALL", "0");
    if shell::read(&mut which).is_ok() {
        return rustup(&[
            "component",
            "add",
            "--toolchain",
            "nightly",
            "rust-src",
            "clippy",
        ]);
    }
    let parts = [
        "--profile",
        "minimal",
        "--component",
        "rust-src",
        "--component",
        "clippy",
    ];
    rustup(
        &[
            &["toolchain", "install", "nightly", "--no-self-update"],
            &parts[..],
        ]
        .concat(),
    )
}

/// One rustup command. Where there is no network it must fail soon, so it gets no retries.
fn rustup(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("rustup");
    command
        .args(arguments)
        .env_remove("RUSTUP_TOOLCHAIN")
        .env("RUSTUP_MAX_RETRIES", "0")
        .env("RUSTUP_DOWNLOAD_TIMEOUT", "20")
        .env("RUSTUP_TERM_PROGRESS_WHEN", "never");
    say(format!("rustup {}", arguments.join(" ")));
    shell::run_for(&mut command, Duration::from_secs(600)).context("rustup cannot fetch it")
}

/// The newest compiler among the distribution's packages, with the source of its library.
fn install_compiler() -> Result<()> {
    if !shell::works("apt-cache", "--version") {
        bail!(
            "not Debian or Ubuntu; install a compiler of at least 1.{} with rust-src",
            find::OLDEST
        );
    }
    let best = pick_compiler().or_else(|| {
        say("no compiler in the package lists: apt-get update");
        shell::run(shell::as_root("apt-get").ok()?.args(["update", "-qq"])).ok()?;
        pick_compiler()
    });
    let names =
        best.with_context(|| format!("no packaged compiler of at least 1.{}", find::OLDEST))?;
    shell::install(names, "a compiler for the kernel side")
}

/// Debian's releases carry a current compiler beside their own, for web browsers; Ubuntu and newer
/// Debians have one new enough under its plain name.
fn pick_compiler() -> Option<&'static [&'static str]> {
    let sets: [&[&str]; 2] = [
        &["rustc-web", "cargo-web", "rust-web-src"],
        &["rustc", "cargo", "rust-src"],
    ];
    let newest = sets
        .into_iter()
        .max_by_key(|set| candidate(set[0]).unwrap_or(0))?;
    candidate(newest[0])
        .is_some_and(|minor| minor >= find::OLDEST)
        .then_some(newest)
}

/// The minor version of a package that apt would install.
fn candidate(package: &str) -> Option<u32> {
    let policy = shell::read(Command::new("apt-cache").args(["policy", package])).ok()?;
    let line = policy
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    line.strip_prefix("1.")?.split('.').next()?.parse().ok()
}

/// Builds bpf-linker against an LLVM that reads what the compiler writes, into target/tools.
fn build_linker(compiler: &Compiler, root: &Path) -> Result<PathBuf> {
    let (major, prefix) = llvm_for(compiler.llvm)?;
    let tools = root.join(find::TOOLS);
    say(format!(
        "building bpf-linker {LINKER_VERSION} with LLVM {major} (a minute or two)"
    ));
    let mut command = Command::new(&compiler.cargo);
    command
        .args([
            "install",
            "bpf-linker",
            "--locked",
            "--quiet",
            "--version",
            LINKER_VERSION,
        ])
        .args([
            "--no-default-features",
            "--features",
            &format!("llvm-{major}"),
            "--root",
        ])
        .arg(&tools)
        .arg("--target-dir")
        .arg(tools.join("build"))
        .env("RUSTC", &compiler.rustc)
        .env("LLVM_PREFIX", &prefix)
        .env(format!("LLVM_SYS_{major}1_PREFIX"), &prefix)
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("RUSTFLAGS")
        .stdout(Stdio::null());
    shell::run(&mut command).context("build bpf-linker")?;
    // Half a gigabyte that is never needed again.
    std::fs::remove_dir_all(tools.join("build")).ok();
    find::linker(root, compiler.llvm).map_err(|reason| anyhow!(reason))
}

/// An LLVM of at least the compiler's version that bpf-linker knows: its version and place.
fn llvm_for(compiler: u32) -> Result<(u32, PathBuf)> {
    let wanted = compiler.max(LINKER_LLVM[0])..=LINKER_LLVM[1];
    if wanted.is_empty() {
        bail!(
            "the compiler has LLVM {compiler}, bpf-linker {LINKER_VERSION} knows {LINKER_LLVM:?}"
        );
    }
    if let Some(prefix) = env::var_os("LLVM_PREFIX") {
        return Ok((*wanted.start(), prefix.into()));
    }
    let place = |major: u32| PathBuf::from(format!("/usr/lib/llvm-{major}"));
    let ready = |major: &u32| place(*major).join("bin/llvm-config").exists();
    if let Some(major) = wanted.clone().find(ready) {
        return Ok((major, place(major)));
    }
    for major in wanted.clone() {
        let package = format!("llvm-{major}-dev");
        if shell::install(&[&package], "LLVM for bpf-linker").is_ok() {
            return Ok((major, place(major)));
        }
    }
    bail!("no package llvm-N-dev with N in {wanted:?}; set LLVM_PREFIX to an LLVM of that version")
}

/// Oldest and newest LLVM that this release of bpf-linker can be built with.
const LINKER_LLVM: [u32; 2] = [21, 23];
