//! rustls: it does no I/O of its own and its sessions have no lasting address, so the thread is what
//! ties plaintext to a socket (docs/decisions/0016-rustls.md, agent/src/target/tls/rustls.rs).
//!
//! A thread gives data and then sends them: they belong to the socket of the call inside the sending,
//! if the queue that is sent from lies inside the session they were given to. A thread receives and
//! then takes data: they come from the socket of the call inside the receiving. Rust promises no
//! layout: what does not look like one is dropped and counted.

use agent_ebpf::abi::{Counter, EGRESS, INGRESS, habit};
use aya_ebpf::helpers::generated::{
    bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_probe_read_user,
};
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;

use crate::arch;
use crate::connection::Call;
use crate::emit;
use crate::iovec::{Slices, Walker};
use crate::maps::RUSTLS;
use crate::payload::{self, Buffer};
use crate::session::{self, Key, Unit};
use crate::tls::{register, wanted};

/// What a thread does with rustls.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Thread {
    /// The queue it sends from now, 0 where it does not.
    pub sends: u64,
    /// 1 while it receives.
    pub receives: u64,
    /// The connection of the call inside, or 0.
    pub moved: u64,
    /// The connection that it received from last.
    pub source: u64,
    /// What it gave and did not send yet.
    pub given: Given,
}

/// Data that were given to a session.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Given {
    /// Address of the session, 0 where nothing was given.
    pub object: u64,
    /// The bytes, each piece's address and length. The application's list of them is gone before
    /// they are sent.
    pub slices: Slices,
    /// How many pieces there are.
    pub count: u64,
    /// Bytes of all slices before the first that is meant.
    pub from: u64,
    /// Bytes that were taken.
    pub taken: u64,
    /// When they were given.
    pub time: u64,
}

const NOTHING: Given = Given {
    object: 0,
    slices: [[0; 2]; 16],
    count: 0,
    from: 0,
    taken: 0,
    time: 0,
};

/// A thread that does nothing yet; no constant, which would be put together on the stack.
static IDLE: Thread = Thread {
    sends: 0,
    receives: 0,
    moved: 0,
    source: 0,
    given: NOTHING,
};

/// How far from a session's beginning its queue can be, in bytes.
const INSIDE: u64 = 768;
/// Longest content of a record (RFC 8446, section 5.1).
const RECORD: u64 = 1 << 14;
/// Pieces that are known of what is given at once.
const SLICES: u64 = 16;

/// Data are given: (session, data as four words).
#[uprobe]
pub fn rustls_write(context: ProbeContext) -> u32 {
    let Some((_, thread)) = thread() else {
        return 0;
    };
    let mut words = [0u64; 4];
    if !read(&mut words, register(&context, arch::C[1])) {
        return 0;
    }
    let object = register(&context, arch::C[0]);
    let given = &mut thread.given;
    if given.object != 0 && given.taken != 0 {
        // Given before and not sent: not known any more.
        emit::count(Counter::Misshapen, 1);
    }
    given.object = object;
    given.taken = 0;
    // SAFETY: no arguments.
    given.time = unsafe { bpf_ktime_get_ns() };
    if words[0] == 0 {
        given.slices[0] = [words[1], words[2]];
        (given.count, given.from) = (1, 0);
        return 0;
    }
    let [list, count, from, _] = words;
    (given.count, given.from) = (count, from);
    // What is behind the last that is known shows as a hole.
    let known = if count < SLICES { count } else { SLICES };
    if from > u32::MAX.into() || !copy(&mut given.slices, known, list) {
        given.object = 0;
        emit::count(Counter::Misshapen, 1);
    }
    0
}

/// Copies the first pieces of a list.
#[inline(always)]
fn copy(slices: &mut Slices, count: u64, list: u64) -> bool {
    let bytes = payload::opaque(count * size_of::<[u64; 2]>() as u64);
    if bytes > size_of::<Slices>() as u64 {
        return false;
    }
    // SAFETY: at most what `slices` holds; the helper checks the user address.
    unsafe {
        bpf_probe_read_user(
            slices.as_mut_ptr().cast(),
            bytes as u32,
            list as *const core::ffi::c_void,
        ) == 0
    }
}

/// So many were taken.
#[uprobe]
pub fn rustls_write_done(context: ProbeContext) -> u32 {
    if let Some((_, thread)) = thread() {
        thread.given.taken = register(&context, arch::RESULT);
    }
    0
}

