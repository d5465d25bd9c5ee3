//! Whose trace a span belongs to: contexts that requests carry, and calls made while serving.

use std::time::Duration;

use anyhow::Result;
use spantap_tests::agent;
use spantap_tests::driver::Plain;
use spantap_tests::known::{Ask, Known, Origin, ask, drive, now, number};
use spantap_tests::process::free_port;
use spantap_tests::program::{Program, Setup};
use spantap_tests::span::{Kind, Span};
use spantap_tests::{Case, Driver, Party, Stage};

use crate::programs::{self, DRIVER, go_server};

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("context::carried", carried),
        Case::new("context::malformed", malformed),
        Case::new("context::unsampled", unsampled),
        Case::new("context::tracestate", tracestate),
        Case::new("context::untrusted", untrusted),
    ];
    for (name, words) in [
        ("sync", &["--workers", "1"][..]),
        ("gthread", &["--threads", "4", "--keep-alive", "75"]),
    ] {
        cases.push(Case::new(format!("context::flask-{name}"), move |s| {
            flask(s, words)
        }));
    }
    for name in ["express", "node-http", "aiohttp", "go"] {
        cases.push(Case::new(format!("context::{name}"), move |s| {
            right_or_none(s, name)
        }));
    }
    cases
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A small request with these headers.
fn with(headers: &[(&str, String)]) -> Ask {
    Ask {
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).into(), value.clone()))
            .collect(),
        ..ask("GET", &format!("/bytes/10/{}", number()), 200)
    }
}

/// Makes these requests of a Go server; each gives its spans the origin beside it.
fn make(stage: &mut Stage, asks: &[(Ask, Origin)]) -> Result<Vec<Span>> {
    let port = free_port()?;
    let server = go_server(&stage.folder, port)?.port(port).start()?;
    let mut driver = Driver::start(&stage.folder, DRIVER, "driver")?;
    let parties = [
        Party::new("driver", &[driver.pid()]),
        Party::new("go-app", &server.pids()),
    ];
    let agent = stage.agent()?.ports(&[port]).start()?;
    let mut plain = Plain::new(&mut driver, port)?;
    let mut known = Vec::new();
    for (ask, origin) in asks {
        let asks = std::slice::from_ref(ask);
        let mut made = drive(asks, &mut plain, port, Some(&parties[0]), Some(&parties[1]))?;
        made.iter_mut().for_each(|one| one.origin = origin.clone());
        known.extend(made);
    }
    stage.judge(agent, &known)
}

fn carried(stage: &mut Stage) -> Result<()> {
    let from = Origin::Carried(TRACE.into(), PARENT.into());
    let short = "a3ce929d0e0e4736";
    let padded = Origin::Carried(format!("{:0>32}", short), PARENT.into());
    let asks = [
        (
            with(&[("traceparent", format!("00-{TRACE}-{PARENT}-01"))]),
            from.clone(),
        ),
        (
            with(&[("Traceparent", format!("00-{TRACE}-{PARENT}-03"))]),
            from.clone(),
        ),
        // A later version may say more.
        (
            with(&[("traceparent", format!("01-{TRACE}-{PARENT}-01-more"))]),
            from.clone(),
        ),
        (with(&[("b3", format!("{TRACE}-{PARENT}-1"))]), from.clone()),
        (
            with(&[("b3", format!("{TRACE}-{PARENT}-1-05e3ac9a4f6e3b90"))]),
            from.clone(),
        ),
        (with(&[("b3", format!("{short}-{PARENT}-1"))]), padded),
        (
            with(&[
                ("X-B3-TraceId", TRACE.into()),
                ("X-B3-SpanId", PARENT.into()),
                ("X-B3-Sampled", "1".into()),
            ]),
            from.clone(),
        ),
        // The older of two wins nothing: traceparent is asked first.
        (
            with(&[
                ("b3", format!("{}-{PARENT}-1", "1".repeat(32))),
                ("traceparent", format!("00-{TRACE}-{PARENT}-01")),
            ]),
            from,
        ),
    ];
    make(stage, &asks).map(drop)
}

