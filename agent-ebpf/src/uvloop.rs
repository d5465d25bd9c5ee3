//! uvloop: an event loop for asyncio on libuv, which reads outside of any context and then calls back in
//! one: the server's own, the same for all of its connections.
//!
//! So a connection's reader is a unit of its own here, made when the connection is handed to its protocol:
//! `uv_tcp_getpeername` is called right before that, and by nothing else. What was read is handed over in
//! the next context that the loop enters, and until it enters another, that context stands for the
//! connection's reader. `Context_Enter` is where it does. Where the context that is entered is not the one in
//! which the connection's protocol was told of it, it stands for nobody.
//!
//! What is written is sent at once, in the writer's context. Only where the socket takes no more, the loop
//! sends it later, in no context; whoever writes meanwhile, before the loop's turn is over, adds to what the
//! next of them sends. So behind what the loop sent itself, what leaves in several pieces is nobody's, until
//! something is read: that is another turn.

use agent_ebpf::abi::{EGRESS, TEEMING_CALLBACKS};
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;

use crate::arch;
use crate::connection::Connection;
use crate::goroutine::Written;
use crate::kernel::{Pointer, read_user};
use crate::lineage;
use crate::maps::{ASKERS, TURNS};
use crate::python::{self, NOBODY};
use crate::tls::{register, wanted};
use crate::transfer::socket_of;

/// What a thread's loop does.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Turn {
    /// Serial number of the reader whose bytes were read and are about to be handed over; 0: none are.
    read: u64,
    /// The context in which they are to be.
    expected: u64,
    /// The context that was entered last.
    context: u64,
    /// Serial number of the reader that it stands for; 0: for none.
    reader: u64,
}

/// The serial number of the reader that a context stands for now, 0 for none.
#[inline(always)]
pub fn reader(context: u64, pid_tgid: u64) -> u64 {
    // SAFETY: plain numbers, written by this thread alone.
    match unsafe { TURNS.get(pid_tgid) } {
        Some(turn) if turn.context == context => turn.reader,
        _ => 0,
    }
}

/// For whom bytes are sent over the socket at an address, as in `abi::unit`; `unit`: the context that the
/// thread is in. `gathers`: in several pieces.
#[inline(always)]
pub fn sends(connection: &Connection, unit: u64, gathers: bool, socket: u64) -> u64 {
    let behind = connection.unit[EGRESS as usize] == LEFT;
    if unit != 0 {
        return if gathers && behind { NOBODY } else { unit };
    }
    match ASKERS.get_ptr(Written::socket(socket)) {
        Some(_) => LEFT,
        None => 0,
    }
}

/// The same of what is read.
#[inline(always)]
pub fn reads(connection: &mut Connection, unit: u64, socket: u64, pid_tgid: u64) -> u64 {
    if unit != 0 {
        return unit;
    }
    // SAFETY: a number, read once.
    let Some(reader) = (unsafe { ASKERS.get(Written::socket(socket)) }) else {
        return 0;
    };
    let reader = *reader;
    let sent = &mut connection.unit[EGRESS as usize];
    if *sent == LEFT {
        *sent = NOBODY;
    }
    let context = python::hands_over(reader, pid_tgid);
    if let Some(turn) = turn(pid_tgid) {
        (turn.read, turn.expected) = (reader, context);
    }
    python::named(reader)
}

/// Of what the loop sends itself.
pub const LEFT: u64 = NOBODY | 1;

/// What this thread's loop does; made where nothing is known of it.
#[inline(always)]
fn turn(pid_tgid: u64) -> Option<&'static mut Turn> {
    if TURNS.get_ptr(pid_tgid).is_none() {
        let _ = TURNS.insert(pid_tgid, Turn::default(), 0);
    }
    // SAFETY: a map value, valid for the program's run; only this thread changes it.
    unsafe { TURNS.get_ptr_mut(pid_tgid)?.as_mut() }
}

/// uvloop's Context_Enter: the loop is about to call back, in the context in rdi.
#[uprobe]
pub fn uvloop_enter(context: ProbeContext) -> u32 {
    let Some(pid_tgid) = wanted() else { return 0 };
    let Some(turn) = turn(pid_tgid) else { return 0 };
    turn.context = register(&context, arch::C[0]);
    turn.reader = if turn.context == turn.expected {
        turn.read
    } else {
        0
    };
    turn.read = 0;
    if !lineage::keeps_pace(pid_tgid | CALLBACKS, TEEMING_CALLBACKS) {
        python::forget(pid_tgid);
    }
    0
}

/// What a process does of which this is counted; no process has so high a number.
const CALLBACKS: u64 = 1 << 63;

/// libuv's uv_tcp_getpeername, of the stream in rdi: its protocol is about to be told that it is connected.
#[uprobe]
pub fn uvloop_connected(context: ProbeContext) -> u32 {
    let Some(pid_tgid) = wanted() else { return 0 };
    let stream = register(&context, arch::C[0]);
    let (kind, fd): (u32, u32) = (
        read_user(stream.wrapping_add(KIND)),
        read_user(stream.wrapping_add(FD)),
    );
    let Some((socket, _)) = socket_of(fd.into()) else {
        return 0;
    };
    let socket = Written::socket(socket.address());
    let current = python::entered(pid_tgid);
    // SAFETY: a number, read once.
    if kind != TCP || current == 0 || unsafe { ASKERS.get(socket) }.is_some() {
        return 0;
    }
    // SAFETY: no arguments.
    let reader = unsafe { bpf_ktime_get_ns() };
    let _ = ASKERS.insert(socket, reader, 0);
    python::expect(reader, current, pid_tgid);
    if let Some(turn) = turn(pid_tgid)
        && turn.context == current
    {
        turn.reader = reader;
    }
    0
}

/// Of a uv_stream_t (libuv's uv.h and uv/unix.h, the same in all of 1.x): what it is, and its descriptor.
const KIND: u64 = 0x10;
const FD: u64 = 0xb8;
/// UV_TCP.
const TCP: u32 = 12;
