//! Where an exchange hangs: its parent's entry, a header's context, or nothing; and the trace that
//! follows from it, up the chain and down again. No recursion: chains are as deep as they are.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::answers::{ANSWERED, Answered};
use super::context::{Carried, Context, SAMPLED};
use super::descent::Cause;
use super::forward::Forwarded;
use super::ids::client_span;
use super::infer::Inferred;
use super::linker::Linker;
use super::promises::Promise;
use super::table::{Entry, Handle, Place};
use super::units::OPEN;
use super::{CARRIED, Link, Method, Parent, UNTRUSTED};
use crate::event::{Role, Source};

impl Linker {
    /// What was published by a descendant stays, but for what has turned out since: a thread
    /// that was shared after all, and a client side that came late.
    pub(super) fn mend(&mut self, handle: Handle) {
        let Some(entry) = self.table.get(handle) else {
            return;
        };
        let Some(place) = entry.place.as_ref() else {
            return;
        };
        let thread = place
            .parent
            .is_some_and(|p| matches!(p.method, Method::Thread | Method::Task));
        let answer = place.parent.is_some_and(|p| p.method == Method::Answer);
        let off = thread && self.units.is_off(entry.process);
        if off || answer && !self.answers.has(entry.process) {
            self.stats.trace_links_dropped.add(1);
            if let Some(place) = self.table.get_mut(handle).and_then(|e| e.place.as_mut()) {
                place.parent = None;
                place.above = None;
                place.not_before = None;
            }
            return;
        }
        let (Role::Server, None, Some(pair)) = (entry.role, place.parent, entry.pair) else {
            return;
        };
        let trace = place.trace;
        self.resolve(pair);
        let Some(above) = self.table.get(pair) else {
            return;
        };
        let Some((begin, first)) = above
            .place
            .as_ref()
            .filter(|p| p.trace == trace)
            .map(|p| (p.begin, p.first))
        else {
            return;
        };
        let parent = parent(above, Method::StreamKey);
        if let Some(place) = self.table.get_mut(handle).and_then(|e| e.place.as_mut()) {
            place.parent = Some(parent);
            place.above = Some(pair);
            place.not_before = Some(begin);
            place.first = first;
        }
        self.publish(pair);
    }

    /// Whether its place, or the one above all of it, waits for what is not over, and may still.
    pub(super) fn is_pending(&self, handle: Handle) -> bool {
        let mut next = Some(handle);
        let mut depth = 0;
        while let Some(entry) = next.and_then(|handle| self.table.get(handle))
            && let Some(place) = &entry.place
        {
            if !place.pending || entry.published || depth >= MAX_DEPTH {
                return false;
            }
            let patience = match self.answers.has(entry.process) {
                true => ANSWERED,
                false => self.settings.patience,
            };
            if entry.end != OPEN && entry.end.saturating_add(patience) > self.watermark {
                return true;
            }
            next = place.above;
            depth += 1;
        }
        false
    }

    /// Marks a place and those it hangs from as final.
    pub(super) fn publish(&mut self, handle: Handle) {
        let mut next = Some(handle);
        while let Some(handle) = next {
            let Some(entry) = self.table.get_mut(handle) else {
                return;
            };
            if std::mem::replace(&mut entry.published, true) {
                return;
            }
            if let Some(place) = &mut entry.place {
                place.pending = false;
            }
            next = entry.place.as_ref().and_then(|p| p.above);
        }
    }

    /// Finds the place of an exchange and of those above it.
    pub(super) fn resolve(&mut self, handle: Handle) {
        loop {
            let epoch = self.epoch;
            let mut chain: SmallVec<[(Handle, Reference); 8]> = SmallVec::new();
            let mut next = Some(handle);
            while let Some(handle) = next.take() {
                if self.has_place(handle) {
                    break;
                }
                let mut reference = self.reference(handle);
                if let Reference::Local(above, ..) | Reference::Likely(above, _) = &reference {
                    if chain.len() >= MAX_DEPTH || chain.iter().any(|(h, _)| h == above) {
                        self.stats.trace_cycles.add(1);
                        reference = self.cut(handle);
                    } else {
                        next = Some(*above);
                    }
                }
                chain.push((handle, reference));
            }
            if epoch != self.epoch {
                continue;
            }
            for (handle, reference) in chain.into_iter().rev() {
                self.settle_at(handle, reference);
            }
            return;
        }
    }

    fn has_place(&self, handle: Handle) -> bool {
        self.table.get(handle).is_none_or(|entry| {
            let current =
                |place: &Place| entry.published || (place.epoch == self.epoch && !place.pending);
            entry.place.as_ref().is_some_and(current)
        })
    }

