//! Whose child a call is, where a program serves many requests at once and makes calls for each, in
//! shapes that programs have. No header says which call belongs to which request, but their paths,
//! keys and statements do ([`spantap_tests::cause`]): a parent is right, wrong, or not there, and wrong
//! is what none may ever be. `cargo xtask causality` runs all and makes docs/causality.md of what comes
//! out; a run of all live tests has fewer ([`is_usual`]).
//!
//! A front in another language is one program that takes the words of apps/causality's, and one
//! [`Front`].

mod aside;
mod go;
mod inferred;
mod java;
mod kept;
mod proxies;
mod ruby;
mod rust;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use spantap_tests::agent::Capture;
use spantap_tests::cause::{self, Done};
use spantap_tests::certificates::Certificates;
use spantap_tests::expect::Score;
use spantap_tests::process::free_port;
use spantap_tests::program::Setup;
use spantap_tests::{Case, Program, Stage, agent, install};

use crate::{postgresql, redis};

/// What must be right, in percent of all calls, of the cases whose names, behind the family's, begin
/// so. Of all others none need have a parent.
const RIGHT: &[(&str, f64)] = &[
    ("go::direct", 99.0),
    ("go::sleep", 99.0),
    ("go::small-pool", 99.0),
    ("go::fan-out", 99.0),
    ("go::tree", 99.0),
    ("go::teeming", 99.0),
    ("go::redis", 99.0),
    ("go::sql", 99.0),
    ("go::h2", 99.0),
    ("go::h2-tls", 99.0),
    ("go::https", 99.0),
    ("go::reused", 99.0),
    ("go::tls-reused", 99.0),
    ("go::proxy", 99.0),
    ("go::post", 99.0),
    ("go::closing", 99.0),
    ("go::nested", 99.0),
    ("go-syscall", 99.0),
    ("go-stripped", 99.0),
    ("go-pie", 99.0),
    ("go-cgo", 99.0),
    ("python-threads::direct", 99.0),
    ("python-threads::sleep", 99.0),
    ("python-threads::small-pool", 99.0),
    ("python-threads::requests", 99.0),
    ("python-threads::plain", 99.0),
    ("python-threads::redis", 99.0),
    ("python-threads::sql", 99.0),
    ("python-threads::https", 99.0),
    ("python-threads::fan-out", 99.0),
    ("python-threads::submit", 99.0),
    ("python-threads::completed", 99.0),
    ("python-gthread", 99.0),
    ("asyncio::direct", 99.0),
    ("asyncio::sleep", 99.0),
    ("asyncio::small-pool", 99.0),
    ("asyncio::fan-out", 99.0),
    ("asyncio::redis", 99.0),
    ("asyncio::sql", 99.0),
    ("asyncio::https", 99.0),
    ("asyncio::dns", 99.0),
    ("asyncio::to-thread", 99.0),
    ("asyncio::executor", 99.0),
    ("asyncio::submits", 99.0),
    ("asyncio::tasks", 99.0),
    ("asyncio::post", 99.0),
    ("asyncio::beside", 99.0),
    ("asyncio-syscall", 99.0),
    ("asgi::direct", 99.0),
    ("asgi::sleep", 99.0),
    ("asgi::small-pool", 99.0),
    ("asgi::fan-out", 99.0),
    ("asgi::blocking", 99.0),
    ("uvloop::direct", 99.0),
    ("uvloop::sleep", 99.0),
    ("uvloop::small-pool", 99.0),
    ("uvloop::fan-out", 99.0),
    ("uvloop::redis", 99.0),
    ("uvloop::sql", 99.0),
    ("uvloop::https", 99.0),
    ("uvloop::dns", 99.0),
    ("uvloop::to-thread", 99.0),
    ("uvloop::executor", 99.0),
    ("uvloop::submits", 99.0),
    ("uvloop::tasks", 99.0),
    ("uvloop::post", 99.0),
    ("uvloop-syscall", 99.0),
    ("asgi-uvloop::direct", 99.0),
    ("asgi-uvloop::sleep", 99.0),
    ("asgi-uvloop::small-pool", 99.0),
    ("asgi-uvloop::fan-out", 99.0),
    ("asgi-uvloop::blocking", 99.0),
    ("node::direct", 99.0),
    ("node::fetch", 95.0),
    ("node::callbacks", 99.0),
    ("node::twice", 99.0),
    ("node::sleep", 95.0),
    ("node::small-pool", 99.0),
    ("node::turns", 99.0),
    ("node::fan-out", 99.0),
    ("node::sql", 99.0),
    ("node::file", 99.0),
    ("node::worker", 99.0),
    ("node::timer", 95.0),
    ("node::https", 95.0),
    ("node::dns", 99.0),
    ("node::immediate", 95.0),
    ("node::tick", 99.0),
    ("node::nested", 99.0),
];

