//! The fall-back capture path, kernels 5.10 to 6.2: one program after every system call, which
//! looks at the number first. The saved registers still hold the arguments; the socket is found by
//! walking task → files → file → socket, so dup, fork, exec and passed descriptors need no books.
//!
//! What it cannot see: io_uring (no system call per transfer) and kernel threads. TCP's own
//! positions show what went by unseen, as a hole of known length.

use agent_ebpf::abi::{Counter, EGRESS, Field, INGRESS};
use aya_ebpf::helpers::generated::{
    bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_smp_processor_id, bpf_ktime_get_ns,
    bpf_probe_read_user,
};
use aya_ebpf::macros::{btf_tracepoint, raw_tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, RawTracePointContext};
use core::ffi::c_void;

use crate::arch::{self, Arguments, call};
use crate::connection::{self, Call, Connection, Net};
use crate::emit;
use crate::iovec::Walker;
use crate::kernel::{Pointer, Untyped, read};
use crate::maps::{SOCKETS, global};
use crate::payload;

/// After a system call, kernels with bpf_loop (5.17 and later).
#[btf_tracepoint(function = "sys_exit")]
pub fn returned(context: BtfTracePointContext) -> i32 {
    after(&context, Walker::Loop)
}

/// After a system call, older kernels.
#[btf_tracepoint(function = "sys_exit")]
pub fn returned_old(context: BtfTracePointContext) -> i32 {
    after(&context, Walker::Unrolled)
}

#[inline(always)]
fn after(context: &BtfTracePointContext, walker: Walker) -> i32 {
    let registers: *const u8 = context.arg(0);
    let result: i64 = context.arg(1);
    let mut words = [0u64; arch::WORDS];
    // SAFETY: typed registers; the verifier checks the loads.
    let number = unsafe {
        core::ptr::read_volatile(registers.add(arch::NUMBER as usize).cast::<u64>()) as u32
    };
    if !moves_bytes(number) || result < i32::MIN.into() || result > i32::MAX.into() {
        return 0;
    }
    // SAFETY: no arguments.
    let pid_tgid = unsafe { bpf_get_current_pid_tgid() };
    let tgid = (pid_tgid >> 32) as u32;
    if tgid == global!(OWN) {
        return 0;
    }
    if !connection::process_wanted(tgid) {
        emit::count(Counter::Unselected, 1);
        return 0;
    }
    for (i, word) in words.iter_mut().enumerate() {
        // SAFETY: as above.
        *word =
            unsafe { core::ptr::read_volatile(registers.add(arch::FROM as usize + 8 * i).cast()) };
    }
    let mut arguments = arch::arguments(&words);
    if arguments.compat {
        emit::count(Counter::Compat, 1);
        return 0;
    }
    let result = result as i32;
    if peeks(&arguments) {
        return 0;
    }
    each(&mut arguments, result, pid_tgid, walker);
    0
}

/// Whether a call can move bytes over a socket, by a bitmap over the numbers.
#[inline(always)]
fn moves_bytes(number: u32) -> bool {
    const fn bits(from: u32) -> u64 {
        let mut bits = 0;
        let mut i = 0;
        while i < MOVES.len() {
            if MOVES[i] >= from && MOVES[i] < from + 64 {
                bits |= 1 << (MOVES[i] - from);
            }
            i += 1;
        }
        bits
    }
    const LOW: u64 = bits(0);
    const SECOND: u64 = bits(64);
    const MIDDLE: u64 = bits(192);
    const HIGH: u64 = bits(256);
    const TOP: u64 = bits(320);
    let bits = match number >> 6 {
        0 => LOW,
        3 => MIDDLE,
        4 => HIGH,
        5 => TOP,
        // arm64's numbers: 63 is alone below, 64 to 76 are here.
        1 => SECOND,
        _ => return false,
    };
    bits >> (number & 63) & 1 != 0
}

const MOVES: [u32; 14] = [
    call::READ,
    call::WRITE,
    call::READV,
    call::WRITEV,
    call::SENDFILE,
    call::SENDTO,
    call::RECVFROM,
    call::SENDMSG,
    call::RECVMSG,
    call::SPLICE,
    call::RECVMMSG,
    call::SENDMMSG,
    call::PREADV2,
    call::PWRITEV2,
];

/// MSG_PEEK leaves the bytes where they are.
#[inline(always)]
fn peeks(arguments: &Arguments) -> bool {
    const MSG_PEEK: u64 = 2;
    let flags = match arguments.number {
        call::RECVFROM | call::RECVMMSG => arguments.value[3],
        call::RECVMSG => arguments.value[2],
        _ => 0,
    };
    flags & MSG_PEEK != 0
}

