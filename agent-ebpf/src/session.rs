//! TLS sessions: what is kept of one, and which socket carries it.
//!
//! A session is bound to a connection by evidence alone: the thread (or goroutine) that is inside a
//! TLS call for it moves a TLS record over that connection; or, where the library encrypts into memory,
//! the very bytes it encrypted are what the process sends. A session has one carrier, for good; where a
//! call for it moves records over another, its plaintext is told no more, and that is counted.

use agent_ebpf::abi::{Counter, EGRESS, INGRESS, SESSION, habit};
use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_ns};

use crate::arch::Arguments;
use crate::carry;
use crate::connection::{self, Call, Connection};
use crate::emit;
use crate::evidence::whose;
use crate::frames::NOTHING_YET;
use crate::introduction::Name;
use crate::iovec::{Slices, Walker};
use crate::kernel::add;
use crate::maps::{
    ASYNC_IDS, CONTEXTS, GOROUTINES, HABITS, INSIDE, PLAIN_SCRATCH, SESSIONS, Scratch, global,
};
use crate::payload::{self, Buffer};
use crate::process;
use crate::record::{APPLICATION_DATA, first_of};
use crate::rustls;

/// Names a session: the process and the address of the library's object.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Key {
    /// Address of the object.
    pub object: u64,
    /// Process.
    pub tgid: u32,
    /// 1 where `object` is the connection's name, as the library's object has no lasting address.
    pub by_connection: u32,
}

/// What is known of a session.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Session {
    /// Its plaintext, followed like a connection's bytes.
    pub plain: Connection,
    /// Name of the connection that carries it, or 0.
    pub carrier: u64,
    /// 1 where its beginning was seen.
    pub begun: u32,
    /// Unused.
    pub pad: u32,
}

/// Who is inside a TLS call: a thread, or a goroutine of a process.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Unit {
    /// Thread id, or address of the goroutine.
    pub unit: u64,
    /// Process.
    pub tgid: u32,
    /// Unused.
    pub pad: u32,
}

impl Unit {
    /// The current thread.
    #[inline(always)]
    pub const fn thread(pid_tgid: u64) -> Self {
        Self {
            unit: pid_tgid & 0xffff_ffff,
            tgid: (pid_tgid >> 32) as u32,
            pad: 0,
        }
    }

    /// A goroutine of the current process.
    #[inline(always)]
    pub const fn goroutine(address: u64, pid_tgid: u64) -> Self {
        Self {
            unit: address,
            tgid: (pid_tgid >> 32) as u32,
            pad: 0,
        }
    }
}

/// The TLS call that a thread or goroutine is in, or was in last: its place in the map stays, as taking
/// one costs more than all else that the entry of a call does.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Inside {
    /// The session's object; 0 once the call is left.
    pub object: u64,
    /// The application's buffer.
    pub buffer: u64,
    /// Where the call puts how many bytes it moved, in the forms that do.
    pub count_at: u64,
    /// Stack pointer on entry, 0 where the stack may move: what happens inside is below it.
    pub stack: u64,
    /// When it began.
    pub time: u64,
    /// `EGRESS` or `INGRESS`.
    pub way: u32,
    /// The epoch in which the process was found to be traced.
    pub judged: u32,
}

impl Key {
    /// Of an object of the current process.
    #[inline(always)]
    pub const fn new(object: u64, pid_tgid: u64) -> Self {
        Self {
            object,
            tgid: (pid_tgid >> 32) as u32,
            by_connection: 0,
        }
    }

    /// Of the session that a connection carries.
    #[inline(always)]
    pub const fn of(connection: u64, pid_tgid: u64) -> Self {
        Self {
            object: connection,
            tgid: (pid_tgid >> 32) as u32,
            by_connection: 1,
        }
    }
}

/// A session that begins here and now; what was at its address is over.
#[inline(always)]
pub fn begin(key: Key) {
    make(key, 1, 0);
}

/// The session at an address; made where nothing is known of it.
#[inline(always)]
pub fn get(key: Key) -> Option<&'static mut Session> {
    // Two threads may come here at once: the second takes what the first made.
    known(key).or_else(|| make(key, 0, BPF_NOEXIST.into()))
}

/// The session at an address, if something is known of it.
#[inline(always)]
pub fn known(key: Key) -> Option<&'static mut Session> {
    // SAFETY: a map value, valid for the program's run.
    SESSIONS
        .get_ptr_mut(key)
        .map(|found| unsafe { &mut *found })
}

/// Made in place from a blank: it is too much for the stack.
#[inline(always)]
fn make(key: Key, begun: u32, flags: u64) -> Option<&'static mut Session> {
    let blank = &BLANK;
    let is_new = SESSIONS.insert(key, blank, flags).is_ok();
    let Some(made) = SESSIONS.get_ptr_mut(key) else {
        emit::count(Counter::NoState, 1);
        return None;
    };
    // SAFETY: no arguments. Time and CPU name the session: a CPU makes one a nanosecond at most.
    let (time, cpu) = unsafe { (bpf_ktime_get_ns(), bpf_get_smp_processor_id()) };
    // SAFETY: a map value, valid for the program's run; nobody uses a session that has no name.
    let made = unsafe { &mut *made };
    if is_new {
        made.begun = begun;
        made.plain.id = SESSION | (time << 8) | u64::from(cpu & 0xff);
    }
    Some(made)
}

