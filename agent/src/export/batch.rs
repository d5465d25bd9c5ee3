//! The bounded queue before each exporter, and the task that empties it.
//!
//! - **Producers never wait.** They take a lock for the time of a move; a full queue loses its
//!   oldest spans, which are counted.
//! - **When a batch leaves**: as soon as `batch_size` spans wait, else when the oldest has waited
//!   for min(`schedule_delay`, the exporter's patience). For OTLP that is 0.9 s, so that a lone span
//!   leaves within a second of its end whatever OTEL_BSP_SCHEDULE_DELAY says (5 s by default).
//! - **A receiver that is away** is asked again, with back-off and jitter, for as long as it takes:
//!   nothing is lost while no more than `queue_size` spans have come meanwhile.
//! - **No batch blocks the others for ever.** One that has failed for `export_timeout` while others
//!   wait goes to the back of the queue; what finds no room there is dropped, being the oldest.
//! - **One that is refused** for good is dropped and counted by reason, and said once a minute.
//! - **Every span is accounted for**: queued = sent + rejected + failed + dropped + depth, where the
//!   depth is what waits or is on its way.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Answer, Exporter, say as tell};
use crate::config;
use crate::say::{self, cut};
use crate::span::Span;
use crate::stats::{Counter, Stats};

/// Producers' end of one queue.
#[derive(Clone, Debug)]
pub struct Queue(Arc<Shared>);

/// Starts the task that brings the queue's spans to `exporter`; inside a runtime. `gone` is told
/// when the receiver has gone for good.
pub fn start<E: Exporter>(
    exporter: E,
    config: &config::Export,
    stats: &Arc<Stats>,
    gone: watch::Sender<bool>,
) -> (Queue, JoinHandle<()>) {
    let capacity = config.queue_size.max(1);
    let shared = Arc::new(Shared {
        name: exporter.name().to_owned(),
        capacity,
        batch: config.batch_size.clamp(1, capacity),
        delay: config.schedule_delay.min(exporter.patience()),
        waiting: Mutex::default(),
        flying: AtomicUsize::new(0),
        wake: Notify::new(),
        deadline: watch::Sender::new(None),
        stats: Arc::clone(stats),
    });
    let worker = Worker {
        shared: Arc::clone(&shared),
        exporter,
        patience: config.export_timeout,
        gone,
        backoff: Backoff::default(),
        trouble: Trouble::default(),
    };
    (Queue(shared), tokio::spawn(guard(worker)))
}

/// Runs the task to its end. One that panics is an exporter that is gone: it is said, and what waits
/// or comes later is counted.
async fn guard<E: Exporter>(worker: Worker<E>) {
    let (shared, gone) = (Arc::clone(&worker.shared), worker.gone.clone());
    let name = worker.exporter.name().to_owned();
    let Err(error) = tokio::spawn(worker.run()).await else {
        return;
    };
    let flying = shared.flying.swap(0, Ordering::Relaxed);
    shared.finish(flying, &shared.stats.export_failed_local);
    shared.lock().closed = true;
    shared.discard(&shared.stats.export_failed_local);
    tell(&format!(
        "{name}: ended abnormally ({error}): no more spans go there"
    ));
    gone.send_replace(true);
}

impl Queue {
    /// Adds spans; drops and counts the oldest if there is no room. Never waits.
    pub fn push(&self, spans: Vec<Span>) {
        let shared = &self.0;
        let count = spans.len();
        if count == 0 {
            return;
        }
        shared.stats.export_queued.add(count as u64);
        shared.stats.export_queue_depth.add(count as u64);
        let now = Instant::now();
        let surplus = count.saturating_sub(shared.capacity);
        let entries = spans.into_iter().skip(surplus).map(|span| (now, span));
        let mut waiting = shared.lock();
        if waiting.closed {
            drop(waiting);
            shared.finish(count, &shared.stats.export_dropped_shutdown);
            return;
        }
        let before = waiting.spans.len();
        waiting.spans.extend(entries);
        let after = waiting.spans.len();
        let over = after.saturating_sub(shared.capacity);
        // Freed after the lock is.
        let evicted: Vec<_> = waiting.spans.drain(..over).collect();
        drop(waiting);
        if before == 0 || (before < shared.batch && after >= shared.batch) {
            shared.wake.notify_one();
        }
        let lost = surplus + evicted.len();
        if lost > 0 {
            shared.overflows(lost);
        }
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        let shared = &self.0;
        let waiting = shared.lock();
        let since = |at: Option<Instant>| at.map(|at| at.elapsed());
        Standing {
            name: shared.name.clone(),
            waiting: waiting.spans.len(),
            room: shared.capacity,
            away: since(waiting.away),
            full: since(waiting.full),
        }
    }

    /// No more spans; what waits is sent until `deadline`, the rest dropped.
    pub fn close(&self, deadline: Instant) {
        self.0.lock().closed = true;
        self.0.deadline.send_replace(Some(deadline));
        self.0.wake.notify_one();
    }
}

