//! Names of topics by their ids (KIP-516), as Metadata tells them, for all connections of a process:
//! clients learn them on one connection and fetch on another.
//!
//! Never true here: that one process is believed about what another one reads.

use std::sync::Arc;

use crate::protocol::known::Held;
use crate::protocol::{Setup, Shared};
use crate::stats::Stats;

/// Longest name a topic can have.
pub const LONGEST: usize = 249;

/// A topic's id.
pub type Id = [u8; 16];

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
        let topics = &self.shared.topics;
        topics.insert(self.process, &id, name.into(), stats);
    }

    /// The name of the topic of this id.
    pub fn find(&self, id: &Id) -> Option<String> {
        let name = self.shared.topics.get(self.process, id);
        name.map(String::from)
    }
}

impl Held for Box<str> {
    fn weight(&self) -> usize {
        self.len()
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
        let gone = 5000 - 4096;
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
