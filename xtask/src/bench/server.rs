//! Servers under wrk: the same load in turns without the agent, with the agent tracing them, and
//! with the agent looking elsewhere. CPU is what the kernel charged to the server's processes and
//! to the agent, from /proc; the load's own CPU does not count.

use std::collections::HashMap;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::table::{Table, median};
use crate::shell::{self, say};
use crate::{agent, check, toolchain};

/// Flags of the server benchmarks.
#[derive(Args)]
pub struct Load {
    /// Rounds; each runs every mode once.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of load for each mode of each round.
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// Connections.
    #[arg(long, default_value_t = 16)]
    connections: u32,
}

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One worker, a file of some hundred bytes.
    Nginx,
    /// `http.createServer`.
    Node,
    /// `http.server`, threads.
    Python,
}

/// What the agent does meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Mode {
    Without,
    Traced,
    Unselected,
}

impl Mode {
    const ALL: [Self; 3] = [Self::Without, Self::Traced, Self::Unselected];

    /// Arguments of the agent; None where there is none.
    fn arguments(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Without => None,
            Self::Traced => Some(&["agent", "--export", "none"]),
            // Something is selected, and this load is not it.
            Self::Unselected => {
                Some(&["agent", "--export", "none", "--command", "no-such-program"])
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Without => "no agent",
            Self::Traced => "traced",
            Self::Unselected => "not selected",
        }
    }
}

/// One mode of one round.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    /// Requests per second.
    rate: f64,
    /// Milliseconds.
    p99: f64,
    /// Server CPU per request, microseconds.
    server: f64,
    /// Agent CPU per request, microseconds.
    agent: f64,
    /// Most memory the agent had, MiB.
    memory: f64,
}

impl Load {
    /// Rounds of every mode, then the table.
    pub fn go(&self, kind: Kind) -> Result<()> {
        toolchain::ensure()?;
        shell::install(&["wrk"], "bench")?;
        let spantap = agent::build(true)?;
        let server = Server::start(kind)?;
        let mut samples: HashMap<Mode, Vec<Sample>> = HashMap::new();
        for round in 1..=self.rounds {
            for mode in Mode::ALL {
                let sample = self.sample(mode, &server, &spantap)?;
                say(format!(
                    "bench: round {round} of {}, {}: {:.0} requests/s, {:.2} us each",
                    self.rounds,
                    mode.name(),
                    sample.rate,
                    sample.server
                ));
                samples.entry(mode).or_default().push(sample);
            }
        }
        self.table(kind, &samples).keep()
    }

    fn sample(&self, mode: Mode, server: &Server, spantap: &Path) -> Result<Sample> {
        let agent = mode
            .arguments()
            .map(|arguments| Agent::start(spantap, arguments))
            .transpose()?;
        // One second to warm up, unmeasured: caches, the agent's first look at the connections.
        self.wrk(server, 1)?;
        let tick = Duration::from_millis(10).as_secs_f64();
        let of = |pids: &[u32]| pids.iter().map(|pid| ticks(*pid)).sum::<u64>() as f64 * tick * 1e6;
        let watched: Vec<u32> = agent.iter().map(|agent| agent.0.id()).collect();
        let before = (of(&server.pids()), of(&watched));
        let wrk = self.wrk(server, self.seconds)?;
        let after = (of(&server.pids()), of(&watched));
        Ok(Sample {
            rate: wrk.requests / f64::from(self.seconds),
            p99: wrk.p99,
            server: (after.0 - before.0) / wrk.requests,
            agent: (after.1 - before.1) / wrk.requests,
            memory: watched.first().map_or(0.0, |pid| peak_memory(*pid)),
        })
    }

    fn wrk(&self, server: &Server, seconds: u32) -> Result<Wrk> {
        let mut command = Command::new("wrk");
        command.args(["-t", "1", "-c", &self.connections.to_string(), "--latency"]);
        command.args([
            "-d",
            &format!("{seconds}s"),
            &format!("http://{}/index.html", server.address),
        ]);
        Wrk::read(&shell::read(&mut command)?)
    }

    fn table(&self, kind: Kind, samples: &HashMap<Mode, Vec<Sample>>) -> Table {
        let middle = |mode: Mode, figure: fn(&Sample) -> f64| {
            median(samples.get(&mode).into_iter().flatten().map(figure))
        };
        let head = [
            "mode",
            "requests/s",
            "ratio",
            "p99 ms",
            "server us/request",
            "added",
            "agent us/request",
            "agent MiB",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        let (rate, server) = (
            middle(Mode::Without, |s| s.rate),
            middle(Mode::Without, |s| s.server),
        );
        for mode in Mode::ALL {
            let own = middle(mode, |s| s.server);
            rows.push(vec![
                mode.name().to_owned(),
                format!("{:.0}", middle(mode, |s| s.rate)),
                format!("{:.3}", middle(mode, |s| s.rate) / rate),
                format!("{:.2}", middle(mode, |s| s.p99)),
                format!("{own:.2}"),
                format!("{:+.1} %", (own / server - 1.0) * 100.0),
                format!("{:.2}", middle(mode, |s| s.agent)),
                format!("{:.0}", middle(mode, |s| s.memory)),
            ]);
        }
        let name = format!("{kind:?}").to_lowercase();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let caption = format!(
            "{name}, {} connections by wrk, medians of {} rounds of {} s, {} CPUs, Linux {}.",
            self.connections,
            self.rounds,
            self.seconds,
            thread::available_parallelism().map_or(0, usize::from),
            kernel.trim()
        );
        Table {
            name,
            caption,
            rows,
        }
    }
}

/// What wrk said.
struct Wrk {
    requests: f64,
    p99: f64,
}

impl Wrk {
    fn read(said: &str) -> Result<Self> {
        let mut wrk = Self {
            requests: 0.0,
            p99: f64::NAN,
        };
        for line in said.lines().map(str::trim) {
            if let Some((number, _)) = line.split_once(" requests in ") {
                wrk.requests = number.parse().context("requests")?;
            } else if let Some(time) = line.strip_prefix("99% ") {
                wrk.p99 = milliseconds(time.trim()).context("latency")?;
            } else if line.starts_with("Non-2xx") || line.starts_with("Socket errors") {
                bail!("wrk: {line}");
            }
        }
        if wrk.requests <= 0.0 {
            bail!("wrk made no request: {said}");
        }
        Ok(wrk)
    }
}

/// `1.23ms`, `456.00us` or `1.20s`.
fn milliseconds(text: &str) -> Option<f64> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
    let number: f64 = text[..unit].parse().ok()?;
    match &text[unit..] {
        "us" => Some(number / 1000.0),
        "ms" => Some(number),
        "s" => Some(number * 1000.0),
        _ => None,
    }
}

