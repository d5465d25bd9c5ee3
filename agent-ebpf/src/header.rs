//! What both sides of header mode share: a `traceparent` line in the first request of a connection
//! (docs/decisions/0028-headers.md).

/// What a line says (W3C Trace Context, version 00).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Parent {
    /// trace-id.
    pub trace: [u8; 16],
    /// parent-id.
    pub span: [u8; 8],
    /// trace-flags.
    pub flags: u8,
    /// Unused.
    pub pad: [u8; 7],
}
const _: () = assert!(size_of::<Parent>() == 32);

/// A socket that is, or was, among those whose next message is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Visit {
    /// Its cookie.
    pub cookie: u64,
    /// One of [`stage`].
    pub stage: u32,
    /// tcp_sock.write_seq when it came in: while it is that, nothing was sent.
    pub begin: u32,
    /// BPF_SOCK_OPS_*_CB_FLAG that were set for it.
    pub flags: u32,
    /// Unused.
    pub pad: u32,
}
const _: () = assert!(size_of::<Visit>() == 24);

/// How far a visit is.
pub mod stage {
    /// It connects.
    pub const CONNECTS: u32 = 0;
    /// It is in, and nothing was sent or received.
    pub const INSIDE: u32 = 1;
    /// Its first message was looked at: it leaves with the segment that this becomes.
    pub const SENT: u32 = 2;
    /// It has left.
    pub const LEFT: u32 = 3;
}

/// Of a process whose connections are visited, whoever is traced.
pub const ASKED: u32 = 1;
/// Of one whose are not any more.
pub const BARRED: u32 = 2;

/// With a process's number, the key of what its requests say that have nothing of their own to say.
pub const PROCESS: u64 = 1 << 63;

/// Longest head that is read to its end, in bytes.
pub const HEAD: u32 = 2048;
/// Longest message that a line is put into: it has to be one piece of memory afterwards, else Nagle's
/// algorithm holds its end back until the other side acknowledges, 40 ms later.
pub const MESSAGE: u32 = 16 * 1024;
/// Bytes of the line.
pub const LINE: u32 = 70;

/// Methods (RFC 9110, 9.3; RFC 5789) by their first four bytes. CONNECT is none of them: what it asks
/// for is a tunnel.
pub fn is_method(first: [u8; 4]) -> bool {
    let first = u32::from_le_bytes(first);
    const fn word(name: &[u8; 4]) -> u32 {
        u32::from_le_bytes(*name)
    }
    first == word(b"GET ")
        || first == word(b"POST")
        || first == word(b"PUT ")
        || first == word(b"PATC")
        || first == word(b"HEAD")
        || first == word(b"DELE")
        || first == word(b"OPTI")
}

/// A look at a head, a byte at a time. Without a branch for what a byte says: a verifier follows each
/// way that there is, and has soon too many in mind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// The last eight bytes, the last of them lowest,
    last: u64,
    /// and the eight before.
    before: u64,
    /// Bytes of the request line with its end; 0 until that was seen.
    line: u64,
}

/// What a look has found, a bit each; 0 while the head goes on.
pub mod seen {
    /// The head ends here.
    pub const END: u64 = 1;
    /// It has a `traceparent`.
    pub const PRESENT: u64 = 2;
    /// It is no head of HTTP/1.
    pub const OTHER: u64 = 4;
}

impl Look {
    /// Takes the byte at `index`: bits of [`seen`].
    #[inline(always)]
    pub fn take(&mut self, index: u32, byte: u8) -> u64 {
        self.before = self.before << 8 | self.last >> 56;
        self.last = self.last << 8 | u64::from(byte);
        let (before, last) = (self.before, self.last);
        let first = none(last & 0xff ^ u64::from(b'\n')) & none(self.line);
        self.line |= (u64::from(index) + 1) * first;
        // ` HTTP/1.0` or `.1`, whichever digit it is, and the line's end.
        let version = before & 0x00ff_ffff ^ u64::from_be_bytes(*b"\0\0\0\0\0 HT")
            | last & !0xff_0000 ^ u64::from_be_bytes(*b"TP/1.\0\r\n");
        // A small letter is its capital with one bit more; what else has that bit is rare enough.
        let present = (before | SMALL) & 0xffff_ffff ^ u64::from_be_bytes(*b"\0\0\0\0trac")
            | (last | SMALL) ^ u64::from_be_bytes(*b"eparent:");
        let end = last & 0xffff_ffff ^ u64::from_be_bytes(*b"\0\0\0\0\r\n\r\n");
        // Each of them is a bit of its own.
        none(end) * seen::END
            + none(present) * seen::PRESENT
            + first * (1 - none(version)) * seen::OTHER
    }

    /// Where the first field begins.
    pub fn line(&self) -> u32 {
        self.line as u32
    }
}

/// 1 for 0, else 0.
#[inline(always)]
fn none(value: u64) -> u64 {
    unknown(1 - ((value | unknown(value.wrapping_neg())) >> 63))
}

/// A number of which the compiler knows nothing, so that it makes no branch of what is reckoned from it.
#[cfg(target_arch = "bpf")]
#[inline(always)]
fn unknown(mut value: u64) -> u64 {
    // SAFETY: leaves it as it is.
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) value) };
    value
}

#[cfg(not(target_arch = "bpf"))]
fn unknown(value: u64) -> u64 {
    value
}

/// The bit of small letters, in eight bytes.
const SMALL: u64 = 0x2020_2020_2020_2020;

/// A byte of the line `traceparent: 00-…-…-…` with its end, as RFC 9112 and W3C Trace Context want it.
#[inline(always)]
pub fn digit(half: u8) -> u8 {
    let half = half & 15;
    half + if half < 10 { b'0' } else { b'a' - 10 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(head: &[u8]) -> (u64, u32) {
        let mut look = Look::default();
        for (index, byte) in (0..).zip(head) {
            match look.take(index, *byte) {
                0 => {}
                seen => return (seen, look.line()),
            }
        }
        (0, look.line())
    }

    #[test]
    fn a_head_ends_with_an_empty_line() {
        use super::seen::{END, OTHER, PRESENT};
        let line = "GET / HTTP/1.1\r\n".len() as u32;
        for (head, seen, at) in [
            ("GET / HTTP/1.1\r\n\r\n", END, line),
            ("GET / HTTP/1.0\r\nHost: a\r\n\r\nbody", END, line),
            ("GET / HTTP/1.1\r\nHost: a\r\n", 0, line),
            ("GET / HTTP/1.1\r\nTraceParent: 00-", PRESENT, line),
            ("GET / HTTP/1.1\r\ntraceparent:00-", PRESENT, line),
            ("GET / HTTP/1.1\r\nA: 1\r\nTRACEPARENT:", PRESENT, line),
            ("GET / HTTP/1.1\r\ntraceparen: a\r\n\r\n", END, line),
        ] {
            assert_eq!(look(head.as_bytes()), (seen, at), "{head}");
        }
        for other in [
            "GET / HTTP/2.0\r\n\r\n",
            "OPTIONS rtsp://a RTSP/1.0\r\n\r\n",
            "GET a value\r\n",
            "GET /\n\n",
            "\n",
        ] {
            assert_eq!(look(other.as_bytes()).0, OTHER, "{other}");
        }
    }

    #[test]
    fn methods_that_open_a_tunnel_are_none() {
        assert!(is_method(*b"GET ") && is_method(*b"DELE"));
        assert!(!is_method(*b"CONN") && !is_method(*b"PRI ") && !is_method(*b"get "));
    }
}
