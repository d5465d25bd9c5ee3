//! OTEL_TRACES_SAMPLER, decided by the trace and the flags of the real parent.
//! Source: <https://opentelemetry.io/docs/specs/otel/trace/sdk/#built-in-samplers>.

use crate::config;
use crate::trace::{SAMPLED, TraceId};

/// Decides before a span is built; the same for every span of a trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    parent_based: bool,
    /// Spans are kept whose 63 low trace id bits are below this; `1 << 63` keeps all.
    bound: u64,
}

impl Sampler {
    /// As configured.
    pub fn new(config: config::Sampler) -> Self {
        Self {
            parent_based: config.is_parent_based(),
            bound: config.bound(),
        }
    }

    /// Whether a span of `trace` is kept. `flags` are those of [`crate::trace::Linked::flags`]:
    /// `None` where no decision came from anywhere, also below a root on this host.
    ///
    /// The ratio's rule is the one the Go, Java, Python, .NET and Rust SDKs use (the 63 bits to the
    /// right but one of the trace id, below ratio × 2^63), so that an agent and an SDK that see the
    /// same trace agree.
    pub fn sampled(&self, trace: TraceId, flags: Option<u8>) -> bool {
        match flags {
            Some(flags) if self.parent_based => flags & SAMPLED != 0,
            _ => (u128::from_be_bytes(trace.0) as u64) >> 1 < self.bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trace::Ids;

    #[test]
    fn all_six() {
        use config::Sampler as S;
        let trace = |low: u64| TraceId((1u128 << 64 | u128::from(low)).to_be_bytes());
        let (low, high) = (trace(1 << 40), trace(u64::MAX));
        for (config, flags, want) in [
            (S::AlwaysOn, Some(0), [true, true]),
            (S::AlwaysOn, None, [true, true]),
            (S::AlwaysOff, Some(1), [false, false]),
            (S::TraceIdRatio(0.5), Some(1), [true, false]),
            (S::TraceIdRatio(0.5), Some(0), [true, false]),
            (S::TraceIdRatio(f64::NAN), None, [false, false]),
            (S::TraceIdRatio(-1.0), None, [false, false]),
            (S::TraceIdRatio(7.0), None, [true, true]),
            (S::ParentBasedAlwaysOn, None, [true, true]),
            (S::ParentBasedAlwaysOn, Some(0), [false, false]),
            (S::ParentBasedAlwaysOn, Some(2), [false, false]),
            (S::ParentBasedAlwaysOff, None, [false, false]),
            (S::ParentBasedAlwaysOff, Some(3), [true, true]),
            (S::ParentBasedTraceIdRatio(0.5), None, [true, false]),
            (S::ParentBasedTraceIdRatio(0.5), Some(1), [true, true]),
            (S::ParentBasedTraceIdRatio(0.5), Some(0), [false, false]),
        ] {
            let sampler = Sampler::new(config);
            let got = [sampler.sampled(low, flags), sampler.sampled(high, flags)];
            assert_eq!(got, want, "{config:?} {flags:?}");
        }
    }

    #[test]
    fn the_ratio_is_met() {
        let sampler = Sampler::new(config::Sampler::TraceIdRatio(0.25));
        let mut ids = Ids::from_seed(7);
        let kept = (0..100_000)
            .filter(|_| sampler.sampled(ids.trace(), None))
            .count();
        assert!((24_000..26_000).contains(&kept), "{kept}");
    }

    proptest! {
        #[test]
        fn a_larger_ratio_keeps_what_a_smaller_keeps(trace in any::<[u8; 16]>(), a in 0.0..1.0f64, b in 0.0..1.0f64) {
            let kept = |r: f64| Sampler::new(config::Sampler::TraceIdRatio(r)).sampled(TraceId(trace), None);
            prop_assert!(!kept(a.min(b)) || kept(a.max(b)));
        }
    }
}
