//! Requests of one connection that wait for their responses.
//!
//! Never true here: that more than [`MAX_WAITING`] are held, or that one that was given up is answered.

use std::collections::VecDeque;

use super::api;
use super::fields::Fields;
use super::names::Id;
use crate::connection::Mark;
use crate::protocol::reader::Read;
use crate::protocol::{Feed, Flow, Message, Pairing, Part};

/// Most that wait at once; past that the oldest is given up.
const MAX_WAITING: usize = 1024;
/// Places that cost nothing.
const KEEP: usize = 16;
/// Bytes of a response before its body: its length and its number.
pub const HEAD: usize = 8;

/// A request, as far as reading its response needs it.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The number that both have.
    pub correlation: i32,
    /// What is asked.
    pub key: i16,
    /// Of this version.
    pub version: i16,
    /// What that is to us.
    pub what: What,
    /// The number of its exchange, if it has one.
    pub number: Option<u64>,
    /// Whether it is about one message.
    pub single: bool,
    /// The topic it is about, where its name was not known.
    pub unnamed: Option<Id>,
}

/// What a request is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Messages are sent.
    Produce,
    /// Messages are asked for.
    Fetch,
    /// Messages are settled.
    Commit,
    /// The response tells names of topics.
    Metadata,
    /// Housekeeping.
    Other,
}

/// Those that wait, oldest first.
#[derive(Debug, Default)]
pub struct Waiting {
    asked: VecDeque<Asked>,
    /// Of how many, the oldest, the response may have passed unseen.
    doubtful: usize,
}

impl Waiting {
    /// A request waits from now on.
    pub fn ask(&mut self, asked: Asked, feed: &mut Feed<'_>) {
        if self.asked.len() >= MAX_WAITING
            && let Some(oldest) = self.take()
        {
            feed.stats.exchange_too_deep.add(1);
            abandon(&oldest, feed);
        }
        self.asked.push_back(asked);
    }

    /// Whether bytes begin like a response to one of these.
    pub fn answers(&self, bytes: &[u8]) -> Read<()> {
        let length = api::length(bytes);
        match (length, correlation(bytes)) {
            (Read::Never, _) => Read::Never,
            (Read::Whole(_), Some(number)) => match self.find(number) {
                Some(_) => Read::Whole(()),
                None => Read::Never,
            },
            _ => Read::More,
        }
    }

    /// The request that a response is to; what was asked before it is given up.
    pub fn answer(&mut self, correlation: i32, feed: &mut Feed<'_>) -> Option<Asked> {
        let at = self.find(correlation)?;
        for _ in 0..at {
            if let Some(asked) = self.take() {
                abandon(&asked, feed);
            }
        }
        self.take()
    }

    /// Responses may have passed unseen.
    pub fn doubt(&mut self) {
        self.doubtful = self.asked.len();
    }

    /// Nothing comes any more: gives up those that may have had their response unseen.
    pub fn give_up_doubtful(&mut self, feed: &mut Feed<'_>) {
        while self.doubtful > 0
            && let Some(asked) = self.take()
        {
            abandon(&asked, feed);
        }
    }

    /// What they cost to hold, in bytes; 0 where few do.
    pub fn weight(&self) -> usize {
        let places = self.asked.len().saturating_sub(KEEP);
        places.saturating_mul(size_of::<Asked>())
    }

    fn find(&self, correlation: i32) -> Option<usize> {
        let is = |asked: &Asked| asked.correlation == correlation;
        self.asked.iter().position(is)
    }

    fn take(&mut self) -> Option<Asked> {
        self.doubtful = self.doubtful.saturating_sub(1);
        let asked = self.asked.pop_front();
        if self.asked.is_empty() && self.asked.capacity() > KEEP {
            self.asked = VecDeque::new();
        }
        asked
    }
}

/// The number of the request that a response is to.
pub fn correlation(bytes: &[u8]) -> Option<i32> {
    let mut fields = Fields::plain(bytes);
    fields.skip(api::LENGTH as usize)?;
    fields.i32()
}

/// A message of an exchange.
pub fn message(flow: Flow, number: u64, at: Mark, part: Part) -> Message {
    Message {
        flow,
        pairing: Pairing::Slot(number),
        at,
        part,
    }
}

fn abandon(asked: &Asked, feed: &mut Feed<'_>) {
    if let Some(number) = asked.number {
        let at = feed.stream.mark(0);
        feed.out
            .push(message(Flow::Response, number, at, Part::Abandon));
    }
}
