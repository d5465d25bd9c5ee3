//! Programs under an OpenTelemetry SDK, which tell of themselves: whom they call is the child of what they
//! say, and nothing is told twice.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use spantap_tests::agent;
use spantap_tests::install;
use spantap_tests::process::{self, free_port};
use spantap_tests::program::Setup;
use spantap_tests::sink::Sink;
use spantap_tests::span::{Kind, Span};
use spantap_tests::{Case, Stage};

use crate::causality;

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, hop) in [("node", node as Hop), ("python", python)] {
        for (transport, protocol) in [("http", PROTOBUF), ("grpc", "grpc")] {
            let how = How {
                hop,
                protocol,
                apart: transport == "grpc",
                both: false,
            };
            cases.push(Case::new(
                format!("sdk::{name}::{transport}"),
                move |stage| told_once(stage, &how),
            ));
        }
    }
    let both = How {
        hop: node,
        protocol: PROTOBUF,
        apart: false,
        both: true,
    };
    cases.push(Case::new("sdk::both", move |stage| told_once(stage, &both)));
    for (name, hop) in [("node", node as Hop), ("python", python)] {
        let name = format!("sdk::continued::{name}");
        cases.push(Case::new(name, move |stage| continued(stage, hop)));
    }
    cases
}

/// A program that hands requests on, from one port to the next.
type Hop = fn(&Stage, u16, u16, &str) -> Result<Setup>;

struct How {
    hop: Hop,
    /// OTEL_EXPORTER_OTLP_PROTOCOL.
    protocol: &'static str,
    /// Whether it exports to another receiver than the agent does.
    apart: bool,
    /// Whether the agent is to tell of it as well.
    both: bool,
}

fn node(stage: &Stage, port: u16, next: u16, _: &str) -> Result<Setup> {
    let folder = install::modules("node-sdk", "sdk", &["hop.js"])?;
    let words = [port.to_string(), next.to_string()];
    let hop = Setup::new("hop", &stage.folder, "node").arg(folder.join("hop.js"));
    Ok(hop.args(words).port(port))
}

fn python(stage: &Stage, port: u16, next: u16, protocol: &str) -> Result<Setup> {
    let python = install::python_of("sdk", &[])?.join("python");
    let (script, _) = install::app("sdk/hop.py")?;
    let exporter = if protocol == "grpc" { "grpc" } else { "http" };
    let words = [port.to_string(), next.to_string(), exporter.into()];
    let hop = Setup::new("hop", &stage.folder, python).arg(script);
    Ok(hop.args(words).port(port))
}

/// OTEL_EXPORTER_OTLP_PROTOCOL.
const PROTOBUF: &str = "http/protobuf";
/// Requests in all.
const MANY: usize = 100;
/// What the agent calls its spans' scope.
const OURS: &str = "spantap";

