//! Who made the task that a JVM's thread runs.
//!
//! A thread of a pool that calls for a request runs a task, which the thread that serves the request has
//! made for it: a call is the child of what that thread was serving, if the task was made since it began
//! to. Both are told by addresses: each thread makes its objects in parts of the heap that are its own, one
//! behind the other. Where garbage was collected meanwhile objects have moved, and nothing is known.

use std::collections::{BTreeMap, VecDeque};

use foldhash::{HashMap, HashMapExt as _};

use super::Method;
use super::descent::{Cause, begun};
use super::linker::Linker;
use super::table::{Entry, Handle};
use super::units::{Serving, Unit};
use crate::event::{Allocates, ConnectionId, Nanos, Runs};

/// Where a thread made objects at a moment.
#[derive(Clone, Copy, Debug)]
struct Moment {
    time: Nanos,
    collections: u32,
    start: u64,
    top: u64,
}

/// A part of the heap that was one thread's.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// `None` where it was told of two.
    thread: Option<u32>,
    end: u64,
    /// When it was first seen to be.
    since: Nanos,
}

/// A part's process, how often garbage had been collected there, and its first address.
type Place = (u32, u32, u64);

/// What was told of JVMs' threads. Bounded: what was told first goes first.
#[derive(Debug)]
pub(super) struct Tasks {
    runs: HashMap<(u32, u32), VecDeque<Runs>>,
    runs_order: VecDeque<(u32, u32)>,
    moments: HashMap<(u32, u32), VecDeque<Moment>>,
    moments_order: VecDeque<(u32, u32)>,
    parts: BTreeMap<Place, Part>,
    parts_order: VecDeque<Place>,
    capacity: usize,
}

impl Tasks {
    /// At most so many of each.
    pub fn new(capacity: usize) -> Self {
        Self {
            runs: HashMap::new(),
            runs_order: VecDeque::new(),
            moments: HashMap::new(),
            moments_order: VecDeque::new(),
            parts: BTreeMap::new(),
            parts_order: VecDeque::new(),
            capacity,
        }
    }

    /// Takes in what a thread ran when it sent bytes.
    pub fn runs(&mut self, runs: &Runs) {
        let who = (runs.process, runs.thread);
        self.runs.entry(who).or_default().push_back(*runs);
        self.runs_order.push_back(who);
        forget(&mut self.runs, &mut self.runs_order, self.capacity);
    }

    /// Takes in where a thread makes objects.
    pub fn allocates(&mut self, told: &Allocates) {
        let who = (told.process, told.thread);
        let moments = self.moments.entry(who).or_default();
        let at = moments.partition_point(|moment| moment.time <= told.time);
        moments.insert(
            at,
            Moment {
                time: told.time,
                collections: told.collections,
                start: told.start,
                top: told.top,
            },
        );
        self.moments_order.push_back(who);
        forget(&mut self.moments, &mut self.moments_order, self.capacity);

        let place = (told.process, told.collections, told.start);
        let new = Part {
            thread: Some(told.thread),
            end: told.end,
            since: told.time,
        };
        let part = self.parts.entry(place).or_insert_with(|| {
            self.parts_order.push_back(place);
            new
        });
        if part.thread != new.thread || part.end != new.end {
            part.thread = None;
            part.end = part.end.max(new.end);
        }
        part.since = part.since.min(told.time);
        while self.parts_order.len() > self.capacity
            && let Some(oldest) = self.parts_order.pop_front()
        {
            self.parts.remove(&oldest);
        }
    }