static BLANK: Session = Session {
    plain: Connection::blank(),
    carrier: 0,
    begun: 0,
    pad: 0,
};

/// Notes that a thread or goroutine is in a call; false where its process is not traced.
#[inline(always)]
pub fn enter(unit: Unit, inside: Inside, habit: u32, pid_tgid: u64) -> bool {
    let epoch = connection::epoch();
    let inside = Inside {
        judged: epoch,
        // SAFETY: no arguments.
        time: unsafe { bpf_ktime_get_ns() },
        ..inside
    };
    let known = INSIDE.get_ptr_mut(unit);
    if let Some(known) = known {
        // SAFETY: a map value, valid for the program's run; only this thread or goroutine uses it.
        let known = unsafe { &mut *known };
        if known.object != 0 && inside.stack != 0 && inside.stack < known.stack {
            // A call inside of a call: the end of the outer one will not be known.
            emit::count(Counter::Misshapen, 1);
        }
        if known.judged == epoch {
            *known = inside;
            return true;
        }
    }
    if !is_traced(pid_tgid) {
        missed(Key::new(inside.object, pid_tgid));
        return false;
    }
    note(pid_tgid, habit);
    let _ = INSIDE.insert(unit, inside, 0);
    true
}

/// A session moves bytes that nobody counts: when they are counted again, they do not from its first one.
#[inline(always)]
fn missed(key: Key) {
    if let Some(found) = SESSIONS.get_ptr_mut(key) {
        // SAFETY: a map value, valid for the program's run.
        unsafe { ((*found).begun, (*found).plain.opened) = (0, 0) };
    }
}

/// The call that a thread or goroutine is in.
#[inline(always)]
pub fn inside(unit: Unit) -> Option<&'static mut Inside> {
    let found = INSIDE.get_ptr_mut(unit)?;
    // SAFETY: as in `enter`.
    let inside = unsafe { &mut *found };
    (inside.object != 0).then_some(inside)
}

/// The call that a thread or goroutine is in, which it leaves.
#[inline(always)]
pub fn leave(unit: Unit) -> Option<Inside> {
    let inside = inside(unit)?;
    let left = *inside;
    inside.object = 0;
    Some(left)
}

/// Whether the current process is traced.
#[inline(always)]
pub fn is_traced(pid_tgid: u64) -> bool {
    let tgid = (pid_tgid >> 32) as u32;
    tgid != global!(OWN) && connection::judge_process(tgid).passes()
}

/// Tells user space of plaintext that a call moved, which began at the time it says.
#[inline(always)]
pub fn tell(session: &mut Session, buffer: (&Buffer, Walker), call: Call) {
    deliver(session, buffer, call, |_| ());
}

/// The same of plaintext in pieces that an application sends.
#[inline(always)]
pub fn tell_slices(session: &mut Session, buffer: (&Buffer, Walker), slices: &Slices, call: Call) {
    deliver(session, buffer, call, |scratch| scratch.slices = *slices);
}

#[inline(always)]
fn deliver(
    session: &mut Session,
    (buffer, walker): (&Buffer, Walker),
    mut call: Call,
    prepare: impl FnOnce(&mut Scratch),
) {
    if session.plain.id == 0
        || session.carrier == DOUBTED
        || !session.plain.wanted_by((call.pid_tgid >> 32) as u32)
    {
        return;
    }
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    // What is sent has left before its call does, and may be answered by then.
    call.time = match call.way {
        EGRESS => call.time.max(now.saturating_sub(LATEST)),
        _ => now,
    };
    let at = (call.way & 1) as usize;
    let offset = session.plain.next[at];
    session.plain.next[at] = offset.wrapping_add(call.length.into());
    let Some(scratch) = scratch() else {
        session.plain.lost = session.plain.lost.wrapping_add(1);
        emit::count(Counter::Crowded, 1);
        return;
    };
    prepare(scratch);
    if walker == Walker::Loop && carry::is_on() {
        let session = (&session.plain, session.carrier);
        carry::plain(session, scratch, (buffer, call), offset);
    }
    let place = (call, offset);
    let framed = walker == Walker::Loop;
    payload::deliver_by(
        &mut session.plain,
        scratch,
        buffer,
        place,
        walker,
        (framed, u32::MAX),
    );
    add(&mut scratch.users, u64::MAX);
}

/// How far back a record's time may lie when it is told, nanoseconds: half of what user space waits for.
const LATEST: u64 = 10_000_000;

