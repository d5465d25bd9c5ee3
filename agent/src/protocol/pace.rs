//! Whether the commands of one connection wait for one another, as far as it shows in turns.
//!
//! Where several callers share a connection, one asks while others wait: then a turn says nothing
//! about who waits. After a loss order can pair again on such a connection only when all has been
//! silent for a while, or question and answer have alternated for long.
//!
//! Never true here: that a connection once seen to be shared is trusted by its turns alone.

use super::order::Order;
use crate::event::Nanos;

/// Nothing is under way on a connection on which nothing has moved for so long.
const SILENCE: Nanos = 50_000_000;
/// Nor on one where command and answer have alternated so many times.
const ALTERNATIONS: u32 = 32;

/// What the turns of one connection show.
#[derive(Debug, Default)]
pub struct Pace {
    shared: bool,
    /// A command began a turn while others waited: unless their answers turn out to be missing.
    waited: bool,
    /// An answer was nobody's: unless a command turns out to be missing.
    unasked: bool,
    /// When something was last moved, in either direction.
    active: Nanos,
    /// Commands of the turn, and answers to them.
    asks: u32,
    answers: u32,
    /// Turns in a row with one of each.
    alternations: u32,
}

impl Pace {
    /// A command begins, first in a turn or not; `waits`: others surely do.
    pub fn asked(&mut self, turn: bool, waits: bool) {
        self.shared |= std::mem::take(&mut self.unasked);
        if turn {
            self.waited |= waits;
            self.alternations = match (self.asks, self.answers) {
                (1, 1) => self.alternations.saturating_add(1),
                _ => 0,
            };
            (self.asks, self.answers) = (0, 0);
        }
        self.asks = self.asks.saturating_add(1);
    }

    /// An answer begins.
    pub fn answered(&mut self) {
        self.shared |= std::mem::take(&mut self.waited);
        self.answers = self.answers.saturating_add(1);
    }

    /// A message ended.
    pub fn moved(&mut self, time: Nanos) {
        self.active = self.active.max(time);
    }

    /// Messages may have been missed.
    pub fn lost(&mut self) {
        (self.asks, self.alternations) = (2, 0);
        (self.waited, self.unasked) = (false, false);
    }

    /// An answer is nobody's.
    pub fn unasked(&mut self) {
        self.lost();
        self.unasked = true;
    }

    /// More wait than are counted: the connection is as one that several share.
    pub fn share(&mut self) {
        self.shared = true;
    }

    /// Whether several share the connection.
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// Answers may have passed unseen: gives up who may have had theirs, all of them where a turn does not
    /// tell ([`Order::lose_answers`]).
    pub fn lose_answers<T: Copy>(
        &self,
        order: &mut Order<T>,
        under_way: Option<u64>,
        abandon: impl FnMut(u64),
    ) {
        if self.shared {
            order.give_up(abandon);
            order.lose_asks();
        } else {
            order.lose_answers(under_way, abandon);
        }
    }

    /// Whether nobody can be waiting when a command begins a turn now.
    pub fn is_sure(&self, now: Nanos) -> bool {
        let silent = now.saturating_sub(self.active) >= SILENCE;
        !self.shared || silent || self.alternations >= ALTERNATIONS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_is_known_by_its_turns() {
        let mut pace = Pace::default();
        pace.asked(true, false);
        pace.lost();
        assert!(pace.is_sure(1));
    }

    #[test]
    fn what_is_missing_is_nobodys_fault() {
        let mut pace = Pace::default();
        pace.asked(true, false);
        pace.asked(true, true);
        pace.lost();
        pace.answered();
        pace.unasked();
        pace.lost();
        pace.asked(true, false);
        assert!(!pace.is_shared());
        pace.unasked();
        pace.asked(true, false);
        assert!(pace.is_shared());
    }

    #[test]
    fn several_callers_are_known_by_silence_or_long_alternation() {
        let mut pace = Pace::default();
        pace.asked(true, false);
        pace.asked(true, true);
        assert!(!pace.is_shared());
        pace.answered();
        pace.moved(10);
        assert!(pace.is_shared() && !pace.is_sure(20));
        assert!(pace.is_sure(10 + SILENCE));
        for _ in 0..ALTERNATIONS {
            assert!(!pace.is_sure(20));
            pace.asked(true, false);
            pace.answered();
        }
        assert!(pace.is_sure(20));
        pace.lost();
        assert!(!pace.is_sure(20));
    }
}
