//! Names of topics by their ids (KIP-516), as Metadata tells them, for all connections of a process:
//! clients learn them on one connection and fetch on another.
//!
//! Never true here: that more than [`MAX_NAMES`] are known, or that one process is believed about
//! what another one reads.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, RwLock};

use crate::protocol::{Setup, Shared};
use crate::stats::Stats;

/// Most names that are remembered; past that the oldest is forgotten.
const MAX_NAMES: usize = 4096;
/// Longest name a topic can have.
pub const LONGEST: usize = 249;

/// A topic's id.
pub type Id = [u8; 16];

/// What was told, by the process that it was told to, or that told it.
#[derive(Debug, Default)]
pub struct Names(RwLock<Table>);

#[derive(Debug, Default)]
struct Table {
    names: HashMap<(u32, Id), Box<str>>,
    order: VecDeque<(u32, Id)>,
}

/// What one process was told.
#[derive(Clone, Debug)]
pub struct Told {
    shared: Arc<Shared>,
    process: u32,
}

impl Told {
    /// To the process of this connection.
    pub fn new(setup: &Setup) -> Self {
        Self {
            shared: Arc::clone(&setup.shared),
            process: setup.process,
        }
    }

    /// The topic of this id has this name; what was told first stays.
    pub fn learn(&self, id: Id, name: &str, stats: &Stats) {
        let known = id == Id::default() || self.find(&id).is_some();
        if known || name.is_empty() || name.len() > LONGEST {
            return;
        }
        if let Ok(mut table) = self.shared.topics.0.write() {
            table.learn((self.process, id), name, stats);
        }
    }

    /// The name of the topic of this id.
    pub fn find(&self, id: &Id) -> Option<String> {
        let table = self.shared.topics.0.read().ok()?;
        let name = table.names.get(&(self.process, *id));
        name.map(|name| String::from(&**name))
    }
}

impl Table {
    fn learn(&mut self, key: (u32, Id), name: &str, stats: &Stats) {
        if self.names.contains_key(&key) {
            return;
        }
        if self.order.len() >= MAX_NAMES
            && let Some(oldest) = self.order.pop_front()
        {
            stats.protocol_entries_forgotten.add(1);
            self.names.remove(&oldest);
        }
        self.names.insert(key, name.into());
        self.order.push_back(key);
    }
}

/// An id as Kafka writes it: base64 for URLs, without padding.
pub fn text(id: &Id) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = u128::from_be_bytes(*id);
    let digit = |place: u32| {
        // The last digit has two bits.
        let digit = match 122_u32.checked_sub(place.saturating_mul(6)) {
            Some(shift) => bits >> shift,
            None => bits << 4,
        };
        DIGITS
            .get((digit & 63) as usize)
            .map_or('A', |b| char::from(*b))
    };
    (0..22).map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(shared: &Arc<Shared>, process: u32) -> Told {
        Told {
            shared: Arc::clone(shared),
            process,
        }
    }

    #[test]
    fn ids_are_written_as_kafka_does() {
        let mut id = Id::default();
        assert_eq!(text(&id), "AAAAAAAAAAAAAAAAAAAAAA");
        id[15] = 1;
        assert_eq!(text(&id), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(text(&[0xff; 16]), "_____________________w");
    }

    #[test]
    fn the_oldest_goes() {
        let (told, stats) = (told(&Arc::default(), 1), Stats::default());
        for n in 1..=5000_u128 {
            told.learn(n.to_be_bytes(), "t", &stats);
        }
        {
            let table = told.shared.topics.0.read().unwrap();
            let held = (table.names.len(), table.order.len());
            assert_eq!(held, (MAX_NAMES, MAX_NAMES));
        }
        let gone = 5000 - MAX_NAMES as u64;
        assert_eq!(stats.protocol_entries_forgotten.get(), gone);
        assert_eq!(told.find(&1_u128.to_be_bytes()), None);
        assert!(told.find(&5000_u128.to_be_bytes()).is_some());
    }

    #[test]
    fn each_process_is_told_for_itself() {
        let (shared, stats) = (Arc::default(), Stats::default());
        let (one, other) = (told(&shared, 1), told(&shared, 2));
        let id = *b"names-test-topic";
        one.learn(id, "orders", &stats);
        one.learn(id, "others", &stats);
        assert_eq!(told(&shared, 1).find(&id).as_deref(), Some("orders"));
        assert_eq!(other.find(&id), None);
        other.learn(id, "false", &stats);
        assert_eq!(one.find(&id).as_deref(), Some("orders"));
        one.learn(Id::default(), "none", &stats);
        assert_eq!(one.find(&Id::default()), None);
    }
}
