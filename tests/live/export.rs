//! How spans leave: both transports, compressed, authenticated, refused, and with nobody there.
//! The backend is the harness's own, so that every count is exact.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use spantap_tests::certificates::Certificates;
use spantap_tests::driver::Plain;
use spantap_tests::known::{Ask, Known, ask, drive, number};
use spantap_tests::process::free_port;
use spantap_tests::program::Program;
use spantap_tests::{Case, Driver, Party, Sink, Stage, agent};

use crate::programs::{DRIVER, go_server};

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for protocol in ["http/protobuf", "grpc"] {
        let short = protocol.split('/').next().unwrap_or_default();
        let mut add = |name: &str, body: fn(&mut Stage, &'static str) -> Result<()>| {
            cases.push(Case::new(format!("export::{name}::{short}"), move |s| {
                body(s, protocol)
            }));
        };
        add("gzip-and-headers", dressed);
        add("tls", |stage, protocol| secure(stage, protocol, false));
        add("mtls", |stage, protocol| secure(stage, protocol, true));
        add("wrong-authority", wrong_authority);
        add("refused", refused);
        add("nobody-there", nobody);
        add("queue-overflows", overflow);
    }
    cases
}

/// A Go server and a driver, and what is known of them.
pub struct Traffic {
    server: Program,
    driver: Driver,
    /// The server's port.
    pub port: u16,
}

impl Traffic {
    /// Starts both.
    pub fn start(stage: &Stage) -> Result<Self> {
        let port = free_port()?;
        Ok(Self {
            server: go_server(&stage.folder, port)?.port(port).start()?,
            driver: Driver::start(&stage.folder, DRIVER, "driver")?,
            port,
        })
    }

    /// That many small requests.
    pub fn make(&mut self, count: usize) -> Result<Vec<Known>> {
        let asks: Vec<Ask> = (0..count)
            .map(|_| ask("GET", &format!("/bytes/10/{}", number()), 200))
            .collect();
        self.ask(&asks)
    }

    /// These requests.
    pub fn ask(&mut self, asks: &[Ask]) -> Result<Vec<Known>> {
        let sides = [
            Party::new("driver", &[self.driver.pid()]),
            Party::new("go-app", &self.server.pids()),
        ];
        let mut plain = Plain::new(&mut self.driver, self.port)?;
        drive(
            asks,
            &mut plain,
            self.port,
            Some(&sides[0]),
            Some(&sides[1]),
        )
    }
}

/// An agent that exports somewhere else than to the stage's sink.
pub fn agent_to(stage: &Stage, endpoint: &str, protocol: &str) -> Result<agent::Setup> {
    Ok(agent::Setup::new("agent", &stage.folder)?
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol))
}

/// The same, which trusts whom these certificates are of, and shows its own where both do.
pub fn trusting(setup: agent::Setup, certificates: &Certificates, mutual: bool) -> agent::Setup {
    let variable = |setup: agent::Setup, name: &str, file: &Path| {
        let name = format!("OTEL_EXPORTER_OTLP_{name}");
        setup.env(&name, &file.to_string_lossy())
    };
    let setup = variable(setup, "CERTIFICATE", &certificates.authority);
    if !mutual {
        return setup;
    }
    let setup = variable(setup, "CLIENT_CERTIFICATE", &certificates.client);
    variable(setup, "CLIENT_KEY", &certificates.client_key)
}

fn dressed(stage: &mut Stage, protocol: &str) -> Result<()> {
    let mut traffic = Traffic::start(stage)?;
    let agent = agent_to(stage, &stage.sink.endpoint(), protocol)?
        .ports(&[traffic.port])
        .env("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        .env(
            "OTEL_EXPORTER_OTLP_HEADERS",
            "x-tenant=blue%20sky,x-other=1",
        )
        .start()?;
    let known = traffic.make(20)?;
    stage.judge(agent, &known)?;
    for arrival in stage.sink.arrivals() {
        stage.check(arrival.gzip, || "a request was not compressed".into());
        stage.check(arrival.grpc == (protocol == "grpc"), || {
            "came by the other transport".into()
        });
        for (name, want) in [("x-tenant", "blue sky"), ("x-other", "1")] {
            let got = arrival
                .headers
                .get(name)
                .map(|value| value.as_bytes().to_vec());
            stage.check(got.as_deref() == Some(want.as_bytes()), || {
                format!("{name} is {got:?}")
            });
        }
    }
    Ok(())
}

fn secure(stage: &mut Stage, protocol: &str, mutual: bool) -> Result<()> {
    let certificates = Certificates::make(&stage.folder, "ours")?;
    stage.sink = Sink::secure(&certificates, mutual)?;
    let mut traffic = Traffic::start(stage)?;
    let setup = agent_to(stage, &stage.sink.endpoint(), protocol)?.ports(&[traffic.port]);
    let agent = trusting(setup, &certificates, mutual).start()?;
    let known = traffic.make(20)?;
    stage.judge(agent, &known).map(drop)
}

