//! gRPC in five languages, with TLS and without: calls of each kind, such that fail, are given up or
//! go on for a while, and many at once, on a channel from before the agent and on a new one. Each
//! call's method has a number of its own; its spans must be there once.

use std::path::Path;
use std::time::Duration;

use crate::matrix::MEETING;
use anyhow::{Result, ensure};
use spantap_tests::agent::{self, Capture};
use spantap_tests::certificates::Certificates;
use spantap_tests::known::{now, number};
use spantap_tests::process::free_port;
use spantap_tests::program::Setup;
use spantap_tests::span::{Kind, Span};
use spantap_tests::{Case, Client, Stage, install};

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for pair in PAIRS {
        for tls in [false, true] {
            for capture in [Capture::Socket, Capture::Syscall] {
                for before in [true, false] {
                    // What an older channel needs is the same on both paths, and so is what two
                    // languages make of each other.
                    let mixed = pair.0.contains("-to-");
                    if capture == Capture::Syscall && (before || mixed) || mixed && before {
                        continue;
                    }
                    let name = format!(
                        "grpc::{}::{}{}::{}",
                        pair.0,
                        if tls { "tls::" } else { "" },
                        capture.name(),
                        if before { "before" } else { "after" }
                    );
                    let case = Case::new(name, move |stage| run(stage, pair, tls, capture, before));
                    // What reads TLS is the same on both paths; how it is tied to its socket the matrix tries.
                    cases.push(case.seldom_if(tls && capture == Capture::Syscall));
                }
            }
        }
    }
    cases
}

/// How a program is started, but for its arguments.
type Program = fn(&Path) -> Result<Setup>;

/// Name in the table, who asks, who answers.
const PAIRS: &[(&str, Program, Program)] = &[
    ("python", python, python),
    ("go", go, go),
    ("node", node, node),
    ("tonic", tonic, tonic),
    ("java", java, java),
    ("node-to-go", node, go),
    ("java-to-python", java, python),
    ("go-to-tonic", go, tonic),
];

fn python(folder: &Path) -> Result<Setup> {
    let (file, _) = install::app("grpc/calls.py")?;
    Ok(Setup::new("python", folder, install::python()?.join("python")).arg(file))
}

fn go(folder: &Path) -> Result<Setup> {
    Ok(Setup::new("go", folder, install::go_grpc()?))
}

fn node(folder: &Path) -> Result<Setup> {
    Ok(Setup::new("node", folder, "node").arg(install::node_grpc()?.join("calls.js")))
}

#[expect(clippy::unnecessary_wraps, reason = "as the others")]
fn tonic(folder: &Path) -> Result<Setup> {
    Ok(Setup::new(
        "tonic",
        folder,
        env!("CARGO_BIN_EXE_live-tonic"),
    ))
}

fn java(folder: &Path) -> Result<Setup> {
    let words = ["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"];
    let setup = Setup::new("java", folder, "java").args(words);
    Ok(setup.args(["-cp", &install::java_grpc()?, "Calls"]))
}

