//! Goroutines: which one is at work, and for which one a pooled connection works.
//!
//! A goroutine is a unit of execution: it serves a request from its head to its answer, whichever
//! threads it runs on. Go keeps its `g` in a register (cmd/compile/abi-internal.md), where it is found
//! at a system call as in a probe; its number, which no other goroutine of the process ever gets, is in
//! there (runtime/runtime2.go).
//!
//! net/http writes a request in a goroutine that belongs to the connection. Who asks for it passes
//! `(*persistConn).roundTrip` first, so what is written next is written for that one. Where another
//! passes before it was, as those may who hold on to a connection (http.ClientConn, Go 1.26), it is
//! nobody's.

use agent_ebpf::abi::unit::{ASKED, GOROUTINE, KIND, VIRTUAL};
use agent_ebpf::abi::{EGRESS, Goroutines, TEEMING, habit};
use aya_ebpf::helpers::generated::bpf_get_current_comm;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;

use crate::arch::{self, Arguments};
use crate::connection::{Call, Connection};
use crate::kernel::{Pointer, read_user};
use crate::lineage;
use crate::maps::{ASKERS, GOROUTINES};
use crate::node;
use crate::python;
use crate::tls::{register, wanted};
use crate::transfer::socket_of;

/// Names what a request is written to: a socket's address in the kernel, or a TLS object's in the process.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Written {
    /// Address.
    pub address: u64,
    /// Process; 0 for a socket.
    pub tgid: u32,
    /// Unused.
    pub pad: u32,
}

impl Written {
    /// A socket.
    #[inline(always)]
    pub const fn socket(address: u64) -> Self {
        Self {
            address,
            tgid: 0,
            pad: 0,
        }
    }

    /// A TLS object of the current process.
    #[inline(always)]
    pub const fn object(address: u64, pid_tgid: u64) -> Self {
        Self {
            address,
            tgid: (pid_tgid >> 32) as u32,
            pad: 0,
        }
    }
}

/// What is there is gone, or begins: the address may be another's from here on.
#[inline(always)]
pub fn forget(what: Written) {
    let _ = ASKERS.remove(what);
}

/// Where things are in the structures of a Go process, where that is known.
#[inline(always)]
pub fn layout(pid_tgid: u64) -> Option<&'static Goroutines> {
    // SAFETY: written once by user space, read as plain numbers.
    unsafe { GOROUTINES.get((pid_tgid >> 32) as u32) }
}

/// What a thread has in the register that Go keeps its `g` in, and its stack pointer.
#[derive(Clone, Copy)]
pub struct Registers {
    /// Address of the g, if Go's code runs.
    pub g: u64,
    /// Inside of the goroutine's stack, then.
    pub stack: u64,
}

impl Registers {
    /// At a probe.
    #[inline(always)]
    pub fn of(context: &ProbeContext) -> Self {
        Self {
            g: register(context, arch::GOROUTINE),
            stack: register(context, arch::STACK),
        }
    }

    /// The goroutine's number; 0 where it is none's, as in code of another language.
    #[inline(always)]
    fn number(self, layout: &Goroutines) -> u64 {
        // runtime.g begins with its stack: [lo, hi).
        let [low, high]: [u64; 2] = read_user(self.g);
        if self.stack < low || self.stack >= high {
            return 0;
        }
        read_user(self.g.wrapping_add(layout.goid.into()))
    }

    /// The same, as in `abi::unit`.
    #[inline(always)]
    pub fn unit(self, layout: &Goroutines) -> u64 {
        named(self.number(layout))
    }
}

/// Those of a system call.
#[inline(always)]
fn registers(arguments: &Arguments) -> Registers {
    Registers {
        g: arguments.goroutine,
        stack: arguments.stack,
    }
}

/// Notes for which goroutine a call moves bytes over the socket at an address, where the process has such.
#[inline(always)]
pub fn note(connection: &mut Connection, arguments: &Arguments, socket: u64, call: &Call) {
    let (way, pid_tgid) = (call.way, call.pid_tgid);
    let slot = (way & 1) as usize;
    if u32::from(connection.habits) & habit::CONTEXTS != 0 {
        let unit = python::mover(connection, arguments, socket, call);
        moves(connection, slot, unit, pid_tgid);
        return;
    }
    if u32::from(connection.habits) & habit::ASYNC_IDS != 0 {
        return node::note(connection, way, pid_tgid);
    }
    if u32::from(connection.habits) & habit::GOROUTINES == 0 {
        connection.unit[slot] = if is_carrier() { VIRTUAL } else { 0 };
        return;
    }
    let to = (way == EGRESS).then(|| Written::socket(socket));
    moves(
        connection,
        slot,
        of(registers(arguments), to, pid_tgid),
        pid_tgid,
    );
}

/// The unit that is about to send over the socket at an address, as in `abi::unit`; 0 where there is none
/// that is finer than the thread.
#[inline(always)]
pub fn sends(habits: u32, (g, socket): (u64, u64), pid_tgid: u64) -> u64 {
    if habits & habit::CONTEXTS != 0 {
        return python::unit(pid_tgid);
    }
    if habits & habit::ASYNC_IDS != 0 {
        return node::current(pid_tgid);
    }
    if habits & habit::GOROUTINES == 0 {
        return 0;
    }
    // SAFETY: a number, read once.
    if let Some(asker) = unsafe { ASKERS.get(Written::socket(socket)) } {
        return *asker;
    }
    layout(pid_tgid).map_or(0, |layout| {
        named(read_user(g.wrapping_add(layout.goid.into())))
    })
}