/// A backend with a certificate of somebody else's is sent nothing, and the agent says why.
fn wrong_authority(stage: &mut Stage, protocol: &str) -> Result<()> {
    let (ours, theirs) = (
        Certificates::make(&stage.folder, "ours")?,
        Certificates::make(&stage.folder, "theirs")?,
    );
    stage.sink = Sink::secure(&theirs, false)?;
    let mut traffic = Traffic::start(stage)?;
    let setup = agent_to(stage, &stage.sink.endpoint(), protocol)?.ports(&[traffic.port]);
    let agent = trusting(setup, &ours, false)
        .env("OTEL_BSP_EXPORT_TIMEOUT", "1500")
        .env("OTEL_EXPORTER_OTLP_TIMEOUT", "1500")
        .start()?;
    traffic.make(5)?;
    std::thread::sleep(Duration::from_millis(if agent::dry() { 0 } else { 2500 }));
    let log = agent.log_path().to_path_buf();
    agent.stop()?;
    let count = stage.sink.count();
    stage.check(count == 0, || format!("{count} spans arrived"));
    let log = std::fs::read_to_string(log)?.to_lowercase();
    stage.check(log.contains("certificate"), || {
        format!("the agent says nothing of it: {log}")
    });
    Ok(())
}

/// A busy backend is asked again: nothing is lost, nothing comes twice.
fn refused(stage: &mut Stage, protocol: &str) -> Result<()> {
    let mut traffic = Traffic::start(stage)?;
    let agent = agent_to(stage, &stage.sink.endpoint(), protocol)?
        .ports(&[traffic.port])
        .start()?;
    stage.sink.refuse(2);
    let known = traffic.make(20)?;
    stage
        .sink
        .wait(40, Duration::from_secs(if agent::dry() { 0 } else { 15 }));
    stage.judge(agent, &known)?;
    let refused = stage
        .sink
        .arrivals()
        .iter()
        .filter(|arrival| arrival.refused)
        .count();
    stage.check(refused == 2, || {
        format!("{refused} requests were refused, not 2")
    });
    Ok(())
}

/// Nobody listens for 8 seconds of traffic: what fits the queue is sent when somebody does.
fn nobody(stage: &mut Stage, protocol: &str) -> Result<()> {
    let port = free_port()?;
    let mut traffic = Traffic::start(stage)?;
    let endpoint = format!("http://127.0.0.1:{port}");
    let agent = agent_to(stage, &endpoint, protocol)?
        .ports(&[traffic.port])
        .start()?;
    let mut known = Vec::new();
    for _ in 0..8 {
        known.extend(traffic.make(25)?);
        std::thread::sleep(Duration::from_millis(if agent::dry() { 0 } else { 1000 }));
    }
    stage.sink = Sink::on(port)?;
    stage.sink.wait(
        known.len() * 2,
        Duration::from_secs(if agent::dry() { 0 } else { 40 }),
    );
    stage.judge(agent, &known).map(drop)
}

/// More than the queue holds: the newest are kept, and the rest is counted.
fn overflow(stage: &mut Stage, protocol: &str) -> Result<()> {
    const QUEUE: usize = 100;
    let port = free_port()?;
    let mut traffic = Traffic::start(stage)?;
    let endpoint = format!("http://127.0.0.1:{port}");
    let agent = agent_to(stage, &endpoint, protocol)?
        .ports(&[traffic.port])
        .env("OTEL_BSP_MAX_QUEUE_SIZE", &QUEUE.to_string())
        .env("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "50")
        .start()?;
    // One batch may be under way; several rounds, so that it is an old one.
    let mut known = Vec::new();
    for _ in 0..4 {
        known.extend(traffic.make(100)?);
        std::thread::sleep(Duration::from_millis(if agent::dry() { 0 } else { 300 }));
    }
    stage.sink = Sink::on(port)?;
    if agent::dry() {
        return Ok(());
    }
    stage.sink.wait(QUEUE, Duration::from_secs(40));
    stage
        .sink
        .settle(Duration::from_secs(1), Duration::from_secs(5));
    let log = agent.log_path().to_path_buf();
    agent.stop()?;
    let spans = stage.sink.spans();
    let most = QUEUE + 2 * 50;
    ensure!(
        (QUEUE..=most).contains(&spans.len()),
        "{} spans of a queue of {QUEUE}",
        spans.len()
    );
    // Each request has two, so the queue's worth is the last 50 requests; some room at the edge, as
    // the two of a request, and neighbours, enter the queue in any order.
    for one in known.iter().rev().take(QUEUE / 2 - 15) {
        let count = spans
            .iter()
            .filter(|span| span.target() == one.target)
            .count();
        stage.check(count == 2, || {
            format!("{count} spans left of the recent {}", one.target)
        });
    }
    let log = std::fs::read_to_string(log)?;
    let counted = log.contains("lost") && !log.contains(" 0 lost");
    stage.check(counted, || format!("the loss is not counted: {log}"));
    Ok(())
}
