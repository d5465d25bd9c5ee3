//! Java's servers, which have a thread of the kernel's for each request that is at work, and its clients.

use std::path::Path;

use anyhow::Result;
use spantap_tests::program::Setup;
use spantap_tests::{agent, install};

use super::kept::OFF;
use super::{
    Behind, DIRECT, FAN_OUT, Front, LATE, REDIS, SLEEP, SMALL_POOL, SQL, Shape, WORKER, shape,
};

const SHAPES: &[Shape] = &[
    DIRECT,
    SLEEP,
    SMALL_POOL,
    REDIS,
    SQL,
    shape("client", 1, Behind::Leaf),
    shape("client-async", 1, Behind::Leaf),
    FAN_OUT,
    shape("supply", 1, Behind::Leaf),
    WORKER,
    LATE,
];

/// Of tasks that threads hand to others, and of what looks like it.
const TASKS: &[Shape] = &[
    shape("invoke-all", 5, Behind::Leaf),
    shape("saturated", 1, Behind::Leaf),
    shape("forgotten", 2, Behind::Leaf),
    shape("outlived", 1, Behind::Leaf),
    shape("lent", 2, Behind::Leaf),
    shape("held", 1, Behind::Leaf),
    shape("queued", 1, Behind::Leaf),
];

const HANDED: &[Shape] = &[WORKER, FAN_OUT];

pub(super) const FRONTS: &[Front] = &[
    Front {
        shapes: TASKS,
        at_once: &[8, 32],
        ..JDK
    },
    Front {
        runtime: "java-g1",
        program: |folder| collected(folder, "java".as_ref(), "jdk", "-XX:+UseG1GC"),
        shapes: HANDED,
        at_once: &[32],
        ..JDK
    },
    Front {
        runtime: "java-25",
        program: |folder| {
            let java = install::java_of("elasticsearch")?;
            collected(folder, &java, "jdk", "-XX:+UseParallelGC")
        },
        shapes: HANDED,
        at_once: &[32],
        ..JDK
    },
    Front {
        runtime: "java-z",
        program: |folder| collected(folder, "java".as_ref(), "jdk", "-XX:+UseZGC"),
        shapes: HANDED,
        at_once: &[32],
        ..JDK
    },
    Front {
        runtime: "java-off",
        agent: |agent| agent,
        shapes: &[WORKER],
        at_once: &[32],
        ..JDK
    },
    Front {
        runtime: "java-kept",
        agent: |agent| agent.jvm().args(OFF),
        shapes: HANDED,
        at_once: &[32],
        ..JDK
    },
    Front {
        shapes: SHAPES,
        at_once: &[1, 8, 32, 64],
        ..JDK
    },
    Front {
        runtime: "tomcat",
        program: |folder| java(folder, "java".as_ref(), "tomcat"),
        ..JDK
    },
    Front {
        runtime: "jetty",
        program: |folder| java(folder, "java".as_ref(), "jetty"),
        ..JDK
    },
    Front {
        shapes: SHAPES,
        at_once: &[2, 8, 32, 64],
        ..VIRTUAL
    },
];

pub(super) const VIRTUAL: Front = Front {
    runtime: "java-virtual",
    program: |folder| java(folder, &install::java_of("elasticsearch")?, "virtual"),
    ..JDK
};

pub(super) const JDK: Front = Front {
    runtime: "java",
    program: |folder| java(folder, "java".as_ref(), "jdk"),
    agent: agent::Setup::jvm,
    shapes: &[DIRECT, SLEEP, REDIS, SQL],
    at_once: &[8, 32, 64],
};

/// One of its servers.
fn java(folder: &Path, java: &Path, server: &str) -> Result<Setup> {
    collected(folder, java, server, "-XX:+UseSerialGC")
}

/// The same, with another collector of garbage.
fn collected(folder: &Path, java: &Path, server: &str, collector: &str) -> Result<Setup> {
    let path = install::maven("java-causality", "causality/java", "Front.java")?;
    let setup = Setup::new("front", folder, java).args([
        "-Xmx512m",
        collector,
        "-Dsun.net.httpserver.nodelay=true",
    ]);
    Ok(setup.args(["-cp", &path, "Front", server]))
}

/// A thread serves one request at a time, from its head to its answer.
pub(super) const RIGHT: &[(&str, f64)] = &[
    ("java::direct", 99.0),
    ("java::sleep", 99.0),
    ("java::small-pool", 99.0),
    ("java::redis", 99.0),
    ("java::sql", 99.0),
    // But for what waits when garbage is collected, which it is as the program starts.
    ("java::fan-out", 85.0),
    ("java::worker", 85.0),
    ("java::supply", 85.0),
    ("java::invoke-all", 85.0),
    ("java::saturated", 85.0),
    ("java::lent", 85.0),
    ("java::held", 85.0),
    ("java-g1", 85.0),
    ("java-25", 85.0),
    ("java-kept", 85.0),
    ("tomcat", 99.0),
    ("jetty", 99.0),
];

/// A virtual thread's carrier has others, too.
pub(super) const NONE: &[&str] = &[
    "java-virtual",
    "java-off",
    "java-z",
    "java::late",
    "java::queued",
];
