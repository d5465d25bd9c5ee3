//! The gateway of two tiers, from the files that are shipped, with a real Collector for each: what it
//! keeps of the agent's traces, and that Zipkin's server, a real one too, shows them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use spantap_tests::known::{Ask, ask, number};
use spantap_tests::process::{free_port, until};
use spantap_tests::program::{Program, Setup};
use spantap_tests::{Case, Kind, Sink, Span, Stage, agent, install};

use super::shipped;
use crate::collector::binary;
use crate::export::{Traffic, agent_to};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("deploy::collector::validate", validate).beside(),
        Case::new("deploy::collector::two-tier", two_tier),
        Case::new("deploy::zipkin", zipkin),
    ]
}

/// The second tier's file, and beside it that of a backend.
fn sampling(backend: &str) -> Vec<PathBuf> {
    vec![
        shipped("collector/sampler.yaml"),
        shipped(&format!("collector/to-{backend}.yaml")),
    ]
}

/// What stands behind the second tier, by the files that are there.
fn backends() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(shipped("collector"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let backend = name
            .strip_prefix("to-")
            .and_then(|n| n.strip_suffix(".yaml"));
        found.extend(backend.map(String::from));
    }
    found.sort();
    Ok(found)
}

/// Each file is right by itself, with no variable set; and so are all backends at once.
fn validate(stage: &mut Stage) -> Result<()> {
    let backends = backends()?;
    ensure!(backends.len() >= 5, "backends: {backends:?}");
    let mut sets = vec![vec![shipped("collector/balancer.yaml")]];
    sets.extend(backends.iter().map(|backend| sampling(backend)));
    let all = backends.iter().flat_map(|backend| sampling(backend));
    sets.push(all.collect::<BTreeSet<_>>().into_iter().collect());
    stage.count("configurations", sets.len());
    for files in sets {
        let words = files
            .iter()
            .flat_map(|file| ["--config".as_ref(), file.as_os_str()]);
        let ran = Setup::new("validate", &stage.folder, binary()?)
            .arg("validate")
            .args(words)
            .run(Duration::from_secs(20))?;
        stage.check(ran.code == Some(0), || {
            format!("{files:?}: {}{}", ran.output, ran.errors)
        });
    }
    Ok(())
}

/// A Collector on an address of its own; `names` says what /etc/hosts is for it.
fn collector(
    stage: &Stage,
    name: &str,
    files: &[PathBuf],
    variables: &[(&str, String)],
    names: &str,
) -> Result<Program> {
    const AS_ITS_HOSTS: &str = "mount --bind \"$1\" /etc/hosts; shift; exec \"$@\"";
    let hosts = stage.folder.join(format!("{name}.hosts"));
    fs::write(&hosts, names)?;
    let health = free_port()?;
    let setup = Setup::new(name, &stage.folder, "unshare")
        .args(["--mount", "sh", "-ec", AS_ITS_HOSTS, "sh"])
        .arg(hosts)
        .arg(binary()?)
        .args(
            files
                .iter()
                .flat_map(|file| ["--config".as_ref(), file.as_os_str()]),
        )
        .env("HEALTH_PORT", health.to_string())
        .port(health);
    let mut setup = setup;
    for (key, value) in variables {
        setup = setup.env(key, value);
    }
    setup.start()
}

/// One balancer and two samplers with sinks of their own behind them.
struct Tiers {
    other: Sink,
    endpoint: String,
    _running: Vec<Program>,
}

impl Tiers {
    fn start(stage: &Stage) -> Result<Self> {
        let (other, port) = (Sink::start()?, free_port()?);
        let sinks = [
            ("127.0.0.2", stage.sink.port()),
            ("127.0.0.3", other.port()),
        ];
        let mut running = Vec::new();
        for (address, sink) in sinks {
            let variables = [
                ("LISTEN", address.to_string()),
                ("OTLP_GRPC_PORT", port.to_string()),
                ("DECISION_WAIT", "3s".into()),
                ("SLOW_MS", "700".into()),
                ("KEEP_PERCENT", "20".into()),
                ("JAEGER_ENDPOINT", format!("http://127.0.0.1:{sink}")),
            ];
            let (name, files) = (format!("sampler-{address}"), sampling("jaeger"));
            running.push(collector(stage, &name, &files, &variables, "")?);
        }
        let [grpc, http] = [free_port()?, free_port()?];
        let variables = [
            ("LISTEN", "127.0.0.1".into()),
            ("OTLP_GRPC_PORT", grpc.to_string()),
            ("OTLP_HTTP_PORT", http.to_string()),
            ("SAMPLERS", "samplers.test".into()),
            ("SAMPLERS_PORT", port.to_string()),
        ];
        let names = "127.0.0.2 samplers.test\n127.0.0.3 samplers.test\n";
        let files = [shipped("collector/balancer.yaml")];
        running.push(collector(stage, "balancer", &files, &variables, names)?);
        Ok(Self {
            other,
            endpoint: format!("http://127.0.0.1:{http}"),
            _running: running,
        })
    }

    /// What both sinks have; no trace may be at both.
    fn spans(&self, stage: &mut Stage) -> Vec<Span> {
        let parts = [stage.sink.spans(), self.other.spans()];
        let [one, two] = parts
            .each_ref()
            .map(|spans| spans.iter().map(|s| &s.trace).collect::<BTreeSet<_>>());
        stage.check(one.is_disjoint(&two), || {
            "a trace went to both samplers".into()
        });
        // Of 1,105 traces: never by chance.
        stage.check(!one.is_empty() && !two.is_empty(), || {
            format!("{} and {} traces: not balanced", one.len(), two.len())
        });
        let mut all = parts.concat();
        for span in &mut all {
            // On this way (v0.145) the Collector groups spans anew and leaves the schema URL out, which
            // it does not where nothing is balanced.
            stage.check(span.schema.is_empty(), || {
                format!("the Collector keeps schema URLs by now: {}", span.schema)
            });
            span.schema = "https://opentelemetry.io/schemas/".into();
        }
        all
    }
}

