//! Node.js: what a turn of its event loop is for.
//!
//! One thread serves all requests, a turn at a time: bytes are read, or something that was asked for is
//! there, and what waits for it runs to its end, with all promises and ticks that follow. A turn that
//! begins with bytes is for these; any other is for what the turn was for in which it was asked for. That
//! is told by numbers: Node gives each asynchronous resource an id as it is made, by one counter, so
//! those made in a turn are the ids given out meanwhile; and it keeps in memory whose callback runs (the
//! execution id) and who made that (the trigger id), in lib/internal/async_hooks.js's `async_id_fields`.
//!
//! So bytes name the turn that they begin, each first bytes after an answer another one, and that is
//! their unit. What goes on when another's bytes come has theirs: an answer's turn serves nothing.

use agent_ebpf::abi::unit::{KIND, RESOURCE};
use agent_ebpf::abi::{AsyncIds, INGRESS};
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;

use crate::arch;
use crate::connection::Connection;
use crate::kernel::read_user;
use crate::maps::{ASYNC_IDS, LOOPS, OWNERS};
use crate::tls::{register, wanted};

/// A thread's event loop.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Loop {
    /// Address of the thread's `node::Environment`; 0 until it is known.
    environment: u64,
    /// Unit of the bytes that were read since the last turn began, or 0.
    fresh: u64,
    /// The connection of the bytes that were read last.
    source: u64,
    /// That of the bytes that this turn began with, or 0.
    began: u64,
    /// What this turn is for, or 0.
    unit: u64,
    /// The last id that was given out before this turn.
    before: u64,
    /// 1 where `unit` is only of what goes on now.
    mixed: u64,
    /// 1 where a promise was resolved in the part of the turn that `unit` is of: what waits goes on next.
    resolved: u64,
    /// Ids of the callbacks that native code made in it: the first of all, and the last ones.
    callbacks: [u64; 4],
}

const BLANK: Loop = Loop {
    environment: 0,
    fresh: 0,
    source: 0,
    began: 0,
    unit: 0,
    before: 0,
    mixed: 0,
    resolved: 0,
    callbacks: [0; 4],
};

impl Loop {
    #[inline(always)]
    fn has_begun(&self, id: u64) -> bool {
        let [a, b, c, d] = self.callbacks;
        id == a || id == b || id == c || id == d
    }

    /// Whether the turn is of all timers or immediates that are due.
    #[inline(always)]
    fn is_of_many(&self) -> bool {
        self.callbacks[0] == 0
    }

    /// Why what runs now does.
    #[inline(always)]
    fn cause(&self, ids: &Ids) -> Cause {
        // A tick is made in the turn it runs in, by what its trigger says.
        let id = if ids.execution > self.before && !self.has_begun(ids.execution) {
            ids.trigger
        } else {
            ids.execution
        };
        if id == 0 || self.has_begun(id) {
            Cause::Turn
        } else if id <= self.before {
            Cause::Resource(id)
        } else if self.is_of_many() {
            Cause::Unknown
        } else {
            Cause::Turn
        }
    }
}

/// Why something runs.
enum Cause {
    /// As the turn does.
    Turn,
    /// By a resource that was made before.
    Resource(u64),
    /// By what was made in this turn for one of many.
    Unknown,
}

/// For whom a resource was made.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Owner {
    /// The thread, and the id's low bits.
    name: u64,
    /// A unit.
    unit: u64,
}

/// Entries of [`OWNERS`], a power of two: that many ids ago is forgotten.
pub const OWNED: u32 = 32_768;
/// Most ids of a turn that are remembered.
const MOST: u64 = 256;
/// Bytes that are nobody's: not even the thread is evidence.
pub const NOBODY: u64 = RESOURCE;

#[inline(always)]
fn name(thread: u64, id: u64) -> u64 {
    (thread << 32) | (id & 0xffff_ffff)
}

#[inline(always)]
fn slot(thread: u64, id: u64) -> u32 {
    // Neighbours do not get into each other's way for long.
    (id as u32).wrapping_add((thread as u32) << 10) & (OWNED - 1)
}

/// For whom a resource was made, 0 where that is not known.
#[inline(always)]
fn owner(thread: u64, id: u64) -> u64 {
    match OWNERS.get(slot(thread, id)) {
        Some(owner) if owner.name == name(thread, id) => owner.unit,
        _ => 0,
    }
}

