//! FastCGI 1.0 (FastCGI specification, 1996; CGI/1.1, RFC 3875): how a web server hands requests of
//! HTTP to an application. What is asked is HTTP, so its spans are those of HTTP.
//!
//! Both flows are records with a head of eight bytes that tells their length. Parameters and the
//! head of an answer are read, all else is passed over. A request is told once its parameters are
//! whole; its answer begins with the first byte of STDOUT and is over with END_REQUEST. Identifiers
//! are used again and again: they pair while their request is open, by the place it has on the
//! connection.
//!
//! Never true here: that a body or a text of STDERR is kept; that an answer whose head was not seen
//! has a status.

mod answer;
mod params;
mod record;
mod talk;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::record::{BEGIN, HEAD, Head, kind};
use self::talk::Talk;
use super::reader::{Read, kept};
use super::seek::{self, Front, Refused};
use super::told::{abandon_unseen, finish};
use super::{Feed, Flow, Parser, Protocol, Setup, Status, Verdict};
use crate::config::Config;
use crate::connection::stream::Missing;
use crate::event::Role;

/// The registry's entry.
pub const PROTOCOL: &dyn Protocol = &FastCgi;

/// The registry's name.
const NAME: &str = "fastcgi";
/// Most requests that are followed at once.
const MAX_TALKS: usize = 256;
/// Most bytes of parameters and heads that wait for their end, of all requests.
const MAX_TEXTS: usize = 128 * 1024;

#[derive(Debug)]
struct FastCgi;

impl Protocol for FastCgi {
    fn name(&self) -> &'static str {
        NAME
    }

    fn sniff(&self, bytes: &[u8]) -> Verdict {
        record::sniff(bytes)
    }

    fn ports(&self) -> &'static [u16] {
        &[9000]
    }

    fn hands_on_http(&self) -> bool {
        true
    }

    fn parser(&self, setup: Setup) -> Box<dyn Parser> {
        Box::new(Dialogue {
            role: setup.role,
            keep: kept(&setup.config.limits),
            config: setup.config,
            request: State::Seek,
            response: State::Seek,
            talks: BTreeMap::new(),
            doubled: BTreeMap::new(),
            next: 0,
            turn: u64::MAX,
            texts: 0,
            lost: false,
            answers_lost: false,
            unseen: Missing::default(),
            understood: false,
            agreed: false,
            refused: Refused::default(),
            ended: None,
        })
    }
}

/// One connection.
#[derive(Debug)]
struct Dialogue {
    role: Role,
    config: Arc<Config>,
    /// Bytes kept of a text.
    keep: usize,
    request: State,
    response: State,
    /// Requests that are open, by their identifiers.
    talks: BTreeMap<u16, Talk>,
    /// Identifiers that several requests have, which are not open for that: how many.
    doubled: BTreeMap<u16, u32>,
    /// The next request's number.
    next: u64,
    /// The first number of those requests that can only have begun in the last turn.
    turn: u64,
    /// Bytes of parameters and heads that wait for their end.
    texts: usize,
    /// Whether records of answers went by unseen that nobody was told of yet.
    lost: bool,
    /// Whether records of answers may be missing behind what was read of them.
    answers_lost: bool,
    /// Bytes of answers that passed without being seen, by cause.
    unseen: Missing,
    /// Whether an answer was read.
    understood: bool,
    /// Whether the head of one was, of a request that was read.
    agreed: bool,
    refused: Refused,
    /// What becomes of the connection, once that is decided.
    ended: Option<Status>,
}

/// Where a flow is.
#[derive(Clone, Copy, Debug)]
enum State {
    /// Passes over everything until a turn begins with a record.
    Seek,
    /// At a record's head.
    Record,
    /// In the content of a record that is read.
    Text(Text),
    /// Before the end of a record of this request that was passed over.
    Pass(u16),
    /// Nothing more is read.
    Done,
}

/// What is left of a record that is read.
#[derive(Clone, Copy, Debug)]
struct Text {
    id: u16,
    content: usize,
    padding: u8,
}

impl Parser for Dialogue {
    // Who reads an answer reads pieces of its own: in any of them may be the head of a record. The kernel
    // side follows records from a connection's first byte on, of older ones it has to copy all. But a few
    // bytes that look like a question are no reason to.
    fn needs_whole(&self) -> bool {
        self.agreed
    }

    fn parse(&mut self, flow: Flow, feed: &mut Feed<'_>) -> Status {
        self.answers_lost &= flow == Flow::Request;
        while self.ended.is_none() && self.step(flow, feed) {}
        self.ended.unwrap_or(Status::Stay)
    }

