//! A linked exchange becomes an OpenTelemetry span.

mod build;
pub mod moment;
mod place;
pub mod route;
pub mod semconv;

use std::borrow::Cow;
use std::sync::Arc;

use crate::protocol::Attributes;
use crate::trace::{Link, Parent, SpanId, TraceId};

pub use build::Builder;

/// OpenTelemetry span kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpanKind {
    /// Answers.
    Server,
    /// Asks.
    Client,
    /// Gives messages to a broker.
    Producer,
    /// Is handed messages.
    Consumer,
}

impl SpanKind {
    /// In lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Producer => "producer",
            Self::Consumer => "consumer",
        }
    }

    /// Whether it is of who was asked.
    pub fn is_inbound(self) -> bool {
        matches!(self, Self::Server | Self::Consumer)
    }
}

/// OpenTelemetry span status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Status {
    /// Nothing to say.
    #[default]
    Unset,
    /// An error, with a description (may be empty).
    Error(Cow<'static, str>),
}

/// Something that happened at one moment of a span.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanEvent {
    /// Name.
    pub name: Cow<'static, str>,
    /// Unix time, nanoseconds.
    pub time: u64,
    /// Attributes.
    pub attributes: Attributes,
}

/// Who a span belongs to: one service instance. Compared by address (`Arc::ptr_eq`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resource {
    /// `service.name` and the rest, by the semantic conventions.
    pub attributes: Attributes,
    /// The program as people know it, for lines: the name it was started under. May be empty.
    pub program: String,
}

impl Resource {
    /// The value of `service.name`.
    pub fn service(&self) -> &str {
        self.attributes
            .iter()
            .find(|a| a.key == "service.name")
            .and_then(|a| match &a.value {
                crate::protocol::Value::Str(name) => Some(name.as_ref()),
                _ => None,
            })
            .unwrap_or("unknown_service")
    }
}

/// A span, ready but for policy.
#[derive(Clone, Debug)]
pub struct Span {
    /// Trace.
    pub trace: TraceId,
    /// Span.
    pub id: SpanId,
    /// Parent.
    pub parent: Option<Parent>,
    /// W3C trace flags (bit 0 sampled).
    pub flags: u8,
    /// W3C tracestate.
    pub state: Option<Box<str>>,
    /// Kind.
    pub kind: SpanKind,
    /// Name.
    pub name: Cow<'static, str>,
    /// Unix time of the first byte, nanoseconds.
    pub start: u64,
    /// Unix time of the last byte, nanoseconds; never before `start`.
    pub end: u64,
    /// Attributes, no key twice.
    pub attributes: Attributes,
    /// Attributes left out by a limit.
    pub dropped_attributes: u32,
    /// Events.
    pub events: Vec<SpanEvent>,
    /// Links.
    pub links: Vec<Link>,
    /// Status.
    pub status: Status,
    /// Whose it is.
    pub resource: Arc<Resource>,
    /// Process, for people.
    pub process: u32,
}
