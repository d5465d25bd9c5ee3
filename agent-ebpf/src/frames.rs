//! HTTP/2's frames, as far as it saves copying (RFC 9113, section 4.1): heads and header blocks are
//! copied whole, of DATA what a message may cost, and from then on only how long it is, with the first
//! bytes, where a gRPC message's prefix is. FastCGI's records likewise (FastCGI specification 1.0, section
//! 3.3): heads whole, of all content what a request may cost. What begins like neither is not followed, and
//! following ends for good where a frame's head cannot be read: then all is copied, as user space asks.
//!
//! The same walk sends any long call of which all is wanted: it is one frame without an end.

use agent_ebpf::abi::CHUNK;
use agent_ebpf::budget::HEADS;
use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_user};
use core::ffi::c_void;

use crate::connection::{Call, Connection};
use crate::iovec::{Walker, iovec};
use crate::maps::{Scratch, global};
use crate::payload::{self, Buffer, Piece};

/// A walk over a call's bytes. Kept in the scratch, so that the verifier sees one step like the next.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Frames {
    buffer: Buffer,
    call: Call,
    /// Of the call's first byte.
    offset: u64,
    /// Bytes of the call that are sent.
    from: u32,
    /// Bytes that are sent or will be with the next record.
    to: u32,
    /// Bits of `abi::flag` for the first record.
    flags: u8,
    /// The iovec that a head was last read from.
    now: Place,
    /// The same when the last record was sent.
    then: Place,
}

/// One of a buffer's iovecs.
#[derive(Clone, Copy)]
#[repr(C)]
struct Place {
    /// Number of the one behind it.
    next: u64,
    /// Bytes in those before it.
    before: u64,
    address: u64,
    length: u64,
}

const NOWHERE: Place = Place {
    next: 0,
    before: 0,
    address: 0,
    length: 0,
};

/// Whether the frames of a call's direction are followed.
#[inline(always)]
pub fn are_followed(
    connection: &mut Connection,
    buffer: &Buffer,
    (call, offset): (Call, u64),
) -> bool {
    let way = (call.way & 1) as usize;
    let first = connection.follows & FRESH << way != 0;
    connection.follows &= !(FRESH << way);
    if first && let Some((before, records)) = begin(connection, way, buffer.first()) {
        connection.follows |= (1 | records) << way;
        connection.copied[way] = offset + before;
        connection.body[way] = offset + before;
        connection.left[way] = global!(MESSAGE_BYTES);
    }
    if connection.follows & 1 << way == 0 {
        return false;
    }
    if !buffer.is_there() && offset + u64::from(call.length) > connection.body[way] {
        lose(connection, way);
        connection.body[way] = 0;
        connection.left[way] = connection.left[way].saturating_add(HEADS);
        return false;
    }
    true
}

/// How many bytes come before the first frame, and [`RECORDS`] or 0, where a direction begins as one of
/// HTTP/2 does (section 3.4), with the client's preface or with SETTINGS, which name no stream; or as one
/// of FastCGI: with BEGIN_REQUEST, or as the answer to it.
#[inline(always)]
fn begin(connection: &Connection, way: usize, address: u64) -> Option<(u64, u32)> {
    if connection.follows & RECORDS << (way ^ 1) != 0 {
        return Some((0, RECORDS));
    }
    let mut bytes = [0u8; 9];
    // SAFETY: the helper checks the user address and writes only `bytes`.
    let failed =
        unsafe { bpf_probe_read_user(bytes.as_mut_ptr().cast(), 9, address as *const c_void) };
    if address == 0 || failed != 0 {
        return None;
    }
    if bytes == *b"PRI * HTT" {
        return Some((PREFACE, 0));
    }
    match bytes {
        [0, 0, length, SETTINGS, 0, 0, 0, 0, 0] if length.is_multiple_of(6) => Some((0, 0)),
        [VERSION, BEGIN, _, _, 0, 8, _, 0, 0] => Some((0, RECORDS)),
        _ => None,
    }
}

/// Sends a call's bytes frame by frame; all of them where the direction is not followed.
#[inline(always)]
pub fn deliver(
    connection: &mut Connection,
    scratch: &mut Scratch,
    buffer: &Buffer,
    (call, offset): (Call, u64),
    flags: u8,
) {
    let way = (call.way & 1) as usize;
    if connection.follows & 1 << way == 0 {
        lose(connection, way);
    }
    scratch.frames = Frames {
        buffer: *buffer,
        call,
        offset,
        from: 0,
        to: 0,
        flags,
        now: NOWHERE,
        then: NOWHERE,
    };
    let mut context: Held = (
        core::ptr::from_mut(scratch),
        core::ptr::from_mut(connection),
    );
    let context = core::ptr::addr_of_mut!(context);
    // SAFETY: `each` takes what it is given here; the verifier checks its body.
    unsafe { bpf_loop(STEPS, each as *mut c_void, context.cast(), 0) };
    if connection.follows & 1 << way == 0 {
        connection.body[way] = 0;
    }
}