/// Cases of which no call may have a parent.
const NONE: &[&str] = &[
    "go-off",
    "asyncio-off",
    "node::late",
    "node-off",
    "asyncio::late",
    "asyncio::worker",
    "asgi::late",
    "uvloop::late",
    "uvloop::worker",
    "uvloop-off",
    "python-threads-off",
    "python-threads::abandoned",
    "asgi-uvloop::late",
    "python-threads::late",
];

/// All of them: `causality::RUNTIME::SHAPE::AT-ONCE`.
pub fn cases() -> Vec<Case> {
    let mut cases = vec![kept::beside_another()];
    cases.extend(aside::cases());
    let fronts = FRONTS.iter().chain(go::FRONTS).chain(PYTHON);
    for front in fronts
        .chain(java::FRONTS)
        .chain(proxies::FRONTS)
        .chain(kept::FRONTS)
        .chain(ruby::FRONTS)
        .chain(rust::FRONTS)
    {
        for shape in front.shapes {
            for &at_once in front.at_once {
                let name = format!("{}::{}::{at_once}", front.runtime, shape.name);
                let case = Case::new(format!("causality::{name}"), move |stage| {
                    run(stage, front, shape, at_once, &name, &[])
                });
                cases.push(case.seldom_if(!is_usual(front, shape, at_once)));
            }
        }
    }
    cases.extend(inferred::cases());
    cases
}

/// Fronts whose first shape is run one at a time as well.
const MAIN: [&str; 5] = ["go", "node", "asyncio", "python-threads", "java"];
/// Fronts whose shapes are another's, on another event loop or other threads: what might differ there is
/// run each time.
const TWINS: [&str; 11] = [
    "asgi",
    "go-h2c",
    "go-grpc",
    "uvloop",
    "asgi-uvloop",
    "java-virtual",
    "tokio",
    "tokio-unknown",
    "rust-threads",
    "ruby-fibers",
    "tomcat",
];
/// That.
const TELLING: [&str; 9] = [
    "direct",
    "blocking",
    "fan-out",
    "grpc",
    "late",
    "grown",
    "pipelined",
    "clogged",
    "worker",
];
/// Fronts that differ from another in how they are set up: one case of each.
const SETTINGS: [&str; 6] = [
    "tokio-current",
    "tokio-pinned",
    "tokio-pinned-unknown",
    "puma-cluster",
    "puma-single",
    "jetty",
];

/// Whether a case is run each time: of most fronts all shapes, as many at once as are asked for of them, or the most
/// that there are.
fn is_usual(front: &Front, shape: &Shape, at_once: usize) -> bool {
    let most = front.at_once.last() == Some(&at_once);
    let usual = at_once == 32 || most && !front.at_once.contains(&32);
    let first = front.shapes.first().is_some_and(|it| it.name == shape.name);
    if TWINS.contains(&front.runtime) {
        return usual && TELLING.contains(&shape.name);
    }
    if SETTINGS.contains(&front.runtime) || go::is_setting(front.runtime) {
        return usual && first;
    }
    usual || first && at_once == 1 && MAIN.contains(&front.runtime)
}