/// The resources made from after `before` up to `last` were made for a unit.
#[inline(always)]
fn own(thread: u64, before: u64, last: u64, unit: u64) {
    if unit == 0 {
        return;
    }
    for i in 1..=MOST {
        let id = before.wrapping_add(i);
        if id > last {
            return;
        }
        if let Some(slot) = OWNERS.get_ptr_mut(slot(thread, id)) {
            let name = name(thread, id);
            // SAFETY: an array slot, valid for the program's run; who reads it asks whose it is.
            unsafe { *slot = Owner { name, unit } };
        }
    }
}

/// What Node keeps of the ids: of whose callback runs, of who made that, and the last given out.
struct Ids {
    execution: u64,
    trigger: u64,
    last: u64,
}

#[inline(always)]
fn ids(layout: &AsyncIds, environment: u64) -> Ids {
    let fields: u64 = read_user(environment.wrapping_add(layout.ids.into()));
    let [execution, trigger, last]: [u64; 3] = read_user(fields);
    Ids {
        execution: whole(execution),
        trigger: whole(trigger),
        last: whole(last),
    }
}

/// How many callbacks native code is in.
#[inline(always)]
fn depth(layout: &AsyncIds, environment: u64) -> u64 {
    read_user(environment.wrapping_add(layout.depth.into()))
}

/// A number that is kept as a `double`; 0 for none that is a count.
#[inline(always)]
fn whole(double: u64) -> u64 {
    let exponent = double >> 52;
    // The bias is 1023. What is negative or less than 1 is none, and what has no 53 bits is all there is.
    if !(1023..=1075).contains(&exponent) {
        return 0;
    }
    ((double & ((1 << 52) - 1)) | (1 << 52)) >> (1075 - exponent)
}

#[inline(always)]
fn layout(pid_tgid: u64) -> Option<&'static AsyncIds> {
    // SAFETY: written once by user space, read as plain numbers.
    unsafe { ASYNC_IDS.get((pid_tgid >> 32) as u32) }
}

#[inline(always)]
fn event_loop(pid_tgid: u64) -> Option<&'static mut Loop> {
    if LOOPS.get_ptr(pid_tgid).is_none() {
        let _ = LOOPS.insert(pid_tgid, BLANK, 0);
    }
    // SAFETY: a map value, valid for the program's run; its thread is here.
    LOOPS
        .get_ptr_mut(pid_tgid)
        .map(|found| unsafe { &mut *found })
}

/// `InternalCallbackScope(Environment*, …, const async_context&, …)`: native code calls back.
#[uprobe]
pub fn node_callback(context: ProbeContext) -> u32 {
    let Some(pid_tgid) = wanted() else { return 0 };
    let Some(layout) = layout(pid_tgid) else {
        return 0;
    };
    let Some(found) = event_loop(pid_tgid) else {
        return 0;
    };
    found.environment = register(&context, arch::C[1]);
    let fourth = register(&context, arch::C[3]);
    let fifth = register(&context, arch::C[4]);
    let asynchronous = if layout.context == 3 { fourth } else { fifth };
    called_back(found, layout, whole(read_user(asynchronous)), pid_tgid);
    0
}

/// `InternalCallbackScope(AsyncWrap*, int)`, where it does not use the other one.
#[uprobe]
pub fn node_callback_of(context: ProbeContext) -> u32 {
    let Some(pid_tgid) = wanted() else { return 0 };
    let Some(layout) = layout(pid_tgid) else {
        return 0;
    };
    let Some(found) = event_loop(pid_tgid) else {
        return 0;
    };
    let object = register(&context, arch::C[1]);
    let id: u64 = read_user(object.wrapping_add(layout.wrap.into()));
    if found.environment != 0 {
        called_back(found, layout, whole(id), pid_tgid);
    }
    0
}

/// V8's built-in `resolve` function of a promise is called: what awaits that goes on when the timer or
/// immediate is over that calls it, and before the next one begins (lib/internal/timers.js). They have one
/// callback for all, and who went on does not say which it was.
#[uprobe]
pub fn node_resolve(context: ProbeContext) -> u32 {
    let _ = context;
    let Some((found, layout, pid_tgid)) = turn_of_many() else {
        return 0;
    };
    match found.cause(&ids(layout, found.environment)) {
        Cause::Resource(id) => {
            found.unit = owner(pid_tgid & 0xffff_ffff, id);
            found.mixed = 1;
        }
        Cause::Unknown => found.unit = 0,
        Cause::Turn => {}
    }
    found.resolved = 1;
    0
}

/// V8's `RunMicrotasks`: what awaits goes on. It is run behind each timer or immediate that leaves something to
/// it; where that one resolved no promise, it is not known which it was.
#[uprobe]
pub fn node_microtasks(context: ProbeContext) -> u32 {
    let _ = context;
    let Some((found, ..)) = turn_of_many() else {
        return 0;
    };
    if found.resolved == 0 {
        found.unit = 0;
    }
    found.resolved = 0;
    0
}

