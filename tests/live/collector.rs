//! A real OpenTelemetry Collector between the agent and the harness's sink: what it takes for good
//! OTLP is good OTLP. Agent → Collector (each transport, plain, TLS, mTLS) → the same transport →
//! sink. The gateway that the project ships is in `deploy`.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Result, anyhow};
use spantap_tests::certificates::Certificates;
use spantap_tests::process::free_port;
use spantap_tests::program::{Program, Setup};
use spantap_tests::{Case, Stage, agent, install};

use crate::export::{Traffic, agent_to, trusting};

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for protocol in ["http/protobuf", "grpc"] {
        let short = protocol.split('/').next().unwrap_or_default();
        for security in [Security::None, Security::Tls, Security::Mutual] {
            let name = format!("collector::{}::{short}", security.name());
            cases.push(Case::new(name, move |stage| {
                through(stage, protocol, security)
            }));
        }
        cases.push(Case::new(
            format!("collector::away-30-s::{short}"),
            move |stage| away(stage, protocol),
        ));
    }
    cases
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Security {
    None,
    Tls,
    Mutual,
}

impl Security {
    fn name(self) -> &'static str {
        match self {
            Security::None => "plain",
            Security::Tls => "tls",
            Security::Mutual => "mtls",
        }
    }
}

/// The Collector's binary; built once, and its absence told once per case without another try.
pub fn binary() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BUILT
        .get_or_init(|| install::collector().map_err(|error| format!("{error:#}")))
        .clone()
        .map_err(|error| anyhow!("no Collector: {error}"))
}

/// Its configuration, and the ports it is to be reached at: HTTP, gRPC.
struct Collector {
    ports: [u16; 2],
    config: PathBuf,
}

impl Collector {
    /// One receiver on both ports, and the sink behind it, by the exporter of this transport.
    fn new(
        stage: &Stage,
        protocol: &str,
        certificates: Option<(&Certificates, bool)>,
    ) -> Result<Self> {
        let ports = [free_port()?, free_port()?];
        let tls = certificates.map_or_else(String::new, |(files, mutual)| {
            let authority = if mutual {
                format!(", client_ca_file: {}", files.authority.display())
            } else {
                String::new()
            };
            let (cert, key) = (files.server.display(), files.server_key.display());
            format!(", tls: {{ cert_file: {cert}, key_file: {key}{authority} }}")
        });
        let [http, grpc] = ports;
        let (exporter, scheme) = match protocol {
            "grpc" => ("otlp_grpc", ""),
            _ => ("otlp_http", "http://"),
        };
        let sink = stage.sink.port();
        let text = format!(
            "receivers:
  otlp:
    protocols:
      http: {{ endpoint: 127.0.0.1:{http}{tls} }}
      grpc: {{ endpoint: 127.0.0.1:{grpc}{tls} }}
processors:
  batch: {{ timeout: 100ms }}
exporters:
  debug: {{ verbosity: basic }}
  {exporter}:
    endpoint: {scheme}127.0.0.1:{sink}
    tls: {{ insecure: true }}
    compression: none
service:
  telemetry:
    metrics: {{ level: none }}
  pipelines:
    traces:
      receivers: [otlp]
      processors: [batch]
      exporters: [debug, {exporter}]
"
        );
        Self::write(stage, ports, &text)
    }

    fn write(stage: &Stage, ports: [u16; 2], text: &str) -> Result<Self> {
        let config = stage.folder.join("collector.yaml");
        fs::write(&config, text)?;
        Ok(Self { ports, config })
    }

    fn start(&self, stage: &Stage) -> Result<Program> {
        Setup::new("collector", &stage.folder, binary()?)
            .args(["--config".as_ref(), self.config.as_os_str()])
            .port(self.ports[1])
            .start()
    }

    fn endpoint(&self, protocol: &str, security: Security) -> String {
        let scheme = if security == Security::None {
            "http"
        } else {
            "https"
        };
        format!(
            "{scheme}://localhost:{}",
            self.ports[usize::from(protocol == "grpc")]
        )
    }
}

fn through(stage: &mut Stage, protocol: &str, security: Security) -> Result<()> {
    let certificates = Certificates::make(&stage.folder, "ours")?;
    let mutual = security == Security::Mutual;
    let tls = (security != Security::None).then_some((&certificates, mutual));
    let collector = Collector::new(stage, protocol, tls)?;
    let _running = collector.start(stage)?;
    let mut traffic = Traffic::start(stage)?;
    let endpoint = collector.endpoint(protocol, security);
    let mut setup = agent_to(stage, &endpoint, protocol)?.ports(&[traffic.port]);
    if security != Security::None {
        setup = trusting(setup, &certificates, mutual);
    }
    let agent = setup.start()?;
    let known = traffic.make(50)?;
    stage.judge(agent, &known).map(drop)
}

/// Stopped for half a minute of traffic and started again: below the queue's bound nothing is lost.
fn away(stage: &mut Stage, protocol: &str) -> Result<()> {
    let collector = Collector::new(stage, protocol, None)?;
    let mut running = collector.start(stage)?;
    let mut traffic = Traffic::start(stage)?;
    let endpoint = collector.endpoint(protocol, Security::None);
    let agent = agent_to(stage, &endpoint, protocol)?
        .ports(&[traffic.port])
        .start()?;
    let mut known = traffic.make(20)?;
    if !agent::dry() {
        stage.sink.wait(40, Duration::from_secs(8));
    }
    running.stop();
    for _ in 0..10 {
        known.extend(traffic.make(50)?);
        std::thread::sleep(Duration::from_secs(if agent::dry() { 0 } else { 3 }));
    }
    let _running = collector.start(stage)?;
    known.extend(traffic.make(20)?);
    let seconds = if agent::dry() { 0 } else { 60 };
    stage
        .sink
        .wait(known.len() * 2, Duration::from_secs(seconds));
    stage.judge(agent, &known).map(drop)
}
