//! Segments of one socket become two gapless byte streams with every hole marked.
//!
//! [`Table`] holds connection ends, each with what the later stages keep about it (`S`), so that a
//! segment costs one look-up. It is bounded: a full table gives up the connection that was used
//! least recently, as the hand of a clock finds it.
//!
//! Never true here: that bytes are interpreted, or that a connection is forgotten uncounted.

pub mod stream;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::event::{ConnectionId, Direction, Execution, Nanos, Open};
use stream::Stream;

/// Where and by whom a byte was moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// When the call that moved it had completed.
    pub time: Nanos,
    /// Absolute 64-bit offset of the byte in its direction of the stream.
    pub offset: u64,
    /// Who moved it.
    pub execution: Execution,
}

/// Both directions of a connection.
#[derive(Debug)]
pub struct Streams {
    /// Sent by the process.
    pub egress: Stream,
    /// Received by the process.
    pub ingress: Stream,
}

impl Streams {
    /// The stream of a direction.
    pub fn get(&mut self, direction: Direction) -> &mut Stream {
        match direction {
            Direction::Egress => &mut self.egress,
            Direction::Ingress => &mut self.ingress,
        }
    }

    /// Captured bytes held of both.
    pub fn held(&self) -> usize {
        self.egress.held().saturating_add(self.ingress.held())
    }

    /// What both cost to hold, in bytes; 0 where nothing is held.
    pub fn weight(&self) -> usize {
        self.egress.weight().saturating_add(self.ingress.weight())
    }
}

/// A connection end that is followed.
#[derive(Debug)]
pub struct Connection<S> {
    /// How it was introduced.
    pub open: Open,
    /// Its bytes.
    pub streams: Streams,
    /// When something last happened on it.
    pub active: Nanos,
    /// What the later stages keep about it.
    pub state: S,
}

impl<S> Connection<S> {
    /// A connection about which nothing but its introduction is known.
    pub fn new(open: Open, state: S) -> Self {
        let [egress, ingress] = open.start;
        Self {
            streams: Streams {
                egress: Stream::new(egress),
                ingress: Stream::new(ingress),
            },
            active: open.time,
            open,
            state,
        }
    }

    /// It was introduced twice, by threads that were the first to use it at once: what came first may
    /// come last.
    pub fn begins_earlier(&mut self, start: [u64; 2]) {
        let streams = [&mut self.streams.egress, &mut self.streams.ingress];
        for ((stream, begun), start) in streams.into_iter().zip(&mut self.open.start).zip(start) {
            if start < *begun && stream.end() == *begun {
                *stream = Stream::new(start);
                *begun = start;
            }
        }
    }

    /// What makes the kernel side's offsets absolute ones, see [`Open::base`].
    pub fn base(&self, direction: Direction) -> u64 {
        let [egress, ingress] = self.open.base;
        match direction {
            Direction::Egress => egress,
            Direction::Ingress => ingress,
        }
    }
}

/// Connection ends of one shard, and a value for each.
#[derive(Debug)]
pub struct Table<V> {
    index: HashMap<ConnectionId, usize, BuildHasherDefault<IdHasher>>,
    slots: Vec<Slot<V>>,
    free: Vec<usize>,
    hand: usize,
    capacity: usize,
}

#[derive(Debug)]
struct Slot<V> {
    id: ConnectionId,
    /// Used since the hand last came by.
    used: bool,
    value: Option<V>,
}

impl<V> Table<V> {
    /// A table of at most `capacity` connections (at least one).
    pub fn new(capacity: usize) -> Self {
        Self {
            index: HashMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
            hand: 0,
            capacity: capacity.max(1),
        }
    }

    /// How many connections it holds.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The connection of that name.
    pub fn get(&mut self, id: ConnectionId) -> Option<&mut V> {
        let slot = self.slots.get_mut(*self.index.get(&id)?)?;
        slot.used = true;
        slot.value.as_mut()
    }

    /// Adds a connection, or replaces the one of that name; returns what had to go for it.
    pub fn insert(&mut self, id: ConnectionId, value: V) -> Option<(ConnectionId, V)> {
        let fresh = Slot {
            id,
            used: true,
            value: Some(value),
        };
        if let Some(slot) = self.index.get(&id).and_then(|&at| self.slots.get_mut(at)) {
            let old = std::mem::replace(slot, fresh);
            return old.value.map(|value| (id, value));
        }
        let evicted = (self.index.len() >= self.capacity)
            .then(|| self.evict())
            .flatten();
        let free = self.free.pop();
        match free.and_then(|at| self.slots.get_mut(at).map(|slot| (at, slot))) {
            Some((at, slot)) => {
                *slot = fresh;
                self.index.insert(id, at);
            }
            None => {
                self.index.insert(id, self.slots.len());
                self.slots.push(fresh);
            }
        }
        evicted
    }

    /// Takes a connection out.
    pub fn remove(&mut self, id: ConnectionId) -> Option<V> {
        let at = self.index.remove(&id)?;
        self.free.push(at);
        self.slots.get_mut(at)?.value.take()
    }

    /// Takes out the first connection not used since the hand last came by it.
    fn evict(&mut self) -> Option<(ConnectionId, V)> {
        let rounds = self.slots.len().saturating_mul(2);
        for _ in 0..rounds {
            self.hand = match self.hand.saturating_add(1) {
                next if next < self.slots.len() => next,
                _ => 0,
            };
            let Some(slot) = self.slots.get_mut(self.hand) else {
                continue;
            };
            if slot.value.is_none() {
                continue;
            }
            if slot.used {
                slot.used = false;
                continue;
            }
            let id = slot.id;
            return self.remove(id).map(|value| (id, value));
        }
        None
    }

    /// Every connection, in no order; no use.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (ConnectionId, &mut V)> {
        self.slots
            .iter_mut()
            .filter_map(|slot| slot.value.as_mut().map(|value| (slot.id, value)))
    }
}

/// Spreads ids that the kernel or this agent counts up: no attacker chooses them.
#[derive(Debug, Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, n: u64) {
        // Fibonacci hashing: 2^64 divided by the golden ratio; the table looks at the top bits too.
        let spread = (self.0 ^ n).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = spread ^ (spread >> 32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_gives_up_one_that_was_not_used() {
        let mut table = Table::new(3);
        for id in 0..3 {
            assert!(table.insert(ConnectionId(id), id).is_none());
        }
        // The first eviction clears every mark; those used after it survive the next one.
        let (first, _) = table.insert(ConnectionId(3), 3).expect("one goes");
        let kept: Vec<u64> = (0..4).filter(|&id| id != first.0).collect();
        let [spared, ..] = kept[..] else {
            panic!("three are left")
        };
        table.get(ConnectionId(spared));
        let (second, _) = table.insert(ConnectionId(4), 4).expect("one goes");
        assert_ne!(second.0, spared);
        assert_eq!(table.len(), 3);
    }

    #[test]
    fn slots_are_used_again() {
        let mut table = Table::new(8);
        for id in 0..1000 {
            table.insert(ConnectionId(id), id);
            assert!(table.remove(ConnectionId(id)).is_some());
        }
        assert!(table.is_empty());
        assert_eq!(table.slots.len(), 1);
        assert_eq!(table.iter_mut().count(), 0);
    }
}
