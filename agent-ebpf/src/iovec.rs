//! Bytes scattered over iovecs, gathered into one record: with bpf_loop where the kernel has it, else
//! in a short bounded loop.

use agent_ebpf::abi::{Counter, TAIL, hole};
use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_user};
use core::ffi::c_void;

use crate::emit;
use crate::maps::Scratch;
use crate::payload::{Buffer, Piece, read_user};

/// The same from iovecs.
#[inline(always)]
pub fn gather(
    scratch: &mut Scratch,
    buffer: &Buffer,
    total: u32,
    piece: &Piece,
    wanted: u32,
    walker: Walker,
) -> (u32, u32, u8) {
    scratch.walk = Walk {
        iovecs: buffer.address,
        from: u64::from(piece.from) + u64::from(buffer.skipped),
        wanted: wanted.into(),
        tail: u64::from(piece.ends && piece.length > wanted),
        total: u64::from(total) + u64::from(buffer.skipped),
        passed: 0,
        filled: 0,
        last: 0,
        last_end: 0,
        before: 0,
        before_end: 0,
        failed: 0,
    };
    match walker {
        Walker::Loop => {
            let count = buffer.iovecs.min(IOVECS) as u32;
            let mut context = core::ptr::from_mut(scratch);
            let context = core::ptr::addr_of_mut!(context);
            // SAFETY: `each` takes what it is given here; the verifier checks its body.
            unsafe { bpf_loop(count, each as *mut c_void, context.cast(), 0) };
        }
        Walker::Unrolled => {
            for i in 0..UNROLLED {
                if i >= buffer.iovecs || step(scratch, i) {
                    break;
                }
            }
        }
    }
    let filled = scratch.walk.filled as u32;
    if scratch.walk.failed != 0 {
        emit::count(Counter::Faults, 1);
        return (filled, 0, hole::FAULT);
    }
    if filled < wanted {
        return (filled, 0, hole::IOVECS);
    }
    if filled >= piece.length {
        return (filled, 0, hole::NONE);
    }
    emit::count(Counter::Budgeted, (piece.length - filled).into());
    if !piece.ends {
        return (filled, 0, hole::BUDGET);
    }
    (filled, tail(scratch, filled), hole::BUDGET)
}

/// Copies the call's last bytes, which its last two iovecs hold: a chunked body's end is often
/// written as pieces of its own. Returns how many.
#[inline(always)]
fn tail(scratch: &mut Scratch, filled: u32) -> u32 {
    let walk = &scratch.walk;
    let last = walk.last.min(TAIL as u64);
    let before = walk.before.min(TAIL as u64 - last);
    let (from, then) = (
        walk.before_end.wrapping_sub(before),
        walk.last_end.wrapping_sub(last),
    );
    if last == 0 || !read_user(scratch, filled, before as u32, from) {
        return 0;
    }
    let kept = read_user(scratch, filled + before as u32, last as u32, then);
    if kept { (before + last) as u32 } else { 0 }
}

/// How iovecs are walked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Walker {
    /// With bpf_loop (5.17): all of them.
    Loop,
    /// In a bounded loop: the first [`UNROLLED`].
    Unrolled,
}

/// UIO_MAXIOV, include/uapi/linux/uio.h: no call has more.
pub const IOVECS: u64 = 1024;
/// Each costs the verifier of 5.10 some 4,000 instructions of the million it walks through.
const UNROLLED: u64 = 32;

/// A short list of (address, length).
pub type Slices = [[u64; 2]; 16];

/// A walk over iovecs.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Walk {
    /// The first iovec, in user memory; 0 where they are the scratch's `slices`.
    pub iovecs: u64,
    /// Bytes of the call to pass over.
    from: u64,
    /// Bytes to copy.
    wanted: u64,
    /// 1 to go on to the call's last bytes.
    tail: u64,
    /// Bytes the call moved.
    total: u64,
    /// Bytes in the iovecs behind us.
    pub passed: u64,
    /// Bytes copied.
    filled: u64,
    /// Bytes of the iovec that the call ends in, and where they end; 0 before it was reached.
    last: u64,
    /// See `last`.
    last_end: u64,
    /// The same of the iovec before it.
    before: u64,
    /// See `before`.
    before_end: u64,
    failed: u64,
}

/// Address and length of one of the iovecs at an address.
#[inline(always)]
pub fn iovec(iovecs: u64, index: u64) -> Option<[u64; 2]> {
    let at = iovecs.wrapping_add(index * 16);
    let mut iov = [0u64; 2];
    // SAFETY: the helper checks the user address and writes only `iov`.
    let failed = unsafe { bpf_probe_read_user(iov.as_mut_ptr().cast(), 16, at as *const c_void) };
    (failed == 0).then_some(iov)
}

/// bpf_loop's callback: 1 ends the walk.
extern "C" fn each(index: u32, context: *mut c_void) -> i64 {
    // SAFETY: the scratch pointer that `gather` passed; it outlives the loop.
    let scratch = unsafe { &mut **context.cast::<*mut Scratch>() };
    i64::from(step(scratch, index.into()))
}

/// Takes in one iovec; true when there is nothing more to do.
#[inline(always)]
fn step(scratch: &mut Scratch, index: u64) -> bool {
    let known = match scratch.walk.iovecs {
        // The list is at hand.
        0 => scratch.slices.get(index as usize).copied(),
        iovecs => iovec(iovecs, index),
    };
    let Some(iov) = known else {
        scratch.walk.failed = 1;
        return true;
    };
    let walk = &mut scratch.walk;
    let start = walk.passed;
    let end = start.wrapping_add(iov[1]);
    walk.passed = end;
    let (filled, wanted, from) = (walk.filled, walk.wanted, walk.from);
    if filled < wanted && end > from {
        let skip = from.saturating_sub(start);
        let length = (iov[1] - skip).min(wanted - filled);
        walk.filled = filled + length;
        if !read_user(
            scratch,
            filled as u32,
            length as u32,
            iov[0].wrapping_add(skip),
        ) {
            scratch.walk.failed = 1;
            return true;
        }
    }
    let walk = &mut scratch.walk;
    if end < walk.total {
        walk.before = iov[1];
        walk.before_end = iov[0].wrapping_add(iov[1]);
        return walk.tail == 0 && walk.filled >= walk.wanted;
    }
    walk.last = walk.total - start;
    walk.last_end = iov[0].wrapping_add(walk.last);
    true
}
