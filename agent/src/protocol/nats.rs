//! NATS's client protocol (<https://docs.nats.io/reference/reference-protocols/nats-protocol>, and
//! ADR-4 for headers), with what JetStream adds to it by its subjects.
//!
//! A message that is published ends with its last byte, as nobody acknowledges it; one with a subject
//! to answer on ends with the first message that comes back there. What the server delivers is opened
//! by the server: where it can be answered or acknowledged, that ends it, else its last byte does. What
//! nobody says anything of for the time-out, or while too many others wait, ends so too, and says that
//! this is not known.
//! Answers and acknowledgements are no exchanges of their own, and neither are requests for messages
//! of a stream: each that comes is one.
//!
//! Never true here: that a payload is kept, that an inbox stands in a name, or that an answer is given
//! to a request on another subject.

mod exchange;
mod headers;
mod line;
mod name;
mod subject;
mod talk;

use std::time::Duration;

use self::exchange::{After, Asked, Delivered, Head, Subscription};
use self::headers::Headers;
use self::line::Line;
use self::talk::{Say, over};
use super::known::Known;
use super::seek::Refused;
use super::{
    Fault, Feed, Finish, Flow, Message, PUSHED, Pairing, Parser, Part, Protocol, Setup, Status,
    Verdict, reader::kept, tls,
};
use crate::connection::Mark;
use crate::connection::stream::Stream;
use crate::stats::Stats;

/// The registry's entry.
pub const PROTOCOL: &dyn Protocol = &Nats;

#[derive(Debug)]
struct Nats;

impl Protocol for Nats {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn sniff(&self, bytes: &[u8]) -> Verdict {
        line::sniff(bytes)
    }

    fn sniff_amid(&self, bytes: &[u8]) -> Verdict {
        line::sniff_amid(bytes)
    }

    fn ports(&self) -> &'static [u16] {
        &[4222]
    }

    fn parser(&self, setup: Setup) -> Box<dyn Parser> {
        Box::new(Dialogue {
            keep: kept(&setup.config.limits),
            patience: setup.config.capture.exchange_timeout,
            setup,
            request: Side::default(),
            response: Side::default(),
            subscriptions: Known::default(),
            all_known: false,
            asked: Known::default(),
            delivered: Known::default(),
            early: Vec::new(),
            next: 0,
            understood: false,
            encrypted: false,
        })
    }
}

/// One connection.
#[derive(Debug)]
struct Dialogue {
    setup: Setup,
    /// Bytes kept of a text.
    keep: usize,
    /// How long what was delivered waits for an answer.
    patience: Duration,
    request: Side,
    response: Side,
    /// By their numbers.
    subscriptions: Known<Subscription>,
    /// Whether every subscription was seen.
    all_known: bool,
    /// Requests that wait, by the subject they are answered on.
    asked: Known<Asked>,
    /// Messages that were delivered and can be answered, by the subject for that.
    delivered: Known<Delivered, MAX_DELIVERED>,
    /// Subjects of answers that came before what was asked was told: who writes may be told of it
    /// later than who reads.
    early: Vec<Box<[u8]>>,
    next: u64,
    /// Whether anything was.
    understood: bool,
    /// Whether it goes on with TLS.
    encrypted: bool,
}

/// One flow.
#[derive(Debug, Default)]
struct Side {
    state: State,
    /// Bytes of the line under way that were looked at.
    scanned: usize,
    /// Whether the position is where a call begins.
    fresh: bool,
    /// Calls in a row that began like no line.
    refused: Refused<MAX_REFUSED>,
}

#[derive(Debug, Default)]
enum State {
    /// Passes over everything until a call begins with a line.
    #[default]
    Seek,
    /// At or in a line.
    Line,
    /// In a payload.
    Payload(After),
}

impl Parser for Dialogue {
    // Clients write many messages at once, and are seldom answered.
    fn needs_whole(&self) -> bool {
        true
    }