/// Requests in all.
const MANY: usize = 320;

/// A program that makes calls for the requests it serves.
struct Front {
    /// In the table.
    runtime: &'static str,
    /// How it is started, but for the words PORT LEAF REDIS POSTGRES, all ports.
    program: fn(&Path) -> Result<Setup>,
    /// What it is traced by.
    agent: fn(agent::Setup) -> agent::Setup,
    /// What it can be asked for.
    shapes: &'static [Shape],
    /// Requests that it serves at once.
    at_once: &'static [usize],
}

/// How calls are made: the first segment of a request's path.
#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    /// Requests that the front serves for each of the load's: more than one where it asks itself.
    requests: usize,
    /// Calls between the front's own processes that say no number.
    between: usize,
    /// Calls that are made for these.
    calls: usize,
    /// Where they go.
    behind: Behind,
}

#[derive(Clone, Copy)]
enum Behind {
    Leaf,
    /// The same over TLS.
    Secret,
    Redis,
    PostgreSql,
}

const fn shape(name: &'static str, calls: usize, behind: Behind) -> Shape {
    Shape {
        name,
        requests: 1,
        between: 0,
        calls,
        behind,
    }
}

const FRONTS: &[Front] = &[
    Front {
        shapes: &[
            DIRECT,
            SLEEP,
            SMALL_POOL,
            FAN_OUT,
            REDIS,
            SQL,
            WORKER,
            LATE,
            shape("h2", 1, Behind::Leaf),
        ],
        at_once: &[1, 8, 32, 64],
        ..GO
    },
    Front {
        shapes: &[
            HTTPS,
            shape("h2-tls", 1, Behind::Secret),
            shape("reused", 1, Behind::Leaf),
            shape("tls-reused", 1, Behind::Secret),
            shape("wrapped", 1, Behind::Leaf),
            shape("proxy", 1, Behind::Leaf),
            shape("post", 1, Behind::Leaf),
            shape("closing", 1, Behind::Leaf),
            Shape {
                requests: 2,
                ..shape("nested", 2, Behind::Leaf)
            },
            shape("timeout", 1, Behind::Leaf),
            shape("grown", 1, Behind::Leaf),
            shape("written", 1, Behind::Leaf),
            shape("tree", 3, Behind::Leaf),
            shape("teeming", 1, Behind::Leaf),
            shape("flushed", 2, Behind::Leaf),
            shape("hijack", 2, Behind::Leaf),
        ],
        at_once: &[8, 32],
        ..GO
    },
    Front {
        runtime: "go-syscall",
        agent: |agent| agent.goroutines().capture(Capture::Syscall),
        shapes: &[DIRECT, REDIS, HTTPS],
        ..GO
    },
    Front {
        runtime: "go-stripped",
        program: |folder| go(folder, "stripped", &["-ldflags=-s -w"]),
        ..GO
    },
    Front {
        runtime: "go-pie",
        program: |folder| go(folder, "pie", &["-buildmode=pie"]),
        ..GO
    },
    Front {
        runtime: "go-cgo",
        program: |folder| {
            go(
                folder,
                "cgo",
                &["-tags=linked", "-ldflags=-linkmode=external"],
            )
        },
        ..GO
    },
    Front {
        shapes: &[
            DIRECT,
            shape("fetch", 1, Behind::Leaf),
            shape("callbacks", 1, Behind::Leaf),
            shape("twice", 2, Behind::Leaf),
            SLEEP,
            SMALL_POOL,
            shape("turns", 1, Behind::Leaf),
            shape("lock", 1, Behind::Leaf),
            shape("lock-twice", 2, Behind::Leaf),
            shape("limit", 2, Behind::Leaf),
            FAN_OUT,
            REDIS,
            SQL,
            shape("file", 1, Behind::Leaf),
            WORKER,
            shape("timer", 1, Behind::Leaf),
            shape("timers", 1, Behind::Leaf),
            LATE,
        ],
        at_once: &[1, 8, 32, 64],
        ..NODE
    },
    Front {
        shapes: &[
            HTTPS,
            shape("dns", 1, Behind::Leaf),
            shape("immediate", 1, Behind::Leaf),
            shape("tick", 1, Behind::Leaf),
            Shape {
                requests: 2,
                ..shape("nested", 2, Behind::Leaf)
            },
        ],
        at_once: &[8, 32],
        ..NODE
    },
    Front {
        runtime: "node-syscall",
        agent: |agent| agent.node().capture(Capture::Syscall),
        shapes: &[DIRECT, SLEEP],
        ..NODE
    },
    Front {
        runtime: "node-off",
        agent: |agent| agent.args(["--link-node=false"]),
        ..NODE
    },
    Front {
        runtime: "go-off",
        agent: |agent| agent.args(["--link-goroutines=false"]),
        ..GO
    },
];

