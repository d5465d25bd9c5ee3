//! MQTT 3.1, 3.1.1 (<https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/mqtt-v3.1.1.html>) and 5.0
//! (<https://docs.oasis-open.org/mqtt/mqtt/v5.0/mqtt-v5.0.html>).
//!
//! A message that is published ends with its last byte, or with the acknowledgement that its quality
//! of service asks for: PUBACK, or PUBCOMP. What the server publishes is opened by the server, and is
//! ended the same way by the client. All else is housekeeping. Topics stand in names without what
//! looks like an identifier.
//!
//! A connection from before the agent is known by what only one of its sides says: a subscription, a
//! ping. Whether its packets have properties is told by the first that cannot be read both ways.
//!
//! Never true here: that a payload is kept, or that a packet's name is believed after its
//! acknowledgement may have gone by unseen.

mod packet;
mod talk;

use self::packet::{Head, Malformed, Publish};
use super::known::{Held, Known};
use super::reader::{kept, text};
use super::seek::Refused;
use super::{
    Fault, Feed, Finish, Flow, Message, Pairing, Parser, Part, Protocol, Setup, Status, Verdict,
};
use crate::connection::Mark;

/// The registry's entry.
pub const PROTOCOL: &dyn Protocol = &Mqtt;

#[derive(Debug)]
struct Mqtt;

impl Protocol for Mqtt {
    fn name(&self) -> &'static str {
        "mqtt"
    }

    fn sniff(&self, bytes: &[u8]) -> Verdict {
        packet::sniff(bytes)
    }

    fn sniff_amid(&self, bytes: &[u8]) -> Verdict {
        packet::sniff_amid(bytes)
    }

    fn ports(&self) -> &'static [u16] {
        &[1883]
    }

    fn parser(&self, setup: Setup) -> Box<dyn Parser> {
        Box::new(Dialogue {
            keep: kept(&setup.config.limits),
            request: Side::default(),
            response: Side::default(),
            begun: false,
            nameless: false,
            version: None,
            client: None,
            next: 0,
            understood: false,
        })
    }
}

/// One connection.
#[derive(Debug)]
struct Dialogue {
    /// Bytes kept of a text.
    keep: usize,
    request: Side,
    response: Side,
    /// Whether its beginning was seen, and thereby the client's name.
    begun: bool,
    /// Whether the server is to choose that.
    nameless: bool,
    version: Option<u8>,
    /// The client's name.
    client: Option<String>,
    next: u64,
    /// Whether anything was.
    understood: bool,
}

/// One flow.
#[derive(Debug, Default)]
struct Side {
    state: State,
    /// Whether the position is where a call begins.
    fresh: bool,
    /// Calls in a row that began like no packet.
    refused: Refused<MAX_REFUSED>,
    /// Whether anything of it passed unseen.
    lost: bool,
    /// What was published this way and is not acknowledged.
    published: Known<Published>,
    /// Names of what was acknowledged before it was told: who writes may be told of it later than who
    /// reads.
    early: Vec<[u8; 2]>,
    /// Topics by their aliases.
    aliases: Known<Topic>,
}

#[derive(Debug, Default)]
enum State {
    /// Passes over everything until a call begins with a packet.
    #[default]
    Seek,
    /// At or in a packet's head.
    Head,
    /// In a payload: its exchange, and the number it is acknowledged by.
    Payload(Option<(u64, Option<u16>)>),
}

#[derive(Clone, Copy, Debug)]
struct Published {
    number: u64,
    quality: u8,
    /// Whether the first of two acknowledgements has come.
    received: bool,
}

#[derive(Debug)]
struct Topic(Box<[u8]>);

impl Held for Published {
    fn weight(&self) -> usize {
        0
    }
}

impl Held for Topic {
    fn weight(&self) -> usize {
        self.0.len()
    }
}

impl Parser for Dialogue {
    // What nobody acknowledges goes on without an end.
    fn needs_whole(&self) -> bool {
        true
    }

