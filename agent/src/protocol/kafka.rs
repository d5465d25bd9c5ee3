//! Kafka's protocol (<https://kafka.apache.org/protocol>; the versions that brokers and clients from
//! 0.11 to 4.3 speak): frames of known length, each request with a number that its response has too.
//!
//! Produce, Fetch and OffsetCommit become exchanges; Metadata is read for the names of topics that
//! others name by their ids, and requests of groups for the group's name. All else is housekeeping:
//! its frames are passed over, as are sets of records but for the heads of their batches. A fetch that
//! brings nothing makes no span, nor does one by which brokers and controllers copy.
//!
//! Brokers answer in the order of the requests, so that what was asked before a request that is
//! answered, and was not, has had its answer where it was not seen.
//!
//! Never true here: that a frame is held, or that a response is given to a request by its place.

mod api;
mod errors;
mod fields;
mod names;
mod pair;
mod records;
mod say;
mod topics;
mod waiting;
mod walk;

use self::api::{Head, key};
use self::names::Told;
use self::waiting::{Asked, What};
use self::walk::{Body, Walk};
use super::reader::{Read, kept, text};
use super::seek::{Refused, Seeker};
use super::waiting::Waiting;
use super::{Feed, Flow, Parser, Protocol, Setup, Status, Verdict};
use crate::connection::Mark;

/// The registry's entry.
pub const PROTOCOL: &dyn Protocol = &Kafka;

/// Most bytes that one step of a body may wait for: a text may have 32 KiB.
const MAX_STEP: usize = 64 * 1024;
/// Longest token of SASL that brokers take (`sasl.server.max.receive.size`).
const LONGEST_TOKEN: u32 = 512 * 1024;

#[derive(Debug)]
struct Kafka;

