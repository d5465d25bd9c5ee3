//! HTTP/2 (RFC 9113): both directions of one connection, frame by frame.
//!
//! Heads are decoded, bodies are passed over by their frames' lengths. A connection that is older
//! than the agent, or lost bytes where a frame's head was, is taken up again at a turn that begins
//! with a frame; what its header tables held before then stays unknown (`hpack.rs`). gRPC is this
//! protocol too, and said so in the request's content type (`grpc.rs`).
//!
//! Never true here: that a body is kept; that a field is guessed; that a stream is opened twice.

mod frame;
pub mod hpack;
mod huffman;
mod payload;
mod streams;

use std::sync::Arc;

use self::frame::{HEAD, Head, PREFACE, kind};
use self::hpack::{Decoder, Field};
use self::payload::After;
use self::streams::Streams;
use super::http::over::Taps;
use super::reader::kept;
use super::seek::Refused;
use super::{Fault, Feed, Flow, Message, Pairing, Parser, Part, Protocol, Setup, Status, Verdict};
use super::{Finish, http};
use crate::config::Config;
use crate::connection::Mark;
use crate::event::Role;
use crate::stats::Stats;

/// The registry's entry.
pub const PROTOCOL: &dyn Protocol = &Http2;

/// Longest header block that is read, bytes, as sent and, counted as RFC 9113, 10.5.1 does, as decoded.
const MAX_BLOCK: usize = 64 * 1024;
/// Turns in a row that begin like no frame, until a connection that may not be HTTP/2 is given up.
const MAX_REFUSED: u32 = 256;

#[derive(Debug)]
struct Http2;

impl Protocol for Http2 {
    fn name(&self) -> &'static str {
        "http2"
    }

    fn sniff(&self, bytes: &[u8]) -> Verdict {
        frame::sniff(bytes, false)
    }

    fn sniff_amid(&self, bytes: &[u8]) -> Verdict {
        frame::sniff(bytes, true)
    }

    fn parser(&self, setup: Setup) -> Box<dyn Parser> {
        Box::new(Dialogue::new(setup))
    }
}

/// The stream of the request that a connection changed from HTTP/1.1 by (RFC 7540, 3.2).
pub const UPGRADED: u64 = 1;

/// The parser of such a connection, from behind the answer that allowed it.
pub fn upgraded(setup: Setup) -> Box<dyn Parser> {
    let response = Side {
        state: State::Frame,
        hpack: Decoder::new(false),
        ..Side::default()
    };
    Box::new(Dialogue {
        response,
        streams: Streams::upgraded(),
        sure: true,
        ..Dialogue::new(setup)
    })
}

/// One connection.
#[derive(Debug)]
struct Dialogue {
    role: Role,
    config: Arc<Config>,
    /// Bytes kept of a text.
    keep: usize,
    request: Side,
    response: Side,
    streams: Streams,
    /// What looks at bodies.
    taps: Taps,
    /// Whether it is HTTP/2 for sure: it began so, or what was asked on a stream was answered there.
    sure: bool,
    /// Turns in a row that began like no frame.
    refused: Refused<MAX_REFUSED>,
    left: bool,
}

/// One flow.
#[derive(Debug)]
struct Side {
    state: State,
    hpack: Decoder,
    /// A header block that goes on in the next frame.
    block: Option<Block>,
    /// Bytes of a call's messages, and of padding behind them, that are left of a frame.
    left: [u64; 2],
}

impl Default for Side {
    fn default() -> Self {
        Self {
            state: State::Seek,
            hpack: Decoder::new(true),
            block: None,
            left: [0; 2],
        }
    }
}

#[derive(Debug)]
enum State {
    /// Passes over everything until a turn begins with a frame.
    Seek,
    /// At a frame's head.
    Frame,
    /// In the payload of a frame of this stream.
    Payload(u32, After),
    /// Nothing more is read.
    Done,
}

/// HEADERS or PUSH_PROMISE without the end of its block.
#[derive(Debug)]
struct Block {
    head: Head,
    start: Mark,
    /// Empty once it is too long to be read.
    bytes: Vec<u8>,
    whole: bool,
}

impl Parser for Dialogue {
    fn needs_whole(&self) -> bool {
        true
    }

    fn parse(&mut self, flow: Flow, feed: &mut Feed<'_>) -> Status {
        while !self.left && self.step(flow, feed) {}
        if self.left {
            Status::Leave
        } else {
            Status::Stay
        }
    }

    fn close(&mut self, flow: Flow, _clean: bool, feed: &mut Feed<'_>) {
        if flow == Flow::Response {
            self.answered_unseen(feed);
        }
        self.side(flow).state = State::Done;
    }

