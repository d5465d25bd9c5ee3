//! Every way a socket can be used, on the serving side and on the asking side: spans must not
//! depend on the call that moved the bytes. Connections are older than the agent.

use anyhow::{Result, ensure};
use rustix::process::Signal;
use spantap_tests::agent::{self, Capture};
use spantap_tests::driver::Plain;
use spantap_tests::known::{Ask, Asks, Known, Size, ask, closing, drive, number, put};
use spantap_tests::process::{free_port, until};
use spantap_tests::program::{Program, Setup};
use spantap_tests::span::{Kind, Span};
use spantap_tests::{Case, Client, Driver, Party, Stage};

use crate::duo::Duo;
use crate::programs::{DRIVER, SOCKETS, go_server};

/// What is seen of a form's bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// All.
    Whole,
    /// Heads; bodies it sends have a length only, and its spans say so.
    Heads,
    /// Nothing: lengths only, so this side has no spans.
    Lengths,
}

const FORMS: [(&str, Seen); 16] = [
    ("rw", Seen::Whole),
    ("vec-1", Seen::Whole),
    ("vec-8", Seen::Whole),
    ("vec-64", Seen::Whole),
    ("vec-500", Seen::Whole),
    ("msg", Seen::Whole),
    ("mmsg", Seen::Whole),
    ("sendto", Seen::Whole),
    ("peek", Seen::Whole),
    ("nonblocking", Seen::Whole),
    ("dup", Seen::Whole),
    ("threads", Seen::Whole),
    ("sendfile", Seen::Heads),
    ("splice", Seen::Heads),
    ("uring-body", Seen::Heads),
    ("uring", Seen::Lengths),
];

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for capture in [Capture::Socket, Capture::Syscall] {
        let path = capture.name();
        for (form, seen) in FORMS {
            cases.push(Case::new(format!("io::{form}::{path}"), move |stage| {
                both(stage, form, seen, capture)
            }));
        }
        for form in ["uring-aside", "discard"] {
            cases.push(Case::new(format!("io::{form}::{path}"), move |stage| {
                decoys(stage, form, capture)
            }));
        }
        for owner in ["fork", "pass", "exec"] {
            cases.push(Case::new(format!("io::{owner}::{path}"), move |stage| {
                owned(stage, owner, capture)
            }));
        }
        cases.push(Case::new(format!("io::reuse::{path}"), move |stage| {
            reuse(stage, capture)
        }));
        cases.push(Case::new(format!("io::unix::{path}"), move |stage| {
            unix(stage, capture)
        }));
        cases.push(Case::new(
            format!("io::introduced-late::{path}"),
            move |stage| introduced_late(stage, capture),
        ));
    }
    cases
}

fn mix() -> Vec<Ask> {
    let mut all = Vec::new();
    for size in [0, 1, 1024, 100 << 10, 2 << 20] {
        all.push(ask("GET", &format!("/bytes/{size}/{}", number()), 200));
    }
    for size in [0, 1024, 100 << 10, 2 << 20] {
        all.push(put("POST", &format!("/upload/{}", number()), size, 201));
    }
    all.push(ask("HEAD", &format!("/bytes/1024/{}", number()), 200));
    all.push(ask("GET", &format!("/status/404/{}", number()), 404));
    all
}

fn warm() -> [Ask; 1] {
    [ask("GET", &format!("/bytes/10/{}", number()), 200)]
}

/// A program of the form that serves, and the driver to ask it.
struct Serving {
    program: Program,
    driver: Driver,
    port: u16,
}

impl Serving {
    fn start(stage: &Stage, form: &str) -> Result<Self> {
        let port = free_port()?;
        let program = Setup::new("serving", &stage.folder, SOCKETS)
            .args(["serve", form, &port.to_string()])
            .port(port)
            .start()?;
        let driver = Driver::start(&stage.folder, DRIVER, "driver")?;
        Ok(Self {
            program,
            driver,
            port,
        })
    }

