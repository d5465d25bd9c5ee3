//! Messages become exchanges: a request, its response, and when each began and ended.
//!
//! [`Exchanges`] holds the open ones of one connection. A request's head opens an exchange, its
//! response's last byte closes it; so do the end of the connection, silence, an upgrade, and the
//! parser's word that its response cannot be known any more.
//!
//! Never true here: that an exchange is opened by a response, closed twice or not at all, or ends
//! before it started.

mod peer;

use std::num::NonZeroU64;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::connection::Mark;
use crate::event::{Carried, Ending, Java, Nanos, Role, Started, StreamKey, Taken};
use crate::protocol::{
    Carrier, Fault, Finish, Flow, GATHERED, MAX_LINKS, Message, Pairing, Part, Request, Response,
    STREAMS, replace,
};
use crate::stats::Stats;
pub use peer::Peer;

/// Most exchanges open at once on one connection; past that the oldest is abandoned.
pub const MAX_OPEN: usize = 1024;
/// Most faults kept of one exchange; equal causes are summed up first.
pub const MAX_FAULTS: usize = 8;
/// Places for open exchanges that a connection may keep while none is open.
const KEEP: usize = 8;

/// Names one message on the wire on both ends: the same on the client's host and the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MessageKey {
    /// The connection.
    pub stream: StreamKey,
    /// Offset of the request's first byte in the client → server direction; 0 where it has a number that
    /// is not given again.
    /// In a TLS session the highest bit is set: what its carrier says before it is something else. The
    /// next is set where the server began, and the offset is of the other direction.
    pub offset: u64,
    /// [`crate::protocol::Pairing::Number`] or [`crate::protocol::Pairing::Slot`], or 0.
    pub number: u64,
}

/// The bit of [`MessageKey::offset`] that says so.
const SESSION: u64 = 1 << 63;
/// The bit that says that the answering side opened it.
const REVERSED: u64 = 1 << 62;

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
    /// One side gave it up, with this code of the protocol's.
    Reset(&'static str),
    /// Nothing moved for the configured time-out; no response was seen, or not its end.
    TimedOut,
    /// The protocol was left (101, CONNECT 2xx) with this exchange as the last.
    Upgraded,
    /// Given up by this agent (table full, resynchronised): its end is unknown.
    Abandoned,
    /// Nothing worth a span, or nothing of the protocol it was taken for: it makes none.
    Dismissed,
}

/// A request's head was read: it is open. Sent at once, so that links can be made.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Which exchange.
    pub id: ExchangeId,
    /// Its connection.
    pub peer: Arc<Peer>,
    /// Who this end is in it: the opposite of who it is on the connection, where the answering side
    /// opened it.
    pub role: Role,
    /// First byte of the request, and who moved it.
    pub start: Mark,
    /// Who moved the last byte of the request's head (who starts to serve it, on the server side).
    pub head: Mark,
    /// Its name on the wire.
    pub key: Option<MessageKey>,
    /// What it says about its trace.
    pub carrier: Option<Box<Carrier>>,
    /// As in [`Request::likeness`].
    pub likeness: Option<NonZeroU64>,
    /// Its number on its connection, where one unit of execution reads or writes the heads of all who serve
    /// or ask there, as of HTTP/2.
    pub stream: Option<u64>,
    /// Whether its protocol's clients gather what several ask for, and who sends it is any of them.
    pub gathered: bool,
}

/// A request, its response (if any), and the four moments of their bytes.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Which exchange; the same as in its [`Opened`].
    pub id: ExchangeId,
    /// Its connection.
    pub peer: Arc<Peer>,
    /// As in its [`Opened`].
    pub role: Role,
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
    /// It was answered by this byte, and goes on without the threads that began it.
    Detached(ExchangeId, Mark),
    /// It ended.
    Closed(Box<Exchange>),
    /// A unit of execution was started by another.
    Started(Started),
    /// Which unit of execution a stream of HTTP/2 is for.
    Taken(Taken),
    /// What a thread of a JVM does.
    Java(Java),
    /// In which trace a request is that comes next; the low half of its offset is as in a [`Mark`].
    Carried(Carried),
}

/// The open exchanges of one connection, oldest first.
#[derive(Debug, Default)]
pub struct Exchanges {
    open: SmallVec<[(Pairing, Box<Exchange>); 1]>,
    /// What they cost to hold, in bytes.
    weight: usize,
    /// The first thing that ended part of the connection, and when.
    ending: Option<(Ending, Nanos)>,
}

/// What [`Exchanges`] needs of its surroundings.
#[derive(Debug)]
pub struct Sink<'a> {
    /// Gives ids.
    pub ids: &'a mut Ids,
    /// Where facts go.
    pub facts: &'a mut Vec<Fact>,
    /// Counters.
    pub stats: &'a Stats,
}

/// Gives exchange ids, distinct among all shards of one agent.
#[derive(Debug)]
pub struct Ids(u64);

impl Ids {
    /// Ids of the shard with this number.
    pub fn new(shard: u16) -> Self {
        Self(u64::from(shard) << 48)
    }

