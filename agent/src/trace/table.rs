//! The exchanges the linker knows: by id, by name on the wire, by the context they carry.

use std::collections::VecDeque;
use std::hash::BuildHasherDefault;
use std::num::NonZeroU64;
use std::sync::Arc;

use foldhash::HashMap;
use smallvec::SmallVec;

use super::context::Carried;
use super::forward::Reply;
use super::promises::Promise;
use super::units::Unit;
use super::{Link, Parent, SpanId, TraceId};
use crate::connection::{IdHasher, Mark};
use crate::event::{ConnectionId, Nanos, Role};
use crate::exchange::{Exchange, ExchangeId, MessageKey, Peer};
use crate::protocol::Carrier;

/// Names an entry for as long as it is there; stale afterwards, never another entry's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Handle {
    generation: u32,
    slot: u32,
}

/// Where an exchange was found to belong.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// [`super::Linker`]'s epoch it was found in.
    pub epoch: u64,
    /// Trace.
    pub trace: TraceId,
    /// Flags that came down the chain.
    pub flags: Option<u8>,
    /// tracestate that came down the chain.
    pub state: Option<Arc<str>>,
    /// Whether what is not over may yet show another.
    pub pending: bool,
    /// Parent.
    pub parent: Option<Parent>,
    /// The parent's entry, where it is on this host.
    pub above: Option<Handle>,
    /// Whether the parent is what an ancestor of its unit was serving.
    pub descended: bool,
    /// The parent's start, where it is on this host.
    pub not_before: Option<Nanos>,
    /// The span's own start: its first byte, or its parent's if that is later.
    pub begin: Nanos,
    /// The start of the first above it on this host.
    pub first: Nanos,
    /// What its parent was, had the next host not been told of another trace.
    pub strayed: Option<Link>,
}

/// One exchange, from its head to some time after its end.
#[derive(Debug)]
pub(super) struct Entry {
    pub id: ExchangeId,
    pub role: Role,
    pub connection: ConnectionId,
    pub process: u32,
    /// Client: who sent the request's first byte. Server: who read its head.
    pub unit: Option<Unit>,
    /// Whether a probe saw that unit ask for it.
    pub asked: bool,
    /// First byte of the request.
    pub start: Nanos,
    /// Client: the same. Server: when the head was read, where known.
    pub from: Nanos,
    /// When the answer was seen by the thread above: [`super::units::OPEN`] until then.
    pub answered: Nanos,
    /// When it was over; [`super::units::OPEN`] until then.
    pub end: Nanos,
    /// Whether it is registered with its thread.
    pub laned: bool,
    /// Its number, where its connection has streams.
    pub stream: Option<u64>,
    /// When a probe saw that unit begin to serve it, or had seen it ask.
    pub taken: Option<Nanos>,
    /// Whether another than its unit wrote the answer.
    pub handed_on: bool,
    /// Whether what an ancestor of its unit serves is not to be its parent: that went on for too long.
    pub alone: bool,
    /// Whether it goes on without its thread.
    pub detached: bool,
    /// Whether its head was read (its Opened came).
    pub opened: bool,
    /// What a proxy hands on of it.
    pub likeness: Option<NonZeroU64>,
    /// What its answer says, when it is over.
    pub reply: Option<Reply>,
    pub key: Option<MessageKey>,
    /// Whether its key is made of kernel addresses, which come again.
    pub unix: bool,
    /// Whether the other end is surely on this host.
    pub near: bool,
    /// The same message's other side.
    pub pair: Option<Handle>,
    pub carried: Option<Carried>,
    /// Whether that came from where nobody is trusted.
    pub outside: bool,
    /// The traces that it names there.
    pub strange: SmallVec<[TraceId; 1]>,
    /// What the kernel side says of it.
    pub promise: Option<Promise>,
    pub span: SpanId,
    pub place: Option<Place>,
    /// Its place has left this stage, its own or a descendant's: it stays.
    pub published: bool,
    /// What is left to be given out.
    pub exchange: Option<Box<Exchange>>,
    /// It was given out.
    pub emitted: bool,
}

