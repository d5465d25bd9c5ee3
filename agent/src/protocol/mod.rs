//! A byte stream becomes messages. One protocol is one file and one line of the registry.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::connection::Mark;
use crate::event::Hole;

/// Which half of the dialogue a stream carries, whatever side we watch it from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flow {
    /// From the one who asks.
    Request,
    /// From the one who answers.
    Response,
}

/// An attribute's value, as OpenTelemetry has them.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text.
    Str(Cow<'static, str>),
    /// 64-bit integer.
    Int(i64),
    /// Truth.
    Bool(bool),
    /// Floating point.
    Double(f64),
    /// Texts.
    List(Vec<String>),
}

/// A key from the semantic conventions and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    /// The key.
    pub key: Cow<'static, str>,
    /// The value.
    pub value: Value,
}

/// Attributes in the order they were found; no key twice.
pub type Attributes = Vec<Attribute>;

/// What pairs a response with its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pairing {
    /// The order on the connection (HTTP/1).
    Order,
    /// A number the protocol gives both (HTTP/2 stream, correlation id).
    Number(u64),
}

/// Headers that may carry a trace context, as found on the wire; `trace` judges them.
/// Values are as sent, trimmed; several of one name are joined with `,` in wire order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carrier {
    /// `traceparent`: every value found, since more than one makes it invalid.
    pub traceparent: SmallVec<[Box<str>; 1]>,
    /// `tracestate`.
    pub tracestate: Option<Box<str>>,
    /// `baggage`.
    pub baggage: Option<Box<str>>,
    /// `b3`.
    pub b3: Option<Box<str>>,
    /// `x-b3-traceid`.
    pub b3_trace_id: Option<Box<str>>,
    /// `x-b3-spanid`.
    pub b3_span_id: Option<Box<str>>,
    /// `x-b3-sampled`.
    pub b3_sampled: Option<Box<str>>,
    /// `x-b3-flags`.
    pub b3_flags: Option<Box<str>>,
}

/// The head of a request: what is asked, in semantic-convention terms.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The protocol that read it (its registry name).
    pub protocol: &'static str,
    /// First part of the span's name, low in cardinality: the HTTP method, the SQL operation.
    pub operation: Cow<'static, str>,
    /// Attributes known from the request, for either side, unredacted.
    pub attributes: Attributes,
    /// What it says about its trace; boxed, as most say nothing.
    pub carrier: Option<Box<Carrier>>,
}

/// The head of the (final) response.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// Attributes known from the response.
    pub attributes: Attributes,
    /// `error.type` if this answer is an error to the one who asked (HTTP: 4xx and 5xx).
    pub client_error: Option<Cow<'static, str>>,
    /// `error.type` if it is an error of the one who answered (HTTP: 5xx).
    pub server_error: Option<Cow<'static, str>>,
}

/// The last byte of a message has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finish {
    /// Bytes of body, as on the wire after the head.
    pub body: u64,
    /// False where the end or the size was inferred (after a hole, or by the next message's start).
    pub exact: bool,
    /// False when the stream ended before the message did.
    pub whole: bool,
}

/// Something a span must say about the bytes it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Bytes inside the message were not captured.
    Missing {
        /// Why.
        cause: Hole,
        /// How many.
        bytes: u64,
    },
    /// The message breaks its protocol in a way that matters (request smuggling shapes, …).
    Suspicious(&'static str),
    /// The bytes stopped making sense; the parser resynchronises.
    Malformed(&'static str),
}

/// What a parser found.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// A request's head is whole; `at` is its first byte.
    Request(Box<Request>),
    /// The final response's head is whole; `at` is its first byte.
    Response(Box<Response>),
    /// An interim response (HTTP 1xx), by its code.
    Interim(u16),
    /// The message is over; `at` is its last byte.
    Finish(Finish),
    /// To be said on the exchange this message belongs to.
    Fault(Fault),
    /// From here on the connection speaks something else (101, CONNECT): nothing more will come.
    Upgrade,
}

/// One finding of a parser in one flow of one connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Which half of the dialogue.
    pub flow: Flow,
    /// What pairs it.
    pub pairing: Pairing,
    /// The byte it speaks of.
    pub at: Mark,
    /// What was found.
    pub part: Part,
}
