//! Rust's servers: on tokio, whose threads each work for whichever task is next, and on threads.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

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
    FAN_OUT,
    REDIS,
    SQL,
    WORKER,
    LATE,
    shape("h2", 1, Behind::Leaf),
    shape("blocking", 1, Behind::Leaf),
];

const TOKIO: Front = Front {
    runtime: "tokio",
    program: |folder| tokio(folder, "multi", None),
    agent: |agent| agent,
    shapes: SHAPES,
    at_once: &[1, 8, 32, 64],
};

const THREADS: Front = Front {
    runtime: "rust-threads",
    program: |folder| Ok(Setup::new("front", folder, built()?.join("threads"))),
    agent: |agent| agent,
    shapes: &[DIRECT, SLEEP, REDIS, LATE],
    at_once: &[1, 8, 32, 64],
};

pub(super) const FRONTS: &[Front] = &[
    TOKIO,
    Front {
        runtime: "tokio-current",
        program: |folder| tokio(folder, "current", None),
        at_once: &[32],
        ..TOKIO
    },
    Front {
        runtime: "tokio-pinned",
        program: |folder| tokio(folder, "pinned", None),
        at_once: &[32],
        ..TOKIO
    },
    Front {
        runtime: "tokio-unknown",
        program: |folder| tokio(folder, "multi", Some(WORDS)),
        at_once: &[8, 32],
        ..TOKIO
    },
    Front {
        runtime: "tokio-pinned-unknown",
        program: |folder| tokio(folder, "pinned", Some(WORDS)),
        shapes: &[DIRECT, SLEEP, FAN_OUT],
        at_once: &[8, 32],
        ..TOKIO
    },
    Front {
        runtime: "tokio-vendored",
        program: |folder| tokio(folder, "current", Some(&WORDS[..1])),
        shapes: &[DIRECT],
        at_once: &[1],
        ..TOKIO
    },
    THREADS,
];

/// What tokio is told by: its place in cargo's registry, and what it says.
const WORDS: &[&str] = &["/tokio-1.", "Cannot start a runtime from within a runtime"];

pub(super) const RIGHT: &[(&str, f64)] = &[
    ("rust-threads::direct", 99.0),
    ("rust-threads::sleep", 99.0),
    ("rust-threads::redis", 99.0),
];

/// Where tokio is known its threads are asked nothing. Where it is not, they show it.
pub(super) const NONE: &[&str] = &[
    "tokio::",
    "tokio-current::",
    "tokio-pinned::",
    "tokio-vendored",
    "rust-threads::late",
];

fn built() -> Result<PathBuf> {
    let files = [
        "Cargo.toml",
        "Cargo.lock",
        "src/bin/threads.rs",
        "src/bin/tokio.rs",
    ];
    install::cargo_build("rust-causality", "causality/rust", &files)
}

/// The front on tokio, in which perhaps these words do not stand any more.
fn tokio(folder: &Path, runtime: &str, without: Option<&[&str]>) -> Result<Setup> {
    let mut program = built()?.join("tokio");
    if let Some(words) = without {
        let mut bytes = fs::read(program)?;
        for word in words {
            blank(&mut bytes, word.as_bytes());
        }
        program = folder.join("front");
        fs::write(&program, bytes)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    }
    Ok(Setup::new("front", folder, program).arg(runtime))
}

fn blank(bytes: &mut [u8], word: &[u8]) {
    let places: Vec<usize> = bytes
        .windows(word.len())
        .enumerate()
        .filter(|(_, at)| *at == word)
        .map(|(at, _)| at)
        .collect();
    for at in places {
        bytes[at..at + word.len()].fill(b'x');
    }
}
