//! The fall-back capture path, kernels 5.10 to 6.2: one program after every system call, which
//! looks at the number first. The saved registers still hold the arguments; the socket is found by
//! walking task → files → file → socket, so dup, fork, exec and passed descriptors need no books.
//!
//! What it cannot see: io_uring (no system call per transfer) and kernel threads. TCP's own
//! positions show what went by unseen, as a hole of known length.

use agent_ebpf::abi::Counter;
use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_loop};
use aya_ebpf::macros::{btf_tracepoint, raw_tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, RawTracePointContext};
use core::ffi::c_void;

use crate::arch::{self, Arguments, call};
use crate::batch;
use crate::connection;
use crate::emit;
use crate::goroutine::{self, Written};
use crate::kernel::{read, read_to};
use crate::maps::{REGISTERS, SOCKETS, TRANSFERS, global};
use crate::transfer::{Rest, Transfers, deliver, transfer};

/// After a system call, kernels with bpf_loop (5.17 and later).
#[btf_tracepoint(function = "sys_exit")]
pub fn returned(context: BtfTracePointContext) -> i32 {
    typed(&context, Rest::Here)
}

/// After a system call, older kernels.
#[btf_tracepoint(function = "sys_exit")]
pub fn returned_old(context: BtfTracePointContext) -> i32 {
    typed(&context, Rest::Called(context.as_ptr()))
}

/// The rest of [`returned_old`].
#[btf_tracepoint(function = "sys_exit")]
pub fn delivered_old(_: BtfTracePointContext) -> i32 {
    deliver()
}

/// As [`returned`], for kernels without BTF of their own: the registers are a number only.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn returned_untyped(context: RawTracePointContext) -> i32 {
    untyped(&context, Rest::Here)
}

/// As [`returned_old`], likewise.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn returned_untyped_old(context: RawTracePointContext) -> i32 {
    untyped(&context, Rest::Called(context.as_ptr()))
}

/// The rest of [`returned_untyped_old`].
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn delivered_untyped_old(_: RawTracePointContext) -> i32 {
    deliver()
}

/// After a call that ended with this result; what it was asked is read when it is wanted.
#[inline(always)]
fn after(
    number: u32,
    result: i64,
    arguments: impl FnOnce() -> Option<Arguments>,
    rest: Rest,
) -> i32 {
    if !moves_bytes(number) || result < i32::MIN.into() || result > i32::MAX.into() {
        return 0;
    }
    // SAFETY: no arguments.
    let pid_tgid = unsafe { bpf_get_current_pid_tgid() };
    let tgid = (pid_tgid >> 32) as u32;
    if tgid != global!(OWN) && connection::judge_process(tgid).passes() {
        moved(arguments, result, pid_tgid, rest);
    }
    0
}

/// With typed registers.
#[inline(always)]
fn typed(context: &BtfTracePointContext, rest: Rest) -> i32 {
    let registers: *const u8 = context.arg(0);
    // SAFETY: typed registers; the verifier checks the loads.
    let word = |at: u32| unsafe { registers.add(at as usize).cast::<u64>().read() };
    let arguments = || {
        let mut words = [0; arch::WORDS];
        for (i, to) in words.iter_mut().enumerate() {
            *to = word(arch::FROM + 8 * i as u32);
        }
        Some(arch::arguments(&words))
    };
    after(word(arch::NUMBER) as u32, context.arg(1), arguments, rest)
}

/// For kernels without BTF of their own: the registers are a number only.
#[inline(always)]
fn untyped(context: &RawTracePointContext, rest: Rest) -> i32 {
    let registers: *const c_void = context.arg(0);
    let number = read::<u64>(registers, arch::NUMBER) as u32;
    let arguments = || {
        let words = REGISTERS.get_ptr_mut(0)?;
        // SAFETY: this CPU's slot, valid for the program's run; it does not nest in itself.
        Some(arch::arguments(unsafe {
            read_to(words, registers, arch::FROM);
            &*words
        }))
    };
    after(number, context.arg(1), arguments, rest)
}

/// A call that may have moved bytes over sockets.
#[inline(always)]
fn moved(arguments: impl FnOnce() -> Option<Arguments>, result: i64, pid_tgid: u64, rest: Rest) {
    // Asked for before the registers are read: less is on the stack meanwhile.
    let slot = match rest {
        Rest::Here => TRANSFERS.get_ptr_mut(0),
        Rest::Called(_) => None,
    };
    let Some(arguments) = arguments() else { return };
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
    if let Rest::Called(_) = rest {
        return first(&mut transfers, rest);
    }
    let Some(slot) = slot else { return };
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
fn first(call: &mut Transfers, rest: Rest) {
    if batched(call) {
        call.left = batch::moved(call.array, 0).into();
    }
    one(call, 0, rest);
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
    one(call, index, Rest::Here);
    0
}

#[inline(always)]
fn one(call: &mut Transfers, index: u32, rest: Rest) {
    let mut length = call.left as i32;
    if call.array != 0 {
        length = batch::moved(call.array, index) as i32;
        call.arguments.value[1] = call.array.wrapping_add(u64::from(index) * batch::SIZE);
    }
    call.left -= i64::from(length);
    transfer(call, length, rest);
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
    goroutine::forget(Written::socket(socket));
    0
}

#[inline(always)]
fn over(socket: u64, how: u32) {
    if let Some(state) = SOCKETS.get_ptr_mut(socket) {
        // SAFETY: a map value, valid for the program's run.
        connection::over(unsafe { &mut *state }, how);
    }
}
