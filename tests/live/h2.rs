//! HTTP/2 without TLS: every client asks every server, on a connection from before the agent and on
//! a new one; and two hundred requests at once on one connection.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use spantap_tests::agent::Capture;
use spantap_tests::install::tool;
use spantap_tests::known::{Ask, Asks as _, Known, Size, application, ask, drive, now, number};
use spantap_tests::process::free_port;
use spantap_tests::program::Setup;
use spantap_tests::{Case, Client, Party, Stage};

use crate::programs::{CLIENTS_H2, ClientProgram, SERVERS_H2, Server, apache_h2c, go_server};

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for server in SERVERS_H2 {
        for client in CLIENTS_H2 {
            for capture in [Capture::Socket, Capture::Syscall] {
                for before in [true, false] {
                    let when = if before { "before" } else { "after" };
                    let (to, by, path) = (server.name, client.name, capture.name());
                    let name = format!("h2::{by}-to-{to}::{path}::{when}");
                    let case = Case::new(name, move |stage| {
                        let asks = asks();
                        // What is known to be HTTP/2 late is copied whole, and both ends of 2 MiB
                        // come at once.
                        let ring = "67108864";
                        let cell = Cell {
                            server,
                            client,
                            capture,
                            asks,
                            ring,
                        };
                        cell.run(stage, before).map(drop)
                    });
                    // What an older connection needs is the same on both paths.
                    cases.push(case.seldom_if(before && capture == Capture::Syscall));
                }
            }
            let name = format!("h2::{}-to-{}::at-once", client.name, server.name);
            cases.push(Case::new(name, move |stage| at_once(stage, server, client)));
        }
    }
    for server in SERVERS_H2 {
        let name = format!("h2::reqwest-to-{}::bulk", server.name);
        cases.push(Case::new(name, move |stage| bulk(stage, server)));
    }
    for capture in [Capture::Socket, Capture::Syscall] {
        for taken in [true, false] {
            let how = if taken { "taken" } else { "refused" };
            let name = format!("h2::upgrade::{}::{how}", capture.name());
            cases.push(Case::new(name, move |s| upgrade(s, capture, taken)));
        }
    }
    cases
}

/// curl asks in HTTP/1.1 whether it may go on in HTTP/2, one connection for each request: Apache ends
/// such a one as soon as it is idle.
fn upgrade(stage: &mut Stage, capture: Capture, taken: bool) -> Result<()> {
    let curl = tool("curl", &["curl"])?;
    let port = free_port()?;
    let asks = [10, 3000].map(|size| {
        let target = format!("/bytes/{size}/{}", number());
        (ask("GET", &target, 200), size)
    });
    let files: Vec<_> = asks.iter().map(|(ask, _)| ask).collect();
    let (server, of) = match taken {
        true => (apache_h2c(&stage.folder, port, &files)?, "apache2"),
        false => (go_server(&stage.folder, port)?, "go-app"),
    };
    let server = server.port(port).start()?;
    let agent = stage.agent()?.ports(&[port]).capture(capture).start()?;
    let of = Party::new(of, &server.pids());
    let mut known = Vec::new();
    for (ask, size) in &asks {
        let url = format!("http://127.0.0.1:{port}{}", ask.target);
        let setup = Setup::new("curl", &stage.folder, &curl);
        let begun = now();
        let ran = setup
            .args(["-s", "--http2", "-o", "/dev/null", &url])
            .run(Duration::from_secs(20))?;
        ensure!(ran.code == Some(0), "curl: {ran:?}");
        let by = Party::new("curl", &[ran.pid]);
        let mut one = Known::new("GET", &ask.target, Some(200), port).between(&by, &of);
        one.received = Size::Exact(*size);
        one.window = (begun, now());
        known.push(one);
    }
    stage.judge(agent, &known).map(drop)
}

/// A download of a quarter of a gigabyte, and what follows it on the same connection: a ring of one
/// megabyte takes its frames' heads. Where nginx has the kernel send files there are no bytes to see.
fn bulk(stage: &mut Stage, server: &'static Server) -> Result<()> {
    let client = CLIENTS_H2.iter().find(|one| one.name == "reqwest");
    let client = client.context("no reqwest")?;
    let asks = [10, 256 << 20, 1024, 0].map(|size| {
        let target = format!("/bytes/{size}/{}", number());
        ask("GET", &target, 200)
    });
    let cell = Cell {
        server,
        client,
        capture: Capture::Socket,
        asks: asks.to_vec(),
        ring: "1048576",
    };
    let log = cell.run(stage, false)?;
    stage.check_lossless(&log)?;
    fs::remove_dir_all(stage.folder.join("www")).ok();
    Ok(())
}

