//! Whose a call is, by when it was made and answered, where nothing says it exactly.
//!
//! A request that waits for a call was read before the call began, and answered after the call was. Where one
//! request alone was being served so, the call is its own, or nobody's; where several were, how long after
//! the head the call began, and how long after its answer the request was answered, may tell them apart.
//! All of that is learned, for each process and destination:
//!
//! - how many calls are *nobody's*: how often no request was being served so, against how often none would
//!   have been a little earlier, at a moment that no request chose;
//! - the delays, from the calls for which one request alone was being served so; apart for each number of
//!   requests being served then, as with others about delays are others.
//!
//! What is exactly linked is asked likewise, to no effect but that a process in which the answers are wrong
//! is not asked any more.
//!
//! Never true here: that what was inferred is learned from.

mod delays;

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, Hash};

use foldhash::HashMap;
use foldhash::quality::RandomState;
use smallvec::SmallVec;

use delays::Delays;

use crate::event::Nanos;
use crate::exchange::ExchangeId;

/// A call, answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// Where it went, and in what protocol.
    pub destination: u64,
    /// Whether it is of those that are linked otherwise: their delays are not those of others.
    pub exact: bool,
    /// Its first byte.
    pub start: Nanos,
    /// The answer's first byte.
    pub answered: Nanos,
}

/// Whose a call is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    /// This request's, as likely as that.
    Of(ExchangeId, f64),
    /// What could tell is not over.
    Pending,
    /// Nobody knows.
    Unknown,
}

/// What was learned of all processes. Bounded.
#[derive(Debug, Default)]
pub(super) struct Scorer {
    processes: HashMap<u32, Process>,
    names: RandomState,
    /// How much was forgotten or left out for lack of room.
    pub left_out: u64,
}

impl Scorer {
    /// Names a destination.
    pub fn name(&self, destination: &impl Hash) -> u64 {
        self.names.hash_one(destination)
    }

    /// A request's head was read.
    pub fn opened(&mut self, process: u32, request: ExchangeId, from: Nanos) {
        let room = self.processes.len() < MOST_PROCESSES;
        if !room && !self.processes.contains_key(&process) && !self.make_room(from) {
            return self.left_out += 1;
        }
        let process = self.processes.entry(process).or_insert_with(|| Process {
            since: from,
            ..Process::default()
        });
        if process.open.len() >= MOST_OPEN {
            process.unknown += 1;
            return self.left_out += 1;
        }
        process.open.insert(request, from);
    }

    /// Forgets the process that nobody has asked for the longest time, if for so long that it may be gone.
    fn make_room(&mut self, now: Nanos) -> bool {
        let idle = self.processes.iter().filter(|(_, known)| known.is_idle());
        let longest = idle.min_by_key(|(_, known)| known.last());
        let Some(process) = longest
            .filter(|(_, known)| known.last().saturating_add(GONE) < now)
            .map(|(process, _)| *process)
        else {
            return false;
        };
        self.left_out += 1;
        self.processes.remove(&process).is_some()
    }

    /// It was answered.
    pub fn closed(&mut self, process: u32, request: ExchangeId, from: Nanos, answered: Nanos) {
        if let Some(process) = self.processes.get_mut(&process)
            && process.open.remove(&request).is_none()
            && process.unknown > 0
        {
            process.unknown -= 1;
            process.since = process.since.max(answered);
        }
        self.unopened(process, request, from, answered);
    }

    /// One was answered of which it was not told that its head was read.
    pub fn unopened(&mut self, process: u32, request: ExchangeId, from: Nanos, answered: Nanos) {
        if let Some(process) = self.processes.get_mut(&process) {
            process.requests += 1.0;
            process.insert(Served {
                request,
                from,
                answered,
            });
        }
    }

    /// It is none, or nobody will see its end.
    pub fn removed(&mut self, process: u32, request: ExchangeId) {
        if let Some(process) = self.processes.get_mut(&process)
            && process.open.remove(&request).is_none()
        {
            process.unknown = process.unknown.saturating_sub(1);
        }
    }

