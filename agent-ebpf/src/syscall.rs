//! The fall-back capture path, kernels 5.10 to 6.2: one program after every system call, which
//! looks at the number first. The saved registers still hold the arguments; the socket is found by
//! walking task → files → file → socket, so dup, fork, exec and passed descriptors need no books.
//!
//! What it cannot see: io_uring (no system call per transfer) and kernel threads. TCP's own
//! positions show what went by unseen, as a hole of known length.

use agent_ebpf::abi::{Counter, EGRESS, Field, INGRESS};
use aya_ebpf::helpers::generated::{
    bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_smp_processor_id, bpf_ktime_get_ns,
    bpf_loop,
};
use aya_ebpf::macros::{btf_tracepoint, raw_tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, RawTracePointContext};
use core::ffi::c_void;

use crate::arch::{self, Arguments, NO_SYSCALL, call};
use crate::batch;
use crate::connection::{self, Call, Connection, Net};
use crate::emit;
use crate::iovec::Walker;
use crate::kernel::{Pointer, Untyped, read};
use crate::maps::{SOCKETS, TRANSFERS, global};
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
    if !connection::judge_process(tgid).passes() {
        return 0;
    }
    for (i, word) in words.iter_mut().enumerate() {
        // SAFETY: as above.
        *word =
            unsafe { core::ptr::read_volatile(registers.add(arch::FROM as usize + 8 * i).cast()) };
    }
    moved(arch::arguments(&words), result, pid_tgid, walker);
    0
}

/// A call that may have moved bytes over sockets.
#[inline(always)]
fn moved(arguments: Arguments, result: i64, pid_tgid: u64, walker: Walker) {
    if arguments.compat {
        emit::count(Counter::Compat, 1);
        return;
    }
    let flags = receive_flags(&arguments);
    if flags & ASIDE != 0 {
        return;
    }
    let mut transfers = Transfers {
        arguments,
        pid_tgid,
        array: 0,
        left: result,
        discards: flags & MSG_TRUNC != 0,
    };
    if walker == Walker::Unrolled {
        return first(&mut transfers);
    }
    let Some(slot) = TRANSFERS.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: this CPU's slot, valid for the program's run; it does not nest in itself.
    let slot = unsafe { &mut *slot };
    *slot = transfers;
    each(slot);
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

/// Flags of a receive.
#[inline(always)]
fn receive_flags(arguments: &Arguments) -> u64 {
    match arguments.number {
        call::RECVFROM | call::RECVMMSG => arguments.value[3],
        call::RECVMSG => arguments.value[2],
        _ => 0,
    }
}

/// See `socket::ASIDE`.
const ASIDE: u64 = 0x1 | 0x2 | 0x2000;
/// TCP throws the bytes away.
const MSG_TRUNC: u64 = 0x20;

/// What of a call is being looked at. Kept in a map, as a walk over iovecs is.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Transfers {
    arguments: Arguments,
    pid_tgid: u64,
    /// Array of a call for several messages, else 0.
    array: u64,
    /// Bytes of the call's messages that were not looked at yet; the result of any other call.
    left: i64,
    /// Whether TCP throws away what is received.
    discards: bool,
}

/// The transfers of one call: one, or a message each.
/// The transfers of one call: one, or a message each.
#[inline(always)]
fn each(call: &mut Transfers) {
    let mut count = 1;
    let several = batched(call);
    if several {
        count = call.left as u32;
        call.left = 0;
    }
    let mut context = core::ptr::from_mut(call);
    let context = core::ptr::addr_of_mut!(context).cast();
    // SAFETY: the callbacks take what they are given here; the verifier checks their bodies.
    unsafe {
        if several {
            bpf_loop(count, sum as *mut c_void, context, 0);
        }
        bpf_loop(count, next as *mut c_void, context, 0);
    }
}

