//! Which exchange a thread or a goroutine was serving at a moment, and which processes' threads must
//! not be asked.
//!
//! A goroutine is what a request's work is done by: it is what it is whichever other work its thread
//! has. Of threads that must be found out.
//!
//! A thread that serves one request at a time reads a head, makes its calls one by one, waits for
//! each answer, and writes the response, before it reads the next head. Whatever does otherwise
//! shares its thread between requests, and its process is never believed again. Three signs:
//!
//! 1. A head was read while the exchange before it, on another connection, was still unanswered.
//! 2. A head was read while a call of that thread was still unanswered: it does not wait.
//! 3. A response was written by another thread than the one that read the head ([`super::linker`]).
//!
//! A sign counts only once the answer was seen: bytes that were lost prove nothing. What is never
//! in here: a guess. Two candidates make none.

use std::collections::VecDeque;

use agent_ebpf::abi::unit::{ASKED, CONTEXT, GOROUTINE, KIND, RESOURCE};
use foldhash::{HashMap, HashMapExt as _};
use smallvec::SmallVec;

use super::table::Handle;
use crate::event::{ConnectionId, Execution, Nanos};

/// What does one thing after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Unit {
    /// A thread, by its id.
    Thread(u32),
    /// What a runtime tells apart on its threads, by its number.
    Of(Runtime, u64),
}

/// Whose units are finer than threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Runtime {
    /// Goroutines.
    Go,
    /// CPython's contexts, and what is given to its pools of threads.
    Python,
    /// Turns of Node.js's event loops.
    Node,
}

impl Unit {
    /// The finest that is known of who moved bytes.
    pub fn of(execution: Execution) -> Option<Self> {
        match (execution.unit, execution.thread) {
            (0, 0) => None,
            (0, thread) => Some(Self::Thread(thread)),
            (unit, _) => Self::named(unit),
        }
    }

    /// The same of what starts another: a thread where there is nothing finer.
    pub fn starting(unit: u64) -> Option<Self> {
        match u32::try_from(unit) {
            Ok(0) => None,
            Ok(thread) => Some(Self::Thread(thread)),
            Err(_) => Self::named(unit),
        }
    }

    /// The one that `abi::unit` names so; none for what has no name, as virtual threads.
    pub fn named(unit: u64) -> Option<Self> {
        let runtime = match unit & KIND {
            GOROUTINE => Runtime::Go,
            CONTEXT => Runtime::Python,
            RESOURCE => Runtime::Node,
            _ => return None,
        };
        Some(Self::Of(runtime, unit & !(KIND | ASKED)))
    }
}

/// A process and a unit of it.
pub(super) type Who = (u32, Unit);

/// What a unit does between two moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Answers: from the head's last byte read to the response's last byte written.
    Serve,
    /// Asks: from the request's first byte written to the response's first byte read.
    Call,
}

/// One exchange in one unit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    /// Which exchange.
    pub handle: Handle,
    /// On which connection.
    pub connection: ConnectionId,
    /// Offset of the request's first byte: the order on one connection.
    pub offset: u64,
    /// What is done.
    pub task: Task,
    /// Since when.
    pub from: Nanos,
    /// Until when; [`OPEN`] while it lasts.
    pub until: Nanos,
    /// Whether `until` is a byte that was seen.
    pub seen: bool,
    /// When another head was first read in the meantime.
    pub crossed: Nanos,
}

impl Item {
    /// Whether its unit leaves it when it begins to serve another then.
    fn is_left_at(&self, at: Nanos) -> bool {
        self.task == Task::Serve && self.from < at && self.until > at
    }

    fn proves_sharing(&self) -> bool {
        self.seen && self.crossed < self.until
    }
}

/// What a unit serves at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Serving {
    /// Nothing that is known of.
    Nothing,
    /// This, which is answered then.
    One(Handle, Nanos),
    /// More than one, or it is not known how many.
    Unclear,
}

/// The end of what has not ended.
pub(super) const OPEN: Nanos = Nanos::MAX;

#[derive(Debug, Default)]
struct Lane {
    open: SmallVec<[Item; 2]>,
    served: Closed,
    called: Closed,
    /// Whether one was left out: what the unit does is not known any more.
    beyond: bool,
}

impl Lane {
    fn closed(&mut self, task: Task) -> &mut Closed {
        match task {
            Task::Serve => &mut self.served,
            Task::Call => &mut self.called,
        }
    }
}

/// What ended, in the order of its end.
#[derive(Debug, Default)]
struct Closed {
    items: VecDeque<Item>,
    /// No item lasted longer.
    longest: Nanos,
}

