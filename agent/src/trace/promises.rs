//! In which traces the kernel side has requests. What left with a request is its trace for good: another
//! host was told so.

use std::collections::VecDeque;

use foldhash::{HashMap, HashMapExt as _};

use super::TraceId;
use crate::event::{Carried, ConnectionId, Direction, Role, Source};

/// What the kernel side says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Promise {
    /// Its trace.
    pub trace: TraceId,
    /// W3C trace flags, where anybody decided.
    pub flags: Option<u8>,
    /// Whether the stream key names the span of who sends it.
    pub named: bool,
    /// From where that is known.
    pub source: Source,
}

/// A request that is yet to come: its connection, whether it is sent, and the low half of its first byte's
/// offset, which is all that TCP says.
type Name = (ConnectionId, bool, u32);

/// Those of requests that have not come yet. Many never do: not all that is sent first is a request.
#[derive(Debug)]
pub(super) struct Promises {
    known: HashMap<Name, Promise>,
    /// Oldest first; some are not known any more.
    order: VecDeque<Name>,
    capacity: usize,
}

impl Promises {
    /// At most so many.
    pub fn new(capacity: usize) -> Self {
        Self {
            known: HashMap::new(),
            order: VecDeque::new(),
            capacity: capacity.max(1),
        }
    }

    /// Notes what was told. What is told of a request again stands.
    pub fn note(&mut self, carried: &Carried) {
        let sent = carried.direction == Direction::Egress;
        let name = (carried.connection, sent, carried.offset as u32);
        let promise = Promise {
            trace: TraceId(carried.trace),
            flags: carried.flags,
            named: carried.named,
            source: carried.source,
        };
        if self.known.insert(name, promise).is_some() {
            return;
        }
        self.order.push_back(name);
        while self.order.len() > self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// What was told of a request that came.
    pub fn take(&mut self, connection: ConnectionId, role: Role, offset: u64) -> Option<Promise> {
        if self.known.is_empty() {
            return None;
        }
        self.known
            .remove(&(connection, role == Role::Client, offset as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried(connection: u64, offset: u64, trace: u8) -> Carried {
        Carried {
            connection: ConnectionId(connection),
            direction: Direction::Egress,
            offset,
            line: 0,
            time: 0,
            trace: [trace; 16],
            flags: None,
            named: true,
            source: Source::Made,
        }
    }

    #[test]
    fn a_promise_is_of_one_request_and_the_last_word_stands() {
        let mut promises = Promises::new(2);
        let id = ConnectionId(1);
        promises.note(&carried(1, 10, 1));
        promises.note(&carried(1, 10, 2));
        assert_eq!(promises.take(id, Role::Server, 10), None);
        assert_eq!(promises.take(id, Role::Client, 11), None);
        let found = promises.take(id, Role::Client, 10);
        assert_eq!(found.map(|promise| promise.trace), Some(TraceId([2; 16])));
        assert_eq!(promises.take(id, Role::Client, 10), None);
    }

    #[test]
    fn room_is_bounded() {
        let mut promises = Promises::new(2);
        for offset in 0..5 {
            promises.note(&carried(1, offset, 1));
        }
        let known = (0..5).filter(|at| {
            let found = promises.take(ConnectionId(1), Role::Client, *at);
            found.is_some()
        });
        assert_eq!(known.collect::<Vec<_>>(), [3, 4]);
    }
}
