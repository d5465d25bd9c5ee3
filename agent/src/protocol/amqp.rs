//! AMQP 0-9-1 as RabbitMQ speaks it (specification 0-9-1; RabbitMQ's extensions: publisher confirms,
//! `basic.nack`, consumer cancellation by the broker).
//!
//! What is given to the broker, pulled from it, or delivered by it makes an exchange; all else is
//! housekeeping. A publish ends with the broker's confirm where the channel has them, else with its
//! last byte. A delivery is opened by the broker and ends with the consumer's acknowledgement, or
//! with its last byte where there is none. Bodies are passed over by their frames' lengths.
//!
//! After a hole, tags that count what was sent mean nothing until the channel is opened anew: what is
//! published then ends with its last byte and says so.
//!
//! Never true here: that a body is looked at, or that a confirm is given to a publish it may not
//! belong to.

mod channel;
mod content;
mod frame;
mod message;
mod method;

use std::collections::BTreeSet;
use std::collections::hash_map::Entry;
use std::mem::take;

use foldhash::{HashMap, HashMapExt as _};

use self::channel::{Channel, Content};
use self::frame::{END, First, HEAD, Head, MAX_READ, Method, PROTOCOL_HEADER, kind};
use super::reader::kept;
use super::seek::Refused;
use super::{Fault, Feed, Flow, Message, Pairing, Parser, Part, Protocol, Setup, Status, Verdict};
use crate::connection::Mark;
use crate::stats::Stats;

/// The registry's entry.
pub const PROTOCOL: &dyn Protocol = &Amqp;

/// Runs without a method that begin like no frame or end so, until the connection is given up.
const MAX_REFUSED: u32 = 4096;
/// Most channels that are followed: what RabbitMQ allows by default.
const MAX_CHANNELS: usize = 2048;
/// Most exchanges that wait for an answer on all channels.
const MAX_WAITING: usize = 1000;
/// Most bytes of queues' and consumers' names.
const MAX_TEXTS: usize = 64 * 1024;
/// Most bytes of content that is under way on all channels, but for bodies.
const MAX_CONTENTS: usize = 64 * 1024;

#[derive(Debug)]
struct Amqp;

impl Protocol for Amqp {
    fn name(&self) -> &'static str {
        NAME
    }

    fn sniff(&self, bytes: &[u8]) -> Verdict {
        frame::sniff(bytes, false)
    }

    fn sniff_amid(&self, bytes: &[u8]) -> Verdict {
        frame::sniff(bytes, true)
    }

    fn ports(&self) -> &'static [u16] {
        &[5672]
    }

    fn parser(&self, setup: Setup) -> Box<dyn Parser> {
        Box::new(Dialogue {
            keep: kept(&setup.config.limits),
            channels: HashMap::new(),
            request: Side::default(),
            response: Side::default(),
            next: 0,
            waiting: 0,
            texts: 0,
            contents: 0,
            refused: Refused::default(),
            closed: false,
            left: false,
        })
    }
}

const NAME: &str = "amqp";

/// One connection.
#[derive(Debug)]
struct Dialogue {
    /// Bytes kept of a text.
    keep: usize,
    channels: HashMap<u16, Channel>,
    request: Side,
    response: Side,
    /// The next exchange's number.
    next: u64,
    /// Exchanges that wait for an answer.
    waiting: usize,
    /// Bytes of queues' and consumers' names.
    texts: usize,
    /// Bytes of content that is under way, but for bodies.
    contents: usize,
    /// Runs since the last method that began like no frame, or ended so.
    refused: Refused<MAX_REFUSED>,
    /// Whether the broker has ended it.
    closed: bool,
    left: bool,
}

