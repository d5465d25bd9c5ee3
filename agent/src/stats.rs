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

    /// Takes `n` away: for gauges only.
    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
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
    /// Spans handed to exporters, once for each; always the sum of the sent, refused, failed, dropped and waiting ones.
    export_queued = "export.queued",
    /// Spans that arrived.
    export_sent = "export.sent",
    /// Spans the receiver left out of a batch it took (OTLP partial success).
    export_rejected = "export.rejected",
    /// Spans of batches the receiver refused for good.
    export_failed_refused = "export.failed_refused",
    /// Spans that could not be written or encoded here.
    export_failed_local = "export.failed_local",
    /// Oldest spans dropped because a queue was full.
    export_dropped_full = "export.dropped_full",
    /// Spans left when the time for the last flush was over, or made after it.
    export_dropped_shutdown = "export.dropped_shutdown",
    /// Attempts that found no receiver or a busy one, to be made again.
    export_retries = "export.retries",
    /// Spans waiting in queues or on their way.
    export_queue_depth = "export.queue_depth",
}
