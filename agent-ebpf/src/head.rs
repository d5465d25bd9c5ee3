//! What the head of an HTTP/1 request says of its trace: one field, looked for in its first bytes
//! (W3C Trace Context, 3.2; RFC 9112, 5). What is not plain to see is user space's to know.

use agent_ebpf::abi::source;
use agent_ebpf::header::is_method;
use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_user};
use core::ffi::c_void;

use crate::framing::{LOWER, ONES, WORD, byte, bytes};
use crate::kernel::read_user;
use crate::maps::Scratch;
use crate::party::Context;
use crate::payload::{self, Buffer};

/// Bytes that are looked at; a head is rarely longer.
const LOOK: u64 = 2048;

/// What a look found, in the head's bytes.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Seen {
    /// 1 once the head's end was.
    ended: u32,
    /// Fields that name a trace.
    fields: u32,
    /// Where the value of the last `traceparent` begins, or 0.
    at: u64,
}

/// Whether so many bytes begin as a request of HTTP/1 does; what a first byte alone begins, the next ones
/// say ([`is_preface`]). HTTP/2's preface is none: of what it begins, several requests are served at once,
/// and who does so is not known here.
#[inline(always)]
pub fn is_request(address: u64, length: u32) -> bool {
    let first: u32 = read_user(address);
    let outside = |at: u32| {
        let b = first >> (8 * at) & 0xff;
        (b.wrapping_sub(b'A'.into()) | u32::from(b'Z').wrapping_sub(b)) >> 31
    };
    if length < 4 {
        return outside(0) == 0;
    }
    outside(0) | outside(1) | outside(2) == 0 && first != u32::from_le_bytes(*b"PRI ")
}

/// The same of bytes that come behind others which were not answered: a body may begin with capitals, too, so
/// a target follows (RFC 9112, 3.2.1).
#[inline(always)]
pub fn is_next_request(address: u64, length: u32) -> bool {
    let first: u64 = read_user(address);
    let target = |at: u32| first >> (8 * at) & 0xffff == u64::from(u16::from_le_bytes(*b" /"));
    let ends = target(3) | target(4) | target(5) | target(6);
    length >= WORD && is_method((first as u32).to_le_bytes()) && ends
}

/// Whether bytes go on as HTTP/2's preface does behind its first.
#[inline(always)]
pub fn is_preface(address: u64) -> bool {
    let first: u32 = read_user(address);
    first == u32::from_le_bytes(*b"RI *")
}

/// A look at what was read, where no option came with it.
struct Look {
    scratch: *mut Scratch,
    address: u64,
    iovecs: u64,
    length: u32,
    trusted: u32,
    found: Context,
}

/// The trace of a request that no option came with: what its head says, if that is believed; a new one
/// where it says nothing. The look is a loop of one round: behind it the verifier
/// has forgotten the ways through it.
#[inline(always)]
pub fn looked_for(
    scratch: &mut Scratch,
    (buffer, length): (&Buffer, u32),
    trusted: bool,
) -> Context {
    if !buffer.is_there() {
        return Context::UNKNOWN;
    }
    let mut look = Look {
        scratch,
        address: buffer.address,
        iovecs: buffer.iovecs,
        length,
        trusted: trusted.into(),
        found: Context::UNKNOWN,
    };
    let context = core::ptr::addr_of_mut!(look);
    // SAFETY: `round` takes what it is given here; the verifier checks its body.
    unsafe { bpf_loop(1, round as *mut c_void, context.cast(), 0) };
    look.found
}

extern "C" fn round(_: u32, context: *mut c_void) -> i64 {
    // SAFETY: what `looked_for` passed; it outlives the loop.
    let look = unsafe { &mut *context.cast::<Look>() };
    // SAFETY: likewise.
    let scratch = unsafe { &mut *look.scratch };
    look.found = match look_at(scratch, (look.address, look.iovecs), look.length) {
        Head::Says(context) if look.trusted != 0 => context,
        Head::Says(_) | Head::Silent => Context::made(),
        Head::Unclear => Context::UNKNOWN,
    };
    0
}

/// What a head says.
enum Head {
    /// It is no whole head of a request, or says it in another way.
    Unclear,
    /// Nothing.
    Silent,
    /// This.
    Says(Context),
}

