//! TLS libraries with the C calling convention: OpenSSL and its forks, GnuTLS. Uprobes at the places
//! that agent/src/target/tls names; none is a return probe, and nothing of the process is changed.
//!
//! A call's bytes are told when it is left, with the number it says it moved: only then are they
//! there (a read), and only then is it known how many of them were taken (a write that is partial,
//! or tried again).

use agent_ebpf::abi::{EGRESS, INGRESS, habit};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_probe_read_user};
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;

use crate::arch;
use crate::carry;
use crate::connection::Call;
use crate::evidence;
use crate::iovec::Walker;
use crate::maps::{HANDSHAKES, SESSIONS};
use crate::node;
use crate::payload::Buffer;
use crate::python;
use crate::record::is_first;
use crate::session::{self, Inside, Key, Unit};

/// Entry of a function that gives plaintext to the application.
#[uprobe]
pub fn tls_read(context: ProbeContext) -> u32 {
    enter(&context, INGRESS, 3)
}

/// Entry of a function that takes plaintext from it.
#[uprobe]
pub fn tls_write(context: ProbeContext) -> u32 {
    enter(&context, EGRESS, 3)
}

/// The same, of one that says in its fifth argument where the count goes.
#[uprobe]
pub fn tls_write_ex2(context: ProbeContext) -> u32 {
    enter(&context, EGRESS, 4)
}

/// Exit of one that returns how many bytes it moved.
#[uprobe]
pub fn tls_done(context: ProbeContext) -> u32 {
    leave(&context, |_| None, Walker::Loop)
}

/// The same for kernels before bpf_loop.
#[uprobe]
pub fn tls_done_old(context: ProbeContext) -> u32 {
    leave(&context, |_| None, Walker::Unrolled)
}

/// Exit of one that returns 1 and says elsewhere how many.
#[uprobe]
pub fn tls_done_ex(context: ProbeContext) -> u32 {
    leave(&context, elsewhere, Walker::Loop)
}

/// The same for kernels before bpf_loop.
#[uprobe]
pub fn tls_done_ex_old(context: ProbeContext) -> u32 {
    leave(&context, elsewhere, Walker::Unrolled)
}

#[inline(always)]
fn elsewhere(inside: &Inside) -> Option<u64> {
    let mut count = 0u64;
    // SAFETY: the helper checks the user address and writes only `count`.
    unsafe {
        bpf_probe_read_user(
            core::ptr::addr_of_mut!(count).cast(),
            8,
            inside.count_at as *const _,
        );
    }
    Some(count)
}

/// A handshake goes on.
#[uprobe]
pub fn tls_handshake(context: ProbeContext) -> u32 {
    if let Some(pid_tgid) = wanted() {
        let handshake = [
            register(&context, arch::C[0]),
            register(&context, arch::STACK),
        ];
        let _ = HANDSHAKES.insert(Unit::thread(pid_tgid), handshake, 0);
    }
    0
}

/// A session begins at this address.
#[uprobe]
pub fn tls_begin(context: ProbeContext) -> u32 {
    if let Some(pid_tgid) = wanted() {
        session::begin(Key::new(register(&context, arch::C[0]), pid_tgid));
    }
    0
}

/// The same, unless it is known.
#[uprobe]
pub fn tls_begin_once(context: ProbeContext) -> u32 {
    if let Some(pid_tgid) = wanted() {
        let key = Key::new(register(&context, arch::C[0]), pid_tgid);
        if SESSIONS.get_ptr(key).is_none() {
            session::begin(key);
        }
    }
    0
}

/// What is at this address is a session no more.
#[uprobe]
pub fn tls_free(context: ProbeContext) -> u32 {
    // SAFETY: no arguments.
    let pid_tgid = unsafe { bpf_get_current_pid_tgid() };
    let _ = SESSIONS.remove(Key::new(register(&context, arch::C[0]), pid_tgid));
    0
}