impl Closed {
    /// Adds one; nearly always the last to end.
    fn insert(&mut self, item: Item) {
        while let Some(first) = self.items.front()
            && (self.items.len() >= MAX_CLOSED || first.until.saturating_add(KEEP) < item.until)
        {
            self.items.pop_front();
        }
        self.longest = self.longest.max(item.until.saturating_sub(item.from));
        let last = self
            .items
            .back()
            .is_none_or(|last| last.until <= item.until);
        if last {
            self.items.push_back(item);
        } else {
            let at = self
                .items
                .partition_point(|other| other.until <= item.until);
            self.items.insert(at, item);
        }
    }

    /// What was not over then is.
    fn leave_at(&mut self, at: Nanos) {
        let mut left = SmallVec::<[Item; 2]>::new();
        while let Some(last) = self.items.back().filter(|last| last.until > at) {
            left.push(*last);
            self.items.pop_back();
        }
        for mut item in left.into_iter().rev() {
            if item.is_left_at(at) {
                item.until = at;
            }
            self.insert(item);
        }
    }

    /// Those that ended after `from`, the last first.
    fn after(&self, from: Nanos) -> impl Iterator<Item = &Item> {
        self.items
            .iter()
            .rev()
            .take_while(move |item| item.until > from)
    }

    /// Those that can have lasted at `at`.
    fn around(&self, at: Nanos) -> impl Iterator<Item = &Item> {
        let first = self.items.partition_point(|item| item.until < at);
        let last = at.saturating_add(self.longest);
        self.items
            .range(first..)
            .take_while(move |item| item.until <= last)
    }

    /// Forgets the longest when it is gone; whether anything ended since `since`.
    fn sweep(&mut self, since: Nanos) -> bool {
        let lasted = |item: &Item| item.until.saturating_sub(item.from);
        self.longest = self.items.iter().map(lasted).max().unwrap_or(0);
        self.items.back().is_some_and(|item| item.until >= since)
    }
}

/// All units that serve or call, and the processes whose threads are not believed.
#[derive(Debug)]
pub(super) struct Units {
    lanes: HashMap<Who, Lane>,
    /// Processes that are not believed, with the count of verdicts when they first and when they
    /// last were not.
    off: HashMap<u32, (u64, u64)>,
    verdicts: u64,
    /// From when on the threads of processes are believed, where not from the start.
    since: HashMap<u32, (Nanos, u64)>,
    /// Those that are not believed in the order they came, some forgotten since.
    order: VecDeque<(u32, u64)>,
    /// Processes to be forgotten, from when on, and the count of verdicts at their end.
    gone: VecDeque<(Nanos, u32, u64)>,
    capacity: usize,
    swept: Nanos,
}

impl Units {
    /// At most `capacity` units and as many disbelieved processes.
    pub fn new(capacity: usize) -> Self {
        Self {
            lanes: HashMap::new(),
            off: HashMap::new(),
            verdicts: 0,
            since: HashMap::new(),
            order: VecDeque::new(),
            gone: VecDeque::new(),
            capacity,
            swept: 0,
        }
    }

    /// Whether the threads of `process` are not believed.
    pub fn is_off(&self, process: u32) -> bool {
        self.off.contains_key(&process)
    }

    /// Whether the threads of `process` are believed of what they began to ask for at `at`.
    pub fn believes_at(&self, process: u32, at: Nanos) -> bool {
        !self.is_off(process) && self.since.get(&process).is_none_or(|since| since.0 <= at)
    }

    /// Believes the threads of `process` of what they begin from `since` on, and of nothing before; at capacity
    /// not at all.
    pub fn believe_since(&mut self, process: u32, since: Nanos) {
        self.off.remove(&process);
        if self.since.len() < self.capacity || self.since.contains_key(&process) {
            self.verdicts = self.verdicts.saturating_add(1);
            self.since.insert(process, (since, self.verdicts));
        } else {
            self.switch_off(process);
        }
    }

    /// Never believes the threads of `process` again; true if that is news. At capacity the oldest is forgotten.
    pub fn switch_off(&mut self, process: u32) -> bool {
        self.verdicts = self.verdicts.saturating_add(1);
        if let Some((_, last)) = self.off.get_mut(&process) {
            *last = self.verdicts;
            return false;
        }
        self.off.insert(process, (self.verdicts, self.verdicts));
        self.order.push_back((process, self.verdicts));
        while self.off.len() > self.capacity
            && let Some((oldest, since)) = self.order.pop_front()
        {
            if self.off.get(&oldest).is_some_and(|v| v.0 == since) {
                self.off.remove(&oldest);
            }
        }
        if self.order.len() > self.off.len().saturating_mul(2).saturating_add(64) {
            let off = &self.off;
            self.order
                .retain(|(process, since)| off.get(process).is_some_and(|v| v.0 == *since));
        }
        true
    }

