//! The same programs where no trace is carried to other hosts. Elsewhere the kernel side knows less of whose
//! child a call is, and has to say before it is sent in whose trace it is; here user space alone does.

use spantap_tests::{Case, Sink, agent};

use super::{ASYNCIO, DIRECT, FAN_OUT, Front, GO, NODE, SLEEP, WORKER};

/// As in the parent.
pub(super) const RIGHT: &[(&str, f64)] = &[
    ("go-kept::direct", 99.0),
    ("go-kept::fan-out", 99.0),
    ("asyncio-kept::direct", 99.0),
    ("asyncio-kept::fan-out", 99.0),
    ("node-kept::direct", 99.0),
    ("node-kept::sleep", 90.0),
];

/// As in the parent.
pub(super) const NONE: &[&str] = &["go-kept::worker", "asyncio-kept::worker"];

/// Another agent sees the same programs, and writes options too, first: within the host each believes its own.
pub(super) fn beside_another() -> Case {
    Case::new("option::beside-another", |stage| {
        let sink = Sink::start()?;
        let other = agent::Setup::new("other", &stage.folder)?.to(&sink);
        let other = other.args(["--command", "causality"]);
        let other = other.goroutines().start()?;
        super::run(stage, &GO, &DIRECT, 32, "go::direct::32", &[])?;
        other.stop()
    })
}

pub(super) const OFF: [&str; 2] = ["--propagation", "off"];

/// All of them.
pub(super) const FRONTS: &[Front] = &[
    Front {
        runtime: "go-kept",
        agent: |agent| agent.goroutines().args(OFF),
        shapes: &[DIRECT, FAN_OUT, WORKER],
        ..GO
    },
    Front {
        runtime: "asyncio-kept",
        agent: |agent| agent.asyncio().args(OFF),
        shapes: &[DIRECT, FAN_OUT, WORKER],
        ..ASYNCIO
    },
    Front {
        runtime: "node-kept",
        agent: |agent| agent.node().args(OFF),
        shapes: &[DIRECT, SLEEP],
        ..NODE
    },
];