/// Whether this thread carries a JVM's virtual threads, by its name: the scheduler's, which is a pool like
/// those that programs make, and no better evidence in these.
#[inline(always)]
fn is_carrier() -> bool {
    let mut name = [0u64; 2];
    // SAFETY: as many bytes as it is told.
    unsafe { bpf_get_current_comm(name.as_mut_ptr().cast(), 16) };
    let [first, then] = [*b"ForkJoin", *b"Pool-\0\0\0"].map(u64::from_ne_bytes);
    name[0] == first && name[1] << 24 == then << 24
}

/// Notes for which goroutine a connection's next bytes are.
#[inline(always)]
pub fn moves(connection: &mut Connection, slot: usize, unit: u64, pid_tgid: u64) {
    if connection.unit[slot & 1] != unit {
        connection.unit[slot & 1] = unit;
        lineage::moves(unit & !ASKED, connection.id, pid_tgid);
    }
}

/// The goroutine for which bytes are moved, as in `abi::unit`; 0 where that is not known. `to`: what they
/// are sent to. Who asked is told once: of a request's first bytes.
#[inline(always)]
pub fn of(at: Registers, to: Option<Written>, pid_tgid: u64) -> u64 {
    let Some(layout) = layout(pid_tgid) else {
        return 0;
    };
    if let Some(to) = to
        // SAFETY: a number, read once.
        && let Some(asker) = unsafe { ASKERS.get(to) }
    {
        let asker = *asker;
        let _ = ASKERS.remove(to);
        return asker;
    }
    at.unit(layout)
}

/// In [`ASKERS`]: more than one goroutine waits to write, and who is first is not known.
const SEVERAL: u64 = ASKED;

/// Entry of net/http's (\*persistConn).roundTrip: this goroutine's request comes next.
#[uprobe]
pub fn go_round_trip(context: ProbeContext) -> u32 {
    let Some(pid_tgid) = wanted() else { return 0 };
    let Some(layout) = layout(pid_tgid) else {
        return 0;
    };
    let asker = Registers::of(&context).unit(layout) | ASKED;
    let conn = register(&context, arch::GO[0]).wrapping_add(layout.conn.into());
    let object: u64 = read_user(conn.wrapping_add(8));
    // What an interface is of, the first of its methods says; a program may dial by its own means.
    let methods = read_user::<u64>(conn).wrapping_add(METHODS);
    let close: u64 = read_user(methods);
    let here = register(&context, arch::PLACE);
    let is = |far: i32| far != 0 && close == here.wrapping_add(far as i64 as u64);
    let to = if is(layout.tls_close) {
        Written::object(object, pid_tgid)
    } else if is(layout.tcp_close) {
        // *netFD first, of which a poll.FD is first, of which Sysfd (net/net.go, net/fd_posix.go,
        // internal/poll/fd_unix.go).
        let fd: u32 = read_user(read_user::<u64>(object).wrapping_add(SYSFD));
        match socket_of(fd.into()) {
            Some((socket, _)) => Written::socket(socket.address()),
            None => return 0,
        }
    } else {
        return 0;
    };
    // SAFETY: a number, read once.
    let asker = match unsafe { ASKERS.get(to) } {
        Some(other) if *other != asker => SEVERAL,
        _ => asker,
    };
    let _ = ASKERS.insert(to, asker, 0);
    0
}

/// A call of runtime.runqput in runtime.newproc's part that runs on the thread's own stack: a goroutine
/// (rbx) is about to run for the first time.
#[uprobe]
pub fn go_start(context: ProbeContext) -> u32 {
    let Some(pid_tgid) = wanted() else { return 0 };
    let Some(layout) = layout(pid_tgid) else {
        return 0;
    };
    if !lineage::keeps_pace(pid_tgid, TEEMING) {
        return 0;
    }
    let g = register(&context, arch::GO[1]);
    let child: u64 = read_user(g.wrapping_add(layout.goid.into()));
    // Who started it, and behind that where (runtime2.go).
    let [parent, site]: [u64; 2] = read_user(g.wrapping_add(layout.parent.into()));
    if child != 0 && parent != 0 {
        lineage::started(named(child), named(parent), site, pid_tgid);
    }
    0
}

/// Entry of HTTP/2's (\*clientStream).doRequest: this goroutine was started to send one request.
#[uprobe]
pub fn go_do_request(context: ProbeContext) -> u32 {
    if let Some(pid_tgid) = wanted()
        && let Some(layout) = layout(pid_tgid)
    {
        lineage::asks(Registers::of(&context).unit(layout), pid_tgid);
    }
    0
}

/// A goroutine's number as in `abi::unit`; 0 for none.
#[inline(always)]
const fn named(number: u64) -> u64 {
    if number == 0 {
        return 0;
    }
    GOROUTINE | (number & !(KIND | ASKED))
}

/// Of an itab (internal/abi/iface.go).
pub const METHODS: u64 = 24;
/// After the mutex, of 16 bytes.
pub const SYSFD: u64 = 16;
