//! The agent as its users run it: the binary with flags and variables, never a library.
//! SPANTAP_BIN names the binary; without it, the workspace's release build is taken.
//! In a dry run there is none: what is then tried is whether the programs do as they are asked.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;

use crate::process::{self, Bpf, slowly};
use crate::program::{self, Program};
use crate::sink::Sink;

/// How to start an agent.
pub struct Setup {
    setup: program::Setup,
    log: PathBuf,
}

/// A running agent; stopped when dropped.
pub struct Agent {
    program: Program,
    log: PathBuf,
    /// From start to the line that says it is attached.
    pub ready_after: Duration,
}

/// Which kernel hooks the agent is told to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capture {
    /// What it chooses itself.
    Auto,
    /// sock_send_length and sock_recv_length.
    Socket,
    /// sys_exit.
    Syscall,
}

impl Capture {
    /// The flag's value.
    pub fn name(self) -> &'static str {
        match self {
            Capture::Auto => "auto",
            Capture::Socket => "socket",
            Capture::Syscall => "syscall",
        }
    }
}

impl Setup {
    /// `spantap agent`; its diagnostics go to `NAME.log` in the case's folder.
    pub fn new(name: &str, folder: &Path) -> Result<Self> {
        Self::command(name, folder, &["agent"])
    }

    /// `spantap agent --pid` with its own pid, whatever else is selected.
    pub fn selecting_itself(name: &str, folder: &Path) -> Result<Self> {
        let words = ["-c".as_ref(), "exec \"$0\" agent --pid $$ \"$@\"".as_ref()];
        let setup = program::Setup::new(name, folder, "sh")
            .args::<&std::ffi::OsStr>(words)
            .arg(binary()?);
        Ok(Self::plain(setup, name, folder))
    }

    /// Any of its commands.
    pub fn command(name: &str, folder: &Path, words: &[&str]) -> Result<Self> {
        let setup = program::Setup::new(name, folder, binary()?).args(words);
        Ok(Self::plain(setup, name, folder))
    }

    /// With nothing that takes probes: they take time to go, and who wants them says so.
    fn plain(setup: program::Setup, name: &str, folder: &Path) -> Self {
        let off = [
            "TLS",
            "LINK_GOROUTINES",
            "LINK_FORWARDED",
            "LINK_ASYNCIO",
            "LINK_NODE",
            "LINK_JVM",
        ];
        let setup = setup.env("OTEL_BSP_SCHEDULE_DELAY", "200");
        let setup = off.iter().fold(setup, |setup, name| {
            setup.env(&format!("SPANTAP_{name}"), "false")
        });
        Self {
            setup,
            log: folder.join(format!("{name}.log")),
        }
    }

    /// Where spans go: http/protobuf.
    #[must_use]
    pub fn to(self, sink: &Sink) -> Self {
        self.env("OTEL_EXPORTER_OTLP_ENDPOINT", &sink.endpoint())
    }

    /// gRPC instead of http/protobuf.
    #[must_use]
    pub fn grpc(self) -> Self {
        self.env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    }

    /// Traces what uses these ports.
    #[must_use]
    pub fn ports(self, ports: &[u16]) -> Self {
        let words = ports
            .iter()
            .flat_map(|port| ["--port".into(), port.to_string()]);
        self.args(words)
    }

    /// Traces these processes and what they start.
    #[must_use]
    pub fn pids(self, pids: &[u32]) -> Self {
        let words = pids
            .iter()
            .flat_map(|pid| ["--pid".into(), pid.to_string()]);
        self.args(words)
    }

    /// Reads TLS.
    #[must_use]
    pub fn tls(self) -> Self {
        self.env("SPANTAP_TLS", "true")
    }

    /// Tells goroutines apart.
    #[must_use]
    pub fn goroutines(self) -> Self {
        self.env("SPANTAP_LINK_GOROUTINES", "true")
    }

    /// Links what proxies hand on.
    #[must_use]
    pub fn forwarded(self) -> Self {
        self.env("SPANTAP_LINK_FORWARDED", "true")
    }

    /// Tells asyncio's tasks apart.
    #[must_use]
    pub fn asyncio(self) -> Self {
        self.env("SPANTAP_LINK_ASYNCIO", "true")
    }