/// Python's, in the shapes that it shares with Go's, and some of its own.
const PYTHON: &[Front] = &[
    Front {
        runtime: "python-threads",
        program: |folder| python(folder, "threaded.py", "http.server"),
        agent: agent::Setup::asyncio,
        shapes: &[
            DIRECT,
            SLEEP,
            SMALL_POOL,
            shape("requests", 1, Behind::Leaf),
            shape("plain", 1, Behind::Leaf),
            REDIS,
            SQL,
            HTTPS,
            FAN_OUT,
            shape("submit", 1, Behind::Leaf),
            shape("submit-tls", 1, Behind::Secret),
            shape("completed", 5, Behind::Leaf),
            shape("forgotten", 1, Behind::Leaf),
            shape("abandoned", 1, Behind::Leaf),
            shape("grown", 1, Behind::Leaf),
            LATE,
        ],
        at_once: &[1, 8, 32, 64],
    },
    Front {
        runtime: "python-threads-off",
        program: |folder| python(folder, "threaded.py", "http.server"),
        agent: |agent| agent.args(["--link-asyncio=false"]),
        shapes: &[DIRECT, FAN_OUT],
        at_once: &[1],
    },
    Front {
        runtime: "python-gthread",
        program: |folder| python(folder, "threaded.py", "gthread"),
        agent: agent::Setup::asyncio,
        shapes: &[DIRECT, REDIS, FAN_OUT],
        at_once: &[32],
    },
    Front {
        runtime: "asyncio",
        program: |folder| python(folder, "asynced.py", "asyncio"),
        shapes: COMMON,
        at_once: &[1, 8, 32, 64],
        ..ASYNCIO
    },
    Front {
        shapes: TASKS,
        at_once: &[1, 8, 32],
        ..ASYNCIO
    },
    Front {
        shapes: &[BESIDE[0], shape("teeming", 1, Behind::Leaf)],
        at_once: &[1],
        ..ASYNCIO
    },
    Front {
        runtime: "asyncio-off",
        agent: |agent| agent.args(["--link-asyncio=false"]),
        shapes: BESIDE,
        at_once: &[1],
        ..ASYNCIO
    },
    Front {
        runtime: "asyncio-syscall",
        agent: |agent| agent.asyncio().capture(Capture::Syscall),
        shapes: &[DIRECT, shape("executor", 1, Behind::Leaf)],
        ..ASYNCIO
    },
    Front {
        runtime: "asyncio-off",
        agent: |agent| agent.args(["--link-asyncio=false"]),
        ..ASYNCIO
    },
    Front {
        runtime: "uvloop",
        shapes: COMMON,
        at_once: &[1, 8, 32, 64],
        ..UVLOOP
    },
    Front {
        shapes: TASKS,
        at_once: &[1, 8, 32],
        ..UVLOOP
    },
    Front {
        runtime: "uvloop-syscall",
        agent: |agent| agent.asyncio().capture(Capture::Syscall),
        ..UVLOOP
    },
    Front {
        runtime: "uvloop-off",
        agent: |agent| agent.args(["--link-asyncio=false"]),
        ..UVLOOP
    },
    Front {
        runtime: "asgi",
        program: |folder| python(folder, "asgi.py", "asyncio"),
        shapes: ASGI,
        at_once: &[1, 8, 32],
        ..ASYNCIO
    },
    Front {
        runtime: "asgi-uvloop",
        program: |folder| python(folder, "asgi.py", "uvloop"),
        shapes: ASGI,
        at_once: &[1, 8, 32, 64],
        ..ASYNCIO
    },
];

