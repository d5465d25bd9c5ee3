//! Requests that a proxy hands on. In a proxy, a call that says the very same as a request that is being
//! served ([`crate::protocol::Request::likeness`]) is made for one that says that. For which, is known
//! where there is one alone: one such request is being served when the call begins, no other such call
//! begins while it is, and its answer says what the call's did, later. Two of either are no evidence for
//! any, and neither is what is not over: so this is decided when the request is.

use std::num::NonZeroU64;

use foldhash::{HashMap, HashMapExt as _, HashSet, HashSetExt as _};
use smallvec::SmallVec;

use super::linker::Linker;
use super::table::{Entry, Handle};
use super::units::Unit;
use crate::event::{Nanos, Role};
use crate::exchange::Exchange;
use crate::protocol::Value;

/// Exchanges of one proxy that say the same.
#[derive(Debug, Default)]
struct Alike {
    served: SmallVec<[Handle; 2]>,
    calls: SmallVec<[Handle; 2]>,
    /// When calls began that are forgotten, while others are not.
    gone: SmallVec<[Nanos; 2]>,
    /// How many had no room.
    beyond: usize,
}

/// The proxies, and what they hand on.
#[derive(Debug)]
pub(super) struct Forwards {
    proxies: HashSet<u32>,
    alike: HashMap<(u32, NonZeroU64), Alike>,
}

/// For whom a call was made.
pub(super) enum Forwarded {
    /// This one.
    Of(Handle),
    /// What could tell is not over.
    Pending,
    /// Nobody knows.
    Unknown,
}

/// What an answer says: when its first byte passed, and its status.
pub(super) type Reply = (Nanos, i64);

impl Forwards {
    pub fn new() -> Self {
        Self {
            proxies: HashSet::new(),
            alike: HashMap::new(),
        }
    }

    fn name(&self, entry: &Entry) -> Option<(u32, NonZeroU64)> {
        let proxy = self.proxies.contains(&entry.process);
        Some((entry.process, entry.likeness.filter(|_| proxy)?))
    }

    /// An exchange begins.
    pub fn insert(&mut self, handle: Handle, entry: &Entry) {
        let Some(name) = self.name(entry) else {
            return;
        };
        let alike = self.alike.entry(name).or_default();
        let side = match entry.role {
            Role::Server => &mut alike.served,
            Role::Client => &mut alike.calls,
        };
        if side.len() < MOST_ALIKE {
            side.push(handle);
        } else {
            alike.beyond = alike.beyond.saturating_add(1);
        }
    }

    /// An exchange is forgotten.
    pub fn remove(&mut self, handle: Handle, entry: &Entry) {
        let Some(name) = self.name(entry) else {
            return;
        };
        let Some(alike) = self.alike.get_mut(&name) else {
            return;
        };
        let side = match entry.role {
            Role::Server => &mut alike.served,
            Role::Client => &mut alike.calls,
        };
        match side.iter().position(|h| *h == handle) {
            Some(at) => drop(side.swap_remove(at)),
            None => alike.beyond = alike.beyond.saturating_sub(1),
        }
        if alike.served.is_empty() {
            alike.gone.clear();
        } else if entry.role == Role::Client && alike.gone.len() < MOST_ALIKE {
            alike.gone.push(entry.start);
        }
        let left = !alike.served.is_empty() || !alike.calls.is_empty() || alike.beyond > 0;
        if !left {
            self.alike.remove(&name);
        }
    }

    /// What was known of a process is void.
    pub fn forget(&mut self, process: u32) {
        if self.proxies.remove(&process) {
            self.alike.retain(|name, _| name.0 != process);
        }
    }
}

impl Linker {
    /// `process` is a proxy: what it asks may be what it was asked.
    pub fn hands_on(&mut self, process: u32) {
        if !self.settings.forwarded || !self.forwards.proxies.insert(process) {
            return;
        }
        for (handle, entry) in self.table.iter() {
            if entry.process == process {
                self.forwards.insert(handle, entry);
            }
        }
    }

    /// The request that a proxy hands on by this call.
    pub(super) fn forwarded(&self, handle: Handle) -> Forwarded {
        self.forwarded_by(handle).unwrap_or(Forwarded::Unknown)
    }

    fn forwarded_by(&self, handle: Handle) -> Option<Forwarded> {
        let call = self.table.get(handle)?;
        if matches!(call.unit, Some(Unit::Of(..))) {
            return None;
        }
        let alike = self.forwards.alike.get(&self.forwards.name(call)?)?;
        if alike.beyond > 0 || alike.gone.len() >= MOST_ALIKE {
            return None;
        }
        let settled = |end: Nanos| end.saturating_add(self.settings.settle) <= self.watermark;
        let mut found = None;
        for &served in &alike.served {
            let Some(entry) = self.table.get(served) else {
                continue;
            };
            // A proxy that asks itself: its other side is no cause of it.
            let own = Some(served) == call.pair;
            if own || entry.from > call.start || entry.answered < call.start {
                continue;
            }
            if !settled(entry.end) || !settled(call.end) {
                return Some(Forwarded::Pending);
            }
            if found.replace((served, entry)).is_some() {
                return None;
            }
        }
        let (served, request) = found?;
        let meanwhile = |start: Nanos| (request.from..=request.answered).contains(&start);
        let others = alike.calls.iter().filter(|&&other| other != handle);
        let mut others = others.filter_map(|&other| self.table.get(other));
        if others.any(|other| meanwhile(other.start)) || alike.gone.iter().any(|&at| meanwhile(at))
        {
            return None;
        }
        let ((read, status), (written, same)) = (call.reply?, request.reply?);
        (read <= written && status == same).then_some(Forwarded::Of(served))
    }
}

/// What an HTTP exchange's answer says.
pub(super) fn reply(exchange: &Exchange) -> Option<Reply> {
    let mut said = exchange.response.as_ref()?.attributes.iter();
    let status = said.find(|a| a.key == "http.response.status_code")?;
    match status.value {
        Value::Int(status) => Some((exchange.response_start?.time, status)),
        _ => None,
    }
}

/// Most exchanges of a kind that say the same and are remembered; past that none is evidence.
const MOST_ALIKE: usize = 512;
