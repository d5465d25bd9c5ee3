//! Requests as they pass: which option came with the first byte that was read, and what user space is told
//! of those that were sent. Programs of their own, where traces are carried to other hosts, which run before
//! those that tell of the same bytes.

use agent_ebpf::abi::{AF_UNIX, EGRESS, Field, INGRESS, served, source};
use aya_ebpf::helpers::generated::{
    bpf_get_current_pid_tgid, bpf_get_socket_cookie, bpf_loop, bpf_skc_to_tcp_sock,
};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use core::ffi::c_void;

use crate::carry::{self, may_be_traced, tell};
use crate::connection;
use crate::head::{is_next_request, is_request, looked_for};
use crate::kernel::{Pointer, Typed, Untyped};
use crate::maps::{HEARD, PORTS};
use crate::party::{Context, PLACES, Party, SERVER, party};
use crate::payload::{self, Buffer};
use crate::record::is_hello;
use crate::serving;
use crate::session::Unit;
use crate::socket::{ASIDE, MSG_TRUNC, arguments, known};

/// After a send, before user space is told of it.
#[btf_tracepoint(function = "sock_send_length")]
pub fn carried_sent(context: BtfTracePointContext) -> i32 {
    let socket: *mut c_void = context.arg(0);
    let result: i32 = context.arg(1);
    // SAFETY: no arguments.
    let pid_tgid = unsafe { bpf_get_current_pid_tgid() };
    if result <= 0 || !may_be_traced(pid_tgid) {
        return 0;
    }
    let Some(party) = party(cookie(socket)) else {
        carry::forget(pid_tgid);
        return 0;
    };
    if party.role == SERVER {
        let given = carry::forget(pid_tgid);
        // A handshake's end is no answer, though it may be sent when a request was read that came with it.
        if party.seen == 0 && (party.secure == 0 || given) {
            party.answers(pid_tgid);
        }
    } else if party.mute == 0 {
        sent(party, socket, result as u32);
    } else {
        carry::forget(pid_tgid);
    }
    0
}

/// After a receive, before user space is told of it.
#[btf_tracepoint(function = "sock_recv_length")]
pub fn carried_received(context: BtfTracePointContext) -> i32 {
    let socket: *mut c_void = context.arg(0);
    let result: i32 = context.arg(1);
    let flags: i32 = context.arg(2);
    // SAFETY: no arguments.
    let pid_tgid = unsafe { bpf_get_current_pid_tgid() };
    if flags & (ASIDE | MSG_TRUNC) != 0 || result <= 0 || !may_be_traced(pid_tgid) {
        return 0;
    }
    match party(cookie(socket)) {
        Some(party) if party.role == SERVER => received(party, socket, result as u32),
        Some(_) => {}
        None => received_aside(socket, pid_tgid),
    }
    0
}

/// Over a connection that nothing is carried by: a unix socket, or one that is older than this. The end
/// that accepted one has the port, or the name, of the socket that listens (net/unix/af_unix.c,
/// unix_stream_connect).
#[inline(always)]
fn received_aside(socket: *mut c_void, pid_tgid: u64) {
    let own = Untyped(socket.cast_const());
    let serves = match connection::kind_of(own) {
        Some(true) => is_listened_on(own.field(Field::SkLocalPort)),
        Some(false) if own.field::<u16>(Field::SkFamily) == AF_UNIX => {
            own.field::<u64>(Field::UnixAddress) != 0
        }
        _ => return,
    };
    // What is decrypted next came over it.
    let _ = HEARD.remove(Unit::thread(pid_tgid));
    if serves {
        serving::note(served::UNKNOWN, pid_tgid);
    }
}

#[inline(always)]
fn is_listened_on(port: u16) -> bool {
    let word = PORTS.get(u32::from(port) / 64).copied().unwrap_or(0);
    word >> (port % 64) & 1 != 0
}

/// Where nothing is known of a connection any more, as there are too many, its port says that it was accepted.
#[inline(always)]
pub fn listens(port: u32) {
    let bit = 1u64 << (port % 64);
    if let Some(word) = PORTS.get_ptr_mut(port / 64) {
        // SAFETY: a map value, valid for the program's run; a race loses a bit until the next connection comes.
        unsafe {
            if *word & bit == 0 {
                *word |= bit;
            }
        }
    }
}

#[inline(always)]
fn cookie(socket: *mut c_void) -> u64 {
    // SAFETY: a typed socket.
    unsafe { bpf_get_socket_cookie(socket) }
}

#[inline(always)]
fn tcp(socket: *mut c_void) -> Option<Typed> {
    // SAFETY: the helper checks the socket and gives null for anything but TCP.
    let tcp = unsafe { bpf_skc_to_tcp_sock(socket) };
    (!tcp.is_null()).then_some(Typed(tcp.cast_const().cast()))
}

