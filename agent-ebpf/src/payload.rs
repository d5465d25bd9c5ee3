//! From a completed call to its records: which user buffer held the bytes, how many of them the
//! budget allows, and the copy. Reads user memory only; what cannot be read becomes a hole.

use agent_ebpf::abi::{CHUNK, Counter, EGRESS, INGRESS, Kind, PARTS, Segment, TAIL, flag, hole};
use agent_ebpf::budget::{ALWAYS, HEADS, least};
use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_probe_read_user};
use core::ffi::c_void;

use crate::arch::{Arguments, NO_SYSCALL, call};
use crate::connection::{Call, Connection};
use crate::emit;
use crate::frames;
use crate::framing;
use crate::iovec::{Walker, gather, iovec};
use crate::maps::{SCRATCH, Scratch, global};
use crate::session::Key;

/// Where a call's bytes are in user memory.
#[derive(Clone, Copy)]
pub struct Buffer {
    /// The bytes themselves, or the first iovec.
    pub address: u64,
    /// Number of iovecs; 0 where `address` is the bytes.
    pub iovecs: u64,
    /// Bytes in iovecs before the first that is meant.
    pub skipped: u32,
    /// Why there is no buffer, one of `abi::hole`.
    missing: u8,
}

impl Buffer {
    /// None, and why: one of `abi::hole`.
    #[inline(always)]
    pub const fn none(missing: u8) -> Self {
        Self {
            address: 0,
            iovecs: 0,
            skipped: 0,
            missing,
        }
    }

    /// Bytes in one piece.
    #[inline(always)]
    pub const fn at(address: u64) -> Self {
        Self {
            address,
            iovecs: 0,
            skipped: 0,
            missing: hole::NONE,
        }
    }

    /// So many pieces, which the scratch lists, and bytes of them that are passed over.
    #[inline(always)]
    pub const fn slices(iovecs: u64, skipped: u64) -> Self {
        Self {
            address: 0,
            iovecs,
            skipped: skipped as u32,
            missing: hole::NONE,
        }
    }

    /// Whether there is one.
    #[inline(always)]
    pub const fn is_there(&self) -> bool {
        self.missing == hole::NONE
    }

    /// From one of its iovecs on, of which every byte is meant.
    #[inline(always)]
    pub const fn from(&self, index: u64) -> Self {
        Self {
            address: self.address.wrapping_add(index * 16),
            iovecs: self.iovecs.wrapping_sub(index),
            skipped: 0,
            missing: self.missing,
        }
    }

    /// Address of the first of its bytes; 0 where they are nowhere.
    #[inline(always)]
    pub fn first(&self) -> u64 {
        if self.missing != hole::NONE {
            0
        } else if self.iovecs == 0 {
            self.address
        } else {
            iovec(self.address, 0).map_or(0, |[address, _]| address)
        }
    }

    /// Finds the buffer of a call that moved bytes over a socket this way.
    #[inline(always)]
    pub fn of(arguments: &Arguments, way: u8) -> Self {
        if arguments.number == NO_SYSCALL {
            return Self::none(hole::NO_BUFFER);
        }
        if arguments.compat {
            return Self::none(hole::COMPAT);
        }
        let address = arguments.value[1];
        match (arguments.number, way) {
            (call::WRITE | call::SENDTO, EGRESS) | (call::READ | call::RECVFROM, INGRESS) => Self {
                address,
                iovecs: 0,
                skipped: 0,
                missing: hole::NONE,
            },
            (call::WRITEV | call::PWRITEV2, EGRESS) | (call::READV | call::PREADV2, INGRESS) => {
                Self {
                    address,
                    iovecs: arguments.value[2],
                    skipped: 0,
                    missing: hole::NONE,
                }
            }
            (call::SENDMSG | call::SENDMMSG, EGRESS)
            | (call::RECVMSG | call::RECVMMSG, INGRESS) => match message(address) {
                Some([address, iovecs]) => Self {
                    address,
                    iovecs: iovecs.max(1),
                    skipped: 0,
                    missing: hole::NONE,
                },
                None => Self::none(hole::FAULT),
            },
            _ => Self::none(hole::NO_BUFFER),
        }
    }
}

/// Bytes that a call moved over a socket.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Moved {
    /// What it was asked.
    pub asked: Arguments,
    /// Address of the socket.
    pub socket: u64,
    /// The call.
    pub call: Call,
    /// The TLS session that it is of, where that is to be introduced.
    pub session: Key,
}

/// Address and number of a message's iovecs. struct msghdr: msg_iov at 16, msg_iovlen at 24.
#[inline(always)]
pub fn message(address: u64) -> Option<[u64; 2]> {
    iovec(address, 1)
}

