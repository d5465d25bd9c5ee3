//! The TCP option that carries a trace id: written on the segment with a request's first byte, read where
//! it comes in. The callbacks of sockets that ask for them, by BPF_PROG_TYPE_SOCK_OPS
//! (include/uapi/linux/bpf.h, "BPF_SOCK_OPS_HDR_OPT_LEN_CB" and what follows; Linux 5.10).
//!
//! A send asks for the largest segment first, while it holds the socket's lock (tcp_sendmsg_locked,
//! tcp_send_mss): then the next byte's number is that of the first it sends, and the thread is its own. Who
//! asks without sending does no harm: who sends asks again before it does.

use agent_ebpf::abi::{AF_INET, AF_INET6, Counter, EGRESS, Field, NETWORK, NETWORKS, habit};
use agent_ebpf::option::{Carrier, KIND, LENGTH, MAGIC, VERSION, name};
use aya_ebpf::bindings::{
    BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_HDR_OPT_LEN_CB, BPF_SOCK_OPS_PARSE_HDR_OPT_CB,
    BPF_SOCK_OPS_PARSE_UNKNOWN_HDR_OPT_CB_FLAG, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB,
    BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB,
    BPF_SOCK_OPS_WRITE_HDR_OPT_CB, BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG, bpf_sock_ops,
};
use aya_ebpf::helpers::generated::{
    bpf_get_current_task, bpf_get_socket_cookie, bpf_load_hdr_opt, bpf_probe_read_kernel,
    bpf_reserve_hdr_opt, bpf_sock_ops_cb_flags_set, bpf_store_hdr_opt,
};
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use core::ffi::c_void;

use crate::carry::{self, is_traced};
use crate::connection::has_kernel_tls;
use crate::emit;
use crate::goroutine;
use crate::kernel::{Pointer, Untyped};
use crate::maps::{CARRY_TO, PARTIES, SENT, TRUSTED};
use crate::party::{
    AGAIN, CLIENT, Context, LEFT, PLACES, Party, SERVER, Sent, TAKEN, WAITS, party,
};
use crate::passing;
use crate::refusal;
use crate::session::{self, Unit};
use crate::socket::{PF_KTHREAD, known};
use crate::uvloop;

/// Reads a member of what a callback is told. In assembly: the verifier takes a load from the context
/// itself at a number that is written there, and compilers add the number to the address first.
macro_rules! told {
    (@ $size:literal, $ops:expr, $member:ident $(, $further:literal)?) => {{
        let value: u64;
        // SAFETY: within the context, which is only read.
        unsafe {
            core::arch::asm!(
                concat!("{value} = *(", $size, " *)({ops} + {at})"),
                value = out(reg) value,
                ops = in(reg) $ops,
                at = const core::mem::offset_of!(bpf_sock_ops, $member) $(+ $further)?,
                options(readonly, nostack),
            );
        }
        value
    }};
    ($ops:expr, wide $member:ident) => { told!(@ "u64", $ops, $member) };
    ($ops:expr, $member:ident $(, $further:literal)?) => {
        told!(@ "u32", $ops, $member $(, $further)?) as u32
    };
}

pub(crate) use told;

/// A callback of any socket.
#[sock_ops]
pub fn options(context: SockOpsContext) -> u32 {
    let ops = context.ops;
    match told!(ops, op) {
        BPF_SOCK_OPS_TCP_CONNECT_CB => connects(ops),
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => connected(ops),
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => accepted(ops),
        BPF_SOCK_OPS_HDR_OPT_LEN_CB => reserve(ops),
        BPF_SOCK_OPS_WRITE_HDR_OPT_CB => write(ops),
        BPF_SOCK_OPS_PARSE_HDR_OPT_CB => read(ops),
        BPF_SOCK_OPS_STATE_CB => refusal::ends(ops),
        _ => {}
    }
    1
}

#[inline(always)]
pub fn cookie(ops: *mut bpf_sock_ops) -> u64 {
    // SAFETY: the program's context.
    unsafe { bpf_get_socket_cookie(ops.cast()) }
}

/// The current thread, as bpf_get_current_pid_tgid gives it, which these programs are not given
/// everywhere.
#[inline(always)]
pub fn thread() -> u64 {
    // SAFETY: no arguments.
    let task = Untyped(unsafe { bpf_get_current_task() } as *const c_void);
    let tgid: u32 = task.field(Field::TaskTgid);
    let tid: u32 = task.field(Field::TaskPid);
    u64::from(tgid) << 32 | u64::from(tid)
}

