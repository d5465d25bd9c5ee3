//! Whose child an answer is where agents share nothing: a chain of programs of several languages goes to and
//! fro between two hosts ([`spantap_tests::hosts`]), each with an agent that sees the programs of its own
//! alone. Addresses and ports of a call are others at its two ends. All requests have one path, and a number
//! in a header that nobody reads to link by ([`spantap_tests::hop`]): an answer is the child of its very
//! call, of nothing, or wrong, and wrong is what none may ever be.
//!
//! `apart::MODE::TRANSPORT::AT-ONCE`; a run of all live tests has those of 32 at once. What Node.js asks for the
//! first request leaves without a trace. `given`: plain, and Python's and Go's programs have a task, a pool's
//! thread or a goroutine ask, of which only the first request's leave so, too.

mod chain;

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use spantap_tests::cause::{self, Done, HEADER};
use spantap_tests::expect::Score;
use spantap_tests::hop::{self, Hop};
use spantap_tests::hosts::{self, Host};
use spantap_tests::program::Setup;
use spantap_tests::run::gather;
use spantap_tests::span::Span;
use spantap_tests::{Agent, Case, Sink, Stage, agent};

use self::chain::{Chain, app};

/// How what one agent knows of a call comes to the other.
struct Mode {
    name: &'static str,
    /// What tells an agent to.
    words: &'static [&'static str],
    /// What is to be of that share of all answers, in percent.
    answers: (&'static str, f64),
}

const MODES: &[Mode] = &[
    Mode {
        name: "off",
        words: &["--propagation", "off"],
        answers: ("none", 100.0),
    },
    Mode {
        name: "option",
        words: &["--propagation", "option", "--carry-to", "10.90.0.0/16"],
        answers: ("right", 99.9),
    },
    Mode {
        name: "header",
        words: &[
            "--propagation",
            "header",
            "--carry-to",
            "10.90.0.0/16",
            "--header-to",
            "10.90.0.0/16",
        ],
        answers: ("right", 99.9),
    },
];

/// How requests come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Plain,
    Tls,
    /// In plain text, and somebody else is given the next to ask.
    Given,
}

/// Who calls whom; the load is nobody's server. Redis and PostgreSQL are told apart by what they are.
const HOPS: &[[&str; 2]] = &[
    ["load", "node"],
    ["node", "asyncio"],
    ["asyncio", "threads"],
    ["threads", "go"],
    ["go", "java"],
    ["go", "redis"],
    ["go", "postgresql"],
];

/// Programs that call for the requests that they serve, and calls for each.
const INSIDE: &[(&str, usize)] = &[("node", 1), ("asyncio", 1), ("threads", 1), ("go", 3)];

/// What must be right of these calls, in percent.
const RIGHT: f64 = 99.0;

/// Requests in all.
const MANY: usize = 320;

/// What must be right of all answers where four of the first request's leave without a trace, in percent.
const WATCHED: f64 = 99.8;

const TRANSPORTS: &[(&str, Transport)] = &[
    ("plain", Transport::Plain),
    ("tls", Transport::Tls),
    ("given", Transport::Given),
];

impl Transport {
    /// A program is told of it.
    pub(super) fn told(self, setup: Setup) -> Setup {
        match self {
            Self::Given => setup.env("HOP_GIVES", "1"),
            _ => setup,
        }
    }
}

/// Spans of each host for a request: the hops are between the two, and an end of each is of either.
const SPANS: usize = HOPS.len();

/// All of them.
pub fn cases() -> Vec<Case> {
    let told = modes_are_told();
    let mut cases = Vec::new();
    for mode in MODES.iter().filter(|mode| told || mode.name == "off") {
        for (transport, how) in TRANSPORTS {
            if *how == Transport::Given && mode.name != "option" {
                continue;
            }
            for at_once in [1, 8, 32] {
                let name = format!("apart::{}::{transport}::{at_once}", mode.name);
                let words = if told { mode.words } else { &[] };
                let case = Case::new(name, move |stage| run(stage, mode, words, *how, at_once));
                cases.push(case.seldom_if(at_once != 32));
            }
        }
    }
    cases
}

/// Whether the agent can be told a mode; one that cannot has none but "off".
fn modes_are_told() -> bool {
    let help = agent::binary().and_then(|agent| {
        let said = Command::new(agent).args(["agent", "--help"]).output()?;
        Ok(String::from_utf8_lossy(&said.stdout).into_owned())
    });
    help.is_ok_and(|help| help.contains("--propagation"))
}

