//! What parsers find: messages, in the terms of the semantic conventions.
//!
//! Never true here: that anything in it points into captured bytes.

use std::borrow::Cow;
use std::num::NonZeroU64;
use std::sync::Arc;

use super::{Carrier, tls};
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

impl Flow {
    /// The other half.
    pub fn opposite(self) -> Self {
        match self {
            Self::Request => Self::Response,
            Self::Response => Self::Request,
        }
    }
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

/// What pairs a response with its request: equal values on one connection belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pairing {
    /// The order on the connection (HTTP/1), as the parser counted it ([`super::order`]); the number means
    /// nothing outside this agent.
    Order(u64),
    /// A number the protocol gives both, once on a connection (HTTP/2 stream).
    Number(u64),
    /// The same, which may be given again once it is answered (CQL stream, correlation id): it names a
    /// message together with where that begins.
    Slot(u64),
}

/// The bit of [`Pairing`]'s number that exchanges have which the answering side opened (a broker that
/// delivers a message), so that they never pair with those of the asking side.
pub const PUSHED: u64 = 1 << 63;

/// What an exchange is, where its two sides are not just client and server. The span's kind follows
/// from it (messaging spans, "span kind").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A call: CLIENT and SERVER.
    #[default]
    Call,
    /// Messages are given to a broker: PRODUCER, and SERVER at the broker.
    Send,
    /// A message is handed to its consumer: CONSUMER, and CLIENT at the broker.
    Process,
}

/// The head of a request: what is asked, in semantic-convention terms.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The protocol that read it (its registry name).
    pub protocol: &'static str,
    /// The span's name, low in cardinality: `SELECT orders`, `publish orders`. Of HTTP the method: the
    /// route comes behind it.
    pub operation: Cow<'static, str>,
    /// What it is to its two sides.
    pub kind: Kind,
    /// Attributes known from the request, for either side, unredacted.
    pub attributes: Attributes,
    /// What it says about its trace; boxed, as most say nothing.
    pub carrier: Option<Box<Carrier>>,
    /// What each of several messages in it says about its own trace; at most [`MAX_LINKS`].
    pub messages: Vec<Carrier>,
    /// Of HTTP, what a proxy hands on as it came: requests that agree in that have the same number, in
    /// this process alone (`protocol/likeness.rs`).
    pub likeness: Option<NonZeroU64>,
}

/// Most messages of one exchange whose contexts are kept: each becomes a link of its span.
pub const MAX_LINKS: usize = 64;

/// The head of the (final) response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Response {
    /// Attributes known from the response.
    pub attributes: Attributes,
    /// `error.type` if this answer is an error to the one who asked (HTTP: 4xx and 5xx).
    pub client_error: Option<Cow<'static, str>>,
    /// `error.type` if it is an error of the one who answered (HTTP: 5xx).
    pub server_error: Option<Cow<'static, str>>,
    /// As [`Request::messages`], of those that came with the answer.
    pub messages: Vec<Carrier>,
}

/// The last byte of a message has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finish {
    /// Bytes of body as transferred, without the framing of chunks.
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
    /// Fields of a head are not known: they point to what was not seen.
    Partial,
}

/// What a parser found.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// A request's head is whole; `at` is its first byte, the mark here that of its last.
    Request(Box<Request>, Mark),
    /// The final response's head is whole; `at` is its first byte.
    Response(Box<Response>),
    /// What follows the response's body says more of how it went: attributes are added, and an error
    /// takes the place of the head's. `at` is its first byte.
    Trailers(Box<Response>),
    /// This side gave up the exchange, with the name of the protocol's code for it.
    Reset(&'static str),
    /// The message is over; `at` is its last byte.
    Finish(Finish),
    /// To be said on the exchange this message belongs to.
    Fault(Fault),
    /// From here on the connection speaks something else (101, CONNECT): nothing more will come.
    Upgrade,
    /// What is asked was answered, but the exchange goes on for as long as the two like to talk, or may
    /// go on: what the threads do from here on is not for it alone.
    Detach,
    /// From here on the connection is ciphertext, with what its hellos agreed on where they were
    /// seen: nothing more will come.
    Encrypted(Option<Arc<tls::Handshake>>),
    /// What came after a request's head says more of it.
    Revise(Box<Revision>),
    /// What follows of the exchange has this pairing: its protocol is another one from here on.
    Rename(Pairing),
    /// The request's response cannot be told from others any more (bytes are missing).
    Abandon,
    /// The exchange turned out to be worth no span (a poll that brought nothing): it is counted only.
    Dismiss,
    /// The exchange waits for what may not come: without a response no end of it is worth a span.
    Poll,
}

