//! One thread a ring: records become events, events become facts. It owns its shard of state, so
//! nothing is locked but the mailbox its facts leave through, once a drain.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::Notify;

use super::collector::Collector;
use super::encrypted::Encrypted;
use super::failure::Failure;
use super::followed::Followed;
use super::health::Health;
use super::mailbox::Mailbox;
use super::orders::Orders;
use super::prober::Queue;
use super::shard::{Command, Out, Shard};
use super::unknown::Unknown;
use crate::courtesy::Courtesy;
use crate::event::decode::decode;
use crate::event::{Event, Nanos};
use crate::exchange::Fact;
use crate::kubernetes::Cluster;
use crate::probe::clock;
use crate::probe::ring::Ring;
use crate::resource::Resources;
use crate::stats::Stats;
use crate::target::{Targets, Verdict};

/// Where a reader's records come from.
pub trait Source {
    /// Hands the records there are to `take`, but no more than `most`; returns how many.
    fn drain(&mut self, most: u64, take: impl FnMut(&[u8])) -> u64;

    /// Whether nothing came for long enough that [`wait`](Self::wait) sleeps until it is woken.
    fn idle(&self) -> bool;

    /// Waits for more: `interval` while records come, longer (at most `longest`) once none did.
    ///
    /// # Errors
    /// Where waiting is not possible.
    fn wait(&mut self, interval: Duration, longest: Duration) -> Result<()>;
}

impl Source for Ring {
    fn drain(&mut self, most: u64, take: impl FnMut(&[u8])) -> u64 {
        Ring::drain(self, most, take)
    }

    fn idle(&self) -> bool {
        Ring::idle(self)
    }

    fn wait(&mut self, interval: Duration, longest: Duration) -> Result<()> {
        Ring::wait(self, interval, longest)
    }
}

/// What every reader shares.
pub struct Shared {
    /// Tells the kernel side verdicts and mutes.
    pub control: Arc<dyn Orders>,
    /// Judges processes.
    pub targets: Arc<Targets>,
    /// Counts.
    pub stats: Arc<Stats>,
    /// Time to drain once more and return.
    pub stop: AtomicBool,
    /// Longest a record waits in a ring.
    pub interval: Duration,
    /// What a busy thread claims of a CPU that others want.
    pub share: f64,
    /// Raised when a process id came to mean another program: verdicts kept elsewhere are void.
    pub generation: AtomicU64,
    /// Told of a thread that ended before its time.
    pub failure: Failure,
    /// Told by each thread that it gets on.
    pub health: Arc<Health>,
    /// Whether what sees traffic is attached.
    pub hot: AtomicBool,
    /// Told when it should no longer be, or should be again.
    pub changed: Notify,
    /// Whose span is whose: told of processes while they live.
    pub resources: Resources,
    /// What is known of the cluster, where there is one.
    pub cluster: Option<Arc<Cluster>>,
    /// Where spans go, which is not traced.
    pub collector: Collector,
    /// What is known of encrypted connections.
    pub encrypted: Arc<Encrypted>,
    /// Connections that nobody could read.
    pub unknown: Arc<Unknown>,
    /// Processes that came or went, for the weaver.
    pub arrivals: Mutex<Vec<Arrival>>,
    /// The same, for the prober.
    pub probing: Queue,
    /// Whether TLS is read.
    pub tls: bool,
    /// Whether goroutines are told apart.
    pub goroutines: bool,
    /// Whether Python's contexts are.
    pub asyncio: bool,
    /// In which processes they are.
    pub followed: Followed,
    /// Whether the turns of Node.js are.
    pub node: bool,
    /// Whether the tasks of JVMs are.
    pub jvm: bool,
}

impl Shared {
    /// Whether spans that began in a process then are left out after all.
    pub fn is_left_out(&self, (process, began): (u32, Nanos)) -> bool {
        !self.targets.takes_all()
            && (self.targets)
                .is_left_out(&self.resources.snapshot(process, began))
                .is_some()
    }

