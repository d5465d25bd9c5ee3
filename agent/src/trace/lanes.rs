//! What units of execution do: an exchange enters its unit's lane when it begins, and leaves it with its
//! answer.

use super::linker::Linker;
use super::table::Handle;
use super::units::{Item, OPEN, Runtime, Task, Unit, Who};
use crate::connection::Mark;
use crate::event::{Nanos, Role};

impl Linker {
    /// Processes whose threads were found to be no evidence since this was last asked, or a turn by itself.
    pub fn sharers(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.sharers)
    }

    /// Whether threads are evidence at all.
    pub fn believes_threads(&self) -> bool {
        self.settings.thread
    }

    /// `process` shares its threads between requests (Go, Node.js, nginx, …): its threads are no
    /// evidence. Links not yet given out that leaned on them are dropped.
    pub fn no_thread_links(&mut self, process: u32) {
        self.sharers.push(process);
        if self.units.switch_off(process) {
            self.epoch = self.epoch.wrapping_add(1);
        }
    }

    /// The threads of `process` are evidence, whatever was thought of them, but not of calls that they began before
    /// then: those may be tasks'.
    pub fn threads_since(&mut self, process: u32, since: Nanos) {
        self.units.believe_since(process, since);
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// An exchange begins in its unit.
    pub(super) fn enter_lane(&mut self, handle: Handle, offset: u64) {
        self.answers_begin(handle);
        let Some(entry) = self.table.get_mut(handle) else {
            return;
        };
        let (process, Some(unit)) = (entry.process, entry.unit) else {
            return;
        };
        let believed = match unit {
            Unit::Thread(_) => self.settings.thread && !self.units.is_off(process),
            // Bytes that are nobody's have no turn.
            Unit::Of(Runtime::Node, 0) => false,
            // What it asks for says nothing of what it serves.
            Unit::Of(runtime, _) => self.settings.believes(runtime) && entry.role == Role::Server,
        };
        if !believed || process == 0 {
            return;
        }
        entry.laned = true;
        let item = Item {
            handle,
            connection: entry.connection,
            offset,
            task: match entry.role {
                Role::Client => Task::Call,
                Role::Server => Task::Serve,
            },
            from: entry.from,
            until: OPEN,
            seen: false,
            crossed: OPEN,
        };
        if entry.taken.is_some() && entry.role == Role::Server {
            if !self.units.serve_alone((process, unit), item) {
                self.stats.trace_threads_full.add(1);
            }
            return;
        }
        match self.units.begin((process, unit), item) {
            Some(shared) => self.shown((process, unit), shared),
            None => self.stats.trace_threads_full.add(1),
        }
    }

    /// The exchange is over: when was it answered, and by whom?
    pub(super) fn leave_lane(&mut self, handle: Handle) {
        self.answers_end(handle);
        let Some(entry) = self.table.get_mut(handle) else {
            return;
        };
        let Some(exchange) = entry.exchange.as_deref() else {
            return;
        };
        let answer = match entry.role {
            Role::Client => exchange.response_start,
            Role::Server => exchange.response_end.map(|(mark, _)| mark),
        };
        entry.answered = answer.map_or(exchange.end, |mark| mark.time);
        let until = entry.answered;
        let Some(unit) = entry.unit.filter(|_| entry.laned) else {
            return;
        };
        let who = (entry.process, unit);
        // Of what was taken, others write the answer.
        let own = entry.taken.is_none();
        let other = |mark: Mark| own && another(who, mark);
        let handed_on = entry.role == Role::Server
            && (exchange.response_start.is_some_and(other) || answer.is_some_and(other));
        entry.handed_on = handed_on;
        let crossed = self.units.end(who, handle, until, answer.is_some());
        self.shown(who, handed_on || crossed);
    }

    /// A unit was seen to be `shared` or not: of a thread that says what to think of its process.
    pub(super) fn shown(&mut self, (process, unit): Who, shared: bool) {
        if shared && matches!(unit, Unit::Thread(_)) {
            self.shares_threads(process);
        }
    }

    pub(super) fn shares_threads(&mut self, process: u32) {
        if self.units.switch_off(process) {
            self.sharers.push(process);
            self.stats.trace_threads_off.add(1);
            self.epoch = self.epoch.wrapping_add(1);
        }
    }
}

/// Whether another unit than this moved a byte.
pub(super) fn another((process, unit): Who, mark: Mark) -> bool {
    let Mark { execution, .. } = mark;
    let other = match unit {
        Unit::Thread(_) if execution.thread != 0 => Some(Unit::Thread(execution.thread)),
        Unit::Thread(_) => None,
        // Who reads starts who answers.
        Unit::Of(Runtime::Python, _) => None,
        // Each turn is another; who answers in a later one works for the same request.
        Unit::Of(Runtime::Node, _) => None,
        Unit::Of(Runtime::Go, _) => Unit::of(execution),
    };
    other.is_some_and(|other| (execution.process, other) != (process, unit))
}
