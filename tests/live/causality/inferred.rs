//! Calls of which nothing says exactly whose they are, where it is inferred from when they were made and
//! answered. First come requests one at a time, then more and more at once, as on a day: from these is learned, and
//! of the last, as many as the case says, is counted.

use std::time::Duration;

use spantap_tests::expect::Score;
use spantap_tests::span::Span;
use spantap_tests::{Case, agent};

use super::kept::OFF;
use super::{
    ASYNCIO, Before, Behind, DIRECT, Front, GO, LATE, NODE, REDIS, SLEEP, SMALL_POOL, SQL, Shape,
    WORKER, java, proxies, python, run, shape,
};

/// How the names of these runtimes end.
pub(super) const KIND: &str = "-inferred::";
/// Between two loads, so that what is over is learned from.
pub(super) const PAUSE: Duration = Duration::from_millis(400);

/// All of them: `causality::RUNTIME-inferred::SHAPE::AT-ONCE`.
pub(super) fn cases() -> impl Iterator<Item = Case> {
    FRONTS.iter().flat_map(|front| {
        let many = |shape: &'static Shape| front.at_once.iter().map(move |many| (shape, *many));
        front
            .shapes
            .iter()
            .flat_map(many)
            .map(move |(shape, at_once)| {
                let name = format!("{}::{}::{at_once}", front.runtime, shape.name);
                let seldom = !is_usual(&name);
                let case = Case::new(format!("causality::{name}"), move |stage| {
                    run(stage, front, shape, at_once, &name, &before(at_once))
                });
                case.seldom_if(seldom)
            })
    })
}

/// Whether a case is run each time.
fn is_usual(name: &str) -> bool {
    USUAL.contains(&name)
}

const USUAL: [&str; 6] = [
    "go-inferred::worker::1",
    "go-inferred::late::1",
    "asyncio-inferred::worker::1",
    "node-off-inferred::direct::1",
    "node-off-inferred::late::1",
    "java-virtual-inferred::direct::1",
];

/// What comes before that many at once: one after the other with pauses, then without, then more and more.
fn before(at_once: usize) -> Vec<Before> {
    let powers = (0..7).map(|power| 1 << power);
    let powers = powers.take_while(|few| *few <= at_once);
    let loads = [(1, CALM)].into_iter().chain(powers.map(|few| (few, 0)));
    let loads = loads.enumerate().map(|(place, (at_once, pause))| Before {
        at_once,
        first: (place + 1) * BEFORE,
        pause,
    });
    loads.collect()
}

/// How long nobody asks while little is to be done, on average, in microseconds.
const CALM: usize = 4_000;

/// Whether a span is of a load before the last.
pub(super) fn is_before(span: &Span) -> bool {
    let text = span.text("db.query.text").unwrap_or_else(|| span.target());
    let header = spantap_tests::cause::header(span);
    let numbers = text.split(|c: char| !c.is_ascii_digit());
    let mut numbers = numbers.chain(header.as_deref());
    numbers.any(|number| number.parse().is_ok_and(|number: usize| number >= BEFORE))
}

const BEFORE: usize = 1_000_000;

/// Takes a wrong parent in a hundred for what was said of it, that it is as likely as that.
pub(super) fn allow(score: &mut Score) {
    let count = |name: &str| score.counts.get(name).copied().unwrap_or(0);
    let (right, wrong) = (count("right"), count("wrong"));
    // What is exactly linked is never wrong.
    if wrong * 100 <= right + wrong && wrong == count("wrong by inferred") {
        let of_wrong = ["is a child of", "is in another request's trace"];
        (score.problems).retain(|problem| of_wrong.iter().all(|words| !problem.contains(words)));
    }
}

/// What is less than is to be.
pub(super) fn lacking(name: &str, score: &Score) -> Option<String> {
    let none = name.contains("::late::");
    let right = RIGHT.iter().find(|(begins, _)| name.starts_with(begins));
    let right = right.map(|(_, percent)| ("right", *percent));
    let (verdict, percent) = right.or(none.then_some(("none", 100.0)))?;
    let share = score.share(verdict, "calls");
    (share < percent).then(|| format!("{share:.1} % {verdict}, not {percent} %"))
}

