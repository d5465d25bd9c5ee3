//! The primary capture path, kernels 6.3 and later: the two tracepoints that fire after each
//! completed send and receive, in the caller's task, with a typed socket. They cost nothing to
//! files, pipes and other processes; state lives in the socket itself.
//!
//! Tracepoints: include/trace/events/sock.h (6.3), called from net/socket.c sock_sendmsg_nosec and
//! sock_recvmsg_nosec, which read, write, send*, recv*, sendfile, splice to a socket and io_uring use.

use agent_ebpf::abi::{Counter, EGRESS, Field, INGRESS, end};
use aya_ebpf::bindings::BPF_SK_STORAGE_GET_F_CREATE;
use aya_ebpf::helpers::generated::{
    bpf_get_current_pid_tgid, bpf_get_current_task_btf, bpf_get_socket_cookie, bpf_ktime_get_ns,
    bpf_sk_storage_get, bpf_skc_to_tcp_sock, bpf_task_pt_regs,
};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use core::ffi::c_void;

use crate::arch::{self, Arguments, NO_SYSCALL};
use crate::batch;
use crate::carry;
use crate::connection::{self, Call, Connection, Judgement};
use crate::emit;
use crate::goroutine::{self, Written};
use crate::introduction::{self, Name, Net};
use crate::iovec::Walker;
use crate::kernel::{Pointer, Typed, read};
use crate::maps::{CONNECTIONS, global};
use crate::payload::{self, Buffer};
use crate::python;
use crate::serving;
use crate::session::{self, Key};

/// After a send.
#[btf_tracepoint(function = "sock_send_length")]
pub fn sent(context: BtfTracePointContext) -> i32 {
    moved(context.arg(0), context.arg(1), EGRESS, 0);
    0
}

/// After a receive.
#[btf_tracepoint(function = "sock_recv_length")]
pub fn received(context: BtfTracePointContext) -> i32 {
    let flags: i32 = context.arg(2);
    if flags & ASIDE == 0 {
        moved(context.arg(0), context.arg(1), INGRESS, flags);
        if carry::is_on()
            && let Some(state) = known(context.arg(0))
        {
            serving::serves(state);
        }
    }
    0
}

/// MSG_OOB, MSG_PEEK, MSG_ERRQUEUE: what these give is not the stream's next bytes.
pub const ASIDE: i32 = 0x1 | 0x2 | 0x2000;
pub const MSG_TRUNC: i32 = 0x20;

#[inline(always)]
fn moved(socket: *mut c_void, result: i32, way: u8, flags: i32) {
    // SAFETY: no arguments.
    let pid_tgid = unsafe { bpf_get_current_pid_tgid() };
    let tgid = (pid_tgid >> 32) as u32;
    if tgid == global!(OWN) {
        return;
    }
    let Some(state) = state_of(socket, tgid, result) else {
        return;
    };
    let wanted = state.wanted_by(tgid);
    if !wanted && state.judgement != Judgement::Muted {
        return;
    }
    // SAFETY: no arguments.
    let time = unsafe { bpf_ktime_get_ns() };
    if result <= 0 {
        session::tried(state);
        return ended(state, Typed(socket), result, way, time, pid_tgid);
    }
    if !wanted && state.habits == 0 {
        return;
    }
    // SAFETY: the helper checks the socket and gives null for anything but TCP.
    let tcp = Typed(unsafe { bpf_skc_to_tcp_sock(socket) }.cast_const().cast());
    let position = position(tcp, way);
    // Of ciphertext no buffer is read.
    let lost = state.encrypted != 0 || !tcp.0.is_null() && flags & MSG_TRUNC != 0;
    let Some(scratch) = payload::scratch(way.into()) else {
        return;
    };
    let moved = &mut scratch.moved;
    moved.asked = arguments(Typed(socket), lost);
    moved.socket = socket as u64;
    moved.call = Call {
        time,
        pid_tgid,
        way,
        length: result as u32,
    };
    batch::pick(state, &mut moved.asked, &moved.call);
    socket_unit(state, way.into());
    if state.habits != 0 && socket_session(state, way.into()) != 0 {
        introduce_session(scratch.moved.session, socket, tcp.0, way);
    }
    if !state.is_told(wanted, way) {
        return;
    }
    let call = scratch.moved.call;
    if state.opened == 0 {
        if way == INGRESS && !tcp.0.is_null() {
            socket_first_read(state.habits.into(), tcp.field(Field::LastSent), pid_tgid);
        }
        if !introduce(Name::own(state.id), socket, tcp.0, way) {
            state.lost = state.lost.wrapping_add(1);
            return;
        }
        let tcp = (!tcp.0.is_null()).then_some(tcp);
        state.begin(tcp, way, call.length, position);
    }
    let offset = connection::advance(state, way, call.length, position);
    if way == EGRESS && !tcp.0.is_null() {
        opposite(state, tcp, call);
    }
    state.mover[(way & 1) as usize] = pid_tgid as u32;
    let buffer = Buffer::of(&scratch.moved.asked, way);
    payload::deliver(state, &buffer, call, offset, Walker::Loop, true);
}

