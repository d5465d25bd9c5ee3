//! Python's contexts (contextvars): each of asyncio's tasks and callbacks runs in one, which is a copy
//! of the one that made it.
//!
//! A context is a unit of execution while a thread is in it. A connection that asyncio serves has several,
//! made when it is accepted: one reads, and a task that was made then may hand what was read to others, one
//! for each request (aiohttp). So what was made after the connection was, and before its first byte was
//! read, stands for who reads it. A connection's age TCP knows in jiffies: when it last sent anything,
//! which before its first byte is when it came to be (`tcp_create_openreq_child`, net/ipv4/tcp_minisocks.c).
//!
//! Where the interpreter's memory says something else than it should, there is no unit. Addresses come
//! again, so what makes a context has a probe, and a context is known by its serial number, which is when
//! it was made; only one that is older than the probe by its address.

use agent_ebpf::abi::unit::{ASKED, CONTEXT, KIND, VIRTUAL};
use agent_ebpf::abi::{Contexts, EGRESS, Field, TEEMING_CONTEXTS, habit};
use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_jiffies64, bpf_ktime_get_ns};
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;

use crate::arch::{self, Arguments};
use crate::connection::{Call, Connection};
use crate::futures;
use crate::goroutine;
use crate::iovec::iovec;
use crate::kernel::{Pointer, Untyped, read_user};
use crate::lineage::{self, Member};
use crate::maps::{CONTEXTS, FAMILIES, MADE};
use crate::payload::Buffer;
use crate::tls::{register, wanted};
use crate::uvloop;

/// How a context came to be: it first, then those above it, the nearest first; 0 behind the last.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Made {
    /// CLOCK_MONOTONIC, nanoseconds.
    serial: [u64; ABOVE],
    /// The same in jiffies, their low halves.
    jiffies: [u32; ABOVE],
}

/// More than lie between a connection's reader and what was made when it was accepted.
const ABOVE: usize = 6;

/// A context by when it was made, and its process.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Serial {
    time: u64,
    tgid: u32,
    pad: u32,
}

/// What belongs to a connection.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Family {
    /// The context that reads it, as in `abi::unit`.
    reader: u64,
    /// When it first did, nanoseconds.
    time: u64,
    /// Address of the context in which it hands over what it read, where it is none itself; else 0.
    context: u64,
}

impl Serial {
    #[inline(always)]
    const fn new(time: u64, pid_tgid: u64) -> Self {
        Self {
            time,
            tgid: (pid_tgid >> 32) as u32,
            pad: 0,
        }
    }
}

/// Notes in which context plaintext is moved that way.
#[inline(always)]
pub fn note(connection: &mut Connection, way: u8, pid_tgid: u64) {
    let mut unit = entered_as(pid_tgid);
    if unit == 0 && way == EGRESS {
        unit = futures::unit(pid_tgid);
    }
    goroutine::moves(connection, (way & 1) as usize, unit, pid_tgid);
}

/// For whom a call moves bytes over the socket at an address, as in `abi::unit`. What is sent behind a call
/// that did not send all it was given is nobody's: the event loop sends the rest, and with it what others
/// have written since.
#[inline(always)]
pub fn mover(connection: &mut Connection, arguments: &Arguments, socket: u64, call: &Call) -> u64 {
    let unit = entered_as(call.pid_tgid);
    if call.way != EGRESS {
        let unit = uvloop::reads(connection, unit, socket, call.pid_tgid);
        if unit == 0 {
            futures::reads(connection, socket, call.pid_tgid);
        }
        return unit;
    }
    let buffer = Buffer::of(arguments, EGRESS);
    let unit = uvloop::sends(connection, unit, buffer.iovecs > 1, socket);
    let clogged = connection.clogged != 0;
    let whole = match buffer.iovecs {
        0 => arguments.value[2],
        _ => length(&buffer),
    };
    connection.clogged = u8::from(buffer.is_there() && u64::from(call.length) < whole);
    if clogged && unit & KIND == CONTEXT {
        return NOBODY;
    }
    match unit {
        0 => futures::sends(connection, socket, call.pid_tgid),
        unit => unit,
    }
}

/// In `abi::unit`: of what belongs to none.
pub const NOBODY: u64 = VIRTUAL;