    /// A process is another from then on: nothing that was learned is true of that. Whether it was known, and not
    /// left before.
    pub fn leave(&mut self, process: u32, at: Nanos) -> bool {
        let known = self.processes.get_mut(&process);
        known.is_some_and(|known| {
            let first = known.left.is_none();
            known.left.get_or_insert(at);
            first
        })
    }

    /// What was learned of a process that was left is void. What is being served is so all the same.
    pub fn forget(&mut self, process: u32) {
        if let Some(known) = self.processes.get_mut(&process) {
            if known.is_idle() {
                self.processes.remove(&process);
                return;
            }
            *known = Process {
                open: std::mem::take(&mut known.open),
                done: std::mem::take(&mut known.done),
                since: known.since,
                unknown: known.unknown,
                ..Process::default()
            };
        }
    }

    /// Whose a call is, that began and was answered then.
    pub fn judge(&self, process: u32, call: &Call) -> Verdict {
        let asked = |p: &&Process| !p.off && !p.is_left(call);
        let Some(process) = self.processes.get(&process).filter(asked) else {
            return Verdict::Unknown;
        };
        let Some(model) = process.models.get(&(call.destination, call.exact)) else {
            return Verdict::Unknown;
        };
        // Asked again and again while that is so: `done` is long.
        if process.knows(call.start) && process.older(call.start) > 0 {
            return Verdict::Pending;
        }
        match process.around(call.start, call.answered) {
            None => Verdict::Unknown,
            Some(around) => model.judge(&around),
        }
    }

    /// Takes in a call all about which is over.
    pub fn learn(&mut self, process: u32, call: &Call) {
        if let Some(process) = self.processes.get_mut(&process)
            && !process.is_left(call)
        {
            self.left_out += process.learn(call);
        }
    }

    /// A call that is exactly linked was judged right or wrong; true if its process is not asked any more
    /// from now on.
    pub fn checked(&mut self, process: u32, right: bool) -> bool {
        let Some(process) = self.processes.get_mut(&process) else {
            return false;
        };
        process.checked += 1.0;
        process.wrong += if right { 0.0 } else { 1.0 };
        let off = process.wrong > 1.0 && process.wrong > process.checked * (1.0 - ACCEPTED);
        if process.checked >= CHECKED {
            process.checked /= 2.0;
            process.wrong /= 2.0;
        }
        off && !std::mem::replace(&mut process.off, true)
    }
}

/// A request that was answered.
#[derive(Clone, Copy, Debug)]
struct Served {
    request: ExchangeId,
    from: Nanos,
    answered: Nanos,
}

#[derive(Debug, Default)]
struct Process {
    /// Being served, with when their heads were read.
    open: HashMap<ExchangeId, Nanos>,
    /// Answered lately, in that order.
    done: VecDeque<Served>,
    /// From when on `open` and `done` are all there were.
    since: Nanos,
    /// Being served as well, but left out of `open`: nothing is known meanwhile.
    unknown: u64,
    /// How many were answered.
    requests: f64,
    models: HashMap<(u64, bool), Model>,
    /// Calls that are exactly linked and were judged, and how many of these wrongly.
    checked: f64,
    wrong: f64,
    /// Whether it is not asked any more.
    off: bool,
    /// From when on it is another, of which nothing is learned yet.
    left: Option<Nanos>,
}

/// What was being served about a call.
#[derive(Debug, Default)]
struct Around {
    /// Requests that were so from before its beginning until after its answer, with the time before and
    /// the time after, in microseconds.
    waiting: SmallVec<[(ExchangeId, u32, u32); 8]>,
    /// How many were being served when it began.
    open: usize,
    /// Whether one of them still is.
    pending: bool,
}

impl Process {
    /// Whether it serves nothing.
    fn is_idle(&self) -> bool {
        self.open.is_empty() && self.unknown == 0
    }

    /// When it last answered, as far as is known.
    fn last(&self) -> Nanos {
        self.done
            .back()
            .map_or(self.since, |served| served.answered)
    }

    /// Whether a call is that of another.
    fn is_left(&self, call: &Call) -> bool {
        self.left.is_some_and(|left| call.start >= left)
    }

