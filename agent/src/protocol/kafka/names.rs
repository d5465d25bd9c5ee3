//! Names of topics by their ids (KIP-516), as Metadata tells them, for all connections of this agent:
//! clients learn them on one connection and fetch on another.
//!
//! One table for all is sound, since an id is made at random with its topic and is never another's,
//! in any cluster: who reads it may know a name early or not at all, and never a wrong one. What one
//! program was told first about an id stays, whatever another is told.
//!
//! Never true here: that more than [`MAX_NAMES`] ids are known.

use std::collections::{HashMap, VecDeque};
use std::sync::{LazyLock, RwLock};

/// Most ids that are remembered; past that the oldest is forgotten.
const MAX_NAMES: usize = 4096;
/// Longest name a topic can have.
pub const LONGEST: usize = 249;

/// A topic's id.
pub type Id = [u8; 16];

#[derive(Debug, Default)]
struct Names {
    names: HashMap<Id, Box<str>>,
    order: VecDeque<Id>,
}

static NAMES: LazyLock<RwLock<Names>> = LazyLock::new(RwLock::default);

/// The topic of this id has this name.
pub fn learn(id: Id, name: &str) {
    if id == Id::default() || name.is_empty() || name.len() > LONGEST {
        return;
    }
    if NAMES
        .read()
        .is_ok_and(|names| names.names.contains_key(&id))
    {
        return;
    }
    if let Ok(mut names) = NAMES.write() {
        names.learn(id, name);
    }
}

/// The name of the topic of this id.
pub fn find(id: &Id) -> Option<String> {
    let names = NAMES.read().ok()?;
    names.names.get(id).map(|name| String::from(&**name))
}

impl Names {
    fn learn(&mut self, id: Id, name: &str) {
        if self.names.contains_key(&id) {
            return;
        }
        if self.order.len() >= MAX_NAMES
            && let Some(oldest) = self.order.pop_front()
        {
            self.names.remove(&oldest);
        }
        self.names.insert(id, name.into());
        self.order.push_back(id);
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
        let mut names = Names::default();
        for n in 0..5000_u128 {
            names.learn((n + 1).to_be_bytes(), "t");
        }
        assert_eq!(
            (names.names.len(), names.order.len()),
            (MAX_NAMES, MAX_NAMES)
        );
        assert!(!names.names.contains_key(&1_u128.to_be_bytes()));
        names.learn(5000_u128.to_be_bytes(), "other");
        assert_eq!(
            names.names.get(&5000_u128.to_be_bytes()).map(|n| &**n),
            Some("t")
        );
    }

    #[test]
    fn what_was_told_first_stays() {
        let id = *b"names-test-topic";
        learn(id, "orders");
        learn(id, "others");
        assert_eq!(find(&id).as_deref(), Some("orders"));
        learn(Id::default(), "none");
        assert_eq!(find(&Id::default()), None);
    }
}