    fn parse(&mut self, flow: Flow, feed: &mut Feed<'_>) -> Status {
        loop {
            let step = match &self.side(flow).state {
                State::Seek => self.seek(flow, feed),
                State::Line => self.line(flow, feed),
                State::Payload(_) => self.payload(flow, feed),
            };
            match step {
                Step::On => {}
                Step::Wait => {
                    let between = matches!(self.request.state, State::Line);
                    if flow == Flow::Request && between && feed.stream.window().is_empty() {
                        self.early.clear();
                    }
                    self.expire(feed);
                    return Status::Stay;
                }
                Step::Over(status) => return status,
            }
        }
    }

    fn close(&mut self, flow: Flow, _clean: bool, feed: &mut Feed<'_>) {
        if flow == Flow::Request {
            self.unanswered(feed);
        }
    }

    fn silenced(&mut self, feed: &mut Feed<'_>) {
        self.unanswered(feed);
    }

    fn successor(&mut self) -> Option<(&'static dyn Protocol, Box<dyn Parser>)> {
        let setup = self.setup.clone();
        self.encrypted
            .then(|| (tls::PROTOCOL, tls::PROTOCOL.parser(setup)))
    }

    fn weight(&self) -> usize {
        let asked = self.asked.weight().saturating_add(self.delivered.weight());
        self.subscriptions.weight().saturating_add(asked)
    }
}

/// What comes after a step.
enum Step {
    On,
    Wait,
    Over(Status),
}

impl Dialogue {
    fn side(&mut self, flow: Flow) -> &mut Side {
        match flow {
            Flow::Request => &mut self.request,
            Flow::Response => &mut self.response,
        }
    }

    /// Looks for a call that begins with a line.
    fn seek(&mut self, flow: Flow, feed: &mut Feed<'_>) -> Step {
        while let Some(front) = feed.stream.front() {
            let (turn, hole, seal) = (front.turn, front.hole.is_some(), front.seal);
            let fresh = std::mem::replace(&mut self.side(flow).fresh, seal);
            if (turn || fresh) && !hole {
                let bytes = feed.stream.window();
                let hello = hello(flow, bytes);
                match line::begins(flow, bytes) {
                    _ if hello == Some(true) => return self.encrypted(),
                    Some(true) => {
                        feed.stream.take_missing();
                        let side = self.side(flow);
                        (side.state, side.scanned) = (State::Line, 0);
                        side.refused.reset();
                        return Step::On;
                    }
                    begins if !feed.stream.is_cut() && (begins.is_none() || hello.is_none()) => {
                        self.side(flow).fresh = true;
                        return Step::Wait;
                    }
                    _ => {}
                }
                if self.side(flow).refused.again(feed.stats) {
                    return Step::Over(Status::Leave);
                }
            }
            feed.stream.skip_front();
            feed.stream.take_missing();
            self.overlook(flow, feed);
        }
        Step::Wait
    }

    /// Reads a line once it is whole, and the headers behind it.
    fn line(&mut self, flow: Flow, feed: &mut Feed<'_>) -> Step {
        let from = self.side(flow).scanned;
        let Feed { stream, out, stats } = feed;
        let window = stream.window();
        let rest = window.get(from..).unwrap_or_default();
        let Some(end) = memchr::memchr(b'\n', rest) else {
            return self.unfinished(flow, feed);
        };
        let end = from.saturating_add(end);
        let text = window.get(..end).unwrap_or_default();
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let length = end.saturating_add(1);
        let Some(line) = line::read(flow, text) else {
            return self.unreadable(flow, feed);
        };
        self.understood = true;
        let first = stream.mark(0);
        let (message, sid) = match line {
            Line::Publish(message) => (message, None),
            Line::Deliver(sid, message) => (message, Some(sid)),
            Line::Foreign => {
                feed.stats.protocol_unrecognised.add(1);
                return Step::Over(Status::Leave);
            }
            other => {
                let mut say = Say { first, out, stats };
                self.say(&other, stream.mark(end), &mut say);
                stream.skip(length as u64);
                self.side(flow).scanned = 0;
                return Step::On;
            }
        };
        let Some(head) = self.ahead(sid, &message, length, stream, stats) else {
            self.side(flow).scanned = end;
            return Step::Wait;
        };
        let mut say = Say { first, out, stats };
        let after = match sid {
            None => self.published(&message, &head, &mut say),
            Some(sid) => self.came(sid, &message, &head, &mut say),
        };
        let whole = length.saturating_add(message.size).saturating_add(2);
        stream.skip(whole as u64);
        let side = self.side(flow);
        (side.state, side.scanned) = (State::Payload(after), 0);
        Step::On
    }