/// Looks at the bytes that a call read: at an address, or in the first of so many iovecs there.
#[inline(always)]
fn look_at(scratch: &mut Scratch, (address, iovecs): (u64, u64), length: u32) -> Head {
    let mut block = [address, length.into()];
    if iovecs != 0 {
        let from = address as *const c_void;
        // SAFETY: the helper checks the user address and writes only `block`.
        if unsafe { bpf_probe_read_user(block.as_mut_ptr().cast(), 16, from) } != 0 {
            return Head::Unclear;
        }
    }
    let length = block[1].min(length.into()).min(LOOK);
    if !payload::read_user(scratch, 0, length as u32, block[0]) {
        return Head::Unclear;
    }
    let first = byte(scratch, 0);
    if !first.is_ascii_uppercase() || length < SHORTEST {
        return Head::Unclear;
    }
    scratch.seen = Seen {
        ended: 0,
        fields: 0,
        at: 0,
    };
    let mut context = core::ptr::from_mut(scratch);
    let context = core::ptr::addr_of_mut!(context);
    // SAFETY: `each` takes what it is given here; the verifier checks its body.
    unsafe {
        bpf_loop(
            length as u32 / WORD + 1,
            each as *mut c_void,
            context.cast(),
            0,
        )
    };
    let Seen { ended, fields, at } = scratch.seen;
    if fields == 0 {
        // What is behind the bytes that were read is not this head's.
        return if ended != 0 && ended as u64 <= length {
            Head::Silent
        } else {
            Head::Unclear
        };
    }
    if fields > 1 || at == 0 || at + VALUE > length {
        return Head::Unclear;
    }
    parse(scratch, at as u32).map_or(Head::Unclear, Head::Says)
}

/// `GET / HTTP/1.1` and an empty line.
const SHORTEST: u64 = 18;
/// Bytes of a value and its line's end.
const VALUE: u64 = 57;

/// bpf_loop's callback, for 8 bytes; 1 ends the look.
extern "C" fn each(index: u32, context: *mut c_void) -> i64 {
    // SAFETY: the scratch pointer that `look` passed; it outlives the loop.
    let scratch = unsafe { &mut **context.cast::<*mut Scratch>() };
    let at = index * WORD;
    // Line feeds become zero bytes. A word has two of them at most whose lines have names.
    let word = bytes(scratch, at) ^ (ONES * b'\n' as u64);
    let mut feeds = word.wrapping_sub(ONES) & !word & (ONES << 7);
    for _ in 0..2 {
        if feeds == 0 {
            return 0;
        }
        let below = (feeds & feeds.wrapping_neg()) - 1;
        let line = at + ((below & ONES).wrapping_mul(ONES) >> 56) as u32;
        if begins(scratch, line) {
            return 1;
        }
        feeds &= feeds - 1;
    }
    0
}

/// A line begins here; true where the head ends with it.
#[inline(always)]
fn begins(scratch: &mut Scratch, line: u32) -> bool {
    if byte(scratch, line) == b'\r' && byte(scratch, line + 1) == b'\n' {
        scratch.seen.ended = line + 2;
        return true;
    }
    let name = bytes(scratch, line) | LOWER;
    let rest = (bytes(scratch, line + WORD) | LOWER) & 0xffff_ffff;
    if name == u64::from_le_bytes(*b"tracepar") && rest == u32::from_le_bytes(*b"ent:").into() {
        scratch.seen.fields += 1;
        let blank = u32::from(byte(scratch, line + 12) == b' ');
        scratch.seen.at = u64::from(line + 12 + blank);
    } else if name & 0xff_ffff == B3 || name & 0xffff_ffff_ffff == B3_MULTI {
        // User space reads these.
        scratch.seen.fields += 2;
    }
    false
}

/// `b3:`
const B3: u64 = u64::from_le_bytes(*b"b3:\0\0\0\0\0");
/// `x-b3-t`, and not `x-b3-sampled`, which says nothing of a trace by itself.
const B3_MULTI: u64 = u64::from_le_bytes(*b"x-b3-t\0\0");

/// Version 0 of the value: `00-` trace id `-` parent id `-` flags.
#[inline(always)]
fn parse(scratch: &Scratch, at: u32) -> Option<Context> {
    let mut wrong = (byte(scratch, at) ^ b'0') | (byte(scratch, at + 1) ^ b'0');
    for place in [2, 35, 52] {
        wrong |= byte(scratch, at + place) ^ b'-';
    }
    wrong |= byte(scratch, at + 55) ^ b'\r';
    let mut digit = |place: u32| {
        // 0 to 9 and a to f. Without a branch, which verifiers would walk twice behind each.
        let b = u32::from(byte(scratch, at + place));
        let outside = |first: u8, last: u8| {
            (b.wrapping_sub(first.into()) | u32::from(last).wrapping_sub(b)) >> 31
        };
        wrong |= (outside(b'0', b'9') & outside(b'a', b'f')) as u8;
        u64::from((b & 15).wrapping_add((b >> 6) * 9))
    };
    let mut trace = [0u64; 2];
    for i in 0..16u32 {
        let value = digit(3 + 2 * i) << 4 | digit(4 + 2 * i);
        trace[(i / 8) as usize] |= value << (8 * (i % 8));
    }
    let mut parent = 0u64;
    for i in 0..16u32 {
        parent |= digit(36 + i);
    }
    let flags = digit(53) << 4 | digit(54);
    if wrong != 0 || trace == [0; 2] || parent == 0 {
        return None;
    }
    Some(Context {
        // Bytes in their order, whatever the machine's.
        trace: [u64::from_le(trace[0]), u64::from_le(trace[1])],
        flags: flags as u32 & 3,
        source: source::HEADER.into(),
    })
}
