//! Which unit of execution a stream is for, where one reads or writes the heads of all.
//!
//! A probe sees who serves or asks, and the bytes say what: either may be told first.

use std::collections::VecDeque;

use agent_ebpf::abi::unit::ASKED;
use foldhash::{HashMap, HashMapExt as _};

use super::linker::Linker;
use super::table::{Entry, Handle};
use super::units::{Runtime, Unit};
use crate::event::{ConnectionId, Role, Taken};

/// A connection's stream.
type Name = (ConnectionId, u64);

/// Streams whose exchanges are known, and what was told of others. Many of these never come: not every
/// connection is read.
#[derive(Debug)]
pub(super) struct Streams {
    known: HashMap<Name, Handle>,
    early: HashMap<Name, Taken>,
    /// Oldest first; some are not early any more.
    order: VecDeque<Name>,
    capacity: usize,
}

impl Streams {
    /// At most so many that were told early; of the others as many as there are exchanges.
    pub fn new(capacity: usize) -> Self {
        Self {
            known: HashMap::new(),
            early: HashMap::new(),
            order: VecDeque::new(),
            capacity: capacity.max(1),
        }
    }

    /// An exchange is known no more.
    pub fn forget(&mut self, entry: &Entry) {
        if let Some(number) = entry.stream {
            self.known.remove(&(entry.connection, number));
        }
    }

    /// Keeps one that is told early; how many others were forgotten for it.
    fn keep(&mut self, taken: &Taken) -> u64 {
        let name = (taken.connection, taken.number);
        if self.early.insert(name, *taken).is_some() {
            return 0;
        }
        self.order.push_back(name);
        let mut forgotten = 0;
        while self.order.len() > self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            forgotten += u64::from(self.early.remove(&oldest).is_some());
        }
        forgotten
    }
}

impl Linker {
    /// A unit begins to serve a stream, or has asked.
    pub(super) fn take(&mut self, taken: &Taken) {
        match self.streams.known.get(&(taken.connection, taken.number)) {
            Some(handle) => self.give_to(*handle, taken),
            None => {
                let forgotten = self.streams.keep(taken);
                self.stats.trace_streams_forgotten.add(forgotten);
            }
        }
    }

    /// An exchange begins: who serves or asks may be told already.
    pub(super) fn find_taken(&mut self, handle: Handle) {
        let Some((connection, number)) = self.table.get(handle).and_then(name) else {
            return;
        };
        self.streams.known.insert((connection, number), handle);
        if let Some(taken) = self.streams.early.remove(&(connection, number)) {
            self.give_to(handle, &taken);
        }
    }

    fn give_to(&mut self, handle: Handle, taken: &Taken) {
        let Some(entry) = self.table.get_mut(handle) else {
            return;
        };
        let role = match taken.unit & ASKED {
            0 => Role::Server,
            _ => Role::Client,
        };
        let late = entry.published || entry.emitted || entry.laned || entry.taken.is_some();
        if late || entry.process != taken.process || entry.role != role {
            return;
        }
        entry.unit = Unit::named(taken.unit);
        entry.taken = Some(taken.time);
        // What was found of its place without that is void.
        self.epoch = self.epoch.wrapping_add(u64::from(entry.place.is_some()));
        if role == Role::Client {
            entry.asked = true;
            return self.begin(handle);
        }
        entry.from = taken.time;
        let (over, offset) = (entry.exchange.is_some(), 0);
        self.enter_lane(handle, offset);
        if over {
            self.leave_lane(handle);
        }
    }
}

/// Whether who read a head may have read it for others: in Go, who serves a stream is told.
pub(super) fn is_of_all(unit: Unit, role: Role, stream: Option<u64>) -> bool {
    matches!(unit, Unit::Of(Runtime::Go, _)) && role == Role::Server && stream.is_some()
}

fn name(entry: &Entry) -> Option<Name> {
    Some((entry.connection, entry.stream?))
}
