//! Requests and responses that pair by their order: who waits for an answer, and what a hole does
//! to that.
//!
//! After a hole that may have swallowed a request or a response, order pairs nothing until a moment
//! at which nobody can be waiting: a request that begins a turn while no response is under way
//! ([`Order::settle`]). Until then requests that cannot be paired are abandoned and responses go
//! unpaired.
//!
//! Never true here: that a response is given to a request it may not belong to.

use std::collections::VecDeque;

/// Deepest pipelining that is followed.
pub const MAX_WAITING: usize = 128;

/// The requests of one connection that wait for their response, each with what reading that
/// response needs to know (`T`).
#[derive(Debug)]
pub struct Order<T> {
    waiting: VecDeque<Slot<T>>,
    next: u64,
    /// An unknown number of responses was not seen.
    answers_lost: bool,
}

#[derive(Debug)]
enum Slot<T> {
    Asked(u64, T),
    /// An unknown number of requests was not seen.
    Unknown,
}

impl<T> Default for Order<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            next: 0,
            answers_lost: false,
        }
    }
}

impl<T: Copy> Order<T> {
    /// A number that no request has.
    pub fn unpaired(&mut self) -> u64 {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        number
    }

    /// A request waits from now on; `None` when too many do (its answer will go unpaired).
    pub fn ask(&mut self, with: T) -> Option<u64> {
        if self.waiting.len() >= MAX_WAITING {
            self.lose_asks();
            return None;
        }
        let number = self.unpaired();
        self.waiting.push_back(Slot::Asked(number, with));
        Some(number)
    }

    /// The request that the next response answers.
    pub fn first(&self) -> Option<(u64, T)> {
        match self.waiting.front() {
            Some(Slot::Asked(number, with)) if !self.answers_lost => Some((*number, *with)),
            _ => None,
        }
    }

    /// Whether the request of this number waits.
    pub fn waits(&self, number: u64) -> bool {
        self.waiting
            .iter()
            .any(|slot| matches!(slot, Slot::Asked(n, _) if *n == number))
    }

    /// The response to this request is over.
    pub fn answered(&mut self, number: u64) {
        if matches!(self.waiting.front(), Some(Slot::Asked(n, _)) if *n == number) {
            self.waiting.pop_front();
        }
    }

    /// An unknown number of requests may be missing after those that wait.
    pub fn lose_asks(&mut self) {
        if !matches!(self.waiting.back(), Some(Slot::Unknown)) {
            self.waiting.push_back(Slot::Unknown);
        }
    }

    /// An unknown number of responses may be missing: gives up all that wait, but for the one whose
    /// response is under way.
    pub fn lose_answers(&mut self, under_way: Option<u64>, mut abandon: impl FnMut(u64)) {
        self.answers_lost = true;
        self.waiting.retain(|slot| match slot {
            Slot::Asked(number, _) if Some(*number) == under_way => true,
            Slot::Asked(number, _) => {
                abandon(*number);
                false
            }
            Slot::Unknown => true,
        });
    }

    /// Nobody can be waiting now: if anything was lost, gives up those that seem to, and starts anew.
    pub fn settle(&mut self, mut abandon: impl FnMut(u64)) {
        let lost = self.answers_lost || self.waiting.iter().any(|s| matches!(s, Slot::Unknown));
        if !lost {
            return;
        }
        self.answers_lost = false;
        for slot in self.waiting.drain(..) {
            if let Slot::Asked(number, _) = slot {
                abandon(number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_pairs() {
        let mut order = Order::default();
        let a = order.ask('a').expect("room");
        let b = order.ask('b').expect("room");
        assert_eq!(order.first(), Some((a, 'a')));
        order.answered(a);
        assert!(!order.waits(a));
        assert_eq!(order.first(), Some((b, 'b')));
    }

    #[test]
    fn an_unknown_request_shields_those_after_it() {
        let mut order = Order::default();
        let a = order.ask('a').expect("room");
        order.lose_asks();
        let c = order.ask('c').expect("room");
        order.answered(a);
        assert_eq!(order.first(), None);
        let mut abandoned = Vec::new();
        order.settle(|n| abandoned.push(n));
        assert_eq!(abandoned, [c]);
        let d = order.ask('d').expect("room");
        assert_eq!(order.first(), Some((d, 'd')));
    }

    #[test]
    fn lost_answers_spare_the_one_under_way() {
        let mut order = Order::default();
        let a = order.ask('a').expect("room");
        let b = order.ask('b').expect("room");
        let mut abandoned = Vec::new();
        order.lose_answers(Some(a), |n| abandoned.push(n));
        assert_eq!(abandoned, [b]);
        assert_eq!(order.first(), None);
        order.answered(a);
        order.settle(|_| panic!("nobody is left"));
        let c = order.ask('c').expect("room");
        assert_eq!(order.first(), Some((c, 'c')));
    }

    #[test]
    fn pipelining_has_a_limit() {
        let mut order = Order::default();
        for _ in 0..MAX_WAITING {
            assert!(order.ask(()).is_some());
        }
        assert!(order.ask(()).is_none());
        assert!(order.ask(()).is_none());
    }
}
