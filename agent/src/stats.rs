//! One counter for each way to lose, refuse or leave something out; read by the status line, the
//! metrics and the tests. Counters only grow.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The sum so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Replaces the value: for gauges and for counters that the kernel keeps.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $field:ident = $name:literal,)+) => {
        /// All counters of one agent.
        #[derive(Debug, Default)]
        pub struct Stats { $($(#[doc = $doc])+ pub $field: Counter,)+ }

        impl Stats {
            /// (stable name, what it counts, value), in declaration order.
            pub fn read(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$(($name, concat!($($doc),+), self.$field.get()),)+]
            }
        }
    };
}

// Each stage adds its own lines here; the name is `stage.what`.
counters! {
    /// Records read from the rings.
    event_records = "event.records",
    /// Records that could not be decoded.
    event_malformed = "event.malformed",
    /// Processes read from procfs.
    target_snapshots = "target.snapshots",
    /// Processes gone before procfs could be read: known by the kernel's name only.
    target_gone = "target.gone",
    /// Snapshots and verdicts dropped for room.
    target_evicted = "target.evicted",
    /// Resources made.
    resource_made = "resource.made",
    /// Resources dropped for room.
    resource_evicted = "resource.evicted",
    /// OTEL_RESOURCE_ATTRIBUTES of a traced process that could not be read.
    resource_malformed = "resource.malformed",
}