/// What must be right, in percent of all calls: of requests that come one after the other.
const RIGHT: &[(&str, f64)] = &[
    ("go-inferred::worker::1", 60.0),
    ("asyncio-inferred::worker::1", 60.0),
    ("node-off-inferred::direct::1", 60.0),
    ("java-virtual-inferred::direct::1", 60.0),
    ("go-inferred::grown::1", 60.0),
    ("go-inferred::wrapped::1", 60.0),
    ("asyncio-inferred::worker::1", 60.0),
    ("asyncio-inferred::grown::1", 60.0),
    ("nginx-inferred::same::1", 60.0),
    ("java-inferred::queued::1", 50.0),
];

const FRONTS: &[Front] = &[
    Front {
        shapes: &[WORKER, LATE],
        at_once: AT_ONCE,
        ..GOROUTINES
    },
    Front {
        shapes: &[
            shape("grown", 1, Behind::Leaf),
            shape("written", 1, Behind::Leaf),
            shape("wrapped", 1, Behind::Leaf),
            shape("flushed", 2, Behind::Leaf),
            DIRECT,
        ],
        ..GOROUTINES
    },
    Front {
        at_once: AT_ONCE,
        ..UNTOLD
    },
    Front {
        shapes: &[SMALL_POOL, REDIS, SQL, LATE],
        ..UNTOLD
    },
    Front {
        shapes: &[SLEEP],
        at_once: &[1],
        ..UNTOLD
    },
    Front {
        runtime: "asyncio-inferred",
        agent: |agent| inferring(agent.asyncio()),
        shapes: &[shape("grown", 1, Behind::Leaf), WORKER, LATE],
        at_once: AT_ONCE,
        ..ASYNCIO
    },
    Front {
        runtime: "python-threads-inferred",
        program: |folder| python(folder, "threaded.py", "http.server"),
        agent: |agent| inferring(agent.asyncio()),
        shapes: &[LATE],
        at_once: FEW,
    },
    Front {
        runtime: "node-inferred",
        agent: |agent| inferring(agent.node()),
        shapes: &[
            REDIS,
            shape("limit", 2, Behind::Leaf),
            shape("lock-twice", 2, Behind::Leaf),
            LATE,
        ],
        at_once: AT_ONCE,
        ..NODE
    },
    Front {
        shapes: &[
            DIRECT,
            shape("turns", 1, Behind::Leaf),
            shape("lock", 1, Behind::Leaf),
            shape("timers", 1, Behind::Leaf),
            LATE,
        ],
        at_once: AT_ONCE,
        ..TURNLESS
    },
    Front {
        shapes: &[SLEEP],
        at_once: &[1],
        ..TURNLESS
    },
    Front {
        shapes: &[
            shape("queued", 1, Behind::Leaf),
            shape("outlived", 1, Behind::Leaf),
        ],
        at_once: AT_ONCE,
        ..TASKS
    },
    Front {
        shapes: &[
            shape("client", 1, Behind::Leaf),
            shape("client-async", 1, Behind::Leaf),
            shape("forgotten", 2, Behind::Leaf),
            LATE,
        ],
        at_once: FEW,
        ..TASKS
    },
    Front {
        runtime: "java-virtual-inferred",
        agent: |agent| inferring(agent.jvm()),
        shapes: &[DIRECT],
        at_once: AT_ONCE,
        ..java::VIRTUAL
    },
    Front {
        runtime: "java-virtual-inferred",
        agent: |agent| inferring(agent.jvm()),
        shapes: &[LATE],
        at_once: FEW,
        ..java::VIRTUAL
    },
    Front {
        runtime: "nginx-inferred",
        agent: |agent| inferring(agent.forwarded()),
        shapes: &[shape("same", 1, Behind::Leaf)],
        at_once: AT_ONCE,
        ..proxies::NGINX
    },
];

/// Go's, where some calls have exact links,
const GOROUTINES: Front = Front {
    runtime: "go-inferred",
    agent: |agent| inferring(agent.goroutines()),
    at_once: FEW,
    ..GO
};

/// and where none has.
const UNTOLD: Front = Front {
    runtime: "go-off-inferred",
    agent: |agent| inferring(agent.args(["--link-goroutines=false"])),
    at_once: FEW,
    ..GO
};

/// Node.js's, where none has.
const TURNLESS: Front = Front {
    runtime: "node-off-inferred",
    agent: |agent| inferring(agent.args(["--link-node=false"])),
    ..NODE
};

const TASKS: Front = Front {
    runtime: "java-inferred",
    agent: |agent| inferring(agent.jvm()),
    ..java::JDK
};

const AT_ONCE: &[usize] = &[1, 8, 32, 64];
const FEW: &[usize] = &[1, 32];

fn inferring(agent: agent::Setup) -> agent::Setup {
    agent.args(OFF).args(["--link-inferred=true"])
}
