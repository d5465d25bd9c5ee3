//! Exchanges that were answered and go on for as long as they like: a WebSocket, an answer that may be
//! over but is not known to be.
//!
//! Never true here: that what a thread does is laid to such an exchange, or that it is given out
//! before it is over.

use super::lanes::another;
use super::linker::Linker;
use super::table::Handle;
use super::units::OPEN;
use crate::connection::Mark;
use crate::event::Role;
use crate::exchange::ExchangeId;

impl Linker {
    /// The exchange goes on without its thread. Its place is found as if it were over: what it hangs
    /// from is not remembered until it is.
    pub(super) fn detach(&mut self, id: ExchangeId, at: Mark) {
        let Some(handle) = self.table.find(id) else {
            return;
        };
        let Some(entry) = self.table.get_mut(handle) else {
            return;
        };
        if entry.exchange.is_some() || entry.emitted {
            return;
        }
        self.answers_detach(handle, at.time);
        self.infer_detach(handle, at.time);
        let Some(entry) = self.table.get_mut(handle) else {
            return;
        };
        let settled = at.time.saturating_add(self.settings.settle);
        match entry.role {
            Role::Client => self.settling.push_back((settled, handle)),
            // Its client may be seen late.
            Role::Server => {
                let last = at.time.saturating_add(self.settings.patience);
                self.waiting.push_back((last.max(settled), handle));
            }
        }
        entry.detached = true;
        if entry.role == Role::Client {
            entry.answered = at.time;
        }
        let Some(unit) = entry.unit.filter(|_| entry.laned) else {
            return;
        };
        let who = (entry.process, unit);
        let own = entry.taken.is_none();
        let handed_on = entry.role == Role::Server && own && another(who, at);
        entry.handed_on = handed_on;
        let crossed = self.units.end(who, handle, at.time, true);
        self.shown(who, handed_on || crossed);
    }

    /// What is known of its place now stays, if it is such a one.
    pub(super) fn stay(&mut self, handle: Handle) {
        let entry = self.table.get(handle);
        if entry.is_some_and(|e| e.detached && e.end == OPEN) {
            self.resolve(handle);
            self.publish(handle);
        }
    }
}
