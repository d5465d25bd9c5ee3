//! Processes that tell of their own work: they export spans by OTLP. Another span of the same call beside
//! theirs is one too many, so theirs stand; what they send on says whose child is what others do for them.

use std::collections::VecDeque;

use foldhash::{HashSet, HashSetExt as _};

use crate::event::{Nanos, Role};
use crate::exchange::Exchange;
use crate::protocol::{Attributes, Value};

/// Those that were seen to. Bounded: past that no more are known.
#[derive(Debug)]
pub(super) struct Instrumented {
    processes: HashSet<u32>,
    /// Those that ended, and until when what they did is still being linked.
    gone: VecDeque<(Nanos, u32)>,
    capacity: usize,
}

impl Instrumented {
    /// At most so many.
    pub fn new(capacity: usize) -> Self {
        Self {
            processes: HashSet::new(),
            gone: VecDeque::new(),
            capacity,
        }
    }

    /// Whether a process is one.
    pub fn has(&self, process: u32) -> bool {
        self.processes.contains(&process)
    }

    /// It is; true if that is news.
    pub fn insert(&mut self, process: u32) -> bool {
        self.gone.retain(|(_, gone)| *gone != process);
        self.processes.len() < self.capacity && self.processes.insert(process)
    }

    /// The process is gone, or is another program now; what it did before is linked until `when`.
    pub fn forget(&mut self, process: u32, when: Nanos) {
        if self.has(process) {
            self.gone.push_back((when, process));
        }
    }

    /// Forgets those whose time has come.
    pub fn sweep(&mut self, now: Nanos) {
        while let Some((when, process)) = self.gone.front().copied()
            && when <= now
        {
            self.gone.pop_front();
            self.processes.remove(&process);
        }
    }
}

/// Whether this is an export of spans that was taken: the method of OTLP/gRPC, or a POST to the path of
/// OTLP/HTTP by what calls itself an exporter (opentelemetry.io/docs/specs/otlp, /protocol/exporter, "User
/// Agent").
pub(super) fn is_export(exchange: &Exchange) -> bool {
    let taken = exchange.role == Role::Client
        && exchange
            .response
            .as_ref()
            .is_some_and(|response| response.client_error.is_none());
    let asked = &exchange.request.attributes;
    let by_grpc = || text(asked, "rpc.method") == Some(METHOD);
    let by_http = || {
        let path = text(asked, "url.path").is_some_and(|path| path.ends_with(PATH));
        path && exchange.request.operation == "POST"
            && text(asked, "user_agent.original").is_some_and(is_exporter)
    };
    taken && (by_grpc() || by_http())
}

fn is_exporter(agent: &str) -> bool {
    let agent = agent.get(..agent.len().min(LOOKED_AT)).unwrap_or_default();
    let agent = agent.to_ascii_lowercase();
    EXPORTERS.iter().any(|word| agent.contains(word))
}

fn text<'a>(attributes: &'a Attributes, key: &str) -> Option<&'a str> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match &found.value {
        Value::Str(text) => Some(text),
        _ => None,
    }
}

const METHOD: &str = "opentelemetry.proto.collector.trace.v1.TraceService/Export";
const PATH: &str = "/v1/traces";
/// `OTel-OTLP-Exporter-Python/1.38`, `OTel OTLP Exporter Go/1.38`, `OpenTelemetry Collector/0.1`.
const EXPORTERS: [&str; 3] = ["otel", "otlp", "opentelemetry"];
/// Of a user agent.
const LOOKED_AT: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_forgotten_with_its_time() {
        let mut known = Instrumented::new(2);
        assert!(known.insert(1) && !known.insert(1) && known.insert(2));
        assert!(!known.insert(3) && !known.has(3));
        known.forget(1, 100);
        known.sweep(99);
        assert!(known.has(1));
        // Another program of that name, which exports as well.
        known.insert(1);
        known.forget(2, 100);
        known.sweep(100);
        assert!(known.has(1) && !known.has(2) && known.insert(3));
    }

    #[test]
    fn exporters_say_what_they_are() {
        for agent in [
            "OTel-OTLP-Exporter-Python/1.38.0",
            "OTel OTLP Exporter Go/1.38.0",
            "OTel-OTLP-Exporter-JavaScript/0.207.0",
            "OpenTelemetry Collector Contrib/0.140.1 (linux/amd64)",
        ] {
            assert!(is_exporter(agent), "{agent}");
        }
        let long = "\u{e4}".repeat(1000);
        for agent in ["", "curl/8.14", "hotel/1", &long] {
            assert_eq!(is_exporter(agent), agent.contains("otel"), "{agent}");
        }
    }
}