    /// Tells the turns of Node.js apart.
    #[must_use]
    pub fn node(self) -> Self {
        self.env("SPANTAP_LINK_NODE", "true")
    }

    /// Links what tasks of JVMs ask for.
    #[must_use]
    pub fn jvm(self) -> Self {
        self.env("SPANTAP_LINK_JVM", "true")
    }

    /// Chooses the kernel hooks.
    #[must_use]
    pub fn capture(self, capture: Capture) -> Self {
        match capture {
            Capture::Auto => self,
            path => self.args(["--capture-path", path.name()]),
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<std::ffi::OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.setup = self.setup.args(args);
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.setup = self.setup.env(key, value);
        self
    }

    /// Starts it and waits until it says that it is ready.
    pub fn start(mut self) -> Result<Agent> {
        if dry() {
            let words = [
                "-c",
                "echo ready; trap 'exit 0' TERM INT; while :; do sleep 1 & wait; done",
            ];
            let name = self
                .log
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            self.setup = program::Setup::new(&name, self.folder(), "sh").args(words);
        }
        let begun = Instant::now();
        let mut agent = Agent {
            program: self.setup.start()?,
            log: self.log,
            ready_after: Duration::ZERO,
        };
        let mut ended = None;
        let ready = process::until(
            "the agent is ready",
            slowly(Duration::from_secs(60)),
            || {
                ended = agent.program.child().try_wait().ok().flatten();
                ended.is_some() || agent.log().lines().any(says_ready)
            },
        );
        if let Some(status) = ended {
            bail!(
                "the agent ended at once ({status}):\n    {}",
                agent.program.tail()
            );
        }
        ready.with_context(|| agent.program.tail())?;
        agent.ready_after = begun.elapsed();
        Ok(agent)
    }

    fn folder(&self) -> &Path {
        self.log.parent().unwrap_or(Path::new("."))
    }

    /// Runs it to its end, for the commands that end.
    pub fn run(self, limit: Duration) -> Result<program::Ran> {
        self.setup.run(limit)
    }
}

impl Agent {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// What it wrote: diagnostics, and spans if they go to stdout.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The file it went to.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// The last lines of it.
    pub fn tail(&self) -> String {
        self.program.tail()
    }

    /// What it holds in the kernel.
    pub fn bpf(&self) -> Result<Bpf> {
        process::bpf(self.pid())
    }

    /// Ends it as an init system does, so that it sends what it has; its exit must be clean.
    pub fn stop(self) -> Result<()> {
        self.end(Signal::TERM)
    }

    /// Ends it by a signal it can see.
    pub fn end(mut self, signal: Signal) -> Result<()> {
        self.program.signal(signal)?;
        let status = self.program.wait(slowly(Duration::from_secs(15)))?;
        ensure!(
            status.success(),
            "the agent ended with {status} after {signal:?}:\n    {}",
            self.program.tail()
        );
        Ok(())
    }

    /// Ends it without a chance to clean up.
    pub fn kill(mut self) -> Result<()> {
        self.program.signal(Signal::KILL)?;
        self.program.wait(slowly(Duration::from_secs(15)))?;
        Ok(())
    }
}

/// The line that says that everything is attached.
fn says_ready(line: &str) -> bool {
    line.contains("ready") || line.starts_with("spantap: tracing")
}

static DRY: AtomicBool = AtomicBool::new(false);

/// From now on no agent is started.
pub fn set_dry() {
    DRY.store(true, Ordering::Relaxed);
}

/// Whether this is a dry run.
pub fn dry() -> bool {
    DRY.load(Ordering::Relaxed)
}

/// The binary under test.
pub fn binary() -> Result<PathBuf> {
    if dry() {
        return Ok(PathBuf::from("/bin/true"));
    }
    if let Some(path) = std::env::var_os("SPANTAP_BIN") {
        let path = PathBuf::from(path);
        ensure!(
            path.is_file(),
            "SPANTAP_BIN={}: no such file",
            path.display()
        );
        return Ok(fs::canonicalize(path)?);
    }
    let path = target().join("release/spantap");
    ensure!(
        path.is_file(),
        "no agent at {}: build it (cargo xtask build --release) or set SPANTAP_BIN",
        path.display()
    );
    Ok(path)
}

/// The workspace's target folder.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    )
}
