//! MongoDB's wire protocol (<https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/>): what
//! servers since 3.6 and their drivers speak, which is messages of known length, each with a number,
//! each answer with the number of its question.
//!
//! A command (`OP_MSG`) becomes an exchange, named by its first field; one that wants no answer ends
//! with its last byte, one whose answers follow one another (an exhaust cursor) with the last of
//! them. Handshakes, authentication, heartbeats and the care for sessions are housekeeping. What is
//! compressed (`OP_COMPRESSED`) is an exchange of which nothing else is known, and says so. Of older
//! messages the handshake is passed over, others are counted.
//!
//! Documents are passed over by their lengths, but for a few fields: the copy budget takes what lies
//! behind the first 64 KiB of a turn, which are values, or documents in a section of their own. Where
//! it takes the end of an answer that has brought what was to be read, that went well.
//!
//! Never true here: that a document is held, or that an answer is given to a question by its place.

mod bson;
mod commands;
mod frame;
mod pair;
mod say;
mod waiting;
mod walk;

use self::frame::{Head, code};
use self::waiting::Asked;
use self::walk::Walk;
use super::reader::{Read, kept};
use super::seek::{Refused, Seeker};
use super::waiting::Waiting;
use super::{Feed, Flow, Parser, Protocol, Setup, Status, Verdict};
use crate::connection::Mark;

/// The registry's entry.
pub const PROTOCOL: &dyn Protocol = &Mongodb;

/// Most bytes that one step may wait for: a regular expression is the longest.
const MAX_STEP: usize = 40 * 1024;

#[derive(Debug)]
struct Mongodb;

impl Protocol for Mongodb {
    fn name(&self) -> &'static str {
        say::NAME
    }

    fn sniff(&self, bytes: &[u8]) -> Verdict {
        frame::sniff(bytes)
    }

    fn ports(&self) -> &'static [u16] {
        &[27017, 27018, 27019]
    }

    fn parser(&self, setup: Setup) -> Box<dyn Parser> {
        Box::new(Dialogue {
            keep: kept(&setup.config.limits),
            request: State::Seek,
            response: State::Seek,
            waiting: Waiting::default(),
            next: 0,
            understood: false,
            refused: Refused::default(),
            status: Status::Stay,
        })
    }
}

/// One connection.
#[derive(Debug)]
struct Dialogue {
    /// Bytes kept of a text.
    keep: usize,
    request: State,
    response: State,
    waiting: Waiting<Asked>,
    /// The next exchange's number. Those on the wire may come again.
    next: u64,
    /// Whether a response was seen whose request was.
    understood: bool,
    refused: Refused,
    status: Status,
}

/// What one flow is at.
#[derive(Debug)]
enum State {
    /// Passes over everything until a turn begins like a message.
    Seek,
    /// At a message.
    Head,
    /// Behind its head.
    Body(Box<Frame>),
    /// Passes over what is left of a message, which is of this exchange.
    Rest(Option<Ended>),
    /// Nothing more is read.
    Done,
}

/// A message under way.
#[derive(Debug)]
struct Frame {
    /// Its first byte.
    start: Mark,
    /// Offset of the first byte that is not its own.
    end: u64,
    /// Its number.
    id: i32,
    /// What it answers.
    asked: Option<Asked>,
    walk: Walk,
}

/// A message that was read, but for the rest of its bytes.
#[derive(Debug)]
struct Ended {
    number: u64,
    /// No response will come.
    silent: bool,
    /// Another one follows.
    more: bool,
}

impl Parser for Dialogue {
    fn parse(&mut self, flow: Flow, feed: &mut Feed<'_>) -> Status {
        while self.status == Status::Stay && self.step(flow, feed) {}
        self.status
    }

    fn missed(&mut self, flow: Flow, feed: &mut Feed<'_>) {
        if flow == Flow::Request {
            self.waiting.lose_asks(feed);
        }
    }

    fn close(&mut self, flow: Flow, _clean: bool, feed: &mut Feed<'_>) {
        let state = std::mem::replace(self.state(flow), State::Done);
        if let State::Body(_) = state {
            feed.stats.protocol_cut.add(1);
        }
        if flow == Flow::Response {
            self.waiting.give_up_doubtful(feed);
        }
    }

    fn quiet(&mut self, flow: Flow, feed: &mut Feed<'_>) {
        if flow == Flow::Response && matches!(self.response, State::Seek) {
            self.waiting.give_up_doubtful(feed);
        }
    }

    fn weight(&self) -> usize {
        self.waiting.weight()
    }
}

impl Seeker for Dialogue {
    fn refused(&mut self) -> &mut Refused {
        &mut self.refused
    }

    fn end(&mut self, status: Status) {
        self.status = status;
    }

    /// Like a response nothing begins but by what waits for it.
    fn begins(&self, flow: Flow, bytes: &[u8]) -> Read<()> {
        match flow {
            Flow::Request => asks(bytes),
            Flow::Response => waiting::answers(&self.waiting, bytes),
        }
    }

    fn unsettle(&mut self, flow: Flow, _: Mark, _: &mut Feed<'_>) {
        if flow == Flow::Response {
            self.waiting.doubt();
        }
    }

    fn set_out(&mut self, flow: Flow, _: &mut Feed<'_>) {
        *self.state(flow) = State::Seek;
    }
}

impl Dialogue {
    fn state(&mut self, flow: Flow) -> &mut State {
        match flow {
            Flow::Request => &mut self.request,
            Flow::Response => &mut self.response,
        }
    }

