//! A map with a bound: past it, the quarter that was used longest ago goes, at once, so that an
//! insertion costs O(1) on average and nothing is kept in order in between.

use std::hash::Hash;

use foldhash::{HashMap, HashMapExt as _};

/// A bounded map that forgets what was not used for longest.
#[derive(Debug)]
pub struct Cache<K, V> {
    entries: HashMap<K, Slot<V>>,
    limit: usize,
    now: u64,
}

#[derive(Debug)]
struct Slot<V> {
    value: V,
    used: u64,
}

impl<K: Eq + Hash + Clone, V> Cache<K, V> {
    /// A cache of at most `limit` entries (at least one).
    pub fn new(limit: usize) -> Self {
        Self {
            entries: HashMap::new(),
            limit: limit.max(1),
            now: 0,
        }
    }

    /// The value of `key`, which counts as a use.
    pub fn get(&mut self, key: &K) -> Option<&mut V> {
        self.now += 1;
        let now = self.now;
        self.entries.get_mut(key).map(|slot| {
            slot.used = now;
            &mut slot.value
        })
    }

    /// Sets the value of `key`; the answer is how many other entries had to go.
    pub fn insert(&mut self, key: K, value: V) -> u64 {
        self.now += 1;
        let used = self.now;
        let evicted = if self.entries.len() >= self.limit && !self.entries.contains_key(&key) {
            self.evict()
        } else {
            0
        };
        self.entries.insert(key, Slot { value, used });
        evicted
    }

    /// Makes `key` the first to go when room is needed.
    pub fn age(&mut self, key: &K) {
        if let Some(slot) = self.entries.get_mut(key) {
            slot.used = 0;
        }
    }

    /// Forgets `key`.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.entries.remove(key).map(|slot| slot.value)
    }

    /// Every value, in no order; no use.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.values().map(|slot| &slot.value)
    }

    /// The same, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.values_mut().map(|slot| &mut slot.value)
    }

    /// Every key and value, in no order; no use.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, slot)| (key, &slot.value))
    }

    /// Entries kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn evict(&mut self) -> u64 {
        let before = self.entries.len();
        let mut ages: Vec<u64> = self.entries.values().map(|slot| slot.used).collect();
        let nth = (before / 4).min(before.saturating_sub(1));
        let (_, &mut limit, _) = ages.select_nth_unstable(nth);
        // Aged entries share the mark 0, so that all of them go at once.
        self.entries.retain(|_, slot| slot.used > limit);
        (before - self.entries.len()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first_and_the_bound_holds() {
        let mut cache = Cache::new(8);
        let mut evicted = 0;
        for n in 0..100u32 {
            evicted += cache.insert(n, n);
            cache.get(&0);
            assert!(cache.len() <= 8);
        }
        assert!(cache.get(&0).is_some(), "used all the time");
        assert!(cache.get(&99).is_some());
        assert!(cache.get(&50).is_none());
        assert_eq!(evicted, 100 - cache.len() as u64);
    }

    #[test]
    fn aged_entries_go_before_older_ones() {
        let mut cache = Cache::new(4);
        for n in 0..4u32 {
            cache.insert(n, ());
        }
        cache.age(&3);
        cache.insert(4, ());
        assert!(cache.get(&3).is_none());
        assert!(cache.get(&4).is_some());
    }

    #[test]
    fn a_cache_of_one_holds_one() {
        let mut cache = Cache::new(0);
        assert_eq!(cache.insert(1, ()), 0);
        assert_eq!(cache.insert(1, ()), 0);
        assert_eq!(cache.insert(2, ()), 1);
        assert_eq!(cache.len(), 1);
        assert!(!cache.is_empty());
        assert!(cache.remove(&2).is_some());
    }
}