    fn quiet(&mut self, flow: Flow, feed: &mut Feed<'_>) {
        if flow == Flow::Response {
            self.answered_unseen(feed);
        }
    }

    fn weight(&self) -> usize {
        // What waits: the tables are there as long as the connection is, whatever goes on.
        let block = |side: &Side| side.block.as_ref().map_or(0, |b| b.bytes.capacity());
        block(&self.request)
            .saturating_add(block(&self.response))
            .saturating_add(self.streams.weight())
            .saturating_add(self.taps.weight())
    }
}

impl Dialogue {
    fn new(setup: Setup) -> Self {
        Self {
            role: setup.role,
            keep: kept(&setup.config.limits),
            taps: Taps::new(setup.config.http.applications, "http2", Pairing::Number),
            config: setup.config,
            request: Side::default(),
            response: Side::default(),
            streams: Streams::default(),
            sure: false,
            refused: Refused::default(),
            left: false,
        }
    }

    fn side(&mut self, flow: Flow) -> &mut Side {
        match flow {
            Flow::Request => &mut self.request,
            Flow::Response => &mut self.response,
        }
    }

    /// Goes on by one state; false when more bytes are needed.
    fn step(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        match self.side(flow).state {
            State::Seek => self.seek(flow, feed),
            State::Frame => self.frame(flow, feed),
            State::Payload(stream, after) => self.payload(flow, stream, after, feed),
            State::Done => {
                feed.stream.skip_all();
                false
            }
        }
    }

    /// Looks for a turn that begins with a frame of this flow.
    fn seek(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        while let Some(front) = feed.stream.front() {
            if front.turn && front.hole.is_none() {
                let (bytes, cut) = feed.stream.turn_window();
                // Who asks is known by now, so what either side sends is enough to begin with.
                let telltale = Head::read(bytes).is_some_and(|head| head.is_telltale());
                match frame::sniff(bytes, true) {
                    Verdict::Is(found) if found == flow => {
                        self.begin(flow, feed);
                        return true;
                    }
                    Verdict::More | Verdict::Not if telltale => {
                        self.begin(flow, feed);
                        return true;
                    }
                    Verdict::More if !cut => return false,
                    _ if !self.sure && self.refused.again(feed.stats) => {
                        self.left = true;
                        return false;
                    }
                    _ => {}
                }
            }
            feed.stream.skip_front();
            self.tell_missing(flow, feed);
        }
        false
    }

    /// What was passed over unseen may have been of any stream that is open.
    fn tell_missing(&mut self, flow: Flow, feed: &mut Feed<'_>) {
        let at = feed.stream.last();
        for (cause, bytes) in feed.stream.take_missing().iter() {
            for stream in self.streams.miss(flow, cause, bytes) {
                let fault = Part::Fault(Fault::Missing { cause, bytes });
                feed.out.push(message(flow, stream, at, fault));
            }
            self.taps.lose_all(flow);
        }
    }

    /// At a turn's first frame, which may be the connection's.
    fn begin(&mut self, flow: Flow, feed: &mut Feed<'_>) {
        self.refused.reset();
        feed.stream.take_missing();
        let window = feed.stream.window();
        let preface = window.starts_with(PREFACE);
        // A server's first frame (RFC 9113, 3.4).
        let first = flow == Flow::Response && feed.stream.position() == 0;
        let settings = first && Head::read(window).is_some_and(|head| head.is_settings());
        self.sure |= preface || settings;
        if preface {
            feed.stream.skip(PREFACE.len() as u64);
        }
        let side = self.side(flow);
        side.hpack = Decoder::new(!preface && !settings);
        side.block = None;
        side.state = State::Frame;
    }

    /// Reads a frame's head, and of its payload what matters.
    fn frame(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        let window = feed.stream.window();
        let Some(head) = Head::read(window) else {
            return feed.stream.is_cut() && self.lose(flow, feed);
        };
        let continues = self
            .side(flow)
            .block
            .as_ref()
            .map(|block| block.head.stream);
        let expected = match continues {
            Some(stream) => head.kind == kind::CONTINUATION && head.stream == stream,
            None => head.kind != kind::CONTINUATION,
        };
        if !expected || !head.is_sound() {
            feed.stats.protocol_malformed.add(1);
            return self.lose(flow, feed);
        }
        let length = head.length as usize;
        let cut = feed.stream.is_cut();
        let payload = window.get(HEAD..).unwrap_or_default();
        match head.kind {
            kind::HEADERS | kind::PUSH_PROMISE | kind::CONTINUATION => {
                match payload.get(..length) {
                    Some(_) => self.fields(flow, head, feed),
                    None if length > MAX_BLOCK => {
                        feed.stats.protocol_head_too_long.add(1);
                        self.unread(flow, head, feed);
                    }
                    None if cut => {
                        feed.stats.protocol_cut.add(1);
                        self.unread(flow, head, feed);
                    }
                    None => return false,
                }
            }
            kind::RST_STREAM => {
                let code = match payload.first_chunk::<4>() {
                    Some(code) => frame::error(u32::from_be_bytes(*code)),
                    None if cut => frame::UNREAD,
                    None => return false,
                };
                self.pass(flow, head, After::Reset(code), feed);
            }
            kind::DATA => return self.data(flow, head, feed),
            _ => self.pass(flow, head, After::Nothing, feed),
        }
        true
    }

