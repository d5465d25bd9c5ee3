//! What a connection's messages refer to by a name or a number: bounded, the oldest out.
//!
//! Never true here: that more is held than was allowed.

use std::collections::BTreeMap;
use std::sync::RwLock;

use smallvec::SmallVec;

use crate::stats::Stats;

/// Most names remembered of one kind, where nothing else is said.
const MAX_NAMES: usize = 256;
/// Most that connections tell each other.
const MAX_COMMON: usize = 4096;
/// Bytes that there is room for with each: of the name, and of what it stands for.
const ROOM: usize = 256;

/// Names, each with what it stands for.
#[derive(Debug)]
pub struct Known<T, const NAMES: usize = MAX_NAMES> {
    names: BTreeMap<Box<[u8]>, (u64, T)>,
    /// By age.
    ages: BTreeMap<u64, Box<[u8]>>,
    next: u64,
    bytes: usize,
}

/// What is remembered.
pub trait Held {
    /// What it costs to hold beyond itself, in bytes.
    fn weight(&self) -> usize;
}

impl<T, const NAMES: usize> Default for Known<T, NAMES> {
    fn default() -> Self {
        Self {
            names: BTreeMap::new(),
            ages: BTreeMap::new(),
            next: 0,
            bytes: 0,
        }
    }
}

impl<T: Held, const NAMES: usize> Known<T, NAMES> {
    /// Most bytes of all.
    const BYTES: usize = NAMES.saturating_mul(ROOM);

    /// Remembers a name; gives what had to go for it, the same name's last meaning among that.
    pub fn insert(&mut self, name: &[u8], value: T, stats: &Stats) -> Vec<T> {
        let mut gone = Vec::new();
        gone.extend(self.remove(name));
        let forgotten = || stats.protocol_entries_forgotten.add(1);
        let weight = Self::cost(name, &value);
        while self.names.len() >= NAMES || self.bytes.saturating_add(weight) > Self::BYTES {
            let Some((_, oldest)) = self.ages.first_key_value() else {
                break;
            };
            let oldest = oldest.clone();
            forgotten();
            gone.extend(self.remove(&oldest));
        }
        if weight > Self::BYTES {
            forgotten();
            gone.push(value);
            return gone;
        }
        self.bytes = self.bytes.saturating_add(weight);
        self.ages.insert(self.next, name.into());
        self.names.insert(name.into(), (self.next, value));
        self.next = self.next.wrapping_add(1);
        gone
    }

    /// What a name stands for.
    pub fn get(&self, name: &[u8]) -> Option<&T> {
        self.names.get(name).map(|(_, value)| value)
    }

    /// Forgets a name.
    pub fn remove(&mut self, name: &[u8]) -> Option<T> {
        let (age, value) = self.names.remove(name)?;
        self.ages.remove(&age);
        self.bytes = self.bytes.saturating_sub(Self::cost(name, &value));
        Some(value)
    }

    /// All of them, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &T)> {
        let names = self.ages.values();
        names
            .filter_map(|name| self.names.get_key_value(name))
            .map(|(name, (_, value))| (&**name, value))
    }

    /// Forgets all, the oldest first.
    pub fn drain(&mut self) -> Vec<T> {
        let mut gone = Vec::with_capacity(self.ages.len());
        for (_, name) in std::mem::take(&mut self.ages) {
            gone.extend(self.names.remove(&name).map(|(_, value)| value));
        }
        self.bytes = 0;
        gone
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// What it costs to hold, in bytes.
    pub fn weight(&self) -> usize {
        self.bytes
    }

    fn cost(name: &[u8], value: &T) -> usize {
        let fixed = size_of::<T>().saturating_add(ENTRY);
        let names = name.len().saturating_mul(2);
        fixed.saturating_add(names).saturating_add(value.weight())
    }
}

/// What two maps cost for an entry, about.
const ENTRY: usize = 64;

/// Names that all connections of a process know, of all processes.
#[derive(Debug)]
pub struct Common<T>(RwLock<Known<T, MAX_COMMON>>);

impl<T> Default for Common<T> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<T: Held + Clone> Common<T> {
    /// What a name stands for to this process.
    pub fn get(&self, process: u32, name: &[u8]) -> Option<T> {
        self.0.read().ok()?.get(&of_process(process, name)).cloned()
    }

    /// Remembers a name for this process.
    pub fn insert(&self, process: u32, name: &[u8], value: T, stats: &Stats) {
        if let Ok(mut known) = self.0.write() {
            known.insert(&of_process(process, name), value, stats);
        }
    }
}

/// The name that a process's name has among all.
fn of_process(process: u32, name: &[u8]) -> SmallVec<[u8; 32]> {
    process
        .to_be_bytes()
        .into_iter()
        .chain(name.iter().copied())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Held for u32 {
        fn weight(&self) -> usize {
            0
        }
    }

    #[test]
    fn processes_know_their_own_and_share_the_room() {
        let (common, stats) = (Common::<u32>::default(), Stats::default());
        for n in 0..5000u32 {
            common.insert(n % 2, &n.to_be_bytes(), n, &stats);
        }
        let last = 4999u32.to_be_bytes();
        assert_eq!(
            (common.get(1, &last), common.get(0, &last)),
            (Some(4999), None)
        );
        assert_eq!(common.get(0, &0u32.to_be_bytes()), None);
        let forgotten = 5000 - MAX_COMMON as u64;
        assert_eq!(stats.protocol_entries_forgotten.get(), forgotten);
    }

    #[test]
    fn the_oldest_goes() {
        let (mut known, stats) = (Known::<u32>::default(), Stats::default());
        for n in 0..1000u32 {
            let gone = known.insert(&n.to_be_bytes(), n, &stats);
            assert_eq!(gone.len(), usize::from(n as usize >= MAX_NAMES));
        }
        assert_eq!(known.get(&999u32.to_be_bytes()), Some(&999));
        assert_eq!(known.get(&0u32.to_be_bytes()), None);
        assert_eq!(known.insert(&999u32.to_be_bytes(), 1, &stats), [999]);
        assert_eq!(known.iter().count(), MAX_NAMES);
        assert!(known.weight() <= Known::<u32>::BYTES);
        assert_eq!(known.drain().len(), MAX_NAMES);
        assert_eq!((known.weight(), known.is_empty()), (0, true));
        let forgotten = 1000 - MAX_NAMES as u64;
        assert_eq!(stats.protocol_entries_forgotten.get(), forgotten);
        let long = vec![0; Known::<u32>::BYTES];
        assert_eq!(known.insert(&long, 1, &stats), [1]);
        assert!(known.is_empty());
        assert_eq!(stats.protocol_entries_forgotten.get(), forgotten + 1);
    }
}