/// Refused: each begins a trace of its own.
fn malformed(stage: &mut Stage) -> Result<()> {
    let zero = "0".repeat(32);
    let values = [
        format!("00-{TRACE}-{PARENT}"),
        format!("00-{TRACE}-{PARENT}-01-more"),
        format!("ff-{TRACE}-{PARENT}-01"),
        format!("00-{}-{PARENT}-01", TRACE.to_uppercase()),
        format!("00-{zero}-{PARENT}-01"),
        format!("00-{TRACE}-{}-01", &zero[..16]),
        format!("00-{}-{PARENT}-01", &TRACE[1..]),
        format!("00_{TRACE}_{PARENT}_01"),
        "nonsense".into(),
    ];
    let mut asks: Vec<_> = values
        .into_iter()
        .map(|v| (with(&[("traceparent", v)]), Origin::Root))
        .collect();
    // Two of them are one too many.
    let one = format!("00-{TRACE}-{PARENT}-01");
    asks.push((
        with(&[("traceparent", one.clone()), ("traceparent", one)]),
        Origin::Root,
    ));
    asks.push((
        with(&[("b3", format!("{TRACE}-{}-1", &zero[..16]))]),
        Origin::Root,
    ));
    let spans = make(stage, &asks)?;
    for span in spans.iter().filter(|span| span.trace == TRACE) {
        stage.problem(format!("took a malformed context: {}", span.line()));
    }
    Ok(())
}

/// By the default sampler, what its parent did not sample is not sampled.
fn unsampled(stage: &mut Stage) -> Result<()> {
    let port = free_port()?;
    let server = go_server(&stage.folder, port)?.port(port).start()?;
    let mut driver = Driver::start(&stage.folder, DRIVER, "driver")?;
    let parties = [
        Party::new("driver", &[driver.pid()]),
        Party::new("go-app", &server.pids()),
    ];
    let agent = stage.agent()?.ports(&[port]).start()?;
    let mut plain = Plain::new(&mut driver, port)?;
    let quiet = [
        with(&[("traceparent", format!("00-{TRACE}-{PARENT}-00"))]),
        with(&[("b3", "0".into())]),
        with(&[("b3", format!("{TRACE}-{PARENT}-0"))]),
    ];
    drive(&quiet, &mut plain, port, None, None)?;
    let known = drive(
        &[with(&[])],
        &mut plain,
        port,
        Some(&parties[0]),
        Some(&parties[1]),
    )?;
    stage.judge(agent, &known).map(drop)
}

fn tracestate(stage: &mut Stage) -> Result<()> {
    let state = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE";
    let carried = with(&[
        ("traceparent", format!("00-{TRACE}-{PARENT}-01")),
        ("tracestate", state.into()),
    ]);
    // Without a traceparent there is nothing that it could be the state of.
    let alone = with(&[("tracestate", state.into())]);
    let asks = [
        (carried, Origin::Carried(TRACE.into(), PARENT.into())),
        (alone, Origin::Root),
    ];
    let spans = make(stage, &asks)?;
    for span in &spans {
        let want = if span.trace == TRACE { state } else { "" };
        stage.check(span.state == want, || {
            format!("tracestate {:?}, want {want:?}", span.state)
        });
    }
    Ok(())
}

/// A context from where nobody is trusted is linked to, and a trace of its own begins: in a network of
/// its own, whose addresses are public ones.
fn untrusted(stage: &mut Stage) -> Result<()> {
    let port = free_port()?.to_string();
    let agent = stage.agent()?.ports(&[port.parse()?]);
    let agent = agent.args(["--command", "*http.server*"]).start()?;
    let script = "ip link set lo up
        for n in 1 2; do ip address add 192.0.2.$n/32 dev lo; done
        python3 -m http.server --bind 192.0.2.1 $0 & server=$!
        curl -s --retry 50 --retry-delay 0 --retry-connrefused -o $1 http://192.0.2.1:$0/first
        curl -s --interface 192.0.2.2 -H \"traceparent: 00-$2-$3-00\" -o $1 http://192.0.2.1:$0/second
        kill $server";
    let page = stage.folder.join("page");
    let network = Setup::new("network", &stage.folder, "unshare")
        .args(["--net", "sh", "-c", script, &port])
        .arg(page)
        .args([TRACE, PARENT]);
    let ran = network.run(Duration::from_secs(30))?;
    if agent::dry() {
        return Ok(());
    }
    let spans = stage.receive(agent, 2)?;
    let second = spans.iter().find(|span| span.target() == "/second");
    let linked = second.is_some_and(|span| {
        let [link] = span.links.as_slice() else {
            return false;
        };
        span.trace != TRACE
            && span.parent.is_none()
            && (link.trace.as_str(), link.span.as_str()) == (TRACE, PARENT)
            && link.attributes.get("spantap.link.reason") == Some(&"untrusted".into())
    });
    stage.check(linked, || format!("no root with a link: {spans:?} {ran:?}"));
    Ok(())
}

/// A server that calls another, driven by several connections at once.
struct Chain {
    front: Program,
    back: Program,
    ports: [u16; 2],
    service: &'static str,
}

