//! Between a reader and the weaver: facts, and up to which moment they are all there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::event::Nanos;
use crate::exchange::Fact;
use crate::stats::Stats;

/// Facts on their way from a reader to the weaver, and how far that reader is.
#[derive(Debug)]
pub struct Mailbox {
    /// Most facts that wait.
    room: usize,
    facts: Mutex<Vec<Fact>>,
    /// The facts of every record older than this were put in; [`ASLEEP`] while the reader sleeps,
    /// as the kernel side wakes it for the next record.
    progress: AtomicU64,
}

impl Mailbox {
    /// One of `shards` mailboxes.
    pub fn one_of(shards: usize) -> Self {
        Self {
            room: (FACTS / shards.max(1)).max(1),
            facts: Mutex::default(),
            progress: AtomicU64::new(0),
        }
    }

    /// Takes what has come.
    pub fn take(&self, facts: &mut Vec<Fact>) {
        facts.append(&mut self.facts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// CLOCK_MONOTONIC up to which all is known, given the time now.
    pub fn progress(&self, now: Nanos) -> Nanos {
        match self.progress.load(Ordering::Acquire) {
            ASLEEP => now.saturating_sub(WAKE_UP),
            progress => progress,
        }
    }

    /// Adds facts; where there is no room for them it waits a while, so that the ring fills: what that
    /// refuses has cost the least. Past that the newest are dropped and counted.
    pub fn put(&self, fresh: &mut Vec<Fact>, stats: &Stats) {
        for _ in 0..PATIENCE {
            if self.add(fresh) {
                return;
            }
            thread::sleep(NAP);
        }
        stats.pipeline_facts_dropped.add(fresh.len() as u64);
        fresh.clear();
    }

    /// Adds as many as there is room for; whether that is all.
    fn add(&self, fresh: &mut Vec<Fact>) -> bool {
        if fresh.is_empty() {
            return true;
        }
        let mut facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        let room = self.room.saturating_sub(facts.len());
        facts.extend(fresh.drain(..room.min(fresh.len())));
        fresh.is_empty()
    }

    /// The facts of every record from before `time` have been put in: to be said after
    /// [`put`](Self::put), with a time taken before the ring was read.
    pub fn complete(&self, time: Nanos) {
        self.progress
            .store(time.saturating_sub(IN_FLIGHT), Ordering::Release);
    }

    /// The reader goes to sleep: all is read.
    pub fn sleep(&self) {
        self.progress.store(ASLEEP, Ordering::Release);
    }

    /// It woke at `now`: from here on only what it puts in is known.
    pub fn wake(&self, now: Nanos) {
        if self.progress.load(Ordering::Relaxed) == ASLEEP {
            self.progress
                .store(now.saturating_sub(WAKE_UP), Ordering::Release);
        }
    }
}

const ASLEEP: u64 = u64::MAX;
/// Facts that wait for the weaver at most, of all shards: half a second of 30,000 exchanges a
/// second. A closed exchange has about 1 KiB.
const FACTS: usize = 32_768;
/// How often, and for how long, room is waited for.
const PATIENCE: u32 = 250;
const NAP: Duration = Duration::from_millis(1);
/// Longest a sleeping reader takes to be woken, nanoseconds.
const WAKE_UP: Nanos = 20_000_000;
/// A record carries its time a little before it can be read.
const IN_FLIGHT: Nanos = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::tests::opened;

    #[test]
    fn what_waits_is_bounded_over_all() {
        let stats = Stats::default();
        let mailboxes: Vec<_> = (0..4).map(|_| Mailbox::one_of(4)).collect();
        for mailbox in &mailboxes {
            for _ in 0..10 {
                let mut facts: Vec<_> = (0..1000).map(opened).collect();
                mailbox.put(&mut facts, &stats);
                assert!(facts.is_empty());
            }
        }
        let mut facts = Vec::new();
        for mailbox in &mailboxes {
            mailbox.take(&mut facts);
        }
        assert_eq!(facts.len(), FACTS);
        assert_eq!(stats.pipeline_facts_dropped.get(), 40_000 - FACTS as u64);
    }
}