    fn insert(&mut self, served: Served) {
        let at = self
            .done
            .partition_point(|other| other.answered <= served.answered);
        self.done.insert(at, served);
        let old = served.answered.saturating_sub(KEEP);
        while let Some(first) = self.done.front()
            && (first.answered < old || self.done.len() > MOST_DONE)
        {
            self.since = self.since.max(first.answered);
            self.done.pop_front();
        }
    }

    /// Whether it is known what was being served then.
    fn knows(&self, start: Nanos) -> bool {
        start > self.since && self.unknown == 0
    }

    /// How many were read by then that are being served still.
    fn older(&self, start: Nanos) -> usize {
        self.open.values().filter(|from| **from <= start).count()
    }

    /// What was being served about a call; nothing where that is not known.
    fn around(&self, start: Nanos, answered: Nanos) -> Option<Around> {
        if !self.knows(start) {
            return None;
        }
        let mut around = Around::default();
        let older = self.older(start);
        around.pending = older > 0;
        around.open = older;
        let first = self.done.partition_point(|served| served.answered < start);
        for served in self.done.range(first..).filter(|s| s.from <= start) {
            around.open += 1;
            if served.answered >= answered {
                let before = micros(start.saturating_sub(served.from));
                let after = micros(served.answered.saturating_sub(answered));
                around.waiting.push((served.request, before, after));
            }
        }
        Some(around)
    }

    /// Takes in a call; how many destinations were forgotten for it.
    fn learn(&mut self, call: &Call) -> u64 {
        let Some(around) = self.around(call.start, call.answered) else {
            return 0;
        };
        let mut forgotten = 0;
        let name = (call.destination, call.exact);
        if !self.models.contains_key(&name) && self.models.len() >= MOST_DESTINATIONS {
            let oldest = self.models.iter().min_by_key(|(_, model)| model.last());
            if let Some(oldest) = oldest.map(|(name, _)| *name) {
                self.models.remove(&oldest);
                forgotten = 1;
            }
        }
        let chance = self.chance(call, &around);
        let requests = self.requests;
        let model = self.models.entry(name).or_insert_with(|| Model {
            requests,
            ..Model::default()
        });
        model.learn(call, &around, chance, requests);
        forgotten
    }

    /// Whether no request would have waited for the call, had it been made a little earlier; nothing where
    /// that is not known.
    fn chance(&self, call: &Call, around: &Around) -> Option<bool> {
        let length = around.waiting.iter().map(|(_, before, after)| {
            u64::from(*before)
                + u64::from(*after)
                + u64::from(micros(call.answered.saturating_sub(call.start)))
        });
        let length = length.min().unwrap_or(UNKNOWN_LENGTH).saturating_mul(1000);
        // Anything that no request chose will do.
        let random = call.start.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        let earlier = length / 2 + (length.saturating_mul(random) >> 6);
        let (start, answered) = (
            call.start.checked_sub(earlier)?,
            call.answered.checked_sub(earlier)?,
        );
        let then = self.around(start, answered)?;
        Some(then.waiting.is_empty() && !then.pending)
    }
}

/// What was learned of a destination.
#[derive(Debug, Default)]
struct Model {
    /// Calls, those that no request waited for, and those that none would have, had they been made earlier.
    calls: f64,
    alone: f64,
    chance: f64,
    /// How many requests its process had served when it was first called.
    requests: f64,
    /// How many calls a request makes, on average.
    each: f64,
    /// By how many requests were being served.
    delays: [Delays; CLASSES],
    /// When the last calls began.
    recent: VecDeque<Nanos>,
}

impl Model {
    fn last(&self) -> Nanos {
        self.recent.back().copied().unwrap_or(0)
    }

