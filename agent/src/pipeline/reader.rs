//! One thread a ring: records become events, events become facts. It owns its shard of state, so
//! nothing is locked but the mailbox its facts leave through, once a drain.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::Notify;

use super::collector::Collector;
use super::shard::{Command, Out, Shard};
use crate::event::decode::decode;
use crate::event::{Event, Nanos};
use crate::exchange::Fact;
use crate::probe::ring::Ring;
use crate::probe::{Control, clock};
use crate::resource::Resources;
use crate::stats::Stats;
use crate::target::Targets;

/// Facts on their way from a reader to the weaver, and how far that reader is.
#[derive(Debug, Default)]
pub struct Mailbox {
    facts: Mutex<Vec<Fact>>,
    /// Every record older than this has been read; `u64::MAX` while the reader sleeps, as the
    /// kernel side wakes it for the next record.
    progress: AtomicU64,
}

impl Mailbox {
    /// Takes what has come.
    pub fn take(&self, facts: &mut Vec<Fact>) {
        facts.append(&mut self.facts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// CLOCK_MONOTONIC up to which all is known, given the time now.
    pub fn progress(&self, now: Nanos) -> Nanos {
        match self.progress.load(Ordering::Acquire) {
            u64::MAX => now.saturating_sub(WAKE_UP),
            progress => progress,
        }
    }

    /// Adds facts; past the bound the newest are dropped and counted.
    fn put(&self, fresh: &mut Vec<Fact>, stats: &Stats) {
        if fresh.is_empty() {
            return;
        }
        let mut facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAILBOX.saturating_sub(facts.len());
        if fresh.len() > room {
            stats
                .pipeline_facts_dropped
                .add((fresh.len() - room) as u64);
            fresh.truncate(room);
        }
        facts.append(fresh);
    }
}

/// Facts that wait for the weaver at most.
const MAILBOX: usize = 262_144;
/// Longest a sleeping reader takes to be woken, nanoseconds.
const WAKE_UP: Nanos = 20_000_000;

/// What every reader shares.
pub struct Shared {
    /// Tells the kernel side verdicts and mutes.
    pub control: Arc<Control>,
    /// Judges processes.
    pub targets: Arc<Targets>,
    /// Counts.
    pub stats: Arc<Stats>,
    /// Time to drain once more and return.
    pub stop: AtomicBool,
    /// Longest a record waits in a ring.
    pub interval: Duration,
    /// Raised when a process id came to mean another program: verdicts kept elsewhere are void.
    pub generation: AtomicU64,
    /// Verdicts changed: whether anything is to be attached may have, too.
    pub changed: Notify,
    /// Whose span is whose: told of processes while they live.
    pub resources: Resources,
    /// Where spans go, which is not traced.
    pub collector: Collector,
    /// Processes that came or went, for the weaver.
    pub arrivals: Mutex<Vec<Arrival>>,
}

/// A process event that the weaver acts upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Seen for the first time, or after exec.
    Process(u32),
    /// Ended.
    Gone(u32),
}

/// A reader's loop; returns when told to stop, after a last drain.
///
/// # Errors
/// Where the kernel refuses to wait on the ring.
pub fn run(
    mut ring: Ring,
    shard: Shard,
    shared: &Shared,
    mailbox: &Mailbox,
    weaver: &Thread,
) -> Result<()> {
    let mut reader = Reader {
        shard,
        shared,
        verdicts: HashMap::new(),
        generation: 0,
        facts: Vec::new(),
        commands: Vec::new(),
    };
    let mut ticked = 0;
    loop {
        let last = shared.stop.load(Ordering::Acquire);
        let before = clock::monotonic();
        mailbox
            .progress
            .store(before.saturating_sub(IN_FLIGHT), Ordering::Release);
        reader.renew();
        let records = ring.drain(|record| reader.take(record));
        shared.stats.event_records.add(records);
        if before.saturating_sub(ticked) > TICK || last {
            ticked = before;
            reader.tick(before);
        }
        reader.obey();
        let any = !reader.facts.is_empty();
        mailbox.put(&mut reader.facts, &shared.stats);
        if any {
            weaver.unpark();
        }
        if last {
            return Ok(());
        }
        if ring.idle() {
            mailbox.progress.store(u64::MAX, Ordering::Release);
        }
        ring.wait(shared.interval, LONGEST)?;
    }
}

/// A record carries its time a little before it can be read.
const IN_FLIGHT: Nanos = 1_000_000;
/// How often time-outs are looked for, nanoseconds.
const TICK: Nanos = 200_000_000;
/// Longest sleep, so that stop and time-outs are seen.
const LONGEST: Duration = Duration::from_millis(200);

struct Reader<'a> {
    shard: Shard,
    shared: &'a Shared,
    /// Verdicts of processes seen here, so that the shared table is asked once a process.
    verdicts: HashMap<u32, bool>,
    generation: u64,
    facts: Vec<Fact>,
    commands: Vec<Command>,
}

