//! Python's pools of threads (concurrent.futures.ThreadPoolExecutor): whose work a thread of one does.
//!
//! What is given to a pool is put into its queue with a future, and no context goes with it. The future is
//! a unit of execution, started by who makes it: `submit`, within which `Future()` makes a condition, and that
//! a lock, by a function that CPython exports. A thread of a pool is found to work for it by its frames: that
//! of the pool's `_worker`, and in it the `run` of the item of work, the first attribute of which is the future.
//! Functions are told by their names. Those of others may have the same: a future that nobody was seen to make is
//! nobody's.
//!
//! A thread that reads a request in an item of work serves by itself: then the item is no unit.

use agent_ebpf::abi::unit::ASKED;
use agent_ebpf::abi::{AF_UNIX, Contexts, Field, TEEMING_LOCKS};
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;

use crate::connection::Connection;
use crate::kernel::{Pointer, Untyped, read_user};
use crate::lineage::{self, Member};
use crate::maps::{CONTEXTS, FUTURES};
use crate::python;
use crate::serving::who;
use crate::tls::wanted;

/// The unit for which a thread sends that is in no context, as in `abi::unit`; 0 where there is none.
#[inline(always)]
pub fn unit(pid_tgid: u64) -> u64 {
    submits(pid_tgid).map_or(0, |layout| works_for(layout, pid_tgid))
}

/// The same over the socket at an address. What it accepted is a server's, and its answers are its thread's.
#[inline(always)]
pub fn sends(connection: &mut Connection, socket: u64, pid_tgid: u64) -> u64 {
    match submits(pid_tgid) {
        Some(layout) if !is_accepted(connection, socket) => works_for(layout, pid_tgid),
        _ => 0,
    }
}

/// The same of a process that gave work to a pool.
#[inline(always)]
fn works_for(layout: &Contexts, pid_tgid: u64) -> u64 {
    match found(layout, pid_tgid) {
        Some((_, serial)) => python::named(serial) | ASKED,
        None => 0,
    }
}

/// A thread that is in no context reads from the socket at an address.
#[inline(always)]
pub fn reads(connection: &mut Connection, socket: u64, pid_tgid: u64) {
    if let Some(layout) = submits(pid_tgid)
        && is_accepted(connection, socket)
        && let Some((future, _)) = found(layout, pid_tgid)
    {
        let _ = FUTURES.remove(future);
    }
}

/// What is known of a process that was seen to give work to a pool.
#[inline(always)]
fn submits(pid_tgid: u64) -> Option<&'static Contexts> {
    // SAFETY: written once by user space, read as plain numbers.
    let layout = unsafe { CONTEXTS.get((pid_tgid >> 32) as u32) }?;
    FUTURES.get_ptr(Member::new(ANY, pid_tgid))?;
    Some(layout)
}

/// In [`FUTURES`]: that there was one.
const ANY: u64 = 0;

/// The future that this thread works for, and its serial number.
#[inline(always)]
fn found(layout: &Contexts, pid_tgid: u64) -> Option<(Member, u64)> {
    let future = Member::new(python_future(pid_tgid), pid_tgid);
    // SAFETY: a number, read once.
    let serial = *unsafe { FUTURES.get(future) }?;
    (future.unit() != ANY && serial > layout.since).then_some((future, serial))
}

/// The future of the item of work that this thread runs, 0 for none. A function of its own also to the
/// verifier, which walks through it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn python_future(pid_tgid: u64) -> u64 {
    // SAFETY: written once by user space, read as plain numbers.
    let Some(layout) = (unsafe { CONTEXTS.get((pid_tgid >> 32) as u32) }) else {
        return 0;
    };
    let state = python::state(layout);
    if state == 0 {
        return 0;
    }
    let mut frame = python::innermost(state, layout);
    let mut item = 0u64;
    for _ in 0..DEPTH {
        let name = name(frame, layout);
        if is(name, WORKER) && item != 0 {
            return future(item, layout);
        }
        item = if is(name, RUN) { frame } else { 0 };
        frame = read_user(frame.wrapping_add(layout.previous.into()));
        if frame == 0 {
            break;
        }
    }
    0
}

/// Most frames that are looked through.
const DEPTH: usize = 64;

/// The future of the item that a frame runs.
#[inline(always)]
fn future(frame: u64, layout: &Contexts) -> u64 {
    let mut at: u64 = read_user(frame.wrapping_add(layout.locals.into()));
    for hop in layout.hops {
        if hop != Contexts::THERE {
            at = read_user(at.wrapping_add(hop as i64 as u64));
        }
    }
    at
}

/// What the name begins with of the function that a frame is of, if it is in ASCII.
#[inline(always)]
fn name(frame: u64, layout: &Contexts) -> u64 {
    let code: u64 = read_user(frame.wrapping_add(layout.code.into()));
    let name: u64 = read_user(code.wrapping_add(layout.name.into()));
    read_user(name.wrapping_add(layout.text.into()))
}

