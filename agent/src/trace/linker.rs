//! The table of what happens on this host, and the places found in it.
//!
//! On loopback the receiver's hook can run before the sender's, and shards are read one after the
//! other: so nothing is decided when a head is seen. Each exchange keeps its evidence, and its
//! trace is found when it, or one it caused, is over and settled: every fact up to then was fed.
//! What was found is kept only when it leaves this stage ("published"); until then new evidence
//! (a process that turns out to share its threads) makes it be found again.

use std::collections::VecDeque;
use std::mem::take;
use std::sync::Arc;

use agent_ebpf::abi::unit::ASKED;

use super::context::{Carried, extract, traces};
use super::forward::{Forwards, reply};
use super::ids::{Ids, client_span};
use super::infer::Inference;
use super::instrumented::{Instrumented, is_export};
use super::lineage::Lineage;
use super::promises::Promises;
use super::streams::{Streams, is_of_all};
use super::table::{Entry, Handle, Head, Table};
use super::tasks::Tasks;
use super::turns::Turns;
use super::units::{OPEN, Unit, Units};
use super::{Linked, Method, Settings, answers::Answers, links};
use crate::event::{Address, Java, Nanos, Role};
use crate::exchange::{Exchange, Fact, Opened, Outcome};
use crate::protocol::{Carrier, GATHERED};
use crate::stats::Stats;

/// Fed facts, gives linked exchanges.
#[derive(Debug)]
pub struct Linker {
    pub(super) settings: Settings,
    pub(super) stats: Arc<Stats>,
    pub(super) ids: Ids,
    pub(super) table: Table,
    pub(super) units: Units,
    pub(super) lineage: Lineage,
    pub(super) turns: Turns,
    pub(super) answers: Answers,
    pub(super) tasks: Tasks,
    pub(super) streams: Streams,
    pub(super) instrumented: Instrumented,
    /// Those that turned out to be since it was asked.
    exporters: Vec<u32>,
    /// Those whose threads turned out to be no evidence since it was asked, or a turn by itself.
    pub(super) sharers: Vec<u32>,
    pub(super) forwards: Forwards,
    pub(super) inference: Inference,
    promises: Promises,
    /// Grows whenever evidence is taken back.
    pub(super) epoch: u64,
    pub(super) watermark: Nanos,
    /// Closed, with the time they are settled; about in that order.
    pub(super) settling: VecDeque<(Nanos, Handle)>,
    /// Settled, with the time patience ends; some were given out meanwhile.
    pub(super) waiting: VecDeque<(Nanos, Handle)>,
    /// Begun, with the time from when on it is known what their unit was serving.
    pub(super) begun: VecDeque<(Nanos, Handle)>,
    /// Waited for, with the time to look again whether their place is certain.
    lingering: VecDeque<(Nanos, Handle)>,
    /// Given out, oldest first, until they are forgotten.
    retired: VecDeque<(Nanos, Handle)>,
    /// Those of them that were served in a context, when the others have gone.
    served: VecDeque<(Nanos, Handle)>,
    /// Given out early, for lack of room.
    ready: Vec<Linked>,
}

impl Linker {
    /// An empty table. `ids` makes the ids of roots and of server spans.
    pub fn new(settings: Settings, ids: Ids, stats: Arc<Stats>) -> Self {
        Self {
            units: Units::new(settings.capacity),
            lineage: Lineage::new(settings.capacity),
            turns: Turns::new(settings.capacity),
            answers: Answers::default(),
            tasks: Tasks::new(settings.capacity),
            streams: Streams::new(settings.capacity),
            instrumented: Instrumented::new(settings.capacity),
            exporters: Vec::new(),
            sharers: Vec::new(),
            forwards: Forwards::new(),
            inference: Inference::default(),
            promises: Promises::new(settings.capacity),
            settings,
            stats,
            ids,
            table: Table::default(),
            epoch: 0,
            watermark: 0,
            settling: Default::default(),
            waiting: Default::default(),
            begun: Default::default(),
            lingering: Default::default(),
            retired: Default::default(),
            served: Default::default(),
            ready: Vec::new(),
        }
    }

