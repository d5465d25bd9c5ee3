//! What is open on a channel, and what its messages refer to: publishes that wait for the broker's
//! confirm, deliveries that wait for the consumer's acknowledgement, pulls that wait for a message.
//!
//! Tags count from one on each channel (specification, 3.1.8.3; RabbitMQ, publisher confirms), so a
//! tag means something only as long as every publish since was seen.
//!
//! Never true here: that more than a constant is held for a connection.

use std::collections::VecDeque;

use super::frame::Method;
use crate::connection::Mark;
use crate::protocol::Flow;

/// One channel.
#[derive(Debug, Default)]
pub struct Channel {
    /// Whether it was asked for, and the broker has not opened it yet.
    pub opening: bool,
    /// Whether publishes are confirmed.
    pub confirms: Confirms,
    /// Publishes that are not confirmed yet, in order.
    pub unconfirmed: VecDeque<Published>,
    /// Deliveries that are not acknowledged yet: tag and number, in order.
    pub unacked: VecDeque<(u64, u64)>,
    /// Numbers of pulls that have no answer yet, in order.
    pub pulls: VecDeque<u64>,
    /// Answers that come before theirs, to pulls that were given up.
    pub passed: u32,
    /// Whether pulls may have gone by unseen since the last that was seen.
    pub pulls_lost: bool,
    /// Whether the client acknowledges what is delivered, as far as was seen.
    pub acknowledges: bool,
    /// Who consumes here.
    pub consumers: Vec<Consumer>,
    /// Consumers that the broker has yet to name: queue, and whether nothing is acknowledged.
    pub unnamed: VecDeque<(Box<str>, bool)>,
    /// The queue that was declared last, which an empty name means.
    pub declared: Option<Box<str>>,
    /// Content that is under way, of each flow.
    pub sending: Option<Box<Content>>,
    /// The same of the broker.
    pub receiving: Option<Box<Content>>,
}

/// Whether the broker confirms what is published on a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Confirms {
    /// Not known: the channel's beginning was not seen.
    #[default]
    Unknown,
    /// It does not.
    Off,
    /// It does; with the tag that the next publish has, where that is known.
    On(Option<u64>),
}

/// A publish that waits for its confirm.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// Its tag.
    pub tag: u64,
    /// Its exchange's number.
    pub number: u64,
    /// A hash of exchange and routing key, where it may be returned.
    pub route: Option<u64>,
    /// Why it was returned.
    pub returned: Option<u16>,
}

/// A consumer.
#[derive(Debug)]
pub struct Consumer {
    /// Its tag.
    pub tag: Box<[u8]>,
    /// Its queue.
    pub queue: Box<str>,
    /// Whether it acknowledges nothing.
    pub silent: bool,
}

impl Consumer {
    /// What it costs to hold, in bytes.
    pub fn weight(&self) -> usize {
        let texts = self.tag.len().saturating_add(self.queue.len());
        texts.saturating_add(size_of::<Self>())
    }
}

/// A method whose content header and body are to come.
#[derive(Debug)]
pub struct Content {
    /// The method.
    pub what: What,
    /// Its first byte.
    pub start: Mark,
    /// Number of its exchange, once that is open.
    pub number: Option<u64>,
    /// Bytes of body that are to come, once that is known.
    pub left: Option<u64>,
    /// Bytes of body.
    pub size: u64,
}

impl Content {
    /// What it costs to hold, in bytes.
    pub fn weight(&self) -> usize {
        let texts = match &self.what {
            What::Publish { exchange, key, .. } => [exchange.len(), key.len(), 0],
            What::Deliver {
                exchange,
                key,
                queue,
                ..
            } => {
                let queue = queue.as_ref().map_or(0, |queue| queue.len());
                [exchange.len(), key.len(), queue]
            }
            What::Got { key, .. } => [key.len(), 0, 0],
            What::Nothing => [0; 3],
        };
        texts
            .into_iter()
            .fold(size_of::<Self>(), usize::saturating_add)
    }
}

/// What has content.
#[derive(Debug)]
pub enum What {
    /// `basic.publish`.
    Publish {
        /// Where it goes.
        exchange: Box<str>,
        /// By what key.
        key: Box<str>,
        /// Whether it comes back where no queue takes it.
        mandatory: bool,
        /// How it ends.
        end: End,
    },
    /// `basic.deliver`.
    Deliver {
        /// Where it was published.
        exchange: Box<str>,
        /// By what key.
        key: Box<str>,
        /// The queue it comes from, where that is known.
        queue: Option<Box<str>>,
        /// Its tag.
        tag: u64,
        /// How it ends.
        end: End,
    },
    /// `basic.get-ok`, which answers a pull that was seen.
    Got {
        /// By what key it was published.
        key: Box<str>,
        /// Its tag.
        tag: u64,
    },
    /// Of no exchange.
    Nothing,
}

/// How a message's exchange ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// When the other side has confirmed or acknowledged this tag.
    Tag(u64),
    /// With its last byte: nothing answers it.
    Itself,
    /// With its last byte, as far as is known.
    Unknown,
}