#[inline(always)]
fn sent(party: &mut Party, socket: *mut c_void, length: u32) {
    let Some(tcp) = tcp(socket) else { return };
    let first = tcp.field::<u32>(Field::WriteSeq).wrapping_sub(length);
    if party.secure == 0 {
        party.secure = is_hello(bytes_of(socket, EGRESS).first()).into();
    }
    for place in &party.places {
        if place.state != 0 && place.sequence == first && party.secure == 0 {
            tell(cookie(socket), (EGRESS, first.into()), &place.context);
            return;
        }
    }
}

/// Where the bytes are that the current system call moves.
#[inline(always)]
fn bytes_of(socket: *mut c_void, way: u8) -> Buffer {
    Buffer::of(&arguments(Typed(socket), false), way)
}

#[inline(always)]
fn received(party: &mut Party, socket: *mut c_void, length: u32) {
    let Some(tcp) = tcp(socket) else { return };
    let connection = cookie(socket);
    let at = connection::received(tcp).wrapping_sub(length);
    let before = known(socket).map_or((2, 0), |known| (known.way, known.encrypted));
    // SAFETY: no arguments.
    let pid_tgid = unsafe { bpf_get_current_pid_tgid() };
    let encrypted = before.1 != 0 || party.secure != 0;
    if encrypted {
        let _ = HEARD.insert(Unit::thread(pid_tgid), connection, 0);
        let mut found = came(0, party, (at, length));
        if !found.is_known() {
            found = party.sent_here(at);
        }
        if found.is_known() {
            party.fresh = found;
        }
        return;
    }
    let buffer = bytes_of(socket, INGRESS);
    if is_hello(buffer.first()) {
        party.secure = 1;
        let _ = HEARD.insert(Unit::thread(pid_tgid), connection, 0);
        return;
    }
    let mut found = came(connection, party, (at, length));
    let begins = is_request(buffer.first(), length);
    // A body's sends have options of their own, as whoever wrote them does not know what they are of.
    let next = || is_next_request(buffer.first(), length);
    if before.0 == INGRESS && !(found.is_known() && next()) {
        return party.goes_on(buffer.first(), pid_tgid);
    }
    if !found.is_known() {
        found = party.sent_here(at);
        if found.is_known() {
            tell(connection, (INGRESS, at.into()), &found);
        }
    }
    if !found.is_known() {
        let Some(scratch) = payload::scratch(INGRESS.into()) else {
            return;
        };
        found = party.silent(looked_for(scratch, (&buffer, length), party.trusted != 0));
        if found.source == u32::from(source::MADE) {
            tell(connection, (INGRESS, at.into()), &found);
        }
    }
    if !begins {
        found = Context::UNKNOWN;
    }
    party.begin(found, length, pid_tgid);
    party.begun = 1;
}

/// A walk over what came with options, for bytes that were read.
struct Coming {
    party: *mut Party,
    /// 0 for ciphertext, of which user space is not told.
    connection: u64,
    at: u32,
    length: u32,
    /// How many there were.
    several: u32,
    found: Context,
}

/// The trace that came with the first of these bytes; user space is told of those that came with others.
#[inline(always)]
fn came(connection: u64, party: &mut Party, (at, length): (u32, u32)) -> Context {
    let mut coming = Coming {
        party,
        connection,
        at,
        length,
        several: 0,
        found: Context::UNKNOWN,
    };
    let context = core::ptr::addr_of_mut!(coming);
    // SAFETY: `each` takes what it is given here; the verifier checks its body.
    unsafe { bpf_loop(PLACES as u32, each as *mut c_void, context.cast(), 0) };
    // Which of several a plaintext is of, its length does not say.
    if connection == 0 && coming.several > 1 {
        return Context::UNKNOWN;
    }
    coming.found
}

extern "C" fn each(index: u32, context: *mut c_void) -> i64 {
    // SAFETY: what `came` passed; it outlives the loop.
    let coming = unsafe { &mut *context.cast::<Coming>() };
    // SAFETY: likewise.
    let party = unsafe { &mut *coming.party };
    let place = &mut party.places[index as usize % PLACES];
    let far = place.sequence.wrapping_sub(coming.at);
    if place.state == 0 || far >= coming.length {
        return 0;
    }
    place.state = 0;
    coming.several += 1;
    // The end of a handshake may be read with what follows it.
    if far == 0 || coming.connection == 0 {
        coming.found = place.context;
    }
    if coming.connection != 0 {
        let at = (INGRESS, place.sequence.into());
        tell(coming.connection, at, &place.context);
    }
    0
}