/// The transfers of one call: one, or the first [`MESSAGES`] messages of several; what more there
/// were shows as a hole with the next call. struct mmsghdr is 64 bytes, msg_len at 56.
#[inline(always)]
fn each(arguments: &mut Arguments, result: i32, pid_tgid: u64, walker: Walker) {
    let array = arguments.value[1];
    let several = match arguments.number {
        call::SENDMMSG => call::SENDMSG,
        call::RECVMMSG => call::RECVMSG,
        _ => 0,
    };
    // Once is all that the verifiers of old kernels have patience for.
    let most = if walker == Walker::Loop { MESSAGES } else { 1 };
    for i in 0..most {
        let mut length = result;
        if several != 0 && result > 0 {
            if i >= i64::from(result) {
                break;
            }
            let at = array.wrapping_add(i as u64 * 64);
            // SAFETY: the helper checks the user address and writes only `length`.
            unsafe {
                let from = at.wrapping_add(56) as *const c_void;
                bpf_probe_read_user(core::ptr::addr_of_mut!(length).cast(), 4, from)
            };
            arguments.number = several;
            arguments.value[1] = at;
        } else if i > 0 {
            break;
        }
        transfer(arguments, length, pid_tgid, walker);
    }
}

const MESSAGES: i64 = 2;

/// Which way a call moves bytes, and over which descriptor.
#[inline(always)]
fn way(arguments: &Arguments) -> u8 {
    match arguments.number {
        call::READ
        | call::READV
        | call::RECVFROM
        | call::RECVMSG
        | call::RECVMMSG
        | call::PREADV2 => INGRESS,
        _ => EGRESS,
    }
}

/// One transfer, or one message of several.
#[inline(always)]
fn transfer(arguments: &Arguments, result: i32, pid_tgid: u64, walker: Walker) {
    let mut way = way(arguments);
    let mut found = socket_of(arguments.value[0]);
    if arguments.number == call::SPLICE {
        if found.is_some() {
            way = INGRESS;
        } else {
            found = socket_of(arguments.value[2]);
        }
    }
    let Some((socket, inode)) = found else { return };
    let Some(tcp) = connection::kind_of(socket) else {
        return;
    };
    // SAFETY: no arguments.
    let time = unsafe { bpf_ktime_get_ns() };
    let Some(state) = state_of(socket, inode, tcp, time, result) else {
        return;
    };
    if !state.wanted_by((pid_tgid >> 32) as u32) {
        return;
    }
    if result <= 0 {
        if state.opened != 0 && !(result == 0 && arguments.value[2] == 0) {
            let now = socket.field(Field::SkState);
            if let Some((how, errno)) = connection::ending(result, way, now, tcp) {
                connection::end(state, how, errno, time, pid_tgid);
            }
        }
        return;
    }
    let call = Call {
        time,
        pid_tgid,
        way,
        length: result as u32,
    };
    let position = match (tcp, way) {
        (false, _) => 0,
        (true, EGRESS) => socket.field(Field::WriteSeq),
        (true, _) => socket.field(Field::CopiedSeq),
    };
    let offset = connection::advance(state, way, call.length, position);
    if state.opened == 0 {
        if !introduce(state.id, socket, tcp, call) {
            state.lost = state.lost.wrapping_add(1);
            return;
        }
        if tcp {
            connection::remember(state, socket, way);
        }
        state.opened = 1;
    }
    if way == EGRESS && tcp && walker == Walker::Loop {
        let position = socket.field(Field::CopiedSeq);
        let bytes = connection::received_unseen(state, position, pid_tgid as u32);
        if bytes > 0 {
            payload::deliver_unseen(state, call, bytes);
        }
    } else {
        state.receiver = pid_tgid as u32;
    }
    payload::deliver(state, arguments, call, offset, walker);
}

/// Inlined: with any function of its own in a program, verifiers before 6.2 track every number
/// exactly and lose patience.
#[inline(always)]
fn introduce(id: u64, socket: Untyped, tcp: bool, call: Call) -> bool {
    connection::introduce(
        id,
        socket,
        tcp.then_some(socket),
        Net::untyped(socket),
        call,
    )
}