    fn next(&mut self) -> ExchangeId {
        self.0 = self.0.wrapping_add(1);
        ExchangeId(self.0)
    }
}

impl Exchanges {
    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// What the open ones cost to hold, in bytes; 0 where none is.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Takes what a parser found on the connection of `peer`.
    pub fn take(&mut self, message: Message, peer: &Arc<Peer>, sink: &mut Sink<'_>) {
        let Message {
            flow,
            pairing,
            at,
            part,
        } = message;
        if let Part::Request(request, head) = part {
            return self.start((flow, pairing), request, (at, head), peer, sink);
        }
        // What comes of requests is of the newest, what comes of responses of the oldest.
        let is = |(open, _): &(Pairing, _)| *open == pairing;
        let found = match flow {
            Flow::Request => self.open.iter().rposition(is),
            Flow::Response => self.open.iter().position(is),
        };
        let Some(index) = found else {
            if let Part::Response(_) = part {
                sink.stats.exchange_unasked.add(1);
            }
            return;
        };
        let Some((name, exchange)) = self.open.get_mut(index) else {
            return;
        };
        match part {
            Part::Rename(pairing) => *name = pairing,
            Part::Revise(revision) => {
                let known = exchange.weight();
                revision.apply(&mut exchange.request);
                let weight = self.weight.saturating_sub(known);
                self.weight = weight.saturating_add(exchange.weight());
            }
            Part::Response(response) => {
                let known = exchange.response_weight();
                exchange.response = Some(response);
                exchange.outcome = Outcome::Abandoned;
                let weight = self.weight.saturating_sub(known);
                self.weight = weight.saturating_add(exchange.response_weight());
                exchange.response_start = Some(at);
            }
            Part::Finish(finish) if exchange.asks(flow) => {
                exchange.request_end = Some((at, finish));
            }
            Part::Finish(finish) => {
                exchange.response_end = Some((at, finish));
                if finish.whole {
                    self.close(index, Outcome::Complete, at.time, sink);
                }
            }
            Part::Fault(fault) => exchange.blame(fault),
            Part::Trailers(trailers) => {
                let known = exchange.response_weight();
                exchange.trail(*trailers);
                let weight = self.weight.saturating_sub(known);
                self.weight = weight.saturating_add(exchange.response_weight());
            }
            Part::Reset(code) => self.close(index, Outcome::Reset(code), at.time, sink),
            Part::Upgrade => self.close(index, Outcome::Upgraded, at.time, sink),
            Part::Abandon => self.close(index, Outcome::Abandoned, at.time, sink),
            Part::Dismiss => self.close(index, Outcome::Dismissed, at.time, sink),
            Part::Poll => exchange.outcome = Outcome::Dismissed,
            Part::Detach => sink.facts.push(Fact::Detached(exchange.id, at)),
            Part::Request(..) | Part::Encrypted(_) => {}
        }
    }

    fn start(
        &mut self,
        (flow, pairing): (Flow, Pairing),
        request: Box<Request>,
        (start, head): (Mark, Mark),
        peer: &Arc<Peer>,
        sink: &mut Sink<'_>,
    ) {
        if self.open.len() >= MAX_OPEN {
            sink.stats.exchange_too_deep.add(1);
            self.close(0, Outcome::Abandoned, start.time, sink);
        }
        let id = sink.ids.next();
        let offset = peer.on_the_wire(flow, start.offset);
        let place = match pairing {
            Pairing::Order(_) => peer.shares_offsets.then_some((offset, 0)),
            Pairing::Number(number) => Some((0, number)),
            Pairing::Slot(number) => peer.shares_offsets.then_some((offset, number)),
        };
        let role = match (flow, peer.role) {
            (Flow::Request, role) => role,
            (Flow::Response, Role::Client) => Role::Server,
            (Flow::Response, Role::Server) => Role::Client,
        };
        let mut inside = if peer.carrier.is_some() { SESSION } else { 0 };
        if flow == Flow::Response {
            inside |= REVERSED;
        }
        let key = peer
            .key
            .zip(place)
            .map(|(stream, (offset, number))| MessageKey {
                stream,
                offset: offset | inside,
                number,
            });
        sink.stats.exchange_opened.add(1);
        sink.facts.push(Fact::Opened(Box::new(Opened {
            id,
            peer: Arc::clone(peer),
            role,
            start,
            head,
            key,
            carrier: request.carrier.clone(),
            likeness: request.likeness,
            stream: stream(pairing, &request),
            gathered: GATHERED.contains(&request.protocol),
        })));
        let exchange = Box::new(Exchange {
            id,
            peer: Arc::clone(peer),
            role,
            key,
            request,
            response: None,
            start,
            request_end: None,
            response_start: None,
            response_end: None,
            end: start.time,
            outcome: Outcome::Abandoned,
            faults: SmallVec::new(),
        });
        self.weight = self.weight.saturating_add(exchange.weight());
        self.open.push((pairing, exchange));
    }