/// One flow.
#[derive(Debug, Default)]
struct Side {
    state: State,
    /// Where frames went by unseen that nobody was told of yet.
    lost: Lost,
    /// The first number of those exchanges that can only have been opened in the last turn.
    turn: u64,
    /// Channels that were used since frames were lost anywhere; the others have nothing to lose.
    used: BTreeSet<u16>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Lost {
    #[default]
    Nowhere,
    /// On this channel.
    On(u16),
    Anywhere,
}

/// Where a flow is.
#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Passes over everything until something begins like a frame.
    #[default]
    Seek,
    /// At a frame's head.
    Frame,
    /// At the last byte of a frame of which nothing else is to be read, or before it.
    Tail(Head),
    /// Nothing more is read.
    Done,
}

/// Where findings go, and the frame they come from.
#[derive(Debug)]
struct Say<'a> {
    out: &'a mut Vec<Message>,
    stats: &'a Stats,
    /// Its flow.
    flow: Flow,
    /// Its first and its last byte.
    first: Mark,
    last: Mark,
}

impl Say<'_> {
    fn put(&mut self, flow: Flow, number: u64, at: Mark, part: Part) {
        self.out.push(Message {
            flow,
            pairing: Pairing::Order(number),
            at,
            part,
        });
    }
}

impl Parser for Dialogue {
    // A publisher that is told nothing sends in one turn, for as long as it lives.
    fn needs_whole(&self) -> bool {
        true
    }

    fn parse(&mut self, flow: Flow, feed: &mut Feed<'_>) -> Status {
        while !self.left && self.step(flow, feed) {}
        match self.left {
            true => Status::Leave,
            false => Status::Stay,
        }
    }

    fn missed(&mut self, flow: Flow, _feed: &mut Feed<'_>) {
        // What is answered next may have been opened behind those that are known.
        self.side(flow).turn = u64::MAX;
    }

    fn close(&mut self, flow: Flow, _clean: bool, feed: &mut Feed<'_>) {
        self.tell_lost(flow, false, feed);
        self.side(flow).state = State::Done;
    }

    fn quiet(&mut self, flow: Flow, feed: &mut Feed<'_>) {
        self.tell_lost(flow, false, feed);
    }

    fn weight(&self) -> usize {
        let channels = self.channels.capacity().saturating_sub(4);
        let waiting = self
            .waiting
            .saturating_mul(2 * size_of::<channel::Published>());
        channels
            .saturating_mul(size_of::<Channel>())
            .saturating_add(waiting)
            .saturating_add(self.texts)
            .saturating_add(self.contents)
    }
}

