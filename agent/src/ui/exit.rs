//! Exit codes. They are an interface: scripts and unit files depend on them.

use std::process::ExitCode;

use super::wiring::Unable;
use crate::config;

/// Done.
pub const DONE: i32 = 0;
/// Failed while running.
pub const FAILED: i32 = 1;
/// Wrong usage or configuration.
pub const USAGE: i32 = 2;
/// A privilege or a kernel feature is missing.
pub const UNABLE: i32 = 3;
/// Nothing was shown (`watch --fail-empty`).
pub const EMPTY: i32 = 4;
/// Something was lost (`watch --strict`).
pub const LOST: i32 = 5;
/// The command of `run` cannot be run.
pub const CANNOT_RUN: i32 = 126;
/// The command of `run` is not there.
pub const NOT_FOUND: i32 = 127;
/// A signal ended it: this and the signal's number.
pub const SIGNAL: i32 = 128;

/// What an error exits with.
pub fn of(error: &anyhow::Error) -> i32 {
    if error.chain().any(|cause| cause.is::<config::Error>()) {
        return USAGE;
    }
    match error.chain().any(|cause| cause.is::<Unable>()) {
        true => UNABLE,
        false => FAILED,
    }
}

/// As the process returns it.
pub fn code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn errors_have_their_codes_however_deep_they_are() {
        let usage = anyhow::Error::from(config::Error("x".into())).context("y");
        assert_eq!(of(&usage), USAGE);
        let unable: anyhow::Result<()> = Err(Unable {
            missing: "CAP_BPF".into(),
            remedy: "sudo".into(),
        }
        .into());
        let unable = unable.context("load the programs").expect_err("it is one");
        assert_eq!(of(&unable), UNABLE);
        assert_eq!(of(&anyhow!("x")), FAILED);
    }
}
