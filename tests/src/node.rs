//! A Kubernetes of one node, real and of this machine alone, for the cases that want one: scripts in the
//! folder that SPANTAP_K8S_BENCH names, else in `shared/k8s` of a folder above the workspace. Nothing of
//! them is ours; where there are none the case is skipped. One that is up already stays up.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::process::until;
use crate::program::Ran;

/// How much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The API server and what it keeps things in: no pod ever runs.
    Api,
    /// Real pods.
    Node,
}

/// What is said where there is none.
pub const NONE: &str = "no Kubernetes of one node: neither SPANTAP_K8S_BENCH names the folder of scripts that bring one up, nor is there \
     shared/k8s above the workspace whose build.sh was run once (it takes some ten minutes)";

/// A running one; ended when dropped, if it was started here.
pub struct Node {
    scripts: PathBuf,
    ours: bool,
    /// Held by whoever uses it: there is one at a time.
    _lock: File,
}

fn lock() -> Result<File> {
    let lock = File::create(std::env::temp_dir().join("spantap-k8s.lock"))?;
    lock.lock().context("wait for the node")?;
    Ok(lock)
}

impl Node {
    /// Brings it up; None where there are no scripts.
    pub fn up(level: Level) -> Result<Option<Self>> {
        Self::up_with(level, &[])
    }

    /// The same with more words for its script, such as `--dns`.
    pub fn up_with(level: Level, words: &[&str]) -> Result<Option<Self>> {
        let Some(scripts) = scripts()? else {
            return Ok(None);
        };
        let lock = lock()?;
        let up = command(&scripts, "node.sh", &["true"]).output()?;
        let node = Self {
            ours: !up.status.success(),
            scripts,
            _lock: lock,
        };
        let level = match level {
            Level::Api => "api",
            Level::Node => "node",
        };
        let words: Vec<&str> = ["--level", level].iter().chain(words).copied().collect();
        let ran = finish(command(&node.scripts, "up.sh", &words), None)?;
        ensure!(ran.code == Some(0), "no node: {}", tail(&ran));
        Ok(Some(node))
    }

    /// Runs a command in it, kubectl or helm for instance, which must succeed; gives its output.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        let ran = self.attempt(words, None)?;
        ensure!(ran.code == Some(0), "{words:?}: {}", tail(&ran));
        Ok(ran.output)
    }

    /// Runs a command in it, with this to read.
    pub fn attempt(&self, words: &[&str], input: Option<&str>) -> Result<Ran> {
        finish(command(&self.scripts, "node.sh", words), input)
    }

    /// Makes an image `localhost/NAME` of programs and folders of this machine, with the libraries they need.
    pub fn image_of(&self, name: &str, root: &Path, paths: &[&Path], run: &[&str]) -> Result<()> {
        let mut copy = command(&self.scripts, "rootfs.sh", &[root]);
        copy.args(paths);
        let ran = finish(copy, None)?;
        ensure!(ran.code == Some(0), "files of {name}: {}", tail(&ran));
        self.image(name, root, run)
    }

    /// Ends one of its programs, as `apiserver`, at once.
    pub fn kill(&self, name: &str) -> Result<()> {
        let state = std::env::var_os("K8S_BENCH_STATE").map(PathBuf::from);
        let state = state.unwrap_or_else(|| std::env::temp_dir().join("k8s-bench"));
        let noted = std::fs::read_to_string(state.join("pids").join(name))?;
        let pid = noted.split(' ').next().and_then(|pid| pid.parse().ok());
        let pid = pid
            .and_then(Pid::from_raw)
            .with_context(|| format!("no pid of {name}"))?;
        kill_process(pid, Signal::KILL).with_context(|| format!("end {name}"))
    }

    /// Starts what of it does not run any more.
    pub fn mend(&self) -> Result<()> {
        let ran = finish(command(&self.scripts, "up.sh", &["--level", "node"]), None)?;
        ensure!(ran.code == Some(0), "no node: {}", tail(&ran));
        Ok(())
    }

    /// Its network.
    pub fn network(&self) -> Result<File> {
        let own = std::fs::read_link("/proc/self/ns/net")?;
        let mut inside = command(&self.scripts, "node.sh", &["sleep", "30"]).spawn()?;
        let path = PathBuf::from(format!("/proc/{}/ns/net", inside.id()));
        let entered = until("the node's network", Duration::from_secs(10), || {
            std::fs::read_link(&path).is_ok_and(|net| net != own)
        });
        let network = entered.and_then(|()| Ok(File::open(&path)?));
        inside.kill()?;
        inside.wait()?;
        network
    }

    /// Makes an image `localhost/NAME` of a folder; in a pod say `imagePullPolicy: Never`.
    pub fn image(&self, name: &str, root: &Path, run: &[&str]) -> Result<()> {
        let mut image = command(&self.scripts, "image.sh", &[name]);
        image.arg(root).args(run);
        let ran = finish(image, None)?;
        ensure!(ran.code == Some(0), "image {name}: {}", tail(&ran));
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.ours {
            let _ = command::<&str>(&self.scripts, "down.sh", &[]).output();
        }
    }
}

fn scripts() -> Result<Option<PathBuf>> {
    if let Some(named) = std::env::var_os("SPANTAP_K8S_BENCH") {
        let folder = PathBuf::from(named);
        if !folder.join("up.sh").is_file() {
            bail!("SPANTAP_K8S_BENCH={}: no up.sh there", folder.display());
        }
        return Ok(Some(folder));
    }
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let mut folders = above.map(|folder| folder.join("shared/k8s"));
    let found = folders.find(|folder| folder.join("up.sh").is_file());
    Ok(found.filter(|_| is_built()))
}

/// Whether what the scripts bring up was built before: nobody waits for that who did not ask for it.
fn is_built() -> bool {
    let folder = |name: &str, below: &str| Some(PathBuf::from(std::env::var_os(name)?).join(below));
    let cache = folder("K8S_BENCH_CACHE", "")
        .or_else(|| folder("XDG_CACHE_HOME", "k8s-bench"))
        .or_else(|| folder("HOME", ".cache/k8s-bench"));
    cache.is_some_and(|cache| cache.join("bin/kubelet").exists())
}

fn command<S: AsRef<OsStr>>(scripts: &Path, script: &str, words: &[S]) -> Command {
    let mut command = Command::new(scripts.join(script));
    command.args(words);
    command
}

/// Runs it to its end. Its output goes to files: what it leaves running keeps no pipe open.
fn finish(mut command: Command, input: Option<&str>) -> Result<Ran> {
    let folder = crate::agent::target().join("live-cache/node");
    std::fs::create_dir_all(&folder)?;
    let (output, errors) = (folder.join("out.log"), folder.join("err.log"));
    command
        .stdin(input.map_or_else(Stdio::null, |_| Stdio::piped()))
        .stdout(File::create(&output)?)
        .stderr(File::create(&errors)?);
    let mut child = command
        .spawn()
        .with_context(|| format!("run {command:?}"))?;
    if let (Some(mut pipe), Some(text)) = (child.stdin.take(), input) {
        pipe.write_all(text.as_bytes())?;
    }
    let status = child.wait()?;
    let read = |file| std::fs::read(file).map(|text| String::from_utf8_lossy(&text).into_owned());
    Ok(Ran {
        pid: child.id(),
        code: status.code(),
        output: read(&output)?,
        errors: read(&errors)?,
    })
}

fn tail(ran: &Ran) -> String {
    let lines: Vec<&str> = ran.errors.lines().chain(ran.output.lines()).collect();
    lines[lines.len().saturating_sub(15)..].join("\n    ")
}