/// What is asked: the usual, without what only HTTP/1 has.
fn asks() -> Vec<Ask> {
    let mut asks = application();
    for ask in &mut asks {
        ask.chunked = false;
    }
    asks
}

/// One client and one server.
struct Cell {
    server: &'static Server,
    client: &'static ClientProgram,
    capture: Capture,
    asks: Vec<Ask>,
    /// Bytes of the agent's ring.
    ring: &'static str,
}

impl Cell {
    /// Asks all of it, and judges; the agent's log.
    fn run(&self, stage: &mut Stage, before: bool) -> Result<PathBuf> {
        let (server, client, asks) = (self.server, self.client, &self.asks);
        let port = free_port()?;
        let base = format!("http://127.0.0.1:{port}");
        let program = (server.setup)(&stage.folder, port, &asks.iter().collect::<Vec<_>>())?
            .port(port)
            .start()?;
        let agent = stage.agent()?.ports(&[port]).capture(self.capture);
        let agent = agent.args(["--ring-bytes", self.ring]);
        let setup = (client.setup)(&stage.folder, &base)?;
        let (mut asking, agent) = if before {
            let mut asking = Client::start(setup)?;
            let warm = [ask("GET", &format!("/status/404/{}", number()), 404)];
            drive(&warm, &mut asking, port, None, None)?;
            (asking, agent.start()?)
        } else {
            let agent = agent.start()?;
            (Client::start(setup)?, agent)
        };
        let by = Party::new(client.service, &asking.pids());
        let mut known = Vec::new();
        let mut rest = &asks[..];
        if before {
            // What is first seen of a connection is copied within the budget of any: a moment passes
            // before the kernel side is told that it speaks HTTP/2.
            let (first, others) = asks.split_at(1);
            known = drive(first, &mut asking, port, Some(&by), None)?;
            std::thread::sleep(Duration::from_millis(100));
            rest = others;
        }
        known.extend(drive(rest, &mut asking, port, Some(&by), None)?);
        let of = Party::new(server.service, &program.pids());
        for (one, ask) in known.iter_mut().zip(asks) {
            one.version = "2";
            one.server = Some(of.clone());
            one.received = match one.received {
                Size::Framed(size, _) => Size::Exact(size),
                size => size,
            };
            if server.early && ask.body.is_some() {
                one.sent = Size::Maybe(ask.body.unwrap_or_default() as u64);
            }
        }
        let log = agent.log_path().to_path_buf();
        stage.judge(agent, &known)?;
        Ok(log)
    }
}

/// Two hundred streams of one connection at once: each is its own.
fn at_once(stage: &mut Stage, server: &Server, client: &ClientProgram) -> Result<()> {
    const MANY: usize = 200;
    let port = free_port()?;
    let base = format!("http://127.0.0.1:{port}");
    let target = format!("/status/404/{}", number());
    let program = (server.setup)(&stage.folder, port, &[])?
        .port(port)
        .start()?;
    let agent = stage.agent()?.ports(&[port]).start()?;
    let mut asking = Client::start((client.setup)(&stage.folder, &base)?)?;
    let begun = now();
    let answer = asking.ask(&Ask {
        method: "BURST".into(),
        target: target.clone(),
        body: Some(MANY),
        ..Ask::default()
    })?;
    ensure!(answer.body == MANY as u64, "{answer:?}");
    let (by, of) = (
        Party::new(client.service, &asking.pids()),
        Party::new(server.service, &program.pids()),
    );
    let known: Vec<Known> = (0..MANY)
        .map(|at| {
            let target = format!("{target}/{at}");
            let mut one = Known::new("GET", &target, Some(404), port).between(&by, &of);
            one.version = "2";
            one.window = (begun, now());
            one
        })
        .collect();
    let targets: BTreeSet<_> = known.iter().map(|one| &one.target).collect();
    ensure!(targets.len() == MANY, "each has a path of its own");
    stage.judge(agent, &known).map(drop)
}
