//! Brings the real programs: each from its own package registry, by its ordinary client, into
//! `target/live-cache`, where it stays for as long as what it is made from is the same.
//! Debian's servers are unpacked, never installed: no service starts, the system is not changed.
//! Only whole toolchains (Go, Node, a JDK) are installed into the system, and only where missing.

mod debian;
mod languages;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

pub use debian::{Debian, debian, tool};
pub use languages::{
    cargo_build, classes, collector, go, go_build, go_build_as, go_grpc, helm, java, java_grpc,
    java_of, jetty, libraries, maven, modules, nfpm, node, node_grpc, python, python_of, zipkin,
};

use crate::agent;

/// A folder made by `make` once for each `key` (all that goes into it), then found again.
fn cached(name: &str, key: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    let cache = agent::target().join("live-cache");
    fs::create_dir_all(&cache)?;
    let cache = fs::canonicalize(cache)?;
    let folder = cache.join(format!("{name}-{:016x}", hasher.finish()));
    let done = folder.join(".done");
    // Two runs at once must not make the same folder.
    let lock = File::create(cache.join(format!("{name}.lock")))?;
    lock.lock().context("lock the cache")?;
    if done.exists() {
        return Ok(folder);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let begun = Instant::now();
    eprintln!("     Getting {name}");
    make(&folder).with_context(|| format!("get {name}"))?;
    File::create(done)?;
    eprintln!(
        "         Got {name} in {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    Ok(folder)
}

/// A command that must succeed; its output is shown only if it does not.
struct Step(Command);

impl Step {
    fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new("nice");
        command.arg(program).stdin(Stdio::null());
        Self(command)
    }

    fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.0.args(args);
        self
    }

    fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(key, value);
        self
    }

    fn inside(mut self, folder: &Path) -> Self {
        self.0.current_dir(folder);
        self
    }

    /// Its stdout.
    fn run(mut self) -> Result<String> {
        let output = self
            .0
            .output()
            .with_context(|| format!("run {:?}", self.0))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(25)..].join("\n    ");
        bail!("{:?} ended with {}:\n    {tail}", self.0, output.status)
    }
}

/// Where a program of this name is on PATH.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// A file of `apps/`, and what it says.
pub fn app(path: &str) -> Result<(PathBuf, String)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("apps")
        .join(path);
    let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    Ok((file, text))
}