/// This process connects. The kernel's own connections, as NFS has, are left as they are.
#[inline(always)]
fn connects(ops: *mut bpf_sock_ops) {
    // SAFETY: no arguments.
    let task = Untyped(unsafe { bpf_get_current_task() } as *const c_void);
    if task.field::<u32>(Field::TaskFlags) & PF_KTHREAD != 0 {
        return;
    }
    if is_traced(thread()) {
        let mut party = Party::new(CLIENT, 0);
        let tells = is_in(core::ptr::addr_of!(CARRY_TO), ops) && !refusal::is_known(remote(ops));
        party.mute = u32::from(!tells);
        let _ = PARTIES.insert(cookie(ops), party, 0);
    }
}

#[inline(always)]
fn connected(ops: *mut bpf_sock_ops) {
    let Some(party) = party(cookie(ops)) else {
        return;
    };
    if party.mute == 0 {
        let [own, _] = initial(ops, CLIENT);
        let begin: u32 = socket(ops).field(Field::WriteSeq);
        if begin != own.wrapping_add(1) {
            // Went with the SYN (TCP Fast Open, RFC 7413).
            emit::count(Counter::Uncarried, 1);
        }
        return ask(
            ops,
            BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG | BPF_SOCK_OPS_STATE_CB_FLAG,
        );
    }
    // Its server, where that is on this host as well, has to know no more.
    let [client, server] = initial(ops, CLIENT);
    let _ = SENT.insert(Sent::all(client, server), Context::UNKNOWN, 0);
}

/// Whose it is will be known when it is read.
#[inline(always)]
fn accepted(ops: *mut bpf_sock_ops) {
    let trusted = is_in(core::ptr::addr_of!(TRUSTED), ops);
    let mut party = Party::new(SERVER, trusted.into());
    let [server, client] = initial(ops, SERVER);
    party.ends = [client, server];
    let _ = PARTIES.insert(cookie(ops), party, 0);
    passing::listens(told!(ops, local_port));
    ask(ops, BPF_SOCK_OPS_PARSE_UNKNOWN_HDR_OPT_CB_FLAG);
}

/// Asks for callbacks, beside those that others ask for.
#[inline(always)]
fn ask(ops: *mut bpf_sock_ops, flags: u32) {
    let flags = told!(ops, bpf_sock_ops_cb_flags) | flags;
    // SAFETY: the program's context.
    unsafe { bpf_sock_ops_cb_flags_set(ops, flags as i32) };
}

/// The other end's address; zeroes where it is of neither family.
#[inline(always)]
pub fn remote(ops: *mut bpf_sock_ops) -> [u32; 4] {
    let family = told!(ops, family);
    if family == AF_INET.into() {
        [0, 0, 0xffffu32.to_be(), told!(ops, remote_ip4)]
    } else if family == AF_INET6.into() {
        [
            told!(ops, remote_ip6),
            told!(ops, remote_ip6, 4),
            told!(ops, remote_ip6, 8),
            told!(ops, remote_ip6, 12),
        ]
    } else {
        [0; 4]
    }
}

/// Whether the other end's address is in one of these networks.
#[inline(always)]
pub fn is_in(networks: *const [u32; NETWORKS * NETWORK], ops: *mut bpf_sock_ops) -> bool {
    let address = remote(ops);
    for i in 0..NETWORKS {
        let mut differs = 0;
        for (word, own) in address.into_iter().enumerate() {
            let at = i * NETWORK + word;
            // SAFETY: within the list; volatile, as the loader rewrites it.
            let (network, mask) = unsafe {
                let list = networks.cast::<u32>();
                (
                    core::ptr::read_volatile(list.add(at)),
                    core::ptr::read_volatile(list.add(at + 4)),
                )
            };
            differs |= (own & mask) ^ network;
        }
        if differs == 0 {
            return true;
        }
    }
    false
}

/// The socket as a number: what is known of its type does not tell all that is asked of it.
#[inline(always)]
fn socket(ops: *mut bpf_sock_ops) -> Untyped {
    let typed = told!(ops, wide __bindgen_anon_2);
    let mut number = 0u64;
    // SAFETY: copies a pointer that is on the stack to another place there.
    unsafe {
        let from = core::ptr::addr_of!(typed);
        bpf_probe_read_kernel(core::ptr::addr_of_mut!(number).cast(), 8, from.cast());
    }
    Untyped(number as *const c_void)
}