/// A record of bytes that were moved in a call nobody saw yet: only their number is known.
#[inline(always)]
pub fn deliver_unseen(connection: &mut Connection, call: Call, way: u8, bytes: u32) {
    let Some(scratch) = scratch(call.way.into()) else {
        return;
    };
    let at = (way & 1) as usize;
    let offset = connection.next[at];
    connection.next[at] = offset.wrapping_add(bytes.into());
    emit::count(Counter::NoBuffer, 1);
    let call = Call {
        way,
        length: bytes,
        ..call
    };
    let head = (hole::SUPPOSED, 0, 0);
    send(connection, scratch, call, (offset, bytes, 0), head);
}

/// What of a call is sent.
pub struct Piece {
    /// Bytes of the call before it.
    pub from: u32,
    /// Bytes it stands for.
    pub length: u32,
    /// Bytes wanted of it.
    pub wanted: u32,
    /// Bits of `abi::flag`.
    pub flags: u8,
    /// Whether it ends where the call does, and its last bytes are wanted.
    pub ends: bool,
}

/// Sends the records of one completed call: up to [`PARTS`] of at most [`CHUNK`] bytes. `framed`:
/// whether to look how far the body goes, which only newer verifiers have patience for.
#[inline(always)]
pub fn deliver(
    connection: &mut Connection,
    buffer: &Buffer,
    call: Call,
    offset: u64,
    walker: Walker,
    framed: bool,
) {
    let Some(scratch) = scratch(call.way.into()) else {
        return;
    };
    // A datagram is one record; without a branch, which verifiers would walk twice behind it.
    let most = CHUNK as u32 | u32::from(connection.datagrams).wrapping_sub(1);
    deliver_by(
        connection,
        scratch,
        buffer,
        (call, offset),
        walker,
        (framed, most),
    );
}

/// The same with a scratch of the caller's. `most`: bytes that are copied of a call at most.
#[inline(always)]
pub fn deliver_by(
    connection: &mut Connection,
    scratch: &mut Scratch,
    buffer: &Buffer,
    (call, offset): (Call, u64),
    walker: Walker,
    (framed, most): (bool, u32),
) {
    let way = (call.way & 1) as usize;
    let mut flags = 0;
    // On the syscall path that is more stack than verifiers allow.
    let followed = framed && frames::are_followed(connection, buffer, (call, offset));
    if connection.way != call.way {
        connection.way = call.way;
        flags = flag::TURN;
        if !followed {
            connection.left[way] = global!(MESSAGE_BYTES).saturating_add(HEADS);
            connection.body[way] = 0;
        }
    }
    let long = framed && connection.whole != 0 && call.length > (PARTS * CHUNK) as u32;
    if buffer.is_there() && (followed || long) {
        return frames::deliver(connection, scratch, buffer, (call, offset), flags);
    }
    let wanted = wanted(connection, scratch, buffer, (call, offset), framed);
    let wanted = wanted.min(most);
    // A walk without bpf_loop is all the old verifiers have patience for: one record then.
    let parts = if walker == Walker::Unrolled && buffer.iovecs != 0 {
        1
    } else {
        PARTS as u32
    };
    let mut from = 0u32;
    for part in 0..PARTS as u32 {
        let last = part + 1 >= parts || from + CHUNK as u32 >= wanted;
        let length = if last {
            call.length - from
        } else {
            CHUNK as u32
        };
        let piece = Piece {
            from,
            length,
            wanted: wanted.saturating_sub(from),
            flags,
            ends: true,
        };
        one(connection, scratch, buffer, walker, call, offset, &piece);
        if last {
            break;
        }
        from += CHUNK as u32;
        flags = 0;
    }
}

/// Bytes of a call that are to be copied; takes them from the turn's budget.
#[inline(always)]
fn wanted(
    connection: &mut Connection,
    scratch: &mut Scratch,
    buffer: &Buffer,
    (call, offset): (Call, u64),
    framed: bool,
) -> u32 {
    let way = (call.way & 1) as usize;
    // The first bytes of a call are kept whatever the budget: they may be a head's, after an answer
    // that came before its request was over. In a body they cost the turn nothing, as what comes behind
    // it has a head again.
    let end = offset + u64::from(call.length);
    let left = connection.left[way];
    let (budget, charged) = if connection.whole != 0 {
        (u32::MAX, 0)
    } else if end <= connection.body[way] {
        (0, 0)
    } else {
        (left.saturating_sub(HEADS), u32::MAX)
    };
    let mut wanted = call.length.min(budget.max(least(left, call.length)));
    if buffer.missing != hole::NONE {
        wanted = 0;
    }
    if framed
        && connection.whole == 0
        && wanted >= framing::BULKY
        && let Some((head, body)) = framing::look(scratch, buffer)
    {
        let over = offset + u64::from(head) + body;
        // More may come after a body that ends within the call.
        if over >= end {
            connection.body[way] = over;
            wanted = head.max(ALWAYS);
        }
    }
    connection.left[way] = left.saturating_sub(wanted & charged);
    wanted
}