    fn learn(&mut self, call: &Call, around: &Around, chance: Option<bool>, requests: f64) {
        if self.calls >= MOST_COUNTED {
            for count in [&mut self.calls, &mut self.alone, &mut self.chance] {
                *count /= 2.0;
            }
            self.requests = (self.requests + requests) / 2.0;
        }
        self.calls += 1.0;
        self.each = self.calls / (requests - self.requests).max(1.0);
        self.recent.push_back(call.start);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        if around.waiting.is_empty() && !around.pending {
            self.alone += 1.0;
        }
        if chance == Some(true) {
            self.chance += 1.0;
        }
        if let [(_, before, after)] = around.waiting[..]
            && !around.pending
            && let Some(delays) = class(around.open).and_then(|at| self.delays.get_mut(at))
        {
            delays.before.add(before);
            delays.after.add(after);
        }
    }

    /// What part of the calls is nobody's, at most.
    fn nobodys(&self) -> f64 {
        ((self.alone + UNSEEN) / self.chance.max(1.0)).min(1.0)
    }

    /// Calls a second, of late.
    fn rate(&self) -> f64 {
        let (Some(first), Some(last)) = (self.recent.front(), self.recent.back()) else {
            return 1.0;
        };
        let micros = f64::from(micros(last.saturating_sub(*first)).max(1));
        let intervals = u32::try_from(self.recent.len()).unwrap_or(1);
        f64::from(intervals) * 1e6 / micros
    }

    fn judge(&self, around: &Around) -> Verdict {
        let nobodys = self.nobodys();
        let delays = class(around.open).and_then(|at| self.delays.get(at));
        let Some(delays) = delays.filter(|d| d.before.known()) else {
            return Verdict::Unknown;
        };
        if nobodys > MOST_NOBODYS {
            return Verdict::Unknown;
        }
        let own = (1.0 - nobodys) * self.each.min(1.0);
        let mut all = nobodys * self.rate();
        let mut best: Option<(ExchangeId, f64)> = None;
        for (request, before, after) in &around.waiting {
            // A request that does not wait is answered at any moment of the time it had.
            let left = f64::from(before.saturating_add(*after).max(1));
            let weight = own * delays.before.density(*before) * 1e6;
            let weight = weight * delays.after.density(*after) * left;
            all += weight;
            let usual = delays.before.is_usual(*before) && delays.after.is_usual(*after);
            if best.is_none_or(|(_, other)| weight > other) {
                best = Some((*request, if usual { weight } else { 0.0 }));
            }
        }
        match best {
            Some((request, weight)) if weight >= ACCEPTED * all => {
                Verdict::Of(request, (weight / all).min(SUREST))
            }
            _ => Verdict::Unknown,
        }
    }
}

fn micros(time: Nanos) -> u32 {
    u32::try_from(time / 1000).unwrap_or(u32::MAX)
}

/// Which delays are of so many requests being served; none of too many.
fn class(open: usize) -> Option<usize> {
    let at = open.checked_sub(1)?.checked_ilog2().map_or(0, |at| at + 1) as usize;
    (at < CLASSES).then_some(at)
}

/// How likely a link must be to be made.
pub(super) const ACCEPTED: f64 = 0.99;
/// Nothing that is inferred is surer.
const SUREST: f64 = 0.99;
/// Most of a destination's calls that may be nobody's, for any to be linked.
const MOST_NOBODYS: f64 = 0.05;
/// How many calls that are nobody's there may be where none was seen, with 95 % certainty.
const UNSEEN: f64 = 3.0;
/// Counts beyond which the older half is worth less.
const MOST_COUNTED: f64 = 4096.0;
const CHECKED: f64 = 512.0;
/// Requests being served: 1, 2, to 4, to 8, to 16, to 32, to 64.
const CLASSES: usize = 7;
/// Calls by which their rate is told.
const RECENT: usize = 16;
/// How long a request is taken to last where none is known, microseconds.
const UNKNOWN_LENGTH: u64 = 10_000;
/// How long after its answer a request is remembered.
const KEEP: Nanos = 1_000_000_000;
/// How long a process answers nothing that may be gone without a word.
const GONE: Nanos = 60_000_000_000;
/// Most processes; most destinations, requests being served, and requests answered lately, of each.
const MOST_PROCESSES: usize = 256;
const MOST_DESTINATIONS: usize = 64;
const MOST_OPEN: usize = 256;
const MOST_DONE: usize = 4096;

#[cfg(test)]
mod tests;