impl Reader<'_> {
    /// Forgets verdicts that an exec or exit seen by any reader made void.
    fn renew(&mut self) {
        let generation = self.shared.generation.load(Ordering::Acquire);
        if generation != self.generation || self.verdicts.len() > VERDICTS {
            self.generation = generation;
            self.verdicts.clear();
        }
    }

    fn take(&mut self, record: &[u8]) {
        let Some(event) = decode(record) else {
            self.shared.stats.event_malformed.add(1);
            return;
        };
        match &event {
            Event::Open(open) => {
                self.shared.targets.sighted(open.process, &open.comm);
                if !self.wanted(open.process) {
                    return;
                }
                self.shared.resources.observe(open.process, &open.comm);
            }
            Event::Segment(segment) if !self.wanted(segment.execution.process) => return,
            Event::Segment(_) | Event::End(_) => {}
            Event::Exec(process) => {
                self.shared.targets.execed(process);
                self.shared.generation.fetch_add(1, Ordering::AcqRel);
                return;
            }
            Event::Exit(process) => {
                self.shared.targets.exited(process.process);
                self.shared.generation.fetch_add(1, Ordering::AcqRel);
                self.arrived(Arrival::Gone(process.process));
                return;
            }
        }
        let Self {
            shard,
            facts,
            commands,
            ..
        } = self;
        shard.take(&event, &mut Out { facts, commands });
    }

    fn tick(&mut self, now: Nanos) {
        let Self {
            shard,
            facts,
            commands,
            ..
        } = self;
        shard.tick(now, &mut Out { facts, commands });
    }

    fn wanted(&mut self, process: u32) -> bool {
        if let Some(&traced) = self.verdicts.get(&process) {
            return traced;
        }
        let traced = self.shared.targets.judge(process).is_traced();
        self.verdicts.insert(process, traced);
        traced
    }

    fn arrived(&self, arrival: Arrival) {
        let arrivals = &self.shared.arrivals;
        let mut arrivals = arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        if arrivals.len() < ARRIVALS {
            arrivals.push(arrival);
        }
    }

    /// Tells the kernel side what was decided.
    fn obey(&mut self) {
        for (process, verdict) in self.shared.targets.changes() {
            if self
                .shared
                .control
                .judge(process, verdict.is_traced())
                .is_err()
            {
                self.shared.stats.pipeline_control_failed.add(1);
            }
            if verdict.is_traced() {
                self.arrived(Arrival::Process(process));
            }
            self.shared.changed.notify_one();
        }
        for command in self.commands.drain(..) {
            let Command::Mute(connection) = command;
            if self.shared.control.mute(connection).is_err() {
                self.shared.stats.pipeline_control_failed.add(1);
            }
        }
    }
}

/// Verdicts a reader keeps before it starts anew.
const VERDICTS: usize = 65_536;
/// Process events that wait for the weaver at most; one that is left out costs a look-up later.
const ARRIVALS: usize = 65_536;
