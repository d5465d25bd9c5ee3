//! One thread: the facts of all shards become linked exchanges, spans, and what policy leaves of
//! them. Only here do the shards meet.
//!
//! A span waits a moment for what files tell of its process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::health::Beat;
use super::mailbox::Mailbox;
use super::newcomers::{Newcomers, Word};
use super::reader::Shared;
use super::{OnSpan, Start};
use crate::courtesy::Courtesy;
use crate::event::clock::Clock;
use crate::event::{Address, Nanos, Role};
use crate::exchange::Fact;
use crate::export::Sender;
use crate::policy::{Policy, Sampler};
use crate::probe::clock;
use crate::say::say;
use crate::span::{Builder, Span};
use crate::stats::Stats;
use crate::trace::{Ids, Linked, Linker, Settings, UNTRUSTED};

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
    newcomers: Newcomers,
    /// Whether it was said that a context was not trusted.
    said_untrusted: bool,
}

impl Weaver {
    /// The stages as configured; spans go to `sender`.
    pub fn new(start: &mut Start, shared: &Shared, clock: Arc<Clock>, sender: Sender) -> Self {
        let config = &start.config;
        let stats = Arc::clone(&shared.stats);
        let settings = Settings::new(&config.propagation, config.capture.drain)
            .leaving_instrumented(config.selection.exclude_instrumented);
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
            newcomers: Newcomers::default(),
            said_untrusted: false,
        }
    }

    /// The thread's loop; returns when `done`, after everything that is over was given out.
    pub fn run(mut self, shared: &Shared, mailboxes: &[Mailbox], done: &AtomicBool) {
        let mut courtesy = Courtesy::new(shared.share, &shared.stop, clock::monotonic());
        let beat = shared.health.beat();
        loop {
            let last = done.load(Ordering::Acquire);
            let now = clock::monotonic();
            courtesy.settle(now);
            beat.at(now);
            let progress = mailboxes.iter().map(|m| m.progress(now)).min();
            // Progress first, then the rest: whatever is older than it has arrived by now.
            let known = self.greet(shared, progress.unwrap_or(0), last);
            for mailbox in mailboxes {
                mailbox.take(&mut self.facts);
            }
            for (place, fact) in self.facts.drain(..).enumerate() {
                if place % HANDFUL == 0 {
                    let now = clock::monotonic();
                    courtesy.settle(now);
                    beat.at(now);
                }
                self.linker.feed(fact);
            }
            if last {
                self.linker.flush(&mut self.linked);
            } else {
                self.linker.poll(known, &mut self.linked);
            }
            for process in self.linker.exporters() {
                say_exporter(shared, process, now);
            }
            for process in self.linker.doubted() {
                say_doubted(shared, process, now);
            }
            self.finish(shared, now, last, (&mut courtesy, &beat));
            if last {
                return;
            }
            // With nothing pending a reader's facts wake it.
            let quiet =
                self.linker.is_empty() && self.linked.is_empty() && self.newcomers.is_empty();
            std::thread::park_timeout(if quiet { QUIET } else { BUSY });
        }
    }

    /// Takes in which processes came and went; the answer is up to where can be linked.
    fn greet(&mut self, shared: &Shared, progress: Nanos, last: bool) -> Nanos {
        let mut arrivals = shared
            .arrivals
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let arrivals = std::mem::take(&mut *arrivals);
        let (linker, stats) = (&mut self.linker, &self.stats);
        let threads = |process, exact| {
            if shared.control.threads(process, exact).is_err() {
                stats.pipeline_control_failed.add(1);
            }
        };
        for process in linker.proven() {
            if shared.control.turns(process).is_err() {
                stats.pipeline_control_failed.add(1);
            }
        }
        for process in linker.sharers() {
            threads(process, false);
        }
        let resources = &shared.resources;
        self.newcomers.greet(
            arrivals,
            (resources, &shared.followed),
            progress,
            last,
            |word, process| match word {
                Word::Forget => linker.forget(process),
                Word::Threads if linker.believes_threads() => threads(process, true),
                Word::Threads => {}
                Word::Since(since) => linker.threads_since(process, since),
                Word::NoThreads => linker.no_thread_links(process),
                Word::Proxy => linker.hands_on(process),
                Word::TakesOver => linker.takes_over(process),
            },
        )
    }

    /// Linked exchanges → spans → exporters. Those whose process is being looked at stay.
    fn finish(
        &mut self,
        shared: &Shared,
        now: u64,
        last: bool,
        (courtesy, beat): (&mut Courtesy<'_>, &Beat),
    ) {
        let whose = |linked: &Linked| {
            let start = &linked.exchange.start;
            (start.execution.process, start.time)
        };
        let surplus = self.linked.len().saturating_sub(HELD);
        let mut place = 0;
        let ready = self.linked.extract_if(.., |linked| {
            let (process, began) = whose(linked);
            let settled = shared.resources.is_settled(process, began);
            place += 1;
            if place <= surplus && !settled {
                self.stats.resource_hurried.add(1);
            }
            last || place <= surplus || settled
        });
        for (place, mut linked) in ready.enumerate() {
            if place % HANDFUL == 0 {
                let now = clock::monotonic();
                courtesy.settle(now);
                beat.at(now);
            }
            if shared.collector.receives(&linked.exchange.request) {
                self.stats.pipeline_own_exports.add(1);
                continue;
            }
            if shared.is_left_out(whose(&linked)) {
                self.stats.target_unselected.add(1);
                continue;
            }
            if !self.said_untrusted && linked.links.iter().any(|l| l.reason == UNTRUSTED) {
                self.said_untrusted = true;
                say_untrusted(&linked);
            }
            if !self.sampler.sampled(linked.trace, linked.flags) {
                self.stats.pipeline_unsampled.add(1);
                continue;
            }
            let (process, began) = whose(&linked);
            let resource = shared.resources.of(process, began);
            if let Some(carrier) = linked.exchange.peer.carrier
                && let Some(handshake) = shared.encrypted.handshakes.get(carrier)
            {
                handshake.describe(&mut linked.exchange.request.attributes);
            }
            let clock = self.clock.at(linked.begin);
            let remote = linked.exchange.peer.remote.clone();
            let mut span = self.builder.build(linked, &resource, |at| clock.unix(at));
            shared.resources.name_peer(&mut span, &remote);
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

/// A process tells of itself.
fn say_exporter(shared: &Shared, process: u32, now: Nanos) {
    let (name, _) = shared.resources.who(process, now);
    say(format_args!(
        "{name}[{process}] exports spans of its own: none are made for it (trace.instrumented counts them; \
         --exclude-instrumented=false makes them too)"
    ));
}

/// What is inferred of a process is wrong too often.
fn say_doubted(shared: &Shared, process: u32, now: Nanos) {
    let (name, _) = shared.resources.who(process, now);
    say(format_args!(
        "{name}[{process}]: what was inferred of calls whose parent is known was wrong more than once in a \
         hundred: nothing is inferred of it any more (trace.inference_off counts such processes)"
    ));
}

/// A context was refused for where it came from.
fn say_untrusted(linked: &Linked) {
    let from = match &linked.exchange.peer.remote {
        Address::Inet(from) if linked.exchange.role == Role::Server => from.ip().to_string(),
        _ => "elsewhere".into(),
    };
    say(format_args!(
        "a trace context from {from} is linked to, not carried on, as propagation.trusted does not \
         name it (trace.untrusted counts them; this is said once)"
    ));
}

/// Spans that wait for what is to be known of their process; past that the eldest go without.
const HELD: usize = 8192;
/// Facts, or spans, between two looks at what they cost: a millisecond of them.
const HANDFUL: usize = 64;
/// Pause between polls while exchanges are known.
const BUSY: Duration = Duration::from_millis(10);
/// Pause while none is: a reader's facts end it.
const QUIET: Duration = Duration::from_millis(500);
