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
    /// Records of a connection lost in the kernel's rings, as the next record of it says.
    connection_lost_records = "connection.lost_records",
    /// Bytes of streams missing because their records were lost.
    connection_lost_bytes = "connection.lost_bytes",
    /// Bytes of streams moved by calls the kernel side does not see.
    connection_unseen_bytes = "connection.unseen_bytes",
    /// Bytes seen twice; the second time is left out.
    connection_overlapping_bytes = "connection.overlapping_bytes",
    /// Captured bytes thrown away because a stream held too many.
    connection_overflow_bytes = "connection.overflow_bytes",
    /// Segments that had to share their time with a neighbour because a stream held too many.
    connection_runs_merged = "connection.runs_merged",
    /// Records of connections that never were introduced.
    connection_unknown = "connection.unknown",
    /// Connections given up because the table, or the room for heads that are not whole, was full.
    connection_evicted = "connection.evicted",
    /// Connections left alone because of their port.
    connection_unselected = "connection.unselected",
    /// Connections left alone because no protocol knows them.
    protocol_unrecognised = "protocol.unrecognised",
    /// Connections left alone because they stopped speaking their protocol.
    protocol_given_up = "protocol.given_up",
    /// Connections left alone because they changed to another protocol (101, CONNECT).
    protocol_upgraded = "protocol.upgraded",
    /// Messages whose bytes made no sense.
    protocol_malformed = "protocol.malformed",
    /// Messages whose head was longer than is read.
    protocol_head_too_long = "protocol.head_too_long",
    /// Heads or framing that a hole cut.
    protocol_cut = "protocol.cut",
    /// Times a stream was skipped to the next recognisable message.
    protocol_resynced = "protocol.resynced",
    /// Requests shaped as in request smuggling.
    protocol_suspicious = "protocol.suspicious",
    /// Texts cut to the length that is kept.
    protocol_text_cut = "protocol.text_cut",
    /// Exchanges opened.
    exchange_opened = "exchange.opened",
    /// Exchanges that ended whole.
    exchange_complete = "exchange.complete",
    /// Exchanges cut by the end of their connection.
    exchange_broken = "exchange.broken",
    /// Exchanges that timed out.
    exchange_timed_out = "exchange.timed_out",
    /// Exchanges that ended in another protocol.
    exchange_upgraded = "exchange.upgraded",
    /// Exchanges given up, their end unknown.
    exchange_abandoned = "exchange.abandoned",
    /// Responses whose request was not seen.
    exchange_unasked = "exchange.unasked",
    /// Requests past the depth of pipelining that is followed.
    exchange_too_deep = "exchange.too_deep",
}