    /// Takes one fact, in any order between shards; an exchange's own facts in either order.
    pub fn feed(&mut self, fact: Fact) {
        match fact {
            Fact::Opened(opened) => self.open(&opened),
            Fact::Closed(exchange) => self.close(exchange),
            Fact::Detached(id, at) => self.detach(id, at),
            Fact::Started(started) => self.lineage.started(&started),
            Fact::Taken(taken) => self.take(&taken),
            Fact::Java(Java::Allocates(allocates)) => self.tasks.allocates(&allocates),
            Fact::Java(Java::Runs(runs)) => self.tasks.runs(&runs),
            Fact::Carried(carried) => self.promises.note(&carried),
        }
    }

    /// Gives out what is over and settled, given that every fact up to `watermark`
    /// (CLOCK_MONOTONIC, nanoseconds) was fed.
    pub fn poll(&mut self, watermark: Nanos, out: &mut Vec<Linked>) {
        self.watermark = self.watermark.max(watermark);
        out.append(&mut self.ready);
        self.look_back();
        self.infer_from();
        while let Some((ready, handle)) = self.settling.front().copied()
            && ready <= self.watermark
        {
            self.settling.pop_front();
            match self.wait(handle) {
                Some(last) => self.waiting.push_back((last, handle)),
                None => self.give(handle, out),
            }
        }
        while let Some((last, handle)) = self.waiting.front().copied()
            && last <= self.watermark
        {
            self.waiting.pop_front();
            self.give(handle, out);
        }
        while let Some((last, handle)) = self.lingering.front().copied()
            && last <= self.watermark
        {
            self.lingering.pop_front();
            self.give(handle, out);
        }
        while let Some((end, handle)) = self.retired.front().copied()
            && end.saturating_add(self.settings.retain) <= self.watermark
        {
            self.retired.pop_front();
            let context = |e: &Entry| {
                e.role == Role::Server && (e.carried.is_some() || !e.strange.is_empty())
            };
            if self.table.get(handle).is_some_and(context) {
                self.served.push_back((end, handle));
            } else {
                self.drop_entry(handle);
            }
        }
        while let Some((end, handle)) = self.served.front().copied()
            && end.saturating_add(self.settings.retain_served) <= self.watermark
        {
            self.served.pop_front();
            self.drop_entry(handle);
        }
        self.prove_turns();
        self.units.sweep(self.watermark);
        self.instrumented.sweep(self.watermark);
        self.answers.sweep(self.watermark);
        self.inference.sweep(self.watermark);
    }

    /// Gives out everything that is over: nothing more will be fed.
    pub fn flush(&mut self, out: &mut Vec<Linked>) {
        out.append(&mut self.ready);
        let (settling, waiting) = (take(&mut self.settling), take(&mut self.waiting));
        let lingering = take(&mut self.lingering);
        for (_, handle) in settling.into_iter().chain(waiting).chain(lingering) {
            self.emit(handle, out);
        }
    }

    /// `process` has ended or called exec: once what it did before is linked, what was known of
    /// its threads is void. A [`Self::no_thread_links`] after this is about the new program.
    pub fn forget(&mut self, process: u32) {
        let when = self.watermark.saturating_add(self.settings.retain);
        self.units.forget(process, when);
        self.instrumented.forget(process, when);
        self.forwards.forget(process);
        self.inference.forget(process, self.watermark, when);
        self.answers.forget(process, when);
        self.turns.forget(process, self.watermark);
    }

    /// Processes that were first seen to export their own spans since this was last asked.
    pub fn exporters(&mut self) -> Vec<u32> {
        take(&mut self.exporters)
    }