/// This thread's loop, where the turn is of many.
#[inline(always)]
fn turn_of_many() -> Option<(&'static mut Loop, &'static AsyncIds, u64)> {
    let pid_tgid = wanted()?;
    let layout = layout(pid_tgid)?;
    let found = LOOPS.get_ptr_mut(pid_tgid)?;
    // SAFETY: a map value, valid for the program's run; its thread is here.
    let found = unsafe { &mut *found };
    let many = found.environment != 0 && found.is_of_many();
    many.then_some((found, layout, pid_tgid))
}

/// A callback begins, of the resource with that id; 0 for none's, as of timers.
#[inline(always)]
fn called_back(found: &mut Loop, layout: &AsyncIds, id: u64, pid_tgid: u64) {
    let thread = pid_tgid & 0xffff_ffff;
    if depth(layout, found.environment) != 0 {
        if !found.has_begun(id) {
            let [first, a, b, _] = found.callbacks;
            found.callbacks = [first, id, a, b];
        }
        return;
    }
    let last = ids(layout, found.environment).last;
    if found.mixed == 0 {
        own(thread, found.before, last, found.unit);
    }
    found.before = last;
    found.mixed = 0;
    found.resolved = 0;
    let fresh = found.fresh;
    found.fresh = 0;
    if fresh != 0 || id != found.callbacks[0] {
        found.began = if fresh != 0 { found.source } else { 0 };
    }
    if id == 0 {
        // Of timers or immediates: what was read had no callback.
        found.unit = 0;
    } else if fresh != 0 {
        found.unit = fresh;
    } else if id == found.callbacks[0] {
        // The same goes on: what is read is told in several callbacks.
        return;
    } else {
        found.unit = owner(thread, id);
    }
    found.callbacks = [id; 4];
}

/// Notes for what bytes are moved over a connection.
#[inline(always)]
pub fn note(connection: &mut Connection, way: u8, pid_tgid: u64) {
    let slot = (way & 1) as usize;
    let unit = if way == INGRESS {
        came(connection, pid_tgid)
    } else {
        current(pid_tgid)
    };
    connection.unit[slot] = unit;
}

/// Bytes came. What goes on coming is the same.
#[inline(always)]
fn came(connection: &Connection, pid_tgid: u64) -> u64 {
    let Some(found) = event_loop(pid_tgid) else {
        return NOBODY;
    };
    let before = connection.unit[INGRESS as usize];
    let unit = if connection.way == INGRESS && before & KIND == RESOURCE && before != NOBODY {
        before
    } else {
        // SAFETY: no arguments.
        let time = unsafe { bpf_ktime_get_ns() };
        RESOURCE | (((time << 3) | (pid_tgid & 7)) & !KIND)
    };
    found.fresh = unit;
    found.source = connection.id;
    unit
}

/// For what the current thread is at work.
#[inline(always)]
pub fn current(pid_tgid: u64) -> u64 {
    match work(pid_tgid) {
        0 => NOBODY,
        unit => unit,
    }
}

#[inline(always)]
fn work(pid_tgid: u64) -> u64 {
    let Some(layout) = layout(pid_tgid) else {
        return 0;
    };
    let Some(found) = LOOPS.get_ptr(pid_tgid) else {
        return 0;
    };
    // SAFETY: a map value, valid for the program's run; its thread is here.
    let found = unsafe { &*found };
    if found.environment == 0 || found.fresh != 0 || depth(layout, found.environment) == 0 {
        return 0;
    }
    let ids = ids(layout, found.environment);
    match found.cause(&ids) {
        Cause::Turn => found.unit,
        Cause::Resource(id) => owner(pid_tgid & 0xffff_ffff, id),
        Cause::Unknown => 0,
    }
}

/// The same of plaintext of a session that this connection carries, 0 where that is not known: what was read
/// came with the bytes that were read last, of which a callback may have been told before, as that they end
/// the handshake.
#[inline(always)]
pub fn plain(way: u8, carrier: u64, pid_tgid: u64) -> u64 {
    if way != INGRESS {
        return current(pid_tgid);
    }
    let Some(found) = LOOPS.get_ptr(pid_tgid) else {
        return NOBODY;
    };
    // SAFETY: a map value, valid for the program's run; its thread is here.
    let found = unsafe { &*found };
    match found.fresh {
        0 if carrier != 0 && found.began == carrier && found.unit != 0 => found.unit,
        0 => NOBODY,
        unit => unit,
    }
}
