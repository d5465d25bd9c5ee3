//! Go's fronts that are asked by HTTP/2, or by gRPC.

use std::path::Path;

use anyhow::Result;
use spantap_tests::agent::Capture;
use spantap_tests::certificates::Certificates;
use spantap_tests::program::Setup;

use super::{Behind, DIRECT, FAN_OUT, Front, GO, LATE, REDIS, SLEEP, Shape, WORKER, go, shape};

/// As [`super::RIGHT`].
pub(super) const RIGHT: &[(&str, f64)] = &[
    ("go::grpc", 99.0),
    ("go-h2c::direct", 99.0),
    ("go-h2c::sleep", 99.0),
    ("go-h2c::fan-out", 99.0),
    ("go-h2c::redis", 99.0),
    ("go-h2c::grpc", 99.0),
    ("go-h2c-one", 99.0),
    ("go-h2-tls", 99.0),
    ("go-h2c-module", 99.0),
    ("go-grpc::direct", 99.0),
    ("go-grpc::sleep", 99.0),
    ("go-grpc::fan-out", 99.0),
    ("go-grpc::redis", 99.0),
    ("go-grpc::grpc", 99.0),
    ("go-grpc-one", 99.0),
    ("go-grpc-tls", 99.0),
    ("go-grpc-workers", 99.0),
    ("go-grpc-pie", 99.0),
    ("go-grpc-syscall", 99.0),
    ("go-h2c-stripped", 99.0),
];

/// As [`super::NONE`].
pub(super) const NONE: &[&str] = &[
    "go-h2c::worker",
    "go-h2c::late",
    "go-grpc::worker",
    "go-grpc::late",
    "go-grpc-off",
    "go-grpc-stripped",
];

/// What a front is asked by, and whether on one connection, if not by HTTP/1.1 on many.
const SPEAKS: &[(&str, &str)] = &[
    ("go-h2c", "h2c"),
    ("go-h2c-one", "h2c one"),
    ("go-h2-tls", "h2"),
    ("go-h2c-module", "module-h2c"),
    ("go-grpc", "grpc"),
    ("go-grpc-one", "grpc one"),
    ("go-grpc-tls", "grpc-tls"),
    ("go-grpc-workers", "grpc-workers"),
    ("go-grpc-pie", "grpc"),
    ("go-grpc-syscall", "grpc"),
    ("go-grpc-off", "grpc"),
    ("go-h2c-stripped", "h2c"),
    ("go-grpc-stripped", "grpc"),
];

/// What a front and its load speak.
pub(super) fn speaks(runtime: &str) -> &'static str {
    let found = SPEAKS.iter().find(|(of, _)| *of == runtime);
    found.map_or("", |(_, speaks)| speaks)
}

/// Whether a front differs from another in how it is set up.
pub(super) fn is_setting(runtime: &str) -> bool {
    let speaks = speaks(runtime);
    let as_usual = ["h2c", "grpc"].contains(&speaks) && runtime.matches('-').count() == 1;
    !speaks.is_empty() && !as_usual
}

/// The front, told what to speak, with a certificate where that is over TLS.
pub(super) fn told(front: Setup, runtime: &str, folder: &Path) -> Result<Setup> {
    let front = front.env("SPEAKS", speaks(runtime));
    if !is_secret(runtime) {
        return Ok(front);
    }
    let made = Certificates::make(folder, "front")?;
    let front = front.env("FRONT_CERTIFICATE", made.server);
    Ok(front.env("FRONT_KEY", made.server_key))
}

/// Whether they do so over TLS.
pub(super) fn is_secret(runtime: &str) -> bool {
    ["h2", "grpc-tls"].contains(&speaks(runtime))
}

const GRPC: Shape = shape("grpc", 1, Behind::Leaf);
const GRPC_FAN_OUT: Shape = shape("grpc-fan-out", 5, Behind::Leaf);
const GRPC_TLS: Shape = shape("grpc-tls", 1, Behind::Secret);

const SHAPES: &[Shape] = &[
    DIRECT,
    SLEEP,
    FAN_OUT,
    REDIS,
    WORKER,
    LATE,
    GRPC,
    GRPC_FAN_OUT,
];

pub(super) const FRONTS: &[Front] = &[
    Front {
        shapes: &[GRPC, GRPC_FAN_OUT, GRPC_TLS],
        at_once: &[1, 8, 32, 64],
        ..GO
    },
    Front {
        runtime: "go-h2c",
        shapes: SHAPES,
        at_once: &[1, 8, 32, 64],
        ..GO
    },
    Front {
        runtime: "go-h2c-one",
        shapes: &[DIRECT, FAN_OUT],
        at_once: &[8, 32, 64],
        ..GO
    },
    Front {
        runtime: "go-h2-tls",
        shapes: &[DIRECT, FAN_OUT, GRPC_TLS],
        at_once: &[8, 32],
        ..GO
    },
    Front {
        runtime: "go-h2c-module",
        shapes: &[DIRECT, FAN_OUT],
        at_once: &[8, 32],
        ..GO
    },
    Front {
        runtime: "go-grpc",
        shapes: SHAPES,
        at_once: &[1, 8, 32, 64],
        ..GO
    },
    Front {
        runtime: "go-grpc-one",
        shapes: &[DIRECT, FAN_OUT, GRPC],
        at_once: &[8, 32, 64],
        ..GO
    },
    Front {
        runtime: "go-grpc-tls",
        shapes: &[DIRECT, GRPC_TLS],
        at_once: &[8, 32],
        ..GO
    },
    Front {
        runtime: "go-grpc-workers",
        shapes: &[DIRECT, FAN_OUT, GRPC],
        at_once: &[1, 8, 32, 64],
        ..GO
    },
    Front {
        runtime: "go-grpc-pie",
        program: |folder| go(folder, "pie", &["-buildmode=pie"]),
        shapes: &[DIRECT, GRPC],
        ..GO
    },
    Front {
        runtime: "go-grpc-syscall",
        agent: |agent| agent.goroutines().capture(Capture::Syscall),
        shapes: &[DIRECT, GRPC],
        ..GO
    },
    Front {
        runtime: "go-grpc-off",
        agent: |agent| agent.args(["--link-goroutines=false"]),
        shapes: &[DIRECT, GRPC],
        ..GO
    },
    Front {
        runtime: "go-h2c-stripped",
        program: |folder| go(folder, "stripped", &["-ldflags=-s -w"]),
        ..GO
    },
    Front {
        runtime: "go-grpc-stripped",
        program: |folder| go(folder, "stripped", &["-ldflags=-s -w"]),
        shapes: &[DIRECT, GRPC],
        ..GO
    },
];