/// Bytes of a call's pieces; of too many, more than there can be.
#[inline(always)]
fn length(buffer: &Buffer) -> u64 {
    let mut all = 0u64;
    for n in 0..PIECES {
        if n >= buffer.iovecs {
            return all;
        }
        all = all.wrapping_add(iovec(buffer.address, n).map_or(0, |[_, length]| length));
    }
    if buffer.iovecs > PIECES {
        u64::MAX
    } else {
        all
    }
}

/// More than programs write at once.
const PIECES: u64 = 8;

/// A call was to send bytes, and the socket took none.
#[inline(always)]
pub fn refuses(connection: &mut Connection, result: i32, way: u8) {
    if way == EGRESS && result == EAGAIN && u32::from(connection.habits) & habit::CONTEXTS != 0 {
        connection.clogged = 1;
    }
}

/// include/uapi/asm-generic/errno-base.h
const EAGAIN: i32 = -11;

/// What this thread works for, as in `abi::unit`: the context that it is in, or an item of a pool's work; 0
/// where there is none.
#[inline(always)]
pub fn unit(pid_tgid: u64) -> u64 {
    match entered_as(pid_tgid) {
        0 => futures::unit(pid_tgid),
        unit => unit,
    }
}

/// The context that this thread is in, as in `abi::unit`, or the reader that it stands for; 0 where there
/// is none. It asks for what it sends: whoever writes for others is of a family of its own.
#[inline(always)]
fn entered_as(pid_tgid: u64) -> u64 {
    // SAFETY: written once by user space, read as plain numbers.
    let Some(layout) = (unsafe { CONTEXTS.get((pid_tgid >> 32) as u32) }) else {
        return 0;
    };
    match current(state(layout), layout) {
        0 => 0,
        address => known_as(address, layout, pid_tgid).0 | ASKED,
    }
}

/// The address of the context that this thread is in, 0 where there is none.
#[inline(always)]
pub fn entered(pid_tgid: u64) -> u64 {
    // SAFETY: as above.
    let layout = unsafe { CONTEXTS.get((pid_tgid >> 32) as u32) };
    layout.map_or(0, |layout| current(state(layout), layout))
}

/// The thread's state in the interpreter, 0 where it has none: in the first block of what pthread keeps of
/// keys (`specific_1stblock`, nptl/descr.h), if there is a pointer to a state that says it is this
/// thread's.
#[inline(always)]
pub fn state(layout: &Contexts) -> u64 {
    // SAFETY: no arguments.
    let task = Untyped(unsafe { bpf_get_current_task() } as *const _);
    let area: u64 = task.field(Field::ThreadArea);
    let key: u32 = read_user(layout.key);
    if key >= KEYS {
        return 0;
    }
    let slot = area.wrapping_add(SLOTS + u64::from(key) * 16 + 8);
    let state: u64 = read_user(slot);
    let thread: u64 = read_user(state.wrapping_add(layout.thread.into()));
    if area == 0 || thread != area {
        return 0;
    }
    state
}

/// Of those, and where they begin in a thread's control block: a number of the key's use, then the value.
const KEYS: u32 = 32;
const SLOTS: u64 = 0x310;

/// The context of a thread's state, if it was entered.
#[inline(always)]
fn current(state: u64, layout: &Contexts) -> u64 {
    if state == 0 {
        return 0;
    }
    let context: u64 = read_user(state.wrapping_add(layout.context.into()));
    let entered: u32 = read_user(context.wrapping_add(layout.entered.into()));
    if context == 0 || entered != 1 {
        return 0;
    }
    context
}

/// A context as in `abi::unit`, by its serial number.
#[inline(always)]
pub const fn named(serial: u64) -> u64 {
    CONTEXT | (serial & !(KIND | ASKED | BY_ADDRESS))
}

/// Of a context that is named by its address.
const BY_ADDRESS: u64 = 1 << 58;

/// How the context at an address came to be.
#[inline(always)]
fn made(address: u64, layout: &Contexts, pid_tgid: u64) -> Option<&'static Made> {
    // SAFETY: plain numbers; who changes them meanwhile makes another context at this address.
    let made = unsafe { MADE.get(Member::new(address, pid_tgid)) };
    made.filter(|made| made.serial[0] > layout.since)
}

