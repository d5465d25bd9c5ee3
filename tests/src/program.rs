//! A real program, started as a person would start it, and stopped with all it started.
//! It leads a process group of its own, which is all that is ever signalled; should the harness
//! die, the kernel ends it (`setpriv --pdeathsig`). Its output goes to a file in the case's folder.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::process;

/// How to start a program.
pub struct Setup {
    name: String,
    command: Command,
    folder: PathBuf,
    port: Option<u16>,
}

/// A running one; stopped when dropped.
pub struct Program {
    name: String,
    child: Child,
    log: PathBuf,
    stopped: bool,
}

impl Setup {
    /// `name` is for people and for the log; `folder` is the case's own.
    pub fn new(name: &str, folder: &Path, program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("OTEL_") {
                command.env_remove(key);
            }
        }
        command.current_dir(folder).stdin(Stdio::null());
        Self {
            name: name.into(),
            command,
            folder: folder.into(),
            port: None,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Runs it in another folder.
    #[must_use]
    pub fn inside(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Starts it by another command, which these words begin and its own follow.
    #[must_use]
    pub fn by(mut self, first: &str, words: &[&str]) -> Self {
        let mut command = Command::new(first);
        command.args(words);
        command.arg(self.command.get_program());
        command.args(self.command.get_args());
        for (key, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        if let Some(folder) = self.command.get_current_dir() {
            command.current_dir(folder);
        }
        command.stdin(Stdio::null());
        self.command = command;
        self
    }

    /// Says that it has started once it listens on this port.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Starts it, output to a log; returns once it listens, if it is to listen.
    pub fn start(mut self) -> Result<Program> {
        let log = self.folder.join(format!("{}.log", self.name));
        let file = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        self.command.stdout(file.try_clone()?).stderr(file);
        self.launch(log)
    }

    /// Starts it with stdin and stdout as pipes for the caller.
    pub fn start_piped(mut self) -> Result<Program> {
        let log = self.folder.join(format!("{}.log", self.name));
        let file = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        self.command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(file);
        self.launch(log)
    }

    /// Runs it to its end.
    pub fn run(mut self, limit: Duration) -> Result<Ran> {
        let log = self.folder.join(format!("{}.log", self.name));
        let file = File::create(&log)?;
        let errors = self.folder.join(format!("{}.err", self.name));
        self.command.stdout(file).stderr(File::create(&errors)?);
        let mut program = self.launch(log.clone())?;
        let pid = program.pid();
        let status = program.wait(limit)?;
        Ok(Ran {
            pid,
            code: status.code(),
            output: String::from_utf8_lossy(&fs::read(&log)?).into_owned(),
            errors: String::from_utf8_lossy(&fs::read(&errors)?).into_owned(),
        })
    }

    fn launch(mut self, log: PathBuf) -> Result<Program> {
        self.command.process_group(0);
        let child = self
            .command
            .spawn()
            .with_context(|| format!("start {}", self.name))?;
        let mut program = Program {
            name: self.name,
            child,
            log,
            stopped: false,
        };
        if let Some(port) = self.port {
            program.listen(port)?;
        }
        Ok(program)
    }
}

/// A program that has ended.
#[derive(Debug)]
pub struct Ran {
    /// Its process id.
    pub pid: u32,
    /// Its exit code; None if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub output: String,
    /// What it wrote to stderr.
    pub errors: String,
}

impl Program {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its process id and those of all it started.
    pub fn pids(&self) -> Vec<u32> {
        process::tree(self.pid())
    }

    /// The child itself, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The last lines it wrote.
    pub fn tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n    ")
    }

    /// Sends a signal to it alone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).with_context(|| format!("signal {}", self.name))
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> Result<std::process::ExitStatus> {
        let mut status = None;
        let name = format!("{} ends", self.name);
        process::until(&name, limit, || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        })
        .with_context(|| self.tail())?;
        self.stopped = true;
        status.context("no exit status")
    }

    /// Ends it and all it started.
    pub fn stop(&mut self) {
        if std::mem::replace(&mut self.stopped, true) {
            return;
        }
        let group = Pid::from_child(&self.child);
        let _ = kill_process_group(group, Signal::TERM);
        let gone = process::until("end", Duration::from_secs(3), || {
            matches!(self.child.try_wait(), Ok(Some(_)))
        });
        // Workers of a master that ended first, and whatever ignored the signal.
        let _ = kill_process_group(group, Signal::KILL);
        if gone.is_err() {
            let _ = self.child.wait();
        }
    }

    fn listen(&mut self, port: u16) -> Result<()> {
        let mut ended = None;
        let waited = process::until("listens", process::slowly(Duration::from_secs(60)), || {
            ended = self.child.try_wait().ok().flatten();
            ended.is_some() || process::listening(self.child.id(), port)
        });
        if let Some(status) = ended {
            bail!(
                "{} ended at once ({status}):\n    {}",
                self.name,
                self.tail()
            );
        }
        waited.with_context(|| format!("{} on port {port}:\n    {}", self.name, self.tail()))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.stop();
    }
}