/// From here on nothing is known of frames: all is copied.
#[inline(always)]
fn lose(connection: &mut Connection, way: usize) {
    connection.follows &= !((1 | RECORDS | AMID) << way);
    connection.copied[way] = u64::MAX;
    connection.body[way] = u64::MAX;
    connection.part[way] = 0;
}

type Held = (*mut Scratch, *mut Connection);

/// bpf_loop's callback: takes something in, or sends what was taken in; 1 ends the walk.
extern "C" fn each(index: u32, context: *mut c_void) -> i64 {
    // SAFETY: what `deliver` passed; both outlive the loop.
    let (scratch, connection) = unsafe {
        let (scratch, connection) = *context.cast::<Held>();
        (&mut *scratch, &mut *connection)
    };
    let Frames {
        buffer,
        call,
        offset,
        from,
        ..
    } = scratch.frames;
    let passed = if index + 1 < STEPS {
        let Some(passed) = take(connection, scratch) else {
            return 0;
        };
        passed
    } else {
        lose(connection, (call.way & 1) as usize);
        call.length.wrapping_sub(scratch.frames.to)
    };
    let taken = scratch.frames.to.wrapping_sub(from);
    let length = taken.wrapping_add(passed);
    if length == 0 {
        return 1;
    }
    let to = from.wrapping_add(length);
    let flags = scratch.frames.flags;
    let Place { next, before, .. } = scratch.frames.then;
    scratch.frames.from = to;
    scratch.frames.to = to;
    scratch.frames.flags = 0;
    scratch.frames.then = scratch.frames.now;
    // As if the buffer began with the iovec that the piece begins in; a list at hand is short.
    let (buffer, shift) = if buffer.address == 0 || next == 0 {
        (buffer, 0)
    } else {
        (buffer.from(next - 1), before as u32)
    };
    let piece = Piece {
        from: from.wrapping_sub(shift),
        length,
        wanted: taken,
        flags,
        ends: false,
    };
    let call = Call {
        length: call.length.wrapping_sub(shift),
        ..call
    };
    let offset = offset.wrapping_add(shift.into());
    payload::one(
        connection,
        scratch,
        &buffer,
        Walker::Loop,
        call,
        offset,
        &piece,
    );
    0
}

/// Takes the next bytes in; how many bytes behind those taken in are passed over, where they are to be
/// sent first.
#[inline(always)]
fn take(connection: &mut Connection, scratch: &mut Scratch) -> Option<u32> {
    let frames = &mut scratch.frames;
    let way = (frames.call.way & 1) as usize;
    let taken = frames.to.wrapping_sub(frames.from);
    let left = frames.call.length.wrapping_sub(frames.to);
    let room = (CHUNK as u32).wrapping_sub(taken);
    if left == 0 || room == 0 || room > CHUNK as u32 {
        return Some(0);
    }
    let here = frames.offset.wrapping_add(frames.to.into());
    let (copied, end) = (connection.copied[way], connection.body[way]);
    if here < copied {
        let some = (copied - here).min(left.min(room).into()) as u32;
        frames.to = frames.to.wrapping_add(some);
        return None;
    }
    if here < end {
        return Some((end - here).min(left.into()) as u32);
    }
    let read = connection.part[way] >> 24;
    if here != end.wrapping_add(read.into()) || !head(connection, scratch, here) {
        lose(connection, way);
    }
    None
}

/// Reads some of a frame's head; false where that cannot be.
#[inline(always)]
fn head(connection: &mut Connection, scratch: &mut Scratch, here: u64) -> bool {
    let Some((address, room)) = find(scratch) else {
        return false;
    };
    let frames = &mut scratch.frames;
    if room == 0 {
        // The next iovec was taken.
        return true;
    }
    let way = (frames.call.way & 1) as usize;
    // The first four bytes, of which up to three came before: their number, then they.
    let part = connection.part[way];
    let mut word = [0u8; 4];
    let to = word.as_mut_ptr().cast();
    if part == 0 && room >= 4 {
        // SAFETY: the helper checks the user address and writes only `word`.
        if unsafe { bpf_probe_read_user(to, 4, address as *const c_void) } != 0 {
            return false;
        }
        frames.to = frames.to.wrapping_add(4);
        began(connection, way, here, u32::from_be_bytes(word));
        return true;
    }
    // SAFETY: as above.
    if unsafe { bpf_probe_read_user(to, 1, address as *const c_void) } != 0 {
        return false;
    }
    frames.to = frames.to.wrapping_add(1);
    let bytes = (part & 0x00ff_ffff) << 8 | u32::from(word[0]);
    if part >> 24 < 3 {
        connection.part[way] = ((part >> 24) + 1) << 24 | bytes;
    } else {
        connection.part[way] = 0;
        began(connection, way, here.wrapping_sub(3), bytes);
    }
    true
}