/// The context at an address as in `abi::unit`; the reader of the connection that it was made for, and
/// true, if it was.
#[inline(always)]
fn known_as(address: u64, layout: &Contexts, pid_tgid: u64) -> (u64, bool) {
    let reader = uvloop::reader(address, pid_tgid);
    if reader != 0 {
        return (named(reader), true);
    }
    let Some(made) = made(address, layout, pid_tgid) else {
        return (named(address) | BY_ADDRESS, false);
    };
    let unit = named(made.serial[0]);
    for serial in made.serial {
        // SAFETY: as above.
        if let Some(family) = unsafe { FAMILIES.get(Serial::new(serial, pid_tgid)) } {
            return match made.serial[0] < family.time {
                true => (family.reader, true),
                false => (unit, false),
            };
        }
    }
    (unit, false)
}

/// The first bytes of a connection are read that came to be then, in jiffies: what was made since above
/// the context that reads them was made for it.
#[inline(always)]
pub fn reads(habits: u8, since: u32, pid_tgid: u64) {
    if u32::from(habits) & habit::CONTEXTS == 0 {
        return;
    }
    // SAFETY: written once by user space, read as plain numbers.
    let Some(layout) = (unsafe { CONTEXTS.get((pid_tgid >> 32) as u32) }) else {
        return;
    };
    let reader = current(state(layout), layout);
    let Some(made) = made(reader, layout, pid_tgid) else {
        return;
    };
    let mut first = 0;
    for (serial, jiffies) in made.serial.into_iter().zip(made.jiffies) {
        if serial == 0 || (jiffies.wrapping_sub(since) as i32) < 0 {
            break;
        }
        first = serial;
    }
    if first == 0 {
        return;
    }
    // SAFETY: no arguments.
    let time = unsafe { bpf_ktime_get_ns() };
    let family = Family {
        reader: named(made.serial[0]),
        time,
        context: 0,
    };
    let _ = FAMILIES.insert(Serial::new(first, pid_tgid), family, 0);
}

/// The first plaintext is read of a connection that was accepted: what its reader made since its first bytes,
/// as the handshake ended, was made for it as well.
#[inline(always)]
pub fn reads_plaintext(pid_tgid: u64) {
    // SAFETY: written once by user space, read as plain numbers.
    let Some(layout) = (unsafe { CONTEXTS.get((pid_tgid >> 32) as u32) }) else {
        return;
    };
    let context = current(state(layout), layout);
    let mut serials = [uvloop::reader(context, pid_tgid), 0, 0, 0, 0, 0];
    if serials[0] == 0
        && let Some(made) = made(context, layout, pid_tgid)
    {
        serials = made.serial;
    }
    let reader = named(serials[0]);
    for serial in serials {
        let family = FAMILIES.get_ptr_mut(Serial::new(serial, pid_tgid));
        // SAFETY: a map value, valid for the program's run.
        if let Some(family) = family.map(|family| unsafe { &mut *family })
            && family.reader == reader
        {
            // SAFETY: no arguments.
            family.time = unsafe { bpf_ktime_get_ns() };
            return;
        }
    }
}

/// A connection has a reader that is no context, of that serial number, which hands over in one: what it
/// makes before it first reads is made for the connection.
#[inline(always)]
pub fn expect(serial: u64, context: u64, pid_tgid: u64) {
    let family = Family {
        reader: named(serial),
        time: NOT_YET,
        context,
    };
    let _ = FAMILIES.insert(Serial::new(serial, pid_tgid), family, 0);
}

/// That reader reads; the context in which it hands over, 0 where that is not known any more.
#[inline(always)]
pub fn hands_over(serial: u64, pid_tgid: u64) -> u64 {
    let Some(family) = FAMILIES.get_ptr_mut(Serial::new(serial, pid_tgid)) else {
        return 0;
    };
    // SAFETY: a map value, valid for the program's run.
    let family = unsafe { &mut *family };
    if family.time == NOT_YET {
        // SAFETY: no arguments.
        family.time = unsafe { bpf_ktime_get_ns() };
    }
    family.context
}

/// [`Family::time`] before that.
const NOT_YET: u64 = u64::MAX;