    /// How much is kept.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        let runs = self.runs.values().map(VecDeque::len).sum::<usize>();
        let moments = self.moments.values().map(VecDeque::len).sum::<usize>();
        runs + moments + self.parts.len()
    }

    /// What a thread ran when it sent bytes over a connection at a moment.
    fn of(&self, who: (u32, u32), connection: ConnectionId, at: Nanos) -> Option<&Runs> {
        let runs = self.runs.get(&who)?;
        let last = at.saturating_add(SAME);
        let same = |runs: &&Runs| runs.connection == connection && (at..=last).contains(&runs.time);
        runs.iter().filter(same).min_by_key(|runs| runs.time)
    }

    /// Whose part of the heap an address is in, and the part.
    fn maker(&self, process: u32, collections: u32, address: u64) -> Option<(u32, Place, Part)> {
        let until = (process, collections, address);
        let (place, part) = self.parts.range(..=until).next_back()?;
        let same = (place.0, place.1) == (process, collections) && address < part.end;
        // Parts of one time do not overlap: what seems to be in two is in neither.
        let mut before = self.parts.range(..*place).rev().take(NEIGHBOURS);
        let overlaps = before.any(|(other, part)| {
            (other.0, other.1) == (process, collections) && address < part.end
        });
        let thread = part.thread.filter(|_| same && !overlaps)?;
        Some((thread, *place, *part))
    }

    /// Whether a thread made what is at an address since it read bytes at a moment.
    fn is_since(
        &self,
        who: (u32, u32),
        from: Nanos,
        (place, part): (Place, Part),
        address: u64,
    ) -> bool {
        let Some(moments) = self.moments.get(&who) else {
            return false;
        };
        let at = moments.partition_point(|moment| moment.time < from);
        let Some(read) = moments
            .get(at)
            .filter(|m| m.time <= from.saturating_add(SAME))
        else {
            return false;
        };
        if (read.collections, read.start) == (place.1, place.2) {
            return address >= read.top;
        }
        part.since >= read.time
    }
}

/// Forgets what was told first.
fn forget<T>(
    of: &mut HashMap<(u32, u32), VecDeque<T>>,
    order: &mut VecDeque<(u32, u32)>,
    capacity: usize,
) {
    while order.len() > capacity
        && let Some(who) = order.pop_front()
    {
        let left = of.get_mut(&who).is_some_and(|told| {
            told.pop_front();
            !told.is_empty()
        });
        if !left {
            of.remove(&who);
        }
    }
}

impl Linker {
    /// What the thread was serving, when the call began, that has made the task for which it is.
    pub(super) fn by_task(&mut self, handle: Handle) -> Option<Cause> {
        let entry = self.table.get(handle)?;
        let begun = begun(entry);
        let (process, Unit::Thread(thread)) = (entry.process, entry.unit?) else {
            return None;
        };
        if !self.settings.jvm || !entry.laned || self.units.is_off(process) {
            return None;
        }
        // What serves by itself runs no other's task.
        let own = self.units.serving((process, entry.unit?), entry.start);
        if own != Serving::Nothing {
            return None;
        }
        let runs = self
            .tasks
            .of((process, thread), entry.connection, entry.start)?;
        let [first, last] = runs.tasks;
        let made = |task| self.tasks.maker(process, runs.collections, task);
        let (maker, place, part) = made(first)?;
        // Within that one it may run others, which it or the same has made.
        if last != first && made(last).is_none_or(|(other, ..)| other != maker && other != thread) {
            return None;
        }
        let site = site(runs.collections, first);
        let serving = match (self.units).serving((process, Unit::Thread(maker)), entry.start) {
            Serving::One(serving, until) if until >= begun => Some(serving),
            Serving::One(..) | Serving::Nothing => None,
            Serving::Unclear => return None,
        };
        let above = serving.and_then(|serving| self.table.get(serving));
        let made = |above: &Entry| {
            (self.tasks).is_since((process, maker), above.from, (place, part), first)
        };
        let (made, handed_on) = above.map_or((false, false), |it| (made(it), it.handed_on));
        let Some(serving) = serving.filter(|_| made) else {
            // It was made for one that is over, or for nobody: it works for all who come.
            self.outlived(process, site);
            return None;
        };
        let lasting = self.lineage.is_lasting(process, site);
        (!lasting && !handed_on).then_some(Cause {
            serving,
            method: Method::Task,
            descended: true,
        })
    }
}

/// A task as a place where work is started: nobody else's, and only until objects move.
fn site(collections: u32, task: u64) -> u64 {
    task.rotate_left(24) ^ u64::from(collections) << 1 ^ TASK
}

/// Apart from places in programs, which are addresses.
const TASK: u64 = 1 << 63;
/// Parts before one that are looked at.
const NEIGHBOURS: usize = 8;
/// Longest from a hook's time of bytes to that of what it tells of their thread.
const SAME: Nanos = 1_000_000;
