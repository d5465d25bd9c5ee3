//! Ruby's servers: Puma, whose threads each serve one request at a time, most of whose heads a thread of its
//! own has read; and async-http, on which Falcon is made, whose fibers share one thread.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use spantap_tests::install;
use spantap_tests::program::Setup;

use super::{Behind, DIRECT, FAN_OUT, Front, LATE, REDIS, SLEEP, SMALL_POOL, SQL, WORKER, shape};

const PUMA: Front = Front {
    runtime: "puma",
    program: |folder| ruby(folder, "threaded.rb", "puma"),
    agent: |agent| agent,
    shapes: &[
        DIRECT,
        SLEEP,
        SMALL_POOL,
        shape("plain", 1, Behind::Leaf),
        FAN_OUT,
        REDIS,
        SQL,
        WORKER,
        LATE,
        shape("behind", 1, Behind::Leaf),
        shape("flushed", 2, Behind::Leaf),
    ],
    at_once: &[1, 8, 32, 64],
};

pub(super) const FRONTS: &[Front] = &[
    PUMA,
    Front {
        runtime: "puma-cluster",
        program: |folder| ruby(folder, "threaded.rb", "puma-cluster"),
        shapes: &[DIRECT, FAN_OUT, REDIS],
        at_once: &[8, 32],
        ..PUMA
    },
    Front {
        runtime: "puma-single",
        program: |folder| ruby(folder, "threaded.rb", "puma-single"),
        shapes: &[
            DIRECT,
            shape("behind", 1, Behind::Leaf),
            shape("flushed", 2, Behind::Leaf),
        ],
        at_once: &[1, 8],
        ..PUMA
    },
    Front {
        runtime: "ruby-fibers",
        program: |folder| ruby(folder, "fibers.rb", "async"),
        shapes: &[DIRECT, SLEEP, SMALL_POOL, FAN_OUT, LATE],
        at_once: &[8, 32, 64],
        ..PUMA
    },
];

/// But for what waited in the queue, and may be called for the request before it.
pub(super) const RIGHT: &[(&str, f64)] = &[
    ("puma::direct::32", 70.0),
    ("puma::sleep::32", 70.0),
    ("puma::small-pool::32", 70.0),
    ("puma::plain::32", 70.0),
    ("puma::redis::32", 70.0),
    ("puma::sql::32", 70.0),
];

pub(super) const NONE: &[&str] = &[
    "puma::fan-out",
    "puma::worker",
    "puma::late",
    "puma::behind",
    "puma-single::behind",
];

/// One of Ruby's fronts: a script, and its first word.
fn ruby(folder: &Path, script: &str, word: &str) -> Result<Setup> {
    let packages = [
        "ruby",
        "puma",
        "ruby-async-http",
        "ruby-connection-pool",
        "ruby-pg",
        "ruby-redis",
    ];
    let ruby = install::debian("ruby", &packages)?;
    let (script, _) = install::app(&format!("causality/ruby/{script}"))?;
    let compiled = ruby.libraries();
    let of_gems = compiled.join("rubygems-integration/3.1.0");
    let mut places = vec![
        ruby.file("usr/lib/ruby/vendor_ruby")?,
        ruby.file("usr/lib/ruby/3.1.0")?,
        compiled.join("ruby/3.1.0"),
        compiled.join("ruby/vendor_ruby/3.1.0"),
    ];
    let gems = ruby.file("usr/share/rubygems-integration/all/gems")?;
    for gems in [gems, of_gems.join("gems")] {
        places.extend(within(&gems)?.into_iter().map(|gem| gem.join("lib")));
    }
    places.extend(within(&of_gems.join("extensions/x86_64-linux/3.1.0"))?);
    let program = ruby.file("usr/bin/ruby3.1")?;
    Ok(Setup::new("front", folder, program)
        .env("LD_LIBRARY_PATH", &compiled)
        .env("RUBYLIB", std::env::join_paths(places)?)
        .arg(script)
        .arg(word))
}

fn within(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?;
    Ok(entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_, std::io::Error>>()?)
}
