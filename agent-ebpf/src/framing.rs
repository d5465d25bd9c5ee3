//! HTTP/1's framing, as far as it saves copying: a call that moves many bytes and begins with a
//! whole head that has a Content-Length shows how far the body goes (RFC 9112, 6.3), and bodies are
//! not copied. All else is user space's to know: what is not found here is copied up to the budget.

use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_user};
use core::ffi::c_void;

use crate::maps::Scratch;
use crate::payload::{Buffer, read_user};

/// Bytes that are worth looking for a head's end, rather than copying them.
pub const BULKY: u32 = 4096;
/// Bytes that are looked at; a head is rarely longer.
const LOOK: u64 = 2048;

/// What a look found.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Look {
    /// Bytes of the head with its empty line, or 0.
    end: u64,
    /// The last Content-Length before that.
    body: u64,
}

/// Bytes of the head at a call's start and of its body; `None` where either is not plain to see.
#[inline(always)]
pub fn look(scratch: &mut Scratch, buffer: &Buffer) -> Option<(u32, u64)> {
    let mut block = [buffer.address, LOOK];
    if buffer.iovecs != 0 {
        let from = buffer.address as *const c_void;
        // SAFETY: the helper checks the user address and writes only `block`.
        if unsafe { bpf_probe_read_user(block.as_mut_ptr().cast(), 16, from) } != 0 {
            return None;
        }
    }
    let bytes = block[1].min(LOOK);
    if !read_user(scratch, 0, bytes as u32, block[0]) {
        return None;
    }
    scratch.look = Look {
        end: 0,
        body: UNKNOWN,
    };
    let mut context = core::ptr::from_mut(scratch);
    let context = core::ptr::addr_of_mut!(context);
    // SAFETY: `each` takes what it is given here; the verifier checks its body.
    unsafe { bpf_loop(bytes as u32 / WORD, each as *mut c_void, context.cast(), 0) };
    let Look { end, body } = scratch.look;
    (end != 0 && end <= bytes && body < UNKNOWN).then_some((end as u32, body))
}

/// bpf_loop's callback, for 8 bytes; 1 ends the look.
extern "C" fn each(index: u32, context: *mut c_void) -> i64 {
    // SAFETY: the scratch pointer that `look` passed; it outlives the loop.
    let scratch = unsafe { &mut **context.cast::<*mut Scratch>() };
    let at = index * WORD;
    let word = bytes(scratch, at);
    // The usual trick for a zero byte, here of the word with each line feed made one.
    let word = word ^ (ONES * b'\n' as u64);
    let feeds = word.wrapping_sub(ONES) & !word & (ONES << 7);
    if feeds == 0 {
        return 0;
    }
    // The lowest bit that is left is of the first; below it, one bit of each byte counts.
    let below = (feeds & feeds.wrapping_neg()) - 1;
    let line = at + ((below & ONES).wrapping_mul(ONES) >> 56) as u32;
    // Only a word's first line feed is looked at, so both neighbours are.
    if byte(scratch, line) == b'\r' && byte(scratch, line + 1) == b'\n' {
        scratch.look.end = u64::from(line) + 2;
        return 1;
    }
    if line > 2 && byte(scratch, line - 2) == b'\r' && byte(scratch, line - 3) == b'\n' {
        scratch.look.end = line.into();
        return 1;
    }
    let name = bytes(scratch, line) | LOWER;
    let rest = (bytes(scratch, line + WORD) | LOWER) & 0x00ff_ffff_ffff_ffff;
    if name == u64::from_le_bytes(*b"content-") && rest == u64::from_le_bytes(*b"length:\0") {
        scratch.look.body = number(scratch, line + 15);
    }
    0
}

/// A field's decimal value, after blanks; `UNKNOWN` where it is none or too long.
#[inline(always)]
fn number(scratch: &Scratch, at: u32) -> u64 {
    let mut value = UNKNOWN;
    for i in 0..16 {
        let b = byte(scratch, at + i);
        if b.is_ascii_digit() {
            let before = if value == UNKNOWN { 0 } else { value };
            value = before * 10 + u64::from(b - b'0');
        } else if value != UNKNOWN || b != b' ' {
            return if b == b'\r' { value } else { UNKNOWN };
        }
    }
    UNKNOWN
}

/// A byte of what was read; the mask is the verifier's bound.
#[inline(always)]
pub fn byte(scratch: &Scratch, at: u32) -> u8 {
    scratch.payload[(at & MASK) as usize]
}

/// Eight of them.
#[inline(always)]
pub fn bytes(scratch: &Scratch, at: u32) -> u64 {
    // SAFETY: the mask and eight bytes end inside the payload.
    unsafe {
        let from = scratch.payload.as_ptr().add((at & MASK) as usize);
        u64::from_le(from.cast::<u64>().read_unaligned())
    }
}

pub const WORD: u32 = 8;
/// One in each byte.
pub const ONES: u64 = 0x0101_0101_0101_0101;
const MASK: u32 = 4095;
/// Makes letters small, and leaves `-` and `:`.
pub const LOWER: u64 = ONES << 5;
/// No length; more than 16 digits make.
const UNKNOWN: u64 = u64::MAX;
