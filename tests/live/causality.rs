//! Whose child a call is, where a program serves many requests at once and makes calls for each, in
//! shapes that programs have. No header says which call belongs to which request, but their paths,
//! keys and statements do ([`spantap_tests::cause`]): a parent is right, wrong, or not there, and wrong
//! is what none may ever be. `cargo xtask causality` makes docs/causality.md of what comes out.
//!
//! A front in another language is one program that takes the words of apps/causality's, and one
//! [`Front`].

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use spantap_tests::cause::{self, Done};
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
    ("go::redis", 99.0),
    ("go::sql", 99.0),
];

/// All of them: `causality::RUNTIME::SHAPE::AT-ONCE`.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for front in FRONTS {
        for shape in front.shapes {
            for at_once in AT_ONCE {
                let name = format!("{}::{}::{at_once}", front.runtime, shape.name);
                cases.push(Case::new(format!("causality::{name}"), move |stage| {
                    run(stage, front, shape, at_once, &name)
                }));
            }
        }
    }
    cases
}

/// Requests that a front serves at once.
const AT_ONCE: [usize; 4] = [1, 8, 32, 64];

/// Requests in all.
const MANY: usize = 320;

/// A program that makes calls for the requests it serves.
struct Front {
    /// In the table.
    runtime: &'static str,
    /// How it is started, but for the words PORT LEAF REDIS POSTGRES, all ports.
    program: fn(&Path) -> Result<Setup>,
    /// What it can be asked for.
    shapes: &'static [Shape],
}

/// How calls are made: the first segment of a request's path.
struct Shape {
    name: &'static str,
    /// Calls that are made for each request.
    calls: usize,
    /// Where they go.
    behind: Behind,
}

#[derive(Clone, Copy)]
enum Behind {
    Leaf,
    Redis,
    PostgreSql,
}

const fn shape(name: &'static str, calls: usize, behind: Behind) -> Shape {
    Shape {
        name,
        calls,
        behind,
    }
}

const FRONTS: &[Front] = &[Front {
    runtime: "go",
    program: |folder| Ok(Setup::new("front", folder, app()?).arg("front")),
    shapes: &[
        shape("direct", 1, Behind::Leaf),
        shape("sleep", 2, Behind::Leaf),
        shape("small-pool", 1, Behind::Leaf),
        shape("fan-out", 5, Behind::Leaf),
        shape("redis", 2, Behind::Redis),
        shape("sql", 1, Behind::PostgreSql),
        shape("worker", 1, Behind::Leaf),
        shape("late", 1, Behind::Leaf),
        shape("h2", 1, Behind::Leaf),
    ],
}];

/// Go's front, and the leaf and the load of all.
fn app() -> Result<PathBuf> {
    let files = [
        "main.go", "front.go", "leaf.go", "load.go", "go.mod", "go.sum",
    ];
    install::go_build("causality", "causality", &files)
}

/// What the calls go to; stopped and cleared away when dropped.
struct Server {
    program: Program,
    folder: Option<PathBuf>,
}

impl Server {
    fn start(stage: &Stage, behind: Behind, port: u16) -> Result<Self> {
        let (program, folder) = match behind {
            Behind::Leaf => {
                let leaf = Setup::new("leaf", &stage.folder, app()?);
                let leaf = leaf.args(["leaf", &port.to_string()]).port(port);
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

impl Drop for Server {
    fn drop(&mut self) {
        self.program.stop();
        if let Some(folder) = &self.folder {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

fn run(stage: &mut Stage, front: &Front, shape: &Shape, at_once: usize, name: &str) -> Result<()> {
    let (port, behind) = (free_port()?, free_port()?);
    let _server = Server::start(stage, shape.behind, behind)?;
    let words = match shape.behind {
        Behind::Leaf => [port, behind, 0, 0],
        Behind::Redis => [port, 0, behind, 0],
        Behind::PostgreSql => [port, 0, 0, behind],
    };
    let serving = (front.program)(&stage.folder)?
        .env("OTEL_SERVICE_NAME", "front")
        .args(words.map(|word| word.to_string()))
        .port(port)
        .start()?;
    let agent = stage.agent()?.ports(&[port, behind]);
    // All come within a second, and keys and statements are to say the number of the request.
    let agent = agent.env("OTEL_BSP_MAX_QUEUE_SIZE", "16384");
    let agent = agent.goroutines().args(["--query-text", "full"]).start()?;
    let load = Setup::new("load", &stage.folder, app()?).env("OTEL_SERVICE_NAME", "load");
    let words = [
        port.to_string(),
        shape.name.into(),
        at_once.to_string(),
        MANY.to_string(),
    ];
    let ran = load.arg("load").args(words).run(Duration::from_secs(60))?;
    ensure!(ran.code == Some(0), "the load: {ran:?}");
    let pids = serving.pids();
    // Both sides of a request, and of each of its calls.
    let spans = stage.receive(agent, 2 * MANY * (1 + shape.calls))?;
    if agent::dry() {
        return Ok(());
    }
    let done = Done {
        front: &pids,
        shape: shape.name,
        requests: MANY,
        calls: MANY * shape.calls,
    };
    let mut score = cause::judge(&done, &spans);
    let wanted = RIGHT.iter().find(|(begins, _)| name.starts_with(begins));
    if let Some((_, percent)) = wanted
        && score.share("right", "calls") < *percent
    {
        let right = score.share("right", "calls");
        let problem = format!("{right:.1} % right, not {percent} %");
        score.problems.push(problem);
    }
    stage.add(score);
    Ok(())
}