/// How a call ends.
#[derive(Clone, Copy)]
enum End {
    /// By a status; the second and third are whether it is an error to the client and to the server.
    Status(&'static str, bool, bool),
    /// The client cancels it, or its time is over: the client's reset, which does not say why, ends
    /// it, unless a server that was told the deadline says in time that it has passed.
    GivenUp,
}

/// Kinds of call, each a method of the service, and their ends.
const KINDS: [(&str, End); 10] = [
    ("Unary", End::Status("OK", false, false)),
    ("Gather", End::Status("OK", false, false)),
    ("Scatter", End::Status("OK", false, false)),
    ("Both", End::Status("OK", false, false)),
    ("Fails", End::Status("NOT_FOUND", true, false)),
    ("Breaks", End::Status("UNKNOWN", true, true)),
    ("FailsLate", End::Status("UNAVAILABLE", true, true)),
    ("Slow", End::GivenUp),
    ("Cancels", End::GivenUp),
    ("Lasts", End::Status("OK", false, false)),
];

/// From the first message of `Lasts` to its trailers.
const LASTS: Duration = Duration::from_millis(300);

/// So many calls at the end, so many at a time.
const MANY: (usize, usize) = (100, 10);

/// A call that was made.
struct Made {
    method: String,
    /// Whether its channel was there before the agent: that a call went well was said before, and
    /// is said by number since.
    older: bool,
    kind: &'static str,
    end: End,
    /// Unix time before it was made and after it had ended, nanoseconds.
    window: (u64, u64),
}

fn run(
    stage: &mut Stage,
    (_, asks, answers): &(&str, Program, Program),
    tls: bool,
    capture: Capture,
    before: bool,
) -> Result<()> {
    let port = free_port()?;
    let folder = |role: &str| -> Result<_> {
        let folder = stage.folder.join(role);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    };
    let port_word = port.to_string();
    let mut server = answers(&folder("server")?)?.args(["server", &port_word]);
    let mut client = asks(&folder("client")?)?.args(["client", &port_word]);
    if tls {
        let files = Certificates::make(&stage.folder, "grpc")?;
        server = server.args([files.server, files.server_key]);
        client = client.arg(files.authority);
    }
    let server = server.port(port).start()?;
    let agent = stage.agent()?.ports(&[port]).capture(capture);
    let agent = if tls { agent.tls() } else { agent };
    let (mut client, agent) = if before {
        let mut client = Client::start(client)?;
        client.tell(&format!("Unary /live.Calls/Unary_{}", number()))?;
        ensure!(client.line()? == "OK");
        (client, agent.start()?)
    } else {
        let agent = agent.start()?;
        let client = Client::start(client)?;
        if tls {
            std::thread::sleep(MEETING);
        }
        (client, agent)
    };
    let made = make(&mut client, before)?;
    if agent::dry() {
        return Ok(());
    }
    let spans = stage.receive(agent, 2 * made.len())?;
    stage.check(spans.len() == 2 * made.len(), || {
        let names: Vec<_> = spans.iter().map(|span| (span.kind, &span.name)).collect();
        let want = 2 * made.len();
        format!("{} spans, want {want}: {names:?}", spans.len())
    });
    let pids = [client.pids(), server.pids()];
    for one in &made {
        judge(stage, one, &spans, &pids);
    }
    Ok(())
}

/// One call of each kind, then many.
fn make(client: &mut Client, older: bool) -> Result<Vec<Made>> {
    let mut made = Vec::new();
    let mut tell = |kind, end, words: &str| -> Result<Made> {
        let method = format!("live.Calls/{kind}_{}", number());
        let begun = now();
        client.tell(&format!("{kind} /{method}{words}"))?;
        let told = client.line()?;
        let fine = match end {
            End::Status(status, ..) => told == status,
            // What tonic calls a passed deadline is a cancelled call too.
            End::GivenUp => told == "CANCELLED" || kind == "Slow" && told == "DEADLINE_EXCEEDED",
        };
        ensure!(fine, "{method}: the program was told {told}");
        let window = (begun, now());
        Ok(Made {
            older,
            method,
            kind,
            end,
            window,
        })
    };
    for (kind, end) in KINDS {
        made.push(tell(kind, end, "")?);
    }
    let all = tell("Unary", KINDS[0].1, &format!(" {} {}", MANY.0, MANY.1))?;
    made.extend((0..MANY.0).map(|at| Made {
        method: format!("{}_{at}", all.method),
        ..all
    }));
    Ok(made)
}

/// A call has one span of the client and one of the server, which is its child.
fn judge(stage: &mut Stage, made: &Made, spans: &[Span], pids: &[Vec<u32>; 2]) {
    let method = &made.method;
    let of = |kind| -> Vec<_> {
        let is = |span: &&Span| span.kind == kind && span.name == *method;
        spans.iter().filter(is).collect()
    };
    let (asks, answers) = (of(Kind::Client), of(Kind::Server));
    let (&[asks], &[answers]) = (&asks[..], &answers[..]) else {
        let counts = (asks.len(), answers.len());
        stage.problem(format!("{method}: {counts:?} spans of client and server"));
        return;
    };
    let parent = answers.parent.as_deref() == Some(asks.id.as_str());
    stage.check(parent && answers.trace == asks.trace, || {
        format!("{method}: the server's span is no child of the client's")
    });
    for (span, pids) in [asks, answers].into_iter().zip(pids) {
        attributes(stage, made, span);
        times(stage, made, span);
        stage.check(span.pid().is_some_and(|pid| pids.contains(&pid)), || {
            format!("{method}: process {:?}, want one of {pids:?}", span.pid())
        });
    }
}

fn attributes(stage: &mut Stage, made: &Made, span: &Span) {
    let what = format!("{:?} span of {}", span.kind, made.method);
    let said = span.text("rpc.response.status_code");
    let server = span.kind == Kind::Server;
    let partial = span.attributes.contains_key("spantap.partial");
    let (status, error) = match (made.end, said.as_deref()) {
        (End::Status("OK", ..), None) if made.older && partial => (None, None),
        (End::Status(status, client_error, server_error), _) => {
            let error = if server { server_error } else { client_error };
            (Some(status), error.then_some(status))
        }
        (End::GivenUp, Some("DEADLINE_EXCEEDED")) => {
            (Some("DEADLINE_EXCEEDED"), Some("DEADLINE_EXCEEDED"))
        }
        // Of the server's codes it is none that is an error to itself.
        (End::GivenUp, Some(_)) => (Some("CANCELLED"), (!server).then_some("CANCELLED")),
        (End::GivenUp, None) => (None, Some("CANCEL")),
    };
    for (key, want) in [
        ("rpc.system.name", Some("grpc")),
        ("rpc.method", Some(made.method.as_str())),
        ("rpc.response.status_code", status),
        ("error.type", error),
        ("url.full", None),
        ("http.request.method", None),
        ("network.protocol.version", Some("2")),
    ] {
        let got = span.text(key);
        stage.check(got.as_deref() == want, || {
            format!("{what}: {key} is {got:?}, want {want:?}")
        });
    }
    stage.check(span.error == error.is_some(), || {
        format!("{what}: error is {}", span.error)
    });
}

/// A span is within its call, and lasts as long as its stream.
fn times(stage: &mut Stage, made: &Made, span: &Span) {
    let what = format!("{:?} span of {}", span.kind, made.method);
    let lasted = Duration::from_nanos(span.end.saturating_sub(span.start));
    let (begun, ended) = made.window;
    let early = begun.saturating_sub(span.start);
    let late = span.end.saturating_sub(ended);
    // A server may learn late that its answer is not wanted.
    let lags = span.kind == Kind::Server && matches!(made.end, End::GivenUp);
    stage.check(early < SLACK && (late < SLACK || lags), || {
        format!("{what}: begins {early} ns before its call, ends {late} ns after it")
    });
    let least = if made.kind == "Lasts" {
        LASTS
    } else {
        Duration::ZERO
    };
    stage.check(lasted >= least, || {
        format!("{what}: lasts {lasted:?}, not {least:?}")
    });
}

/// How far the harness's clock and the agent's may differ, nanoseconds.
const SLACK: u64 = 20_000_000;