/// The socket behind a descriptor of the current process, and its inode number.
#[inline(always)]
fn socket_of(fd: u64) -> Option<(Untyped, u32)> {
    // SAFETY: no arguments.
    let task = Untyped(unsafe { bpf_get_current_task() } as *const c_void);
    let files = Untyped(task.field::<u64>(Field::TaskFiles) as *const c_void);
    let table = Untyped(files.field::<u64>(Field::FilesFdt) as *const c_void);
    let fd = fd as u32;
    if fd >= table.field::<u32>(Field::FdtableMaxFds) {
        return None;
    }
    let slots = table.field::<u64>(Field::FdtableFd) as *const c_void;
    // SAFETY: an address only; the read checks it.
    let file = read::<u64>(unsafe { slots.byte_add(8 * fd as usize) }, 0);
    let file = Untyped(file as *const c_void);
    let inode = Untyped(file.field::<u64>(Field::FileInode) as *const c_void);
    if inode.field::<u16>(Field::InodeMode) & S_IFMT != S_IFSOCK {
        return None;
    }
    let socket = Untyped(file.field::<u64>(Field::FilePrivateData) as *const c_void);
    let sk = socket.field::<u64>(Field::SocketSk);
    (sk != 0).then_some((
        Untyped(sk as *const c_void),
        inode.field::<u64>(Field::InodeIno) as u32,
    ))
}

const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;

/// The state of a socket by its address; the inode tells whether the address is a new socket's.
#[inline(always)]
fn state_of(
    socket: Untyped,
    inode: u32,
    tcp: bool,
    time: u64,
    result: i32,
) -> Option<&'static mut Connection> {
    let key = socket.address();
    if let Some(found) = SOCKETS.get_ptr_mut(key) {
        // SAFETY: a map value, valid for the program's run.
        let found = unsafe { &mut *found };
        if found.inode == inode {
            return Some(found);
        }
    }
    if result <= 0 {
        return None;
    }
    // SAFETY: no arguments. Time and CPU name the connection: a CPU makes one a nanosecond at most.
    let id = (time << 8) | u64::from(unsafe { bpf_get_smp_processor_id() } & 0xff);
    if SOCKETS
        .insert(key, Connection::new(id, tcp, inode), 0)
        .is_err()
    {
        emit::count(Counter::NoState, 1);
        return None;
    }
    // SAFETY: as above.
    SOCKETS.get_ptr_mut(key).map(|made| unsafe { &mut *made })
}

/// A socket that this end closes or shuts down for sending.
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
pub fn state_changed_fallback(context: RawTracePointContext) -> i32 {
    let state: i32 = context.arg(2);
    if connection::closing(state) {
        over(context.arg(0), agent_ebpf::abi::end::LOCAL);
    }
    0
}

/// A TCP socket that the kernel frees.
#[raw_tracepoint(tracepoint = "tcp_destroy_sock")]
pub fn destroyed_fallback(context: RawTracePointContext) -> i32 {
    let socket: u64 = context.arg(0);
    over(socket, agent_ebpf::abi::end::GONE);
    let _ = SOCKETS.remove(socket);
    0
}

#[inline(always)]
fn over(socket: u64, how: u32) {
    if let Some(state) = SOCKETS.get_ptr_mut(socket) {
        // SAFETY: a map value, valid for the program's run.
        connection::over(unsafe { &mut *state }, how);
    }
}

/// As [`returned`], for kernels without BTF of their own: the registers are a number only.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn returned_untyped(context: RawTracePointContext) -> i32 {
    after_untyped(&context, Walker::Loop)
}

/// As [`returned_old`], likewise.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn returned_untyped_old(context: RawTracePointContext) -> i32 {
    after_untyped(&context, Walker::Unrolled)
}

#[inline(always)]
fn after_untyped(context: &RawTracePointContext, walker: Walker) -> i32 {
    let registers: *const c_void = context.arg(0);
    let result: i64 = context.arg(1);
    let number = read::<u64>(registers, arch::NUMBER) as u32;
    if !moves_bytes(number) || result < i32::MIN.into() || result > i32::MAX.into() {
        return 0;
    }
    // SAFETY: no arguments.
    let pid_tgid = unsafe { bpf_get_current_pid_tgid() };
    let tgid = (pid_tgid >> 32) as u32;
    if tgid == global!(OWN) {
        return 0;
    }
    if !connection::process_wanted(tgid) {
        emit::count(Counter::Unselected, 1);
        return 0;
    }
    let mut arguments = arch::arguments(&read::<Words>(registers, arch::FROM).0);
    if arguments.compat {
        emit::count(Counter::Compat, 1);
        return 0;
    }
    if !peeks(&arguments) {
        each(&mut arguments, result as i32, pid_tgid, walker);
    }
    0
}

/// The saved registers that are read, at once.
#[derive(Clone, Copy)]
struct Words([u64; arch::WORDS]);

impl Default for Words {
    #[inline(always)]
    fn default() -> Self {
        Self([0; arch::WORDS])
    }
}