    /// What an exchange hangs from. Reading it may show that a process shares its threads.
    fn reference(&mut self, handle: Handle) -> Reference {
        let Some(entry) = self.table.get(handle) else {
            return Reference::Root(None);
        };
        let pair = entry.pair.and_then(|p| Some((p, self.table.get(p)?)));
        // Both sides saw the same bytes; one of them may have lost some. A line that the kernel side wrote the
        // other side alone has seen: it names this very call.
        let own = |it: &&Carried| matches!(it, Carried::Context(it, _) if it.span == entry.span);
        let carried = entry
            .carried
            .as_ref()
            .or_else(|| pair.and_then(|(_, pair)| pair.carried.as_ref()))
            .filter(|carried| !own(carried));
        // What a process says of itself has ids of its own: those that it sends on, if it does.
        let told = |pair: &Entry| !self.instrumented.has(pair.process);
        if let (Role::Server, Some((pair, _))) = (entry.role, pair.filter(|p| told(p.1))) {
            return Reference::Local(pair, Method::StreamKey, false);
        }
        let decision = match carried {
            Some(Carried::Context(context, method)) => {
                if let Some(found) = self.by_header(entry, context, *method) {
                    return found;
                }
                None
            }
            Some(Carried::Decision(sampled)) if !entry.outside => {
                Some(if *sampled { SAMPLED } else { 0 })
            }
            _ => None,
        };
        if let (Role::Server, false, Some(promise)) = (entry.role, entry.outside, &entry.promise)
            && promise.source == Source::Option
        {
            return Reference::Carried(*promise);
        }
        let role = entry.role;
        if role == Role::Client
            && let Some(Cause {
                serving,
                method,
                descended,
            }) = self.by_unit(handle)
        {
            return Reference::Local(serving, method, descended);
        }
        if role == Role::Client {
            match self.by_answer(handle) {
                Answered::For(cause) => {
                    return Reference::Local(cause.serving, cause.method, false);
                }
                Answered::Pending => return Reference::Pending(decision),
                Answered::Unknown => {}
            }
            match self.forwarded(handle) {
                Forwarded::Of(served) => {
                    return Reference::Local(served, Method::Forwarded, false);
                }
                Forwarded::Pending => return Reference::Pending(decision),
                Forwarded::Unknown => {}
            }
            match self.inferred(handle) {
                Inferred::Of(served, sure) => return Reference::Likely(served, sure),
                Inferred::Pending => return Reference::Pending(decision),
                Inferred::Unknown => {}
            }
        }
        Reference::Root(decision)
    }

    /// A client whose header is the very one its process is serving passes it on: it is a child
    /// of that exchange. Any other header was written by this process (client) or its peer; none, where
    /// that is not trusted.
    fn by_header(&self, entry: &Entry, context: &Context, method: Method) -> Option<Reference> {
        if entry.role == Role::Client {
            // Its own other side, in a process that calls itself, is no cause of it.
            let own = entry.pair.and_then(|p| self.table.get(p)).map(|p| p.id);
            let covers = |s: &Entry| {
                Some(s.id) != own
                    && s.from < entry.start
                    && s.answered >= entry.start
                    && matches!(&s.carried, Some(Carried::Context(c, _)) if c.trace == context.trace)
            };
            if let Some(served) = self.table.carrying(entry.process, context.span, covers) {
                return Some(Reference::Local(served, method, false));
            }
        }
        let remote = entry.role == Role::Server;
        let outside = self.table.is_outside(entry, context.trace);
        (!outside).then(|| Reference::Header(context.clone(), method, remote))
    }

    /// The context that an exchange carries and that is not trusted, where it has nothing above it.
    pub(super) fn refused(&self, handle: Handle) -> Option<Link> {
        let entry = self.table.get(handle)?;
        let Some(Carried::Context(context, _)) = &entry.carried else {
            return None;
        };
        let (trace, span) = (context.trace, context.span);
        let outside = self.table.is_outside(entry, trace);
        let top = entry.place.as_ref().is_some_and(|p| p.parent.is_none());
        (outside && top).then_some(Link {
            trace,
            span,
            reason: Cow::Borrowed(UNTRUSTED),
        })
    }

    /// Where a chain that closes on itself is cut, a header still counts.
    fn cut(&self, handle: Handle) -> Reference {
        let entry = self.table.get(handle);
        match entry.and_then(|e| Some((e, e.carried.as_ref()?))) {
            Some((entry, Carried::Context(context, method)))
                if !self.table.is_outside(entry, context.trace) =>
            {
                Reference::Header(context.clone(), *method, entry.role == Role::Server)
            }
            _ => Reference::Root(None),
        }
    }