/// How a queue stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The exporter behind it, for people.
    pub name: String,
    /// Spans that wait, without those on their way.
    pub waiting: usize,
    /// Spans that can.
    pub room: usize,
    /// For how long attempts have found no receiver or a busy one; None where the last one found it.
    pub away: Option<Duration>,
    /// For how long spans have been dropped for lack of room; None once it is half empty again and the receiver there.
    pub full: Option<Duration>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    capacity: usize,
    batch: usize,
    delay: Duration,
    waiting: Mutex<Waiting>,
    /// Spans of the batch on its way.
    flying: AtomicUsize,
    /// Told when the first span comes, when a batch is full, and at the end.
    wake: Notify,
    /// Set at the end: when to give up.
    deadline: watch::Sender<Option<Instant>>,
    stats: Arc<Stats>,
}

#[derive(Debug, Default)]
struct Waiting {
    spans: VecDeque<(Instant, Span)>,
    closed: bool,
    /// Since when the receiver is away.
    away: Option<Instant>,
    /// Since when there is no room.
    full: Option<Instant>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `count` spans have reached their end, the one `counter` counts.
    fn finish(&self, count: usize, counter: &Counter) {
        counter.add(count as u64);
        self.stats.export_queue_depth.sub(count as u64);
    }

    /// The next batch when it is due; None when closed and empty.
    async fn next(&self) -> Option<Vec<Span>> {
        loop {
            let due = {
                let mut waiting = self.lock();
                let due = waiting.spans.front().map(|(at, _)| *at + self.delay);
                let late = due.is_some_and(|due| due <= Instant::now());
                if waiting.closed || late || waiting.spans.len() >= self.batch {
                    let count = waiting.spans.len().min(self.batch);
                    let batch: Vec<_> =
                        waiting.spans.drain(..count).map(|(_, span)| span).collect();
                    return (!batch.is_empty()).then_some(batch);
                }
                due
            };
            match due {
                None => self.wake.notified().await,
                Some(due) => tokio::select! {
                    () = self.wake.notified() => {}
                    () = sleep_until(due) => {}
                },
            }
        }
    }

    /// Puts a batch behind all others; what finds no room is dropped, its oldest first.
    fn put_back(&self, batch: Vec<Span>) {
        let now = Instant::now();
        let mut waiting = self.lock();
        let over = (waiting.spans.len() + batch.len()).saturating_sub(self.capacity);
        let entries = batch.into_iter().skip(over).map(|span| (now, span));
        waiting.spans.extend(entries);
        drop(waiting);
        if over > 0 {
            self.overflows(over);
        }
    }

    /// So many spans found no room.
    fn overflows(&self, count: usize) {
        self.lock().full.get_or_insert_with(Instant::now);
        self.finish(count, &self.stats.export_dropped_full);
    }

    /// Whether an attempt found the receiver, and in a mood to take something.
    fn met(&self, there: bool) {
        let mut waiting = self.lock();
        if !there {
            waiting.away.get_or_insert_with(Instant::now);
            return;
        }
        waiting.away = None;
        if waiting.spans.len() <= self.capacity / 2 {
            waiting.full = None;
        }
    }

    /// Drops all that waits, and says of each what `counter` counts.
    fn discard(&self, counter: &Counter) {
        let spans = std::mem::take(&mut self.lock().spans);
        self.finish(spans.len(), counter);
    }

    fn closed(&self) -> bool {
        self.deadline.borrow().is_some()
    }