impl Channel {
    /// A channel whose beginning was seen.
    pub fn fresh() -> Self {
        Self {
            opening: true,
            confirms: Confirms::Off,
            ..Self::default()
        }
    }

    /// How a publish ends that begins now.
    pub fn publish(&mut self) -> End {
        match &mut self.confirms {
            Confirms::Off => End::Itself,
            Confirms::Unknown | Confirms::On(None) => End::Unknown,
            Confirms::On(Some(next)) => {
                let tag = *next;
                *next = next.saturating_add(1);
                End::Tag(tag)
            }
        }
    }

    /// How a delivery to a consumer ends.
    pub fn deliver(&self, tag: u64, consumer: Option<&Consumer>) -> End {
        match consumer {
            Some(Consumer { silent: true, .. }) => End::Itself,
            Some(_) => End::Tag(tag),
            None if self.acknowledges => End::Tag(tag),
            None => End::Unknown,
        }
    }

    /// A publish was returned: the first it can be.
    pub fn return_of(&mut self, route: u64, code: u16) {
        let is = |p: &&mut Published| p.route == Some(route) && p.returned.is_none();
        if let Some(published) = self.unconfirmed.iter_mut().find(is) {
            published.returned = Some(code);
        }
    }

    /// The consumer of this tag.
    pub fn consumer(&self, tag: &[u8]) -> Option<&Consumer> {
        self.consumers.iter().find(|c| *c.tag == *tag)
    }

    /// What its texts cost to hold, in bytes.
    pub fn texts(&self) -> usize {
        let consumers = self.consumers.iter().map(Consumer::weight);
        let place = size_of::<(Box<str>, bool)>();
        let unnamed = self.unnamed.iter();
        let unnamed = unnamed.map(|(queue, _)| queue.len().saturating_add(place));
        let declared = self.declared.as_ref().map_or(0, |queue| queue.len());
        consumers
            .chain(unnamed)
            .fold(declared, usize::saturating_add)
    }

    /// Whether something is under way or waited for that frames of this flow bring.
    pub fn can_lose(&self, flow: Flow) -> bool {
        match flow {
            Flow::Request => self.sending.is_some() || !self.unacked.is_empty(),
            Flow::Response => {
                let waits = !self.pulls.is_empty() || !self.unconfirmed.is_empty();
                self.receiving.is_some() || waits
            }
        }
    }

    /// Exchanges that are open on it, but for content that is under way.
    pub fn open(&self) -> usize {
        let pulls = self.pulls.len();
        let waiting = self.unconfirmed.len().saturating_add(self.unacked.len());
        pulls.saturating_add(waiting)
    }
}

/// Takes out those that a tag settles, the first first. `multiple`: it and all before it, all of them
/// where it is 0.
pub fn settle<T: Copy>(
    waiting: &mut VecDeque<T>,
    tag_of: impl Fn(&T) -> u64,
    (tag, multiple): (u64, bool),
    mut each: impl FnMut(T),
) {
    if multiple {
        // Redelivered messages have new tags: they are in order.
        while let Some(first) = waiting.front().copied()
            && (tag == 0 || tag_of(&first) <= tag)
        {
            waiting.pop_front();
            each(first);
        }
    } else if let Some(at) = waiting.iter().position(|one| tag_of(one) == tag)
        && let Some(one) = waiting.remove(at)
    {
        each(one);
    }
    let room = waiting.capacity();
    if room > KEEP && waiting.len() < room / 4 {
        waiting.shrink_to(waiting.len().saturating_mul(2));
    }
}

/// The tag that an acknowledgement speaks of, and whether it is of all before it too.
pub fn tag_of(mut method: Method<'_>) -> Option<((u64, bool), u8)> {
    let tag = method.arguments.u64()?;
    let bits = method.arguments.u8()?;
    // Of `basic.reject` the first bit says something else.
    let multiple = method.id.1 != 90 && bits & 1 != 0;
    Some(((tag, multiple), bits))
}

/// Places that a queue of those who wait may keep.
const KEEP: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_settle_one_or_all_before() {
        let all = || VecDeque::from([1_u64, 2, 3, 4]);
        for (tag, multiple, gone) in [
            (2, false, &[2][..]),
            (2, true, &[1, 2]),
            (0, true, &[1, 2, 3, 4]),
            (0, false, &[]),
            (9, false, &[]),
            (9, true, &[1, 2, 3, 4]),
        ] {
            let (mut waiting, mut seen) = (all(), Vec::new());
            settle(&mut waiting, |t| *t, (tag, multiple), |t| seen.push(t));
            assert_eq!(seen, gone, "{tag} {multiple}");
            assert_eq!(waiting.len() + seen.len(), 4);
        }
    }

    #[test]
    fn room_goes_with_those_who_waited() {
        let mut waiting: VecDeque<u64> = (0..1000).collect();
        settle(&mut waiting, |t| *t, (998, true), |_| {});
        assert!(waiting.len() == 1 && waiting.capacity() <= KEEP);
    }
}
