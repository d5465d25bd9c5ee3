//! The agent's life and death beside programs that must not notice it.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use spantap_tests::driver::Plain;
use spantap_tests::install::{Debian, debian};
use spantap_tests::known::{Ask, ask, drive, few, number};
use spantap_tests::process::{Bpf, alive, free_port, slowly, until};
use spantap_tests::program::{Program, Setup};
use spantap_tests::{Agent, Case, Driver, Party, Sink, Stage, agent};

use crate::policy::run_command;
use crate::programs::{DRIVER, go_server};

/// All of them.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("robust::kill-leaves-nothing", |stage| gone(stage, None)),
        Case::new("robust::term-leaves-nothing", |stage| {
            gone(stage, Some(Signal::TERM))
        }),
        Case::new("robust::ctrl-c-leaves-nothing", |stage| {
            gone(stage, Some(Signal::INT))
        }),
        Case::new("robust::term-flushes", flush),
        Case::new("robust::restart-in-traffic", restart),
        Case::new("robust::two-agents", two),
        Case::new("robust::lone-span-is-prompt", prompt),
        Case::new("robust::own-traffic-is-not-traced", own_traffic),
        Case::new("robust::json", json),
        Case::new("robust::without-privilege", unprivileged),
        Case::new("robust::few-privileges", few_privileges),
        Case::new("robust::watch", watch),
        Case::new("robust::run", run_command),
    ]
}

/// A Go server and a driver connected to it.
struct Pair {
    server: Program,
    driver: Driver,
    port: u16,
}

impl Pair {
    fn start(stage: &Stage) -> Result<Self> {
        let port = free_port()?;
        let server = go_server(&stage.folder, port)?.port(port).start()?;
        let driver = Driver::start(&stage.folder, DRIVER, "driver")?;
        Ok(Self {
            server,
            driver,
            port,
        })
    }

    fn parties(&self) -> [Party; 2] {
        let driver = Party::new("driver", &[self.driver.pid()]);
        [driver, Party::new("go-app", &self.server.pids())]
    }
}

/// Whatever ends the agent, its programs, maps and links go with it, and its targets stay.
fn gone(stage: &mut Stage, signal: Option<Signal>) -> Result<()> {
    let tool = debian("bpftool", &["bpftool"])?;
    let mut pair = Pair::start(stage)?;
    let mut plain = Plain::new(&mut pair.driver, pair.port)?;
    let agent = stage.agent()?.ports(&[pair.port]).start()?;
    drive(&few(), &mut plain, pair.port, None, None)?;
    let held = agent.bpf()?;
    stage.check(!held.programs.is_empty(), || {
        format!("the agent holds no program: {held:?}")
    });
    let left = || left(&tool, &stage.folder, &held);
    if !agent::dry() {
        let now = left()?;
        ensure!(
            now.programs == held.programs,
            "bpftool does not see what the agent holds: {now:?}"
        );
    }
    match signal {
        None => agent.kill()?,
        Some(signal) => agent.end(signal)?,
    }
    let mut rest = Bpf::default();
    // The kernel frees programs a moment after their last holder is gone.
    let all = until("everything is detached", Duration::from_secs(5), || {
        rest = left().unwrap_or_default();
        rest == Bpf::default()
    });
    stage.check(all.is_ok(), || format!("left behind: {rest:?}"));
    drive(&few(), &mut plain, pair.port, None, None)?;
    ensure!(alive(pair.server.pid()), "the server is gone");
    Ok(())
}

/// Which of these the kernel still has, by bpftool's lists.
pub fn left(tool: &Debian, folder: &std::path::Path, held: &Bpf) -> Result<Bpf> {
    let list = |kind: &str| -> Result<BTreeSet<u32>> {
        let all = bpftool(tool, folder, &[kind, "show"])?;
        let ids = all
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|one| one["id"].as_u64());
        Ok(ids.filter_map(|id| u32::try_from(id).ok()).collect())
    };
    Ok(Bpf {
        programs: held
            .programs
            .intersection(&list("prog")?)
            .copied()
            .collect(),
        maps: held.maps.intersection(&list("map")?).copied().collect(),
        links: held.links.intersection(&list("link")?).copied().collect(),
    })
}