    /// The process is gone, or is another program now. What it did before is still being linked:
    /// its verdict stands until `when`, and a later verdict is another program's.
    pub fn forget(&mut self, process: u32, when: Nanos) {
        let known = self.off.contains_key(&process) || self.since.contains_key(&process);
        if known && self.gone.len() < self.capacity {
            self.gone.push_back((when, process, self.verdicts));
        }
    }

    fn forget_gone(&mut self, now: Nanos) {
        while let Some((when, process, verdicts)) = self.gone.front().copied()
            && when <= now
        {
            self.gone.pop_front();
            if self.off.get(&process).is_some_and(|v| v.1 <= verdicts) {
                self.off.remove(&process);
            }
            if self.since.get(&process).is_some_and(|v| v.1 <= verdicts) {
                self.since.remove(&process);
            }
        }
    }

    /// An exchange begins; true if it proves that the unit is shared, `None` if there is no room
    /// to remember it.
    pub fn begin(&mut self, who: Who, mut item: Item) -> Option<bool> {
        if !self.lanes.contains_key(&who) && self.lanes.len() >= self.capacity {
            return None;
        }
        let lane = self.lanes.entry(who).or_default();
        if lane.open.len() >= MAX_OPEN {
            lane.beyond = true;
            return None;
        }
        let mut shared = false;
        for other in &mut lane.open {
            cross(other, &mut item);
            shared |= other.proves_sharing();
        }
        // What ended before this began is not crossed by it.
        let recent = lane
            .served
            .after(item.from)
            .chain(lane.called.after(item.from));
        for other in recent.take(LOOK_BACK) {
            let mut other = *other;
            cross(&mut other, &mut item);
            shared |= other.proves_sharing();
        }
        lane.open.push(item);
        Some(shared)
    }

    /// `who` begins to serve one thing, and is done with what it served before, answered or not; false if
    /// there is no room to remember it.
    pub fn serve_alone(&mut self, who: Who, mut item: Item) -> bool {
        if !self.lanes.contains_key(&who) && self.lanes.len() >= self.capacity {
            return false;
        }
        let lane = self.lanes.entry(who).or_default();
        let mut next = OPEN;
        for other in lane.open.iter().chain(lane.served.after(item.from)) {
            if other.task == Task::Serve && other.from > item.from {
                next = next.min(other.from);
            }
        }
        while let Some(at) = lane.open.iter().position(|o| o.is_left_at(item.from)) {
            let mut before = lane.open.swap_remove(at);
            before.until = item.from;
            lane.served.insert(before);
        }
        lane.served.leave_at(item.from);
        if next == OPEN {
            lane.open.push(item);
        } else {
            item.until = next;
            lane.served.insert(item);
        }
        true
    }

    /// An exchange ends at `until`, by a byte that was `seen` or not; true if it proves that the
    /// unit is shared.
    pub fn end(&mut self, who: Who, handle: Handle, until: Nanos, seen: bool) -> bool {
        let Some(lane) = self.lanes.get_mut(&who) else {
            return false;
        };
        let Some(at) = lane.open.iter().position(|i| i.handle == handle) else {
            return false;
        };
        let mut item = lane.open.swap_remove(at);
        item.until = until;
        item.seen = seen;
        lane.closed(item.task).insert(item);
        item.proves_sharing()
    }

    /// Takes an exchange out that will never end.
    pub fn remove(&mut self, who: Who, handle: Handle) {
        if let Some(lane) = self.lanes.get_mut(&who) {
            lane.open.retain(|i| i.handle != handle);
        }
    }

    /// What `who` was serving at `at`.
    pub fn serving(&self, who: Who, at: Nanos) -> Serving {
        let lane = match self.lanes.get(&who) {
            Some(lane) if lane.beyond => return Serving::Unclear,
            Some(lane) => lane,
            None => return Serving::Nothing,
        };
        let is_thread = matches!(who.1, Unit::Thread(_));
        let mut found: Option<&Item> = None;
        for (looked, item) in lane.open.iter().chain(lane.served.around(at)).enumerate() {
            if looked > LOOK_BACK {
                return Serving::Unclear;
            }
            if item.task != Task::Serve || item.from > at || item.until < at {
                continue;
            }
            found = match found {
                None => Some(item),
                // Pipelined on one connection: served in order, by a thread. A goroutine may as well hand on
                // what came.
                Some(other) if other.connection == item.connection && is_thread => {
                    Some(if item.offset < other.offset {
                        item
                    } else {
                        other
                    })
                }
                Some(_) => return Serving::Unclear,
            };
        }
        found.map_or(Serving::Nothing, |item| {
            Serving::One(item.handle, item.until)
        })
    }