/// A scratch that nobody uses, taken. Where the kernel can be preempted, uprobes can be, too (from Linux
/// 6.0 on their programs run with preemption), and another's run on the same CPU then.
#[inline(always)]
fn scratch() -> Option<&'static mut Scratch> {
    // SAFETY: no arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    for place in 0..PLACES {
        let slot = PLAIN_SCRATCH.get_ptr_mut(cpu * PLACES + place)?;
        // SAFETY: a map value, valid for the program's run; shared only where the word says nobody
        // has it: who finds 1 there after adding his own has met nobody.
        let slot = unsafe { &mut *slot };
        add(&mut slot.users, 1);
        if slot.users == 1 {
            return Some(slot);
        }
        add(&mut slot.users, u64::MAX);
    }
    None
}

/// Scratches of a CPU.
pub const PLACES: u32 = 4;

/// What a process is known to do, and whether its units of execution are.
#[inline(always)]
pub fn habits(tgid: u32) -> u32 {
    // SAFETY: a u32 read once.
    let calls = unsafe { HABITS.get(tgid) }.copied().unwrap_or(0);
    let goroutines = GOROUTINES.get_ptr(tgid).map_or(0, |_| habit::GOROUTINES);
    let contexts = CONTEXTS.get_ptr(tgid).map_or(0, |_| habit::CONTEXTS);
    let async_ids = ASYNC_IDS.get_ptr(tgid).map_or(0, |_| habit::ASYNC_IDS);
    calls | goroutines | contexts | async_ids
}

/// Adds to what this process is known to do, and lets its connections know.
#[inline(always)]
pub fn note(pid_tgid: u64, habit: u32) {
    let tgid = (pid_tgid >> 32) as u32;
    // SAFETY: as in `habits`.
    let known = unsafe { HABITS.get(tgid) }.copied().unwrap_or(0);
    if known & habit == 0 {
        let _ = HABITS.insert(tgid, known | habit, 0);
        process::raise_epoch();
    }
}

/// Binds the session whose bytes move over a connection now, where that is certain; it, where user space
/// does not know it and is to be told.
#[inline(always)]
pub fn bind(
    connection: &mut Connection,
    arguments: &Arguments,
    pid_tgid: u64,
    way: u8,
) -> Option<(Key, &'static mut Session)> {
    let first = || first_of(Buffer::of(arguments, way).first()) & 0xff;
    let Some((key, inside)) = whose(connection, arguments, pid_tgid, way) else {
        // Who encrypts into memory was known by its first record, in the clear.
        if connection.session != 0 && connection.encrypted == 0 && first() == APPLICATION_DATA {
            connection.encrypted = 1;
        }
        return None;
    };
    let session = known(key)?;
    if session.plain.id == 0 {
        // Another thread is about to name it.
        return None;
    }
    if session.carrier != connection.id || connection.encrypted == 0 {
        let first = first();
        // A callback may move other bytes inside of a call.
        if session.carrier != connection.id && first == 0 && connection.encrypted == 0 {
            return None;
        }
        if session.carrier == 0 && (inside || connection.session == 0) {
            // What was known of the session it carried was lost, or the library took another object.
            // A goroutine that does the last of another session is not it.
            session.carrier = connection.id;
            connection.session = session.plain.id;
        } else if session.carrier != connection.id {
            if inside {
                session.carrier = DOUBTED;
                emit::count(Counter::SecondSocket, 1);
            }
            return None;
        }
        // As everything is once keys are agreed upon (TLS 1.3), or only application data is (before).
        if first == APPLICATION_DATA {
            connection.encrypted = 1;
        }
    }
    session.plain.wanted_by((pid_tgid >> 32) as u32);
    if session.plain.opened != 0 {
        return None;
    }
    if session.plain.obeyed != 0 {
        // Introduced anew, it counts anew.
        session.plain.next = [0; 2];
        session.plain.follows = NOTHING_YET;
        session.plain.part = [0; 2];
        session.begun = 0;
    }
    session.plain.opened = 1;
    Some((key, session))
}

impl Session {
    /// What it is introduced by.
    #[inline(always)]
    pub const fn name(&self) -> Name {
        Name {
            id: self.plain.id,
            carrier: self.carrier,
            whole: self.begun,
        }
    }
}

/// [`Session::carrier`] of one whose records went over two connections.
const DOUBTED: u64 = u64::MAX;

/// Notes that user space was not told of a session: its next bytes try again.
#[inline(always)]
pub fn untold(session: &mut Session) {
    session.plain.opened = 0;
    session.plain.lost = session.plain.lost.wrapping_add(1);
}

/// Notes that a call moved nothing: whose bytes it was to move is evidence all the same.
#[inline(always)]
pub fn tried(connection: &Connection) {
    if connection.session != 0 && u32::from(connection.habits) & habit::RUSTLS != 0 {
        rustls::moves(connection.id);
    }
}

const _: () = assert!(EGRESS == 0 && INGRESS == 1);
