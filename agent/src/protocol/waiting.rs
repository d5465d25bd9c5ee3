//! Requests that wait for their responses, which name them by a number and come in their order: a server
//! takes one of a connection after the other. What was asked before a request that is answered, and was
//! not, has had its answer where it was not seen, or none.
//!
//! Those who ask count, so that no number comes twice. Where one does, order tells whose an answer is, and
//! behind a loss nothing does. What was kept until it was known whose it is may answer who came before.
//!
//! Never true here: that more than [`MAX_WAITING`] are held, that one that was given up is answered, or
//! one by what is older.

use std::collections::VecDeque;

use super::{Feed, Flow, Message, Pairing, Part};
use crate::event::Nanos;

/// Most that wait at once; past that the oldest is given up.
const MAX_WAITING: usize = 1024;
/// Places that cost nothing.
const KEEP: usize = 16;

/// A request, as far as reading its response needs it.
pub trait Asked {
    /// The number that both have.
    fn number(&self) -> i32;

    /// When its first byte was moved.
    fn time(&self) -> Nanos;

    /// What pairs the two halves of its exchange, if it has one.
    fn pairing(&self) -> Option<Pairing>;
}

/// Those that wait, oldest first.
#[derive(Debug)]
pub struct Waiting<T> {
    asked: VecDeque<T>,
    /// Of how many, the oldest, the response may have passed unseen.
    doubtful: usize,
    /// The number that was asked with last, and whether one came twice in a row.
    last: Option<i32>,
    repeats: bool,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self {
            asked: VecDeque::new(),
            doubtful: 0,
            last: None,
            repeats: false,
        }
    }
}

impl<T: Asked> Waiting<T> {
    /// A request waits from now on.
    pub fn ask(&mut self, asked: T, feed: &mut Feed<'_>) {
        if self.asked.len() >= MAX_WAITING {
            feed.stats.exchange_too_deep.add(1);
            self.give_up(1, feed);
        }
        self.repeats |= self.last.replace(asked.number()) == Some(asked.number());
        self.asked.push_back(asked);
    }

    /// A response was seen, and another one follows.
    pub fn again(&mut self, asked: T) {
        self.asked.push_front(asked);
    }

    /// Whether one waits with this number.
    pub fn has(&self, number: i32) -> bool {
        self.find(number).is_some()
    }

    /// The request that the response at the front is to; what was asked before it is given up.
    pub fn answer(&mut self, number: i32, feed: &mut Feed<'_>) -> Option<T> {
        let at = self.find(number)?;
        if self.asked.get(at)?.time() > feed.stream.mark(0).time {
            return None;
        }
        let last = self.asked.iter().rposition(|one| one.number() == number)?;
        if self.doubtful > 0 && last > at {
            self.give_up(last.saturating_add(1), feed);
            return None;
        }
        self.give_up(at, feed);
        // What was asked after it is answered after it.
        self.doubtful = 0;
        self.take()
    }

    /// Responses may have passed unseen.
    pub fn doubt(&mut self) {
        self.doubtful = self.asked.len();
    }

    /// Requests may have passed unseen behind these: numbers that come again may be theirs.
    pub fn lose_asks(&mut self, feed: &mut Feed<'_>) {
        if self.repeats {
            self.give_up(self.asked.len(), feed);
        }
    }

    /// Nothing comes any more: gives up those that may have had their response unseen.
    pub fn give_up_doubtful(&mut self, feed: &mut Feed<'_>) {
        self.give_up(self.doubtful, feed);
    }

    /// What they cost to hold, in bytes; 0 where few do.
    pub fn weight(&self) -> usize {
        let places = self.asked.len().saturating_sub(KEEP);
        places.saturating_mul(size_of::<T>())
    }

    fn find(&self, number: i32) -> Option<usize> {
        self.asked.iter().position(|one| one.number() == number)
    }

    /// Gives up so many, the oldest first.
    fn give_up(&mut self, count: usize, feed: &mut Feed<'_>) {
        for _ in 0..count {
            if let Some(pairing) = self.take().and_then(|asked| asked.pairing()) {
                feed.out.push(Message {
                    flow: Flow::Response,
                    pairing,
                    at: feed.stream.mark(0),
                    part: Part::Abandon,
                });
            }
        }
    }

    fn take(&mut self) -> Option<T> {
        self.doubtful = self.doubtful.saturating_sub(1);
        let asked = self.asked.pop_front();
        if self.asked.is_empty() && self.asked.capacity() > KEEP {
            self.asked = VecDeque::new();
        }
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::stream::Stream;
    use crate::stats::Stats;

    /// A number, and an exchange.
    impl Asked for (i32, u64) {
        fn number(&self) -> i32 {
            self.0
        }

        fn time(&self) -> Nanos {
            0
        }

        fn pairing(&self) -> Option<Pairing> {
            Some(Pairing::Order(self.1))
        }
    }

    /// Does this with some that wait; gives the exchanges that were given up.
    fn with(
        asks: &[(i32, u64)],
        act: impl FnOnce(&mut Waiting<(i32, u64)>, &mut Feed<'_>),
    ) -> Vec<u64> {
        let (mut stream, mut out, stats) = (Stream::default(), Vec::new(), Stats::default());
        let mut feed = Feed {
            stream: &mut stream,
            out: &mut out,
            stats: &stats,
        };
        let mut waiting = Waiting::default();
        for one in asks {
            waiting.ask(*one, &mut feed);
        }
        act(&mut waiting, &mut feed);
        let gone = out.iter().map(|message| match message.pairing {
            Pairing::Order(n) | Pairing::Number(n) | Pairing::Slot(n) => n,
        });
        gone.collect()
    }

    #[test]
    fn what_was_asked_before_an_answer_is_over() {
        let gone = with(&[(1, 10), (2, 20), (3, 30)], |waiting, feed| {
            waiting.doubt();
            assert_eq!(waiting.answer(2, feed), Some((2, 20)));
            // The last one is still to be answered.
            waiting.give_up_doubtful(feed);
            assert_eq!(waiting.answer(3, feed), Some((3, 30)));
        });
        assert_eq!(gone, [10]);
    }

    #[test]
    fn numbers_that_come_twice_pair_by_order_and_not_behind_a_loss() {
        let gone = with(&[(0, 10), (0, 20)], |waiting, feed| {
            assert_eq!(waiting.answer(0, feed), Some((0, 10)));
            assert_eq!(waiting.answer(0, feed), Some((0, 20)));
        });
        assert!(gone.is_empty());
        let gone = with(&[(0, 10), (0, 20)], |waiting, feed| {
            waiting.doubt();
            assert_eq!(waiting.answer(0, feed), None);
        });
        assert_eq!(gone, [10, 20]);
    }

    #[test]
    fn requests_that_were_lost_take_numbers_that_repeat() {
        for (asks, answered) in [
            (&[(7, 10), (8, 20)][..], Some((8, 20))),
            (&[(7, 10), (7, 20)], None),
        ] {
            with(asks, |waiting, feed| {
                assert!(waiting.answer(7, feed).is_some());
                waiting.lose_asks(feed);
                waiting.doubt();
                let number = asks[1].0;
                assert_eq!(waiting.answer(number, feed), answered);
            });
        }
    }

    #[test]
    fn there_is_a_limit() {
        let all: Vec<_> = (0..2000).map(|n| (n, 0)).collect();
        let gone = with(&all, |waiting, _| assert!(waiting.weight() > 0));
        assert_eq!(gone.len(), 2000 - MAX_WAITING);
    }
}
