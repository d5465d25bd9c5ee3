//! In which trace a request is: known here, as a TCP option must leave with its first byte.
//!
//! A request that comes is in the trace that an option or a `traceparent` says, or else in one that is made
//! up; so is what is sent by the unit of execution that serves it, or by one that it started, until the
//! first byte of its answer. What is sent by a unit that serves nothing is in a trace of its own, where
//! units are evidence; elsewhere nothing is carried. User space is told, and holds to it.

use agent_ebpf::abi::unit::{CONTEXT, GOROUTINE, KIND, RESOURCE};
use agent_ebpf::abi::{
    Carried, EGRESS, Field, INGRESS, Kind, exact, habit, served, source, verdict,
};
use agent_ebpf::header::LINE;
use agent_ebpf::option::UNNAMED;
use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_ktime_get_ns};
use core::ffi::c_void;

use crate::connection::{Call, Connection};
use crate::emit;
use crate::head::{is_next_request, is_request, looked_for};
use crate::kernel::{Pointer, Untyped, read_user};
use crate::maps::{HABITS, HEARD, JVMS, OUTGOING, PROCESSES, SERVED, Scratch, global};
use crate::node::NOBODY;
use crate::party::{Context, SERVER, party};
use crate::payload::Buffer;
use crate::serving::{Above, above, is_exact};
use crate::session::{Session, Unit};

/// What a thread or goroutine gave a TLS library to send.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Outgoing {
    context: Context,
    /// When, nanoseconds.
    time: u64,
    /// The connection that it was sent over, and its first byte's number there; 0 before.
    connection: u64,
    sequence: u64,
}

/// Whether anything is carried at all.
#[inline(always)]
pub fn is_on() -> bool {
    global!(CARRIES) != 0
}

/// [`CARRIES`](crate::maps::CARRIES) where all processes are traced.
const EAGERLY: u32 = 2;
/// Whether the current process is traced for sure. Who is not judged yet is where all are; elsewhere it may
/// be another agent's.
#[inline(always)]
pub fn is_traced(pid_tgid: u64) -> bool {
    let tgid = (pid_tgid >> 32) as u32;
    // SAFETY: a u32 read once.
    let verdict = unsafe { PROCESSES.get(tgid) };
    let traced = match verdict {
        Some(verdict) => *verdict == verdict::TRACED,
        None => global!(CARRIES) == EAGERLY,
    };
    traced && tgid != global!(OWN)
}

/// Whether the current process is traced as far as is known: what it reads meanwhile is noted, as the calls
/// that it makes for it may come when it is.
#[inline(always)]
pub fn may_be_traced(pid_tgid: u64) -> bool {
    let tgid = (pid_tgid >> 32) as u32;
    // SAFETY: a u32 read once.
    let verdict = unsafe { PROCESSES.get(tgid) };
    verdict.is_none_or(|verdict| *verdict == verdict::TRACED) && tgid != global!(OWN)
}

/// The trace of what a unit sends now.
#[inline(always)]
pub fn of(unit: u64, pid_tgid: u64) -> Context {
    let tgid = (pid_tgid >> 32) as u32;
    let kind = unit & KIND;
    let believed = match kind {
        GOROUTINE | CONTEXT => true,
        RESOURCE => is_exact(exact::TURNS, pid_tgid),
        0 => is_exact(exact::THREADS, pid_tgid),
        _ => false,
    };
    if believed {
        match above(unit, pid_tgid) {
            Above::Serving(context) => return context,
            Above::Unclear => return Context::UNKNOWN,
            Above::Nothing => {}
        }
    }
    // Who serves nobody calls on nobody's behalf; but a JVM's thread may run a task that who serves has made,
    // which only user space can tell (agent/src/trace/tasks.rs), as it can of most of Node.js's turns.
    let alone = believed && kind != RESOURCE && (kind != 0 || JVMS.get_ptr(tgid).is_none());
    // SAFETY: a u32 read once.
    match unsafe { SERVED.get(tgid) } {
        None => Context::made(),
        // Who serves what is not known here may call for that.
        Some(served) if alone && *served == served::KNOWN => Context::made(),
        Some(_) => Context::UNKNOWN,
    }
}

/// The trace of what a TLS library of Node.js's is given when nobody's turn is on, as the first of a connection
/// is: in the turn that ends the handshake. User space finds nothing more of it, but by the answers as long as
/// the process is watched.
#[inline(always)]
fn behind_handshake(pid_tgid: u64) -> Context {
    let tgid = (pid_tgid >> 32) as u32;
    match SERVED.get_ptr(tgid).is_none() || is_exact(exact::TURNS, pid_tgid) {
        true => Context::made(),
        false => Context::UNKNOWN,
    }
}

/// A TLS library is given plaintext to send, by this thread or goroutine.
#[inline(always)]
pub fn writes(session: &Session, by: Unit, unit: u64, pid_tgid: u64) {
    let Some(party) = party(session.carrier) else {
        // One that is known carries nothing.
        if session.carrier == 0 {
            writes_early(session, by, unit, pid_tgid);
        }
        return;
    };
    if party.role == SERVER {
        return party.answers(pid_tgid);
    }
    if party.mute != 0 {
        return;
    }
    let at = session.plain.next[EGRESS as usize];
    let context = party.give(given(session, unit, pid_tgid), at);
    if context.is_known() {
        tell(session.plain.id, (EGRESS, at), &context);
    }
}

/// The trace of what a session is given.
#[inline(always)]
fn given(session: &Session, unit: u64, pid_tgid: u64) -> Context {
    let mut context = match unit {
        NOBODY => behind_handshake(pid_tgid),
        unit => of(unit, pid_tgid),
    };
    if session.begun == 0 {
        context.flags |= u32::from(UNNAMED);
    }
    context
}

