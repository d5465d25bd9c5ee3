//! Java's servers, which have a thread of the kernel's for each request that is at work, and its clients.

use std::path::Path;

use anyhow::Result;
use spantap_tests::install;
use spantap_tests::program::Setup;

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

pub(super) const FRONTS: &[Front] = &[
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
        runtime: "java-virtual",
        program: |folder| java(folder, &install::java_of("elasticsearch")?, "virtual"),
        shapes: SHAPES,
        at_once: &[2, 8, 32, 64],
        ..JDK
    },
];

const JDK: Front = Front {
    runtime: "java",
    program: |folder| java(folder, "java".as_ref(), "jdk"),
    agent: |agent| agent,
    shapes: &[DIRECT, SLEEP, REDIS, SQL],
    at_once: &[8, 32, 64],
};

/// One of its servers.
fn java(folder: &Path, java: &Path, server: &str) -> Result<Setup> {
    let path = install::maven("java-causality", "causality/java", "Front.java")?;
    let setup = Setup::new("front", folder, java).args([
        "-Xmx512m",
        "-XX:+UseSerialGC",
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
    ("tomcat", 99.0),
    ("jetty", 99.0),
];

/// A virtual thread's carrier has others, too.
pub(super) const NONE: &[&str] = &["java-virtual"];
