//! How the linker works.

use std::time::Duration;

use ipnet::IpNet;

use super::context::Format;
use super::units::Runtime;
use crate::config::Propagation;
use crate::event::{Address, Nanos};

/// How a linker works.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Formats read from headers, in order.
    pub extract: Vec<Format>,
    /// From where a context is believed.
    pub trusted: Vec<IpNet>,
    /// Whether the thread that serves is evidence.
    pub thread: bool,
    /// Whether the goroutine that serves is.
    pub goroutine: bool,
    /// Whether the task of asyncio's that serves is.
    pub asyncio: bool,
    /// Whether the turn of Node.js that a request began is.
    pub node: bool,
    /// Whether who made the task is that a JVM's thread runs.
    pub jvm: bool,
    /// Whether the spans of processes that export their own are left to them.
    pub leave_instrumented: bool,
    /// Whether what a proxy hands on is.
    pub forwarded: bool,
    /// Whether what is likely is as well.
    pub inferred: bool,
    /// How long after its end an exchange waits for facts that come late, nanoseconds.
    pub settle: Nanos,
    /// How long it waits where another side is surely on this host and not seen yet.
    pub patience: Nanos,
    /// How long after its end an exchange is remembered.
    pub retain: Nanos,
    /// The same of one that was served in a context, which calls made by it may carry on later.
    pub retain_served: Nanos,
    /// Most exchanges known at once.
    pub capacity: usize,
}

impl Settings {
    /// The same, where processes that export their own spans are told of or not.
    #[must_use]
    pub fn leaving_instrumented(self, leave_instrumented: bool) -> Self {
        Self {
            leave_instrumented,
            ..self
        }
    }

    /// From the configuration, where a record waits in its ring for `drain` at most.
    pub fn new(config: &Propagation, drain: Duration) -> Self {
        let drain = u64::try_from(drain.as_nanos()).unwrap_or(Nanos::MAX);
        Self {
            extract: config
                .extract
                .iter()
                .filter_map(|name| Format::from_name(name))
                .collect(),
            trusted: config.trusted.clone(),
            thread: config.thread,
            goroutine: config.goroutine,
            asyncio: config.asyncio,
            node: config.node,
            jvm: config.jvm,
            leave_instrumented: true,
            forwarded: config.forwarded,
            inferred: config.inferred,
            settle: LATE.saturating_add(drain),
            patience: 200_000_000,
            retain: RETAIN.saturating_add(drain),
            retain_served: 2_000_000_000,
            capacity: 65_536,
        }
    }

    /// Whether the units of this runtime are evidence.
    pub(super) fn believes(&self, runtime: Runtime) -> bool {
        match runtime {
            Runtime::Go => self.goroutine,
            Runtime::Python => self.asyncio,
            Runtime::Node => self.node,
        }
    }

    /// Whether what comes from there may name its parent.
    pub(super) fn trusts(&self, from: &Address) -> bool {
        let Address::Inet(from) = from else {
            return true;
        };
        let from = from.ip().to_canonical();
        self.trusted.iter().any(|network| network.contains(&from))
    }
}

/// Longest a hook takes from its time to its record.
const LATE: Nanos = 16_000_000;
/// Longer than anything about an exchange is looked for after its end.
const RETAIN: Nanos = 500_000_000;