fn run(
    stage: &mut Stage,
    mode: &Mode,
    words: &[&str],
    how: Transport,
    at_once: usize,
) -> Result<()> {
    let hosts = hosts::pair(&stage.folder)?;
    let (chain, first) = Chain::start(stage, &hosts, how)?;
    let load = how.told(Setup::new("load", &stage.folder, app()?).arg("load"));
    let load = load.args([&first, &at_once.to_string(), &MANY.to_string()]);
    // It waits for the agents, as TLS is read of who was there before its first byte.
    let mut load = hosts[0].place(load).start_piped()?;
    let other = Sink::start()?;
    let secure = how == Transport::Tls;
    let agents = [
        tracer(stage, &stage.sink, &hosts[0], words, secure)?,
        tracer(stage, &other, &hosts[1], words, secure)?,
    ];
    drop(load.child().stdin.take());
    let status = load.wait(Duration::from_secs(60))?;
    ensure!(status.success(), "the load: {status}: {}", load.tail());
    if agent::dry() {
        return Ok(());
    }
    let pids = |name: &str| match name {
        "load" => vec![load.pid()],
        _ => chain.pids(name),
    };
    let mut spans = Vec::new();
    for (host, agent) in agents.into_iter().enumerate() {
        let sink = if host == 0 { &stage.sink } else { &other };
        let (own, mut problems) = gather(sink, agent, SPANS * MANY)?;
        let mut of_host = chain.pids_on(host);
        of_host.extend((host == 0).then_some(load.pid()));
        let strangers = own.iter().filter(|span| {
            let pid = span.pid();
            pid.is_none_or(|pid| !of_host.contains(&pid))
        });
        problems.extend(strangers.map(|span| format!("host {host} tells of {}", span.line())));
        problems.into_iter().for_each(|one| stage.problem(one));
        spans.extend(own);
    }
    stage.add(judge(mode, how, pids, &spans));
    Ok(())
}

/// An agent that sees what is of a host.
fn tracer(stage: &Stage, sink: &Sink, host: &Host, words: &[&str], secure: bool) -> Result<Agent> {
    let agent = agent::Setup::new(&format!("agent-{}", host.address()), &stage.folder)?
        .to(sink)
        .args(["--cgroup", &host.cgroup(), "--query-text", "full"])
        .args(["--request-header", HEADER])
        .args(words)
        .env("SPANTAP_CPU_SHARE", "1")
        // All come within a second.
        .env("OTEL_BSP_MAX_QUEUE_SIZE", "16384")
        .goroutines()
        .asyncio()
        .node();
    match secure {
        true => agent.tls().start(),
        false => agent.start(),
    }
}

/// Judges answers by hop, and calls by the request that they are made for.
fn judge(mode: &Mode, how: Transport, pids: impl Fn(&str) -> Vec<u32>, spans: &[Span]) -> Score {
    let ends: Vec<_> = HOPS
        .iter()
        .map(|[from, to]| (format!("{from}>{to}"), pids(from), pids(to), *to))
        .collect();
    let hops: Vec<Hop<'_>> = ends
        .iter()
        .map(|(name, from, to, behind)| Hop {
            name,
            from,
            to,
            store: ["redis", "postgresql"].contains(behind).then_some(*behind),
        })
        .collect();
    let mut score = hop::judge(&hops, MANY, spans);
    let (verdict, percent) = match how {
        Transport::Given => ("right", WATCHED),
        _ => mode.answers,
    };
    let share = score.share(verdict, "calls");
    if share < percent {
        let problem = format!("{share:.2} % of answers {verdict}, not {percent} %");
        score.problems.push(problem);
    }
    // Each link that is missing is one more trace.
    let mut missing = score.counts["calls"] - score.counts["right"];
    for &(name, calls) in INSIDE {
        let done = Done {
            front: &pids(name),
            shape: "",
            requests: MANY,
            calls: MANY * calls,
        };
        let inside = cause::judge(&done, spans);
        let share = inside.share("right", "calls");
        if share < RIGHT {
            let problem = format!("{share:.1} % of calls of {name} right, not {RIGHT} %");
            score.problems.push(problem);
        }
        let problems = inside.problems.iter();
        let problems = problems.map(|problem| format!("inside {name}: {problem}"));
        score.problems.extend(problems);
        missing += inside.counts["calls"] - inside.counts["right"];
        for verdict in ["right", "wrong", "none"] {
            let count = score.counts.entry(format!("inside {verdict}"));
            *count.or_default() += inside.counts[verdict];
        }
        score.parts.insert(format!("in {name}"), inside.counts);
    }
    let whole = score.counts["whole"];
    if whole + missing < MANY {
        let problem = format!("{whole} of {MANY} traces whole, and {missing} links missing");
        score.problems.push(problem);
    }
    score
}
