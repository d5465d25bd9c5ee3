//! PostgreSQL, Redis and Kafka as the live tests get them, and the loads that saturate them.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::Load;
use crate::bench::traced;
use crate::check;
use crate::shell::{self, say};

/// The servers that loads need, running; they end with the benchmark.
#[derive(Default)]
pub struct Servers {
    postgres: Option<Postgres>,
    redis: Option<Redis>,
    kafka: Option<Kafka>,
}

/// What a load did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ran {
    /// What is counted of it, per second, and in all.
    pub rate: f64,
    pub count: f64,
    /// Requests that were answered, by each end that is traced.
    pub exchanges: f64,
}

impl Servers {
    /// Starts what these loads need, and tries each of them shortly.
    pub fn start(loads: &[Load]) -> Result<Self> {
        let mut servers = Self::default();
        for load in loads {
            match load {
                Load::Pgbench { .. } | Load::Copy => {
                    if servers.postgres.is_none() {
                        servers.postgres = Some(Postgres::start()?);
                    }
                }
                Load::Redis { .. } => {
                    if servers.redis.is_none() {
                        servers.redis = Some(Redis::start()?);
                    }
                }
                Load::Kafka => servers.kafka = Some(Kafka::start()?),
            }
        }
        Ok(servers)
    }

    /// Runs a load, for about so long where that can be said.
    pub fn run(&mut self, load: Load, seconds: u32) -> Result<Ran> {
        match load {
            Load::Pgbench { select, unix } => self.postgres()?.bench(select, unix, seconds),
            Load::Copy => self.postgres()?.copy(),
            Load::Redis { pipeline } => self.redis()?.bench(pipeline, seconds),
            Load::Kafka => self.kafka()?.produce(seconds),
        }
    }

    /// The processes that are traced: the server's, and of Kafka the producer too.
    pub fn traced(&mut self, load: Load) -> Result<Vec<u32>> {
        Ok(match load {
            Load::Pgbench { .. } | Load::Copy => vec![self.postgres()?.server.id()],
            Load::Redis { .. } => vec![self.redis()?.server.id()],
            Load::Kafka => {
                let kafka = self.kafka()?;
                vec![kafka.broker.id(), kafka.producer.id()]
            }
        })
    }

    fn postgres(&mut self) -> Result<&mut Postgres> {
        self.postgres.as_mut().context("PostgreSQL was not started")
    }

    fn redis(&mut self) -> Result<&mut Redis> {
        self.redis.as_mut().context("Redis was not started")
    }

    fn kafka(&mut self) -> Result<&mut Kafka> {
        self.kafka.as_mut().context("Kafka was not started")
    }
}

/// CPU that processes and the children they have and had used, microseconds (proc_pid_stat(5)): a
/// server that gives each connection a process has most of it there.
pub fn cpu(pids: &[u32]) -> f64 {
    let of = |pid: &u32| {
        let path = format!("/proc/{pid}/task/{pid}/children");
        let children = fs::read_to_string(path).unwrap_or_default();
        let living: Vec<u32> = children.split_whitespace().flat_map(str::parse).collect();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let ended = fields
            .split(' ')
            .skip(13)
            .take(2)
            .flat_map(str::parse::<u64>);
        ended.sum::<u64>() as f64 * traced::TICK + traced::cpu(&living)
    };
    traced::cpu(pids) + pids.iter().map(of).sum::<f64>()
}

/// What the live tests' own installer gets, and the lines it says.
fn get(words: &[&str]) -> Result<Vec<String>> {
    say(format!("bench: getting {}", words[1]));
    let mut command = shell::cargo("run");
    command
        .args(["--quiet", "--package", "spantap-tests", "--release"])
        .args(["--bin", "live-get", "--"])
        .args(words);
    let said = shell::read(&mut command)?;
    Ok(said.lines().map(str::to_owned).collect())
}

/// Unpacked packages.
struct Packages {
    root: PathBuf,
    libraries: PathBuf,
}