/// What changes in a request that was told before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Revision {
    /// It is of this protocol, and of this operation.
    pub kind: Option<(&'static str, Cow<'static, str>)>,
    /// Attributes it does not have any more.
    pub without: &'static [&'static str],
    /// Attributes it has besides.
    pub with: Attributes,
}

impl Revision {
    /// Changes a request.
    pub fn apply(self, request: &mut Request) {
        if let Some(kind) = self.kind {
            (request.protocol, request.operation) = kind;
        }
        let gone = |a: &Attribute| self.without.contains(&a.key.as_ref());
        request.attributes.retain(|attribute| !gone(attribute));
        replace(&mut request.attributes, self.with);
    }
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

/// Adds attributes, in the place of those of the same key.
pub fn replace(attributes: &mut Attributes, with: Attributes) {
    for new in with {
        match attributes.iter_mut().find(|old| old.key == new.key) {
            Some(old) => *old = new,
            None => attributes.push(new),
        }
    }
}

/// What attributes cost to hold, in bytes.
pub fn weight(attributes: &Attributes) -> usize {
    let text = |text: &Cow<'static, str>| match text {
        Cow::Owned(text) => text.capacity(),
        Cow::Borrowed(_) => 0,
    };
    let value = |value: &Value| match value {
        Value::Str(s) => text(s),
        Value::List(list) => list
            .iter()
            .map(|s| s.capacity().saturating_add(size_of::<String>()))
            .fold(0, usize::saturating_add),
        Value::Int(_) | Value::Bool(_) | Value::Double(_) => 0,
    };
    attributes
        .iter()
        .map(|a| text(&a.key).saturating_add(value(&a.value)))
        .fold(
            attributes.capacity().saturating_mul(size_of::<Attribute>()),
            usize::saturating_add,
        )
}

impl Request {
    /// A call of this protocol, by this name, that says nothing of its trace.
    pub fn call(
        protocol: &'static str,
        operation: impl Into<Cow<'static, str>>,
        attributes: Attributes,
    ) -> Self {
        Self {
            protocol,
            operation: operation.into(),
            kind: Kind::Call,
            attributes,
            carrier: None,
            messages: Vec::new(),
            likeness: None,
        }
    }

    /// What it costs to hold beyond itself, in bytes.
    pub fn weight(&self) -> usize {
        let own = self.carrier.as_deref().map_or(0, Carrier::weight);
        weight(&self.attributes)
            .saturating_add(own)
            .saturating_add(carriers(&self.messages))
    }
}

impl Response {
    /// What it costs to hold beyond itself, in bytes.
    pub fn weight(&self) -> usize {
        weight(&self.attributes).saturating_add(carriers(&self.messages))
    }
}

fn carriers(messages: &[Carrier]) -> usize {
    let each = messages.iter().map(Carrier::weight);
    each.fold(0, usize::saturating_add)
}

impl Attribute {
    /// An attribute with a text that is known beforehand.
    pub const fn fixed(key: &'static str, value: &'static str) -> Self {
        Self {
            key: Cow::Borrowed(key),
            value: Value::Str(Cow::Borrowed(value)),
        }
    }

    /// An attribute with a text.
    pub fn text(key: &'static str, value: String) -> Self {
        Self {
            key: Cow::Borrowed(key),
            value: Value::Str(Cow::Owned(value)),
        }
    }

    /// An attribute with a number.
    pub const fn int(key: &'static str, value: i64) -> Self {
        Self {
            key: Cow::Borrowed(key),
            value: Value::Int(value),
        }
    }
}