/// A server under load; it ends with the benchmark.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(kind: Kind) -> Result<Self> {
        let folder = check::kept("bench")?;
        fs::write(folder.join("index.html"), "x".repeat(600))?;
        let port: u16 = 18_080;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut command = match kind {
            Kind::Nginx => {
                shell::install(&["nginx-light"], "bench")?;
                let file = folder.join("nginx.conf");
                let root = folder.display().to_string();
                fs::write(
                    &file,
                    NGINX
                        .replace("ROOT", &root)
                        .replace("PORT", &port.to_string()),
                )?;
                let mut command = shell::tied("/usr/sbin/nginx", false)?;
                command.arg("-c").arg(&file).arg("-p").arg(&folder);
                command
            }
            Kind::Node => {
                let mut command = shell::tied("node", false)?;
                command.args(["-e", NODE, &port.to_string()]);
                command
            }
            Kind::Python => {
                let mut command = shell::tied("python3", false)?;
                command
                    .args(["-c", PYTHON, &port.to_string()])
                    .current_dir(&folder);
                command
            }
        };
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command
            .spawn()
            .with_context(|| format!("start {}", shell::words(&command)))?;
        let mut server = Self { child, address };
        for _ in 0..200 {
            if TcpStream::connect(address).is_ok() {
                return Ok(server);
            }
            if server.child.try_wait()?.is_some() {
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
        bail!("{} does not listen on {address}", shell::words(&command))
    }

    /// The server's processes.
    fn pids(&self) -> Vec<u32> {
        let own = self.child.id();
        let children =
            fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        std::iter::once(own)
            .chain(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse().ok()),
            )
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// The agent, from its first line of readiness to its end.
struct Agent(Child);

impl Agent {
    fn start(spantap: &Path, arguments: &[&str]) -> Result<Self> {
        if !shell::is_root() {
            bail!("benchmarks with the agent need root: run this command as root");
        }
        let mut command = shell::tied(spantap, false)?;
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let child = command.spawn().context("start the agent")?;
        let mut agent = Self(child);
        thread::sleep(Duration::from_secs(2));
        if let Some(status) = agent.0.try_wait()? {
            bail!("the agent ended at once ({status})");
        }
        Ok(agent)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

/// Asks a process to end, then makes it.
fn end(child: &mut Child) {
    let mut term = Command::new("kill");
    shell::run(term.arg(child.id().to_string())).ok();
    if shell::wait_for(child, Duration::from_secs(5)).is_err() {
        child.kill().ok();
    }
}

/// CPU that a process and the threads it has had used, in ticks of 10 ms (proc_pid_stat(5)).
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    fields
        .split(' ')
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum()
}

/// Most memory a process has had, MiB.
fn peak_memory(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    number.unwrap_or(0.0) / 1024.0
}

const NGINX: &str = "daemon off;
worker_processes 1;
pid ROOT/nginx.pid;
error_log ROOT/nginx.error.log;
events { worker_connections 1024; }
http {
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path ROOT/body;
    proxy_temp_path ROOT/proxy;
    fastcgi_temp_path ROOT/fastcgi;
    uwsgi_temp_path ROOT/uwsgi;
    scgi_temp_path ROOT/scgi;
    server { listen 127.0.0.1:PORT; root ROOT; }
}
";
const NODE: &str = "const body = 'x'.repeat(600);
require('http').createServer((request, response) => response.end(body)).listen(+process.argv[1], '127.0.0.1');";
const PYTHON: &str = "import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        self.send_response(200)
        self.send_header('Content-Length', '600')
        self.end_headers()
        self.wfile.write(b'x' * 600)
    def log_message(self, *arguments):
        pass
http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrk_is_read() {
        let said = "  Latency Distribution\n     50%  1.04ms\n     99%    2.50ms\n  12345 requests in 5.00s, 9MB read\n";
        let wrk = Wrk::read(said).expect("well formed");
        assert_eq!((wrk.requests, wrk.p99), (12345.0, 2.5));
        assert!(Wrk::read("  Socket errors: connect 1\n").is_err());
        assert_eq!(milliseconds("500.00us"), Some(0.5));
        assert_eq!(milliseconds("1.5s"), Some(1500.0));
    }
}