    /// A line for each kind of connection that was not read, and why.
    pub fn unread(&self) -> Vec<String> {
        let mut lines = self.encrypted.report(&self.resources);
        lines.extend(self.unknown.report(&self.resources));
        lines
    }
}

/// A process event that others act upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Seen for the first time, or after exec.
    Process(u32),
    /// Ended.
    Gone(u32),
    /// Starts units of execution faster than they are followed.
    Teems(u32),
    /// Is not selected any more.
    Left(u32),
}

/// A reader's loop; returns when told to stop, after a last drain.
///
/// # Errors
/// Where the kernel refuses to wait on the ring.
pub fn run(
    mut ring: impl Source,
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
        chosen: shared.targets.generation(),
        reached: 0,
        facts: Vec::new(),
        commands: Vec::new(),
    };
    let (beat, mut ticked) = (shared.health.beat(), 0);
    let mut courtesy = Courtesy::new(shared.share, &shared.stop, clock::monotonic());
    loop {
        let last = shared.stop.load(Ordering::Acquire);
        let before = clock::monotonic();
        courtesy.settle(before);
        beat.at(before);
        mailbox.wake(before);
        reader.renew();
        // Nothing is attached any more when it is the last pass.
        let most = if last { u64::MAX } else { PASS };
        let records = ring.drain(most, |record| {
            reader.take(record);
            if reader.facts.len() >= HANDFUL {
                mailbox.put(&mut reader.facts, &shared.stats);
                weaver.unpark();
                let now = clock::monotonic();
                courtesy.settle(now);
                beat.at(now);
            }
        });
        shared.stats.event_records.add(records);
        let tick = reader.shard.withheld().map_or(TICK, |_| BRIEF);
        if before.saturating_sub(ticked) > tick || last {
            ticked = before;
            reader.tick(before, last);
        }
        reader.obey();
        let any = !reader.facts.is_empty();
        mailbox.put(&mut reader.facts, &shared.stats);
        let all = records < most;
        let told = if all { Nanos::MAX } else { reader.reached };
        let withheld = reader.shard.withheld();
        mailbox.complete(before.min(told).min(withheld.unwrap_or(Nanos::MAX)));
        if any {
            weaver.unpark();
        }
        if last {
            return Ok(());
        }
        if ring.idle() && withheld.is_none() {
            mailbox.sleep();
        }
        if all {
            let longest = withheld.map_or(LONGEST, |_| Duration::from_nanos(BRIEF));
            ring.wait(shared.interval, longest)?;
        }
    }
}

/// Records of one pass: a reader that can't keep up with its ring still has other things to do.
const PASS: u64 = 16_384;
/// Facts handed over at once: a ring that is never empty must not pile them up.
const HANDFUL: usize = 1024;
/// How often time-outs are looked for, nanoseconds.
const TICK: Nanos = 200_000_000;
/// How often, while some bytes wait for others, nanoseconds.
const BRIEF: Nanos = 20_000_000;
/// Longest sleep, so that stop and time-outs are seen.
const LONGEST: Duration = Duration::from_millis(200);

struct Reader<'a> {
    shard: Shard,
    shared: &'a Shared,
    /// Verdicts of processes seen here, so that the shared table is asked once a process.
    verdicts: HashMap<u32, bool>,
    generation: u64,
    /// The generation of targets that is known here.
    chosen: u64,
    /// Time of the last record.
    reached: Nanos,
    facts: Vec<Fact>,
    commands: Vec<Command>,
}

