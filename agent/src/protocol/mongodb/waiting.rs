//! Requests of one connection that wait for their responses.
//!
//! A server takes one message of a connection after the other, so that what was asked before a
//! request that is answered, and was not, has had its answer where it was not seen, or none.
//!
//! Never true here: that more than [`MAX_WAITING`] are held, or that one that was given up is answered.

use std::collections::VecDeque;

use super::frame::Head;
use crate::protocol::reader::Read;
use crate::protocol::{Feed, Flow, told};

/// Most that wait at once; past that the oldest is given up.
const MAX_WAITING: usize = 1024;
/// Places that cost nothing.
const KEEP: usize = 16;

/// A request, as far as reading its response needs it.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The number that its next response names.
    pub id: i32,
    /// The number of its exchange, if it has one.
    pub number: Option<u64>,
    /// Whether a response was told, and there are more.
    pub told: bool,
    /// Whether it reads and nothing else, where it has much to bring.
    pub reads: bool,
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

    /// A response was seen, and another one follows.
    pub fn again(&mut self, asked: Asked) {
        self.asked.push_front(asked);
    }

    /// Whether bytes begin like a response to one of these.
    pub fn answers(&self, bytes: &[u8]) -> Read<()> {
        match Head::read(bytes) {
            Read::Whole(head) if head.is_of(Flow::Response) && self.find(head.to).is_some() => {
                Read::Whole(())
            }
            Read::More => Read::More,
            _ => Read::Never,
        }
    }

    /// The request that a response is to; what was asked before it is given up.
    pub fn answer(&mut self, to: i32, feed: &mut Feed<'_>) -> Option<Asked> {
        let at = self.find(to)?;
        for _ in 0..at {
            if let Some(asked) = self.take() {
                abandon(&asked, feed);
            }
        }
        // What was asked after it is answered after it.
        self.doubtful = 0;
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

    fn find(&self, to: i32) -> Option<usize> {
        self.asked.iter().position(|asked| asked.id == to)
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

fn abandon(asked: &Asked, feed: &mut Feed<'_>) {
    if let Some(number) = asked.number {
        let at = feed.stream.mark(0);
        told::abandon(number, at, feed);
    }
}
