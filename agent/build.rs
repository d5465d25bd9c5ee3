//! Builds the kernel side and hands its object to the agent as `$OUT_DIR/agent-ebpf`.
//!
//! With `AYA_BUILD_SKIP=1`, or where nothing on the machine can build it, empty stand-ins take
//! their place and the agent says so when started. Where it can be built it must build: an error in
//! it is an error here. Why not aya-build: docs/decisions/0003-ebpf-toolchain.md.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context as _, Result, bail};

use find::Toolchain;

#[path = "../xtask/src/toolchain/find.rs"]
#[expect(dead_code, reason = "the set-up in xtask uses what the build does not")]
mod find;

fn main() -> Result<()> {
    for name in ["AYA_BUILD_SKIP", find::CHOICE] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    for path in ["src", "Cargo.toml"] {
        println!("cargo:rerun-if-changed=../agent-ebpf/{path}");
    }
    println!("cargo:rerun-if-changed=../xtask/src/toolchain/find.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is set by cargo")?);
    let agent = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("set by cargo")?);
    let workspace = agent.parent().context("the agent is in the workspace")?;
    let skip = env::var_os("AYA_BUILD_SKIP").is_some_and(|v| v == "1" || v == "true");
    if skip {
        return stand_in(&out, &["AYA_BUILD_SKIP is set".to_owned()]);
    }
    match Toolchain::find(workspace) {
        Ok(toolchain) => build(&toolchain, workspace, &out),
        Err(reasons) => {
            // What the set-up would install: when it appears, the stand-in is out of date.
            println!(
                "cargo:rerun-if-changed={}",
                workspace.join(find::TOOLS).display()
            );
            stand_in(&out, &reasons)
        }
    }
}

/// The program of agent-ebpf/Cargo.toml.
const OBJECT: &str = "agent-ebpf";

/// An empty object, and a warning that says why.
fn stand_in(out: &Path, reasons: &[String]) -> Result<()> {
    fs::write(out.join(OBJECT), b"").context("write the stand-in object")?;
    println!("cargo:warning=built without the kernel side: the agent will see nothing");
    for reason in reasons {
        println!("cargo:warning=  {reason}");
    }
    println!("cargo:warning=  `cargo xtask build` installs what is missing");
    Ok(())
}

/// The kernel side, compiled and linked in a target folder of its own.
fn build(toolchain: &Toolchain, workspace: &Path, out: &Path) -> Result<()> {
    let target = out.join("ebpf-target");
    println!("cargo:rerun-if-changed={}", toolchain.linker.display());
    println!(
        "cargo:rerun-if-changed={}",
        toolchain.compiler.rustc.display()
    );
    let mut command: Command = toolchain.cargo("build");
    command
        .args(["--release", "--bins", "--target-dir"])
        .arg(&target)
        .current_dir(workspace)
        .stdin(Stdio::null());
    let output = command
        .output()
        .with_context(|| format!("start {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let Toolchain { compiler, linker } = toolchain;
        eprintln!("{said}");
        bail!(
            "the kernel side does not build ({}; {})",
            compiler.version,
            linker.display()
        );
    }
    if said.contains("warning:") {
        said.lines()
            .for_each(|line| println!("cargo:warning={line}"));
    }
    let built = target.join(find::TARGET).join("release").join(OBJECT);
    let copied = fs::copy(&built, out.join(OBJECT));
    copied.with_context(|| format!("copy {}", built.display()))?;
    Ok(())
}
