//! What is kept and what may leave: sampling, redaction, limits, and who is traced at all.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use spantap_tests::driver::Plain;
use spantap_tests::known::{Ask, Known, Origin, Size, ask, drive, few, number};
use spantap_tests::process::free_port;
use spantap_tests::program::Setup;
use spantap_tests::span::{Kind, Span};
use spantap_tests::{Case, Driver, Party, Stage, agent};

use crate::programs::{DRIVER, go_server};

/// All of them.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("policy::redaction", redaction),
        Case::new("policy::always-off", always_off),
        Case::new("policy::ratio", ratio),
        Case::new("policy::limits", limits),
        Case::new("policy::resource", resource),
        Case::new("policy::select-pid", |stage| select(stage, By::Pid)),
        Case::new("policy::select-command", |stage| select(stage, By::Command)),
        Case::new("policy::select-port", |stage| select(stage, By::Port)),
        Case::new("policy::select-newcomers", newcomers),
    ]
}

/// Programs that are there for a call alone are seen, one after the other.
fn newcomers(stage: &mut Stage) -> Result<()> {
    let port = free_port()?;
    let _server = go_server(&stage.folder, port)?.port(port).start()?;
    let agent = stage.agent()?.ports(&[port]).args(["--command", "curl"]);
    let agent = agent.start()?;
    let script = "for n in $(seq 20); do curl -s -o /dev/null $0/$n; sleep 0.05; done";
    let url = format!("http://127.0.0.1:{port}/bytes/10");
    let calls = Setup::new("calls", &stage.folder, "sh").args(["-c", script, &url]);
    let ran = calls.run(Duration::from_secs(30))?;
    ensure!(ran.code == Some(0), "{ran:?}");
    let spans = stage.receive(agent, 20)?;
    stage.check(agent::dry() || spans.len() == 20, || {
        format!("{} of 20 calls are seen", spans.len())
    });
    Ok(())
}

fn redaction(stage: &mut Stage) -> Result<()> {
    let port = free_port()?;
    let server = go_server(&stage.folder, port)?.port(port).start()?;
    let mut driver = Driver::start(&stage.folder, DRIVER, "driver")?;
    let mut setup = stage.agent()?.ports(&[port]);
    for name in ["authorization", "cookie", "x-api-key", "x-tenant"] {
        setup = setup.args(["--request-header", name]);
    }
    let agent = setup.start()?;
    let mut plain = Plain::new(&mut driver, port)?;
    let number = number();
    let query = "page=2&access_token=s3cr3tA&password=s3cr3tB&mail=jane.doe@example.test&card=4111111111111111";
    let secret = Ask {
        headers: vec![
            ("Authorization".into(), "Bearer s3cr3tC".into()),
            ("Cookie".into(), "session=s3cr3tD".into()),
            ("X-Api-Key".into(), "s3cr3tE".into()),
            ("X-Tenant".into(), "blue".into()),
        ],
        ..ask("GET", &format!("/bytes/5/{number}?{query}"), 200)
    };
    drive(&[secret], &mut plain, port, None, None)?;
    let spans = stage.receive(agent, 2)?;
    stage.check(spans.len() == 2, || {
        format!("{} spans, want 2", spans.len())
    });
    for span in &spans {
        let dump = span.dump();
        for secret in ["s3cr3t", "jane.doe", "4111111111111111"] {
            stage.check(!dump.contains(secret), || format!("{secret} in {dump}"));
        }
        // Recorded, and only then is there something to redact.
        for (name, want) in [
            ("authorization", "REDACTED"),
            ("cookie", "REDACTED"),
            ("x-api-key", "REDACTED"),
            ("x-tenant", "blue"),
        ] {
            let got = span.attributes.get(&format!("http.request.header.{name}"));
            stage.check(got == Some(&json!([want])), || {
                format!("header {name} is {got:?}, want {want:?}")
            });
        }
        let shown = span.target();
        let fine = shown.starts_with(&format!("/bytes/5/{number}?")) && shown.contains("page=2");
        stage.check(fine, || format!("too little is left of the URL: {shown}"));
    }
    drop(server);
    Ok(())
}

