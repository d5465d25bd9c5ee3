//! What the agent says of itself over HTTP: to a probe from its first moment on, while its receiver is away,
//! to Prometheus itself, and to clients who mean no good.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use spantap_tests::agent::{self, Agent};
use spantap_tests::process::{self, free_port, slowly};
use spantap_tests::program::{Program, Setup};
use spantap_tests::{Case, Sink, Stage, install};

use crate::export::{Traffic, agent_to};

/// All of them.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("serve::ready", ready),
        Case::new("serve::taken", taken),
        Case::new("serve::away", away),
        Case::new("serve::prometheus", prometheus),
        Case::new("serve::hostile", hostile),
    ]
}

/// From its first moment on a probe is told why it is not ready; what the agent is asked makes no spans.
fn ready(stage: &mut Stage) -> Result<()> {
    let port = free_port()?;
    let setup = agent::Setup::selecting_itself("agent", &stage.folder)?
        .to(&stage.sink)
        .ports(&[port])
        .args(["--listen", &place(port)]);
    // Asked on another thread: a program ends with the thread that started it.
    let started = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&started);
    let asking = std::thread::spawn(move || {
        let mut answers = Vec::new();
        while !until.load(Ordering::Relaxed) {
            if let Ok(answer) = get(port, "/readyz") {
                answers.push((answer, get(port, "/healthz").map(|(status, _)| status)));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        answers
    });
    let agent = setup.start();
    started.store(true, Ordering::Relaxed);
    let Ok(answers) = asking.join() else {
        bail!("who asks panicked");
    };
    let agent = agent?;
    if agent::dry() {
        return Ok(());
    }
    let ready = |((status, _), _): &&((u16, String), _)| *status == 200;
    let early = answers.iter().take_while(|one| !ready(one)).count();
    stage.count("asked before it was ready", early);
    let wavers = answers.iter().skip(early).any(|one| !ready(&one));
    stage.check(!wavers, || "it was ready and is not any more".into());
    let alive = answers.iter().all(|(_, alive)| matches!(alive, Ok(200)));
    stage.check(alive, || "it was not alive".into());
    let first = answers.first().map(|((_, why), _)| why.clone());
    let first = first.unwrap_or_default();
    stage.check(first.contains("starting"), || {
        format!("it did not say that it starts: {first:?}")
    });
    let (status, why) = get(port, "/readyz")?;
    stage.check(status == 200 && why.contains("is attached"), || why.clone());
    std::thread::sleep(Duration::from_secs(2));
    agent.stop()?;
    let count = stage.sink.count();
    stage.check(count == 0, || format!("{count} spans of its own traffic"));
    Ok(())
}

/// A port that somebody has is said, and nothing is started.
fn taken(stage: &mut Stage) -> Result<()> {
    let port = stage.sink.port();
    let setup = agent::Setup::new("agent", &stage.folder)?.args(["--listen", &place(port)]);
    let ran = setup.run(slowly(Duration::from_secs(20)))?;
    if agent::dry() {
        return Ok(());
    }
    stage.check(ran.code == Some(2), || format!("ended with {:?}", ran.code));
    stage.check(
        ran.errors
            .contains(&format!("cannot listen on {}", place(port))),
        || ran.errors.clone(),
    );
    Ok(())
}

/// Its receiver may be away while there is room, and is missed once there is none.
fn away(stage: &mut Stage) -> Result<()> {
    let (port, receiver) = (free_port()?, free_port()?);
    let mut traffic = Traffic::start(stage)?;
    let agent = agent_to(
        stage,
        &format!("http://127.0.0.1:{receiver}"),
        "http/protobuf",
    )?
    .ports(&[traffic.port])
    .args([
        "--listen",
        &place(port),
        "--queue-size",
        "60",
        "--batch-size",
        "20",
    ])
    .start()?;
    traffic.make(5)?;
    if agent::dry() {
        return Ok(());
    }
    let there = |wanted: u16, part: &str| {
        let mut last = (0, String::new());
        process::until("it says so", slowly(Duration::from_secs(30)), || {
            last = get(port, "/readyz").unwrap_or_default();
            last.0 == wanted && last.1.contains(part)
        })
        .with_context(|| format!("{wanted} and {part:?}, not {last:?}"))
    };
    there(200, "its receiver is away for ")?;
    for _ in 0..4 {
        traffic.make(40)?;
    }
    there(503, "there is no room for ")?;
    let (_, why) = get(port, "/readyz")?;
    stage.check(why.contains(&format!("127.0.0.1:{receiver}")), || {
        why.clone()
    });
    stage.check(get(port, "/healthz")?.0 == 200, || "it is not alive".into());
    stage.check(value(port, "spantap_ready")? == 0.0, || {
        "metrics say it is ready".into()
    });
    let lost = value(port, "spantap_export_dropped_full_total")?;
    stage.check(lost > 0.0, || "nothing was dropped".into());
    stage.sink = Sink::on(receiver)?;
    there(200, "spans of 60 wait")?;
    stage.check(value(port, "spantap_ready")? == 1.0, || {
        "metrics say it is not".into()
    });
    agent.stop()
}

/// Prometheus reads all of it, and its linter finds nothing.
fn prometheus(stage: &mut Stage) -> Result<()> {
    let debian = install::debian("prometheus", &["prometheus"])?;
    let port = free_port()?;
    let mut traffic = Traffic::start(stage)?;
    let agent = agent_to(stage, &stage.sink.endpoint(), "http/protobuf")?
        .ports(&[traffic.port])
        .args(["--listen", &place(port)])
        .start()?;
    if agent::dry() {
        return Ok(());
    }
    traffic.make(20)?;
    stage.sink.wait(40, slowly(Duration::from_secs(20)));
    let (_, text) = get(port, "/metrics")?;
    let families = text.lines().filter(|line| line.starts_with("# TYPE "));
    stage.count("metrics", families.count());
    let said = stage.folder.join("metrics.txt");
    fs::write(&said, text)?;
    let lint = Setup::new("promtool", &stage.folder, "sh")
        .args(["-c", "exec \"$0\" check metrics < \"$1\""])
        .arg(debian.file("usr/bin/promtool")?)
        .arg(&said)
        .run(slowly(Duration::from_secs(20)))?;
    let fine = lint.code == Some(0) && lint.errors.is_empty() && lint.output.is_empty();
    stage.check(fine, || format!("{lint:?}"));
    let (mut server, own) = scraper(stage, &debian.file("usr/bin/prometheus")?, port)?;
    for (query, wanted) in [
        ("up", "1"),
        ("spantap_ready", "1"),
        ("spantap_export_sent_total", "40"),
        ("count(spantap_build_info{version!=%22%22})", "1"),
        ("process_resident_memory_bytes%20>%20bool%201000000", "1"),
    ] {
        let path = format!("/api/v1/query?query={query}");
        let mut last = String::new();
        let wanted = format!(",\"{wanted}\"]");
        let done = process::until("Prometheus has it", slowly(Duration::from_secs(20)), || {
            last = get(own, &path).unwrap_or_default().1;
            last.contains(&wanted)
        });
        done.with_context(|| format!("{query}: {last}"))?;
    }
    let path = "/api/v1/targets/metadata?metric=spantap_export_sent_total";
    let (_, about) = get(own, path)?;
    let known = about.contains("\"type\":\"counter\"") && about.contains("Spans that arrived.");
    stage.check(known, || about.clone());
    server.stop();
    agent.stop()
}

/// Prometheus, which asks twice a second, and its own port.
fn scraper(stage: &Stage, program: &Path, port: u16) -> Result<(Program, u16)> {
    let own = free_port()?;
    let rules = stage.folder.join("prometheus.yml");
    let often = "scrape_interval: 500ms, scrape_timeout: 500ms";
    let place_of = place(port);
    let job =
        format!("{{job_name: spantap, {often}, static_configs: [{{targets: ['{place_of}']}}]}}");
    fs::write(&rules, format!("scrape_configs: [{job}]\n"))?;
    let data = stage.folder.join("data");
    let server = Setup::new("prometheus", &stage.folder, program)
        .arg(format!("--config.file={}", rules.display()))
        .arg(format!("--storage.tsdb.path={}", data.display()))
        .arg(format!("--web.listen-address={}", place(own)))
        .port(own)
        .start()?;
    Ok((server, own))
}

/// Nobody who reaches the port keeps others out, or makes the agent grow or end.
fn hostile(stage: &mut Stage) -> Result<()> {
    let port = free_port()?;
    let agent = agent_to(stage, &stage.sink.endpoint(), "http/protobuf")?
        .ports(&[port])
        .args([
            "--exclude-port",
            &port.to_string(),
            "--listen",
            &place(port),
        ])
        .start()?;
    if agent::dry() {
        return Ok(());
    }
    get(port, "/metrics")?;
    let before = process::resident(agent.pid()).context("the agent's memory")?;
    let mut idle = Vec::new();
    for turn in 0..600_u32 {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        // Whoever is ended early may be told so here.
        let _ = match turn % 4 {
            0 => Ok(()),
            1 => stream.write_all(b"GET /metrics HTTP/1.1\r\nx: "),
            2 => stream.write_all(&[0xff; 4096]),
            _ => stream.write_all(b"POST / HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n"),
        };
        idle.push(stream);
    }
    let asked = Instant::now();
    let (status, _) = get(port, "/healthz")?;
    let took = asked.elapsed();
    stage.check(
        status == 200 && took < slowly(Duration::from_secs(2)),
        || format!("a probe is answered {status} after {took:?}"),
    );
    flood(port)?;
    let last = idle.pop().context("there is one")?;
    // The last one has been told 405; a new one that says nothing is ended, too.
    let silent = TcpStream::connect(("127.0.0.1", port))?;
    let began = Instant::now();
    for mut stream in [last, silent] {
        stream.set_read_timeout(Some(slowly(Duration::from_secs(15))))?;
        let ended = stream.read_to_end(&mut Vec::new());
        let waiting = ended.is_err_and(|why| why.kind() == std::io::ErrorKind::WouldBlock);
        stage.check(!waiting, || "a silent connection stays".into());
    }
    stage.count(
        "ms until a silent one is ended",
        began.elapsed().as_millis() as usize,
    );
    let after = process::resident(agent.pid()).context("the agent's memory")?;
    let grown = after.saturating_sub(before) >> 10;
    stage.count("KiB grown", grown.try_into()?);
    stage.check(grown < 16 << 10, || format!("it grew by {grown} KiB"));
    let cut = value(port, "spantap_serve_cut_total")?;
    stage.check(cut > 100.0, || format!("{cut} were counted"));
    whole(agent)
}

/// As much as goes in, of what has no end.
fn flood(port: u16) -> Result<()> {
    for begin in [
        "GET /",
        "GET / HTTP/1.1\r\nx: ",
        "PUT /metrics HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_write_timeout(Some(Duration::from_secs(1)))?;
        let mut went = stream.write(begin.as_bytes())?;
        while let Ok(more) = stream.write(&[b'a'; 65_536]) {
            went += more;
            ensure!(went < 64 << 20, "it takes {went} bytes after {begin:?}");
        }
    }
    Ok(())
}

/// It ends as it should and has never said that a thread panicked.
fn whole(agent: Agent) -> Result<()> {
    let log = agent.log_path().to_path_buf();
    agent.end(Signal::TERM)?;
    let log = fs::read_to_string(log)?;
    ensure!(!log.contains("panicked"), "{log}");
    Ok(())
}

/// One line of the metrics.
fn value(port: u16, name: &str) -> Result<f64> {
    let (_, text) = get(port, "/metrics")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("no {name}"))?.parse()?)
}

/// Status and body of an answer.
fn get(port: u16, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(slowly(Duration::from_secs(12))))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer")?;
    let status = head.split(' ').nth(1).context("a status")?;
    Ok((status.parse()?, body.to_owned()))
}

fn place(port: u16) -> String {
    format!("127.0.0.1:{port}")
}
