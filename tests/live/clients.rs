//! Every client asks a Go server the same, once on a connection from before the agent, once with
//! the client itself younger than the agent. curl, wget and ab end by themselves and have no before.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use spantap_tests::agent::Capture;
use spantap_tests::install::{debian, tool};
use spantap_tests::known::{Known, Size, application, ask, closing, drive, now, number};
use spantap_tests::process::free_port;
use spantap_tests::program::Setup;
use spantap_tests::{Case, Client, Party, Stage};

use crate::programs::{CLIENTS, ClientProgram, go_server};

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for client in CLIENTS {
        for (capture, before) in [
            (Capture::Socket, true),
            (Capture::Socket, false),
            (Capture::Syscall, true),
            (Capture::Syscall, false),
        ] {
            let when = if before { "before" } else { "after" };
            let name = format!("clients::{}::{}::{when}", client.name, capture.name());
            cases.push(Case::new(name, move |stage| {
                run(stage, client, capture, before)
            }));
        }
    }
    for capture in [Capture::Socket, Capture::Syscall] {
        let path = capture.name();
        cases.push(Case::new(format!("clients::curl::{path}"), move |s| {
            curl(s, capture)
        }));
        cases.push(Case::new(format!("clients::wget::{path}"), move |s| {
            wget(s, capture)
        }));
        cases.push(Case::new(format!("clients::ab::{path}"), move |s| {
            ab(s, capture)
        }));
    }
    cases.push(Case::new("clients::wrk", wrk));
    cases
}

fn run(stage: &mut Stage, client: &ClientProgram, capture: Capture, before: bool) -> Result<()> {
    let port = free_port()?;
    let base = format!("http://127.0.0.1:{port}");
    let server = go_server(&stage.folder, port)?.port(port).start()?;
    let setup = (client.setup)(&stage.folder, &base)?;
    let serving = Party::new("go-app", &server.pids());
    let agent = stage.agent()?.ports(&[port]).capture(capture);
    let (mut program, agent) = if before {
        let mut program = Client::start(setup)?;
        let warm = [ask("GET", &format!("/bytes/10/{}", number()), 200)];
        drive(&warm, &mut program, port, None, None)?;
        (program, agent.start()?)
    } else {
        let agent = agent.start()?;
        (Client::start(setup)?, agent)
    };
    let asking = Party::new(client.service, &program.pids());
    let mut asks = application();
    if client.closes {
        asks.extend(closing());
    }
    let known = drive(&asks, &mut program, port, Some(&asking), Some(&serving))?;
    stage.judge(agent, &known).map(drop)
}

/// What a run-once program asked for.
fn asked(
    targets: &[(String, u64)],
    port: u16,
    window: (u64, u64),
    by: &Party,
    of: &Party,
) -> Vec<Known> {
    targets
        .iter()
        .map(|(target, size)| {
            let mut one = Known::new("GET", target, Some(200), port).between(by, of);
            one.received = Size::Exact(*size);
            one.window = window;
            one
        })
        .collect()
}

/// Several URLs on one connection, then one process each, a POST and a HEAD.
fn curl(stage: &mut Stage, capture: Capture) -> Result<()> {
    let curl = tool("curl", &["curl"])?;
    let port = free_port()?;
    let base = format!("http://127.0.0.1:{port}");
    let server = go_server(&stage.folder, port)?.port(port).start()?;
    let serving = Party::new("go-app", &server.pids());
    let agent = stage.agent()?.ports(&[port]).capture(capture).start()?;
    let mut known = Vec::new();
    let limit = Duration::from_secs(20);
    let plain =
        |stage: &Stage| Setup::new("curl", &stage.folder, &curl).args(["-s", "-o", "/dev/null"]);

    let targets: Vec<_> = [10, 1024, 2 << 20]
        .map(|n| (format!("/bytes/{n}/{}", number()), n))
        .into();
    let begun = now();
    let mut setup = plain(stage);
    for (target, _) in &targets {
        setup = setup.args([format!("{base}{target}"), "-o".into(), "/dev/null".into()]);
    }
    let ran = setup.run(limit)?;
    ensure!(ran.code == Some(0), "curl: {ran:?}");
    known.extend(asked(
        &targets,
        port,
        (begun, now()),
        &Party::new("curl", &[ran.pid]),
        &serving,
    ));

    for &(method, words, status) in METHODS {
        let target = match method {
            "HEAD" => format!("/bytes/99/{}", number()),
            "DELETE" => format!("/item/{}", number()),
            _ => format!("/upload/{}", number()),
        };
        let begun = now();
        let ran = plain(stage)
            .args(words)
            .arg(format!("{base}{target}"))
            .run(limit)?;
        ensure!(ran.code == Some(0), "curl: {ran:?}");
        let party = Party::new("curl", &[ran.pid]);
        let mut one = Known::new(method, &target, Some(status), port).between(&party, &serving);
        one.sent = match method {
            "POST" => Size::Exact(10),
            "PUT" => Size::Framed(10, 20),
            _ => Size::Exact(0),
        };
        one.received = if status == 201 {
            Size::Exact(12)
        } else {
            Size::Exact(0)
        };
        one.window = (begun, now());
        known.push(one);
    }
    stage.judge(agent, &known).map(drop)
}