/// Tells of what was received unseen: every send is seen here, a splice from the socket to a pipe is not.
#[inline(always)]
fn opposite(state: &mut Connection, tcp: Typed, call: Call) {
    let position = connection::received(tcp);
    let bytes = connection::unseen(state, INGRESS, position, call.pid_tgid as u32);
    if bytes > 0 {
        payload::deliver_unseen(state, call, INGRESS, bytes);
    }
}

#[inline(always)]
fn introduce_session(key: Key, socket: *const c_void, tcp: *const c_void, way: u8) {
    // Another thread may have begun it anew meanwhile.
    if let Some(session) = session::known(key).filter(|session| session.carrier != 0)
        && !introduce(session.name(), socket, tcp, way)
    {
        session::untold(session);
    }
}

// Functions of their own also to the verifier, which walks through them once and not for each way to them. What
// was moved is in the scratch: it is too much for their arguments, and they share 512 bytes of stack.

/// Notes which unit moved what was just moved this way.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn socket_unit(connection: *mut Connection, way: u64) -> u64 {
    // SAFETY: null or valid, which the verifier knows.
    if let Some(connection) = unsafe { connection.as_mut() }
        && let Some(scratch) = payload::scratch(way as u32)
    {
        let moved = &scratch.moved;
        goroutine::note(connection, &moved.asked, moved.socket, &moved.call);
    }
    0
}

/// Finds the TLS session that it is of; 1 where one is to be introduced.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn socket_session(connection: *mut Connection, way: u64) -> u64 {
    // SAFETY: null or valid, which the verifier knows.
    if let Some(connection) = unsafe { connection.as_mut() }
        && let Some(scratch) = payload::scratch(way as u32)
    {
        let moved = &mut scratch.moved;
        let by = moved.call.pid_tgid;
        if let Some((key, _)) = session::bind(connection, &moved.asked, by, way as u8) {
            moved.session = key;
            return 1;
        }
    }
    0
}

/// This thread reads first from a connection that sent nothing since then, see `python`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn socket_first_read(habits: u64, last_sent: u32, pid_tgid: u64) -> u64 {
    python::reads(habits as u8, last_sent, pid_tgid);
    0
}

/// How far TCP is; 0 for what is not TCP.
#[inline(always)]
fn position(tcp: Typed, way: u8) -> u32 {
    if tcp.0.is_null() {
        0
    } else if way == EGRESS {
        tcp.field(Field::WriteSeq)
    } else {
        connection::received(tcp)
    }
}

/// The state of a socket that was met before.
#[inline(always)]
pub fn known(socket: *mut c_void) -> Option<&'static mut Connection> {
    // SAFETY: a typed socket; the helper gives null or the storage, valid while the socket is.
    unsafe {
        let map = core::ptr::addr_of!(CONNECTIONS).cast_mut().cast::<c_void>();
        bpf_sk_storage_get(map, socket, core::ptr::null_mut(), 0)
            .cast::<Connection>()
            .as_mut()
    }
}

/// The state of a socket: kept with it, made when bytes first move and its process is wanted.
#[inline(always)]
fn state_of(socket: *mut c_void, tgid: u32, result: i32) -> Option<&'static mut Connection> {
    // SAFETY: a typed socket; the helper gives null or the storage, valid while the socket is.
    unsafe {
        let map = core::ptr::addr_of!(CONNECTIONS).cast_mut().cast::<c_void>();
        let found = bpf_sk_storage_get(map, socket, core::ptr::null_mut(), 0).cast::<Connection>();
        if let Some(found) = found.as_mut()
            && found.id != 0
        {
            return Some(found);
        }
        if result <= 0 || !connection::judge_process(tgid).passes() {
            return None;
        }
        let tcp = connection::kind_of(Typed(socket))?;
        let blank = core::ptr::addr_of!(connection::BLANK).cast_mut().cast();
        let flags = BPF_SK_STORAGE_GET_F_CREATE.into();
        let Some(made) = bpf_sk_storage_get(map, socket, blank, flags)
            .cast::<Connection>()
            .as_mut()
        else {
            emit::count(Counter::NoState, 1);
            return None;
        };
        // Two threads that come here at once write the same.
        made.tcp = tcp.into();
        made.datagrams = connection::has_datagrams(Typed(socket)).into();
        made.id = bpf_get_socket_cookie(socket);
        Some(made)
    }
}