/// What Python's event loops have in common with others,
const COMMON: &[Shape] = &[DIRECT, SLEEP, SMALL_POOL, FAN_OUT, REDIS, SQL, WORKER, LATE];
/// what only tasks do,
const TASKS: &[Shape] = &[
    HTTPS,
    shape("dns", 1, Behind::Leaf),
    shape("to-thread", 1, Behind::Leaf),
    shape("executor", 1, Behind::Leaf),
    shape("executors", 5, Behind::Leaf),
    shape("submits", 2, Behind::Leaf),
    shape("forgotten", 1, Behind::Leaf),
    shape("tasks", 1, Behind::Leaf),
    shape("grown", 1, Behind::Leaf),
    shape("post", 1, Behind::Leaf),
    shape("flushed", 2, Behind::Leaf),
    shape("pipelined", 1, Behind::Leaf),
    shape("clogged", 1, Behind::Leaf),
];
/// what a task does for nobody while requests are open, whose calls say numbers that no request has,
const BESIDE: &[Shape] = &[shape("beside", 1, Behind::Leaf)];
/// and what Starlette's handlers do.
const ASGI: &[Shape] = &[
    DIRECT,
    SLEEP,
    SMALL_POOL,
    FAN_OUT,
    shape("blocking", 1, Behind::Leaf),
    LATE,
];

/// aiohttp, on asyncio's own loop.
const ASYNCIO: Front = Front {
    runtime: "asyncio",
    program: |folder| python(folder, "asynced.py", "asyncio"),
    agent: agent::Setup::asyncio,
    shapes: &[DIRECT],
    at_once: &[32],
};

/// The same on uvloop.
const UVLOOP: Front = Front {
    runtime: "uvloop",
    program: |folder| python(folder, "asynced.py", "uvloop"),
    ..ASYNCIO
};

/// One of Python's fronts: a script, and its first word. The variable SPANTAP_TEST_PYTHON may name another interpreter that has
/// what they import.
fn python(folder: &Path, script: &str, word: &str) -> Result<Setup> {
    let python = match std::env::var_os("SPANTAP_TEST_PYTHON") {
        Some(python) => python.into(),
        None => install::python_of("causality/python", &[])?.join("python3"),
    };
    let (script, _) = install::app(&format!("causality/python/{script}"))?;
    Ok(Setup::new("front", folder, python).arg(script).arg(word))
}

const DIRECT: Shape = shape("direct", 1, Behind::Leaf);
const SLEEP: Shape = shape("sleep", 2, Behind::Leaf);
const SMALL_POOL: Shape = shape("small-pool", 1, Behind::Leaf);
const FAN_OUT: Shape = shape("fan-out", 5, Behind::Leaf);
const SQL: Shape = shape("sql", 1, Behind::PostgreSql);
const LATE: Shape = shape("late", 1, Behind::Leaf);
const WORKER: Shape = shape("worker", 1, Behind::Leaf);
const HTTPS: Shape = shape("https", 1, Behind::Secret);
const REDIS: Shape = shape("redis", 2, Behind::Redis);