/// What bpftool says.
pub fn bpftool(
    tool: &Debian,
    folder: &std::path::Path,
    words: &[&str],
) -> Result<serde_json::Value> {
    let ran = Setup::new("bpftool", folder, tool.file("usr/sbin/bpftool")?)
        .env("LD_LIBRARY_PATH", tool.libraries())
        .arg("--json")
        .args(words)
        .run(slowly(Duration::from_secs(10)))?;
    ensure!(ran.code == Some(0), "bpftool: {ran:?}");
    serde_json::from_str(&ran.output).context("what bpftool says")
}

/// Ended right after the traffic, long before it would have sent of itself.
fn flush(stage: &mut Stage) -> Result<()> {
    let mut pair = Pair::start(stage)?;
    let [asking, serving] = pair.parties();
    let setup = stage.agent()?.ports(&[pair.port]);
    let agent = setup.env("OTEL_BSP_SCHEDULE_DELAY", "60000").start()?;
    let asks: Vec<Ask> = (0..50)
        .map(|_| ask("GET", &format!("/bytes/10/{}", number()), 200))
        .collect();
    let mut plain = Plain::new(&mut pair.driver, pair.port)?;
    let known = drive(&asks, &mut plain, pair.port, Some(&asking), Some(&serving))?;
    agent.stop()?;
    if !agent::dry() {
        let spans = stage.sink.spans();
        stage.judge_spans(&known, &spans);
    }
    Ok(())
}

/// Killed and started again while requests go on: none fails, and the connection that was there
/// all along is traced again.
fn restart(stage: &mut Stage) -> Result<()> {
    let apache = debian("ab", &["apache2-utils"])?;
    let mut pair = Pair::start(stage)?;
    let [asking, serving] = pair.parties();
    let mut plain = Plain::new(&mut pair.driver, pair.port)?;
    let first = stage.agent()?.ports(&[pair.port]).start()?;
    let mut load = Setup::new("ab", &stage.folder, apache.file("usr/bin/ab")?)
        .env("LD_LIBRARY_PATH", apache.libraries())
        .args(["-k", "-q", "-c", "4", "-n", "60000"])
        .arg(format!("http://127.0.0.1:{}/bytes/100/1", pair.port))
        .start()?;
    drive(&few(), &mut plain, pair.port, None, None)?;
    first.kill()?;
    drive(&few(), &mut plain, pair.port, None, None)?;
    // While ab still runs, the second agent meets connections in mid-message.
    let second = stage
        .agent()?
        .ports(&[pair.port])
        .env("OTEL_BSP_MAX_QUEUE_SIZE", "262144")
        .start()?;
    let known = drive(&few(), &mut plain, pair.port, Some(&asking), Some(&serving))?;
    load.wait(Duration::from_secs(60))?;
    let output = load.tail();
    ensure!(
        output.contains("Failed requests:        0") || load_fine(&stage.folder)?,
        "ab: {output}"
    );
    let spans: Vec<_> = stage.receive(second, 0)?;
    let mine: Vec<_> = spans
        .into_iter()
        .filter(|span| known.iter().any(|one| one.target == span.target()))
        .collect();
    if !agent::dry() {
        stage.judge_spans(&known, &mine);
    }
    Ok(())
}

fn load_fine(folder: &std::path::Path) -> Result<bool> {
    let text = std::fs::read_to_string(folder.join("ab.log"))?;
    let line = text
        .lines()
        .find(|line| line.starts_with("Failed requests:"));
    Ok(line.is_some_and(|line| line.ends_with(" 0")))
}

/// Two agents on the same processes: each sees everything, none sees the other.
fn two(stage: &mut Stage) -> Result<()> {
    let mut pair = Pair::start(stage)?;
    let [asking, serving] = pair.parties();
    let other = Sink::start()?;
    let start = |name: &str, sink: &Sink| -> Result<Agent> {
        agent::Setup::new(name, &stage.folder)?
            .to(sink)
            .ports(&[pair.port])
            .start()
    };
    let (first, second) = (start("first", &stage.sink)?, start("second", &other)?);
    let mut plain = Plain::new(&mut pair.driver, pair.port)?;
    let port = pair.port;
    let known = drive(&few(), &mut plain, port, Some(&asking), Some(&serving))?;
    stage.judge(first, &known)?;
    let more = drive(&few(), &mut plain, port, Some(&asking), Some(&serving))?;
    if agent::dry() {
        return Ok(());
    }
    let all: Vec<_> = known.into_iter().chain(more).collect();
    other.wait(all.len() * 2, Duration::from_secs(8));
    second.stop()?;
    let spans = other.spans();
    stage.judge_spans(&all, &spans);
    Ok(())
}

