//! gRPC without TLS: calls of each kind, and such that fail, on a channel from before the agent and on
//! a new one. Each call's method has a number of its own.

use std::time::Duration;

use anyhow::{Result, ensure};
use spantap_tests::agent::{self, Capture};
use spantap_tests::known::number;
use spantap_tests::process::free_port;
use spantap_tests::program::Setup;
use spantap_tests::span::{Kind, Span};
use spantap_tests::{Case, Client, Stage, install};

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for capture in [Capture::Socket, Capture::Syscall] {
        for before in [true, false] {
            let when = if before { "before" } else { "after" };
            let name = format!("grpc::python::{}::{when}", capture.name());
            cases.push(Case::new(name, move |stage| run(stage, capture, before)));
        }
    }
    cases
}

/// Kind of call, what the client is told, and the errors that the client's and the server's span
/// must name.
const CALLS: [(&str, &str, [Option<&str>; 2]); 8] = [
    ("Unary", "OK", [None, None]),
    ("Gather", "OK", [None, None]),
    ("Scatter", "OK", [None, None]),
    ("Both", "OK", [None, None]),
    ("Fails", "NOT_FOUND", [Some("NOT_FOUND"), None]),
    ("Breaks", "UNKNOWN", [Some("UNKNOWN"), Some("UNKNOWN")]),
    (
        "FailsLate",
        "UNAVAILABLE",
        [Some("UNAVAILABLE"), Some("UNAVAILABLE")],
    ),
    (
        "Slow",
        "DEADLINE_EXCEEDED",
        [Some(GIVES_UP), Some(GIVES_UP)],
    ),
];

/// The client gives up by a reset, which does not say why, or the server, who was told the deadline,
/// says so in time.
const GIVES_UP: &str = "CANCEL or DEADLINE_EXCEEDED";

fn program(stage: &Stage, role: &str, port: u16) -> Result<Setup> {
    let (file, _) = install::app("python/grpc_app.py")?;
    let python = install::python()?.join("python");
    Ok(Setup::new("grpc", &stage.folder, python)
        .arg(file)
        .args([role, &port.to_string()]))
}

fn run(stage: &mut Stage, capture: Capture, before: bool) -> Result<()> {
    let port = free_port()?;
    let server = program(stage, "server", port)?.port(port).start()?;
    let setup = program(stage, "client", port)?;
    let agent = stage.agent()?.ports(&[port]).capture(capture);
    let (mut client, agent) = if before {
        let mut client = Client::start(setup)?;
        client.tell(&format!("Unary /live.Calls/Unary_{}", number()))?;
        ensure!(client.line()? == "OK");
        (client, agent.start()?)
    } else {
        let agent = agent.start()?;
        (Client::start(setup)?, agent)
    };
    let mut made = Vec::new();
    for (kind, want, errors) in CALLS {
        let method = format!("live.Calls/{kind}_{}", number());
        client.tell(&format!("{kind} /{method}"))?;
        let told = client.line()?;
        ensure!(told == want, "{method}: the program was told {told}");
        made.push((method, want, errors));
    }
    // The server's thread is still at it.
    std::thread::sleep(Duration::from_millis(600));
    if agent::dry() {
        return Ok(());
    }
    let spans = stage.receive(agent, 2 * made.len())?;
    stage.check(spans.len() == 2 * made.len(), || {
        let lines: Vec<_> = spans.iter().map(Span::line).collect();
        format!("{} spans: {lines:#?}", spans.len())
    });
    for (method, want, errors) in &made {
        let find = |kind| {
            let is = |span: &&Span| span.kind == kind && span.name == *method;
            spans.iter().find(is)
        };
        let (Some(asks), Some(answers)) = (find(Kind::Client), find(Kind::Server)) else {
            stage.problem(format!("missing: a span of {method}"));
            continue;
        };
        let parent = answers.parent.as_deref() == Some(asks.id.as_str());
        stage.check(parent && answers.trace == asks.trace, || {
            format!("{method}: the server's span is no child of the client's")
        });
        let sides = [
            (asks, client.pids(), errors[0]),
            (answers, server.pids(), errors[1]),
        ];
        for (span, pids, error) in sides {
            // That the first call went well was said before the agent came, and by number since.
            let said = span.text("rpc.response.status_code").is_some();
            let want = (*want != "OK" || said || !before).then_some(*want);
            stage.check(
                want.is_some() || span.attributes.get("spantap.partial").is_some(),
                || format!("{method}: no status, and not said to be partial"),
            );
            judge(stage, span, &pids, (method, want, error));
        }
    }
    Ok(())
}

fn judge(
    stage: &mut Stage,
    span: &Span,
    pids: &[u32],
    (method, want, error): (&str, Option<&str>, Option<&str>),
) {
    let what = format!("{:?} span of {method}", span.kind);
    let mut text = |key: &str, want: Option<&str>| {
        let got = span.text(key);
        stage.check(got.as_deref() == want, || {
            format!("{what}: {key} is {got:?}, want {want:?}")
        });
    };
    text("rpc.system.name", Some("grpc"));
    text("rpc.method", Some(method));
    if error == Some(GIVES_UP) {
        let said = span.text("error.type").unwrap_or_default();
        let want = want.filter(|want| said == *want);
        text("rpc.response.status_code", want);
        text("error.type", want.or(Some("CANCEL")));
    } else {
        text("rpc.response.status_code", want);
        text("error.type", error);
    }
    text("url.full", None);
    text("http.request.method", None);
    text("network.protocol.version", Some("2"));
    stage.check(span.error == error.is_some(), || {
        format!("{what}: error is {}", span.error)
    });
    stage.check(span.pid().is_some_and(|pid| pids.contains(&pid)), || {
        format!("{what}: process {:?}, want one of {pids:?}", span.pid())
    });
}
