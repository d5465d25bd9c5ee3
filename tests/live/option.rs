//! The TCP option that carries a trace to another host (docs/decisions/0027-option.md), on a line of its own
//! between two hosts ([`hosts::line`]), each with an agent that sees what is on it alone: over IPv4 and IPv6,
//! and where somebody between them, or a host without an agent, has a hand in it. What is not of the
//! request that it is on is never believed, and counted.
//!
//! `option::over::…`, `option::forged::…`, and `option::without-cgroups`, where there is nothing that all
//! sockets belong to.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use spantap_tests::hosts::{self, Host};
use spantap_tests::process::{free_port, slowly, until};
use spantap_tests::program::Setup;
use spantap_tests::run::gather;
use spantap_tests::span::{Kind, Span};
use spantap_tests::{Agent, Case, Client, Sink, Stage, agent};

use crate::harm::ground::HARM;

/// All of them.
pub fn cases() -> Vec<Case> {
    let over = OVER.iter().map(|line| ("over", line));
    let forged = FORGED.iter().map(|line| ("forged", line));
    let cases = over.chain(forged).map(|(family, line)| {
        let name = format!("option::{family}::{}", line.name);
        Case::new(name, move |stage| run(stage, line))
    });
    let refused = ROOTLESS.map(|(name, way)| {
        let name = format!("option::without-cgroups::{name}");
        Case::new(name, move |stage| without_cgroups(stage, way))
    });
    cases.chain(refused).collect()
}

/// In what way the root of cgroups version 2 is not there, for `sh`; what follows is the agent's command.
const ROOTLESS: [(&str, &str); 2] = [
    (
        "none",
        "exec unshare --mount -- sh -c 'umount -l $at; exec \"$@\"' - \"$@\"",
    ),
    (
        "a-part",
        "mkdir $at/spantap-part-$$; echo $$ >$at/spantap-part-$$/cgroup.procs
        exec unshare --mount --cgroup -- \
            sh -c 'umount -l $at; mount -t cgroup2 none $at; exec \"$@\"' - \"$@\"",
    ),
];

/// The agent says that it cannot, and goes on.
fn without_cgroups(stage: &mut Stage, way: &str) -> Result<()> {
    if agent::dry() {
        return Ok(());
    }
    let at = "export at=$(awk '$3 == \"cgroup2\" { print $2; exit }' /proc/self/mounts)";
    let mut program = Setup::new("agent", &stage.folder, "sh")
        .args(["-c", &format!("{at}\n{way}"), "-"])
        .arg(agent::binary()?)
        .args(["agent", "--export", "none", "--propagation", "option"])
        .start()?;
    let ready = until("it is ready", slowly(Duration::from_secs(20)), || {
        program.tail().contains("ready")
    });
    let said = program.tail();
    program.stop();
    for entry in fs::read_dir(cgroups()?)?.flatten() {
        if (entry.file_name().to_string_lossy()).starts_with("spantap-part-") {
            let _ = fs::remove_dir(entry.path());
        }
    }
    stage.check(ready.is_ok(), || said.clone());
    stage.check(said.contains("(propagation.mode: option)"), || said.clone());
    Ok(())
}

fn cgroups() -> Result<String> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mut lines = mounts.lines().map(|line| line.split(' ').skip(1));
    let place = lines
        .find_map(|mut words| Some((words.next()?, words.next()?)).filter(|it| it.1 == "cgroup2"));
    Ok(place.context("no cgroup2 is mounted")?.0.into())
}

/// A line, and what comes of requests over it.
struct Line {
    name: &'static str,
    /// Where the server is bound, and where the client finds it; addresses without ports.
    ends: [&'static str; 2],
    /// What is done to options on their way.
    deed: &'static str,
    /// How the client asks, but for where.
    asks: &'static [&'static str],
    /// Requests that makes.
    requests: usize,
    /// Where the client's agent carries traces to; none where it has no agent.
    to: Option<&'static str>,
    /// Whom the server's agent trusts.
    trusts: &'static str,
    /// Whose children the requests are: that of whoever sent them, nobody's, or, where that depends on how
    /// TCP cuts what is sent, of either.
    children: Children,
    /// Whether what was done is counted as not believed.
    counted: bool,
}