    fn missed(&mut self, flow: Flow, _feed: &mut Feed<'_>) {
        match flow {
            // What is answered next may have begun behind those that are known.
            Flow::Request => self.turn = u64::MAX,
            Flow::Response => self.answers_lost = true,
        }
    }

    fn close(&mut self, flow: Flow, _clean: bool, feed: &mut Feed<'_>) {
        if flow == Flow::Response {
            self.tell_lost(u64::MAX, feed);
            let at = feed.stream.last();
            for talk in self.talks.values().filter(|talk| talk.is_answered()) {
                finish(flow, talk.number, at, (false, false), feed);
            }
            self.talks.clear();
            self.texts = 0;
        }
        *self.state(flow) = State::Done;
    }

    fn quiet(&mut self, flow: Flow, feed: &mut Feed<'_>) {
        if flow == Flow::Response {
            self.tell_lost(u64::MAX, feed);
        }
    }

    fn weight(&self) -> usize {
        let talks = self.talks.len().saturating_sub(4);
        talks
            .saturating_mul(size_of::<Talk>())
            .saturating_add(self.texts)
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
        match *self.state(flow) {
            State::Seek => self.seek(flow, feed),
            State::Record => self.record(flow, feed),
            State::Text(text) => self.text(flow, text, feed),
            State::Pass(id) => self.passed(flow, id, feed),
            State::Done => {
                feed.stream.skip_all();
                feed.stream.take_missing();
                false
            }
        }
    }

    /// Looks for a turn that begins with a record of this flow.
    fn seek(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        loop {
            match seek::front(feed.stream, |bytes| self.begins(flow, bytes)) {
                Front::Message => break,
                Front::Wait => return false,
                Front::Refused if self.refuse(feed) => return false,
                Front::Refused | Front::Other => {}
            }
            // What is passed over may have been records.
            self.lost |= flow == Flow::Response;
            feed.stream.skip_front();
            self.overlook(flow, feed);
        }
        self.refused.reset();
        self.overlook(flow, feed);
        if flow == Flow::Response {
            self.tell_lost(self.turn, feed);
        }
        *self.state(flow) = State::Record;
        true
    }

    /// Whether a turn begins with a record of this flow.
    fn begins(&self, flow: Flow, bytes: &[u8]) -> Read<()> {
        if flow == Flow::Request {
            match record::sniff(bytes) {
                Verdict::Is(_) => return Read::Whole(()),
                Verdict::More if bytes.len() >= HEAD => return Read::More,
                _ => {}
            }
        }
        let Some(head) = Head::read(bytes) else {
            return Read::More;
        };
        // Bodies may begin turns: what goes on in one is believed of what is known to be open.
        let goes_on = flow == Flow::Response || self.talks.contains_key(&head.id);
        match goes_on && head.kind != kind::BEGIN && head.is_sound(flow) {
            true => Read::Whole(()),
            false => Read::Never,
        }
    }

    /// Remembers what was passed over unseen: it may have been the answer of those who wait, or the
    /// beginning of others.
    fn overlook(&mut self, flow: Flow, feed: &mut Feed<'_>) {
        let missing = feed.stream.take_missing();
        match flow {
            Flow::Request => self.turn = u64::MAX,
            Flow::Response if !self.talks.is_empty() => self.unseen.merge(missing),
            Flow::Response => {}
        }
    }

    /// Something began like no record; true when the connection is left for it.
    fn refuse(&mut self, feed: &Feed<'_>) -> bool {
        let left = self.refused.again(feed.stats);
        if left {
            self.ended = Some(Status::Leave);
        }
        left
    }

    /// Reads a record's head, and the content of the short ones.
    fn record(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        let Some(front) = feed.stream.front() else {
            return false;
        };
        if flow == Flow::Request && front.turn {
            self.turn = self.next;
        }
        let cut = feed.stream.is_cut();
        let window = feed.stream.window();
        let Some(head) = Head::read(window) else {
            return cut && self.lose(flow, true, feed);
        };
        if !head.is_sound(flow) {
            return self.lose(flow, false, feed);
        }
        self.understood |= flow == Flow::Response;
        match head.kind {
            kind::BEGIN => match record::begin(window) {
                Some(role) => self.begin(head.id, role, feed),
                None if window.len() >= BEGIN => return self.lose(flow, false, feed),
                None => return cut && self.lose(flow, true, feed),
            },
            kind::END => match record::end(window) {
                None if !cut => return false,
                end => self.end(head.id, end, feed),
            },
            kind::PARAMS if head.length == 0 => self.asked(head.id, feed),
            kind::STDIN | kind::DATA => self.sent(head, feed),
            kind::ABORT => self.abort(head.id, feed),
            kind::STDERR => self.complained(head),
            kind::PARAMS | kind::STDOUT if head.length > 0 && self.is_read(head) => {
                self.start(head, feed);
                feed.stream.skip(HEAD as u64);
                let text = Text {
                    id: head.id,
                    content: head.length.into(),
                    padding: head.padding,
                };
                *self.state(flow) = State::Text(text);
                return true;
            }
            kind::STDOUT => self.brought(head.id, head.length.into()),
            _ => {}
        }
        self.pass(flow, head.id, head.size(), feed);
        true
    }