    fn asking(&self) -> Party {
        Party::new("driver", &[self.driver.pid()])
    }
}

/// One program of the form answers the driver, another asks a Go server.
fn both(stage: &mut Stage, form: &str, seen: Seen, capture: Capture) -> Result<()> {
    let shown = |party: Party| (seen != Seen::Lengths).then_some(party);
    let mut serving = Serving::start(stage, form)?;
    let port = free_port()?;
    let server = go_server(&stage.folder, port)?.port(port).start()?;
    let answering = Party::new("go-app", &server.pids());
    let setup = Setup::new("asking", &stage.folder, SOCKETS).args(["ask", form, &port.to_string()]);
    let mut client = Client::start(setup)?;
    drive(&warm(), &mut client, port, None, None)?;

    let (first, asking) = (serving.port, serving.asking());
    let served = shown(Party::new("live-sockets", &[serving.program.pid()]));
    let mut plain = Plain::new(&mut serving.driver, first)?;
    drive(&warm(), &mut plain, first, None, None)?;
    let agent = stage
        .agent()?
        .ports(&[first, port])
        .capture(capture)
        .start()?;
    let mut known = drive(&mix(), &mut plain, first, Some(&asking), served.as_ref())?;
    let asking = shown(Party::new("live-sockets", &[client.pid()]));
    let count = known.len();
    known.extend(drive(
        &mix(),
        &mut client,
        port,
        asking.as_ref(),
        Some(&answering),
    )?);
    let spans = stage.judge(agent, &known)?;
    if seen == Seen::Heads {
        flagged(stage, &known[..count], &spans, Kind::Server);
        flagged(stage, &known[count..], &spans, Kind::Client);
    }
    Ok(())
}

/// A program whose requests never are in the buffers of its calls, which have others in them.
fn decoys(stage: &mut Stage, form: &str, capture: Capture) -> Result<()> {
    let mut serving = Serving::start(stage, form)?;
    let (port, asking) = (serving.port, serving.asking());
    let mut plain = Plain::new(&mut serving.driver, port)?;
    let agent = stage.agent()?.ports(&[port]).capture(capture).start()?;
    let known = drive(&mix(), &mut plain, port, Some(&asking), None)?;
    stage.judge(agent, &known).map(drop)
}

/// The connection is served by another process than the one that accepted it.
fn owned(stage: &mut Stage, owner: &str, capture: Capture) -> Result<()> {
    let mut serving = Serving::start(stage, owner)?;
    let (port, asking) = (serving.port, serving.asking());
    let mut plain = Plain::new(&mut serving.driver, port)?;
    drive(&warm(), &mut plain, port, None, None)?;
    let agent = stage.agent()?.ports(&[port]).capture(capture).start()?;
    // Who serves was there before the connection, or was made for it.
    let served = Party::new("live-sockets", &serving.program.pids());
    let known = drive(&mix(), &mut plain, port, Some(&asking), Some(&served))?;
    stage.judge(agent, &known).map(drop)
}

/// Bodies sent without a buffer are holes of known length, and the spans of the side that sent
/// them say so.
fn flagged(stage: &mut Stage, known: &[Known], spans: &[Span], kind: Kind) {
    let prefix = if kind == Kind::Server {
        "/bytes/"
    } else {
        "/upload/"
    };
    for one in known
        .iter()
        .filter(|one| one.target.starts_with(prefix) && one.method != "HEAD")
    {
        let key = if kind == Kind::Server {
            "http.response.body.size"
        } else {
            "http.request.body.size"
        };
        let span = spans
            .iter()
            .find(|span| span.kind == kind && span.target() == one.target);
        let Some(span) = span.filter(|span| span.int(key).unwrap_or_default() > 0) else {
            continue;
        };
        let says = span.attributes.keys().any(|key| crate::is_flag(key));
        stage.check(says, || {
            format!("says nothing of the hole: {}", span.line())
        });
    }
}