/// Where the next byte is, and how many follow it there; none where another iovec had to be taken.
#[inline(always)]
fn find(scratch: &mut Scratch) -> Option<(u64, u64)> {
    let frames = &mut scratch.frames;
    let at = u64::from(frames.to) + u64::from(frames.buffer.skipped);
    if frames.buffer.iovecs == 0 {
        let left = frames.call.length.wrapping_sub(frames.to);
        return Some((frames.buffer.address.wrapping_add(at), left.into()));
    }
    let Place {
        next,
        before,
        address,
        length,
    } = frames.now;
    let inside = at.wrapping_sub(before);
    if inside < length {
        return Some((address.wrapping_add(inside), length - inside));
    }
    if next >= frames.buffer.iovecs {
        return None;
    }
    let iov = match frames.buffer.address {
        0 => scratch.slices.get(next as usize).copied()?,
        iovecs => iovec(iovecs, next)?,
    };
    scratch.frames.now = Place {
        next: next + 1,
        before: before.wrapping_add(length),
        address: iov[0],
        length: iov[1],
    };
    Some((0, 0))
}

/// A frame begins here: how much of it is copied, and where it ends.
#[inline(always)]
fn began(connection: &mut Connection, way: usize, here: u64, word: u32) {
    if connection.follows & RECORDS << way != 0 {
        return record(connection, way, here, word);
    }
    let (length, kind) = (word >> 8, word & 0xff);
    let most = global!(MESSAGE_BYTES);
    let copied = if kind == DATA {
        let copied = length.min(connection.left[way].max(FIRST));
        connection.left[way] = connection.left[way].saturating_sub(copied);
        copied
    } else {
        if kind == HEADERS {
            connection.left[way] = most;
        }
        length.min(most)
    };
    let content = here.wrapping_add(HEAD);
    connection.copied[way] = content.wrapping_add(copied.into());
    connection.body[way] = content.wrapping_add(length.into());
}

/// The same of a FastCGI record, whose head is two such words: the second one has the length.
#[inline(always)]
fn record(connection: &mut Connection, way: usize, here: u64, word: u32) {
    let next = here.wrapping_add(4);
    let [version, kind, ..] = word.to_be_bytes();
    let (mut copied, mut length) = (0, 0);
    if connection.follows & AMID << way != 0 {
        let (content, padding) = (word >> 16, word >> 8 & 0xff);
        copied = content.min(connection.left[way].max(FIRST));
        connection.left[way] = connection.left[way].saturating_sub(copied);
        length = content + padding;
    } else if version != VERSION {
        return lose(connection, way);
    } else if kind == BEGIN {
        connection.left = [global!(MESSAGE_BYTES); 2];
    }
    connection.follows ^= AMID << way;
    connection.copied[way] = next.wrapping_add(copied.into());
    connection.body[way] = next.wrapping_add(length.into());
}

/// Bit of `Connection::follows`, by direction: nothing has come that way yet.
const FRESH: u32 = 1 << 6;
/// What `Connection::follows` begins with.
pub const NOTHING_YET: u32 = FRESH | FRESH << 1;
/// Bit of `Connection::follows`, by direction: FastCGI's records are followed, not HTTP/2's frames.
const RECORDS: u32 = 1 << 2;
/// The same: the first half of a record's head was read.
const AMID: u32 = 1 << 4;
/// FCGI_VERSION_1.
const VERSION: u8 = 1;
/// FCGI_BEGIN_REQUEST.
const BEGIN: u8 = 1;
/// Bytes of a frame's head.
const HEAD: u64 = 9;
/// Bytes of the client's preface.
const PREFACE: u64 = 24;
const DATA: u32 = 0;
const HEADERS: u32 = 1;
const SETTINGS: u8 = 4;
/// Bytes of each DATA frame and each record's content that are copied in any case.
const FIRST: u32 = 16;
/// Most steps for one call: a frame takes two or three, an iovec one.
const STEPS: u32 = 4096;
