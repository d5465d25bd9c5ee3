//! DNS (RFC 1035) over UDP and TCP: a question and its answer are one exchange, whoever resolves.
//!
//! A message comes behind its length, as it does over TCP (4.2.2); over UDP the length is put before
//! each datagram where datagrams become a stream. Questions pair with answers by their number and what
//! was asked; a question that is sent again is the same one.
//!
//! Never true here: that a question is told twice, that an answer is given to a question of other words,
//! or that a message is read whose records do not end where it does.

mod message;

use crate::connection::stream::Missing;
use std::time::Duration;

use smallvec::SmallVec;

use self::message::{HEAD, Head, Said, read};
use super::reader::Reader;
use super::seek::Refused;
use super::{
    Fault, Feed, Finish, Flow, Message, Pairing, Parser, Part, Protocol, Setup, Status, Verdict,
};

/// The registry's entry.
pub const PROTOCOL: &dyn Protocol = &Dns;

/// Questions of one connection that wait at once; past that the oldest is given up.
const MAX_OPEN: usize = 256;
/// How long a question waits: resolvers ask again after five seconds (resolv.conf(5), `timeout`).
const PATIENCE: Duration = Duration::from_secs(7);

#[derive(Debug)]
struct Dns;

impl Protocol for Dns {
    fn name(&self) -> &'static str {
        "dns"
    }

    fn sniff(&self, bytes: &[u8]) -> Verdict {
        let Some((length, rest)) = bytes.split_first_chunk() else {
            return Verdict::More;
        };
        let length = usize::from(u16::from_be_bytes(*length));
        if length < HEAD {
            return Verdict::Not;
        }
        match rest.get(..length) {
            Some(message) => match read(message) {
                // That every record ends where the message does is not had by chance.
                Some(read) if read.head.is_answer => Verdict::Is(Flow::Response),
                Some(_) => Verdict::Is(Flow::Request),
                None => Verdict::Not,
            },
            None if rest.len() < HEAD => match Head::may_begin(rest) {
                true => Verdict::More,
                false => Verdict::Not,
            },
            None => match Head::read(&mut Reader::new(rest)) {
                Some(_) => Verdict::More,
                None => Verdict::Not,
            },
        }
    }

    fn ports(&self) -> &'static [u16] {
        &[53]
    }

    fn has_datagrams(&self) -> bool {
        true
    }

    fn patience(&self) -> Option<Duration> {
        Some(PATIENCE)
    }

    fn parser(&self, _: Setup) -> Box<dyn Parser> {
        Box::new(Dialogue::default())
    }
}

/// One connection.
#[derive(Debug, Default)]
struct Dialogue {
    /// Questions that wait, the oldest first.
    open: SmallVec<[Question; 2]>,
    /// Turns in a row that were no messages.
    refused: Refused,
    /// What passed unseen of the answers while somebody waited, by cause.
    unseen: Missing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Question {
    id: u16,
    /// Of its number and words.
    key: u64,
}

impl Parser for Dialogue {
    fn parse(&mut self, flow: Flow, feed: &mut Feed<'_>) -> Status {
        loop {
            let window = feed.stream.window();
            let Some((length, rest)) = window.split_first_chunk::<2>() else {
                if feed.stream.is_cut() {
                    feed.stats.protocol_cut.add(1);
                    self.pass(flow, feed);
                    continue;
                }
                return Status::Stay;
            };
            let length = usize::from(u16::from_be_bytes(*length));
            let Some(bytes) = rest.get(..length) else {
                if !feed.stream.is_cut() {
                    return Status::Stay;
                }
                feed.stats.protocol_cut.add(1);
                self.pass(flow, feed);
                continue;
            };
            match read(bytes).map(|read| read.said()) {
                Some(said) => {
                    self.refused.reset();
                    self.take(flow, said, length, feed);
                    feed.stream.skip(length.saturating_add(2) as u64);
                    feed.stream.take_missing();
                }
                None => {
                    feed.stats.protocol_malformed.add(1);
                    if self.refused.again(feed.stats) {
                        return Status::Leave;
                    }
                    self.pass(flow, feed);
                }
            }
        }
    }