    /// Goes on by one state; false when more bytes are needed.
    fn step(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        match self.state(flow) {
            State::Seek => {
                let found = self.seek(flow, feed);
                if found {
                    self.refused.reset();
                    *self.state(flow) = State::Head;
                }
                found
            }
            State::Head => self.head(flow, feed),
            State::Body(_) => self.body(flow, feed),
            State::Rest(_) => self.rest(flow, feed),
            State::Done => {
                feed.stream.skip_all();
                false
            }
        }
    }

    /// Reads what begins a message.
    fn head(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        if feed.stream.is_empty() {
            return false;
        }
        let head = match Head::read(feed.stream.window()) {
            Read::Whole(head) if head.is_of(flow) => head,
            Read::More if !feed.stream.is_cut() => return false,
            Read::More => {
                feed.stats.protocol_cut.add(1);
                return self.lose(flow, feed);
            }
            _ if self.understood => {
                feed.stats.protocol_malformed.add(1);
                return self.lose(flow, feed);
            }
            _ => {
                self.status = Status::Mistaken;
                return false;
            }
        };
        match flow {
            Flow::Request => self.asked(head, feed),
            Flow::Response => self.answered(head, feed),
        }
    }

    /// At a request; false when more bytes are needed.
    fn asked(&mut self, head: Head, feed: &mut Feed<'_>) -> bool {
        let other = Asked {
            id: head.id,
            time: feed.stream.mark(0).time,
            number: None,
            told: false,
            reads: false,
        };
        match head.code {
            code::MSG => self.enter(Flow::Request, head, None, feed),
            code::COMPRESSED => {
                feed.stats.protocol_compressed.add(1);
                let at = (feed.stream.mark(0), feed.stream.mark(frame::HEAD - 1));
                let number = self.tell(say::unread(), at, true, feed);
                let asked = Asked {
                    number: Some(number),
                    ..other
                };
                self.waiting.ask(asked, feed);
                self.pass(Flow::Request, head, Some(Ended::of(number)), feed);
            }
            code::QUERY => {
                match frame::is_handshake(feed.stream.window()) {
                    Read::More if !feed.stream.is_cut() => return false,
                    Read::Whole(true) => {}
                    _ => feed.stats.protocol_unreadable.add(1),
                }
                self.waiting.ask(other, feed);
                self.pass(Flow::Request, head, None, feed);
            }
            code => {
                feed.stats.protocol_unreadable.add(1);
                if code == code::GET_MORE {
                    self.waiting.ask(other, feed);
                }
                self.pass(Flow::Request, head, None, feed);
            }
        }
        true
    }

    /// At a response.
    fn answered(&mut self, head: Head, feed: &mut Feed<'_>) -> bool {
        let Some(asked) = self.waiting.answer(head.to, feed) else {
            feed.stats.exchange_unasked.add(1);
            self.pass(Flow::Response, head, None, feed);
            return true;
        };
        self.understood = true;
        match (head.code, asked.number) {
            (code::MSG, _) => self.enter(Flow::Response, head, Some(asked), feed),
            (_, None) => self.pass(Flow::Response, head, None, feed),
            (code, Some(number)) => {
                if code == code::COMPRESSED {
                    feed.stats.protocol_compressed.add(1);
                }
                let at = feed.stream.mark(0);
                pair::respond(number, None, at, feed);
                self.pass(Flow::Response, head, Some(Ended::of(number)), feed);
            }
        }
        true
    }

    /// Passes over a message.
    fn pass(&mut self, flow: Flow, head: Head, ended: Option<Ended>, feed: &mut Feed<'_>) {
        feed.stream.skip(head.length.into());
        *self.state(flow) = State::Rest(ended);
    }

    /// Begins to read what is behind a head.
    fn enter(&mut self, flow: Flow, head: Head, asked: Option<Asked>, feed: &mut Feed<'_>) {
        let frame = Frame {
            start: feed.stream.mark(0),
            end: feed.stream.position().saturating_add(head.length.into()),
            id: head.id,
            asked,
            walk: Walk::new(flow == Flow::Response, head.length, self.keep),
        };
        feed.stream.skip(frame::HEAD as u64);
        *self.state(flow) = State::Body(Box::new(frame));
    }

    /// Goes on in a message; false when more bytes are needed.
    fn body(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        let State::Body(frame) = self.state(flow) else {
            return false;
        };
        if frame.walk.is_over() {
            self.read(flow, feed);
            return true;
        }
        let rest = frame.end.saturating_sub(feed.stream.position());
        let window = feed.stream.window();
        let shown = usize::try_from(rest).ok().and_then(|n| window.get(..n));
        let (shown, whole) = (shown.unwrap_or(window), shown.is_some());
        let (held, cut) = (shown.len(), whole || feed.stream.is_cut());
        match frame.walk.step(shown, cut, feed.stats) {
            Read::Whole(passed) => {
                feed.stream.skip(passed.min(rest));
                return true;
            }
            Read::Never => feed.stats.protocol_malformed.add(1),
            Read::More if whole => feed.stats.protocol_malformed.add(1),
            Read::More if cut => feed.stats.protocol_cut.add(1),
            Read::More if held > MAX_STEP => feed.stats.protocol_head_too_long.add(1),
            Read::More => return false,
        }
        let passed = frame.walk.lose();
        feed.stream.skip(passed.min(rest));
        true
    }
}

impl Ended {
    fn of(number: u64) -> Self {
        Self {
            number,
            silent: false,
            more: false,
        }
    }
}

/// Whether a turn begins like a request.
fn asks(bytes: &[u8]) -> Read<()> {
    match frame::sniff(bytes) {
        Verdict::Is(Flow::Request) | Verdict::Likely(Flow::Request) => Read::Whole(()),
        Verdict::More => Read::More,
        _ => Read::Never,
    }
}

#[cfg(test)]
mod tests;
