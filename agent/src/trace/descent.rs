//! What a call was made for, by the unit of execution that made it, or by one that started that unit.
//!
//! A unit that serves nothing may have been started by one that did, to do part of that request's work:
//! its calls are that request's as long as it is open. It may as well have been started then to work for
//! all that come: a pool that grows. Such a one goes on when the request is over, and then nothing is
//! believed that is started at that place of the program. So a place in a trace that was found this way is
//! certain only a while after the request was answered, and is not given out before.

use super::Method;
use super::linker::Linker;
use super::table::{Entry, Handle};
use super::units::{OPEN, Runtime, Serving, Unit};
use crate::event::{Nanos, Role};

/// What a call was made for.
pub(super) struct Cause {
    /// The request.
    pub serving: Handle,
    /// Evidence.
    pub method: Method,
    /// Whether another unit serves it than that which calls.
    pub descended: bool,
}

/// What is found above a unit.
enum Above {
    /// The request, when it was answered, and where the program began to work for it elsewhere, with
    /// whether what the unit sends is known to be its own.
    Serving(Handle, Nanos, Option<(u64, bool)>),
    /// Nothing, or what is no evidence.
    Nothing,
}

impl Linker {
    /// What the unit was serving that made a call, or the one that started it.
    pub(super) fn by_unit(&mut self, handle: Handle) -> Option<Cause> {
        let entry = self.table.get(handle)?;
        match entry.unit? {
            Unit::Thread(_) => self.by_thread(handle).or_else(|| self.by_task(handle)),
            Unit::Of(Runtime::Node, _) if self.settings.node => Some(Cause {
                serving: self.by_turn(handle)?,
                method: Method::AsyncId,
                descended: false,
            }),
            Unit::Of(runtime, _) if self.settings.believes(runtime) => {
                let (process, start) = (entry.process, begun(entry));
                let Above::Serving(serving, until, site) = self.above(entry) else {
                    return None;
                };
                let method = self.method_of(serving, runtime);
                let Some((site, own)) = site else {
                    // What it asks for while it serves, it asks for that; whether or not it waits.
                    return Some(Cause {
                        serving,
                        method,
                        descended: false,
                    });
                };
                let own = (own || is_own(entry)) && !entry.alone;
                if until < start {
                    self.outlived(process, site);
                    return None;
                }
                (own && !self.lineage.is_lasting(process, site)).then_some(Cause {
                    serving,
                    method,
                    descended: true,
                })
            }
            Unit::Of(..) => None,
        }
    }

    /// What the unit of a call or the nearest above it was serving.
    fn above(&self, entry: &Entry) -> Above {
        let Some(unit) = entry.unit else {
            return Above::Nothing;
        };
        let (mut who, mut at, mut site) = ((entry.process, unit), begun(entry), None);
        for _ in 0..MOST_ABOVE {
            if matches!(who.1, Unit::Thread(_)) && self.units.is_off(who.0) {
                return Above::Nothing;
            }
            match self.units.serving(who, at) {
                Serving::Unclear => return Above::Nothing,
                Serving::One(serving, until) => {
                    let handed_on = self.table.get(serving).is_none_or(|above| above.handed_on);
                    return match handed_on {
                        true => Above::Nothing,
                        false => Above::Serving(serving, until, site),
                    };
                }
                Serving::Nothing => {}
            }
            let Some(birth) = self.lineage.of(who, at) else {
                return Above::Nothing;
            };
            let (places, own) = site.unwrap_or((0u64, birth.own));
            site = Some((places.rotate_left(1).wrapping_add(birth.site), own));
            who.1 = birth.parent;
            at = birth.time;
        }
        Above::Nothing
    }

    /// What tells that a unit was started for a request: what serves that may be no more than a thread.
    fn method_of(&self, serving: Handle, runtime: Runtime) -> Method {
        match self.table.get(serving).and_then(|above| above.unit) {
            Some(Unit::Thread(_)) => Method::Task,
            _ => runtime.method(),
        }
    }

    /// Whether a call is known to be no open request's: its unit serves requests, and none now, or was started
    /// for one that is answered.
    pub(super) fn is_late(&self, entry: &Entry) -> bool {
        let Some(unit) = entry.unit else {
            return false;
        };
        let believed = match unit {
            Unit::Thread(_) => entry.laned && !self.units.is_off(entry.process),
            Unit::Of(runtime, _) => self.settings.believes(runtime),
        };
        let (who, start) = ((entry.process, unit), begun(entry));
        let late = || match self.above(entry) {
            Above::Serving(_, until, _) => until < start,
            Above::Nothing => self.units.has_served(who, start),
        };
        entry.alone || believed && late()
    }

