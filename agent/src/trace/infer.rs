//! Parents that are likely, where nothing says exactly whose a call is: what [`super::scorer`] is asked.
//!
//! Never true here: that a call is asked about of which is known whose it is, or that it is nobody's any
//! more: what a unit asks for that has answered its request, or was started for one that is answered.

use std::collections::VecDeque;

use super::Method;
use super::linker::Linker;
use super::scorer::{Call, Scorer, Verdict};
use super::table::{Entry, Handle};
use super::units::OPEN;
use crate::event::{Nanos, Role};
use crate::exchange::{Exchange, ExchangeId, Outcome};
use crate::protocol::GATHERED;

/// What is inferred, and from what.
#[derive(Debug, Default)]
pub(super) struct Inference {
    scorer: Scorer,
    /// Calls that are over, with where they went, and when all about them is.
    over: VecDeque<(Nanos, Handle, u64)>,
    /// Those that were exactly linked, and that process's scorer was wrong too often: since it was asked.
    doubted: Vec<u32>,
    /// Processes that are others by now, and from when on what was learned of those before is void.
    gone: VecDeque<(Nanos, u32)>,
}

/// Whose a call is likely to be.
pub(super) enum Inferred {
    /// This request's, as likely as that.
    Of(Handle, f64),
    /// What could tell is not over.
    Pending,
    /// Nobody knows.
    Unknown,
}

impl Inference {
    /// A process is another since `now`; what it called for before is judged until `when`.
    pub fn forget(&mut self, process: u32, now: Nanos, when: Nanos) {
        if self.scorer.leave(process, now) {
            self.gone.push_back((when, process));
        }
    }

    /// Forgets what was learned of those that are others.
    pub fn sweep(&mut self, now: Nanos) {
        while let Some((when, process)) = self.gone.front().copied()
            && when <= now
        {
            self.gone.pop_front();
            self.scorer.forget(process);
        }
    }

    /// An exchange is forgotten.
    pub fn remove(&mut self, entry: &Entry) {
        if entry.role == Role::Server && entry.end == OPEN && !entry.detached {
            self.scorer.removed(entry.process, entry.id);
        }
    }
}

impl Linker {
    /// An exchange goes on for as long as it likes, and is done with what it calls for.
    pub(super) fn infer_detach(&mut self, handle: Handle, at: Nanos) {
        if let Some(entry) = self.table.get(handle).filter(|_| self.settings.inferred)
            && entry.role == Role::Server
        {
            let scorer = &mut self.inference.scorer;
            scorer.closed(entry.process, entry.id, entry.from, at);
        }
    }