/// The first transfer of a call: all that the verifiers of kernels without bpf_loop have patience
/// for. What came after it shows as a hole with the next call.
#[inline(always)]
fn first(call: &mut Transfers) {
    if batched(call) {
        call.left = batch::moved(call.array, 0).into();
    }
    one(call, 0, Walker::Unrolled);
}

/// Makes a call for several messages one for a message; whether it was.
#[inline(always)]
fn batched(call: &mut Transfers) -> bool {
    let single = match call.arguments.number {
        call::SENDMMSG => call::SENDMSG,
        call::RECVMMSG => call::RECVMSG,
        _ => return false,
    };
    if call.left > 0 {
        call.arguments.number = single;
        call.array = call.arguments.value[1];
    }
    call.left > 0
}

/// bpf_loop's callback: adds a message to the bytes of its call.
extern "C" fn sum(index: u32, context: *mut c_void) -> i64 {
    // SAFETY: what `each` passed; it outlives the loop.
    let call = unsafe { &mut **context.cast::<*mut Transfers>() };
    call.left += i64::from(batch::moved(call.array, index));
    0
}

/// bpf_loop's callback: one transfer.
extern "C" fn next(index: u32, context: *mut c_void) -> i64 {
    // SAFETY: as in `sum`.
    let call = unsafe { &mut **context.cast::<*mut Transfers>() };
    one(call, index, Walker::Loop);
    0
}

#[inline(always)]
fn one(call: &mut Transfers, index: u32, walker: Walker) {
    let mut length = call.left as i32;
    if call.array != 0 {
        length = batch::moved(call.array, index) as i32;
        call.arguments.value[1] = call.array.wrapping_add(u64::from(index) * batch::SIZE);
    }
    call.left -= i64::from(length);
    transfer(call, length, walker);
}

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
fn transfer(transfers: &Transfers, result: i32, walker: Walker) {
    let mut arguments = transfers.arguments;
    let pid_tgid = transfers.pid_tgid;
    let mut way = way(&arguments);
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
    if tcp && transfers.discards {
        arguments.number = NO_SYSCALL;
    }
    let call = Call {
        time,
        pid_tgid,
        way,
        length: result as u32,
    };
    // TCP is at the end of the whole call by now. How long that was, nobody has added up on an old kernel.
    let mut at = position(socket, tcp, way).wrapping_sub(transfers.left as u32);
    let known = state.sequence[(way & 1) as usize];
    if walker == Walker::Unrolled && transfers.array != 0 && known != 0 {
        at = known.wrapping_add(call.length);
    }
    if state.opened == 0 {
        let whole = Call {
            length: call.length.wrapping_add(transfers.left as u32),
            ..call
        };
        if !introduce(state.id, socket, tcp, whole) {
            state.lost = state.lost.wrapping_add(1);
            return;
        }
        state.begin(tcp.then_some(socket), way);
    }
    let offset = connection::advance(state, socket, way, call.length, at);
    if tcp && walker == Walker::Loop {
        opposite(state, socket, call);
    }
    state.mover[(way & 1) as usize] = pid_tgid as u32;
    payload::deliver(state, &arguments, call, offset, walker, false);
}

/// Tells of what went the other way unseen.
#[inline(always)]
fn opposite(state: &mut Connection, socket: Untyped, call: Call) {
    let way = call.way ^ 1;
    let at = position(socket, true, way);
    let bytes = connection::unseen(state, socket, way, at, call.pid_tgid as u32);
    if bytes > 0 {
        payload::deliver_unseen(state, call, way, bytes);
    }
}

/// How far TCP is.
#[inline(always)]
fn position(socket: Untyped, tcp: bool, way: u8) -> u32 {
    match (tcp, way) {
        (false, _) => 0,
        (true, EGRESS) => socket.field(Field::WriteSeq),
        (true, _) => socket.field(Field::CopiedSeq),
    }
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
    if connection::judge_process(tgid).passes() {
        let words = read::<Words>(registers, arch::FROM).0;
        moved(arch::arguments(&words), result, pid_tgid, walker);
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