impl Dialogue {
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
            State::Tail(head) => self.tail(flow, head, feed),
            State::Done => {
                feed.stream.skip_all();
                feed.stream.take_missing();
                false
            }
        }
    }

    /// Looks for a frame of this flow where bytes begin that were moved together.
    fn seek(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        while let Some(front) = feed.stream.front() {
            if front.hole.is_none() {
                let turn = front.turn;
                self.tell_lost(flow, turn, feed);
                let (bytes, cut) = feed.stream.turn_window();
                if flow == Flow::Request && bytes.starts_with(PROTOCOL_HEADER) {
                    feed.stream.skip(PROTOCOL_HEADER.len() as u64);
                    return self.begin(flow, feed);
                }
                let header = flow == Flow::Request && PROTOCOL_HEADER.starts_with(bytes);
                match frame::first(bytes) {
                    First::Of(sender, _) if sender.is_in(flow) => return self.begin(flow, feed),
                    First::More if !cut => return false,
                    _ if header && !cut => return false,
                    _ if self.refuse(feed) => {}
                    _ => return false,
                }
            }
            feed.stream.skip_front();
            feed.stream.take_missing();
        }
        false
    }

    /// Something is no frame; false if that was too often.
    fn refuse(&mut self, feed: &Feed<'_>) -> bool {
        self.left |= self.refused.again(feed.stats);
        !self.left
    }

    fn begin(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        feed.stream.take_missing();
        self.side(flow).state = State::Frame;
        true
    }

    /// Reads a frame's head, and all of it but of a body.
    fn frame(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        let Some(front) = feed.stream.front() else {
            return false;
        };
        let (turn, run) = (front.turn, front.bytes.len());
        if front.hole.is_none() {
            self.tell_lost(flow, turn, feed);
        }
        if turn {
            self.side(flow).turn = self.next;
        }
        let window = feed.stream.window();
        let Some(head) = Head::read(window) else {
            return feed.stream.is_cut() && self.lose(flow, true, feed);
        };
        if !head.is_sound() {
            return self.lose(flow, false, feed);
        }
        if matches!(head.kind, kind::BODY | kind::HEARTBEAT) {
            feed.stream.skip(head.length().saturating_sub(1));
            self.side(flow).state = State::Tail(head);
            return true;
        }
        let size = usize::try_from(head.size).unwrap_or(usize::MAX);
        let read = size.min(MAX_READ);
        // Its last byte too, where all of it is read.
        let needed = HEAD
            .saturating_add(read)
            .saturating_add(usize::from(read == size));
        let Some(bytes) = window.get(..needed) else {
            if !feed.stream.is_cut() {
                return false;
            }
            feed.stats.protocol_cut.add(1);
            let mut say = say(flow, 0, feed.stream, feed.out, feed.stats);
            self.drop_content(head.channel, &mut say);
            if head.kind == kind::METHOD {
                self.lost(flow, Lost::On(head.channel));
            }
            return self.pass(flow, head, feed);
        };
        if read == size && bytes.last() != Some(&END) {
            return self.lose(flow, false, feed);
        }
        let payload = bytes
            .get(HEAD..HEAD.saturating_add(read))
            .unwrap_or_default();
        let mut say = say(flow, needed, feed.stream, feed.out, feed.stats);
        match (head.kind, Method::read(payload)) {
            (kind::HEADER, _) => self.header(head.channel, payload, &mut say),
            (_, Some(method)) if method.sender.is_in(flow) => {
                self.refused.reset();
                self.method(head.channel, method, &mut say);
            }
            // Whole, and nothing that is known.
            _ => feed.stats.protocol_unreadable.add(1),
        }
        if read < size {
            feed.stats.protocol_head_too_long.add(1);
            return self.pass(flow, head, feed);
        }
        if needed > run && feed.stream.turn_window().0.len() < needed {
            // A turn begins in it.
            self.side(flow).turn = self.next;
        }
        feed.stream.skip(head.length());
        true
    }

    /// Passes over a frame of which no more is to be read.
    fn pass(&mut self, flow: Flow, head: Head, feed: &mut Feed<'_>) -> bool {
        feed.stream.skip(head.length().saturating_sub(1));
        let side = self.side(flow);
        side.turn = u64::MAX;
        side.state = State::Tail(Head {
            kind: kind::HEARTBEAT,
            ..head
        });
        true
    }

    /// Frames may have gone by unseen.
    fn lost(&mut self, flow: Flow, on: Lost) {
        let lost = &mut self.side(flow).lost;
        *lost = match *lost {
            Lost::Nowhere => on,
            same if same == on => on,
            _ => Lost::Anywhere,
        };
    }

    /// Tells those who wait that what they wait for may have gone by unseen. Where a `turn` follows,
    /// that was before the other side's last one, and what began in that is not meant.
    fn tell_lost(&mut self, flow: Flow, turn: bool, feed: &mut Feed<'_>) {
        let lost = take(&mut self.side(flow).lost);
        if lost == Lost::Nowhere {
            return;
        }
        let since = match turn {
            true => self.side(flow.opposite()).turn,
            false => u64::MAX,
        };
        let mut say = say(flow, 0, feed.stream, feed.out, feed.stats);
        let all: Vec<u16> = match lost {
            Lost::On(channel) => vec![channel],
            _ => take(&mut self.side(flow).used).into_iter().collect(),
        };
        for channel in all {
            self.forget(channel, since, &mut say);
            if (self.channels.get(&channel)).is_some_and(|channel| channel.can_lose(flow)) {
                self.side(flow).used.insert(channel);
            }
        }
    }

    /// Reads a frame's last byte.
    fn tail(&mut self, flow: Flow, head: Head, feed: &mut Feed<'_>) -> bool {
        if !feed.stream.reached() {
            return false;
        }
        match feed.stream.window().first() {
            Some(&END) => feed.stream.skip(1),
            Some(_) => return self.lose(flow, false, feed),
            None if feed.stream.is_cut() => feed.stream.skip(1),
            None => return false,
        }
        self.side(flow).state = State::Frame;
        let missing = feed.stream.take_missing();
        if head.kind != kind::BODY {
            return true;
        }
        // Turns within a body are not seen.
        self.side(flow).turn = u64::MAX;
        let last = feed.stream.last();
        let mut say = Say {
            out: feed.out,
            stats: feed.stats,
            flow,
            first: last,
            last,
        };
        let content = self.content(flow, head.channel);
        if let Some(number) = content.and_then(|content| content.number) {
            for (cause, bytes) in missing.iter() {
                let fault = Fault::Missing { cause, bytes };
                say.put(flow, number, last, Part::Fault(fault));
            }
        }
        self.body(head.channel, u64::from(head.size), &mut say);
        true
    }

    /// The bytes make no sense, or are not there (`cut`): counts that and looks for the next frame.
    fn lose(&mut self, flow: Flow, cut: bool, feed: &mut Feed<'_>) -> bool {
        if cut {
            feed.stats.protocol_cut.add(1);
        } else {
            feed.stats.protocol_malformed.add(1);
            self.refuse(feed);
        }
        feed.stats.protocol_resynced.add(1);
        let mut say = say(flow, 0, feed.stream, feed.out, feed.stats);
        let all: Vec<u16> = self.side(flow).used.iter().copied().collect();
        for channel in all {
            self.drop_content(channel, &mut say);
        }
        self.lost(flow, Lost::Anywhere);
        self.side(flow).turn = u64::MAX;
        // What was refused is not looked at again.
        feed.stream.skip_front();
        feed.stream.take_missing();
        self.side(flow).state = State::Seek;
        true
    }

    /// The content that is under way on a channel.
    fn content(&mut self, flow: Flow, channel: u16) -> Option<&mut Box<Content>> {
        let channel = self.channels.get_mut(&channel)?;
        match flow {
            Flow::Request => channel.sending.as_mut(),
            Flow::Response => channel.receiving.as_mut(),
        }
    }

    /// What is lost from now on may be a channel's.
    fn uses(&mut self, channel: u16) {
        self.request.used.insert(channel);
        self.response.used.insert(channel);
    }

    /// A channel that is used, as far as there is room for one more.
    fn channel(&mut self, number: u16, stats: &Stats) -> Option<&mut Channel> {
        if self.channels.len() < MAX_CHANNELS || self.channels.contains_key(&number) {
            self.uses(number);
        }
        let full = self.channels.len() >= MAX_CHANNELS;
        match self.channels.entry(number) {
            Entry::Occupied(channel) => Some(channel.into_mut()),
            Entry::Vacant(_) if full => {
                stats.protocol_streams_forgotten.add(1);
                None
            }
            Entry::Vacant(place) => Some(place.insert(Channel::default())),
        }
    }
}

/// A frame of `length` bytes is at the front.
fn say<'a>(
    flow: Flow,
    length: usize,
    stream: &crate::connection::stream::Stream,
    out: &'a mut Vec<Message>,
    stats: &'a Stats,
) -> Say<'a> {
    Say {
        out,
        stats,
        flow,
        first: stream.mark(0),
        last: stream.mark(length.saturating_sub(1)),
    }
}

#[cfg(test)]
mod tests;
