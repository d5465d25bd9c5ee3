//! The agent while it is measured: started, waited for, its CPU and memory read from /proc, and
//! what it says of itself at its end.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::programs::Runs;
use crate::shell;

/// A running agent, from its first line of readiness to its end.
pub struct Agent {
    child: Child,
    lines: mpsc::Receiver<String>,
    begun: Instant,
    /// From its start to readiness.
    pub ready: Duration,
}

/// What an agent said at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Spans that left.
    pub spans: u64,
    /// Whatever was lost anywhere.
    pub lost: u64,
    /// Records that the kernel side gave it, and the payload in them.
    pub records: u64,
    /// See `records`.
    pub bytes: u64,
}

impl Agent {
    /// Starts one with these arguments that sends its spans there; returns when it is ready.
    pub fn start(spantap: &Path, arguments: &[String], endpoint: &str) -> Result<Self> {
        if !shell::is_root() {
            bail!("benchmarks with the agent need root: run this command as root");
        }
        let mut command = shell::tied(spantap, false)?;
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("OTEL_") || name.starts_with("SPANTAP_") {
                command.env_remove(name);
            }
        }
        command
            .args(["agent", "--verbose"])
            .args(arguments)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let begun = Instant::now();
        let mut child = command.spawn().context("start the agent")?;
        let errors = child.stderr.take().context("the agent's standard error")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let lines = BufReader::new(errors).lines().map_while(Result::ok);
            for line in lines {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut agent = Self {
            child,
            lines,
            begun,
            ready: Duration::ZERO,
        };
        let mut said = String::new();
        while let Ok(line) = agent.lines.recv_timeout(Duration::from_secs(30)) {
            if line.contains("ready") {
                agent.ready = begun.elapsed();
                return Ok(agent);
            }
            said += &format!("\n  {line}");
        }
        bail!("the agent did not get ready:{said}")
    }

    /// Since its start.
    pub fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    /// CPU it has used, microseconds.
    pub fn cpu(&self) -> f64 {
        cpu(&[self.child.id()])
    }

    /// What its programs have run.
    pub fn runs(&self) -> Runs {
        Runs::of(self.child.id())
    }

    /// Memory it has, and the most it has had, MiB.
    pub fn memory(&self) -> (f64, f64) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        (mebibytes(&status, "VmRSS:"), mebibytes(&status, "VmHWM:"))
    }

    /// Ends it.
    pub fn end(mut self) -> Result<Ended> {
        end(&mut self.child);
        let mut said = String::new();
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(10)) {
            if let Some(mut ended) = ended(&line) {
                // Its counters follow.
                while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(10)) {
                    ended.read(&line);
                }
                return Ok(ended);
            }
            said += &format!("\n  {line}");
        }
        bail!("the agent did not say how it ended:{said}")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            end(&mut self.child);
        }
    }
}

impl Ended {
    /// Takes a line that is one of these counters: its name, its value.
    fn read(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let (Some(name), Some(Ok(value))) = (words.next(), words.next().map(str::parse)) else {
            return;
        };
        match name {
            "event.records" => self.records = value,
            "kernel.bytes" => self.bytes = value,
            _ => {}
        }
    }
}

/// `spantap: stopped; 12 spans, 5 lost: 2 kernel.ring_full, …`
fn ended(line: &str) -> Option<Ended> {
    let (spans, rest) = line.split_once("stopped; ")?.1.split_once(", ")?;
    let spans = spans.split_once(" span")?.0;
    Some(Ended {
        spans: spans.parse().ok()?,
        lost: rest.split_once(" lost")?.0.parse().ok()?,
        ..Ended::default()
    })
}

/// Asks a process to end, then makes it.
pub fn end(child: &mut Child) {
    let mut term = Command::new("kill");
    shell::run(term.arg(child.id().to_string())).ok();
    if shell::wait_for(child, PATIENCE).is_err() {
        child.kill().ok();
    }
}

/// Each probe that is taken away waits for the kernel, longer where others do the same.
const PATIENCE: Duration = Duration::from_secs(60);

/// CPU that processes and the threads they have had used, microseconds (proc_pid_stat(5)).
pub fn cpu(pids: &[u32]) -> f64 {
    let ticks = |pid: &u32| -> u64 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let times = fields.split(' ').skip(11).take(2);
        times.filter_map(|field| field.parse::<u64>().ok()).sum()
    };
    pids.iter().map(ticks).sum::<u64>() as f64 * TICK
}

/// Microseconds.
pub const TICK: f64 = 10_000.0;

fn mebibytes(status: &str, name: &str) -> f64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    number.map_or(f64::NAN, |kib| kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_read() {
        let line = "spantap: stopped; 12 spans, 5 lost: 2 kernel.ring_full, 3 export.dropped_full";
        let numbers = |line| ended(line).map(|ended| (ended.spans, ended.lost));
        assert_eq!(numbers(line), Some((12, 5)));
        let line = "spantap: stopped; 1 span, 0 lost";
        assert_eq!(numbers(line), Some((1, 0)));
        let mut counted = Ended::default();
        counted.read("event.records  12  Records read from the rings.");
        counted.read("kernel.bytes   34  Payload bytes the kernel side delivered.");
        assert_eq!((counted.records, counted.bytes), (12, 34));
        assert_eq!(ended("spantap: ready; spans go nowhere"), None);
    }

    #[test]
    fn memory_is_read() {
        let status = "VmPeak:\t  9 kB\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(mebibytes(status, "VmHWM:"), 2.0);
        assert_eq!(mebibytes(status, "VmRSS:"), 1.0);
        assert!(mebibytes("", "VmRSS:").is_nan());
        assert!(cpu(&[std::process::id()]) >= 0.0);
    }
}