/// 1,000 traces that are neither, 50 with an error at both ends, 50 with one at the caller's alone and five that
/// are slow, through one balancer and two samplers: all of the latter come, of the former a fifth, and whole
/// traces only.
fn two_tier(stage: &mut Stage) -> Result<()> {
    const PLAIN: usize = 1000;
    let tiers = Tiers::start(stage)?;
    let mut traffic = Traffic::start(stage)?;
    let agent = agent_to(stage, &tiers.endpoint, "http/protobuf")?
        .ports(&[traffic.port])
        .start()?;
    let mut kept: Vec<Ask> = Vec::new();
    for _ in 0..50 {
        kept.push(ask("GET", &format!("/status/500/{}", number()), 500));
        kept.push(ask("GET", &format!("/status/404/{}", number()), 404));
    }
    kept.extend((0..5).map(|_| ask("GET", &format!("/slow/900/{}", number()), 200)));
    let known = traffic.ask(&kept)?;
    traffic.make(PLAIN)?;
    if agent::dry() {
        return Ok(());
    }
    agent.stop()?;
    // Longer than the last trace waits for its decision, and nothing comes any more.
    let quiet = Duration::from_secs(6);
    stage.sink.settle(quiet, Duration::from_secs(30));
    let all = tiers.spans(stage);
    let (plain, rest): (Vec<Span>, Vec<Span>) = all
        .into_iter()
        .partition(|span| span.target().starts_with("/bytes/"));
    stage.judge_spans(&known, &rest);
    let traces = whole(stage, &plain);
    stage.count(&format!("kept of {PLAIN}"), traces);
    // 20 % of 1,000, and five times the deviation of 12.6.
    stage.check((137..=263).contains(&traces), || {
        format!("{traces} of {PLAIN} traces were kept, want about 200")
    });
    Ok(())
}

/// How many traces these are; each must have both its spans.
fn whole(stage: &mut Stage, spans: &[Span]) -> usize {
    let mut traces: BTreeMap<&str, Vec<Kind>> = BTreeMap::new();
    for span in spans {
        traces.entry(&span.trace).or_default().push(span.kind);
    }
    for (trace, kinds) in &mut traces {
        kinds.sort_unstable();
        stage.check(kinds[..] == [Kind::Server, Kind::Client], || {
            format!("trace {trace} has {kinds:?}")
        });
    }
    traces.len()
}

/// Through a sampler that keeps all, to Zipkin's own server: its API shows each call with both its ends.
fn zipkin(stage: &mut Stage) -> Result<()> {
    const COUNT: usize = 20;
    let [port, query] = [free_port()?, free_port()?];
    let _server = Setup::new("zipkin", &stage.folder, "java")
        .args(["-Xmx256m", "-jar"])
        .arg(install::zipkin()?)
        .env("QUERY_PORT", query.to_string())
        .env("STORAGE_TYPE", "mem")
        .port(query)
        .start()?;
    let variables = [
        ("LISTEN", "127.0.0.1".into()),
        ("OTLP_GRPC_PORT", port.to_string()),
        ("DECISION_WAIT", "1s".into()),
        ("KEEP_PERCENT", "100".into()),
        (
            "ZIPKIN_ENDPOINT",
            format!("http://127.0.0.1:{query}/api/v2/spans"),
        ),
    ];
    let _sampler = collector(stage, "sampler", &sampling("zipkin"), &variables, "")?;
    let mut traffic = Traffic::start(stage)?;
    let agent = agent_to(stage, &format!("http://127.0.0.1:{port}"), "grpc")?
        .ports(&[traffic.port])
        .start()?;
    let known = traffic.make(COUNT)?;
    if agent::dry() {
        return Ok(());
    }
    agent.stop()?;
    let url = format!("http://127.0.0.1:{query}/api/v2/traces?serviceName=go-app&limit=100");
    let mut traces = Vec::new();
    let came = until("traces at Zipkin", Duration::from_secs(20), || {
        std::thread::sleep(Duration::from_millis(200));
        traces = fetch(stage, &url).unwrap_or_default();
        traces.len() >= COUNT
    });
    stage.count("traces", traces.len());
    came.with_context(|| format!("{} traces came", traces.len()))?;
    let mut paths = BTreeSet::new();
    for trace in &traces {
        let side = |kind: &str| trace.iter().find(|span| span["kind"] == kind);
        let (Some(client), Some(server)) = (side("CLIENT"), side("SERVER")) else {
            stage.problem(format!("a trace without both its ends: {trace:?}"));
            continue;
        };
        let fine = server["parentId"] == client["id"]
            && server["localEndpoint"]["serviceName"] == "go-app"
            && client["localEndpoint"]["serviceName"] == "driver"
            && client["tags"]["http.response.status_code"] == "200";
        stage.check(fine, || format!("{trace:?}"));
        paths.extend(server["tags"]["url.path"].as_str().map(String::from));
    }
    let asked: BTreeSet<String> = known.into_iter().map(|one| one.target).collect();
    stage.check(paths == asked, || format!("{paths:?}, want {asked:?}"));
    Ok(())
}

fn fetch(stage: &Stage, url: &str) -> Result<Vec<Vec<Value>>> {
    let curl = install::tool("curl", &["curl"])?;
    let ran = Setup::new("curl", &stage.folder, curl)
        .args(["--silent", "--fail", "--max-time", "5", url])
        .run(Duration::from_secs(10))?;
    Ok(serde_json::from_str(&ran.output)?)
}