impl Line {
    /// Requests at most that fail: whose connections are reset before it is known that the address is behind such a
    /// line.
    fn fails(&self) -> usize {
        if self.deed == RESET { 4 } else { 0 }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Children {
    All,
    None,
    Some,
}

/// Nothing is done on the way.
const CLEAN: Line = Line {
    name: "",
    ends: ["10.90.0.2", "10.90.0.2"],
    deed: "nothing",
    asks: &["short", "40", "1"],
    requests: 40,
    to: Some("10.90.0.0/30"),
    trusts: "10.90.0.0/30",
    children: Children::All,
    counted: false,
};

const SIX: Line = Line {
    ends: ["[fd90::2]", "[fd90::2]"],
    to: Some("fd90::/64"),
    trusts: "fd90::/64",
    ..CLEAN
};

const OVER: &[Line] = &[
    Line {
        name: "ipv4",
        ..CLEAN
    },
    Line {
        name: "ipv6",
        ..SIX
    },
    // IPv4 at sockets of IPv6, at either end.
    Line {
        name: "mapped-server",
        ends: ["[::]", "10.90.0.2"],
        ..CLEAN
    },
    Line {
        name: "mapped-client",
        ends: ["10.90.0.2", "[::ffff:10.90.0.2]"],
        ..CLEAN
    },
    Line {
        name: "mapped-both",
        ends: ["[::]", "[::ffff:10.90.0.2]"],
        ..CLEAN
    },
    Line {
        name: "ipv6-elsewhere",
        to: Some("fd91::/16"),
        children: Children::None,
        ..SIX
    },
    Line {
        name: "ipv6-all-of-ipv4",
        to: Some("0.0.0.0/0"),
        children: Children::None,
        ..SIX
    },
];

/// By somebody who knows the format; the client has no agent.
const STRANGER: Line = Line {
    to: None,
    children: Children::None,
    counted: true,
    ..CLEAN
};

const FORGED: &[Line] = &[
    Line {
        name: "added",
        deed: "added",
        ..STRANGER
    },
    Line {
        name: "added-ipv6",
        deed: "added",
        to: None,
        children: Children::None,
        counted: true,
        ..SIX
    },
    Line {
        name: "magic",
        deed: "magic",
        counted: false,
        ..STRANGER
    },
    Line {
        name: "version",
        deed: "version",
        ..STRANGER
    },
    Line {
        name: "short",
        deed: "short",
        ..STRANGER
    },
    Line {
        name: "long",
        deed: "long",
        ..STRANGER
    },
    Line {
        name: "twice",
        deed: "twice",
        to: CLEAN.to,
        ..STRANGER
    },
    Line {
        name: "copied",
        deed: "copied",
        children: Children::Some,
        counted: true,
        ..CLEAN
    },
    Line {
        name: "again",
        deed: "again",
        asks: &["keep", "40", "1"],
        children: Children::Some,
        ..CLEAN
    },
    Line {
        name: "lost",
        deed: "lost",
        ..CLEAN
    },
    Line {
        name: HALVED,
        deed: HALVED,
        children: Children::Some,
        ..CLEAN
    },
    // After a few that had to do without, those that follow are not sent with one.
    Line {
        name: REFUSED,
        deed: REFUSED,
        children: Children::None,
        ..CLEAN
    },
    Line {
        name: RESET,
        deed: RESET,
        children: Children::None,
        ..CLEAN
    },
    Line {
        name: "untrusted",
        trusts: "10.91.0.0/16",
        children: Children::None,
        counted: true,
        ..CLEAN
    },
    Line {
        name: "untrusted-ipv6",
        trusts: "10.90.0.0/16",
        children: Children::None,
        counted: true,
        ..SIX
    },
];

/// No segment with an option gets through.
const REFUSED: &str = "refused";
/// They do not, and who sends one is told that there is no such connection.
const RESET: &str = "reset";
/// Every second one does.
const HALVED: &str = "halved";

fn run(stage: &mut Stage, line: &Line) -> Result<()> {
    let names = ["a", "b"].map(|end| format!("o{}{end}", std::process::id()));
    let words = ["forge", &names[0], &names[1], line.deed];
    let mut wire = Client::start(Setup::new("wire", &stage.folder, HARM).args(words))?;
    let hosts = hosts::line(&stage.folder, [&names[0], &names[1]])?;
    let port = free_port()?;
    let at = line.ends.map(|end| format!("{end}:{port}"));
    let server = Setup::new("server", &stage.folder, HARM).args(["serve", &at[0]]);
    let server = hosts[1].place(server).port(port).start()?;
    let other = Sink::start()?;
    let answers = tracer(
        &stage.sink,
        stage,
        &hosts[1],
        &["--trusted-network", line.trusts],
    )?;
    let asks = (line
        .to
        .map(|to| tracer(&other, stage, &hosts[0], &["--carry-to", to])))
    .transpose()?;
    let mut words = vec![line.asks[0], &at[1]];
    words.extend(&line.asks[1..]);
    // Who has only just begun is not known to be traced, and carries nothing.
    let client = Setup::new("client", &stage.folder, HARM).env("HARM_AFTER", "300");
    let client = client.args(words);
    let ran = hosts[0]
        .place(client)
        .run(slowly(Duration::from_secs(60)))?;
    ensure!(ran.code == Some(0), "{ran:?}");
    let failed = failed(&ran.output);
    stage.check(failed <= line.fails(), || ran.output.clone());
    let requests = line.requests - failed.min(line.requests);
    wire.tell("done")?;
    let done: usize = wire.line()?.parse()?;
    drop(server);
    if agent::dry() {
        return Ok(());
    }
    let log = answers.log_path().to_owned();
    let (served, problems) = gather(&stage.sink, answers, requests)?;
    problems.into_iter().for_each(|one| stage.problem(one));
    let mut asked = Vec::new();
    let mut unsent = 0;
    if let Some(asks) = asks {
        let log = asks.log_path().to_owned();
        let (spans, problems) = gather(&other, asks, requests)?;
        problems.into_iter().for_each(|one| stage.problem(one));
        asked = spans;
        unsent = count(&fs::read_to_string(log)?, "kernel.options_lost");
    }
    judge(stage, line, requests, &served, &asked);
    let log = fs::read_to_string(log)?;
    let names = ["kernel.options_read", "kernel.options_foreign"];
    let [read, foreign] = names.map(|name| count(&log, name));
    for (name, number) in [("done", done), ("read", read), ("foreign", foreign)] {
        stage.count(name, number);
    }
    // Others' may be counted, too: an agent sees all sockets.
    stage.check(!line.counted || foreign > 0, || {
        "nothing was refused".into()
    });
    lost(stage, line, failed, [unsent, done]);
    if ![REFUSED, "nothing"].contains(&line.deed) {
        stage.check(done > 0, || "nothing was done on the way".into());
        stage.check(!line.counted || foreign >= done, || {
            format!("{foreign} of {done} options were not believed")
        });
    }
    Ok(())
}

/// Whether as many segments with an option were lost as were to be, of those that something was done to.
fn lost(stage: &mut Stage, line: &Line, failed: usize, [unsent, done]: [usize; 2]) {
    let some = (failed.max(2)..line.requests / 2).contains(&unsent);
    let most = [REFUSED, HALVED, RESET].contains(&line.deed);
    let fine = some == most || (line.deed == "lost" && unsent == done);
    stage.check(fine, || format!("{unsent} were lost"));
}

/// Requests that did, of what a client says: equal lines as one, with their number.
fn failed(output: &str) -> usize {
    let lines = output.lines().filter(|line| line.contains("failed"));
    let counts = lines.filter_map(|line| line.split(' ').next()?.parse::<usize>().ok());
    counts.sum()
}

/// An agent that sees what is of a host.
fn tracer(sink: &Sink, stage: &Stage, host: &Host, words: &[&str]) -> Result<Agent> {
    let agent = agent::Setup::new(&format!("agent-{}", host.address()), &stage.folder)?;
    agent
        .to(sink)
        .args(["--cgroup", &host.cgroup(), "-v", "--propagation", "option"])
        .args(words)
        .env("SPANTAP_CPU_SHARE", "1")
        .start()
}

/// Whose children requests are. None is ever that of another, or in another's trace.
fn judge(stage: &mut Stage, line: &Line, requests: usize, served: &[Span], asked: &[Span]) {
    let asked: BTreeMap<&str, &Span> = (asked.iter())
        .filter(|span| span.kind == Kind::Client)
        .map(|span| (span.id.as_str(), span))
        .collect();
    let served: Vec<&Span> = (served.iter())
        .filter(|span| span.kind == Kind::Server)
        .collect();
    stage.check(served.len() == requests, || {
        format!("{} of {requests} requests were seen", served.len())
    });
    let mut right = 0;
    let mut traces = BTreeMap::new();
    for span in served.iter().copied() {
        *traces.entry(span.trace.as_str()).or_insert(0) += 1;
        let Some(parent) = &span.parent else {
            continue;
        };
        let by = asked.get(parent.as_str());
        let fine = by.is_some_and(|by| by.trace == span.trace && by.target() == span.target());
        right += usize::from(fine);
        stage.check(fine, || format!("a child of {by:?}: {}", span.line()));
    }
    stage.count("right", right);
    stage.check(traces.values().all(|count| *count == 1), || {
        "two requests are in one trace".into()
    });
    let roots = served.iter().filter(|span| span.parent.is_none());
    let taken = roots.filter(|root| asked.values().any(|ask| ask.trace == root.trace));
    let taken = taken.count();
    stage.check(taken == 0 || line.to.is_none(), || {
        format!("{taken} roots are in the trace of who asked")
    });
    let fine = match line.children {
        // Who has only just begun is not known to be traced.
        Children::All => right * 10 >= line.requests * 9,
        Children::None => right == 0,
        Children::Some => right > 0 && right < line.requests,
    };
    stage.check(fine, || format!("{right} of {} children", line.requests));
}

/// What an agent counted, as it says at its end.
fn count(log: &str, name: &str) -> usize {
    let mut lines = log.lines().filter_map(|line| line.strip_prefix(name));
    let found = lines.find_map(|rest| rest.split_whitespace().next()?.parse().ok());
    found.unwrap_or(0)
}