    /// Something of the connection ended; `over`: no response can come any more.
    pub fn end(&mut self, ending: Ending, time: Nanos, over: bool, sink: &mut Sink<'_>) {
        let (cause, first) = *self.ending.get_or_insert((ending, time));
        if !over {
            return;
        }
        // What a peer's end of sending leads to shows only later; what this end did, it did then.
        let time = match cause {
            Ending::Local | Ending::Error(_) => first,
            Ending::Eof | Ending::Gone => time,
        };
        self.close_all(Outcome::Broken(cause), time, sink);
    }

    /// Nothing has moved since `last`, for the time-out. What has no response has waited until now;
    /// what broke off in the middle of one ended there.
    pub fn time_out(&mut self, last: Nanos, now: Nanos, sink: &mut Sink<'_>) {
        while let Some((_, exchange)) = self.open.first() {
            let time = match exchange.response {
                Some(_) => last,
                None => now,
            };
            self.close(0, Outcome::TimedOut, time, sink);
        }
    }

    /// What is open was none of the protocol's.
    pub fn withdraw(&mut self, now: Nanos, sink: &mut Sink<'_>) {
        self.close_all(Outcome::Dismissed, now, sink);
    }

    /// Gives up what is open, for lack of room.
    pub fn evict(&mut self, now: Nanos, sink: &mut Sink<'_>) {
        sink.stats.exchange_evicted.add(self.open.len() as u64);
        self.close_all(Outcome::Abandoned, now, sink);
    }

    /// The connection is followed no more.
    pub fn abandon(&mut self, now: Nanos, sink: &mut Sink<'_>) {
        self.close_all(Outcome::Abandoned, now, sink);
    }

    fn close_all(&mut self, outcome: Outcome, time: Nanos, sink: &mut Sink<'_>) {
        while !self.open.is_empty() {
            self.close(0, outcome, time, sink);
        }
    }

    fn close(&mut self, index: usize, outcome: Outcome, time: Nanos, sink: &mut Sink<'_>) {
        if index >= self.open.len() {
            return;
        }
        let (_, mut exchange) = self.open.remove(index);
        self.weight = self.weight.saturating_sub(exchange.weight());
        if self.open.is_empty() && self.open.capacity() > KEEP {
            self.open = SmallVec::new();
        }
        // A poll that nothing came of.
        let outcome = match exchange.outcome {
            Outcome::Dismissed => Outcome::Dismissed,
            _ => outcome,
        };
        exchange.outcome = outcome;
        exchange.end = time.max(exchange.latest());
        let counter = match outcome {
            Outcome::Complete => &sink.stats.exchange_complete,
            Outcome::Broken(_) => &sink.stats.exchange_broken,
            Outcome::Reset(_) => &sink.stats.exchange_reset,
            Outcome::TimedOut => &sink.stats.exchange_timed_out,
            Outcome::Upgraded => &sink.stats.exchange_upgraded,
            Outcome::Abandoned => &sink.stats.exchange_abandoned,
            Outcome::Dismissed => &sink.stats.exchange_dismissed,
        };
        counter.add(1);
        sink.facts.push(Fact::Closed(exchange));
    }
}

/// [`Opened::stream`].
pub fn stream(pairing: Pairing, request: &Request) -> Option<u64> {
    match pairing {
        Pairing::Number(number) if STREAMS.contains(&request.protocol) => Some(number),
        _ => None,
    }
}

impl Exchange {
    /// What it costs to hold, in bytes.
    fn weight(&self) -> usize {
        size_of::<Self>()
            .saturating_add(size_of::<Request>())
            .saturating_add(self.request.weight())
            .saturating_add(self.response_weight())
    }

    fn response_weight(&self) -> usize {
        self.response.as_deref().map_or(0, |response| {
            size_of::<Response>().saturating_add(response.weight())
        })
    }

    /// Whether this flow carries its request.
    fn asks(&self, flow: Flow) -> bool {
        (self.role == self.peer.role) == (flow == Flow::Request)
    }

    /// Adds what trailers say to the response.
    fn trail(&mut self, trailers: Response) {
        let Some(response) = &mut self.response else {
            self.response = Some(Box::new(trailers));
            return;
        };
        replace(&mut response.attributes, trailers.attributes);
        let room = MAX_LINKS.saturating_sub(response.messages.len());
        response
            .messages
            .extend(trailers.messages.into_iter().take(room));
        response.client_error = trailers.client_error.or(response.client_error.take());
        response.server_error = trailers.server_error.or(response.server_error.take());
    }

    /// The latest moment its response, or else its request, is known by.
    fn latest(&self) -> Nanos {
        let ended = self.response_end.map(|(mark, _)| mark);
        let response = ended.or(self.response_start);
        let request = self.request_end.map(|(mark, _)| mark);
        let mark = response.or(request).unwrap_or(self.start);
        mark.time.max(self.start.time)
    }

    fn blame(&mut self, fault: Fault) {
        if let Fault::Missing { cause, bytes } = &fault {
            for known in &mut self.faults {
                if let Fault::Missing { cause: c, bytes: b } = known
                    && c == cause
                {
                    *b = b.saturating_add(*bytes);
                    return;
                }
            }
        }
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
