//! A byte stream becomes messages. One protocol is one file and one line of the registry.
//!
//! A [`Protocol`] recognises itself in the first bytes of a turn, by content and never by port, and
//! makes a [`Parser`] for a connection. The parser reads both directions of that connection, since
//! a response cannot be read without its request; [`conversation`] feeds it.
//!
//! Never true here: that a clock is read, that bytes are kept after they were read, or that a
//! parser invents a message after a hole: it waits for the next turn that begins like one.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::connection::Mark;
use crate::connection::stream::Stream;
use crate::event::{Hole, Role};
use crate::stats::Stats;

mod carrier;
pub mod conversation;
pub mod database;
pub mod grpc;
pub mod http;
pub mod known;
pub mod messaging;
pub mod order;
pub mod pace;
pub mod reader;
pub mod sniff;
pub mod sql;

pub use carrier::Carrier;
pub mod template;

/// Declares the protocols: each line makes the module and its entry in [`ALL`], in sniffing order.
macro_rules! registry {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        $($(#[doc = $doc])+ pub mod $name;)+

        /// Every protocol, in the order in which they are asked whether bytes are theirs.
        pub static ALL: &[&dyn Protocol] = &[$($name::PROTOCOL),+];
    };
}

registry! {
    /// TLS: its hellos (RFC 8446, RFC 5246). First, as six bytes decide, which can begin no text and
    /// no frame of HTTP/2: it would be longer than any may be before more was agreed on.
    tls,
    /// HTTP/1.0 and HTTP/1.1 (RFC 9110, RFC 9112).
    http1,
    /// HTTP/2 (RFC 9113), and gRPC in it.
    http2,
    /// DNS over UDP and TCP (RFC 1035).
    dns,
    /// PostgreSQL (frontend/backend protocol 3.0 and 3.2).
    postgresql,
    /// MySQL and MariaDB (their client/server protocol, version 10).
    mysql,
    /// Redis: RESP2 and RESP3 (the Redis serialization protocol specification).
    redis,
    /// memcached: text with meta commands, and binary (its `doc/protocol.txt`).
    memcached,
    /// Kafka (<https://kafka.apache.org/protocol>).
    kafka,
    /// AMQP 0-9-1 as RabbitMQ speaks it (specification 0-9-1, and RabbitMQ's extensions).
    amqp,
    /// NATS: its client protocol, and JetStream in it (<https://docs.nats.io/reference/reference-protocols/nats-protocol>).
    nats,
    /// MQTT 3.1, 3.1.1 and 5.0 (OASIS).
    mqtt,
}

/// One protocol.
pub trait Protocol: Sync {
    /// Its name in the registry, in [`Request::protocol`] and in `docs`.
    fn name(&self) -> &'static str;

    /// Whether a turn that begins with `bytes` is one of its messages. Looks at a bounded number of
    /// bytes, since it is asked again when more have come.
    fn sniff(&self, bytes: &[u8]) -> Verdict;

    /// The same on a connection whose beginning was not seen.
    fn sniff_amid(&self, bytes: &[u8]) -> Verdict {
        self.sniff(bytes)
    }

    /// Ports its servers usually listen on. They decide nothing: where several protocols may be it,
    /// those whose port it is are asked first.
    fn ports(&self) -> &'static [u16] {
        &[]
    }

    /// Whether it is spoken over UDP too. Each datagram then comes as a turn, behind its length in two
    /// bytes.
    fn has_datagrams(&self) -> bool {
        false
    }

    /// How long one of its exchanges lasts without any byte before it has timed out, where that is
    /// not for the configuration to say.
    fn patience(&self) -> Option<Duration> {
        None
    }

    /// Whether it can be followed only where every byte that is not a body's is seen, wherever in a
    /// call it is: the copy budget does not hold then.
    fn needs_whole(&self) -> bool {
        false
    }

    /// Makes the parser of one connection.
    fn parser(&self, setup: Setup) -> Box<dyn Parser>;
}

/// What a protocol says of a turn's first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Mine, and this half of the dialogue: nothing else begins so.
    Is(Flow),
    /// Like this half of a dialogue of mine: believed once the other side's turn is like the other.
    Likely(Flow),
    /// Perhaps: more bytes are needed.
    More,
    /// Not mine, whatever follows.
    Not,
}

/// What a parser is told when it is made.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Which side of the dialogue this end is.
    pub role: Role,
    /// Whether TLS protects the bytes on their way.
    pub secure: bool,
    /// The configuration.
    pub config: Arc<Config>,
}

/// What a parser reads from and writes to.
#[derive(Debug)]
pub struct Feed<'a> {
    /// The flow's bytes.
    pub stream: &'a mut Stream,
    /// Where findings go.
    pub out: &'a mut Vec<Message>,
    /// Where losses are counted.
    pub stats: &'a Stats,
}

/// Whether a parser still has a use for the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Status {
    /// It has.
    Stay,
    /// It has not: what follows is not its protocol.
    Leave,
    /// It never was its protocol: the verdict is withdrawn, and what it found that is not over goes
    /// without a span. Others are asked from the next turn on.
    Mistaken,
}

/// The state of one connection that speaks a protocol. Total: any bytes, in any portions, with any
/// holes, end without a panic and in time that grows with their number.
pub trait Parser: Send + std::fmt::Debug {
    /// Reads what has come of one flow, as far as it can.
    fn parse(&mut self, flow: Flow, feed: &mut Feed<'_>) -> Status;

    /// Bytes of an answer have come and are read next. What `feed`, the other flow, holds back until
    /// they tell how it is to be read, is read now.
    fn answer(&mut self, _feed: &mut Feed<'_>) -> Status {
        Status::Stay
    }

    /// The flow is over: `clean` when its sender ended it, false when the connection broke.
    fn close(&mut self, flow: Flow, clean: bool, feed: &mut Feed<'_>);

    /// Nothing has come for a while: ends what can only be seen to have ended by silence.
    fn quiet(&mut self, _flow: Flow, _feed: &mut Feed<'_>) {}

    /// Nothing has come for the configured time-out, and no exchange is open.
    fn time_out(&mut self, _feed: &mut Feed<'_>) {}

    /// All that was open has timed out.
    fn silenced(&mut self) {}

    /// Whose the rest is, once it has left: both sides agreed on another protocol that is known here.
    fn successor(&mut self) -> Option<(&'static dyn Protocol, Box<dyn Parser>)> {
        None
    }

    /// What it costs to hold beyond itself, in bytes: 0 where few wait for an answer.
    fn weight(&self) -> usize {
        0
    }
}

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
    /// The order on the connection (HTTP/1), as the parser counted it ([`order`]); the number means
    /// nothing outside this agent.
    Order(u64),
    /// A number the protocol gives both (HTTP/2 stream, correlation id).
    Number(u64),
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
        request.attributes.extend(self.with);
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