const GO: Front = Front {
    runtime: "go",
    program: |folder| go(folder, "causality", &[]),
    agent: agent::Setup::goroutines,
    shapes: &[DIRECT],
    at_once: &[32],
};

const NODE: Front = Front {
    runtime: "node",
    program: node,
    agent: agent::Setup::node,
    shapes: &[DIRECT],
    at_once: &[32],
};

/// Node's front.
fn node(folder: &Path) -> Result<Setup> {
    let scripts = install::modules("node-causality", "causality/node", &["front.js"])?;
    let node = std::env::var("NODE").unwrap_or_else(|_| "node".into());
    Ok(Setup::new("front", folder, node).arg(scripts.join("front.js")))
}

/// Go's front, built with these flags.
fn go(folder: &Path, name: &str, flags: &[&str]) -> Result<Setup> {
    Ok(Setup::new("front", folder, built(name, flags)?).arg("front"))
}

/// The leaf and the load of all.
fn app() -> Result<PathBuf> {
    built("causality", &[])
}

fn built(name: &str, flags: &[&str]) -> Result<PathBuf> {
    let files = [
        "main.go",
        "front.go",
        "shapes.go",
        "pools.go",
        "linked.go",
        "leaf.go",
        "load.go",
        "speaks.go",
        "go.mod",
        "go.sum",
    ];
    let name = match flags {
        [] => name.to_owned(),
        _ => format!("causality-{name}"),
    };
    install::go_build_as(&name, "causality", &files, flags)
}

/// What the calls go to; stopped and cleared away when dropped.
struct Server {
    program: Program,
    folder: Option<PathBuf>,
}

impl Server {
    fn start(stage: &Stage, behind: Behind, port: u16) -> Result<Self> {
        let (program, folder) = match behind {
            Behind::Leaf => (leaf(stage, port)?.start()?, None),
            Behind::Secret => {
                let made = Certificates::make(&stage.folder, "leaf")?;
                let leaf = leaf(stage, port)?.args([made.server, made.server_key]);
                (leaf.start()?, None)
            }
            Behind::Redis => (redis::server(stage, port, [])?, None),
            Behind::PostgreSql => {
                let (program, folder) = postgresql::server(&stage.folder, port)?;
                (program, Some(folder))
            }
        };
        Ok(Self { program, folder })
    }
}

/// What answers everything with a word.
pub fn leaf(stage: &Stage, port: u16) -> Result<Setup> {
    let leaf = Setup::new("leaf", &stage.folder, app()?);
    Ok(leaf.args(["leaf", &port.to_string()]).port(port))
}