/// The same before it is known which connection carries the session.
#[inline(always)]
fn writes_early(session: &Session, by: Unit, unit: u64, pid_tgid: u64) {
    let context = given(session, unit, pid_tgid);
    let outgoing = Outgoing {
        context,
        // SAFETY: no arguments.
        time: unsafe { bpf_ktime_get_ns() },
        connection: 0,
        sequence: 0,
    };
    let _ = OUTGOING.insert(by, outgoing, 0);
    if context.is_known() {
        let at = session.plain.next[EGRESS as usize];
        tell(session.plain.id, (EGRESS, at), &context);
    }
}

/// The trace of plaintext that becomes these bytes of a connection, if some was just given to a library.
#[inline(always)]
pub fn written(by: Unit, connection: u64, sequence: u32) -> Option<Context> {
    let found = OUTGOING.get_ptr_mut(by)?;
    // SAFETY: a map value, valid for the program's run; only this thread or goroutine uses it.
    let outgoing = unsafe { &mut *found };
    let sequence = u64::from(sequence);
    if outgoing.connection == 0 {
        // SAFETY: no arguments.
        let now = unsafe { bpf_ktime_get_ns() };
        if now.wrapping_sub(outgoing.time) > AT_ONCE {
            return None;
        }
        outgoing.connection = connection;
        outgoing.sequence = sequence;
    }
    let same = outgoing.connection == connection && outgoing.sequence == sequence;
    same.then_some(outgoing.context)
}

/// What a unit gave a TLS library goes where nothing is said. False where it gave it nothing that was not sent.
#[inline(always)]
pub fn forget(pid_tgid: u64) -> bool {
    // SAFETY: a u32 read once.
    let Some(habits) = (unsafe { HABITS.get((pid_tgid >> 32) as u32) }) else {
        return false;
    };
    let of_go = habits & habit::GO != 0;
    (of_go && forgotten(Unit::goroutine(goroutine(), pid_tgid))) | forgotten(Unit::thread(pid_tgid))
}

#[inline(always)]
fn forgotten(by: Unit) -> bool {
    // SAFETY: a number, read once.
    let Some(outgoing) = (unsafe { OUTGOING.get(by) }) else {
        return false;
    };
    let waits = outgoing.connection == 0;
    let _ = OUTGOING.remove(by);
    waits
}

/// The current goroutine, where Go keeps its g beside the register (runtime/tls_linux_amd64.go,
/// cmd/link/internal/ld).
#[inline(always)]
pub fn goroutine() -> u64 {
    // SAFETY: no arguments.
    let task = Untyped(unsafe { bpf_get_current_task() } as *const c_void);
    let area: u64 = task.field(Field::ThreadArea);
    read_user(area.wrapping_sub(8))
}

/// Within what time what a library encrypted is sent, nanoseconds.
const AT_ONCE: u64 = 20_000_000;

/// Plaintext was read from a session, which is not told yet.
#[inline(always)]
pub fn plain(
    (plain, carrier): (&Connection, u64),
    scratch: &mut Scratch,
    (buffer, call): (&Buffer, Call),
    at: u64,
) {
    if call.way != INGRESS {
        if let Some(party) = party(carrier)
            && party.role == SERVER
        {
            party.answers(call.pid_tgid);
        }
        return;
    }
    let bound = carrier != 0;
    let carrier = match carrier {
        // SAFETY: a number, read once.
        0 => unsafe { HEARD.get(Unit::thread(call.pid_tgid)) }
            .copied()
            .unwrap_or(0),
        carrier => carrier,
    };
    let Some(party) = party(carrier) else { return };
    if party.role != SERVER {
        return;
    }
    party.seen |= u32::from(bound);
    let mut found = party.fresh;
    party.fresh = Context::UNKNOWN;
    let next = || found.is_known() && is_next_request(buffer.first(), call.length);
    if plain.way == INGRESS && !next() {
        party.goes_on(buffer.first(), call.pid_tgid);
        if party.begun != 0 {
            party.begun = 0;
            party.by(carrier, plain.unit[INGRESS as usize], call.pid_tgid);
        }
        return;
    }
    if !found.is_known() {
        found = party.silent(looked_for(
            scratch,
            (buffer, call.length),
            party.trusted != 0,
        ));
    }
    if found.is_known() && found.source != u32::from(source::HEADER) {
        tell(plain.id, (INGRESS, at), &found);
    }
    if !is_request(buffer.first(), call.length) {
        found = Context::UNKNOWN;
    }
    party.begin(found, call.length, call.pid_tgid);
    party.by(carrier, plain.unit[INGRESS as usize], call.pid_tgid);
}

/// Tells user space in which trace a message is.
#[inline(always)]
pub fn tell(connection: u64, at: (u8, u64), context: &Context) {
    tell_all(connection, at, context, 0);
}

/// The same of one that was given a line in front of which nothing was sent.
#[inline(always)]
pub fn tell_of_line(connection: u64, at: (u8, u64), context: &Context) {
    tell_all(connection, at, context, LINE as u8);
}

#[inline(always)]
fn tell_all(connection: u64, (direction, offset): (u8, u64), context: &Context, line: u8) {
    let record = Carried {
        kind: Kind::Carried as u32,
        direction,
        source: context.source as u8,
        flags: context.flags as u8,
        line,
        connection,
        // SAFETY: no arguments.
        time: unsafe { bpf_ktime_get_ns() },
        offset,
        // SAFETY: plain bytes either way.
        trace: unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(context.trace) },
    };
    // SAFETY: a record on the stack, and its size. One that is refused is counted.
    unsafe {
        let bytes = core::ptr::addr_of!(record).cast();
        emit::send(connection, bytes, size_of::<Carried>() as u64, false);
    }
}