    /// Whether `who` had served something that was over by then, as far as is remembered.
    pub fn has_served(&self, who: Who, at: Nanos) -> bool {
        let first = self
            .lanes
            .get(&who)
            .and_then(|lane| lane.served.items.front());
        first.is_some_and(|item| item.until < at)
    }

    /// Drops what is over: once a second of event time, units without anything recent.
    pub fn sweep(&mut self, now: Nanos) {
        self.forget_gone(now);
        if now.saturating_sub(self.swept) < SWEEP {
            return;
        }
        self.swept = now;
        self.lanes.retain(|_, lane| {
            let since = now.saturating_sub(KEEP);
            let (served, called) = (lane.served.sweep(since), lane.called.sweep(since));
            !lane.open.is_empty() || served || called
        });
    }
}

/// Notes on the earlier of two exchanges that a head was read in its time.
fn cross(a: &mut Item, b: &mut Item) {
    if a.connection == b.connection {
        return;
    }
    let (earlier, later) = if a.from <= b.from { (a, b) } else { (b, a) };
    if later.task == Task::Serve {
        earlier.crossed = earlier.crossed.min(later.from);
    }
}

/// Longest an ended exchange is remembered.
const KEEP: Nanos = 2_000_000_000;
/// Most exchanges open at once in a unit; all are looked at when another begins.
const MAX_OPEN: usize = 256;
/// Most ended exchanges remembered per unit.
const MAX_CLOSED: usize = 4096;
/// Most ended exchanges looked at for one question.
const LOOK_BACK: usize = 1024;
/// How often idle units are dropped.
const SWEEP: Nanos = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::table::Table;

    const MS: Nanos = 1_000_000;

    #[test]
    fn the_thread_that_carries_a_virtual_one_is_no_evidence() {
        let at = |unit| Execution {
            process: 1,
            thread: 2,
            unit,
        };
        assert_eq!(Unit::of(at(0)), Some(Unit::Thread(2)));
        assert_eq!(Unit::of(at(agent_ebpf::abi::unit::VIRTUAL)), None);
    }

    #[test]
    fn a_late_shard_hides_nothing() {
        let mut threads = Units::new(8);
        let who = (1, Unit::Thread(2));
        let mut serve = |handle, from, until| {
            let item = Item {
                handle,
                connection: ConnectionId(from),
                offset: 0,
                task: Task::Serve,
                from,
                until: OPEN,
                seen: false,
                crossed: OPEN,
            };
            assert_eq!(threads.begin(who, item), Some(false));
            threads.end(who, handle, until, true);
        };
        let [one, two] = Table::handles();
        serve(one, 400 * MS, 900 * MS);
        // Its ring was read 900 ms later.
        serve(two, 10 * MS, 20 * MS);
        let serving = Serving::One(one, 900 * MS);
        assert_eq!(threads.serving(who, 500 * MS), serving);
    }

    #[test]
    fn threads_past_the_bound_are_told() {
        let mut threads = Units::new(1);
        let [handle, _] = Table::handles();
        let item = Item {
            handle,
            connection: ConnectionId(1),
            offset: 0,
            task: Task::Serve,
            from: 1,
            until: OPEN,
            seen: false,
            crossed: OPEN,
        };
        assert_eq!(threads.begin((1, Unit::Thread(1)), item), Some(false));
        assert_eq!(threads.begin((1, Unit::Thread(2)), item), None);
        for _ in 1..MAX_OPEN {
            assert_eq!(threads.begin((1, Unit::Thread(1)), item), Some(false));
        }
        let unclear = Serving::Unclear;
        assert_eq!(threads.serving((1, Unit::Thread(2)), 2), Serving::Nothing);
        // One more may be on any connection: nothing is said of the thread from now on.
        assert_eq!(threads.begin((1, Unit::Thread(1)), item), None);
        assert_eq!(threads.serving((1, Unit::Thread(1)), 2), unclear);
    }

    #[test]
    fn who_is_not_believed_is_remembered_within_bounds() {
        let mut threads = Units::new(8);
        for process in 0..1000 {
            assert!(threads.switch_off(process));
            threads.forget(process, 1);
            if process % 2 == 0 {
                threads.sweep(2);
                assert!(!threads.is_off(process));
            }
            assert!(threads.off.len() <= 8 && threads.order.len() <= 80);
        }
        // As another program.
        assert!(threads.switch_off(0));
        assert!(!threads.switch_off(0));
        assert!(threads.is_off(0));
    }
}