/// Spans of so many small requests under these variables.
fn sampled(stage: &mut Stage, variables: &[(&str, &str)], count: usize) -> Result<Vec<Span>> {
    let port = free_port()?;
    let _server = go_server(&stage.folder, port)?.port(port).start()?;
    let mut driver = Driver::start(&stage.folder, DRIVER, "driver")?;
    let mut setup = stage.agent()?.ports(&[port]);
    for (key, value) in variables {
        setup = setup.env(key, value);
    }
    let agent = setup.start()?;
    let asks: Vec<Ask> = (0..count)
        .map(|_| ask("GET", &format!("/bytes/10/{}", number()), 200))
        .collect();
    drive(&asks, &mut Plain::new(&mut driver, port)?, port, None, None)?;
    stage.receive(agent, 0)
}

/// Nothing; though the same traffic is seen where everything is sampled.
fn always_off(stage: &mut Stage) -> Result<()> {
    const COUNT: usize = 20;
    for (sampler, want) in [("always_off", 0), ("always_on", 2 * COUNT)] {
        let spans = sampled(stage, &[("OTEL_TRACES_SAMPLER", sampler)], COUNT)?;
        stage.check(spans.len() == want, || {
            format!("{} spans with {sampler}, want {want}", spans.len())
        });
    }
    Ok(())
}

/// Half of the traces, each whole.
fn ratio(stage: &mut Stage) -> Result<()> {
    const COUNT: usize = 400;
    let variables = [
        ("OTEL_TRACES_SAMPLER", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.5"),
    ];
    let spans = sampled(stage, &variables, COUNT)?;
    let mut traces: BTreeMap<&str, Vec<Kind>> = BTreeMap::new();
    for span in &spans {
        traces.entry(&span.trace).or_default().push(span.kind);
    }
    // Six standard deviations of a fair coin.
    let fine = (140..=260).contains(&traces.len());
    stage.check(fine, || {
        format!("{} of {COUNT} traces at a ratio of 0.5", traces.len())
    });
    let halves = traces.values().filter(|kinds| kinds.len() != 2).count();
    stage.check(halves == 0, || format!("{halves} traces are not whole"));
    Ok(())
}

fn limits(stage: &mut Stage) -> Result<()> {
    let variables = [
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "5"),
        ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "6"),
    ];
    let spans = sampled(stage, &variables, 3)?;
    stage.check(spans.len() == 6, || {
        format!("{} spans, want 6", spans.len())
    });
    for span in &spans {
        let count = span.attributes.len();
        stage.check(count <= 5, || {
            format!("{count} attributes, at most 5 allowed")
        });
        for (key, value) in &span.attributes {
            let length = value.as_str().map_or(0, |text| text.chars().count());
            stage.check(length <= 6, || {
                format!("{key} is {value}, at most 6 characters allowed")
            });
        }
    }
    Ok(())
}

/// What a target says of itself in its environment is on its spans, what it does not say is found.
fn resource(stage: &mut Stage) -> Result<()> {
    let port = free_port()?;
    let server = go_server(&stage.folder, port)?
        .env(
            "OTEL_RESOURCE_ATTRIBUTES",
            "service.name=shop,service.version=1.2.3,deployment.environment.name=test%20bed",
        )
        .port(port)
        .start()?;
    let mut driver = Driver::start(&stage.folder, DRIVER, "driver")?;
    let parties = [
        Party::new("driver", &[driver.pid()]),
        Party::new("shop", &[server.pid()]),
    ];
    let agent = stage.agent()?.ports(&[port]).start()?;
    let mut plain = Plain::new(&mut driver, port)?;
    let known = drive(
        &few(),
        &mut plain,
        port,
        Some(&parties[0]),
        Some(&parties[1]),
    )?;
    let spans = stage.judge(agent, &known)?;
    let instances: std::collections::BTreeSet<_> = spans
        .iter()
        .filter_map(|span| span.resource_text("service.instance.id"))
        .collect();
    stage.check(instances.len() == 2, || {
        format!("service instances {instances:?}, want 2")
    });
    for span in spans.iter().filter(|span| span.kind == Kind::Server) {
        for (key, want) in [
            ("service.version", "1.2.3"),
            ("deployment.environment.name", "test bed"),
            ("process.executable.name", "go-app"),
            ("os.type", "linux"),
        ] {
            let got = span.resource_text(key);
            stage.check(got.as_deref() == Some(want), || {
                format!("{key} is {got:?}, want {want:?}")
            });
        }
    }
    let groups = stage
        .sink
        .arrivals()
        .iter()
        .map(|arrival| arrival.resources)
        .max();
    stage.check(groups == Some(2), || {
        format!("two services came in requests of {groups:?} resources")
    });
    Ok(())
}