/// A record was decrypted: (session, capacity, address and length).
#[uprobe]
pub fn rustls_read(context: ProbeContext) -> u32 {
    let Some((pid_tgid, thread)) = thread() else {
        return 0;
    };
    let mut words = [0u64; 3];
    if thread.source == 0 || !read(&mut words, register(&context, arch::C[1])) {
        return 0;
    }
    let [capacity, address, length] = words;
    if length > RECORD || (capacity != 1 << 63 && length > capacity) {
        emit::count(Counter::Misshapen, 1);
        return 0;
    }
    if length != 0
        && let Some(session) = session::get(Key::of(thread.source, pid_tgid))
    {
        let buffer = (&Buffer::at(address), Walker::Loop);
        let call = Call {
            time: 0,
            pid_tgid,
            way: INGRESS,
            length: length as u32,
        };
        session::tell(session, buffer, call);
    }
    0
}

/// It is going to send from a queue.
#[uprobe]
pub fn rustls_send(context: ProbeContext) -> u32 {
    if let Some((_, thread)) = thread() {
        thread.sends = register(&context, arch::C[0]);
        thread.moved = 0;
    }
    0
}

/// It has: what was given to that session has gone, or goes, over that socket.
#[uprobe]
pub fn rustls_send_done(_: ProbeContext) -> u32 {
    let Some((pid_tgid, thread)) = thread() else {
        return 0;
    };
    let (sends, moved) = (thread.sends, thread.moved);
    thread.sends = 0;
    let given = &mut thread.given;
    if given.object == 0 || given.taken == 0 || sends.wrapping_sub(given.object) >= INSIDE {
        return 0;
    }
    // Only now is the application's buffer sure to be as it was.
    let taken = given.taken;
    given.object = 0;
    if moved == 0 || taken > i32::MAX as u64 {
        emit::count(Counter::Misshapen, 1);
        return 0;
    }
    if let Some(session) = session::get(Key::of(moved, pid_tgid)) {
        let buffer = (&Buffer::slices(given.count, given.from), Walker::Loop);
        let call = Call {
            time: given.time,
            pid_tgid,
            way: EGRESS,
            length: taken as u32,
        };
        session::tell_slices(session, buffer, &given.slices, call);
    }
    0
}

/// It is going to receive.
#[uprobe]
pub fn rustls_receive(_: ProbeContext) -> u32 {
    if let Some((_, thread)) = thread() {
        thread.receives = 1;
        thread.moved = 0;
        thread.source = 0;
    }
    0
}

/// It has, if there was anything.
#[uprobe]
pub fn rustls_receive_done(_: ProbeContext) -> u32 {
    if let Some((_, thread)) = thread() {
        thread.receives = 0;
        thread.source = thread.moved;
    }
    0
}

/// The current thread, and what it does; where its process is traced.
#[inline(always)]
fn thread() -> Option<(u64, &'static mut Thread)> {
    let pid_tgid = wanted()?;
    let unit = Unit::thread(pid_tgid);
    if RUSTLS.get_ptr_mut(unit).is_none() {
        session::note(pid_tgid, habit::RUSTLS);
        // By reference: it is too much for the stack.
        let idle = &IDLE;
        let _ = RUSTLS.insert(unit, idle, 0);
    }
    // SAFETY: a map value, valid for the program's run; only this thread uses it.
    RUSTLS
        .get_ptr_mut(unit)
        .map(|found| (pid_tgid, unsafe { &mut *found }))
}

/// Notes that this thread moves bytes over a connection; false where rustls has not asked for it.
#[inline(always)]
pub fn moves(connection: u64) -> bool {
    // SAFETY: no arguments.
    let unit = Unit::thread(unsafe { bpf_get_current_pid_tgid() });
    let Some(found) = RUSTLS.get_ptr_mut(unit) else {
        return false;
    };
    // SAFETY: as in `thread`.
    let thread = unsafe { &mut *found };
    if thread.sends == 0 && thread.receives == 0 {
        return false;
    }
    thread.moved = connection;
    true
}

/// Reads words of the program's.
#[inline(always)]
fn read<const N: usize>(words: &mut [u64; N], from: u64) -> bool {
    // SAFETY: the helper checks the user address and writes only `words`.
    unsafe {
        bpf_probe_read_user(
            words.as_mut_ptr().cast(),
            size_of::<[u64; N]>() as u32,
            from as *const core::ffi::c_void,
        ) == 0
    }
}
