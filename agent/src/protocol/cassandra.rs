//! Cassandra's protocol, versions 3, 4 and 5 (Apache Cassandra's `doc/native_protocol_v5.spec` and those
//! before it), as Cassandra and what else speaks CQL use it: frames of known length, each request with a
//! number that its answer has too, from version 5 on in segments once a connection is set up.
//!
//! A QUERY, a PREPARE, an EXECUTE and a BATCH is an exchange. All else is housekeeping: setting a connection
//! up, proving who one is, asking whether anybody is there, events. What drivers ask the system's tables
//! on their own are statements as any others. LZ4 is unpacked, Snappy is not.
//!
//! Never true here: that a value, a row or a password is looked at, or that an answer is given to a request
//! by its place.

mod ask;
mod frame;
mod lz4;
mod names;
mod result;
mod segment;
mod talk;
mod waiting;

use std::sync::Arc;

use self::frame::HEAD;
use self::names::Names;
use self::segment::{AROUND, Form, Framing, MAX_PAYLOAD, Segment, TAIL};
use self::waiting::{Waiting, abandon};
use super::reader::Read;
use super::seek::{Refused, Seeker};
use super::told::{faults, slotted};
use super::{Feed, Finish, Flow, Parser, Part, Protocol, Setup, Status, Verdict};
use crate::config::Config;
use crate::connection::Mark;

/// The registry's entry.
pub const PROTOCOL: &dyn Protocol = &Cassandra;
const NAME: &str = "cassandra";

/// Bytes of a body that are waited for.
const LOOK: usize = 48 << 10;
/// Most frames that are read of one compressed segment, which may be a thousandth of its length.
const MAX_FRAMES: usize = 1024;

#[derive(Debug)]
struct Cassandra;

impl Protocol for Cassandra {
    fn name(&self) -> &'static str {
        NAME
    }

    fn sniff(&self, bytes: &[u8]) -> Verdict {
        frame::sniff(bytes, Framing::Frames)
    }

    fn sniff_amid(&self, bytes: &[u8]) -> Verdict {
        frame::sniff(bytes, Framing::Any)
    }

    fn ports(&self) -> &'static [u16] {
        &[9042, 9142]
    }

    fn parser(&self, setup: Setup) -> Box<dyn Parser> {
        Box::new(Dialogue {
            names: Names::new(&setup),
            config: setup.config,
            asks: Side::default(),
            answers: Side::default(),
            framing: Framing::Any,
            packing: None,
            waiting: Waiting::default(),
            keyspace: None,
            understood: false,
            refused: Refused::default(),
            status: Status::Stay,
        })
    }
}

/// One connection.
#[derive(Debug)]
struct Dialogue {
    config: Arc<Config>,
    asks: Side,
    answers: Side,
    framing: Framing,
    /// How bodies are compressed, if that was seen.
    packing: Option<Packing>,
    waiting: Waiting,
    names: Names,
    /// The keyspace that is used, and how often requests and answers were lost before.
    keyspace: Option<(String, [u64; 2])>,
    /// Whether an answer was seen whose request was.
    understood: bool,
    refused: Refused,
    status: Status,
}

/// What a connection agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    Lz4,
    Other,
}

/// One flow.
#[derive(Debug, Default)]
struct Side {
    state: State,
    /// Bytes of the present segment's payload that were not read yet.
    inside: u64,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Passes over everything until a turn begins like a message.
    #[default]
    Seek,
    /// At a frame, or at a segment.
    Head,
    /// Passes over what is left of a frame.
    Rest(Rest),
    /// Nothing more is read.
    Done,
}

/// A frame that was read, but for the rest of its bytes.
#[derive(Clone, Copy, Debug)]
struct Rest {
    /// Its exchange.
    number: Option<u64>,
    /// Bytes of its body.
    length: u32,
    /// Bytes of that in segments to come.
    left: u64,
    /// Whether its end is where it is said to be.
    exact: bool,
}