impl Packages {
    fn get(words: &[&str]) -> Result<Self> {
        let [root, libraries] = &get(words)?[..] else {
            bail!("live-get said something else");
        };
        let (root, libraries) = (root.into(), libraries.into());
        Ok(Self { root, libraries })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.root.join(program));
        command.env("LD_LIBRARY_PATH", &self.libraries);
        command
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Starts a server that ends with us; returns when it listens. What it says goes to a file.
fn serve(name: &str, program: &Command, port: u16) -> Result<Child> {
    let mut command = shell::tied(program.get_program(), false)?;
    command.args(program.get_args());
    for (name, value) in program.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    let log = fs::File::create(check::kept("bench")?.join(format!("{name}.log")))?;
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    let mut child = command.spawn().with_context(|| format!("start {name}"))?;
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if child.try_wait()?.is_some() || begun.elapsed() > Duration::from_secs(60) {
            traced::end(&mut child);
            bail!("{name} does not listen: see target/bench/{name}.log");
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(child)
}

/// Who runs PostgreSQL: it refuses to be root's.
const NOBODY: u32 = 65534;

struct Postgres {
    server: Child,
    packages: Packages,
    folder: PathBuf,
    port: u16,
}

impl Postgres {
    fn start() -> Result<Self> {
        let words = [
            "debian",
            "postgresql",
            "postgresql-15",
            "postgresql-client-15",
        ];
        let packages = Packages::get(&words)?;
        let port = free_port()?;
        // The path of a unix socket is short, and its folder the server's own.
        let folder = std::env::temp_dir().join(format!("spantap-bench-{port}"));
        fs::create_dir_all(&folder)?;
        chown(&folder, Some(NOBODY), Some(NOBODY))?;
        let data = folder.join("db");
        let mut init = packages.nobody(&folder, "initdb");
        init.args(["-U", "app", "-A", "trust", "--no-sync", "-E", "UTF8"])
            .args(["--locale=C", "-D"])
            .arg(&data);
        shell::read(&mut init)?;
        let mut server = packages.nobody(&folder, "postgres");
        server
            .arg("-D")
            .arg(&data)
            .args(["-F", "-p", &port.to_string(), "-k"])
            .arg(&folder)
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "autovacuum=off"])
            .args(["-c", "max_wal_size=8GB", "-c", "checkpoint_timeout=1h"]);
        let server = serve("postgres", &server, port)?;
        let postgres = Self {
            server,
            packages,
            folder,
            port,
        };
        let mut fill = postgres.client("pgbench", true);
        shell::read(fill.args(["-i", "-q", "-s", "10", "postgres"]))?;
        Ok(postgres)
    }

    /// A client's program that reaches it.
    fn client(&self, program: &str, unix: bool) -> Command {
        let mut command = self.packages.command(&format!("{PROGRAMS}/{program}"));
        let host = match unix {
            true => self.folder.display().to_string(),
            false => "127.0.0.1".to_owned(),
        };
        command.args(["-U", "app", "-h", &host, "-p", &self.port.to_string()]);
        command
    }

    /// pgbench, without looking after its tables first.
    fn bench(&self, select: bool, unix: bool, seconds: u32) -> Result<Ran> {
        let mut command = self.client("pgbench", unix);
        command.args(["-n", "-c", "4", "-j", "1", "-T", &seconds.to_string()]);
        if select {
            command.arg("-S");
        }
        let said = shell::read(command.arg("postgres"))?;
        let after = |start: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(start));
            let word = line.and_then(|line| line.split([' ', '/']).next()?.parse::<f64>().ok());
            word.with_context(|| format!("pgbench said no {start}: {said}"))
        };
        let count = after("number of transactions actually processed: ")?;
        // Of the TPC-B-like ones, each has seven statements.
        let statements = if select { 1.0 } else { 7.0 };
        Ok(Ran {
            rate: after("tps = ")?,
            count,
            exchanges: count * statements,
        })
    }

    /// A GiB of rows, to nowhere.
    fn copy(&self) -> Result<Ran> {
        let mut command = self.client("psql", false);
        command
            .args(["-X", "-q", "-d", "postgres", "-c", COPY])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let begun = Instant::now();
        shell::run(&mut command)?;
        Ok(Ran {
            rate: 1024.0 / begun.elapsed().as_secs_f64(),
            count: 1.0,
            exchanges: 1.0,
        })
    }
}

impl Packages {
    /// One of PostgreSQL's, as nobody.
    fn nobody(&self, folder: &Path, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .args(["--pdeathsig", "KILL", "--"])
            .arg(self.root.join(PROGRAMS).join(program))
            .env("LD_LIBRARY_PATH", &self.libraries)
            .current_dir(folder);
        command
    }
}

const PROGRAMS: &str = "usr/lib/postgresql/15/bin";
/// 1,073,741,824 bytes with the ends of lines.
const COPY: &str = "COPY (SELECT repeat('x', 1023) FROM generate_series(1, 1048576)) TO STDOUT";

impl Drop for Postgres {
    fn drop(&mut self) {
        traced::end(&mut self.server);
        fs::remove_dir_all(&self.folder).ok();
    }
}