/// What is known of an exchange when it is first heard of.
pub(super) struct Head<'a> {
    pub id: ExchangeId,
    pub peer: &'a Peer,
    pub role: Role,
    pub key: Option<MessageKey>,
    pub start: Mark,
    pub head: Option<Mark>,
    /// Whether it may have been sent by who asks for something else.
    pub gathered: bool,
    pub carrier: Option<&'a Carrier>,
    /// [`crate::protocol::Request::likeness`].
    pub likeness: Option<NonZeroU64>,
    /// [`crate::exchange::Opened::stream`].
    pub stream: Option<u64>,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    entry: Option<Entry>,
}

/// Server exchanges that carry one context; past [`MAX_CARRYING`] nobody is asked.
#[derive(Debug, Default)]
struct Carrying {
    handles: SmallVec<[Handle; 2]>,
    beyond: usize,
}

/// The entries and their indexes. Nothing here grows past what the linker puts in and takes out.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    ids: std::collections::HashMap<ExchangeId, Handle, BuildHasherDefault<IdHasher>>,
    /// Client side, server side.
    keys: HashMap<MessageKey, [Option<Handle>; 2]>,
    /// Server exchanges by process and the span their header names.
    contexts: HashMap<(u32, SpanId), Carrying>,
    /// How many server exchanges of a process name a trace from outside.
    outside: HashMap<(u32, TraceId), usize>,
    /// All handles in the order they came, some stale.
    order: VecDeque<Handle>,
}