impl Rest {
    /// Of what is no exchange's.
    const NONE: Self = Self {
        number: None,
        length: 0,
        left: 0,
        exact: true,
    };
}

impl Parser for Dialogue {
    fn parse(&mut self, flow: Flow, feed: &mut Feed<'_>) -> Status {
        while self.status == Status::Stay && self.step(flow, feed) {}
        self.status
    }

    fn missed(&mut self, flow: Flow, _feed: &mut Feed<'_>) {
        self.waiting.lose(flow);
    }

    fn close(&mut self, flow: Flow, _clean: bool, feed: &mut Feed<'_>) {
        if let State::Head = self.side(flow).state
            && !feed.stream.is_empty()
        {
            feed.stats.protocol_cut.add(1);
        }
        self.side(flow).state = State::Done;
        if flow == Flow::Response {
            self.give_up_doubtful(feed);
        }
    }

    fn quiet(&mut self, flow: Flow, feed: &mut Feed<'_>) {
        if flow == Flow::Response && matches!(self.answers.state, State::Seek) {
            self.give_up_doubtful(feed);
        }
    }

    fn weight(&self) -> usize {
        let keyspace = self.keyspace.as_ref().map_or(0, |(name, _)| name.len());
        let known = self.names.weight().saturating_add(keyspace);
        self.waiting.weight().saturating_add(known)
    }
}

impl Seeker for Dialogue {
    fn refused(&mut self) -> &mut Refused {
        &mut self.refused
    }

    fn end(&mut self, status: Status) {
        self.status = status;
    }

    fn begins(&self, flow: Flow, bytes: &[u8]) -> Read<()> {
        self.framing.begins(bytes, flow)
    }

    fn unsettle(&mut self, flow: Flow, _: Mark, _: &mut Feed<'_>) {
        self.waiting.lose(flow);
    }

    fn set_out(&mut self, flow: Flow, _: &mut Feed<'_>) {
        *self.side(flow) = Side::default();
    }
}

impl Dialogue {
    fn side(&mut self, flow: Flow) -> &mut Side {
        match flow {
            Flow::Request => &mut self.asks,
            Flow::Response => &mut self.answers,
        }
    }

    /// Goes on by one state; false when more bytes are needed.
    fn step(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        match self.side(flow).state {
            State::Seek => {
                let found = self.seek(flow, feed);
                if found {
                    self.refused.reset();
                    self.side(flow).state = State::Head;
                }
                found
            }
            State::Head => self.head(flow, feed),
            State::Rest(rest) => self.rest(flow, rest, feed),
            State::Done => {
                feed.stream.skip_all();
                false
            }
        }
    }

    /// What is needed is not there; false while it may come.
    fn short(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        if !feed.stream.is_cut() {
            return false;
        }
        feed.stats.protocol_cut.add(1);
        let inside = std::mem::take(&mut self.side(flow).inside);
        if inside == 0 {
            return self.lose(flow, feed);
        }
        // The next segment can be found, whatever is in this one.
        feed.stream.skip(inside.saturating_add(TAIL));
        self.side(flow).state = State::Rest(Rest::NONE);
        self.waiting.lose(flow);
        true
    }

    /// Bytes contradict the protocol.
    fn nonsense(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        if !self.understood {
            self.status = Status::Mistaken;
            return false;
        }
        feed.stats.protocol_malformed.add(1);
        self.lose(flow, feed)
    }