    fn parse(&mut self, flow: Flow, feed: &mut Feed<'_>) -> Status {
        loop {
            let step = match &self.side(flow).state {
                State::Seek => self.seek(flow, feed),
                State::Head => self.head(flow, feed),
                State::Payload(_) => self.payload(flow, feed),
            };
            match step {
                Step::On => {}
                Step::Wait => {
                    let between = matches!(self.side(flow).state, State::Head);
                    if between && feed.stream.window().is_empty() {
                        self.side(flow).early.clear();
                    }
                    return Status::Stay;
                }
                Step::Over(status) => return status,
            }
        }
    }

    fn close(&mut self, _flow: Flow, _clean: bool, _feed: &mut Feed<'_>) {}

    fn weight(&self) -> usize {
        let sides = [&self.request, &self.response];
        let each = sides.map(|side| {
            let aliases = side.aliases.weight();
            side.published.weight().saturating_add(aliases)
        });
        each.into_iter().fold(0, usize::saturating_add)
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

    /// Looks for a call that begins with packets.
    fn seek(&mut self, flow: Flow, feed: &mut Feed<'_>) -> Step {
        while let Some(front) = feed.stream.front() {
            let (turn, hole, seal) = (front.turn, front.hole.is_some(), front.seal);
            let fresh = std::mem::replace(&mut self.side(flow).fresh, seal);
            if (turn || fresh) && !hole {
                match packet::chain(flow, feed.stream.window()) {
                    Some(true) => {
                        feed.stream.take_missing();
                        let side = self.side(flow);
                        side.state = State::Head;
                        side.refused.reset();
                        return Step::On;
                    }
                    Some(false) if !feed.stream.is_cut() => {
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

    /// Reads a packet, but for the payload of what is published.
    fn head(&mut self, flow: Flow, feed: &mut Feed<'_>) -> Step {
        let window = feed.stream.window();
        let head = match Head::read(flow, window) {
            Ok(Some(head)) => head,
            Ok(None) if feed.stream.is_cut() => {
                feed.stats.protocol_cut.add(1);
                return self.lose(flow, feed);
            }
            Ok(None) => return Step::Wait,
            Err(Malformed) => return self.unreadable(flow, feed),
        };
        let body = window.get(head.length..).unwrap_or_default();
        let whole = body.get(..head.rest);
        let shown = whole.unwrap_or(body);
        if head.kind == packet::PUBLISH {
            let version = self.version;
            match packet::publish(head, version, shown, feed.stats) {
                Some(publish) if packet::is_topic(publish.topic) => {
                    if version.is_none() && publish.topic.is_empty() {
                        self.version = Some(5);
                    }
                    let Publish {
                        topic,
                        alias,
                        id,
                        carrier,
                        length,
                    } = publish;
                    let last = head.length.saturating_add(length).saturating_sub(1);
                    let marks = (feed.stream.mark(0), feed.stream.mark(last));
                    let topic = self.topic(flow, topic.into(), alias, feed.stats);
                    let after = self.publish(flow, (head, id), (topic, carrier), marks, feed);
                    return self.pass(flow, head, after, feed);
                }
                None if whole.is_none() => return self.wait(flow, head, shown.len(), feed),
                _ => return self.unreadable(flow, feed),
            }
        }
        let Some(body) = whole else {
            return self.wait(flow, head, shown.len(), feed);
        };
        self.understood = true;
        let told = || packet::version(head.kind, body);
        self.version = self.version.or_else(told);
        match head.kind {
            packet::CONNECT => {
                let Some(connect) = packet::connect(body) else {
                    return self.unreadable(flow, feed);
                };
                self.version = Some(connect.version);
                // The server chooses a name for who has none, and tells it to who can be told.
                self.nameless = connect.version == 5 && connect.client.is_empty();
                self.begun = !self.nameless;
                self.name(connect.client.into(), feed);
            }
            packet::CONNACK if self.nameless => {
                (self.nameless, self.begun) = (false, true);
                if let Some(name) = packet::assigned(body) {
                    self.name(name.into(), feed);
                }
            }
            packet::PUBACK | packet::PUBREC | packet::PUBCOMP => {
                if let Some((id, code)) = packet::acknowledgement(body) {
                    self.acknowledge(flow, head, (id, code), feed);
                }
            }
            _ => {}
        }
        self.pass(flow, head, None, feed)
    }

    fn name(&mut self, client: Box<[u8]>, feed: &Feed<'_>) {
        self.client = (!client.is_empty()).then(|| text(&client, self.keep, feed.stats));
    }

    /// More of a packet is needed; where it is missing, or is too much, the packet is passed over.
    fn wait(&mut self, flow: Flow, head: Head, shown: usize, feed: &mut Feed<'_>) -> Step {
        if feed.stream.is_cut() {
            feed.stats.protocol_cut.add(1);
        } else if shown > MAX_HEAD {
            feed.stats.protocol_head_too_long.add(1);
        } else {
            return Step::Wait;
        }
        self.overlook(flow, feed);
        self.pass(flow, head, None, feed)
    }

    /// Passes over a packet.
    fn pass(
        &mut self,
        flow: Flow,
        head: Head,
        after: Option<(u64, Option<u16>)>,
        feed: &mut Feed<'_>,
    ) -> Step {
        let length = head.length.saturating_add(head.rest);
        feed.stream.skip(length as u64);
        self.side(flow).state = State::Payload(after);
        Step::On
    }

    /// Waits for the end of a packet.
    fn payload(&mut self, flow: Flow, feed: &mut Feed<'_>) -> Step {
        if !feed.stream.reached() {
            return Step::Wait;
        }
        let at = feed.stream.last();
        let missing = feed.stream.take_missing();
        let side = self.side(flow);
        let state = std::mem::replace(&mut side.state, State::Head);
        let State::Payload(Some((number, id))) = state else {
            return Step::On;
        };
        for (cause, bytes) in missing.iter() {
            let fault = Part::Fault(Fault::Missing { cause, bytes });
            feed.out.push(part(flow, number, at, fault));
        }
        feed.out.push(part(flow, number, at, finish()));
        let id = id.map(u16::to_be_bytes);
        match id {
            None => feed.out.push(part(flow.opposite(), number, at, finish())),
            Some(id) if side.early.contains(&id) => {
                side.published.remove(&id);
                let lost = Part::Abandon;
                feed.out.push(part(flow.opposite(), number, at, lost));
            }
            Some(_) => {}
        }
        Step::On
    }

    fn unreadable(&mut self, flow: Flow, feed: &mut Feed<'_>) -> Step {
        feed.stats.protocol_malformed.add(1);
        match self.understood {
            true => self.lose(flow, feed),
            false => Step::Over(Status::Mistaken),
        }
    }

    /// The position is in the midst of something: looks for the next packet.
    fn lose(&mut self, flow: Flow, feed: &mut Feed<'_>) -> Step {
        feed.stats.protocol_resynced.add(1);
        let seal = feed.stream.front().is_some_and(|front| front.seal);
        feed.stream.skip_front();
        feed.stream.take_missing();
        let side = self.side(flow);
        (side.state, side.fresh) = (State::Seek, seal);
        self.overlook(flow, feed);
        Step::On
    }

    /// What went by unseen may have acknowledged what waits for that, and given topics other aliases.
    fn overlook(&mut self, flow: Flow, feed: &mut Feed<'_>) {
        let at = feed.stream.last();
        self.side(flow).lost = true;
        self.side(flow).aliases.drain();
        for gone in self.side(flow.opposite()).published.drain() {
            feed.out.push(part(flow, gone.number, at, Part::Abandon));
        }
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

/// Calls in a row that begin with no packet, until the connection is given up: a payload may take many.
const MAX_REFUSED: u32 = 4096;
/// Most early acknowledgements that are remembered.
const MAX_EARLY: usize = 16;
/// Most bytes of a packet that are waited for, but for a payload.
const MAX_HEAD: usize = 96 * 1024;

#[cfg(test)]
mod tests;