/// Of what was just moved this way. Not inlined: it happens once per connection and its record is large. `tcp` is null for what is
/// not TCP; no Option crosses the call, as the verifier wants every argument register written.
#[inline(never)]
fn introduce(name: Name, socket: *const c_void, tcp: *const c_void, way: u8) -> bool {
    let Some(scratch) = payload::scratch(way.into()) else {
        return false;
    };
    let call = scratch.moved.call;
    let socket = Typed(socket);
    let tcp = (!tcp.is_null()).then_some(Typed(tcp));
    introduction::introduce(name, socket, tcp, Net::typed(socket), call)
}

#[inline(always)]
fn ended(state: &mut Connection, socket: Typed, result: i32, way: u8, time: u64, pid_tgid: u64) {
    batch::forget(state, pid_tgid);
    python::refuses(state, result, way);
    if state.opened == 0 && state.session == 0 {
        return;
    }
    if let Some((how, errno)) = connection::ending(state, result, way, socket.field(Field::SkState))
    {
        connection::end(state, how, errno, time, pid_tgid);
    }
}

/// What the system call was asked that moves bytes over this socket now. Without a number where
/// its buffer is unwanted, or the bytes are not in it: kernel threads (io_uring's, NFS's) have none;
/// work done on the way out of another call (io_uring's) or inside of it (a network file system's) is
/// not the call's; TCP throws bytes away that are received with MSG_TRUNC.
#[inline(always)]
pub fn arguments(socket: Typed, unwanted: bool) -> Arguments {
    // SAFETY: the current task and its saved registers always exist; the loads are the verifier's.
    let (task, mut arguments) = unsafe {
        let task = bpf_get_current_task_btf();
        let registers = bpf_task_pt_regs(task) as *const u8;
        let mut words = [0u64; arch::WORDS];
        for (i, word) in words.iter_mut().enumerate() {
            *word = registers
                .add(arch::FROM as usize + 8 * i)
                .cast::<u64>()
                .read();
        }
        (Typed(task.cast_const().cast()), arch::arguments(&words))
    };
    let flags: u32 = task.field(Field::TaskFlags);
    if unwanted
        || flags & (PF_KTHREAD | PF_IO_WORKER) != 0
        || !arguments.running
        || !names(task, arguments.value[0] as u32, socket)
    {
        arguments.number = NO_SYSCALL;
    }
    arguments
}

/// Whether a descriptor of a task is this socket. Both lead to the same open file.
#[inline(always)]
fn names(task: Typed, fd: u32, socket: Typed) -> bool {
    let follow = |from: Typed, field| {
        let to = Typed(from.field::<u64>(field) as *const c_void);
        (!to.0.is_null()).then_some(to)
    };
    let file = follow(socket, Field::SkSocket).map(|outer| outer.field::<u64>(Field::SocketFile));
    let table = follow(task, Field::TaskFiles).and_then(|files| follow(files, Field::FilesFdt));
    let (Some(file), Some(table)) = (file, table) else {
        return false;
    };
    let slots = table.field::<u64>(Field::FdtableFd) as *const c_void;
    // SAFETY: an address only; the read checks it.
    let slot = unsafe { slots.byte_add(8 * fd as usize) };
    file != 0 && read::<u64>(slot, 0) == file
}

/// include/linux/sched.h
const PF_IO_WORKER: u32 = 0x10;
pub const PF_KTHREAD: u32 = 0x0020_0000;

/// A socket that this end closes or shuts down for sending (CLOSE, FIN_WAIT1, LAST_ACK).
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn state_changed(context: BtfTracePointContext) -> i32 {
    let state: i32 = context.arg(2);
    if connection::closing(state) {
        over(context.arg(0), end::LOCAL);
    }
    0
}

/// A TCP socket that the kernel frees.
#[btf_tracepoint(function = "tcp_destroy_sock")]
pub fn destroyed(context: BtfTracePointContext) -> i32 {
    let socket: *mut c_void = context.arg(0);
    over(socket, end::GONE);
    goroutine::forget(Written::socket(socket as u64));
    0
}

#[inline(always)]
fn over(socket: *mut c_void, how: u32) {
    if let Some(state) = known(socket) {
        if carry::is_on() {
            serving::over(state.id);
        }
        connection::over(state, how);
    }
}