impl Table {
    /// Entries now.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn get(&self, handle: Handle) -> Option<&Entry> {
        let slot = self.slots.get(handle.slot as usize)?;
        slot.entry
            .as_ref()
            .filter(|_| slot.generation == handle.generation)
    }

    pub fn get_mut(&mut self, handle: Handle) -> Option<&mut Entry> {
        let slot = self.slots.get_mut(handle.slot as usize)?;
        slot.entry
            .as_mut()
            .filter(|_| slot.generation == handle.generation)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (Handle, &Entry)> {
        self.ids
            .values()
            .filter_map(|handle| Some((*handle, self.get(*handle)?)))
    }

    pub fn find(&self, id: ExchangeId) -> Option<Handle> {
        self.ids.get(&id).copied()
    }

    /// Adds an entry, and finds its other side.
    pub fn insert(&mut self, entry: Entry) -> Handle {
        let (id, key, role) = (entry.id, entry.key, entry.role);
        let context = context_of(&entry);
        for trace in &entry.strange {
            let count = self.outside.entry((entry.process, *trace)).or_default();
            *count = count.saturating_add(1);
        }
        let handle = self.place(entry);
        self.ids.insert(id, handle);
        if let Some(context) = context {
            let carrying = self.contexts.entry(context).or_default();
            if carrying.handles.len() < MAX_CARRYING {
                carrying.handles.push(handle);
            } else {
                carrying.beyond = carrying.beyond.saturating_add(1);
            }
        }
        if let Some(key) = key {
            self.pair(handle, key, role);
        }
        self.order.push_back(handle);
        if self.order.len() > self.ids.len().saturating_mul(2).saturating_add(64) {
            let (slots, order) = (&self.slots, &mut self.order);
            order.retain(|h| {
                slots
                    .get(h.slot as usize)
                    .is_some_and(|s| s.generation == h.generation && s.entry.is_some())
            });
        }
        handle
    }

    /// Two names of nothing.
    #[cfg(test)]
    pub fn handles() -> [Handle; 2] {
        [0, 1].map(|slot| Handle {
            generation: 1,
            slot,
        })
    }

    fn place(&mut self, entry: Entry) -> Handle {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        let mut generation = 0;
        if let Some(place) = self.slots.get_mut(slot as usize) {
            place.generation = place.generation.wrapping_add(1);
            place.entry = Some(entry);
            generation = place.generation;
        }
        Handle { generation, slot }
    }

    fn pair(&mut self, handle: Handle, key: MessageKey, role: Role) {
        let sides = self.keys.entry(key).or_default();
        let [client, server] = sides;
        let (own, other) = match role {
            Role::Client => (client, *server),
            Role::Server => (server, *client),
        };
        *own = Some(handle);
        let Some(other) = other else { return };
        let (Some(a), Some(b)) = (self.get(handle), self.get(other)) else {
            return;
        };
        let fit = match role {
            Role::Client => fits(a, b),
            Role::Server => fits(b, a),
        };
        if !fit || b.pair.is_some_and(|p| self.get(p).is_some()) {
            return;
        }
        if let Some(entry) = self.get_mut(handle) {
            entry.pair = Some(other);
        }
        if let Some(entry) = self.get_mut(other) {
            entry.pair = Some(handle);
        }
    }

    /// Whether another client exchange of this name is there (only a name used twice).
    pub fn has_client(&self, key: &MessageKey) -> bool {
        self.keys
            .get(key)
            .and_then(|[client, _]| *client)
            .is_some_and(|h| self.get(h).is_some())
    }

    /// The one server exchange of `process` whose header names `span`, if `fits`.
    pub fn carrying(
        &self,
        process: u32,
        span: SpanId,
        fits: impl Fn(&Entry) -> bool,
    ) -> Option<Handle> {
        let carrying = self.contexts.get(&(process, span))?;
        if carrying.beyond > 0 {
            return None;
        }
        let mut found = None;
        for handle in &carrying.handles {
            if self.get(*handle).is_some_and(&fits) && found.replace(*handle).is_some() {
                return None;
            }
        }
        found
    }

    /// Whether a context of this trace, which an exchange carries, came from where nobody is trusted: to
    /// itself, or to its process, which hands it on.
    pub fn is_outside(&self, entry: &Entry, trace: TraceId) -> bool {
        match entry.role {
            Role::Server => entry.outside,
            Role::Client => self.outside.contains_key(&(entry.process, trace)),
        }
    }

    /// The oldest entry.
    pub fn oldest(&mut self) -> Option<Handle> {
        while let Some(handle) = self.order.front().copied() {
            if self.get(handle).is_some() {
                return Some(handle);
            }
            self.order.pop_front();
        }
        None
    }

    pub fn remove(&mut self, handle: Handle) -> Option<Entry> {
        self.get(handle)?;
        let entry = self.slots.get_mut(handle.slot as usize)?.entry.take()?;
        self.free.push(handle.slot);
        if self.ids.get(&entry.id) == Some(&handle) {
            self.ids.remove(&entry.id);
        }
        if let Some(key) = &entry.key
            && let Some(sides) = self.keys.get_mut(key)
        {
            for side in sides.iter_mut().filter(|side| **side == Some(handle)) {
                *side = None;
            }
            if sides.iter().all(Option::is_none) {
                self.keys.remove(key);
            }
        }
        if let Some(context) = context_of(&entry)
            && let Some(carrying) = self.contexts.get_mut(&context)
        {
            match carrying.handles.iter().position(|h| *h == handle) {
                Some(at) => drop(carrying.handles.swap_remove(at)),
                None => carrying.beyond = carrying.beyond.saturating_sub(1),
            }
            if carrying.handles.is_empty() && carrying.beyond == 0 {
                self.contexts.remove(&context);
            }
        }
        for trace in &entry.strange {
            let named = (entry.process, *trace);
            if let Some(count) = self.outside.get_mut(&named) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.outside.remove(&named);
                }
            }
        }
        Some(entry)
    }
}

/// Whether a client's and a server's exchange of one name can be the same message. Unix sockets
/// are named by kernel addresses, which come again: there the times must agree too.
fn fits(client: &Entry, server: &Entry) -> bool {
    let tcp = !client.unix && !server.unix;
    tcp || (client.start <= server.from.saturating_add(REUSE)
        && server.start <= client.end.saturating_add(REUSE))
}

/// Within what time a unix socket's name is not used again.
const REUSE: Nanos = 50_000_000;
/// Most server exchanges of a process remembered for one context.
const MAX_CARRYING: usize = 8;

fn context_of(entry: &Entry) -> Option<(u32, SpanId)> {
    match (&entry.carried, entry.role) {
        (Some(Carried::Context(context, _)), Role::Server) => Some((entry.process, context.span)),
        _ => None,
    }
}
