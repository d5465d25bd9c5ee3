//! Requests of one connection that wait for their answers, by the number that both have.
//!
//! A number is used again once its answer came. So where answers may have passed unseen the next request
//! of a number tells that the one before is over; and where requests may have too, an answer of that
//! number may be to one of those. Where none have, two requests of a number wait at once, as who writes
//! an answer may be told of it later than who reads the next request: which answer is whose nobody knows.
//!
//! Never true here: that more than [`MAX_WAITING`] are held, or that an answer is given to a request that
//! it may not belong to.

use std::collections::{HashMap, VecDeque};

use super::names::Prepared;
use crate::connection::Mark;
use crate::event::Nanos;
use crate::protocol::told::slotted;
use crate::protocol::{Flow, Message, Part};
use crate::stats::Stats;

/// Most that are followed at once; drivers send 1024 to 32768, the fewest of them that many.
const MAX_WAITING: usize = 2048;
/// Places that cost nothing.
const KEEP: usize = 16;
/// Most bytes of statements that wait for their id.
const ROOM: usize = 64 << 10;

/// A request, as far as its answer needs it.
#[derive(Debug)]
pub struct Asked {
    /// What is asked.
    pub what: What,
    /// Whether it may change the keyspace.
    pub may_use: bool,
    /// When its first byte was moved.
    time: Nanos,
    /// How often requests and answers were lost before it.
    lost: [u64; 2],
    /// Others of its number that waited when it came, and still do for all that is known.
    others: u32,
    /// Its place among all.
    place: u32,
}

/// What a request is to us.
#[derive(Debug)]
pub enum What {
    /// An exchange.
    Statement,
    /// An exchange, whose answer names this statement, if it is known.
    Prepare(Option<Box<Prepared>>),
    /// Housekeeping.
    Other,
}

impl What {
    /// Whether it is an exchange.
    pub fn is_told(&self) -> bool {
        !matches!(self, Self::Other)
    }

    /// What it costs to hold beyond itself, in bytes.
    fn weight(&self) -> usize {
        match self {
            Self::Prepare(Some(prepared)) => prepared.weight(),
            _ => 0,
        }
    }
}

/// Those that wait.
#[derive(Debug, Default)]
pub struct Waiting {
    asked: HashMap<i16, Asked>,
    /// Numbers and places of these, the oldest first, among others that wait no more.
    order: VecDeque<(i16, u32)>,
    /// The last place that was given.
    next: u32,
    /// How often requests and answers were lost.
    lost: [u64; 2],
    /// How many may change the keyspace.
    uses: usize,
    /// Bytes of statements that wait for their id.
    held: usize,
}

impl Waiting {
    /// A request waits from now on; false where its answer cannot be told. Gives back those whose answer
    /// cannot be either: what waited with its number, and the oldest where too many wait.
    pub fn ask(
        &mut self,
        number: i16,
        mut what: What,
        may_use: bool,
        time: Nanos,
        stats: &Stats,
    ) -> (bool, [Option<(i16, Asked)>; 2]) {
        let before = self.take(number);
        let [_, answers] = self.lost;
        let others = before
            .as_ref()
            .filter(|before| before.lost.get(1) == Some(&answers))
            .map_or(0, |before| before.others.saturating_add(1));
        let oldest = (self.asked.len() >= MAX_WAITING)
            .then(|| self.take_oldest(stats))
            .flatten();
        if others > 0 {
            what = What::Other;
        }
        self.uses = self.uses.saturating_add(may_use.into());
        let held = self.held.saturating_add(what.weight());
        match (&mut what, held > ROOM) {
            (What::Prepare(prepared), true) => {
                stats.protocol_entries_forgotten.add(1);
                *prepared = None;
            }
            _ => self.held = held,
        }
        self.next = self.next.wrapping_add(1);
        let asked = Asked {
            what,
            may_use,
            time,
            lost: self.lost,
            others,
            place: self.next,
        };
        self.asked.insert(number, asked);
        self.order.push_back((number, self.next));
        if self.order.len() > self.asked.len().saturating_mul(2).saturating_add(KEEP) {
            let asked = &self.asked;
            self.order.retain(|one| waits(asked, *one));
        }
        let before = before.map(|before| (number, before));
        (others == 0, [before, oldest])
    }

    /// Gives up the one that waits longest: its answer may never come.
    fn take_oldest(&mut self, stats: &Stats) -> Option<(i16, Asked)> {
        while let Some(one) = self.order.pop_front() {
            if waits(&self.asked, one) {
                stats.exchange_too_deep.add(1);
                return self.take(one.0).map(|asked| (one.0, asked));
            }
        }
        None
    }

    /// The request that an answer of this number is to that was moved then, and whether that is sure:
    /// what was kept until it was known whose it is may be older than all that was asked.
    pub fn answer(&mut self, number: i16, time: Nanos) -> Option<(Asked, bool)> {
        let asked = self.asked.get_mut(&number)?;
        if asked.others > 0 {
            asked.others = asked.others.saturating_sub(1);
            return None;
        }
        if asked.time > time {
            return None;
        }
        let asked = self.take(number)?;
        let sure = !self.lost_since(&asked.lost);
        Some((asked, sure))
    }

    fn take(&mut self, number: i16) -> Option<Asked> {
        let asked = self.asked.remove(&number)?;
        self.uses = self.uses.saturating_sub(asked.may_use.into());
        self.held = self.held.saturating_sub(asked.what.weight());
        if self.asked.is_empty() && self.asked.capacity() > KEEP {
            (self.asked, self.order) = (HashMap::new(), VecDeque::new());
        }
        Some(asked)
    }