    /// Processes whose scorer was found to be wrong too often since this was last asked.
    pub fn doubted(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.inference.doubted)
    }

    /// A request is begun to be served.
    pub(super) fn infer_open(&mut self, handle: Handle) {
        if let Some(entry) = self.table.get(handle)
            && self.settings.inferred
            && entry.role == Role::Server
        {
            let scorer = &mut self.inference.scorer;
            scorer.opened(entry.process, entry.id, entry.from);
        }
    }

    /// An exchange is over.
    pub(super) fn infer_close(&mut self, handle: Handle) {
        let Some(entry) = self.table.get(handle).filter(|_| self.settings.inferred) else {
            return;
        };
        let scorer = &mut self.inference.scorer;
        if entry.role == Role::Server {
            if entry.detached {
                return;
            }
            if !entry.opened {
                return scorer.unopened(entry.process, entry.id, entry.from, entry.answered);
            }
            return scorer.closed(entry.process, entry.id, entry.from, entry.answered);
        }
        let destination = entry.exchange.as_deref().and_then(|e| where_to(scorer, e));
        if let Some(destination) = destination {
            let patience = self.settings.patience.max(self.settings.settle);
            let due = entry.end.saturating_add(patience.saturating_add(LATER));
            self.inference.over.push_back((due, handle, destination));
            if self.inference.over.len() > self.settings.capacity {
                self.inference.over.pop_front();
                self.stats.trace_inference_left_out.add(1);
            }
        }
    }

    /// Whose a call is likely to be that nothing says exactly whose it is.
    pub(super) fn inferred(&self, handle: Handle) -> Inferred {
        let Some(entry) = self.table.get(handle).filter(|_| self.settings.inferred) else {
            return Inferred::Unknown;
        };
        if entry.end.saturating_add(self.settings.settle) > self.watermark {
            return Inferred::Pending;
        }
        let scorer = &self.inference.scorer;
        let destination = entry.exchange.as_deref().and_then(|e| where_to(scorer, e));
        let Some(destination) = destination.filter(|_| !self.is_late(entry)) else {
            return Inferred::Unknown;
        };
        match scorer.judge(entry.process, &call(entry, destination, false)) {
            Verdict::Pending => Inferred::Pending,
            Verdict::Unknown => Inferred::Unknown,
            Verdict::Of(request, sure) => match self.asks_for(entry, request) {
                Some(request) => Inferred::Of(request, sure),
                None => Inferred::Unknown,
            },
        }
    }

    /// The request, unless it is the call's own other side.
    fn asks_for(&self, call: &Entry, request: ExchangeId) -> Option<Handle> {
        let request = self.table.find(request)?;
        (call.pair != Some(request)).then_some(request)
    }

    /// Learns from the calls all about which is over, and holds what would have been said of those that are
    /// exactly linked to what is known of them.
    pub(super) fn infer_from(&mut self) {
        while let Some((due, handle, destination)) = self.inference.over.front().copied()
            && due <= self.watermark
        {
            self.inference.over.pop_front();
            let Some(entry) = self.table.get(handle) else {
                continue;
            };
            let parent = entry.place.as_ref().and_then(|place| place.parent);
            let exact = parent.filter(|parent| parent.method != Method::Inferred);
            // Whose it is may yet be known exactly.
            if self.is_pending(handle) || exact.is_none() && self.is_late(entry) {
                continue;
            }
            let (process, call) = (entry.process, call(entry, destination, exact.is_some()));
            let scorer = &mut self.inference.scorer;
            let said = exact.and_then(|exact| match scorer.judge(process, &call) {
                Verdict::Of(request, _) => Some((exact.span, request)),
                _ => None,
            });
            scorer.learn(process, &call);
            self.stats
                .trace_inference_left_out
                .add(std::mem::take(&mut scorer.left_out));
            let Some((span, request)) = said else {
                continue;
            };
            let request = self.table.find(request);
            let request = request.and_then(|request| self.table.get(request));
            let Some(right) = request.map(|request| request.span == span) else {
                continue;
            };
            self.check(process, right);
        }
    }

    fn check(&mut self, process: u32, right: bool) {
        self.stats.trace_inference_checked.add(1);
        if !right {
            self.stats.trace_inference_wrong.add(1);
        }
        if self.inference.scorer.checked(process, right) {
            self.stats.trace_inference_off.add(1);
            self.inference.doubted.push(process);
            self.epoch = self.epoch.wrapping_add(1);
        }
    }
}

/// As the scorer sees it.
fn call(entry: &Entry, destination: u64, exact: bool) -> Call {
    Call {
        destination,
        exact,
        start: entry.start,
        answered: entry.answered,
    }
}

/// Where a call went, to do what; nothing where it was not answered, or who sends it gathers what others ask
/// for.
fn where_to(scorer: &Scorer, call: &Exchange) -> Option<u64> {
    let (request, peer) = (&call.request, &call.peer);
    let answered = call.outcome == Outcome::Complete && call.response_start.is_some();
    let own = !peer.receiver && !GATHERED.contains(&request.protocol);
    let name = (&peer.remote, request.protocol, &request.operation);
    (answered && own).then(|| scorer.name(&name))
}

/// How much later than is waited for a call's requests it is learned from.
const LATER: Nanos = 50_000_000;