    fn by_thread(&mut self, handle: Handle) -> Option<Cause> {
        let entry = self.table.get(handle)?;
        let (process, unit) = (entry.process, entry.unit?);
        if !entry.laned || !self.units.believes_at(process, entry.start) {
            return None;
        }
        let Serving::One(serving, until) = self.units.serving((process, unit), entry.start) else {
            return None;
        };
        if until == OPEN || entry.answered <= until {
            return Some(Cause {
                serving,
                method: Method::Thread,
                descended: false,
            });
        }
        // The request was answered before the call it was waiting for: the thread did not wait.
        let answer = entry.exchange.as_ref().and_then(|e| e.response_start);
        if answer.is_some() {
            self.shares_threads(process);
        }
        None
    }

    /// A call begins: once it is known what its unit was serving, it may show that units outlive requests.
    pub(super) fn begin(&mut self, handle: Handle) {
        let Some(entry) = self.table.get(handle) else {
            return;
        };
        if entry.role == Role::Client && matches!(entry.unit, Some(Unit::Of(..))) {
            let known = entry.start.saturating_add(self.settings.settle);
            self.begun.push_back((known, handle));
            self.make_in_turn(handle);
        }
    }

    /// Looks at the calls that began a while ago.
    pub(super) fn look_back(&mut self) {
        while let Some((known, handle)) = self.begun.front().copied()
            && known <= self.watermark
        {
            self.begun.pop_front();
            self.by_unit(handle);
        }
    }

    pub(super) fn outlived(&mut self, process: u32, site: u64) {
        if site != FOR_ONE && self.lineage.lasts(process, site) {
            self.stats.trace_lasting.add(1);
            self.epoch = self.epoch.wrapping_add(1);
        }
    }

    /// Until when its place, or one above it, is not certain.
    pub(super) fn lingers(&mut self, handle: Handle) -> Option<Nanos> {
        self.resolve(handle);
        if self.is_pending(handle) {
            return Some(self.watermark.saturating_add(STEP));
        }
        let mut next = Some(handle);
        while let Some(handle) = next {
            let entry = self.table.get(handle).filter(|entry| !entry.published)?;
            let place = entry.place.as_ref()?;
            next = place.above;
            let Some(above) = next.filter(|_| place.descended) else {
                continue;
            };
            let answered = self.table.get(above).map_or(0, |above| above.answered);
            let certain = answered.saturating_add(GRACE.saturating_add(self.settings.settle));
            if certain <= self.watermark {
                continue;
            }
            if entry.end.saturating_add(LONGEST) > self.watermark {
                return Some(self.watermark.saturating_add(STEP));
            }
            // Nothing that shares its place is given out before this is.
            if let Some(entry) = self.table.get_mut(handle) {
                entry.alone = true;
                self.epoch = self.epoch.wrapping_add(1);
            }
            self.resolve(handle);
            return None;
        }
        None
    }
}

/// When a call began, as far as is known: a hook may tell of its first byte when all is answered.
pub(super) fn begun(entry: &Entry) -> Nanos {
    let answer = entry.exchange.as_ref().and_then(|e| e.response_start);
    let begun = answer.map_or(entry.start, |mark| mark.time.min(entry.start));
    // Who asks may have gone on when it is written.
    entry.taken.map_or(begun, |taken| taken.min(begun))
}

/// Whether a call is its unit's own, which no other waits for: a probe saw it ask, or it reads the answer
/// itself. What a unit sends that neither did it may send for others.
fn is_own(entry: &Entry) -> bool {
    if entry.asked {
        return true;
    }
    let answer = entry.exchange.as_ref().and_then(|e| e.response_start);
    answer.is_some_and(|mark| Unit::of(mark.execution) == entry.unit)
}

impl Runtime {
    /// What its units are called, as evidence.
    pub(super) fn method(self) -> Method {
        match self {
            Runtime::Go => Method::Goroutine,
            Runtime::Python => Method::Asyncio,
            Runtime::Node => Method::AsyncId,
        }
    }
}

/// The place of what is started for one request, however long it goes on.
const FOR_ONE: u64 = 0;
/// Most births between a unit and what serves the request.
const MOST_ABOVE: usize = 16;
/// How long after a request's answer a unit that was started for it is watched, nanoseconds.
const GRACE: Nanos = 50_000_000;
/// How long after a call's end a request is waited for that is not answered yet.
const LONGEST: Nanos = 5_000_000_000;
/// How often is looked again.
const STEP: Nanos = 20_000_000;