    /// Returns when the end has begun.
    async fn closing(&self) -> Instant {
        let mut deadline = self.deadline.subscribe();
        loop {
            if let Some(deadline) = *deadline.borrow_and_update() {
                return deadline;
            }
            if deadline.changed().await.is_err() {
                // Not possible: `self` holds the sender.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Returns when the time for the last flush is over.
    async fn late(&self) {
        sleep_until(self.closing().await).await;
    }
}

/// What became of a batch.
enum End {
    /// It arrived, but for `rejected` spans.
    Sent { rejected: u64 },
    /// The receiver refused it.
    Refused,
    /// We could not send it.
    Failed,
    /// It has blocked the others long enough.
    GaveWay,
    /// The agent ends and the receiver is away.
    Late,
    /// The receiver is gone for good.
    Gone,
}

struct Worker<E> {
    shared: Arc<Shared>,
    exporter: E,
    /// How long a batch may block the others.
    patience: Duration,
    gone: watch::Sender<bool>,
    /// Goes on from batch to batch while the receiver is away.
    backoff: Backoff,
    trouble: Trouble,
}

impl<E: Exporter> Worker<E> {
    async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let stats = &shared.stats;
        while let Some(batch) = shared.next().await {
            let count = batch.len();
            shared.flying.store(count, Ordering::Relaxed);
            let end = tokio::select! {
                biased;
                () = shared.late() => End::Late,
                end = self.deliver(&batch) => end,
            };
            shared.flying.store(0, Ordering::Relaxed);
            match end {
                End::Sent { rejected } => {
                    let rejected = usize::try_from(rejected).unwrap_or(count).min(count);
                    shared.finish(rejected, &stats.export_rejected);
                    shared.finish(count - rejected, &stats.export_sent);
                }
                End::Refused => shared.finish(count, &stats.export_failed_refused),
                End::Failed => shared.finish(count, &stats.export_failed_local),
                End::GaveWay => shared.put_back(batch),
                End::Late => {
                    shared.finish(count, &stats.export_dropped_shutdown);
                    shared.discard(&stats.export_dropped_shutdown);
                }
                End::Gone => {
                    shared.finish(count, &stats.export_failed_local);
                    self.gone.send_replace(true);
                }
            }
        }
    }

    /// Tries one batch until something has become of it.
    async fn deliver(&mut self, batch: &[Span]) -> End {
        let shared = Arc::clone(&self.shared);
        let started = Instant::now();
        let mut last_attempts = 0;
        loop {
            let closed = shared.closed();
            let answer = self.exporter.export(batch).await;
            let there = !matches!(answer, Answer::Later { .. });
            shared.met(there);
            if there {
                self.backoff = Backoff::default();
            }
            let (after, why) = match answer {
                Answer::Later { after, why } => (after, why),
                Answer::Sent { rejected, warning } => {
                    self.arrived(rejected, &warning);
                    return End::Sent { rejected };
                }
                Answer::Refused(why) => {
                    self.complain(&format!("{} refused: {why}", number(batch)));
                    return End::Refused;
                }
                Answer::Failed(why) => {
                    self.complain(&format!("{} failed: {why}", number(batch)));
                    return End::Failed;
                }
                Answer::Gone => return End::Gone,
            };
            shared.stats.export_retries.add(1);
            self.away(&why);
            if closed {
                last_attempts += 1;
                if last_attempts >= LAST_ATTEMPTS {
                    return End::Late;
                }
            } else if started.elapsed() >= self.patience && !shared.lock().spans.is_empty() {
                return End::GaveWay;
            }
            tokio::select! {
                () = sleep(self.backoff.next(after)) => {}
                _ = shared.closing(), if !closed => self.backoff = Backoff::default(),
            }
        }
    }

    fn arrived(&mut self, rejected: u64, warning: &str) {
        if let Some(since) = self.trouble.away.take()
            && std::mem::take(&mut self.trouble.announced)
        {
            let seconds = since.elapsed().as_secs();
            tell(&format!("{}: back after {seconds} s", self.exporter.name()));
        }
        if rejected > 0 || !warning.is_empty() {
            let rejected = say::count(rejected, "span");
            self.complain(&format!("{rejected} of a batch rejected: {warning}"));
        }
    }

    /// An attempt failed that will be made again: said once per absence.
    fn away(&mut self, why: &str) {
        if self.trouble.away.is_none() {
            self.trouble.away = Some(Instant::now());
            let room = self.shared.capacity;
            self.trouble.announced = self.complain(&format!(
                "{why}; trying again, up to {room} spans wait meanwhile"
            ));
        }
    }

    /// Says it, if nothing was said a short while ago; whether it did.
    fn complain(&mut self, what: &str) -> bool {
        let now = Instant::now();
        if self.trouble.said.is_some_and(|said| now < said + QUIET) {
            return false;
        }
        self.trouble.said = Some(now);
        let what = cut(what.to_owned(), LONGEST_COMPLAINT);
        tell(&format!("{}: {what}", self.exporter.name()));
        true
    }
}

/// How many, for people.
fn number(batch: &[Span]) -> String {
    say::count(batch.len() as u64, "span")
}

/// What has been noticed of the receiver, and said.
#[derive(Default)]
struct Trouble {
    /// Since when it has been away.
    away: Option<Instant>,
    /// Whether that was said, so that its return is worth a line.
    announced: bool,
    /// When the last complaint was made.
    said: Option<Instant>,
}

/// Pauses between attempts: double each time, and never all exporters of a fleet at once.
struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl Backoff {
    /// The next pause: not before the receiver wants to be asked, within reason.
    fn next(&mut self, after: Option<Duration>) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST_PAUSE);
        match after {
            // Later than asked is polite, earlier is not.
            Some(after) => {
                after.clamp(SHORTEST_PAUSE, LONGEST_THROTTLE) + pause.mul_f64(jitter()) / 2
            }
            None => pause.mul_f64(0.5 + jitter() / 2.0),
        }
    }
}

/// At least 0, less than 1; no secret depends on it.
fn jitter() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// Longest a receiver may make us wait; a mistaken Retry-After of a day must not stop us for one.
const LONGEST_THROTTLE: Duration = Duration::from_secs(30);
/// Attempts made for a batch once the agent ends: an absent receiver must not delay the exit.
const LAST_ATTEMPTS: u32 = 3;
/// Characters of one complaint at most; what the receiver said is part of it.
const LONGEST_COMPLAINT: usize = 400;
/// Time between two complaints.
const QUIET: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