    /// A header block, or a piece of one, is in the window.
    fn fields(&mut self, flow: Flow, head: Head, feed: &mut Feed<'_>) {
        let start = feed.stream.mark(0);
        let length = HEAD.saturating_add(head.length as usize);
        let payload = feed.stream.window().get(HEAD..length).unwrap_or_default();
        let ends = head.has(frame::END_HEADERS);
        let Some(content) = head.content(payload) else {
            feed.stats.protocol_malformed.add(1);
            return self.unread(flow, head, feed);
        };
        let side = self.side(flow);
        let (begun, fields) = match side.block.take() {
            None if ends => ((head, start), side.read(content, feed.stats)),
            before => {
                let mut block = before.unwrap_or(Block::new(head, start));
                block.add(content, feed.stats);
                if !ends {
                    side.block = Some(block);
                    return feed.stream.skip(length as u64);
                }
                let fields = match block.whole {
                    true => side.read(&block.bytes, feed.stats),
                    false => side.lose(),
                };
                ((block.head, block.start), fields)
            }
        };
        feed.stream.skip(length as u64);
        let (head, start) = begun;
        self.head(flow, head, start, fields, feed);
        self.end_of(flow, head, feed);
    }

    /// Bytes of a header block are missing: what it said is not known, nor what it left in the table.
    fn unread(&mut self, flow: Flow, head: Head, feed: &mut Feed<'_>) {
        let start = feed.stream.mark(0);
        let side = self.side(flow);
        side.hpack.lose();
        let ends = head.has(frame::END_HEADERS);
        let mut block = side.block.take().unwrap_or(Block::new(head, start));
        block.whole = false;
        block.bytes = Vec::new();
        let mut after = After::Unread(block.head, block.start);
        if !ends {
            after = After::Nothing;
            side.block = Some(block);
        }
        self.pass(flow, head, after, feed);
    }

    /// An unknown number of frames of this flow may go by unseen.
    fn lose(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        feed.stats.protocol_resynced.add(1);
        self.taps.lose_all(flow);
        if flow == Flow::Response {
            self.end_begun(feed);
        }
        // A turn that was refused is not looked at again.
        feed.stream.skip_front();
        self.tell_missing(flow, feed);
        let side = self.side(flow);
        side.hpack.lose();
        side.block = None;
        side.state = State::Seek;
        true
    }
}

impl Side {
    /// The fields of a whole block, and whether they are all it has.
    fn read(&mut self, block: &[u8], stats: &Stats) -> (Vec<Field>, bool) {
        let mut fields = Vec::new();
        let read = self
            .hpack
            .block(block, MAX_BLOCK, |field| fields.push(field));
        let forgotten = self.hpack.take_forgotten();
        stats.protocol_entries_forgotten.add(forgotten);
        let Ok(all) = read else {
            stats.protocol_unreadable.add(1);
            return self.lose();
        };
        stats.protocol_head_too_long.add(u64::from(!all));
        (fields, all)
    }

    /// A block cannot be read: nothing is known of it, nor of what it left in the table.
    fn lose(&mut self) -> (Vec<Field>, bool) {
        self.hpack.lose();
        (Vec::new(), false)
    }
}

impl Block {
    fn new(head: Head, start: Mark) -> Self {
        Self {
            head,
            start,
            bytes: Vec::new(),
            whole: true,
        }
    }

    fn add(&mut self, content: &[u8], stats: &Stats) {
        if !self.whole {
            return;
        }
        if self.bytes.len().saturating_add(content.len()) > MAX_BLOCK {
            stats.protocol_head_too_long.add(1);
            self.whole = false;
            self.bytes = Vec::new();
            return;
        }
        self.bytes.extend_from_slice(content);
    }
}

fn message(flow: Flow, stream: u32, at: Mark, part: Part) -> Message {
    Message {
        flow,
        pairing: Pairing::Number(stream.into()),
        at,
        part,
    }
}

#[cfg(test)]
mod tests;