/// The same descriptor number for one connection after the other.
fn reuse(stage: &mut Stage, capture: Capture) -> Result<()> {
    let mut serving = Serving::start(stage, "rw")?;
    let (port, asking) = (serving.port, serving.asking());
    let served = Party::new("live-sockets", &serving.program.pids());
    let agent = stage.agent()?.ports(&[port]).capture(capture).start()?;
    let asks: Vec<Ask> = (0..20).flat_map(|_| closing()).collect();
    let mut plain = Plain::new(&mut serving.driver, port)?;
    let known = drive(&asks, &mut plain, port, Some(&asking), Some(&served))?;
    stage.judge(agent, &known).map(drop)
}

/// The server's side of a connection cannot be introduced, as the ring is full: what it says in its
/// next call fits what the client's side says.
fn introduced_late(stage: &mut Stage, capture: Capture) -> Result<()> {
    let small = |setup: agent::Setup| setup.capture(capture).args(["--ring-bytes", "64KiB"]);
    let mut duo = Duo::with(stage, "127.0.0.1:0", small)?;
    let ends = duo.connect()?;
    let fillers: Vec<_> = (0..12).map(|_| duo.connect()).collect::<Result<_>>()?;
    let first = format!("/late/{}", number());
    let head = duo.head("GET", &first, "");
    duo.client.send(ends.0, &head)?;
    duo.client.pause(300)?;
    duo.signal_agent(Signal::STOP)?;
    for size in std::iter::repeat_n(4096, 4).chain(std::iter::repeat_n(1, 80)) {
        // Which ring is filled, an end's cookie says.
        for filler in &fillers {
            duo.client.send(filler.0, &"z".repeat(size))?;
            duo.server.send(filler.1, &"z".repeat(size))?;
        }
    }
    duo.server.until(ends.1, "\r\n\r\n")?;
    duo.signal_agent(Signal::CONT)?;
    duo.server.pause(1000)?;
    duo.server.send(ends.1, &crate::shapes::ok(5))?;
    duo.client.read(ends.0, "GET")?;
    let one = duo.know("GET", &first, Some(200));
    (one.received, one.server) = (Size::Exact(5), None);
    duo.plain(ends, &format!("/late/{}", number()))?;
    duo.judge(stage).map(drop)
}

/// A stream socket with a path instead of a port.
fn unix(stage: &mut Stage, capture: Capture) -> Result<()> {
    // The path of a socket is short, the case's folder is not.
    let path = format!("/tmp/live-sockets-{}-{}", std::process::id(), number());
    let address = format!("unix:{path}");
    let server = Setup::new("server", &stage.folder, SOCKETS)
        .args(["serve", "rw", &address])
        .start()?;
    // Its path is there before somebody listens.
    until(
        "somebody listens",
        std::time::Duration::from_secs(5),
        || std::os::unix::net::UnixStream::connect(&path).is_ok(),
    )?;
    let setup = Setup::new("client", &stage.folder, SOCKETS).args(["ask", "rw", &address]);
    let mut client = Client::start(setup)?;
    let first = client.ask(&warm()[0])?;
    ensure!(first.status == 200, "status {}", first.status);
    let agent = stage
        .agent()?
        .pids(&[server.pid(), client.pid()])
        .capture(capture)
        .start()?;
    let sides = [
        Party::new("live-sockets", &[client.pid()]),
        Party::new("live-sockets", &server.pids()),
    ];
    let mut known = drive(&mix(), &mut client, 0, Some(&sides[0]), Some(&sides[1]))?;
    known.iter_mut().for_each(|one| one.elsewhere = true);
    std::fs::remove_file(&path)?;
    let spans = stage.judge(agent, &known)?;
    for span in &spans {
        let transport = span.text("network.transport");
        stage.check(transport.as_deref() == Some("unix"), || {
            format!("network.transport {transport:?}")
        });
    }
    Ok(())
}