    /// At what begins a segment or a frame.
    fn head(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        if feed.stream.is_empty() {
            return false;
        }
        let amid = self.side(flow).inside > 0;
        let form = match self.framing {
            Framing::Frames => return self.frame(flow, feed),
            _ if amid => return self.frame(flow, feed),
            Framing::Segments(form) => Some(form),
            // Both have more than that.
            Framing::Any if feed.stream.window().len() < HEAD => return self.short(flow, feed),
            Framing::Any => None,
        };
        match segment::read(feed.stream.window(), form) {
            Read::Whole(segment) => {
                self.framing = Framing::Segments(segment.form());
                self.segment(flow, segment, feed)
            }
            Read::More => self.short(flow, feed),
            // The other flow may be ahead, where a connection is set up.
            Read::Never
                if form.is_none()
                    || frame::begins(feed.stream.window(), flow) == Read::Whole(()) =>
            {
                self.frame(flow, feed)
            }
            Read::Never => self.nonsense(flow, feed),
        }
    }

    /// At a segment that begins with a frame.
    fn segment(&mut self, flow: Flow, segment: Segment, feed: &mut Feed<'_>) -> bool {
        if segment.is_packed() {
            return self.packed(flow, segment, feed);
        }
        feed.stream.skip(segment.head as u64);
        self.enter(flow, segment.length.into(), feed);
        true
    }

    /// In a segment's payload, so many bytes before its end.
    fn enter(&mut self, flow: Flow, inside: u64, feed: &mut Feed<'_>) {
        if inside == 0 {
            feed.stream.skip(TAIL);
        }
        self.side(flow).inside = inside;
    }

    /// At a frame.
    fn frame(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        let inside = match self.side(flow).inside {
            0 => u64::MAX,
            inside => inside,
        };
        let window = feed.stream.window();
        let shown = usize::try_from(inside).ok().and_then(|n| window.get(..n));
        let (shown, ends) = (shown.unwrap_or(window), shown.is_some());
        let head = match frame::head(shown, flow) {
            Read::Whole(head) => head,
            Read::More if !ends => return self.short(flow, feed),
            _ => return self.nonsense(flow, feed),
        };
        let here = u64::from(head.length).min(inside.saturating_sub(HEAD as u64));
        let wanted = usize::try_from(here).unwrap_or(LOOK).min(LOOK);
        let body = shown.get(HEAD..).unwrap_or_default();
        let (body, whole) = match body.get(..wanted) {
            Some(body) => (body, wanted == LOOK || here == u64::from(head.length)),
            None if feed.stream.is_cut() => (body, false),
            None => return false,
        };
        let last = HEAD.saturating_add(body.len()).saturating_sub(1);
        let marks = (feed.stream.mark(0), feed.stream.mark(last));
        let number = self.message((flow, head), body, whole, marks, (feed.out, feed.stats));
        let size = here.saturating_add(HEAD as u64);
        feed.stream.skip(size);
        if inside != u64::MAX {
            self.enter(flow, inside.saturating_sub(size), feed);
        }
        self.side(flow).state = State::Rest(Rest {
            number,
            length: head.length,
            left: u64::from(head.length).saturating_sub(here),
            exact: true,
        });
        true
    }

    /// At a segment whose payload is compressed: what is in it is read at once.
    fn packed(&mut self, flow: Flow, segment: Segment, feed: &mut Feed<'_>) -> bool {
        let size = segment.head.saturating_add(segment.length as usize);
        let window = feed.stream.window();
        let (payload, whole) = match window.get(segment.head..size) {
            Some(payload) => (payload, true),
            None if feed.stream.is_cut() => (window.get(segment.head..).unwrap_or_default(), false),
            None => return false,
        };
        let unpacked = lz4::unpack(payload, segment.unpacked as usize);
        let marks = (
            feed.stream.mark(0),
            feed.stream.mark(size.saturating_sub(1)),
        );
        feed.stream.skip((size as u64).saturating_add(TAIL));
        let mut bytes = unpacked.as_slice();
        let mut open = None;
        let mut frames = 0..MAX_FRAMES;
        while let (Read::Whole(head), Some(_)) = (frame::head(bytes, flow), frames.next()) {
            let body = bytes.get(HEAD..).unwrap_or_default();
            let length = head.length as usize;
            let there = body.get(..length.min(LOOK));
            let out = (&mut *feed.out, feed.stats);
            let whole = there.is_some();
            let number = self.message((flow, head), there.unwrap_or(body), whole, marks, out);
            let left = u64::from(head.length).saturating_sub(body.len() as u64);
            let rest = Rest {
                number,
                length: head.length,
                left,
                exact: true,
            };
            bytes = body.get(length..).unwrap_or_default();
            if left > 0 {
                open = Some(rest);
                break;
            }
            finish(flow, rest, feed);
        }
        let broken = !bytes.is_empty() || unpacked.len() < segment.unpacked as usize;
        if broken {
            match whole {
                true => feed.stats.protocol_malformed.add(1),
                false => feed.stats.protocol_cut.add(1),
            }
            self.waiting.lose(flow);
            if let Some(rest) = open.take() {
                let exact = false;
                finish(flow, Rest { exact, ..rest }, feed);
            }
        }
        self.side(flow).state = State::Rest(open.unwrap_or(Rest::NONE));
        true
    }