/// Whether that is a name; strings end with a 0.
#[inline(always)]
const fn is(name: u64, [text, mask]: [u64; 2]) -> bool {
    name & mask == text
}

/// For [`is`].
const fn named(text: [u8; 8], length: u32) -> [u64; 2] {
    [u64::from_le_bytes(text), u64::MAX >> (64 - 8 * length)]
}

const RUN: [u64; 2] = named(*b"run\0\0\0\0\0", 4);
const WORKER: [u64; 2] = named(*b"_worker\0", 8);
const RLOCK: [u64; 2] = named(*b"RLock\0\0\0", 6);
const INIT: [u64; 2] = named(*b"__init__", 8);
const SUBMIT: [u64; 2] = named(*b"submit\0\0", 7);

/// CPython's PyThread_allocate_lock: threading.RLock() may be called for a future's condition.
#[uprobe]
pub fn python_lock(_: ProbeContext) -> u32 {
    let Some(pid_tgid) = wanted() else { return 0 };
    // SAFETY: written once by user space, read as plain numbers.
    let Some(layout) = (unsafe { CONTEXTS.get((pid_tgid >> 32) as u32) }) else {
        return 0;
    };
    if !lineage::keeps_pace(pid_tgid | LOCKS, TEEMING_LOCKS) {
        python::forget(pid_tgid);
        return 0;
    }
    let state = python::state(layout);
    if state == 0 || layout.locals == 0 {
        return 0;
    }
    let frame = python::innermost(state, layout);
    if is(name(frame, layout), RLOCK) {
        makes(frame, state, layout, pid_tgid);
    }
    0
}

/// What a process does of which this is counted; no process has so high a number.
const LOCKS: u64 = 1 << 62;

/// A lock is made in the frame; perhaps within `submit`, `Future()` and `Condition()`.
#[inline(always)]
fn makes(mut frame: u64, state: u64, layout: &Contexts, pid_tgid: u64) {
    let (mut made, mut submits) = (0u64, false);
    for _ in 0..WITHIN {
        frame = read_user(frame.wrapping_add(layout.previous.into()));
        let name = name(frame, layout);
        if is(name, INIT) {
            made = read_user(frame.wrapping_add(layout.locals.into()));
        }
        submits = is(name, SUBMIT);
        if submits {
            break;
        }
    }
    if made == 0 || !submits {
        return;
    }
    let parent = match python::parent(state, layout, pid_tgid) {
        0 => who(unit(pid_tgid) & !ASKED, pid_tgid),
        parent => parent,
    };
    // SAFETY: no arguments.
    let serial = unsafe { bpf_ktime_get_ns() };
    let _ = FUTURES.insert(Member::new(made, pid_tgid), serial, 0);
    let _ = FUTURES.insert(Member::new(ANY, pid_tgid), serial, 0);
    let site = python::site(frame, layout);
    lineage::started(python::named(serial), parent, site, pid_tgid);
}

/// Frames between: of two constructors, and those that the interpreter pushes for itself from 3.12 on.
const WITHIN: usize = 7;

/// Whether a connection was accepted. The SYN that connected counts in what was acknowledged, the one that
/// accepted does not: user space tells by the same (agent/src/event/decode.rs).
#[inline(always)]
fn is_accepted(connection: &mut Connection, socket: u64) -> bool {
    if connection.accepted == UNKNOWN {
        let socket = Untyped(socket as *const _);
        connection.accepted = match connection.tcp {
            0 if socket.field::<u16>(Field::SkFamily) != AF_UNIX => NO,
            0 => match socket.field::<u64>(Field::UnixAddress) {
                0 => NO,
                _ => YES,
            },
            _ => by_numbers(socket),
        };
    }
    connection.accepted == YES
}

/// From the numbers of what was sent that were no payload.
#[inline(always)]
fn by_numbers(tcp: Untyped) -> u8 {
    let acknowledged: u64 = tcp.field(Field::BytesAcked);
    let [next, first]: [u32; 2] = [tcp.field(Field::SndNxt), tcp.field(Field::SndUna)];
    let sent: u64 = tcp.field(Field::BytesSent);
    let again: u64 = tcp.field::<u32>(Field::BytesRetrans).into();
    let all = acknowledged.wrapping_add(next.wrapping_sub(first).into());
    match all.wrapping_sub(sent.wrapping_sub(again)) {
        0 => YES,
        1 => NO,
        // An acknowledgement came in between.
        _ => UNKNOWN,
    }
}

/// [`Connection::accepted`].
const UNKNOWN: u8 = 0;
const NO: u8 = 1;
const YES: u8 = 2;