/// This CPU's scratch of a program, by its direction.
#[inline(always)]
pub fn scratch(way: u32) -> Option<&'static mut Scratch> {
    // SAFETY: no arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    // SAFETY: one slot per CPU and direction. Programs at these hooks run without preemption, and none of one
    // direction nests in another: nobody else uses it meanwhile.
    SCRATCH
        .get_ptr_mut(cpu * 2 + (way & 1))
        .map(|slot| unsafe { &mut *slot })
}

/// Sends one record: the piece of a call whose first byte is at this offset.
#[inline(always)]
pub fn one(
    connection: &mut Connection,
    scratch: &mut Scratch,
    buffer: &Buffer,
    walker: Walker,
    call: Call,
    offset: u64,
    piece: &Piece,
) {
    let (captured, tail, why) = copy(scratch, buffer, call.length, piece, walker);
    let place = (offset + u64::from(piece.from), piece.length, piece.flags);
    send(connection, scratch, call, place, (why, captured, tail));
}

/// Sends the record whose payload is in the scratch: (offset, length, flags), (hole, captured, tail).
#[inline(always)]
fn send(
    connection: &mut Connection,
    scratch: &mut Scratch,
    call: Call,
    (offset, length, flags): (u64, u32, u8),
    (why, captured, tail): (u8, u32, u32),
) {
    scratch.segment = Segment {
        kind: Kind::Segment as u32,
        direction: call.way,
        flags,
        tail: tail as u8,
        hole: why,
        connection: connection.id,
        time: call.time,
        offset,
        length,
        captured,
        tgid: (call.pid_tgid >> 32) as u32,
        tid: call.pid_tgid as u32,
        lost: connection.lost,
        pad: 0,
        unit: connection.unit[(call.way & 1) as usize],
    };
    let kept = opaque(u64::from(captured) + u64::from(tail)).min(CHUNK as u64 + TAIL as u64);
    let size = size_of::<Segment>() as u64 + kept;
    // SAFETY: header and payload are one block; its length is bounded just above.
    let sent = unsafe {
        emit::send(
            connection.id,
            core::ptr::from_ref(&scratch.segment).cast(),
            size,
            false,
        )
    };
    if sent {
        connection.lost = 0;
        emit::count(Counter::Segments, 1);
        emit::count(Counter::Bytes, u64::from(captured) + u64::from(tail));
    } else {
        connection.lost = connection.lost.wrapping_add(1);
    }
}

/// Copies what is wanted of a piece: (bytes captured, bytes of tail, why bytes are missing).
#[inline(always)]
fn copy(
    scratch: &mut Scratch,
    buffer: &Buffer,
    total: u32,
    piece: &Piece,
    walker: Walker,
) -> (u32, u32, u8) {
    if buffer.missing != hole::NONE {
        let counter = match buffer.missing {
            hole::COMPAT => Counter::Compat,
            hole::FAULT => Counter::Faults,
            _ => Counter::NoBuffer,
        };
        emit::count(counter, 1);
        return (0, 0, buffer.missing);
    }
    let mut wanted = piece.wanted;
    if wanted > CHUNK as u32 {
        wanted = CHUNK as u32;
    }
    if buffer.iovecs != 0 {
        return gather(scratch, buffer, total, piece, wanted, walker);
    }
    let start = buffer.address.wrapping_add(piece.from.into());
    if wanted != 0 && !read_user(scratch, 0, wanted, start) {
        emit::count(Counter::Faults, 1);
        return (0, 0, hole::FAULT);
    }
    if piece.length <= wanted {
        return (wanted, 0, hole::NONE);
    }
    emit::count(Counter::Budgeted, (piece.length - wanted).into());
    if !piece.ends {
        return (wanted, 0, hole::BUDGET);
    }
    let tail = (piece.length - wanted).min(TAIL as u32);
    let end = buffer.address.wrapping_add(total.into());
    let kept = read_user(scratch, wanted, tail, end.wrapping_sub(tail.into()));
    (wanted, if kept { tail } else { 0 }, hole::BUDGET)
}

/// Reads user memory into the payload at `at`; both bounds are the verifier's.
#[inline(always)]
pub fn read_user(scratch: &mut Scratch, at: u32, length: u32, from: u64) -> bool {
    let (at, length) = (opaque(at.into()), opaque(length.into()));
    if at > (CHUNK + TAIL) as u64 || length > CHUNK as u64 {
        return false;
    }
    // SAFETY: at + length ≤ 2 × CHUNK + TAIL; the helper checks the user address.
    unsafe {
        let to = scratch.payload.as_mut_ptr().add(at as usize);
        bpf_probe_read_user(to.cast(), length as u32, from as *const c_void) == 0
    }
}

/// Hides a number's history from the compiler, so that the bounds checked next stay in the program
/// for the verifier to see.
#[inline(always)]
pub fn opaque(n: u64) -> u64 {
    // SAFETY: reads the local it is given.
    unsafe { core::ptr::read_volatile(&n) }
}