    /// Passes over what is left of a frame; false while it has not come.
    fn rest(&mut self, flow: Flow, rest: Rest, feed: &mut Feed<'_>) -> bool {
        if !feed.stream.reached() {
            return false;
        }
        if rest.left == 0 {
            self.side(flow).state = State::Head;
            finish(flow, rest, feed);
            return true;
        }
        // It goes on in the next segment.
        let form = match self.framing {
            Framing::Segments(form) => Some(form),
            Framing::Any | Framing::Frames => None,
        };
        let segment = match segment::read(feed.stream.window(), form) {
            Read::Whole(segment) => segment,
            Read::More if !feed.stream.is_cut() => return false,
            Read::More if form == Some(Form::Plain) => {
                // All but the last are as long as they may be; if not, what follows is no segment.
                let segments = rest.left.div_ceil(MAX_PAYLOAD.into());
                let around = segments.saturating_mul(AROUND);
                feed.stream.skip(rest.left.saturating_add(around));
                self.side(flow).state = State::Rest(Rest { left: 0, ..rest });
                return true;
            }
            read => {
                let exact = false;
                finish(flow, Rest { exact, ..rest }, feed);
                return match read {
                    Read::Never => self.nonsense(flow, feed),
                    _ => self.short(flow, feed),
                };
            }
        };
        feed.stream.skip(segment.head as u64);
        let length = u64::from(segment.length);
        let mut left = rest.left;
        if segment.is_packed() {
            feed.stream.skip(length.saturating_add(TAIL));
            left = left.saturating_sub(segment.unpacked.into());
        } else {
            let own = left.min(length);
            feed.stream.skip(own);
            self.enter(flow, length.saturating_sub(own), feed);
            left = left.saturating_sub(own);
        }
        self.side(flow).state = State::Rest(Rest { left, ..rest });
        true
    }

    /// Nothing comes any more for those whose answer may have passed unseen.
    fn give_up_doubtful(&mut self, feed: &mut Feed<'_>) {
        let at = feed.stream.mark(0);
        for (stream, asked) in self.waiting.give_up_doubtful() {
            if asked.may_use {
                self.keyspace = None;
            }
            abandon(stream, &asked, at, feed.out);
        }
    }
}

/// A message is over.
fn finish(flow: Flow, rest: Rest, feed: &mut Feed<'_>) {
    let missing = feed.stream.take_missing();
    let Some(number) = rest.number else {
        return;
    };
    let at = feed.stream.last();
    for fault in faults(missing) {
        feed.out.push(slotted(flow, number, at, Part::Fault(fault)));
    }
    let finish = Finish {
        body: rest.length.into(),
        exact: rest.exact,
        whole: true,
    };
    feed.out
        .push(slotted(flow, number, at, Part::Finish(finish)));
}

#[cfg(test)]
mod tests;