    /// A line's end is still to come, or it is no line.
    fn unfinished(&mut self, flow: Flow, feed: &mut Feed<'_>) -> Step {
        let window = feed.stream.window();
        let long = window.len() > line::MAX_LINE && !line::is_object(window);
        if hello(flow, window) == Some(true) {
            return self.encrypted();
        }
        if long || window.len() > MAX_OBJECT {
            feed.stats.protocol_head_too_long.add(1);
            return self.lose(flow, feed);
        }
        if feed.stream.is_cut() {
            feed.stats.protocol_cut.add(1);
            return self.lose(flow, feed);
        }
        self.side(flow).scanned = window.len();
        Step::Wait
    }

    fn unreadable(&mut self, flow: Flow, feed: &mut Feed<'_>) -> Step {
        if hello(flow, feed.stream.window()) == Some(true) {
            return self.encrypted();
        }
        feed.stats.protocol_malformed.add(1);
        match self.understood {
            true => self.lose(flow, feed),
            false => Step::Over(Status::Mistaken),
        }
    }

    /// TLS begins.
    fn encrypted(&mut self) -> Step {
        self.encrypted = true;
        Step::Over(Status::Leave)
    }

    /// What is read of a message behind its line; `None` while that is still to come.
    fn ahead(
        &self,
        sid: Option<&[u8]>,
        message: &line::Message<'_>,
        length: usize,
        stream: &Stream,
        stats: &Stats,
    ) -> Option<Head> {
        // What an answer says of how it went.
        let answers = match sid {
            None => self.delivered.get(message.subject).is_some(),
            Some(_) => self.asked.get(message.subject).is_some(),
        };
        let small = answers && message.size <= SMALL;
        let need = if small { message.size } else { message.headers };
        let window = stream.window();
        let last = length
            .saturating_add(need.min(MAX_HEADERS))
            .saturating_sub(1);
        let rest = window.get(length..).unwrap_or_default();
        let mut head = Head {
            last: stream.mark(last),
            headers: None,
            payload: None,
        };
        match rest.get(..need) {
            _ if need > MAX_HEADERS => stats.protocol_head_too_long.add(1),
            Some(bytes) => {
                let (headers, payload) = bytes.split_at_checked(message.headers)?;
                head.headers = Some(match headers {
                    [] => Headers::default(),
                    headers => headers::read(headers, stats),
                });
                head.payload = small.then(|| payload.into());
            }
            None if stream.is_cut() => stats.protocol_cut.add(1),
            None => return None,
        }
        Some(head)
    }

    fn number(&mut self) -> u64 {
        let number = self.next;
        self.next = self.next.wrapping_add(1) & !PUSHED;
        number
    }

