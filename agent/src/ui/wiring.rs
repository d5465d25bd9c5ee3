//! Where the commands meet the stages: [`start`] runs the pipeline, [`report`] asks the kernel.
//! Everything else in `ui` goes through these two.

use std::fmt;
use std::sync::Arc;

use anyhow::{Result, bail};
use tokio::sync::watch;

use super::doctor::Report;
use crate::config::Config;
use crate::span::Span;

/// Gets every finished span, after policy. Called on the pipeline's way: it does not block. Dropped
/// by the time [`start`] returns, as whoever prints waits for that.
pub type OnSpan = Box<dyn FnMut(&Span) + Send>;

/// What the pipeline is started with.
pub struct Start {
    /// The resolved configuration.
    pub config: Arc<Config>,
    /// Who wants to see the spans, besides the exporters in the configuration.
    pub on_span: Option<OnSpan>,
    /// Called once when everything is attached: from then on nothing is missed.
    pub ready: Box<dyn FnOnce() + Send>,
    /// Becomes true when it is time to flush, detach and return.
    pub stop: watch::Receiver<bool>,
}

/// What is said at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Spans that left.
    pub spans: u64,
    /// What was lost, where and how often; only what was.
    pub losses: Vec<Loss>,
}

impl Summary {
    /// All losses together.
    pub fn lost(&self) -> u64 {
        self.losses.iter().map(|loss| loss.count).sum()
    }
}

/// One way of losing something, and how often it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The counter's name, `stage.what`.
    pub what: String,
    /// How often.
    pub count: u64,
}

/// A privilege or a kernel feature that is missing: exit code 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unable {
    /// What is missing: `CAP_BPF`, `BTF`, a kernel version.
    pub missing: String,
    /// How to get it.
    pub remedy: String,
}

impl fmt::Display for Unable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "missing {}: {}", self.missing, self.remedy)
    }
}

impl std::error::Error for Unable {}

/// Runs the pipeline until `stop`; blocks. Builds its own runtime.
pub fn start(start: Start) -> Result<Summary> {
    drop(start);
    bail!("not wired yet: the pipeline is not part of this build")
}

/// What the kernel and our privileges allow.
pub fn report() -> Result<Report> {
    bail!("not wired yet: the kernel's capabilities are not part of this build")
}