/// A library writes a record to what stands for its socket, which may be memory.
#[uprobe]
pub fn tls_bio_write(context: ProbeContext) -> u32 {
    // SAFETY: no arguments.
    let pid_tgid = unsafe { bpf_get_current_pid_tgid() };
    let by = Unit::thread(pid_tgid);
    let address = register(&context, arch::C[1]);
    let object = match session::inside(by) {
        Some(inside) => inside.object,
        None => handshake(by, address, register(&context, arch::STACK)),
    };
    if object == 0 {
        return 0;
    }
    if let Some(session) = SESSIONS.get_ptr(Key::new(object, pid_tgid)) {
        // SAFETY: a map value, valid for the program's run.
        if unsafe { (*session).carrier } != 0 {
            return 0;
        }
    }
    session::note(pid_tgid, habit::MEMORY);
    evidence::encrypts(object, address, pid_tgid);
    0
}

/// The object of the session whose handshake writes a record, if it is the first that it writes, once; 0 where
/// that is not known.
#[inline(always)]
fn handshake(by: Unit, record: u64, stack: u64) -> u64 {
    if !is_first(record) {
        return 0;
    }
    // SAFETY: numbers, read once.
    let Some(&[object, above]) = (unsafe { HANDSHAKES.get(by) }) else {
        return 0;
    };
    let _ = HANDSHAKES.remove(by);
    // Another library's, behind that one's.
    if stack >= above {
        return 0;
    }
    object
}

/// The current thread, where its process is traced.
#[inline(always)]
pub fn wanted() -> Option<u64> {
    // SAFETY: no arguments.
    let pid_tgid = unsafe { bpf_get_current_pid_tgid() };
    session::is_traced(pid_tgid).then_some(pid_tgid)
}

/// A register of the probed program, by its offset.
#[inline(always)]
pub fn register(context: &ProbeContext, offset: u32) -> u64 {
    // SAFETY: within the registers that the context is; the verifier checks the load.
    unsafe {
        core::ptr::read_volatile(
            context
                .as_ptr()
                .cast::<u8>()
                .add(offset as usize)
                .cast::<u64>(),
        )
    }
}

#[inline(always)]
fn enter(context: &ProbeContext, way: u8, count: usize) -> u32 {
    // SAFETY: no arguments.
    let pid_tgid = unsafe { bpf_get_current_pid_tgid() };
    let inside = Inside {
        object: register(context, arch::C[0]),
        buffer: register(context, arch::C[1]),
        count_at: register(context, arch::C[count]),
        stack: register(context, arch::STACK),
        time: 0,
        way: way.into(),
        judged: 0,
    };
    if session::enter(Unit::thread(pid_tgid), inside, habit::C, pid_tgid) {
        let session = session::get(Key::new(inside.object, pid_tgid));
        if way == EGRESS
            && carry::is_on()
            && let Some(session) = session
        {
            let unit = unit(pid_tgid);
            carry::writes(session, Unit::thread(pid_tgid), unit, pid_tgid);
        }
    }
    0
}

/// The unit that gives plaintext to a library, as in `abi::unit`.
#[inline(always)]
fn unit(pid_tgid: u64) -> u64 {
    if session::habits((pid_tgid >> 32) as u32) & habit::ASYNC_IDS != 0 {
        node::current(pid_tgid)
    } else {
        python::unit(pid_tgid)
    }
}

#[inline(always)]
fn leave(
    context: &ProbeContext,
    count: impl FnOnce(&Inside) -> Option<u64>,
    walker: Walker,
) -> u32 {
    let result = register(context, arch::RESULT) as i32;
    // SAFETY: no arguments.
    let pid_tgid = unsafe { bpf_get_current_pid_tgid() };
    let Some(inside) = session::leave(Unit::thread(pid_tgid)) else {
        return 0;
    };
    if result <= 0 {
        return 0;
    }
    let count = count(&inside).unwrap_or(result as u64);
    if count == 0 || count > i32::MAX as u64 {
        return 0;
    }
    if let Some(session) = session::get(Key::new(inside.object, pid_tgid)) {
        let buffer = (&Buffer::at(inside.buffer), walker);
        let call = Call {
            time: inside.time,
            pid_tgid,
            way: inside.way as u8,
            length: count as u32,
        };
        if session::habits((pid_tgid >> 32) as u32) & habit::ASYNC_IDS != 0 {
            session.plain.unit[(call.way & 1) as usize] =
                node::plain(call.way, session.carrier, pid_tgid);
        } else {
            if call.way == INGRESS && session.plain.next == [0; 2] {
                python::reads_plaintext(pid_tgid);
            }
            python::note(&mut session.plain, call.way, pid_tgid);
        }
        session::tell(session, buffer, call);
    }
    0
}