struct Redis {
    server: Child,
    packages: Packages,
    port: u16,
    /// Commands per second, by the depth of the pipeline, once they are known.
    rates: Vec<(u32, f64)>,
}

impl Redis {
    fn start() -> Result<Self> {
        let packages = Packages::get(&["debian", "redis", "redis-server", "redis-tools"])?;
        let port = free_port()?;
        let mut server = packages.command("usr/bin/redis-server");
        server.args(["--port", &port.to_string(), "--save", ""]);
        let server = serve("redis", server.args(["--bind", "127.0.0.1"]), port)?;
        Ok(Self {
            server,
            packages,
            port,
            rates: Vec::new(),
        })
    }

    /// So many commands as take about so long.
    fn bench(&mut self, pipeline: u32, seconds: u32) -> Result<Ran> {
        let known = self.rates.iter().find(|(depth, _)| *depth == pipeline);
        let rate = match known {
            Some((_, rate)) => *rate,
            None => {
                let rate = self.set(pipeline, 100_000.0)?.rate;
                self.rates.push((pipeline, rate));
                rate
            }
        };
        self.set(pipeline, (rate * f64::from(seconds)).round())
    }

    fn set(&self, pipeline: u32, count: f64) -> Result<Ran> {
        let mut command = self.packages.command("usr/bin/redis-benchmark");
        command
            .args([
                "-p",
                &self.port.to_string(),
                "-t",
                "set",
                "--csv",
                "-c",
                "8",
            ])
            .args(["-d", "100", "-P", &pipeline.to_string()])
            .args(["-n", &count.to_string()]);
        let said = shell::read(&mut command)?;
        let line = said
            .lines()
            .find_map(|line| line.strip_prefix("\"SET\",\""));
        let rate = line.and_then(|line| line.split('"').next()?.parse().ok());
        Ok(Ran {
            rate: rate.with_context(|| format!("redis-benchmark said {said}"))?,
            count,
            exchanges: count,
        })
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        traced::end(&mut self.server);
    }
}

struct Kafka {
    broker: Child,
    producer: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
    folder: PathBuf,
}

impl Kafka {
    fn start() -> Result<Self> {
        let classes = get(&["maven", "kafka", "kafka", "Driver.java"])?.concat();
        let (port, controller) = (free_port()?, free_port()?);
        let folder = std::env::temp_dir().join(format!("spantap-bench-{port}"));
        fs::create_dir_all(&folder)?;
        let properties = folder.join("server.properties");
        let text = BROKER
            .replace("CONTROLLER_PORT", &controller.to_string())
            .replace("PORT", &port.to_string())
            .replace("FOLDER", &folder.display().to_string());
        fs::write(&properties, text)?;
        let mut broker = Command::new("java");
        broker
            .args(["-Xmx512m", "-cp", &classes, "Broker"])
            .arg(&properties);
        let broker = serve("kafka", &broker, port)?;
        let mut producer = shell::tied("java", false)?;
        producer
            .args(["-Xmx256m", "-cp", &classes])
            .arg(shell::workspace().join("tests/apps/kafka/Load.java"))
            .args([&format!("127.0.0.1:{port}"), "load", "1000"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut producer = producer.spawn().context("start the producer")?;
        let asks = producer.stdin.take().context("a pipe")?;
        let answers = BufReader::new(producer.stdout.take().context("a pipe")?);
        let mut kafka = Self {
            broker,
            producer,
            asks,
            answers,
            folder,
        };
        if kafka.line()?.trim() != "ready" {
            bail!("the producer does not get ready");
        }
        say("bench: kafka gets warm");
        kafka.produce(5)?;
        Ok(kafka)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line)
    }

    fn produce(&mut self, seconds: u32) -> Result<Ran> {
        writeln!(self.asks, "{seconds}")?;
        let line = self.line()?;
        let numbers: Vec<f64> = line.split_whitespace().flat_map(str::parse).collect();
        let [records, requests, took] = numbers[..] else {
            bail!("the producer said {line:?}");
        };
        Ok(Ran {
            rate: records / took,
            count: records,
            exchanges: 2.0 * requests,
        })
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        traced::end(&mut self.producer);
        traced::end(&mut self.broker);
        fs::remove_dir_all(&self.folder).ok();
    }
}

const BROKER: &str = "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:CONTROLLER_PORT
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:PORT,CONTROLLER://127.0.0.1:CONTROLLER_PORT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=FOLDER/data
log.retention.bytes=67108864
log.segment.bytes=67108864
log.retention.check.interval.ms=5000
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
";
