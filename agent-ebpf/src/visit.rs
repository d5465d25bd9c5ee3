//! Sockets on a visit to the map of those whose first message is looked at: who comes in, and when they
//! leave. What may be done with them, and why no more: docs/decisions/0028-headers.md.
//!
//! A socket that is in a map of sockets is not the socket it was: the kernel serves its calls by other
//! functions, with faults of their own (net/ipv4/tcp_bpf.c). So it is only there on a visit: from when it
//! is connected until the first byte goes either way. What the application can ask of it in that time has
//! the same answer by both. Nor can there be doubt where a request begins: with the connection.

use agent_ebpf::abi::{Counter, Field};
use agent_ebpf::header::{ASKED, Visit, stage};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{
    BPF_SK_STORAGE_GET_F_CREATE, BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_HDR_OPT_LEN_CB,
    BPF_SOCK_OPS_PARSE_ALL_HDR_OPT_CB_FLAG, BPF_SOCK_OPS_PARSE_HDR_OPT_CB,
    BPF_SOCK_OPS_TCP_CONNECT_CB, BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG,
};
use aya_ebpf::helpers::generated::{
    bpf_get_socket_cookie, bpf_map_delete_elem, bpf_probe_read_kernel, bpf_sk_storage_get,
    bpf_sock_hash_update,
};
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use core::ffi::c_void;

use crate::carry::is_traced;
use crate::emit;
use crate::kernel::{Pointer, Untyped};
use crate::maps::{CARRY_TO, HEADERS_TO, VISITORS, VISITS, WELCOME};
use crate::options::{is_in, thread};
use crate::party::party;

/// Follows connections that processes open.
#[sock_ops]
pub fn visit(context: SockOpsContext) -> u32 {
    match context.op() {
        BPF_SOCK_OPS_TCP_CONNECT_CB => connects(&context),
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => enters(&context),
        // A segment is put together: after a message was looked at, it is that message's.
        BPF_SOCK_OPS_HDR_OPT_LEN_CB => leaves(&context, stage::SENT),
        // One came in, and is not in the socket's queue yet (net/ipv4/tcp_input.c,
        // `tcp_validate_incoming`).
        BPF_SOCK_OPS_PARSE_HDR_OPT_CB if has_data(&context) => leaves(&context, stage::INSIDE),
        _ => {}
    }
    1
}

/// In the call of the process that connects: whether it was asked for, and will not wait in calls.
#[inline(always)]
fn connects(context: &SockOpsContext) {
    if !is_welcome(context) {
        return;
    }
    let Some(socket) = socket(context) else {
        return;
    };
    if is_unfit(number(socket)) {
        return emit::count(Counter::HeadersUnfit, 1);
    }
    let begun = Visit {
        // SAFETY: this program's own context.
        cookie: unsafe { bpf_get_socket_cookie(context.as_ptr()) },
        stage: stage::CONNECTS,
        begin: 0,
        flags: 0,
        pad: 0,
    };
    // SAFETY: the helper checks the socket and copies `begun`.
    unsafe {
        bpf_sk_storage_get(
            core::ptr::addr_of!(VISITS).cast_mut().cast(),
            socket,
            core::ptr::addr_of!(begun).cast_mut().cast(),
            BPF_SK_STORAGE_GET_F_CREATE.into(),
        );
    }
}

/// Whether its process is one whose connections are visited, and this one's other end one that is told.
#[inline(always)]
fn is_welcome(context: &SockOpsContext) -> bool {
    let pid_tgid = thread();
    let tgid = (pid_tgid >> 32) as u32;
    // SAFETY: a number, read once.
    match unsafe { WELCOME.get(tgid) } {
        Some(said) => {
            if *said != ASKED {
                emit::count(Counter::HeadersUnfit, 1);
            }
            *said == ASKED
        }
        // Elsewhere nothing is carried.
        None => {
            is_traced(pid_tgid)
                && is_in(core::ptr::addr_of!(HEADERS_TO), context.ops)
                && is_in(core::ptr::addr_of!(CARRY_TO), context.ops)
        }
    }
}

#[inline(always)]
fn enters(context: &SockOpsContext) {
    let Some(socket) = socket(context) else {
        return;
    };
    let Some(visit) = visit_of(socket) else {
        return;
    };
    if visit.stage != stage::CONNECTS {
        return;
    }
    // SAFETY: the context's own field.
    if unsafe { (*context.ops).data_segs_out } != 0 {
        // With the SYN (RFC 7413).
        return emit::count(Counter::HeadersLate, 1);
    }
    let inner = number(socket);
    if is_unfit(inner) {
        return emit::count(Counter::HeadersUnfit, 1);
    }
    visit.begin = inner.field(Field::WriteSeq);
    let mut cookie = visit.cookie;
    // SAFETY: this program's own context, a map of sockets and its key.
    let entered = unsafe {
        bpf_sock_hash_update(
            context.ops,
            core::ptr::addr_of!(VISITORS).cast_mut().cast(),
            core::ptr::addr_of_mut!(cookie).cast(),
            0,
        )
    };
    if entered != 0 {
        return emit::count(Counter::HeadersCrowded, 1);
    }
    visit.stage = stage::INSIDE;
    visit.flags = FLAGS & !context.cb_flags();
    let _ = context.set_cb_flags((context.cb_flags() | FLAGS) as i32);
}