    /// Passes over what is left of a record.
    fn pass(&mut self, flow: Flow, id: u16, length: usize, feed: &mut Feed<'_>) {
        // Turns that begin in what is yet to come are not seen.
        if flow == Flow::Request && feed.stream.turn_window().0.len() < length {
            self.turn = u64::MAX;
        }
        feed.stream.skip(length as u64);
        *self.state(flow) = State::Pass(id);
    }

    /// Says what was missing of a record, once all of it has come.
    fn passed(&mut self, flow: Flow, id: u16, feed: &mut Feed<'_>) -> bool {
        if !feed.stream.reached() {
            return false;
        }
        *self.state(flow) = State::Record;
        let missing = feed.stream.take_missing();
        if missing.any() {
            self.missed(flow, id, missing, feed);
        }
        true
    }

    /// Reads on in parameters, or in an answer's head.
    fn text(&mut self, flow: Flow, text: Text, feed: &mut Feed<'_>) -> bool {
        let Some(front) = feed.stream.front() else {
            return false;
        };
        if flow == Flow::Request && front.turn {
            self.turn = self.next;
        }
        let rest = text.content.saturating_add(text.padding.into());
        let (bytes, _) = feed.stream.turn_window();
        let Some(bytes) = bytes.get(..bytes.len().min(text.content)) else {
            return false;
        };
        let length = bytes.len();
        if length == 0 {
            feed.stats.protocol_cut.add(1);
            self.cut(flow, text.id, feed);
            if flow == Flow::Response {
                self.brought(text.id, text.content);
            }
            self.pass(flow, text.id, rest, feed);
            return true;
        }
        let taken = match flow {
            Flow::Request => self.take_params(text.id, length, feed),
            Flow::Response => self.take_head(text.id, length, feed),
        };
        let left = text.content.saturating_sub(taken);
        feed.stream.skip(taken as u64);
        let goes_on = flow == Flow::Request || self.reads_head(text.id);
        if left > 0 && goes_on {
            *self.state(flow) = State::Text(Text {
                content: left,
                ..text
            });
            return true;
        }
        if flow == Flow::Response {
            self.brought(text.id, left);
        }
        self.pass(flow, text.id, rest.saturating_sub(taken), feed);
        true
    }

    /// The bytes make no sense, or are not there (`cut`): looks for the next turn.
    fn lose(&mut self, flow: Flow, cut: bool, feed: &mut Feed<'_>) -> bool {
        if cut {
            feed.stats.protocol_cut.add(1);
        } else if self.understood {
            feed.stats.protocol_malformed.add(1);
            self.refuse(feed);
        } else {
            self.ended = Some(Status::Mistaken);
            return false;
        }
        feed.stats.protocol_resynced.add(1);
        match flow {
            Flow::Request => self.lose_asks(feed),
            Flow::Response => self.lost = true,
        }
        // What was refused is not looked at again.
        feed.stream.skip_front();
        self.overlook(flow, feed);
        *self.state(flow) = State::Seek;
        true
    }

    /// Tells those who began before the one with this number that their answer, or its end, may have
    /// gone by unseen.
    fn tell_lost(&mut self, since: u64, feed: &mut Feed<'_>) {
        if !std::mem::take(&mut self.lost) {
            return;
        }
        // Their ends may have been among it.
        self.doubled.clear();
        let at = feed.stream.mark(0);
        let unseen = std::mem::take(&mut self.unseen);
        let mut texts = 0usize;
        self.talks.retain(|_, talk| {
            let stays = talk.number >= since;
            if !stays {
                texts = texts.saturating_add(talk.held());
                abandon_unseen(talk.number, at, &unseen, feed);
            }
            stays
        });
        self.texts = self.texts.saturating_sub(texts);
    }
}

#[cfg(test)]
mod tests;