impl Chain {
    fn start(
        stage: &Stage,
        service: &'static str,
        setup: impl FnOnce(&std::path::Path, u16, &str) -> Result<Setup>,
    ) -> Result<Self> {
        let ports = [free_port()?, free_port()?];
        let back = Setup::new("back", &stage.folder, programs::HYPER)
            .args(["server", &ports[1].to_string()])
            .port(ports[1])
            .start()?;
        let front = setup(
            &stage.folder,
            ports[0],
            &format!("http://127.0.0.1:{}", ports[1]),
        )?;
        let front = front.port(ports[0]).start()?;
        Ok(Self {
            front,
            back,
            ports,
            service,
        })
    }

    /// `/call` on four connections, all asked before any answer is read, so many times over.
    fn calls(&self, driver: &mut Driver, rounds: usize) -> Result<Vec<Known>> {
        let [port, behind] = self.ports;
        let asking = Party::new("driver", &[driver.pid()]);
        let front = Party::new(self.service, &self.front.pids());
        let back = Party::new("live-hyper", &self.back.pids());
        let mut known = Vec::new();
        for _ in 0..rounds {
            let begun = now();
            let numbers: Vec<u32> = (0..4).map(|_| number()).collect();
            let mut open = Vec::new();
            for number in &numbers {
                let connection = driver.open(port)?;
                let host = format!("Host: 127.0.0.1:{port}\r\nConnection: close");
                driver.send(
                    connection,
                    &format!("GET /call/{number} HTTP/1.1\r\n{host}\r\n\r\n"),
                )?;
                open.push(connection);
            }
            for connection in open {
                let response = driver.read(connection, "GET")?;
                anyhow::ensure!(response.answer.status == 200, "{}", response.head);
                driver.close(connection)?;
            }
            for number in numbers {
                let mut first = Known::new("GET", &format!("/call/{number}"), Some(200), port);
                let mut second =
                    Known::new("GET", &format!("/bytes/10/{number}"), Some(200), behind);
                first = first.between(&asking, &front);
                second = second.between(&front, &back);
                second.origin = Origin::Any;
                for mut one in [first, second] {
                    one.window = (begun, now());
                    known.push(one);
                }
            }
        }
        Ok(known)
    }
}

/// For each call made while serving: the span of the request that was served, and the call's.
fn causes(spans: &[Span]) -> Vec<(&Span, &Span)> {
    let number = |span: &Span| {
        span.target()
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_string()
    };
    let serving = |span: &&Span| span.kind == Kind::Server && span.target().starts_with("/call/");
    let mut pairs = Vec::new();
    for server in spans.iter().filter(serving) {
        let call = |span: &&Span| {
            span.kind == Kind::Client
                && span.target().starts_with("/bytes/")
                && number(span) == number(server)
        };
        pairs.extend(spans.iter().find(call).map(|client| (server, client)));
    }
    pairs
}

/// A thread serves one request at a time: what it asks meanwhile is that request's child.
fn flask(stage: &mut Stage, words: &'static [&'static str]) -> Result<()> {
    let chain = Chain::start(stage, "flask", |folder, port, peer| {
        programs::flask(folder, port, "flask", words, peer)
    })?;
    let mut driver = Driver::start(&stage.folder, DRIVER, "driver")?;
    let agent = stage.agent()?.ports(&chain.ports).asyncio().start()?;
    let known = chain.calls(&mut driver, 6)?;
    let spans = stage.judge(agent, &known)?;
    let pairs = causes(&spans);
    stage.check(pairs.len() == 24, || {
        format!("{} of 24 calls found", pairs.len())
    });
    for (server, client) in pairs {
        let fine = client.parent.as_ref() == Some(&server.id) && client.trace == server.trace;
        stage.check(fine, || {
            format!("not the child of the request served: {}", client.line())
        });
    }
    Ok(())
}

/// Where one thread serves many at once, a call has the right parent or none.
fn right_or_none(stage: &mut Stage, name: &'static str) -> Result<()> {
    let chain = match name {
        "express" => Chain::start(stage, "express", |f, port, peer| {
            programs::node(f, "express.js", port, peer)
        }),
        "node-http" => Chain::start(stage, "http", |f, port, peer| {
            programs::node(f, "http.js", port, peer)
        }),
        "aiohttp" => Chain::start(stage, "aio_server", programs::aiohttp),
        _ => Chain::start(stage, "go-app", programs::go_calling),
    }?;
    let mut driver = Driver::start(&stage.folder, DRIVER, "driver")?;
    let agent = stage.agent()?.ports(&chain.ports).start()?;
    let known = chain.calls(&mut driver, 6)?;
    let spans = stage.judge(agent, &known)?;
    let pairs = causes(&spans);
    stage.check(pairs.len() == 24, || {
        format!("{} of 24 calls found", pairs.len())
    });
    for (server, client) in pairs {
        let fine = client.parent.is_none()
            || (client.parent.as_ref() == Some(&server.id) && client.trace == server.trace);
        stage.check(fine, || format!("a wrong parent: {}", client.line()));
    }
    Ok(())
}