/// With the default settings of the queue a span that comes alone leaves within a second of its
/// end. What a busy machine adds is no fault of the queue: the shortest of three waits counts.
fn prompt(stage: &mut Stage) -> Result<()> {
    let mut pair = Pair::start(stage)?;
    let [asking, serving] = pair.parties();
    let agent = stage
        .agent()?
        .ports(&[pair.port])
        .env("OTEL_BSP_SCHEDULE_DELAY", "5000")
        .start()?;
    let mut plain = Plain::new(&mut pair.driver, pair.port)?;
    let (mut known, mut waits) = (Vec::new(), Vec::new());
    for turn in 1..=3 {
        let one = [ask("GET", &format!("/bytes/10/{}", number()), 200)];
        let more = drive(&one, &mut plain, pair.port, Some(&asking), Some(&serving))?;
        known.extend(more);
        if agent::dry() {
            continue;
        }
        let came = stage.sink.wait(2 * turn, Duration::from_secs(8));
        stage.check(came, || format!("turn {turn}: no span within 8 s"));
        let (spans, arrivals) = (stage.sink.spans(), stage.sink.arrivals());
        if let (Some(end), Some(last)) = (spans.iter().map(|span| span.end).max(), arrivals.last())
        {
            let arrived = SystemTime::now() - last.at.elapsed();
            let end = UNIX_EPOCH + Duration::from_nanos(end);
            waits.push(arrived.duration_since(end).unwrap_or_default());
        }
    }
    let least = waits.iter().min();
    stage.check(
        least.is_some_and(|wait| *wait < Duration::from_secs(1)),
        || format!("from the end of a lone span to its arrival: {waits:?}"),
    );
    stage.judge(agent, &known).map(drop)
}

/// Told to trace its own process, it still must not trace what it sends.
fn own_traffic(stage: &mut Stage) -> Result<()> {
    let mut pair = Pair::start(stage)?;
    let [asking, _] = pair.parties();
    let agent = agent::Setup::selecting_itself("agent", &stage.folder)?
        .to(&stage.sink)
        .pids(&[pair.driver.pid()])
        .start()?;
    let mut plain = Plain::new(&mut pair.driver, pair.port)?;
    let mut known = drive(&few(), &mut plain, pair.port, Some(&asking), None)?;
    stage.sink.wait(
        known.len(),
        Duration::from_secs(if agent::dry() { 0 } else { 8 }),
    );
    // A second batch, so that the first one's export is over and done with.
    known.extend(drive(&few(), &mut plain, pair.port, Some(&asking), None)?);
    stage.judge(agent, &known).map(drop)
}

/// One JSON object per span on stdout.
fn json(stage: &mut Stage) -> Result<()> {
    let mut pair = Pair::start(stage)?;
    let setup = agent::Setup::new("agent", &stage.folder)?.ports(&[pair.port]);
    let agent = setup.args(["--export", "json"]).start()?;
    let mut plain = Plain::new(&mut pair.driver, pair.port)?;
    let known = drive(&few(), &mut plain, pair.port, None, None)?;
    let objects = |agent: &Agent| -> Vec<String> {
        agent
            .log()
            .lines()
            .filter(|line| line.starts_with('{'))
            .map(String::from)
            .collect()
    };
    let waited = until("all spans are printed", Duration::from_secs(5), || {
        agent::dry() || objects(&agent).len() >= known.len() * 2
    });
    let lines = objects(&agent);
    agent.stop()?;
    stage.check(waited.is_ok() && lines.len() == known.len() * 2, || {
        format!("{} lines", lines.len())
    });
    for one in &known {
        let count = lines
            .iter()
            .filter(|line| line.contains(&one.target))
            .count();
        stage.check(count == 2, || {
            format!("{count} lines speak of {}", one.target)
        });
    }
    for line in &lines {
        let fine = serde_json::from_str::<serde_json::Value>(line).is_ok_and(|v| v.is_object());
        stage.check(fine, || format!("not an object: {line}"));
    }
    Ok(())
}