/// How the server is selected.
#[derive(Clone, Copy)]
enum By {
    Pid,
    Command,
    Port,
}

/// One of two servers is selected, and none of the clients: it alone has spans.
fn select(stage: &mut Stage, by: By) -> Result<()> {
    let ports = [free_port()?, free_port()?];
    let chosen = go_server(&stage.folder, ports[0])?.port(ports[0]).start()?;
    let other = crate::programs::aiohttp(&stage.folder, ports[1], "")?
        .port(ports[1])
        .start()?;
    let mut driver = Driver::start(&stage.folder, DRIVER, "driver")?;
    let setup = stage.agent()?;
    let agent = match by {
        By::Pid => setup.pids(&[chosen.pid()]),
        // Only this case's server, though others may run the same program meanwhile.
        By::Command => setup.args(["--command", &format!("*go-app server {}*", ports[0])]),
        By::Port => setup.ports(&[ports[0]]),
    }
    .start()?;
    let serving = Party::new("go-app", &[chosen.pid()]);
    let asking = Party::new("driver", &[driver.pid()]);
    let asking = matches!(by, By::Port).then_some(&asking);
    let known = drive(
        &few(),
        &mut Plain::new(&mut driver, ports[0])?,
        ports[0],
        asking,
        Some(&serving),
    )?;
    drive(
        &few(),
        &mut Plain::new(&mut driver, ports[1])?,
        ports[1],
        None,
        None,
    )?;
    stage.judge(agent, &known)?;
    drop(other);
    Ok(())
}

/// `spantap run -- CMD`: the command's spans, and its exit code.
pub fn run_command(stage: &mut Stage) -> Result<()> {
    let port = free_port()?;
    let _server = go_server(&stage.folder, port)?.port(port).start()?;
    let target = format!("/bytes/10/{}", number());
    let url = format!("http://127.0.0.1:{port}{target}");
    let run = |stage: &Stage, words: &[&str]| -> Result<Option<i32>> {
        let words: Vec<&str> = ["run", "--"].iter().chain(words).copied().collect();
        let setup = agent::Setup::command("run", &stage.folder, &words)?.to(&stage.sink);
        Ok(setup.run(Duration::from_secs(20))?.code)
    };
    let fine = run(stage, &["curl", "-s", "-o", "/dev/null", &url])?;
    stage.check(fine == Some(0), || {
        format!("curl's exit code came out as {fine:?}")
    });
    let child = format!("curl -s -o /dev/null {url}; exit 7");
    let seven = run(stage, &["sh", "-c", &child])?;
    stage.check(seven == Some(7), || {
        format!("exit code 7 came out as {seven:?}")
    });
    let killed = run(stage, &["sh", "-c", "kill -TERM $$"])?;
    stage.check(killed == Some(143), || {
        format!("death by SIGTERM came out as {killed:?}, not 143")
    });
    let absent = run(stage, &["/no/such/program"])?;
    stage.check(absent == Some(127), || {
        format!("no such program came out as {absent:?}, not 127")
    });
    if agent::dry() {
        return Ok(());
    }
    ensure!(
        stage.sink.wait(2, Duration::from_secs(5)),
        "{} of 2 spans",
        stage.sink.count()
    );
    let mut one = Known::new("GET", &target, Some(200), port);
    one.client = Some(Party::new("curl", &[]));
    (one.origin, one.received) = (Origin::Root, Size::Exact(10));
    let spans = stage.sink.spans();
    stage.judge_spans(&[one.clone(), one], &spans);
    Ok(())
}