/// How large options are is asked, of no segment or of one.
#[inline(always)]
fn reserve(ops: *mut bpf_sock_ops) {
    let of_any = told!(ops, __bindgen_anon_1) == CURRENT_MSS;
    let length = told!(ops, skb_len);
    // Most segments without bytes acknowledge what came.
    if !of_any && length == 0 {
        return;
    }
    let cookie = cookie(ops);
    let Some(party) = party(cookie) else { return };
    // One that was muted later: its server knows by now whether it is near.
    if party.role != CLIENT || party.mute != 0 {
        return;
    }
    if of_any {
        announce(ops, cookie, party);
    }
    let (acked, next) = (told!(ops, snd_una), told!(ops, snd_nxt));
    // A probe for the loss of what was sent last is sent where nothing is new, and before it counts as lost.
    let again = told!(ops, lost_out) | told!(ops, retrans_out) != 0
        || socket(ops).field::<u32>(Field::WriteSeq) == next;
    // Where more is on its way a probe is sent within milliseconds (tcp_schedule_loss_probe), of one after 200.
    let is_lost = !of_any && (told!(ops, lost_out) != 0 || told!(ops, packets_out) == 1);
    let (mut wanted, mut first, mut twice) = (false, false, false);
    for place in &party.places {
        if place.state == 0 || is_before(place.sequence, acked) {
            continue;
        }
        // What is new comes next; what was sent is sent again only where something was lost.
        let comes = place.sequence.wrapping_sub(next) < length;
        let came = again && is_before(place.sequence, next);
        first |= is_lost && came && place.state == LEFT;
        twice |= is_lost && came && place.state == AGAIN;
        wanted |= of_any || comes || came;
    }
    if first || twice {
        refusal::lost(ops, party, refusal::LOST);
        if twice || refusal::is_known(remote(ops)) {
            // Nothing is said over this connection any more.
            party.mute = 1;
            return;
        }
    }
    // SAFETY: the program's context.
    if wanted && unsafe { bpf_reserve_hdr_opt(ops, LENGTH.into(), 0) } != 0 && !of_any {
        emit::count(Counter::OptionsWithoutRoom, 1);
    }
}

/// Whether what is sent now may be several tasks': the socket took only a part of what was sent before
/// (`python::mover`).
#[inline(always)]
fn sends_for_others(ops: *mut bpf_sock_ops) -> bool {
    let socket = told!(ops, wide __bindgen_anon_2) as *mut c_void;
    if socket.is_null() {
        return false;
    }
    known(socket).is_some_and(|state| {
        let left = state.clogged != 0 || state.unit[EGRESS as usize] == uvloop::LEFT;
        left && u32::from(state.habits) & habit::CONTEXTS != 0
    })
}

/// Argument of those callbacks that are of no segment.
const CURRENT_MSS: u32 = 1;

#[inline(always)]
pub const fn is_before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// A thread is about to send: where, and in which trace.
#[inline(always)]
fn announce(ops: *mut bpf_sock_ops, cookie: u64, party: &mut Party) {
    let socket = socket(ops);
    if socket.field::<u32>(Field::SkOwned) == 0 {
        return;
    }
    let pid_tgid = thread();
    let sequence: u32 = socket.field(Field::WriteSeq);
    let last = party.next.wrapping_sub(1) as usize % PLACES;
    let again = party.places[last].state == WAITS && party.places[last].sequence == sequence;
    // Where the kernel does TLS, user space is not told which byte a message begins with.
    if !is_traced(pid_tgid) || has_kernel_tls(socket) {
        // Who announced this byte before did not send it.
        if again {
            party.places[last].state = 0;
        }
        return;
    }
    let heard: u32 = socket.field(Field::CopiedSeq);
    if party.heard != heard {
        party.heard = heard;
        party.calls = 0;
    }
    // Whatever comes of it: the next plaintext has another place.
    let leaves = match party.secure {
        0 => Context::UNKNOWN,
        _ => party.leaves(sequence),
    };
    if !again {
        refusal::arrived(ops, party);
        if party.calls >= PLACES as u32 {
            return;
        }
        party.calls += 1;
        party.next = party.next.wrapping_add(1);
    }
    let context = if party.line == TAKEN | u64::from(sequence) {
        // A line says so already.
        party.places[0].context
    } else if party.fresh.is_known() {
        leaves
    } else if sends_for_others(ops) {
        Context::UNKNOWN
    } else {
        // Only its first plaintext is given before it is known which connection carries it.
        context((cookie, party.secure), socket, sequence, pid_tgid)
    };
    if !context.is_known() && party.calls == 1 && !again {
        emit::count(Counter::Uncarried, 1);
    }
    let place = &mut party.places[party.next.wrapping_sub(1) as usize % PLACES];
    place.sequence = sequence;
    place.state = u32::from(context.is_known());
    place.context = context;
    let [client, server] = initial(ops, CLIENT);
    let sent = Sent::new(client, server, sequence);
    let _ = SENT.insert(sent, context, 0);
}

const _: () = assert!(WAITS == 1);

/// The trace of what this thread sends now.
#[inline(always)]
pub fn context(
    (cookie, secure): (u64, u32),
    socket: Untyped,
    sequence: u32,
    pid_tgid: u64,
) -> Context {
    let habits = session::habits((pid_tgid >> 32) as u32);
    let g = carry::goroutine();
    if let Some(context) = carry::written(Unit::thread(pid_tgid), cookie, sequence) {
        return context;
    }
    if let Some(context) = carry::written(Unit::goroutine(g, pid_tgid), cookie, sequence) {
        return context;
    }
    if secure != 0 {
        return Context::UNKNOWN;
    }
    let unit = goroutine::sends(habits, (g, socket.address()), pid_tgid);
    carry::of(unit, pid_tgid)
}

