//! Messages become exchanges: a request, its response, and when each began and ended.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::connection::Mark;
use crate::event::{Address, ConnectionId, Ending, Nanos, Role, StreamKey};
use crate::protocol::{Carrier, Fault, Finish, Request, Response};

/// What is known of the connection an exchange happened on; shared by all of them.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Which connection end.
    pub connection: ConnectionId,
    /// This end.
    pub local: Address,
    /// The other end.
    pub remote: Address,
    /// Who we are in the dialogue (by content where the kernel did not say).
    pub role: Role,
    /// The connection's name on both ends.
    pub key: Option<StreamKey>,
    /// Network namespace inode; 0 unknown.
    pub netns: u32,
    /// comm of the thread that first used it.
    pub comm: Box<str>,
}

/// Names one message on the wire on both ends: the same on the client's host and the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MessageKey {
    /// The connection.
    pub stream: StreamKey,
    /// Offset of the request's first byte in the client → server direction.
    pub offset: u64,
    /// [`crate::protocol::Pairing::Number`], or 0.
    pub number: u64,
}

/// Names an exchange inside this agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExchangeId(pub u64);

/// How an exchange came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The response ended.
    Complete,
    /// The connection ended first.
    Broken(Ending),
    /// Nothing moved for the configured time-out; no response was seen.
    TimedOut,
    /// The protocol was left (101, CONNECT 2xx) with this exchange as the last.
    Upgraded,
    /// Given up by this agent (table full, resynchronised): its end is unknown.
    Abandoned,
}

/// A request's head was read: it is open. Sent at once, so that links can be made.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Which exchange.
    pub id: ExchangeId,
    /// Its connection.
    pub peer: Arc<Peer>,
    /// First byte of the request, and who moved it.
    pub start: Mark,
    /// Who moved the last byte of the request's head (who starts to serve it, on the server side).
    pub head: Mark,
    /// Its name on the wire.
    pub key: Option<MessageKey>,
    /// What it says about its trace.
    pub carrier: Option<Box<Carrier>>,
}

/// A request, its response (if any), and the four moments of their bytes.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Which exchange; the same as in its [`Opened`].
    pub id: ExchangeId,
    /// Its connection.
    pub peer: Arc<Peer>,
    /// Its name on the wire.
    pub key: Option<MessageKey>,
    /// The request.
    pub request: Box<Request>,
    /// The response.
    pub response: Option<Box<Response>>,
    /// First byte of the request.
    pub start: Mark,
    /// Last byte of the request, when seen.
    pub request_end: Option<(Mark, Finish)>,
    /// First byte of the final response.
    pub response_start: Option<Mark>,
    /// Last byte of the response.
    pub response_end: Option<(Mark, Finish)>,
    /// The moment of the end, whatever made it.
    pub end: Nanos,
    /// What made it.
    pub outcome: Outcome,
    /// What its span must say about its bytes.
    pub faults: SmallVec<[Fault; 1]>,
}

/// What leaves this stage.
#[derive(Clone, Debug)]
pub enum Fact {
    /// An exchange opened.
    Opened(Box<Opened>),
    /// It ended.
    Closed(Box<Exchange>),
}