    /// Messages of this flow may have passed unseen.
    pub fn lose(&mut self, flow: Flow) {
        let [asks, answers] = &mut self.lost;
        let lost = match flow {
            Flow::Request => asks,
            Flow::Response => answers,
        };
        *lost = lost.wrapping_add(1);
    }

    /// How often requests and answers were lost.
    pub fn lost(&self) -> [u64; 2] {
        self.lost
    }

    /// Whether both were since then.
    pub fn lost_since(&self, then: &[u64; 2]) -> bool {
        self.lost.iter().zip(then).all(|(now, then)| now != then)
    }

    /// Whether something waits that may change the keyspace.
    pub fn may_use(&self) -> bool {
        self.uses > 0
    }

    /// Nothing comes any more: gives back those that may have had their answer unseen.
    pub fn give_up_doubtful(&mut self) -> Vec<(i16, Asked)> {
        let [_, answers] = self.lost;
        let doubtful = |asked: &Asked| asked.lost.get(1) != Some(&answers);
        let numbers = self.asked.iter().filter(|(_, asked)| doubtful(asked));
        let mut numbers: Vec<i16> = numbers.map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        let taken = numbers.into_iter();
        taken
            .filter_map(|number| Some((number, self.take(number)?)))
            .collect()
    }

    /// What they cost to hold, in bytes; 0 where few do.
    pub fn weight(&self) -> usize {
        let places = self.asked.len().saturating_sub(KEEP);
        let places = places.saturating_mul(size_of::<(i16, Asked)>());
        let order = self.order.len().saturating_sub(3 * KEEP);
        let order = order.saturating_mul(size_of::<(i16, u32)>());
        places.saturating_add(order).saturating_add(self.held)
    }
}

/// Whether the one that has this place still waits with its number.
fn waits(asked: &HashMap<i16, Asked>, (number, place): (i16, u32)) -> bool {
    let known = asked.get(&number);
    known.is_some_and(|asked| asked.place == place)
}

/// The number of an exchange: never 0, which is one on the wire.
pub fn number(stream: i16) -> u64 {
    u64::from(stream.cast_unsigned()).saturating_add(1)
}

/// The answer to a request cannot be known any more.
pub fn abandon(stream: i16, asked: &Asked, at: Mark, out: &mut Vec<Message>) {
    if asked.what.is_told() {
        let part = Part::Abandon;
        out.push(slotted(Flow::Response, number(stream), at, part));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::sql::Described;

    fn asks(waiting: &mut Waiting, number: i16) -> bool {
        let stats = Stats::default();
        waiting.ask(number, What::Statement, false, 1, &stats).0
    }

    #[test]
    fn where_both_were_lost_an_answer_is_nobodys() {
        let mut waiting = Waiting::default();
        for losses in [
            &[][..],
            &[Flow::Request],
            &[Flow::Response],
            &[Flow::Response, Flow::Request],
        ] {
            assert!(asks(&mut waiting, 1));
            for flow in losses {
                waiting.lose(*flow);
            }
            let sure = waiting.answer(1, 1).map(|(_, sure)| sure);
            assert_eq!(sure, Some(losses.len() < 2), "{losses:?}");
        }
    }

    #[test]
    fn what_waits_for_its_id_has_a_limit() {
        let (mut waiting, stats) = (Waiting::default(), Stats::default());
        for number in 0..1000 {
            let statement = Described {
                text: Some("x".repeat(2000)),
                ..Described::default()
            };
            let what = What::Prepare(Some(Box::new(Prepared::new(statement, None, None))));
            waiting.ask(number, what, false, 1, &stats);
        }
        assert!((900..1000).contains(&stats.protocol_entries_forgotten.get()));
        let held = waiting.held;
        assert!(held > ROOM / 2 && held <= ROOM, "{held}");
        assert!(waiting.weight() > held);
        for number in 0..1000 {
            assert!(waiting.answer(number, 1).is_some());
        }
        assert_eq!(waiting.weight(), 0);
    }

    #[test]
    fn there_is_a_limit() {
        let mut waiting = Waiting::default();
        for number in 0..3000 {
            assert!(asks(&mut waiting, number));
        }
        // The oldest are given up, not those that come.
        assert!(waiting.answer(951, 1).is_none());
        assert!(waiting.answer(952, 1).is_some());
        assert!(waiting.answer(2999, 1).is_some());
        for round in 0..30_000 {
            asks(&mut waiting, round % 7);
            assert!(waiting.answer(round % 7, 1).is_some());
        }
        assert!(waiting.order.len() <= 2 * MAX_WAITING + KEEP + 1);
    }

    #[test]
    fn of_two_with_one_number_neither_is_answered() {
        let mut waiting = Waiting::default();
        assert!(asks(&mut waiting, 5));
        let (told, [before, _]) = waiting.ask(5, What::Statement, false, 1, &Stats::default());
        assert!(!told && before.is_some_and(|(number, asked)| number == 5 && asked.what.is_told()));
        assert!(waiting.answer(5, 1).is_none());
        // Which of them it is does not matter, as neither is told.
        assert!(
            waiting
                .answer(5, 1)
                .is_some_and(|(asked, _)| !asked.what.is_told())
        );
        assert!(asks(&mut waiting, 5));
        assert!(
            waiting
                .answer(5, 1)
                .is_some_and(|(asked, _)| asked.what.is_told())
        );
        // Where answers were lost the first had its own among them.
        assert!(asks(&mut waiting, 5));
        waiting.lose(Flow::Response);
        assert!(asks(&mut waiting, 5));
        assert!(waiting.answer(5, 1).is_some_and(|(_, sure)| sure));
    }
}
