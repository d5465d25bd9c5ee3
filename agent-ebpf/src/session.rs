//! TLS sessions: what is kept of one, and which socket carries it.
//!
//! A session is bound to a connection by evidence alone: the thread (or goroutine) that is inside a
//! TLS call for it moves bytes over that connection; or, where the library encrypts into memory, the
//! very bytes it encrypted are what the process sends. A session has one carrier, for good; what says
//! otherwise is counted and changes nothing.

use agent_ebpf::abi::{Counter, EGRESS, INGRESS, SESSION, habit};
use aya_ebpf::helpers::generated::{
    bpf_get_smp_processor_id, bpf_ktime_get_ns, bpf_probe_read_user,
};

use crate::arch::Arguments;
use crate::connection::{self, Call, Connection, Name};
use crate::emit;
use crate::maps::{CIPHERTEXTS, HABITS, INSIDE, PLAIN_SCRATCH, SESSIONS, Scratch, global};
use crate::payload::{self, Buffer};

/// Names a session: the process and the address of the library's object.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Key {
    /// Address of the object.
    pub object: u64,
    /// Process.
    pub tgid: u32,
    /// Unused.
    pub pad: u32,
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
    /// `EGRESS` or `INGRESS`.
    pub way: u32,
    /// The epoch in which the process was found to be traced.
    pub judged: u32,
}

/// The beginning of a TLS record as it was encrypted, without its head.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Ciphertext {
    words: [u64; 3],
    tgid: u32,
    pad: u32,
}

impl Key {
    /// Of an object of the current process.
    #[inline(always)]
    pub const fn new(object: u64, pid_tgid: u64) -> Self {
        Self {
            object,
            tgid: (pid_tgid >> 32) as u32,
            pad: 0,
        }
    }
}

/// A session that begins here and now; what was at its address is over.
#[inline(always)]
pub fn begin(key: Key) {
    let _ = SESSIONS.insert(key, fresh(1), 0);
}

/// The session at an address; made where nothing is known of it.
#[inline(always)]
pub fn get(key: Key) -> Option<&'static mut Session> {
    let mut found = SESSIONS.get_ptr_mut(key);
    if found.is_none() {
        let _ = SESSIONS.insert(key, fresh(0), 0);
        found = SESSIONS.get_ptr_mut(key);
    }
    let Some(found) = found else {
        emit::count(Counter::NoState, 1);
        return None;
    };
    // SAFETY: a map value, valid for the program's run.
    Some(unsafe { &mut *found })
}

#[inline(always)]
fn fresh(begun: u32) -> Session {
    // SAFETY: no arguments. Time and CPU name the session: a CPU makes one a nanosecond at most.
    let (time, cpu) = unsafe { (bpf_ktime_get_ns(), bpf_get_smp_processor_id()) };
    let id = SESSION | (time << 8) | u64::from(cpu & 0xff);
    Session {
        plain: Connection::new(id, false, 0),
        carrier: 0,
        begun,
        pad: 0,
    }
}

/// Notes that a thread or goroutine is in a call; false where its process is not traced.
#[inline(always)]
pub fn enter(unit: Unit, inside: Inside, habit: u32, pid_tgid: u64) -> bool {
    let epoch = connection::epoch();
    let inside = Inside {
        judged: epoch,
        ..inside
    };
    let known = INSIDE.get_ptr_mut(unit);
    if let Some(known) = known {
        // SAFETY: a map value, valid for the program's run; only this thread or goroutine uses it.
        let known = unsafe { &mut *known };
        if known.judged == epoch {
            *known = inside;
            return true;
        }
    }
    if !is_traced(pid_tgid) {
        return false;
    }
    note(pid_tgid, habit);
    let _ = INSIDE.insert(unit, inside, 0);
    true
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

/// Tells user space of plaintext that a call moved.
#[inline(always)]
pub fn tell(session: &mut Session, way: u32, address: u64, length: u32, pid_tgid: u64) {
    if !session.plain.wanted_by((pid_tgid >> 32) as u32) {
        return;
    }
    let call = Call {
        // SAFETY: no arguments.
        time: unsafe { bpf_ktime_get_ns() },
        pid_tgid,
        way: way as u8,
        length,
    };
    let at = (way & 1) as usize;
    let offset = session.plain.next[at];
    session.plain.next[at] = offset.wrapping_add(length.into());
    let Some((scratch, busy)) = scratch() else {
        session.plain.lost = session.plain.lost.wrapping_add(1);
        emit::count(Counter::Crowded, 1);
        return;
    };
    let buffer = Buffer::at(address);
    payload::deliver_plain(&mut session.plain, scratch, &buffer, (call, offset));
    if busy {
        scratch.busy = 0;
    }
}

/// A scratch that nobody uses, and whether that is to be said when it is done with: uprobes can be preempted where the kernel can (from Linux 6.0 on
/// their programs run with preemption), and another's run on the same CPU then.
#[inline(always)]
fn scratch() -> Option<(&'static mut Scratch, bool)> {
    // SAFETY: no arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    for place in 0..PLACES {
        let slot = PLAIN_SCRATCH.get_ptr_mut(cpu * PLACES + place)?;
        // SAFETY: a map value, valid for the program's run; shared only where the word says nobody
        // has it.
        let slot = unsafe { &mut *slot };
        if global!(PREEMPTIBLE) == 0 {
            return Some((slot, false));
        }
        if exchange(&mut slot.busy, 1) == 0 {
            return Some((slot, true));
        }
    }
    None
}