/// With the two rights that it cannot do without it traces, and says what it does without; so does
/// `doctor`.
fn few_privileges(stage: &mut Stage) -> Result<()> {
    if agent::dry() {
        return Ok(());
    }
    let port = free_port()?;
    let _server = go_server(&stage.folder, port)?.port(port).start()?;
    let url = format!("http://127.0.0.1:{port}/bytes/10/{}", number());
    let folder = std::path::PathBuf::from(&stage.folder);
    let run = |name: &str, words: &[&str]| -> Result<_> {
        Setup::new(name, &folder, "setpriv")
            .args(["--bounding-set=-all,+bpf,+perfmon", "--inh-caps=-all"])
            .arg(agent::binary()?)
            .args(words)
            .run(Duration::from_secs(20))
    };
    let doctor = run("doctor", &["doctor"])?;
    let mut rows = doctor.output.lines();
    let lease = rows.any(|row| row.contains("CAP_LEASE") && row.contains("degraded"));
    let told = doctor.output.contains("spantap can trace") && lease;
    stage.check(doctor.code == Some(0) && told, || format!("{doctor:?}"));
    let curl = ["run", "--", "curl", "-s", "-o", "/dev/null", &url];
    let ran = run("run", &curl)?;
    let traced = ran.errors.contains("client  127.0.0.1") && ran.errors.contains("GET /bytes/");
    let told = ran.errors.contains("without CAP_SYS_PTRACE");
    stage.check(ran.code == Some(0) && traced && told, || format!("{ran:?}"));
    Ok(())
}

/// `watch` says when it is ready: what is sent from then on is shown.
fn watch(stage: &mut Stage) -> Result<()> {
    if agent::dry() {
        return Ok(());
    }
    let pair = Pair::start(stage)?;
    let port = pair.port.to_string();
    let words = ["watch", "--limit", "1", "--side", "server", "--port", &port];
    let mut watch = Setup::new(
        "watch",
        std::path::Path::new(&stage.folder),
        agent::binary()?,
    )
    .args(words)
    .start()?;
    until("watch is ready", Duration::from_secs(15), || {
        watch.tail().contains("spantap: ready")
    })?;
    let url = format!("http://127.0.0.1:{port}/bytes/10/{}", number());
    Setup::new("curl", std::path::Path::new(&stage.folder), "curl")
        .args(["-s", &url])
        .run(Duration::from_secs(5))?;
    let ended = watch.wait(Duration::from_secs(5))?;
    let shown = watch.tail();
    let told = shown.contains("GET /bytes/") && shown.contains("1 shown");
    stage.check(ended.success() && told, || format!("{ended}: {shown}"));
    Ok(())
}

/// Without rights it says which are missing, and exits with the code documented for that.
fn unprivileged(stage: &mut Stage) -> Result<()> {
    if agent::dry() {
        return Ok(());
    }
    // The binary may lie where only root can read.
    let copy = std::path::PathBuf::from(format!("/tmp/spantap-live-{}", std::process::id()));
    std::fs::copy(agent::binary()?, &copy)?;
    let ran = Setup::new("nobody", std::path::Path::new(&stage.folder), "setpriv")
        .inside(std::path::Path::new("/"))
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--bounding-set=-all",
            "--inh-caps=-all",
        ])
        .arg(&copy)
        .args(["agent", "--export", "json"])
        .run(Duration::from_secs(10));
    std::fs::remove_file(&copy)?;
    let ran = ran?;
    const UNABLE: i32 = 3;
    stage.check(ran.code == Some(UNABLE), || {
        format!("exit code {:?}, want {UNABLE}", ran.code)
    });
    stage.check(ran.errors.contains("CAP_"), || {
        format!("names no capability: {}", ran.errors)
    });
    Ok(())
}