/// What curl asks one process each: method, its words, the status that comes back.
const METHODS: &[(&str, &[&str], u16)] = &[
    ("POST", &["--data-binary", "0123456789"], 201),
    (
        "PUT",
        &[
            "-X",
            "PUT",
            "--data-binary",
            "0123456789",
            "-H",
            "Transfer-Encoding: chunked",
        ],
        201,
    ),
    ("HEAD", &["--head"], 200),
    ("DELETE", &["-X", "DELETE"], 204),
];

fn wget(stage: &mut Stage, capture: Capture) -> Result<()> {
    let wget = tool("wget", &["wget"])?;
    let port = free_port()?;
    let server = go_server(&stage.folder, port)?.port(port).start()?;
    let serving = Party::new("go-app", &server.pids());
    let agent = stage.agent()?.ports(&[port]).capture(capture).start()?;
    let targets: Vec<_> = [0, 1024, 100 << 10, 2 << 20]
        .map(|n| (format!("/bytes/{n}/{}", number()), n))
        .into();
    let urls = targets
        .iter()
        .map(|(target, _)| format!("http://127.0.0.1:{port}{target}"));
    let begun = now();
    let setup = Setup::new("wget", &stage.folder, wget)
        .args(["-q", "-O", "/dev/null"])
        .args(urls);
    let ran = setup.run(Duration::from_secs(20))?;
    ensure!(ran.code == Some(0), "wget: {ran:?}");
    let party = Party::new("wget", &[ran.pid]);
    let known = asked(&targets, port, (begun, now()), &party, &serving);
    stage.judge(agent, &known).map(drop)
}

/// 2,000 requests, 8 at a time, kept alive: their paths are all the same, so they are counted.
fn ab(stage: &mut Stage, capture: Capture) -> Result<()> {
    const COUNT: usize = 2000;
    let apache = debian("ab", &["apache2-utils"])?;
    let port = free_port()?;
    let server = go_server(&stage.folder, port)?.port(port).start()?;
    let serving = Party::new("go-app", &server.pids());
    let agent = stage.agent()?.ports(&[port]).capture(capture);
    // A second's worth at once; the queue's default length is another test's matter.
    let agent = agent.env("OTEL_BSP_MAX_QUEUE_SIZE", "16384").start()?;
    let target = format!("/bytes/100/{}", number());
    let begun = now();
    let ran = Setup::new("ab", &stage.folder, apache.file("usr/bin/ab")?)
        .env("LD_LIBRARY_PATH", apache.libraries())
        .args(["-k", "-q", "-c", "8", "-n", &COUNT.to_string()])
        .arg(format!("http://127.0.0.1:{port}{target}"))
        .run(Duration::from_secs(60))?;
    ensure!(ran.code == Some(0), "ab: {ran:?}");
    ensure!(
        report(&ran.output, "Complete requests:") == Some(COUNT),
        "ab: {}",
        ran.output
    );
    let mut one = Known::new("GET", &target, Some(200), port);
    one = one.between(&Party::new("ab", &[ran.pid]), &serving);
    one.received = Size::Exact(100);
    one.window = (begun, now());
    // ab speaks HTTP/1.0 with keep-alive; Go answers in kind.
    one.version = "1.0";
    stage.judge_many(agent, &vec![one; COUNT]).map(drop)
}

/// wrk runs for a time, not for a count: what it counts and what was traced may differ by the
/// requests under way when it stopped.
fn wrk(stage: &mut Stage) -> Result<()> {
    const CONNECTIONS: usize = 4;
    let wrk = debian("wrk", &["wrk"])?;
    let port = free_port()?;
    let server = go_server(&stage.folder, port)?.port(port).start()?;
    let agent = stage
        .agent()?
        .ports(&[port])
        .env("OTEL_BSP_MAX_QUEUE_SIZE", "262144");
    let agent = agent.pids(&server.pids()).start()?;
    let target = format!("/bytes/100/{}", number());
    let ran = Setup::new("wrk", &stage.folder, wrk.file("usr/bin/wrk")?)
        .env("LD_LIBRARY_PATH", wrk.libraries())
        .args(["-t", "1", "-c", &CONNECTIONS.to_string(), "-d", "2s"])
        .arg(format!("http://127.0.0.1:{port}{target}"))
        .run(Duration::from_secs(30))?;
    ensure!(ran.code == Some(0), "wrk: {ran:?}");
    let count = ran
        .output
        .lines()
        .find(|line| line.contains("requests in"))
        .and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok())
        .with_context(|| format!("wrk: {}", ran.output))?;
    let spans = stage.receive(agent, count)?;
    let got = spans.iter().filter(|span| span.target() == target).count();
    stage.check(got == spans.len(), || {
        format!("{} spans of something else", spans.len() - got)
    });
    let fine = (count..=count + CONNECTIONS).contains(&got);
    stage.check(fine, || {
        format!("wrk counts {count} requests, there are {got} server spans")
    });
    Ok(())
}

fn report(output: &str, key: &str) -> Option<usize> {
    let line = output.lines().find(|line| line.starts_with(key))?;
    line.split_whitespace().last()?.parse().ok()
}
