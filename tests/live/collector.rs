//! A real OpenTelemetry Collector between the agent and the harness's sink: what it takes for good
//! OTLP is good OTLP. Agent → Collector (each transport, plain, TLS, mTLS) → the same transport →
//! sink; and agent → load balancing by trace → two pipelines that sample whole traces → two sinks.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Result, anyhow};
use spantap_tests::certificates::Certificates;
use spantap_tests::known::{ask, number};
use spantap_tests::process::{free_port, until};
use spantap_tests::program::{Program, Setup};
use spantap_tests::{Case, Sink, Stage, agent, install};

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
        cases.push(Case::new(
            format!("collector::balanced::{short}"),
            move |stage| balanced(stage, protocol),
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

/// The binary; built once, and its absence told once per case without another try.
fn binary() -> Result<PathBuf> {
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

    /// One receiver on both ports; behind it the load-balancing exporter, which gives a trace to
    /// one of two pipelines; each of these keeps traces with an error and has a sink of its own.
    fn balancing(stage: &Stage, sinks: [u16; 2]) -> Result<Self> {
        let ports = [free_port()?, free_port()?];
        let [http, grpc] = ports;
        let [one, two] = [free_port()?, free_port()?];
        let [first, second] = sinks;
        let text = format!(
            "receivers:
  otlp:
    protocols:
      http: {{ endpoint: 127.0.0.1:{http} }}
      grpc: {{ endpoint: 127.0.0.1:{grpc} }}
  otlp/one: {{ protocols: {{ grpc: {{ endpoint: 127.0.0.1:{one} }} }} }}
  otlp/two: {{ protocols: {{ grpc: {{ endpoint: 127.0.0.1:{two} }} }} }}
processors:
  tail_sampling:
    decision_wait: 1s
    policies:
      - {{ name: errors, type: status_code, status_code: {{ status_codes: [ERROR] }} }}
exporters:
  loadbalancing:
    routing_key: traceID
    protocol: {{ otlp: {{ tls: {{ insecure: true }} }} }}
    resolver: {{ static: {{ hostnames: [\"127.0.0.1:{one}\", \"127.0.0.1:{two}\"] }} }}
  otlp_grpc/one: {{ endpoint: 127.0.0.1:{first}, tls: {{ insecure: true }} }}
  otlp_grpc/two: {{ endpoint: 127.0.0.1:{second}, tls: {{ insecure: true }} }}
service:
  telemetry:
    metrics: {{ level: none }}
  pipelines:
    traces: {{ receivers: [otlp], exporters: [loadbalancing] }}
    traces/one: {{ receivers: [otlp/one], processors: [tail_sampling], exporters: [otlp_grpc/one] }}
    traces/two: {{ receivers: [otlp/two], processors: [tail_sampling], exporters: [otlp_grpc/two] }}
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

/// Through the load-balancing exporter a trace's spans stay together, and tail sampling, which sees
/// both ends of a request only then, keeps the traces with an error whole and nothing else.
fn balanced(stage: &mut Stage, protocol: &str) -> Result<()> {
    const COUNT: usize = 20;
    let other = Sink::start()?;
    let collector = Collector::balancing(stage, [stage.sink.port(), other.port()])?;
    let _running = collector.start(stage)?;
    let mut traffic = Traffic::start(stage)?;
    let endpoint = collector.endpoint(protocol, Security::None);
    let agent = agent_to(stage, &endpoint, protocol)?
        .ports(&[traffic.port])
        .start()?;
    traffic.make(COUNT)?;
    // A 404 is an error for the client alone.
    let failing: Vec<_> = (0..COUNT)
        .map(|_| ask("GET", &format!("/status/404/{}", number()), 404))
        .collect();
    let known = traffic.ask(&failing)?;
    if agent::dry() {
        return Ok(());
    }
    let came = until("spans of both pipelines", Duration::from_secs(15), || {
        stage.sink.count() + other.count() >= 2 * COUNT
    });
    // Longer than a trace waits for its decision: whatever else is kept comes too.
    std::thread::sleep(Duration::from_secs(2));
    agent.stop()?;
    let parts = [stage.sink.spans(), other.spans()];
    stage.check(came.is_ok(), || {
        let count: usize = parts.iter().map(Vec::len).sum();
        format!("{count} spans, want {}", 2 * COUNT)
    });
    let [one, two] = parts.each_ref().map(|spans| {
        spans
            .iter()
            .map(|span| &span.trace)
            .collect::<BTreeSet<_>>()
    });
    stage.check(one.is_disjoint(&two), || {
        "a trace went to both pipelines".into()
    });
    // One in half a million that all traces fall to one side.
    stage.check(!one.is_empty() && !two.is_empty(), || {
        format!("{} and {} traces: not balanced", one.len(), two.len())
    });
    let mut all = parts.concat();
    for span in &mut all {
        // On this way (v0.145) the Collector groups spans anew and leaves the schema URL out, which
        // the cases above have.
        stage.check(span.schema.is_empty(), || {
            format!("the Collector keeps schema URLs by now: {}", span.schema)
        });
        span.schema = "https://opentelemetry.io/schemas/".into();
    }
    stage.judge_spans(&known, &all);
    Ok(())
}