/// Tells an SDK where to export to, and at once.
fn under_sdk(hop: Setup, receiver: &Sink) -> Setup {
    hop.env("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.endpoint())
        .env("OTEL_SERVICE_NAME", "hop")
        .env("OTEL_METRICS_EXPORTER", "none")
        .env("OTEL_LOGS_EXPORTER", "none")
        .env("OTEL_BSP_SCHEDULE_DELAY", "200")
        .env("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
}

fn told_once(stage: &mut Stage, how: &How) -> Result<()> {
    let (port, next) = (free_port()?, free_port()?);
    let _leaf = causality::leaf(stage, next)?.start()?;
    let apart = if how.apart {
        Some(Sink::start()?)
    } else {
        None
    };
    let receiver = apart.as_ref().unwrap_or(&stage.sink);
    let hop = (how.hop)(stage, port, next, how.protocol)?;
    let hop = under_sdk(hop, receiver)
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", how.protocol)
        .start()?;
    let mut ports = vec![port, next];
    ports.extend(apart.as_ref().map(Sink::port));
    let agent = stage.agent()?.ports(&ports);
    let agent = match how.both {
        true => agent.args(["--exclude-instrumented=false"]),
        false => agent,
    };
    let agent = agent.start()?;
    causality::load(stage, port, "warm", 4, 20)?;
    if agent::dry() {
        return Ok(());
    }
    if !how.both {
        let told = || agent.log().contains("exports spans of its own");
        process::until("it is seen to export", Duration::from_secs(20), told)?;
    }
    causality::load(stage, port, "real", 8, MANY)?;
    let pid = hop.pid();
    let count = MANY * if how.both { 6 } else { 4 };
    let here = if how.apart { count / 2 } else { count };
    let is_real = |span: &Span| span.target().contains("/real/");
    process::until("the spans came", Duration::from_secs(30), || {
        let of = |sink: &Sink| sink.spans().iter().filter(|s| is_real(s)).count();
        of(&stage.sink) >= here && apart.as_ref().is_none_or(|sink| of(sink) >= count - here)
    })?;
    let log = fs::read_to_string(agent.log_path())?;
    let mut spans = stage.receive(agent, here)?;
    spans.extend(apart.iter().flat_map(Sink::spans));
    spans.retain(|span| is_real(span));
    ensure!(
        spans.len() == count,
        "{} spans, not {count}: {log}",
        spans.len()
    );
    judge(stage, &spans, pid, how.both);
    Ok(())
}

/// Whom the process calls is the child of what called: by its own word, unless the agent tells of `both`.
fn judge(stage: &mut Stage, spans: &[Span], process: u32, both: bool) {
    let (ours, theirs): (Vec<&Span>, Vec<&Span>) = spans.iter().partition(|s| s.scope == OURS);
    let of_it = |span: &Span| span.pid() == Some(process);
    let twice = ours.iter().filter(|span| of_it(span)).count();
    let expected = if both { 2 * MANY } else { 0 };
    stage.check(twice == expected, || {
        format!("{twice} spans of it, not {expected}")
    });
    let callers = if both { &ours } else { &theirs };
    let served = |span: &&&Span| span.kind == Kind::Server && !of_it(span);
    for leaf in ours.iter().filter(served) {
        let fine = callers.iter().any(|above| {
            Some(&above.id) == leaf.parent.as_ref()
                && above.kind == Kind::Client
                && above.trace == leaf.trace
                && above.target().ends_with(&leaf.target())
        });
        stage.check(fine, || format!("{} has another parent", leaf.line()));
    }
}

/// Requests reach a program under an SDK through one that is under none: each is one trace, as the agent
/// writes its parent into the first request of a connection, and each of these has one.
fn continued(stage: &mut Stage, hop: Hop) -> Result<()> {
    let [first, port, next] = [free_port()?, free_port()?, free_port()?];
    let _leaf = causality::leaf(stage, next)?.start()?;
    let hop = under_sdk(hop(stage, port, next, PROTOBUF)?, &stage.sink)
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", PROTOBUF)
        .start()?;
    let front = node(stage, first, port, "")?
        .env("OTEL_SDK_DISABLED", "true")
        .env("OTEL_SERVICE_NAME", "front")
        .start()?;
    let agent = stage.agent()?.ports(&[first, port, next]).node();
    let words = ["--propagation", "header", "--header-to", "127.0.0.1"];
    let agent = agent.args(words).start()?;
    causality::load(stage, first, "warm", 4, 20)?;
    if agent::dry() {
        return Ok(());
    }
    let told = || agent.log().contains("exports spans of its own");
    process::until("it is seen to export", Duration::from_secs(20), told)?;
    // Node.js is watched for a second before its calls tell others whose they are.
    std::thread::sleep(Duration::from_millis(1_500));
    causality::load(stage, first, "real", 8, MANY)?;
    let is_real = |span: &Span| span.target().contains("/real/");
    let count = 6 * MANY;
    process::until("the spans came", Duration::from_secs(30), || {
        stage
            .sink
            .spans()
            .iter()
            .filter(|span| is_real(span))
            .count()
            >= count
    })?;
    let mut spans = stage.receive(agent, count)?;
    spans.retain(is_real);
    ensure!(spans.len() == count, "{} spans, not {count}", spans.len());
    let pids = [front.pid(), hop.pid()];
    let served = |span: &&Span| span.scope != OURS && span.kind == Kind::Server;
    // The line names the call that it was written for: of that nothing is a parent but what it was made for.
    let calls = |span: &&Span| span.scope == OURS && span.kind == Kind::Client;
    for call in spans.iter().filter(calls) {
        let fine = call.parent.as_ref().is_none_or(|above| {
            let above = spans.iter().find(|span| span.id == *above);
            above.is_some_and(|above| above.kind == Kind::Server && above.pid() == call.pid())
        });
        stage.check(fine, || format!("{} has another parent", call.line()));
    }
    for below in spans.iter().filter(served) {
        let above = spans
            .iter()
            .find(|above| Some(&above.id) == below.parent.as_ref());
        let fine = above.is_some_and(|above| {
            above.scope == OURS
                && above.pid() == Some(pids[0])
                && above.trace == below.trace
                && above.target().ends_with(&below.target())
        });
        stage.check(fine, || format!("{} has another parent", below.line()));
        let whole = spans.iter().filter(|span| span.trace == below.trace);
        let whole = whole.filter(|span| span.target().ends_with(&below.target()));
        let whole = whole.count();
        stage.check(whole == 6, || {
            format!("{whole} of 6 in the trace of {}", below.line())
        });
    }
    Ok(())
}
