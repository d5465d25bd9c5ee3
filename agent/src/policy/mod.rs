//! What is kept of what was seen: fewer spans ([`sample`]), no secrets ([`redact`]), bounded sizes
//! and rates ([`limit`]). Redaction comes before cutting, so that no half of a secret slips by.

pub mod limit;
pub mod redact;
pub mod sample;
mod shape;

use std::sync::Arc;

use crate::config::Config;
use crate::event::Nanos;
use crate::span::Span;
use crate::stats::Stats;

pub use sample::Sampler;

/// The last word on every span.
#[derive(Debug)]
pub struct Policy {
    redactor: Option<redact::Redactor>,
    limits: limit::Limiter,
    stats: Arc<Stats>,
}

impl Policy {
    /// As configured.
    pub fn new(config: &Config, stats: Arc<Stats>) -> Self {
        Self {
            redactor: redact::Redactor::wanted(&config.redaction),
            limits: limit::Limiter::new(&config.limits),
            stats,
        }
    }

    /// Cleans and cuts a span; false where it must not leave. `now` is any clock that does not
    /// go back, nanoseconds.
    pub fn apply(&mut self, span: &mut Span, now: Nanos) -> bool {
        if !self.limits.admits(span, now, &self.stats) {
            return false;
        }
        if let Some(redactor) = &self.redactor {
            self.stats.policy_redacted.add(redactor.clean(span));
        }
        self.limits.cut(span, &self.stats);
        true
    }
}
