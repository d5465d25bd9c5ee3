//! Requests and responses that pair by their order: who waits for an answer, and what a hole does
//! to that.
//!
//! After a hole that may have swallowed a request or a response, order pairs nothing until a moment
//! at which nobody can be waiting: a request that begins a turn while no response is under way
//! ([`Order::settle`]). Until then requests that cannot be paired are abandoned and responses go
//! unpaired. Requests past [`MAX_WAITING`] are no more than counted: as many responses go unpaired
//! before those that were asked later have their turn.
//!
//! Never true here: that a response is given to a request it may not belong to.

use std::collections::VecDeque;

/// Deepest pipelining that is followed.
pub const MAX_WAITING: usize = 1024;
/// Places for those who wait that cost nothing, and that a connection may keep while nobody does.
const KEEP: usize = 16;

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
    /// Its number, what is to be known of it, and whether it began a turn.
    Asked(u64, T, bool),
    /// So many requests, which were too many to be known one by one.
    Beyond(u64),
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

    /// A request waits from now on; `None` when too many do (its answer will go unpaired). `turn`:
    /// bytes went the other way just before it.
    pub fn ask(&mut self, with: T, turn: bool) -> Option<u64> {
        if self.waiting.len() >= MAX_WAITING {
            match self.waiting.back_mut() {
                Some(Slot::Beyond(count)) => *count = count.saturating_add(1),
                Some(Slot::Unknown) => {}
                _ => self.waiting.push_back(Slot::Beyond(1)),
            }
            return None;
        }
        let number = self.unpaired();
        self.waiting.push_back(Slot::Asked(number, with, turn));
        Some(number)
    }

    /// What those who wait cost to hold, in bytes; 0 where few do.
    pub fn weight(&self) -> usize {
        let slots = self.waiting.len().saturating_sub(KEEP);
        slots.saturating_mul(size_of::<Slot<T>>())
    }

    /// The request that the next response answers.
    pub fn first(&self) -> Option<(u64, T)> {
        match self.waiting.front() {
            Some(Slot::Asked(number, with, _)) if !self.answers_lost => Some((*number, *with)),
            _ => None,
        }
    }

    /// Whether requests or responses were missed, and it was not started anew since.
    pub fn is_lost(&self) -> bool {
        let asked = |slot: &Slot<T>| matches!(slot, Slot::Asked(..));
        self.answers_lost || !self.waiting.iter().all(asked)
    }

    /// Those who wait, as far as is known.
    pub fn asked(&self) -> impl Iterator<Item = u64> {
        self.waiting.iter().filter_map(|slot| match slot {
            Slot::Asked(number, ..) => Some(*number),
            Slot::Beyond(_) | Slot::Unknown => None,
        })
    }

    /// Whether the request of this number waits, its response not among those that were lost.
    pub fn waits(&self, number: u64) -> bool {
        !self.answers_lost
            && self
                .waiting
                .iter()
                .any(|slot| matches!(slot, Slot::Asked(n, ..) if *n == number))
    }

    /// The response to this request is over, or one that went unpaired.
    pub fn answered(&mut self, number: u64) {
        match self.waiting.front_mut() {
            Some(Slot::Asked(first, ..)) if *first == number => {}
            Some(Slot::Beyond(count)) if *count > 1 => {
                *count = count.saturating_sub(1);
                return;
            }
            Some(Slot::Beyond(_)) => {}
            _ => return,
        }
        self.waiting.pop_front();
        self.shrink();
    }

    /// An unknown number of requests may be missing after those that wait.
    pub fn lose_asks(&mut self) {
        if !matches!(self.waiting.back(), Some(Slot::Unknown)) {
            self.waiting.push_back(Slot::Unknown);
        }
    }

    /// An unknown number of responses may be missing: gives up all that wait, but for the one whose
    /// response is under way and a last one that began a turn: its response cannot be among them
    /// if the next one to be seen begins a turn too ([`Order::resume`]).
    pub fn lose_answers(&mut self, under_way: Option<u64>, mut abandon: impl FnMut(u64)) {
        self.answers_lost = true;
        for slot in &mut self.waiting {
            if matches!(slot, Slot::Beyond(_)) {
                *slot = Slot::Unknown;
            }
        }
        let last = self.next.wrapping_sub(1);
        self.waiting.retain(|slot| match slot {
            Slot::Asked(number, ..) if Some(*number) == under_way => true,
            Slot::Asked(number, _, true) if *number == last => true,
            Slot::Asked(number, ..) => {
                abandon(*number);
                false
            }
            Slot::Beyond(_) | Slot::Unknown => true,
        });
    }

    /// A response begins a turn: it answers the one request that waits, if that began one too,
    /// since what was lost came before that.
    pub fn resume(&mut self) {
        if self.waiting.len() == 1
            && let Some(Slot::Asked(_, _, true)) = self.waiting.front()
        {
            self.answers_lost = false;
        }
    }

    /// A request begins a turn while no response is under way, which tells that nobody waits, but for
    /// those past the bound: if anything was lost, gives up those that seem to, and starts anew.
    pub fn settle(&mut self, abandon: impl FnMut(u64)) {
        let beyond = |slot: &Slot<T>| matches!(slot, Slot::Beyond(_));
        if !self.waiting.iter().any(beyond) {
            self.start_anew(abandon);
        }
    }

    /// Nobody can be waiting now, whoever was: if anything was lost, gives up those that seem to, and
    /// starts anew.
    pub fn start_anew(&mut self, abandon: impl FnMut(u64)) {
        if self.is_lost() {
            self.answers_lost = false;
            self.give_up(abandon);
        }
    }

    /// Gives up all that wait.
    pub fn give_up(&mut self, mut abandon: impl FnMut(u64)) {
        for slot in self.waiting.drain(..) {
            if let Slot::Asked(number, ..) = slot {
                abandon(number);
            }
        }
        self.shrink();
    }

    fn shrink(&mut self) {
        if self.waiting.is_empty() && self.waiting.capacity() > KEEP {
            self.waiting = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_pairs() {
        let mut order = Order::default();
        let a = order.ask('a', false).expect("room");
        let b = order.ask('b', false).expect("room");
        assert_eq!(order.first(), Some((a, 'a')));
        order.answered(a);
        assert!(!order.waits(a));
        assert_eq!(order.first(), Some((b, 'b')));
    }

    #[test]
    fn an_unknown_request_shields_those_after_it() {
        let mut order = Order::default();
        let a = order.ask('a', false).expect("room");
        order.lose_asks();
        let c = order.ask('c', false).expect("room");
        order.answered(a);
        assert_eq!(order.first(), None);
        let mut abandoned = Vec::new();
        order.settle(|n| abandoned.push(n));
        assert_eq!(abandoned, [c]);
        let d = order.ask('d', false).expect("room");
        assert_eq!(order.first(), Some((d, 'd')));
    }

    #[test]
    fn lost_answers_spare_the_one_under_way() {
        let mut order = Order::default();
        let a = order.ask('a', false).expect("room");
        let b = order.ask('b', false).expect("room");
        let mut abandoned = Vec::new();
        order.lose_answers(Some(a), |n| abandoned.push(n));
        assert_eq!(abandoned, [b]);
        assert_eq!(order.first(), None);
        order.answered(a);
        order.settle(|_| panic!("nobody is left"));
        let c = order.ask('c', false).expect("room");
        assert_eq!(order.first(), Some((c, 'c')));
    }

    #[test]
    fn a_turn_on_both_sides_pairs_again() {
        let mut order = Order::default();
        order.ask('a', true).expect("room");
        let b = order.ask('b', true).expect("room");
        let mut abandoned = 0;
        order.lose_answers(None, |_| abandoned += 1);
        assert_eq!((abandoned, order.first()), (1, None));
        order.resume();
        assert_eq!(order.first(), Some((b, 'b')));
    }

    #[test]
    fn pipelining_has_a_limit() {
        let mut order = Order::default();
        for _ in 0..MAX_WAITING {
            assert!(order.ask((), false).is_some());
        }
        assert!(order.ask((), false).is_none());
        assert!(order.ask((), false).is_none());
    }

    #[test]
    fn those_past_the_bound_have_their_answers_too() {
        let mut order = Order::default();
        for _ in 0..MAX_WAITING {
            assert!(order.ask((), false).is_some());
        }
        assert_eq!(order.ask((), false), None);
        assert_eq!(order.ask((), false), None);
        for _ in 0..3 {
            let (number, ()) = order.first().expect("known");
            order.answered(number);
        }
        // It begins a turn, but others wait.
        order.settle(|number| panic!("{number} is given up"));
        let late = order.ask((), true).expect("room");
        for _ in 3..MAX_WAITING {
            let (number, ()) = order.first().expect("known");
            order.answered(number);
        }
        for _ in 0..2 {
            assert_eq!(order.first(), None);
            let number = order.unpaired();
            order.answered(number);
        }
        assert_eq!(order.first(), Some((late, ())));
    }

    #[test]
    fn those_past_the_bound_are_lost_with_the_answers() {
        let mut order = Order::default();
        for _ in 0..=MAX_WAITING {
            order.ask((), false);
        }
        order.lose_answers(None, |_| {});
        order.settle(|_| {});
        let number = order.ask((), true).expect("room");
        assert_eq!(order.first(), Some((number, ())));
    }
}
