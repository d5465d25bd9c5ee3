//! One thread: the facts of all shards become linked exchanges, spans, and what policy leaves of
//! them. Only here do the shards meet.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::mailbox::Mailbox;
use super::reader::{Arrival, Shared};
use super::{OnSpan, Start};
use crate::event::clock::Clock;
use crate::exchange::Fact;
use crate::export::Sender;
use crate::policy::{Policy, Sampler};
use crate::probe::clock;
use crate::span::{Builder, Span};
use crate::stats::Stats;
use crate::trace::{Ids, Linked, Linker, Settings};

/// The last stages before export.
pub struct Weaver {
    linker: Linker,
    sampler: Sampler,
    builder: Builder,
    policy: Policy,
    clock: Arc<Clock>,
    stats: Arc<Stats>,
    sender: Sender,
    on_span: Option<OnSpan>,
    facts: Vec<Fact>,
    linked: Vec<Linked>,
    spans: Vec<Span>,
}

impl Weaver {
    /// The stages as configured; spans go to `sender`.
    pub fn new(start: &mut Start, shared: &Shared, clock: Arc<Clock>, sender: Sender) -> Self {
        let config = &start.config;
        let stats = Arc::clone(&shared.stats);
        let settings = Settings::new(&config.propagation, config.capture.drain);
        Self {
            linker: Linker::new(settings, Ids::random(), Arc::clone(&stats)),
            sampler: Sampler::new(config.sampling.sampler),
            builder: Builder::new(&config.route, Arc::clone(&stats)),
            policy: Policy::new(config, Arc::clone(&stats)),
            clock,
            stats,
            sender,
            on_span: start.on_span.take(),
            facts: Vec::new(),
            linked: Vec::new(),
            spans: Vec::new(),
        }
    }

    /// The thread's loop; returns when `done`, after everything that is over was given out.
    pub fn run(mut self, shared: &Shared, mailboxes: &[Mailbox], done: &AtomicBool) {
        loop {
            let last = done.load(Ordering::Acquire);
            self.greet(shared);
            let now = clock::monotonic();
            let progress = mailboxes.iter().map(|m| m.progress(now)).min();
            // Progress first, then the facts: whatever is older than it is in the mailbox by now.
            for mailbox in mailboxes {
                mailbox.take(&mut self.facts);
            }
            for fact in self.facts.drain(..) {
                self.linker.feed(fact);
            }
            if last {
                self.linker.flush(&mut self.linked);
            } else {
                self.linker.poll(progress.unwrap_or(0), &mut self.linked);
            }
            self.finish(shared, now);
            if last {
                return;
            }
            // With nothing pending a reader's facts wake it.
            let quiet = self.linker.is_empty();
            std::thread::park_timeout(if quiet { QUIET } else { BUSY });
        }
    }

    /// Takes in which processes came and went.
    fn greet(&mut self, shared: &Shared) {
        let mut arrivals = shared
            .arrivals
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let arrivals = std::mem::take(&mut *arrivals);
        for arrival in arrivals {
            match arrival {
                Arrival::Process(process) => {
                    self.linker.forget(process);
                    if shared.resources.program(process).multiplexes_threads {
                        self.linker.no_thread_links(process);
                    }
                }
                Arrival::Gone(process) => {
                    self.linker.forget(process);
                }
            }
        }
    }

    /// Linked exchanges → spans → exporters.
    fn finish(&mut self, shared: &Shared, now: u64) {
        for linked in self.linked.drain(..) {
            if shared.collector.receives(&linked.exchange.request) {
                self.stats.pipeline_own_exports.add(1);
                continue;
            }
            if !self.sampler.sampled(linked.trace, linked.flags) {
                self.stats.pipeline_unsampled.add(1);
                continue;
            }
            let process = linked.exchange.start.execution.process;
            let resource = shared.resources.of(process);
            let clock = self.clock.at(linked.begin);
            let mut span = self.builder.build(linked, &resource, |at| clock.unix(at));
            if !self.policy.apply(&mut span, now) {
                continue;
            }
            if let Some(on_span) = &mut self.on_span {
                on_span(&span);
            }
            self.spans.push(span);
        }
        if !self.spans.is_empty() {
            self.stats.pipeline_spans.add(self.spans.len() as u64);
            self.sender.push(std::mem::take(&mut self.spans));
        }
    }
}

/// Pause between polls while exchanges are known.
const BUSY: Duration = Duration::from_millis(10);
/// Pause while none is: a reader's facts end it.
const QUIET: Duration = Duration::from_millis(500);