    fn close(&mut self, flow: Flow, _: bool, feed: &mut Feed<'_>) {
        self.give_up(flow, feed);
    }

    fn quiet(&mut self, flow: Flow, feed: &mut Feed<'_>) {
        self.give_up(flow, feed);
    }

    fn silenced(&mut self, _: &mut Feed<'_>) {
        self.open.clear();
    }

    fn weight(&self) -> usize {
        match self.open.spilled() {
            true => self.open.capacity().saturating_mul(size_of::<Question>()),
            false => 0,
        }
    }
}

impl Dialogue {
    /// Passes over what cannot be read, up to the next turn.
    fn pass(&mut self, flow: Flow, feed: &mut Feed<'_>) {
        feed.stats.protocol_resynced.add(1);
        loop {
            feed.stream.skip_front();
            match feed.stream.front() {
                Some(front) if !front.turn || front.hole.is_some() => {}
                _ => break,
            }
        }
        let missing = feed.stream.take_missing();
        if flow == Flow::Request || self.open.is_empty() {
            return;
        }
        self.unseen.merge(missing);
    }

    /// No more comes: those who wait, while some of the answers passed unseen, had theirs among them
    /// for all that can be known.
    fn give_up(&mut self, flow: Flow, feed: &mut Feed<'_>) {
        if flow == Flow::Request || !self.unseen.any() {
            return;
        }
        let at = feed.stream.last();
        for question in self.open.drain(..) {
            let faults = self
                .unseen
                .iter()
                .map(|(cause, bytes)| Part::Fault(Fault::Missing { cause, bytes }));
            for part in faults.chain([Part::Abandon]) {
                feed.out.push(Message {
                    flow: Flow::Response,
                    pairing: Pairing::Slot(question.key),
                    at,
                    part,
                });
            }
        }
        self.unseen = Missing::default();
    }

    /// Takes the message at the stream's front, of so many bytes behind its length.
    fn take(&mut self, flow: Flow, said: Said, length: usize, feed: &mut Feed<'_>) {
        let (first, last) = (
            feed.stream.mark(0),
            feed.stream.mark(length.saturating_add(1)),
        );
        let finish = Part::Finish(Finish {
            body: length as u64,
            exact: true,
            whole: true,
        });
        let Said { id, key, part } = said;
        let mut push = |at, key, part| {
            feed.out.push(Message {
                flow,
                pairing: Pairing::Slot(key),
                at,
                part,
            });
        };
        match (part, flow) {
            (Ok(request), Flow::Request) => {
                let Some(key) = key.filter(|key| self.open.iter().all(|q| q.key != *key)) else {
                    return;
                };
                if self.open.len() >= MAX_OPEN {
                    push(first, self.open.remove(0).key, Part::Abandon);
                }
                self.open.push(Question { id, key });
                push(first, key, Part::Request(request, last));
                push(last, key, finish);
            }
            (Err(response), Flow::Response) => match self.asked(id, key) {
                Some(key) => {
                    push(first, key, Part::Response(response));
                    push(last, key, finish);
                }
                None => feed.stats.exchange_unasked.add(1),
            },
            // A resolver may ask others over the socket that it answers on.
            _ => {}
        }
    }

    /// The question that a message answers; where it does not repeat it, the only one of its number.
    fn asked(&mut self, id: u16, key: Option<u64>) -> Option<u64> {
        let is = |question: &Question| match key {
            Some(key) => question.key == key,
            None => question.id == id,
        };
        let mut all = (0..).zip(&self.open).filter(|(_, question)| is(question));
        let (at, _) = all.next()?;
        let only = all.next().is_none();
        let key = only.then(|| self.open.remove(at).key);
        if self.open.is_empty() {
            self.unseen = Missing::default();
        }
        key
    }
}

#[cfg(test)]
mod tests;