impl Reader<'_> {
    /// Forgets verdicts that an exec or exit seen by any reader made void, or another selection. Whose
    /// connections are not wanted any more is left alone.
    fn renew(&mut self) {
        let generation = self.shared.generation.load(Ordering::Acquire);
        let chosen = self.shared.targets.generation();
        if generation != self.generation || chosen != self.chosen || self.verdicts.len() > VERDICTS
        {
            self.generation = generation;
            self.verdicts.clear();
        }
        if chosen != self.chosen {
            self.chosen = chosen;
            let targets = &self.shared.targets;
            let Self {
                shard,
                facts,
                commands,
                ..
            } = self;
            let traced = |process| targets.judge(process).is_traced();
            let out = &mut Out { facts, commands };
            shard.choose(targets.selection(), traced, out);
        }
    }

    fn take(&mut self, record: &[u8]) {
        let Some(event) = decode(record) else {
            self.shared.stats.event_malformed.add(1);
            return;
        };
        self.reached = event.time().unwrap_or(self.reached);
        match &event {
            Event::Open(open) => {
                let targets = &self.shared.targets;
                targets.sighted_in(open.process, &open.comm, open.netns);
                if !self.wanted(open.process) {
                    return;
                }
                let resources = &self.shared.resources;
                resources.observe(open.process, &open.comm, open.time);
            }
            Event::Segment(segment) if !self.wanted(segment.execution.process) => return,
            Event::Segment(_)
            | Event::End(_)
            | Event::Started(_)
            | Event::Taken(_)
            | Event::Java(_)
            | Event::Carried(_) => {}
            Event::Exec(process) => {
                let (pid, time) = (process.process, process.time);
                match self.shared.targets.execed(process).is_traced() {
                    true => self.shared.resources.execed(pid, time),
                    false => self.shared.resources.exited(pid, time),
                }
                self.shared.generation.fetch_add(1, Ordering::AcqRel);
                return;
            }
            Event::Teems(process) => {
                self.shared.followed.refuse(process.process);
                self.shared.probing.push(Arrival::Teems(process.process));
                return;
            }
            Event::Exit(process) => {
                self.shared.targets.exited(process.process);
                self.shared.resources.exited(process.process, process.time);
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

    fn tick(&mut self, now: Nanos, last: bool) {
        let Self {
            shard,
            facts,
            commands,
            ..
        } = self;
        shard.tick(now, &mut Out { facts, commands });
        if last {
            // What is under way becomes spans that say that their end was not seen.
            shard.finish(now, &mut Out { facts, commands });
        }
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
        if let Arrival::Process(process) | Arrival::Gone(process) = arrival {
            self.shared.followed.forget(process);
        }
        let arrivals = &self.shared.arrivals;
        let mut arrivals = arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        if arrivals.len() < ARRIVALS {
            arrivals.push(arrival);
        }
        drop(arrivals);
        if !self.shared.probing.push(arrival) {
            self.shared.stats.probe_refused.add(1);
        }
    }

    /// Tells the kernel side what was decided.
    fn obey(&mut self) {
        let shared = self.shared;
        let mut all_left = HashSet::new();
        shared.targets.tell(|process, verdict, left| {
            let told = match verdict {
                Some(verdict) => shared.control.judge(process, verdict.is_traced()),
                None => shared.control.forget(process),
            };
            if told.is_err() {
                shared.stats.pipeline_control_failed.add(1);
            }
            if left && all_left.insert(process) && !shared.probing.push(Arrival::Left(process)) {
                shared.stats.probe_refused.add(1);
            }
            if verdict.is_some_and(Verdict::is_traced) {
                self.arrived(Arrival::Process(process));
            }
        });
        // Once for all of them, and while nobody else waits to tell: the whole table is walked.
        if !all_left.is_empty() && shared.control.leave(&all_left).is_err() {
            shared.stats.pipeline_control_failed.add(1);
        }
        if shared.targets.is_hot() != shared.hot.load(Ordering::Relaxed) {
            shared.changed.notify_one();
        }
        for command in self.commands.drain(..) {
            let told = match command {
                Command::Mute(connection) => self.shared.control.mute(connection),
                Command::Introduce(connection) => self.shared.control.reintroduce(connection),
                Command::Whole(connection) => self.shared.control.copy_whole(connection, true),
                Command::Budget(connection) => self.shared.control.copy_whole(connection, false),
                Command::Serves(process) => self.shared.control.serves_unseen(process),
            };
            if told.is_err() {
                self.shared.stats.pipeline_control_failed.add(1);
            }
        }
    }
}

/// Verdicts a reader keeps before it starts anew.
const VERDICTS: usize = 65_536;
/// Process events that wait for the weaver at most; one that is left out costs a look-up later.
const ARRIVALS: usize = 65_536;

#[cfg(test)]
mod tests;