impl Drop for Server {
    fn drop(&mut self) {
        self.program.stop();
        if let Some(folder) = &self.folder {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// Some at once, after these of which nothing is held to be.
fn run(
    stage: &mut Stage,
    front: &Front,
    shape: &Shape,
    at_once: usize,
    name: &str,
    before: &[Before],
) -> Result<()> {
    let (port, behind) = (free_port()?, free_port()?);
    let _server = Server::start(stage, shape.behind, behind)?;
    let words = match shape.behind {
        Behind::Leaf | Behind::Secret => [port, behind, 0, 0],
        Behind::Redis => [port, 0, behind, 0],
        Behind::PostgreSql => [port, 0, 0, behind],
    };
    let serving = (front.program)(&stage.folder)?;
    let serving = go::told(serving, front.runtime, &stage.folder)?
        .env("OTEL_SERVICE_NAME", "front")
        .args(words.map(|word| word.to_string()))
        .port(port)
        .start()?;
    let agent = stage.agent()?.ports(&[port, behind]);
    // All come within a second, and keys and statements are to say the number of the request.
    let agent = agent.env("OTEL_BSP_MAX_QUEUE_SIZE", "16384");
    let agent =
        (front.agent)(agent.args(["--query-text", "full", "--request-header", cause::HEADER]));
    let agent = match shape.behind {
        Behind::Secret => agent.tls(),
        _ if go::is_secret(front.runtime) => agent.tls(),
        _ => agent,
    };
    let agent = agent.start()?;
    for load in before {
        load_as(stage, port, [shape.name, ""], MANY, load)?;
        sleep(inferred::PAUSE);
    }
    let words = [shape.name, go::speaks(front.runtime)];
    load_as(stage, port, words, MANY, &Before::none(at_once))?;
    let pids = serving.pids();
    // Both sides of what the load asks, and of each call.
    let log = agent.log_path().to_owned();
    let each = 2 * MANY * (1 + shape.between + shape.calls);
    let mut spans = stage.receive(agent, each * (1 + before.len()))?;
    spans.retain(|span| !inferred::is_before(span));
    if agent::dry() {
        return Ok(());
    }
    let done = Done {
        front: &pids,
        shape: shape.name,
        requests: MANY * shape.requests,
        calls: MANY * shape.calls,
    };
    let mut score = cause::judge(&done, &spans);
    if name.contains(inferred::KIND) {
        inferred::allow(&mut score);
    }
    score.problems.extend(lacking(name, &score));
    let teems = fs::read_to_string(log)?.contains("it starts more than");
    if teems != (shape.name == "teeming") {
        let problem = format!("that it starts too many was told: {teems}");
        score.problems.push(problem);
    }
    stage.add(score);
    Ok(())
}

/// Makes requests, some at once, whose paths begin with this.
pub fn load(stage: &Stage, port: u16, shape: &str, at_once: usize, many: usize) -> Result<()> {
    load_as(stage, port, [shape, ""], many, &Before::none(at_once))
}

/// A load.
struct Before {
    at_once: usize,
    /// The number of its first request.
    first: usize,
    /// How long who asks waits before asking again, on average, in microseconds.
    pause: usize,
}

impl Before {
    /// Of which all is counted.
    const fn none(at_once: usize) -> Self {
        Self {
            at_once,
            first: 0,
            pause: 0,
        }
    }
}

/// The same by what is spoken.
fn load_as(
    stage: &Stage,
    port: u16,
    [shape, speaks]: [&str; 2],
    many: usize,
    how: &Before,
) -> Result<()> {
    let load = Setup::new("load", &stage.folder, app()?).env("OTEL_SERVICE_NAME", "load");
    let load = load.env("SPEAKS", speaks);
    let words = [
        port.to_string(),
        shape.into(),
        how.at_once.to_string(),
        many.to_string(),
        how.first.to_string(),
        how.pause.to_string(),
    ];
    let ran = load.arg("load").args(words).run(Duration::from_secs(60))?;
    ensure!(ran.code == Some(0), "the load: {ran:?}");
    Ok(())
}

/// What is less than is to be.
fn lacking(name: &str, score: &Score) -> Option<String> {
    if name.contains(inferred::KIND) {
        return inferred::lacking(name, score);
    }
    let mut right = RIGHT
        .iter()
        .chain(go::RIGHT)
        .chain(java::RIGHT)
        .chain(proxies::RIGHT)
        .chain(kept::RIGHT)
        .chain(ruby::RIGHT)
        .chain(rust::RIGHT);
    let right = right.find(|(begins, _)| name.starts_with(begins));
    let right = right.map(|(_, percent)| ("right", *percent));
    let none = NONE
        .iter()
        .chain(go::NONE)
        .chain(java::NONE)
        .chain(proxies::NONE)
        .chain(kept::NONE)
        .chain(ruby::NONE)
        .chain(rust::NONE)
        .find(|begins| name.starts_with(*begins));
    let (verdict, percent) = right.or(none.map(|_| ("none", 100.0)))?;
    let share = score.share(verdict, "calls");
    (share < percent).then(|| format!("{share:.1} % {verdict}, not {percent} %"))
}
