//! Gives each exchange its trace and its parent, with the evidence; or none.
//!
//! [`linker::Linker`] is fed the facts of all shards and gives [`Linked`] exchanges. Evidence, in
//! order: a header the application sent ([`context`], `b3`), the message's name on both ends of
//! its connection, the thread or goroutine that was serving when a call was made (`units`), what a thread
//! answers next (`answers`), what a
//! proxy was asked and asks (`forward`). A wrong parent is worse than none: what is not exact makes
//! a root, but where somebody asks for what is likely as well (`infer`).

mod answers;
mod b3;
pub mod context;
mod descent;
mod detach;
mod forward;
pub mod ids;
mod infer;
mod instrumented;
mod lanes;
mod lineage;
pub mod linker;
mod links;
mod place;
mod promises;
mod scorer;
mod settings;
mod streams;
mod table;
mod tasks;
#[cfg(test)]
mod tests;
mod turns;
mod units;

use std::borrow::Cow;

use crate::event::Nanos;
use crate::exchange::Exchange;
use crate::stats::Stats;

pub use context::{RANDOM, SAMPLED};
pub use ids::Ids;
pub use linker::Linker;
pub use settings::Settings;

/// 16 bytes, not all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceId(pub [u8; 16]);

/// 8 bytes, not all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanId(pub [u8; 8]);

/// Why a span has the parent it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// The request carried a `traceparent`.
    TraceParent,
    /// The request carried B3 headers.
    B3,
    /// A TCP option came with the request; the stream key names the span that sent it.
    Option,
    /// Both ends of one connection were seen; the stream key names the message.
    StreamKey,
    /// The thread that sent the request was serving exactly one exchange.
    Thread,
    /// The goroutine that asked for the request was serving exactly one exchange.
    Goroutine,
    /// A proxy hands on a request: the call says what exactly one that it served says.
    Forwarded,
    /// The task of asyncio's that sent the request, or one that started it, was serving exactly one.
    Asyncio,
    /// What Node.js did when it sent the request goes back, by async ids, to the turn that exactly one
    /// exchange began.
    AsyncId,
    /// The thread that sent the request ran a task that a thread had made which was serving exactly one.
    Task,
    /// Of all that were being served, when it was made and answered makes this one likely.
    Inferred,
    /// The thread that sent the request answered exactly one exchange next, which another may have read.
    Answer,
}

impl Method {
    /// The value of `spantap.link.method`.
    pub fn name(self) -> &'static str {
        match self {
            Method::TraceParent => "traceparent",
            Method::B3 => "b3",
            Method::Option => "tcp_option",
            Method::StreamKey => "stream_key",
            Method::Thread => "thread",
            Method::Goroutine => "goroutine",
            Method::Forwarded => "forwarded",
            Method::Asyncio => "asyncio",
            Method::AsyncId => "async_id",
            Method::Task => "task",
            Method::Inferred => "inferred",
            Method::Answer => "answer",
        }
    }
}

impl Method {
    /// Counts a span by what gave it its parent.
    fn count(method: Option<Self>, stats: &Stats) {
        let counter = match method {
            None => &stats.trace_roots,
            Some(Method::TraceParent | Method::B3) => &stats.trace_by_header,
            Some(Method::Option) => &stats.trace_by_option,
            Some(Method::StreamKey) => &stats.trace_by_stream_key,
            Some(Method::Thread) => &stats.trace_by_thread,
            Some(Method::Goroutine) => &stats.trace_by_goroutine,
            Some(Method::Forwarded) => &stats.trace_by_forwarded,
            Some(Method::Asyncio) => &stats.trace_by_asyncio,
            Some(Method::AsyncId) => &stats.trace_by_async_id,
            Some(Method::Task) => &stats.trace_by_task,
            Some(Method::Inferred) => &stats.trace_by_inference,
            Some(Method::Answer) => &stats.trace_by_answer,
        };
        counter.add(1);
    }
}

/// A parent and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parent {
    /// The parent's span id.
    pub span: SpanId,
    /// Whether it came over the wire rather than from this process (OTLP's is_remote flag).
    pub remote: bool,
    /// Evidence.
    pub method: Method,
    /// 0 to 1; 1 is exact.
    pub confidence: f64,
}

/// A span this one is related to without being its child.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// Trace.
    pub trace: TraceId,
    /// Span.
    pub span: SpanId,
    /// Why it is linked: the value of `spantap.link.reason`.
    pub reason: Cow<'static, str>,
}

/// The reason of a link to what is likely its parent, in another trace: the next host was told of this one
/// before that was known.
pub const CARRIED: &str = "carried";
/// The reason of a link to a context that came from where nobody is trusted.
pub const UNTRUSTED: &str = "untrusted";

/// An exchange with its place in a trace.
#[derive(Clone, Debug)]
pub struct Linked {
    /// The exchange.
    pub exchange: Box<Exchange>,
    /// Its trace.
    pub trace: TraceId,
    /// Its span.
    pub span: SpanId,
    /// Its parent, if any.
    pub parent: Option<Parent>,
    /// W3C trace flags that came with the context; bit 0 sampled. None where nothing came: the
    /// sampler then decides for the root.
    pub flags: Option<u8>,
    /// W3C tracestate that came with the context.
    pub state: Option<Box<str>>,
    /// Related spans.
    pub links: Vec<Link>,
    /// When its parent began, where the parent is on this host: the span never begins before.
    pub not_before: Option<Nanos>,
    /// When the first exchange of its trace on this host began that is known of.
    pub begin: Nanos,
}