/// This process's contexts are followed no more.
#[inline(always)]
pub fn forget(pid_tgid: u64) {
    let _ = CONTEXTS.remove((pid_tgid >> 32) as u32);
}

/// A context was made, by the current one; it is in rax.
#[uprobe]
pub fn python_context(context: ProbeContext) -> u32 {
    is_made(register(&context, arch::RESULT))
}

/// The same, in rbx.
#[uprobe]
pub fn python_context_rbx(context: ProbeContext) -> u32 {
    is_made(register(&context, arch::KEPT[0]))
}

/// The same, in rbp.
#[uprobe]
pub fn python_context_rbp(context: ProbeContext) -> u32 {
    is_made(register(&context, arch::KEPT[1]))
}

/// The same, in r12.
#[uprobe]
pub fn python_context_r12(context: ProbeContext) -> u32 {
    is_made(register(&context, arch::KEPT[2]))
}

/// The same, in r13.
#[uprobe]
pub fn python_context_r13(context: ProbeContext) -> u32 {
    is_made(register(&context, arch::KEPT[3]))
}

/// 0 where it was not, after all.
#[inline(always)]
fn is_made(address: u64) -> u32 {
    let Some(pid_tgid) = wanted() else { return 0 };
    // SAFETY: written once by user space, read as plain numbers.
    let Some(layout) = (unsafe { CONTEXTS.get((pid_tgid >> 32) as u32) }) else {
        return 0;
    };
    if address == 0 {
        return 0;
    }
    if lineage::keeps_pace(pid_tgid, TEEMING_CONTEXTS) {
        make(address, state(layout), layout, pid_tgid);
    } else {
        // What is not seen to be made would pass for what was there before.
        forget(pid_tgid);
    }
    0
}

#[inline(always)]
fn make(address: u64, state: u64, layout: &Contexts, pid_tgid: u64) {
    // SAFETY: no arguments.
    let (time, jiffies) = unsafe { (bpf_ktime_get_ns(), bpf_jiffies64() as u32) };
    let mut made = Made {
        serial: [0; ABOVE],
        jiffies: [0; ABOVE],
    };
    made.serial[0] = time;
    made.jiffies[0] = jiffies;
    let current = current(state, layout);
    let reader = uvloop::reader(current, pid_tgid);
    if reader != 0 {
        made.serial[1] = reader;
    } else if current != 0
        && let Some(above) = self::made(current, layout, pid_tgid)
    {
        for n in 1..ABOVE {
            made.serial[n] = above.serial[n - 1];
            made.jiffies[n] = above.jiffies[n - 1];
        }
    }
    let _ = MADE.insert(Member::new(address, pid_tgid), made, 0);
    let (parent, reads) = match current {
        0 => (0, false),
        current => known_as(current, layout, pid_tgid),
    };
    // Whom a connection's reader starts, it starts for one request.
    let site = match reads {
        true => 0,
        false => site(innermost(state, layout), layout),
    };
    lineage::started(named(time), parent, site, pid_tgid);
}

/// The context of a thread's state as in `abi::unit`, where it starts something; 0 for none.
#[inline(always)]
pub fn parent(state: u64, layout: &Contexts, pid_tgid: u64) -> u64 {
    match current(state, layout) {
        0 => 0,
        current => known_as(current, layout, pid_tgid).0,
    }
}

/// The frame that a thread is in.
#[inline(always)]
pub fn innermost(state: u64, layout: &Contexts) -> u64 {
    let frame: u64 = read_user(state.wrapping_add(layout.frame.into()));
    match layout.inner {
        Contexts::DIRECT => frame,
        inner => read_user(frame.wrapping_add(inner.into())),
    }
}

/// Where in the program a frame is: a sum of the codes of it and of those that it was called by.
#[inline(always)]
pub fn site(mut frame: u64, layout: &Contexts) -> u64 {
    let mut sum = 1u64;
    for _ in 0..FRAMES {
        let code: u64 = read_user(frame.wrapping_add(layout.code.into()));
        sum = sum.rotate_left(5).wrapping_add(code);
        frame = read_user(frame.wrapping_add(layout.previous.into()));
    }
    sum
}

/// `create_task` of asyncio and of its loop are the innermost two.
const FRAMES: usize = 4;

const _: () = assert!(habit::CONTEXTS < 256);
