//! Which processes' contexts the kernel side tells apart: without them a thread of Python's says nothing, as
//! one that runs an event loop makes the calls of all its tasks.
//!
//! Never true here: that a process is followed whose contexts the kernel side does not look for any more. Who
//! learns that says so before it is done with the record that told it, so whatever came later is linked later.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::event::Nanos;

/// What is known of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contexts {
    /// No CPython was met in it yet.
    Unknown,
    /// They are told apart in whatever begins from then on.
    Since(Nanos),
    /// There is a CPython in it whose contexts cannot be, or cannot any more.
    Refused,
}

/// What is known of all.
#[derive(Debug)]
pub struct Followed {
    possible: AtomicBool,
    known: Mutex<Known>,
    changes: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    of: HashMap<u32, Contexts>,
    lost: HashSet<u32>,
}

impl Followed {
    /// Nobody is, yet; nor will be where that is not wanted.
    pub fn new(wanted: bool) -> Self {
        Self {
            possible: AtomicBool::new(wanted),
            known: Mutex::default(),
            changes: AtomicU64::new(0),
        }
    }

    /// Nobody will be.
    pub fn give_up(&self) {
        self.possible.store(false, Ordering::Release);
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// A process is, from `since` on, unless that was refused.
    pub fn begin(&self, process: u32, since: Nanos) {
        let mut known = self.lock();
        if known.of.len() < MAX {
            known.of.entry(process).or_insert(Contexts::Since(since));
        }
        drop(known);
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// A process will not be, as long as it is the program that it is.
    pub fn refuse(&self, process: u32) {
        let mut known = self.lock();
        if known.of.len() < MAX || known.of.contains_key(&process) {
            known.of.insert(process, Contexts::Refused);
        }
        if known.lost.len() < MAX {
            known.lost.insert(process);
        }
        drop(known);
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// A process came, became another program or ended.
    pub fn forget(&self, process: u32) {
        self.lock().of.remove(&process);
    }

    /// What is known of a process.
    pub fn of(&self, process: u32) -> Contexts {
        let known = self.lock().of.get(&process).copied();
        known.unwrap_or(Contexts::Unknown)
    }

    /// Whether anybody may be.
    pub fn is_possible(&self) -> bool {
        self.possible.load(Ordering::Acquire)
    }

    /// Those that were refused since this was last asked.
    pub fn lost(&self) -> HashSet<u32> {
        std::mem::take(&mut self.lock().lost)
    }

    /// Grows when more is known.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Processes of which something is remembered.
const MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_refused_is_not_followed_until_it_is_another() {
        let followed = Followed::new(true);
        assert_eq!(followed.of(7), Contexts::Unknown);
        followed.begin(7, 5);
        assert_eq!(followed.of(7), Contexts::Since(5));
        followed.refuse(7);
        followed.begin(7, 9);
        assert_eq!(followed.of(7), Contexts::Refused);
        assert_eq!(
            (followed.lost(), followed.lost()),
            (HashSet::from([7]), HashSet::new())
        );
        followed.forget(7);
        assert_eq!(followed.of(7), Contexts::Unknown);
        assert!(followed.is_possible());
        followed.give_up();
        assert!(!followed.is_possible());
    }
}