impl Protocol for Kafka {
    fn name(&self) -> &'static str {
        say::NAME
    }

    fn sniff(&self, bytes: &[u8]) -> Verdict {
        api::sniff(bytes)
    }

    fn ports(&self) -> &'static [u16] {
        &[9092, 9093]
    }

    fn parser(&self, setup: Setup) -> Box<dyn Parser> {
        Box::new(Dialogue {
            keep: kept(&setup.config.limits),
            told: Told::new(&setup),
            request: State::Seek,
            response: State::Seek,
            waiting: Waiting::default(),
            group: None,
            raw: false,
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
    /// Names of topics.
    told: Told,
    request: State,
    response: State,
    waiting: Waiting<Asked>,
    /// The consumer group that was last asked about.
    group: Option<String>,
    /// Whether frames may hold what is not Kafka's: tokens of SASL without a header (KIP-152).
    raw: bool,
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
    /// At a frame.
    Head,
    /// In a frame's body.
    Body(Box<Frame>),
    /// Passes over what is left of a frame, whose message is of this exchange.
    Rest(Option<Ended>),
    /// Nothing more is read.
    Done,
}

/// A message under way.
#[derive(Debug)]
struct Frame {
    /// Its first byte.
    start: Mark,
    /// Bytes of it.
    length: u64,
    /// Offset of the first byte that is not its own.
    end: u64,
    asked: Asked,
    /// Who asks.
    client: Option<String>,
    walk: Walk,
}

/// A message that was read, but for the rest of its bytes.
#[derive(Debug)]
struct Ended {
    number: u64,
    /// Bytes of it.
    length: u64,
    /// No response will come.
    silent: bool,
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
        if let State::Body(frame) = state
            && frame.asked.what != What::Other
        {
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
        let under_way = |state: &State| match state {
            State::Body(frame) => frame.walk.weight(),
            _ => 0,
        };
        self.waiting
            .weight()
            .saturating_add(under_way(&self.request))
            .saturating_add(under_way(&self.response))
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
            Flow::Request => api::asks(bytes),
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

    /// Reads what begins a frame.
    fn head(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        if feed.stream.is_empty() {
            return false;
        }
        let read = match flow {
            Flow::Request => self.asked(feed),
            Flow::Response => self.answered(feed),
        };
        match read {
            Read::Whole(()) => true,
            Read::More if !feed.stream.is_cut() => false,
            Read::More => {
                feed.stats.protocol_cut.add(1);
                self.lose(flow, feed)
            }
            Read::Never if self.understood => {
                feed.stats.protocol_malformed.add(1);
                self.lose(flow, feed)
            }
            Read::Never => {
                self.status = Status::Mistaken;
                false
            }
        }
    }

    /// At a request.
    fn asked(&mut self, feed: &mut Feed<'_>) -> Read<()> {
        let (length, head) = match (
            api::length(feed.stream.window()),
            api::head(feed.stream.window()),
        ) {
            (Read::Whole(length), head) => (length, head),
            (Read::More, _) => return Read::More,
            (Read::Never, _) => return Read::Never,
        };
        let head = match head {
            Read::Whole(head) => head,
            Read::More => return Read::More,
            Read::Never if self.raw && length <= LONGEST_TOKEN => {
                return self.pass(Flow::Request, length, feed);
            }
            Read::Never => return Read::Never,
        };
        self.raw = head.key == key::SASL_HANDSHAKE && head.version == 0;
        let client = head
            .client
            .map(|client| text(client, self.keep, feed.stats));
        let Head {
            key,
            version,
            correlation,
            size,
            ..
        } = head;
        let (what, body) = self.meant(key, version, feed);
        let asked = Asked {
            correlation,
            time: feed.stream.mark(0).time,
            key,
            version,
            what,
            number: None,
            single: false,
            unnamed: None,
        };
        let Some(body) = body else {
            self.waiting.ask(asked, feed);
            return self.pass(Flow::Request, length, feed);
        };
        self.enter(Flow::Request, length, size, (asked, client, body), feed);
        Read::Whole(())
    }

    /// What a request is to us, and what its body is read for.
    fn meant(&self, key: i16, version: i16, feed: &Feed<'_>) -> (What, Option<Body>) {
        let known = api::is_known(key, version);
        let (what, body) = match key {
            key::PRODUCE => (What::Produce, Body::Produce),
            key::FETCH => (What::Fetch, Body::Fetch),
            key::OFFSET_COMMIT => (What::Commit, Body::Commit),
            // Ids come with version 10.
            key::METADATA if known && version >= 10 => return (What::Metadata, None),
            key if key::OF_GROUPS.contains(&key) && known => (What::Other, Body::OfGroup),
            _ => return (What::Other, None),
        };
        if !known || key == key::OFFSET_COMMIT && version < 2 {
            feed.stats.protocol_unreadable.add(1);
            return (What::Other, None);
        }
        (what, Some(body))
    }

    /// At a response.
    fn answered(&mut self, feed: &mut Feed<'_>) -> Read<()> {
        let window = feed.stream.window();
        let length = match api::length(window) {
            Read::Whole(length) => length,
            Read::More => return Read::More,
            Read::Never => return Read::Never,
        };
        let Some(correlation) = waiting::correlation(window) else {
            return Read::More;
        };
        let Some(asked) = self.waiting.answer(correlation, feed) else {
            if !self.raw {
                feed.stats.exchange_unasked.add(1);
            }
            return self.pass(Flow::Response, length, feed);
        };
        self.understood = true;
        let body = match asked.what {
            What::Produce => Body::Produced,
            What::Fetch => Body::Fetched,
            What::Commit => Body::Committed,
            What::Metadata => Body::Metadata,
            What::Other => return self.pass(Flow::Response, length, feed),
        };
        self.enter(
            Flow::Response,
            length,
            waiting::HEAD,
            (asked, None, body),
            feed,
        );
        Read::Whole(())
    }

    /// Passes over a frame.
    fn pass(&mut self, flow: Flow, length: u32, feed: &mut Feed<'_>) -> Read<()> {
        feed.stream.skip(api::LENGTH.saturating_add(length.into()));
        *self.state(flow) = State::Rest(None);
        Read::Whole(())
    }

    /// Begins to read a body, which begins `size` bytes from here.
    fn enter(
        &mut self,
        flow: Flow,
        length: u32,
        size: usize,
        (asked, client, body): (Asked, Option<String>, Body),
        feed: &mut Feed<'_>,
    ) {
        let length = api::LENGTH.saturating_add(length.into());
        let flexible = api::is_flexible(asked.key, asked.version);
        let frame = Frame {
            start: feed.stream.mark(0),
            length,
            end: feed.stream.position().saturating_add(length),
            walk: Walk::new(body, asked.version, flexible, self.keep, self.told.clone()),
            asked,
            client,
        };
        let size = (size as u64).min(length);
        feed.stream.skip(size);
        *self.state(flow) = State::Body(Box::new(frame));
    }
}

#[cfg(test)]
mod tests;