    fn settle_at(&mut self, handle: Handle, reference: Reference) {
        let Some(entry) = self.table.get(handle) else {
            return;
        };
        let (epoch, start) = (self.epoch, entry.start);
        let place = match reference {
            Reference::Header(context, method, remote) => Place {
                epoch,
                pending: false,
                trace: context.trace,
                flags: context.flags,
                state: context.state,
                parent: Some(Parent {
                    span: context.span,
                    remote,
                    method,
                    confidence: 1.0,
                }),
                above: None,
                descended: false,
                not_before: None,
                begin: start,
                first: start,
                strayed: None,
            },
            Reference::Carried(promise) => Place {
                parent: entry.key.filter(|_| promise.named).map(|key| Parent {
                    span: client_span(&key),
                    remote: true,
                    method: Method::Option,
                    confidence: 1.0,
                }),
                ..self.root(handle, promise.flags)
            },
            Reference::Local(above, ..) | Reference::Likely(above, _)
                if self.strays(handle, above) =>
            {
                Place {
                    strayed: self.link_to(above),
                    ..self.root(handle, None)
                }
            }
            Reference::Local(above, method, descended) => Place {
                descended,
                ..self.below(handle, above, |above| parent(above, method))
            },
            Reference::Likely(above, confidence) => self.below(handle, above, |above| Parent {
                confidence,
                ..parent(above, Method::Inferred)
            }),
            Reference::Root(flags) => self.root(handle, flags),
            Reference::Pending(flags) => Place {
                pending: true,
                ..self.root(handle, flags)
            },
        };
        if let Some(entry) = self.table.get_mut(handle) {
            entry.place = Some(place);
        }
    }

    /// The place of a child.
    fn below(&mut self, handle: Handle, above: Handle, parent: impl Fn(&Entry) -> Parent) -> Place {
        let start = self.table.get(handle).map_or(0, |entry| entry.start);
        match self.table.get(above) {
            Some(
                entry @ Entry {
                    place: Some(place), ..
                },
            ) => Place {
                parent: Some(parent(entry)),
                above: Some(above),
                not_before: Some(place.begin),
                begin: start.max(place.begin),
                epoch: self.epoch,
                descended: false,
                strayed: None,
                ..place.clone()
            },
            _ => self.root(handle, None),
        }
    }

    /// A trace of its own; or the one its other side has already been given.
    fn root(&mut self, handle: Handle, flags: Option<u8>) -> Place {
        let entry = self.table.get(handle);
        let start = entry.map_or(0, |e| e.start);
        let taken = entry
            .filter(|e| e.role == Role::Client)
            .and_then(|e| self.table.get(e.pair?))
            .filter(|pair| pair.published)
            .and_then(|pair| pair.place.as_ref())
            .filter(|place| place.parent.is_none());
        let believed = |e: &&Entry| !e.outside;
        let promise = entry.filter(believed).and_then(|e| {
            // Who sent it may not have been told of then.
            let pair = e.pair.filter(|_| e.role == Role::Client);
            let pair = pair.and_then(|pair| self.table.get(pair)?.promise.as_ref());
            e.promise.as_ref().or(pair)
        });
        let trace = match (promise, taken) {
            (Some(promise), _) => promise.trace,
            (None, Some(place)) => place.trace,
            (None, None) => self.ids.trace(),
        };
        Place {
            epoch: self.epoch,
            pending: false,
            trace,
            flags,
            state: None,
            parent: None,
            above: None,
            descended: false,
            not_before: None,
            begin: start,
            first: start,
            strayed: None,
        }
    }

    /// Whether a call left in another trace than that of what it hangs from.
    fn strays(&self, handle: Handle, above: Handle) -> bool {
        let call = self.table.get(handle).filter(|e| e.role == Role::Client);
        let told = call.and_then(|call| call.promise.as_ref());
        let place = self.table.get(above).and_then(|e| e.place.as_ref());
        told.zip(place)
            .is_some_and(|(told, place)| told.trace != place.trace)
    }

    fn link_to(&self, above: Handle) -> Option<Link> {
        let above = self.table.get(above)?;
        Some(Link {
            trace: above.place.as_ref()?.trace,
            span: above.span,
            reason: Cow::Borrowed(CARRIED),
        })
    }
}

/// What an exchange hangs from.
enum Reference {
    /// Nothing; a decision may have come alone.
    Root(Option<u8>),
    /// Nothing as far as is known yet.
    Pending(Option<u8>),
    /// A header's context, and whether it came over the wire.
    Header(Context, Method, bool),
    /// The trace that a TCP option says, sent by whom the stream key names.
    Carried(Promise),
    /// Another exchange on this host, and whether an ancestor of its unit was serving that.
    Local(Handle, Method, bool),
    /// Another exchange, as likely as that.
    Likely(Handle, f64),
}

fn parent(above: &Entry, method: Method) -> Parent {
    Parent {
        span: above.span,
        remote: above.role == Role::Client,
        method,
        confidence: match method {
            Method::Thread | Method::Task | Method::Answer => THREAD,
            Method::Forwarded => FORWARDED,
            _ => 1.0,
        },
    }
}

/// Most exchanges between one and its root on this host.
const MAX_DEPTH: usize = 256;
/// Confidence in a thread: exact while the process serves as it did, which cannot be proved.
const THREAD: f64 = 0.9;
/// Confidence in what a proxy hands on: exact while all that it serves is seen, which cannot be proved.
const FORWARDED: f64 = 0.9;