    /// Exchanges known now.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn open(&mut self, opened: &Opened) {
        if let Some(handle) = self.table.find(opened.id) {
            return self.open_late(handle, opened);
        }
        let entry = self.entry(&Head {
            id: opened.id,
            peer: &opened.peer,
            role: opened.role,
            key: opened.key,
            start: opened.start,
            head: Some(opened.head),
            gathered: opened.gathered,
            carrier: opened.carrier.as_deref(),
            likeness: opened.likeness,
            stream: opened.stream,
        });
        let handle = self.insert(entry);
        self.enter_lane(handle, opened.start.offset);
        self.begin(handle);
        self.infer_open(handle);
        self.find_taken(handle);
    }

    /// The head comes after the end: the thread's record is made up for.
    fn open_late(&mut self, handle: Handle, opened: &Opened) {
        let Some(entry) = self.table.get_mut(handle) else {
            return;
        };
        if std::mem::replace(&mut entry.opened, true) || entry.emitted {
            return;
        }
        if entry.role == Role::Server && opened.head.execution.process == entry.process {
            let unit = Unit::of(opened.head.execution);
            entry.unit = unit.filter(|unit| !is_of_all(*unit, entry.role, opened.stream));
            entry.from = opened.head.time;
        }
        self.enter_lane(handle, opened.start.offset);
        self.leave_lane(handle);
    }

    fn close(&mut self, exchange: Box<Exchange>) {
        if exchange.outcome == Outcome::Dismissed {
            if let Some(handle) = self.table.find(exchange.id) {
                self.drop_entry(handle);
            }
            return;
        }
        let handle = match self.table.find(exchange.id) {
            Some(handle) => handle,
            None => {
                self.stats.trace_unopened.add(1);
                let entry = self.entry(&Head {
                    id: exchange.id,
                    peer: &exchange.peer,
                    role: exchange.role,
                    key: exchange.key,
                    start: exchange.start,
                    head: None,
                    gathered: GATHERED.contains(&exchange.request.protocol),
                    carrier: exchange.request.carrier.as_deref(),
                    likeness: exchange.request.likeness,
                    stream: None,
                });
                self.insert(entry)
            }
        };
        let Some(entry) = self.table.get_mut(handle) else {
            return;
        };
        if entry.exchange.is_some() || entry.emitted {
            return;
        }
        if self.settings.leave_instrumented
            && is_export(&exchange)
            && self.instrumented.insert(entry.process)
        {
            self.exporters.push(entry.process);
            self.epoch = self.epoch.wrapping_add(1);
        }
        entry.end = exchange.end;
        entry.reply = reply(&exchange);
        let ready = exchange.end.saturating_add(self.settings.settle);
        entry.exchange = Some(exchange);
        self.settling.push_back((ready, handle));
        // Its server may have waited for this.
        if let Some(pair) = entry.pair.filter(|_| entry.role == Role::Client) {
            self.settling.push_back((ready, pair));
        }
        self.note_turn(handle);
        self.leave_lane(handle);
        self.infer_close(handle);
    }

    fn entry(&mut self, seen: &Head) -> Entry {
        let role = seen.role;
        let (who, from) = match (role, seen.head) {
            (Role::Client, _) => (seen.start.execution, seen.start.time),
            (Role::Server, Some(head)) => (head.execution, head.time),
            (Role::Server, None) => (seen.start.execution, seen.start.time),
        };
        // Who starts to serve may not be known: no unit is evidence for it.
        let known = role == Role::Client || seen.head.is_some();
        let unix = matches!(seen.peer.remote, Address::Unix(_))
            || matches!(seen.peer.local, Address::Unix(_));
        let span = match seen.key {
            // Kernel addresses come again and must not leave the host: TCP only.
            Some(key) if role == Role::Client && !unix && !self.table.has_client(&key) => {
                client_span(&key)
            }
            _ => self.ids.span(),
        };
        let outside = role == Role::Server
            && !seen.peer.is_near()
            && !self.settings.trusts(&seen.peer.remote);
        let strange = seen.carrier.filter(|_| outside);
        let promise = (self.promises).take(seen.peer.connection, role, seen.start.offset);
        Entry {
            id: seen.id,
            role,
            connection: seen.peer.connection,
            process: who.process,
            unit: Unit::of(who)
                .filter(|unit| known && !seen.gathered && !is_of_all(*unit, role, seen.stream)),
            asked: who.unit & ASKED != 0,
            handed_on: false,
            stream: seen.stream,
            taken: None,
            start: seen.start.time,
            from,
            answered: OPEN,
            end: OPEN,
            laned: false,
            alone: false,
            detached: false,
            opened: seen.head.is_some(),
            likeness: seen.likeness,
            reply: None,
            key: seen.key,
            unix,
            near: seen.peer.is_near(),
            pair: None,
            carried: self.carried(seen.carrier),
            outside,
            strange: strange.map(traces).unwrap_or_default(),
            promise,
            span,
            place: None,
            published: false,
            exchange: None,
            emitted: false,
        }
    }

    fn carried(&self, carrier: Option<&Carrier>) -> Option<Carried> {
        let found = extract(carrier?, &self.settings.extract);
        for refusal in found.refused {
            refusal.count(&self.stats);
        }
        found.carried
    }

    fn insert(&mut self, entry: Entry) -> Handle {
        while self.table.len() >= self.settings.capacity.max(1) {
            self.evict();
        }
        let handle = self.table.insert(entry);
        if let Some(entry) = self.table.get(handle) {
            self.forwards.insert(handle, entry);
        }
        handle
    }

    /// Makes room: what was given out first, then the oldest; none is lost that is over.
    fn evict(&mut self) {
        self.stats.trace_evicted.add(1);
        let mut gone = || self.served.pop_front().or_else(|| self.retired.pop_front());
        while let Some((_, handle)) = gone() {
            if self.table.get(handle).is_some() {
                return self.drop_entry(handle);
            }
        }
        let Some(handle) = self.table.oldest() else {
            return;
        };
        let mut ready = take(&mut self.ready);
        self.emit(handle, &mut ready);
        self.ready = ready;
        self.drop_entry(handle);
    }

    fn drop_entry(&mut self, handle: Handle) {
        let removed = self.table.remove(handle);
        if let Some(entry) = &removed {
            self.forwards.remove(handle, entry);
            self.inference.remove(entry);
            self.streams.forget(entry);
        }
        if let Some(entry) = removed
            && let Some(unit) = entry.unit
            && entry.laned
            && entry.end == OPEN
        {
            self.units.remove((entry.process, unit), handle);
        }
    }

    /// Until when to wait for what may still come of one that is over.
    fn wait(&self, handle: Handle) -> Option<Nanos> {
        let entry = self.table.get(handle).filter(|e| e.end != OPEN)?;
        let last = entry.end.saturating_add(self.settings.patience);
        if entry.role != Role::Server || entry.key.is_none() || last <= self.watermark {
            return None;
        }
        let missing = match entry.pair.and_then(|pair| self.table.get(pair)) {
            // The client's end says whether its thread waited for it.
            Some(pair) => pair.end == OPEN,
            // The sender's hook may run long after the receiver's.
            None => entry.near,
        };
        missing.then_some(last)
    }

    /// Gives one out, unless its place may yet turn out to be another.
    fn give(&mut self, handle: Handle, out: &mut Vec<Linked>) {
        match self.lingers(handle) {
            Some(until) => self.lingering.push_back((until, handle)),
            None => self.emit(handle, out),
        }
    }

    fn emit(&mut self, handle: Handle, out: &mut Vec<Linked>) {
        if self.table.get(handle).is_none_or(|e| e.exchange.is_none()) {
            return self.stay(handle);
        }
        self.resolve(handle);
        self.publish(handle);
        self.mend(handle);
        let refused = self.refused(handle);
        let Some(entry) = self.table.get_mut(handle) else {
            return;
        };
        let (Some(exchange), Some(place)) = (entry.exchange.take(), entry.place.as_ref()) else {
            return;
        };
        entry.emitted = true;
        let left_out = if exchange.peer.receiver {
            Some(&self.stats.trace_exports)
        } else if self.instrumented.has(entry.process) {
            Some(&self.stats.trace_instrumented)
        } else {
            None
        };
        if let Some(counter) = left_out {
            counter.add(1);
            return self.retired.push_back((entry.end, handle));
        }
        let mut links = links::of(&exchange, &self.settings.extract, &self.stats);
        if let Some(link) = place.strayed.clone() {
            self.stats.trace_strayed.add(1);
            links.push(link);
        }
        if let Some(link) = refused {
            self.stats.trace_untrusted.add(1);
            links.push(link);
        }
        let linked = Linked {
            links,
            exchange,
            trace: place.trace,
            span: entry.span,
            parent: place.parent,
            flags: place.flags,
            state: place.state.as_deref().map(Into::into),
            not_before: place.not_before,
            begin: place.first,
        };
        Method::count(linked.parent.map(|p| p.method), &self.stats);
        let pair = entry.pair.filter(|_| entry.role == Role::Client);
        self.retired.push_back((entry.end, handle));
        out.push(linked);
        // The server may go on for long after its client gave up and was forgotten.
        if let Some(pair) = pair
            && self.table.get(pair).is_some_and(|e| !e.published)
        {
            self.resolve(pair);
            self.publish(pair);
        }
    }
}
