//! Go's crypto/tls, by the register calling convention (Go 1.17 and later): uprobes at places that
//! agent/src/target/tls/go.rs names. A goroutine changes threads, so it is what is inside a call;
//! there is no exit probe, as Go's stacks move.
//!
//! Source: crypto/tls/conn.go; the convention: cmd/compile/abi-internal.md.

use agent_ebpf::abi::{EGRESS, INGRESS, habit};
use aya_ebpf::helpers::generated::{
    bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_probe_read_user,
};
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;

use crate::arch;
use crate::carry;
use crate::connection::Call;
use crate::goroutine::{self, Registers, Written};
use crate::iovec::Walker;
use crate::payload::Buffer;
use crate::session::{self, Inside, Key, Unit};
use crate::tls::{register, wanted};

/// Entry of clientHandshake or serverHandshake: a session begins at this \*Conn.
#[uprobe]
pub fn go_begin(context: ProbeContext) -> u32 {
    if let Some(pid_tgid) = wanted() {
        let object = register(&context, arch::GO[0]);
        session::begin(Key::new(object, pid_tgid));
        goroutine::forget(Written::object(object, pid_tgid));
        enter(&context, pid_tgid, object, EGRESS);
    }
    0
}

/// Entry of (\*Conn).Read.
#[uprobe]
pub fn go_read(context: ProbeContext) -> u32 {
    // SAFETY: no arguments.
    let pid_tgid = unsafe { bpf_get_current_pid_tgid() };
    let object = register(&context, arch::GO[0]);
    if enter(&context, pid_tgid, object, INGRESS) {
        let _ = session::get(Key::new(object, pid_tgid));
    }
    0
}

/// The copy to the application's buffer, its last act: (to, from, bytes).
#[uprobe]
pub fn go_read_copy(context: ProbeContext) -> u32 {
    copied(&context, Walker::Loop)
}

/// The same for kernels before bpf_loop.
#[uprobe]
pub fn go_read_copy_old(context: ProbeContext) -> u32 {
    copied(&context, Walker::Unrolled)
}

#[inline(always)]
fn copied(context: &ProbeContext, walker: Walker) -> u32 {
    let Some(pid_tgid) = wanted() else { return 0 };
    let goroutine = register(context, arch::GOROUTINE);
    let _ = session::leave(Unit::goroutine(goroutine, pid_tgid));
    // Read has put its first argument where its caller left room for it.
    let at = register(context, arch::FRAME).wrapping_add(16);
    let mut object = 0u64;
    // SAFETY: the helper checks the user address and writes only `object`.
    let failed = unsafe {
        bpf_probe_read_user(
            core::ptr::addr_of_mut!(object).cast(),
            8,
            at as *const core::ffi::c_void,
        )
    };
    if failed != 0 {
        return 0;
    }
    let (from, count) = (
        register(context, arch::GO[1]),
        register(context, arch::GO[2]),
    );
    let at = Registers::of(context);
    tell(object, INGRESS, (at, from, count), pid_tgid, walker);
    0
}

/// A call of (\*Conn).writeRecordLocked by (\*Conn).Write: (conn, type, data, bytes).
#[uprobe]
pub fn go_write(context: ProbeContext) -> u32 {
    written(&context, Walker::Loop)
}

/// The same for kernels before bpf_loop.
#[uprobe]
pub fn go_write_old(context: ProbeContext) -> u32 {
    written(&context, Walker::Unrolled)
}

#[inline(always)]
fn written(context: &ProbeContext, walker: Walker) -> u32 {
    // SAFETY: no arguments.
    let pid_tgid = unsafe { bpf_get_current_pid_tgid() };
    let object = register(context, arch::GO[0]);
    if !enter(context, pid_tgid, object, EGRESS) {
        return 0;
    }
    let (data, count) = (
        register(context, arch::GO[2]),
        register(context, arch::GO[3]),
    );
    let at = Registers::of(context);
    tell(object, EGRESS, (at, data, count), pid_tgid, walker);
    0
}

#[inline(always)]
fn enter(context: &ProbeContext, pid_tgid: u64, object: u64, way: u8) -> bool {
    let inside = Inside {
        object,
        buffer: 0,
        count_at: 0,
        stack: 0,
        time: 0,
        way: way.into(),
        judged: 0,
    };
    let unit = Unit::goroutine(register(context, arch::GOROUTINE), pid_tgid);
    session::enter(unit, inside, habit::GO, pid_tgid)
}

#[inline(always)]
fn tell(
    object: u64,
    way: u8,
    (at, address, count): (Registers, u64, u64),
    pid_tgid: u64,
    walker: Walker,
) {
    if count == 0 || count > i32::MAX as u64 {
        return;
    }
    if let Some(session) = session::get(Key::new(object, pid_tgid)) {
        let buffer = (&Buffer::at(address), walker);
        let to = (way == EGRESS).then(|| Written::object(object, pid_tgid));
        let call = Call {
            // SAFETY: no arguments.
            time: unsafe { bpf_ktime_get_ns() },
            pid_tgid,
            way,
            length: count as u32,
        };
        let unit = goroutine::of(at, to, pid_tgid);
        goroutine::moves(&mut session.plain, way.into(), unit, pid_tgid);
        if way == EGRESS && carry::is_on() {
            carry::writes(session, Unit::goroutine(at.g, pid_tgid), unit, pid_tgid);
        }
        session::tell(session, buffer, call);
    }
}