    /// Waits for the end of a payload.
    fn payload(&mut self, flow: Flow, feed: &mut Feed<'_>) -> Step {
        if !feed.stream.reached() {
            return Step::Wait;
        }
        let at = feed.stream.last();
        let missing = feed.stream.take_missing();
        let side = self.side(flow);
        let State::Payload(after) = std::mem::take(&mut side.state) else {
            return Step::On;
        };
        side.state = State::Line;
        let pushed = match after {
            After::Handed(_) | After::Delivered(..) | After::Settles(_) => PUSHED,
            _ => 0,
        };
        if let Some(number) = after.number() {
            for (cause, bytes) in missing.iter() {
                let fault = Part::Fault(Fault::Missing { cause, bytes });
                feed.out.push(part(flow, number | pushed, at, fault));
            }
            feed.out.push(part(flow, number | pushed, at, finish()));
        }
        match after {
            After::None | After::Answers(_) | After::Settles(_) => {}
            After::Sent(number) => feed.out.push(part(Flow::Response, number, at, finish())),
            After::Handed(number) => {
                feed.out
                    .push(part(Flow::Request, number | PUSHED, at, finish()));
            }
            // Of two that share a subject neither is known by the answer.
            After::Asked(_, reply, asked) => {
                let early = self.early.contains(&reply);
                let gone = match self.asked.remove(&reply) {
                    None if early => vec![asked],
                    Some(other) => vec![other, asked],
                    None => self.asked.insert(&reply, asked, feed.stats),
                };
                let lost = |gone: Asked| part(Flow::Response, gone.number, at, Part::Abandon);
                feed.out.extend(gone.into_iter().map(lost));
            }
            After::Delivered(number, reply) => {
                let delivered = Delivered {
                    number,
                    last: at,
                    heard: at.time,
                };
                let gone = match self.delivered.remove(&reply) {
                    Some(other) => vec![other, delivered],
                    None => self.delivered.insert(&reply, delivered, feed.stats),
                };
                feed.out.extend(gone.iter().map(over));
            }
        }
        Step::On
    }

    /// The position is in the midst of something: looks for the next line.
    fn lose(&mut self, flow: Flow, feed: &mut Feed<'_>) -> Step {
        feed.stats.protocol_resynced.add(1);
        let front = feed.stream.front();
        let seal = front.is_some_and(|front| front.seal);
        feed.stream.skip_front();
        feed.stream.take_missing();
        let side = self.side(flow);
        (side.state, side.fresh, side.scanned) = (State::Seek, seal, 0);
        self.overlook(flow, feed);
        Step::On
    }

    /// What went by unseen may have been what somebody waits for.
    fn overlook(&mut self, flow: Flow, feed: &mut Feed<'_>) {
        let at = feed.stream.last();
        let gone: Vec<u64> = match flow {
            Flow::Request => {
                self.all_known = false;
                let all = self.delivered.drain();
                all.iter().map(|d| d.number | PUSHED).collect()
            }
            Flow::Response => self.asked.drain().iter().map(|a| a.number).collect(),
        };
        for number in gone {
            feed.out.push(part(flow, number, at, Part::Abandon));
        }
    }
}

/// Whether a client's hello begins TLS here; `None` while that is not known.
fn hello(flow: Flow, bytes: &[u8]) -> Option<bool> {
    match tls::PROTOCOL.sniff(bytes) {
        _ if flow == Flow::Response => Some(false),
        Verdict::More => None,
        verdict => Some(verdict == Verdict::Is(Flow::Request)),
    }
}

fn finish() -> Part {
    Part::Finish(Finish {
        body: 0,
        exact: true,
        whole: true,
    })
}

fn part(flow: Flow, number: u64, at: Mark, part: Part) -> Message {
    Message {
        flow,
        pairing: Pairing::Order(number),
        at,
        part,
    }
}

/// Calls in a row that begin with no line, until the connection is given up: a payload may take many.
const MAX_REFUSED: u32 = 4096;
/// Most that was delivered and waits for an answer: a consumer of JetStream has no more, unless that is
/// configured (`max_ack_pending`).
const MAX_DELIVERED: usize = 1000;
/// Longest INFO or CONNECT.
const MAX_OBJECT: usize = 64 * 1024;
/// Longest headers that are read.
const MAX_HEADERS: usize = 64 * 1024;
/// Most early answers that are remembered, and the longest subject of one.
const MAX_EARLY: usize = 16;
const MAX_EARLY_SUBJECT: usize = 256;
/// Longest answer that is looked at.
const SMALL: usize = 512;

#[cfg(test)]
mod tests;
