//! A byte stream becomes messages. One protocol is one file and one line of the registry.
//!
//! A [`Protocol`] recognises itself in the first bytes of a turn, by content and never by port, and
//! makes a [`Parser`] for a connection. The parser reads both directions of that connection, since
//! a response cannot be read without its request; [`conversation`] feeds it.
//!
//! Never true here: that a clock is read, that bytes are kept after they were read, or that a
//! parser invents a message after a hole: it waits for the next turn that begins like one.

use std::sync::Arc;
use std::time::Duration;

use self::known::Common;
use self::sql::Described;
use crate::config::Config;
use crate::connection::stream::Stream;
use crate::event::Role;
use crate::stats::Stats;

#[cfg(test)]
mod bench;
mod carrier;
pub mod conversation;
pub mod database;
pub mod grpc;
pub mod http;
pub mod json;
pub mod known;
mod likeness;
mod message;
pub mod messaging;
pub mod order;
pub mod pace;
pub mod reader;
mod seek;
pub mod sniff;
pub mod sql;
pub mod template;
mod told;
mod waiting;

pub use carrier::Carrier;
pub use message::{
    Attribute, Attributes, Fault, Finish, Flow, Kind, MAX_LINKS, Message, PUSHED, Pairing, Part,
    Request, Response, Revision, Value, replace, weight,
};

/// Protocols whose clients gather what their callers publish, and send it with whatever is sent next, by
/// whomever.
pub const GATHERED: [&str; 1] = ["nats"];

/// What is spoken over streams, whose heads one unit of execution may read or write for all.
pub const STREAMS: [&str; 2] = ["http2", grpc::NAME];

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
    /// FastCGI 1.0: HTTP from a web server to an application (FastCGI specification, CGI/1.1).
    fastcgi,
    /// WebSocket (RFC 6455), which begins as HTTP/1.1.
    websocket,
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
    /// Beanstalkd (its `doc/protocol.txt`).
    beanstalkd,
    /// Kafka (<https://kafka.apache.org/protocol>).
    kafka,
    /// AMQP 0-9-1 as RabbitMQ speaks it (specification 0-9-1, and RabbitMQ's extensions).
    amqp,
    /// NATS: its client protocol, and JetStream in it (<https://docs.nats.io/reference/reference-protocols/nats-protocol>).
    nats,
    /// MQTT 3.1, 3.1.1 and 5.0 (OASIS).
    mqtt,
    /// MongoDB: commands in `OP_MSG` (<https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/>).
    mongodb,
    /// CQL, as Cassandra speaks it (its native protocol, versions 3 to 5).
    cassandra,
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

    /// Whether its requests are HTTP's, handed on by a web server to an application: their bodies have
    /// HTTP's sizes, and they say for which client they are.
    fn hands_on_http(&self) -> bool {
        false
    }

    /// Makes the parser of one connection.
    fn parser(&self, setup: Setup) -> Box<dyn Parser>;
}

/// Whether the protocol of this name hands on requests of HTTP.
pub fn hands_on_http(name: &str) -> bool {
    let named = |protocol: &&&dyn Protocol| protocol.name() == name;
    ALL.iter()
        .find(named)
        .is_some_and(|protocol| protocol.hands_on_http())
}

impl std::fmt::Debug for dyn Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
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
    /// The process whose end it is.
    pub process: u32,
    /// Whether the bytes are counted from the connection's first: of a unix socket nobody knows.
    pub counted: bool,
    /// The configuration.
    pub config: Arc<Config>,
    /// What connections know of each other.
    pub shared: Arc<Shared>,
}

/// What is told on one connection and needed on another; one for all of an agent. Each part is bounded
/// by itself.
#[derive(Debug, Default)]
pub struct Shared {
    /// Names of topics, by their ids.
    pub topics: Common<Box<str>>,
    /// Prepared statements, by their ids.
    pub statements: Common<Arc<Described>>,
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

    /// Records were lost: messages of this flow may be missing behind what was read of it, from before
    /// the bytes of the other flow that are read next. `feed` is this flow's; where they are missing it
    /// will show by a hole. Numbers that are not used again pair all the same.
    fn missed(&mut self, _flow: Flow, _feed: &mut Feed<'_>) {}

    /// The flow is over: `clean` when its sender ended it, false when the connection broke.
    fn close(&mut self, flow: Flow, clean: bool, feed: &mut Feed<'_>);

    /// Nothing has come for a while: ends what can only be seen to have ended by silence.
    fn quiet(&mut self, _flow: Flow, _feed: &mut Feed<'_>) {}

    /// Nothing has come for the configured time-out, and no exchange is open.
    fn time_out(&mut self, _feed: &mut Feed<'_>) {}

    /// Nothing has come for the configured time-out: what this does not end times out.
    fn silenced(&mut self, _feed: &mut Feed<'_>) {}

    /// Whose the rest is, once it has left: both sides agreed on another protocol that is known here.
    fn successor(&mut self) -> Option<(&'static dyn Protocol, Box<dyn Parser>)> {
        None
    }

    /// Whether every byte is to be seen, wherever in a call it is, since the connection can be followed
    /// only so, or since a body is read to its end: the copy budget does not hold as long as this is so.
    fn needs_whole(&self) -> bool {
        false
    }

    /// What it costs to hold beyond itself, in bytes: 0 where few wait for an answer.
    fn weight(&self) -> usize {
        0
    }
}
