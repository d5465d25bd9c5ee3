//! Requests of one connection that wait for their answers, by the number that both have.
//!
//! A number is used again once its answer came. So where answers may have passed unseen the next request
//! of a number tells that the one before is over; and where requests may have too, an answer of that
//! number may be to one of those.
//!
//! Never true here: that more than [`MAX_WAITING`] are held, or that an answer is given to a request that
//! it may not belong to.

use std::collections::HashMap;
use std::sync::Arc;

use super::names;
use crate::connection::Mark;
use crate::event::Nanos;
use crate::protocol::sql::Described;
use crate::protocol::{Flow, Message, Pairing, Part};
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
}

/// What a request is to us.
#[derive(Debug)]
pub enum What {
    /// An exchange.
    Statement,
    /// An exchange, whose answer names this statement, if it is known.
    Prepare(Option<Arc<Described>>),
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
            Self::Prepare(Some(statement)) => names::weight(&[], Some(&**statement)),
            _ => 0,
        }
    }
}

/// Those that wait.
#[derive(Debug, Default)]
pub struct Waiting {
    asked: HashMap<i16, Asked>,
    /// How often requests and answers were lost.
    lost: [u64; 2],
    /// How many may change the keyspace.
    uses: usize,
    /// Bytes of statements that wait for their id.
    held: usize,
}

impl Waiting {
    /// A request waits from now on; false where too many do. What waited with its number has had its
    /// answer unseen, and is given back.
    pub fn ask(
        &mut self,
        number: i16,
        mut what: What,
        may_use: bool,
        time: Nanos,
        stats: &Stats,
    ) -> (bool, Option<Asked>) {
        let before = self.take(number);
        if self.asked.len() >= MAX_WAITING {
            stats.exchange_too_deep.add(1);
            return (false, before);
        }
        self.uses = self.uses.saturating_add(may_use.into());
        let held = self.held.saturating_add(what.weight());
        match (&mut what, held > ROOM) {
            (What::Prepare(statement), true) => *statement = None,
            _ => self.held = held,
        }
        let lost = self.lost;
        let asked = Asked {
            what,
            may_use,
            time,
            lost,
        };
        self.asked.insert(number, asked);
        (true, before)
    }

    /// The request that an answer of this number is to that was moved then, and whether that is sure:
    /// what was kept until it was known whose it is may be older than all that was asked.
    pub fn answer(&mut self, number: i16, time: Nanos) -> Option<(Asked, bool)> {
        self.asked.get(&number).filter(|asked| asked.time <= time)?;
        let asked = self.take(number)?;
        let sure = !self.lost_since(&asked.lost);
        Some((asked, sure))
    }

    fn take(&mut self, number: i16) -> Option<Asked> {
        let asked = self.asked.remove(&number)?;
        self.uses = self.uses.saturating_sub(asked.may_use.into());
        self.held = self.held.saturating_sub(asked.what.weight());
        if self.asked.is_empty() && self.asked.capacity() > KEEP {
            self.asked = HashMap::new();
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
        places.saturating_add(self.held)
    }
}

/// The number of an exchange: never 0, which is one on the wire.
pub fn number(stream: i16) -> u64 {
    u64::from(stream.cast_unsigned()).saturating_add(1)
}

/// A message of an exchange.
pub fn message(flow: Flow, number: u64, at: Mark, part: Part) -> Message {
    Message {
        flow,
        pairing: Pairing::Number(number),
        at,
        part,
    }
}

/// The answer to a request cannot be known any more.
pub fn abandon(stream: i16, asked: &Asked, at: Mark, out: &mut Vec<Message>) {
    if asked.what.is_told() {
        let part = Part::Abandon;
        out.push(message(Flow::Response, number(stream), at, part));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let mut waiting = Waiting::default();
        for number in 0..1000 {
            let statement = Described {
                text: Some("x".repeat(2000)),
                ..Described::default()
            };
            let what = What::Prepare(Some(Arc::new(statement)));
            waiting.ask(number, what, false, 1, &Stats::default());
        }
        let weight = waiting.weight();
        assert!(weight > ROOM / 2 && weight < 2 * ROOM, "{weight}");
        for number in 0..1000 {
            assert!(waiting.answer(number, 1).is_some());
        }
        assert_eq!(waiting.weight(), 0);
    }

    #[test]
    fn there_is_a_limit() {
        let mut waiting = Waiting::default();
        for number in 0..3000 {
            assert_eq!(asks(&mut waiting, number), number < 2048);
        }
        assert!(waiting.answer(0, 1).is_some());
        assert!(asks(&mut waiting, 0));
        let before = waiting.ask(0, What::Other, false, 1, &Stats::default()).1;
        assert!(before.is_some_and(|asked| asked.what.is_told()));
    }
}