/// Ends a visit that is at `stage`.
#[inline(always)]
fn leaves(context: &SockOpsContext, stage: u32) {
    let Some(visit) = socket(context).and_then(visit_of) else {
        return;
    };
    if visit.stage != stage {
        return;
    }
    if stage == stage::INSIDE {
        emit::count(Counter::HeadersLate, 1);
    }
    visit.stage = stage::LEFT;
    let mut cookie = visit.cookie;
    // SAFETY: a map of sockets and its key.
    unsafe {
        bpf_map_delete_elem(
            core::ptr::addr_of!(VISITORS).cast_mut().cast(),
            core::ptr::addr_of_mut!(cookie).cast(),
        );
    }
    let mut asked = visit.flags;
    if party(visit.cookie).is_some() {
        // What is carried by an option goes on being asked for.
        asked &= !BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG;
    }
    let _ = context.set_cb_flags((context.cb_flags() & !asked) as i32);
}

const FLAGS: u32 = BPF_SOCK_OPS_PARSE_ALL_HDR_OPT_CB_FLAG | BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG;

/// Whether an incoming segment has bytes behind its header.
#[inline(always)]
fn has_data(context: &SockOpsContext) -> bool {
    // SAFETY: the verifier checks what is read of the context and of the segment.
    unsafe {
        let start = (*context.ops).__bindgen_anon_3.skb_data as *const u8;
        let end = (*context.ops).__bindgen_anon_4.skb_data_end as *const u8;
        if start.add(TCP_HEADER) > end {
            return true;
        }
        let header = u32::from(*start.add(TCP_OFFSET) >> 4) * 4;
        (*context.ops).skb_len > header
    }
}

/// Bytes of a TCP header without options, and where it says how many there are (RFC 9293, 3.1).
const TCP_HEADER: usize = 20;
const TCP_OFFSET: usize = 12;

#[inline(always)]
fn socket(context: &SockOpsContext) -> Option<*mut c_void> {
    // SAFETY: the context's own field.
    let socket = unsafe { (*context.ops).__bindgen_anon_2.sk };
    (!socket.is_null()).then_some(socket.cast())
}

/// How far a socket's visit is, if it is on one.
#[inline(always)]
pub fn visit_of(socket: *mut c_void) -> Option<&'static mut Visit> {
    // SAFETY: the helper gives null or the storage, which lives as long as the socket; who is here
    // holds the socket's lock.
    unsafe {
        let map = core::ptr::addr_of!(VISITS).cast_mut().cast();
        bpf_sk_storage_get(map, socket, core::ptr::null_mut(), 0)
            .cast::<Visit>()
            .as_mut()
    }
}

/// Whether calls of a socket may wait, or its sends are told when they are done, or others hang on it.
#[inline(always)]
pub fn is_unfit(socket: Untyped) -> bool {
    let outer = Untyped(socket.field::<u64>(Field::SkSocket) as *const c_void);
    let file = Untyped(outer.field::<u64>(Field::SocketFile) as *const c_void);
    let open: u32 = file.field(Field::FileFlags);
    let flags: u64 = socket.field(Field::SkFlags);
    // The socket of MPTCP has others below it.
    open & O_NONBLOCK == 0
        || flags & SOCK_ZEROCOPY != 0
        || outer.field::<u64>(Field::SocketSk) != socket.address()
}

/// include/uapi/asm-generic/fcntl.h
const O_NONBLOCK: u32 = 0o4000;
/// include/net/sock.h, enum sock_flags: one bit higher up to 5.10; neither neighbour is TCP's.
const SOCK_ZEROCOPY: u64 = 1 << 18 | 1 << 19;

/// A pointer as a number that can be counted with: to the verifier it is one once it was copied.
#[inline(always)]
pub fn number(pointer: *mut c_void) -> Untyped {
    let mut number = 0u64;
    // SAFETY: both are ours.
    unsafe {
        bpf_probe_read_kernel(
            core::ptr::addr_of_mut!(number).cast(),
            8,
            core::ptr::addr_of!(pointer).cast(),
        );
    }
    Untyped(number as *const c_void)
}
