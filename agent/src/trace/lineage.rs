//! Which unit of execution started which, and where programs start units that outlive the request they
//! are started for.
//!
//! Never true here: that a unit is its own ancestor for ever. Walks are bounded by who asks.

use std::collections::VecDeque;

use foldhash::{HashMap, HashMapExt as _, HashSet, HashSetExt as _};
use smallvec::SmallVec;

use super::units::{Unit, Who};
use crate::event::{Nanos, Started};

/// How a unit came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Birth {
    /// Who started it.
    pub parent: Unit,
    /// When.
    pub time: Nanos,
    /// Where in the program.
    pub site: u64,
    /// Whether what the unit sends is its own.
    pub own: bool,
}

/// Births that were told, and places in programs that are believed no more. Bounded: what was told first
/// goes first.
#[derive(Debug)]
pub(super) struct Lineage {
    births: HashMap<Who, SmallVec<[Birth; 1]>>,
    order: VecDeque<(Who, Nanos)>,
    lasting: HashSet<(u32, u64)>,
    lasting_order: VecDeque<(u32, u64)>,
    capacity: usize,
}

impl Lineage {
    /// At most so many births, and as many places.
    pub fn new(capacity: usize) -> Self {
        Self {
            births: HashMap::new(),
            order: VecDeque::new(),
            lasting: HashSet::new(),
            lasting_order: VecDeque::new(),
            capacity,
        }
    }

    /// Takes in a birth.
    pub fn started(&mut self, started: &Started) {
        let parent = Unit::starting(started.parent);
        let (Some(unit), Some(parent)) = (Unit::named(started.unit), parent) else {
            return;
        };
        let who = (started.process, unit);
        let time = started.time;
        let births = self.births.entry(who).or_default();
        let at = births.partition_point(|birth| birth.time <= time);
        births.insert(
            at,
            Birth {
                parent,
                time,
                site: started.site,
                own: started.own,
            },
        );
        self.order.push_back((who, time));
        while self.order.len() > self.capacity
            && let Some((who, time)) = self.order.pop_front()
        {
            let left = self.births.get_mut(&who).is_some_and(|births| {
                births.retain(|birth| birth.time != time);
                !births.is_empty()
            });
            if !left {
                self.births.remove(&who);
            }
        }
    }

    /// How the unit of that name came to be that there was at a moment: names may come again.
    pub fn of(&self, who: Who, at: Nanos) -> Option<Birth> {
        let births = self.births.get(&who)?;
        births.iter().rev().find(|birth| birth.time <= at).copied()
    }

    /// Units that are started there outlive the request they are started for, and may work for others; true
    /// if that is news.
    pub fn lasts(&mut self, process: u32, site: u64) -> bool {
        if !self.lasting.insert((process, site)) {
            return false;
        }
        self.lasting_order.push_back((process, site));
        if self.lasting_order.len() > self.capacity
            && let Some(oldest) = self.lasting_order.pop_front()
        {
            self.lasting.remove(&oldest);
        }
        true
    }

    /// Whether that was seen of units that are started there.
    pub fn is_lasting(&self, process: u32, site: u64) -> bool {
        self.lasting.contains(&(process, site))
    }
}

#[cfg(test)]
mod tests {
    use agent_ebpf::abi::unit::GOROUTINE;

    use super::*;
    use crate::trace::units::Runtime;

    fn started(unit: u64, parent: u64, time: Nanos) -> Started {
        Started {
            process: 7,
            unit: GOROUTINE | unit,
            parent: GOROUTINE | parent,
            time,
            site: unit,
            own: false,
        }
    }

    fn who(unit: u64) -> Who {
        (7, Unit::Of(Runtime::Go, unit))
    }

    #[test]
    fn a_name_that_comes_again_is_told_apart_by_time() {
        let mut lineage = Lineage::new(8);
        // In any order: rings are read one after the other.
        lineage.started(&started(5, 3, 300));
        lineage.started(&started(5, 1, 100));
        let parent = |at| lineage.of(who(5), at).map(|birth| birth.parent);
        assert_eq!(parent(99), None);
        assert_eq!(parent(100), Some(who(1).1));
        assert_eq!(parent(299), Some(who(1).1));
        assert_eq!(parent(300), Some(who(3).1));
        assert_eq!(lineage.of((8, who(5).1), 300), None);
    }

    #[test]
    fn it_stays_within_bounds() {
        let mut lineage = Lineage::new(8);
        for n in 1..1000 {
            lineage.started(&started(n % 20 + 1, 900, n));
            lineage.lasts(n as u32 % 3, n);
            assert!(lineage.order.len() <= 8 && lineage.births.len() <= 8);
            assert!(lineage.lasting.len() <= 8 && lineage.lasting_order.len() <= 8);
        }
        assert_eq!(lineage.of(who(1), 999), None);
        assert!(lineage.of(who(20), 999).is_some());
        // Garbage of no kind is nobody's.
        lineage.started(&Started {
            unit: u64::MAX,
            ..started(2, 1, 5000)
        });
        assert_eq!(lineage.order.len(), 8);
        assert!(!lineage.lasts(0, 999) && lineage.is_lasting(0, 999));
        assert!(!lineage.is_lasting(0, 9));
    }
}