/// Sets a word and gives what it was, atomically (BPF_XCHG, Linux 5.12): this target's core has no
/// such operation.
#[inline(always)]
fn exchange(word: &mut u64, mut value: u64) -> u64 {
    // SAFETY: exchanges the word that is borrowed, and nothing else.
    unsafe {
        core::arch::asm!(
            "{value} = xchg_64({word} + 0, {value})",
            word = in(reg) word,
            value = inout(reg) value,
        );
    }
    value
}

/// Scratches of a CPU.
pub const PLACES: u32 = 4;

/// What this process is known to do, 0 where it calls no TLS library.
#[inline(always)]
pub fn habits(pid_tgid: u64) -> u32 {
    // SAFETY: a u32 read once.
    unsafe { HABITS.get((pid_tgid >> 32) as u32) }
        .copied()
        .unwrap_or(0)
}

/// Adds to it.
#[inline(always)]
pub fn note(pid_tgid: u64, habit: u32) {
    let known = habits(pid_tgid);
    if known & habit == 0 {
        let _ = HABITS.insert((pid_tgid >> 32) as u32, known | habit, 0);
    }
}

/// Binds the session whose bytes move over a connection now, where that is certain; the name it is to
/// be introduced by, where user space does not know it.
#[inline(always)]
pub fn bind(
    connection: &mut Connection,
    habits: u32,
    arguments: &Arguments,
    pid_tgid: u64,
    way: u8,
) -> Option<Name> {
    let object = match object(habits, arguments, pid_tgid) {
        Some(object) => object,
        None if habits & habit::MEMORY != 0 && way == EGRESS && connection.session == 0 => {
            encrypted(Buffer::of(arguments, way).first(), pid_tgid)?
        }
        None => return None,
    };
    let found = SESSIONS.get_ptr_mut(Key::new(object, pid_tgid))?;
    // SAFETY: a map value, valid for the program's run.
    let session = unsafe { &mut *found };
    if session.carrier == 0 {
        // What was known of the session it carried was lost, or the library took another object.
        session.carrier = connection.id;
        connection.session = session.plain.id;
    } else if session.carrier != connection.id {
        emit::count(Counter::SecondSocket, 1);
        return None;
    }
    if connection.encrypted == 0 && is_application_data(Buffer::of(arguments, way).first()) {
        connection.encrypted = 1;
    }
    session.plain.wanted_by((pid_tgid >> 32) as u32);
    if session.plain.opened != 0 {
        return None;
    }
    if session.plain.obeyed != 0 {
        // Introduced anew, it counts anew.
        session.plain.next = [0; 2];
        session.begun = 0;
    }
    session.plain.opened = 1;
    Some(Name {
        id: session.plain.id,
        carrier: connection.id,
        whole: session.begun,
    })
}

/// The session that this thread or goroutine is inside a call for.
#[inline(always)]
fn object(habits: u32, arguments: &Arguments, pid_tgid: u64) -> Option<u64> {
    if habits & habit::C != 0
        && let Some(inside) = inside(Unit::thread(pid_tgid))
    {
        return (arguments.stack < inside.stack).then_some(inside.object);
    }
    if habits & habit::GO != 0 {
        return inside(Unit::goroutine(arguments.goroutine, pid_tgid)).map(|inside| inside.object);
    }
    None
}

/// The session that encrypted what is at an address.
#[inline(always)]
fn encrypted(address: u64, pid_tgid: u64) -> Option<u64> {
    let found = CIPHERTEXTS.get_ptr(ciphertext(address, pid_tgid)?)?;
    // SAFETY: a map value, valid for the program's run.
    Some(unsafe { *found })
}

/// Notes that a session encrypted the record at an address.
#[inline(always)]
pub fn encrypts(object: u64, address: u64, pid_tgid: u64) {
    if let Some(ciphertext) = ciphertext(address, pid_tgid) {
        let _ = CIPHERTEXTS.insert(ciphertext, object, 0);
    }
}

/// The bytes after a record's head (RFC 8446, section 5.1): those of a nonce or a key share or of the
/// ciphertext itself, and equal to no other record's.
#[inline(always)]
fn ciphertext(address: u64, pid_tgid: u64) -> Option<Ciphertext> {
    let mut words = [0u64; 4];
    // SAFETY: the helper checks the user address and writes only `words`.
    let failed = unsafe {
        bpf_probe_read_user(
            words.as_mut_ptr().cast(),
            size_of::<[u64; 4]>() as u32,
            address as *const _,
        )
    };
    if address == 0 || failed != 0 || !is_record(words[0]) {
        return None;
    }
    Some(Ciphertext {
        words: [words[1], words[2], words[3]],
        tgid: (pid_tgid >> 32) as u32,
        pad: 0,
    })
}

/// Whether these are the first bytes of a TLS record: type 20 to 23, version 3.x.
#[inline(always)]
const fn is_record(first: u64) -> bool {
    let (kind, major, minor) = (first & 0xff, first >> 8 & 0xff, first >> 16 & 0xff);
    kind >= 20 && kind <= 23 && major == 3 && minor <= 4
}

/// Whether a buffer begins with a record of application data, as everything is once keys are agreed
/// upon (TLS 1.3) or only application data is (before).
#[inline(always)]
fn is_application_data(address: u64) -> bool {
    let mut first = 0u32;
    // SAFETY: as in `ciphertext`.
    let failed = unsafe {
        bpf_probe_read_user(
            core::ptr::addr_of_mut!(first).cast(),
            4,
            address as *const _,
        )
    };
    address != 0 && failed == 0 && first & 0xff == 23 && is_record(first.into())
}

const _: () = assert!(EGRESS == 0 && INGRESS == 1);