/// A segment's header: (number of its first byte, bytes of payload).
#[inline(always)]
fn segment(ops: *mut bpf_sock_ops) -> Option<(u32, u32)> {
    let header = told!(ops, wide __bindgen_anon_3) as *const u8;
    let end = told!(ops, wide __bindgen_anon_4) as *const u8;
    // SAFETY: an address only; the loads are behind the check (include/uapi/linux/tcp.h, struct tcphdr).
    let (sequence, own) = unsafe {
        if header.add(20) > end {
            return None;
        }
        let sequence = header.add(4).cast::<u32>().read_unaligned();
        (u32::from_be(sequence), u32::from(*header.add(12) >> 4) * 4)
    };
    Some((sequence, told!(ops, skb_len).wrapping_sub(own)))
}

/// Both initial sequence numbers, this end's first.
#[inline(always)]
pub fn initial(ops: *mut bpf_sock_ops, role: u32) -> [u32; 2] {
    // The SYN that connected counts in what was acknowledged, the one that accepted does not.
    let own = told!(ops, snd_una).wrapping_sub(told!(ops, wide bytes_acked) as u32);
    let peer = told!(ops, rcv_nxt)
        .wrapping_sub(told!(ops, wide bytes_received) as u32)
        .wrapping_sub(1);
    [own.wrapping_sub(u32::from(role == SERVER)), peer]
}

/// A segment leaves that room was kept on.
#[inline(always)]
fn write(ops: *mut bpf_sock_ops) {
    let Some(party) = party(cookie(ops)) else {
        return;
    };
    let Some((from, length)) = segment(ops) else {
        return;
    };
    if party.role != CLIENT {
        return;
    }
    let mut first = u32::MAX;
    let mut found = PLACES;
    let mut several = 0;
    for (at, place) in party.places.iter().enumerate() {
        let far = place.sequence.wrapping_sub(from);
        if place.state != 0 && far < length {
            several += 1;
            if far < first {
                first = far;
                found = at;
            }
        }
    }
    // Its low half names the byte.
    if found >= PLACES || first > 0xffff {
        return;
    }
    if several > 1 {
        emit::count(Counter::OptionsShared, 1);
    }
    let place = &mut party.places[found % PLACES];
    let [client, server] = initial(ops, CLIENT);
    let carrier = Carrier::new(
        // SAFETY: plain bytes either way.
        unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(place.context.trace) },
        place.context.flags as u8,
        place.sequence,
        name(client, server, place.sequence),
    );
    // SAFETY: the program's context, and as many bytes as are said.
    let failed = unsafe {
        let from = core::ptr::addr_of!(carrier).cast();
        bpf_store_hdr_opt(ops, from, LENGTH.into(), 0)
    };
    if failed == 0 {
        place.state = if place.state == WAITS { LEFT } else { AGAIN };
        emit::count(Counter::OptionsWritten, 1);
    } else {
        emit::count(Counter::OptionsWithoutRoom, 1);
    }
}

/// A segment came with an option that the kernel does not know.
#[inline(always)]
fn read(ops: *mut bpf_sock_ops) {
    let Some(party) = party(cookie(ops)) else {
        return;
    };
    if party.role != SERVER {
        return;
    }
    let mut carrier = Carrier::new([0; 16], 0, 0, 0);
    carrier.kind = KIND;
    // How much is to be the same: kind, length and magic.
    carrier.length = 4;
    carrier.magic = MAGIC;
    // SAFETY: the program's context, and as many bytes as are said.
    let length = unsafe {
        let to = core::ptr::addr_of_mut!(carrier).cast();
        bpf_load_hdr_opt(ops, to, LENGTH.into(), 0)
    };
    let Some((from, payload)) = segment(ops) else {
        return;
    };
    if length == NONE {
        return;
    }
    if length != LENGTH.into() || carrier.version != VERSION {
        emit::count(Counter::OptionsForeign, 1);
        return;
    }
    let mut sequence = carrier.sequence(from);
    let here = sequence.wrapping_sub(from) < payload;
    if !here {
        // It may be of the segment that this one was cut off.
        sequence = sequence.wrapping_sub(0x1_0000);
    }
    let [client, server] = party.ends;
    if name(client, server, sequence) != u32::from_be_bytes(carrier.name)
        || carrier.trace == [0; 16]
        || party.trusted == 0
    {
        emit::count(Counter::OptionsForeign, 1);
        return;
    }
    if here {
        party.keep(sequence, &carrier);
    }
}

/// No option of ours (ENOMSG).
const NONE: i64 = -42;
