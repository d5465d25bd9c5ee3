//! TLS records (RFC 8446, 5.1; RFC 5246, 6.2), and how a connection is known by its first ones.

use super::super::{Flow, Verdict};

/// Bytes of a record before its fragment.
pub const HEAD: usize = 5;
/// Longest fragment: TLS 1.2's ciphertext (RFC 5246, 6.2.3).
const LONGEST: u16 = (1 << 14) + 2048;
/// `client_hello` and `server_hello` (RFC 8446, 4).
pub const CLIENT_HELLO: u8 = 1;
/// See [`CLIENT_HELLO`].
pub const SERVER_HELLO: u8 = 2;

/// What a record carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What follows is encrypted (up to TLS 1.2).
    ChangeCipherSpec,
    /// An alert.
    Alert,
    /// Handshake messages.
    Handshake,
    /// Data, and from TLS 1.3 on whatever is encrypted.
    Data,
    /// A heartbeat (RFC 6520).
    Heartbeat,
}

/// A record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What it carries.
    pub kind: Kind,
    /// Bytes that follow the header, at least one but of data.
    pub length: u16,
}

/// What bytes at a record's place are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// A record.
    Is(Head),
    /// The beginning of one, for all that can be seen.
    More,
    /// None.
    Not,
}

/// Reads a record's header.
pub fn read(bytes: &[u8]) -> Read {
    let kind = match bytes.first() {
        None => return Read::More,
        Some(20) => Kind::ChangeCipherSpec,
        Some(21) => Kind::Alert,
        Some(22) => Kind::Handshake,
        Some(23) => Kind::Data,
        Some(24) => Kind::Heartbeat,
        Some(_) => return Read::Not,
    };
    // SSL 3.0 to TLS 1.3, which writes 1.2 here, and 1.0 over a first hello.
    if bytes.get(1).is_some_and(|major| *major != 3) || bytes.get(2).is_some_and(|minor| *minor > 4)
    {
        return Read::Not;
    }
    let Some(&[high, low]) = bytes.get(3..HEAD) else {
        return Read::More;
    };
    let length = u16::from_be_bytes([high, low]);
    if length > LONGEST || (length == 0 && kind != Kind::Data) {
        return Read::Not;
    }
    Read::Is(Head { kind, length })
}

/// Whether a connection begins with a hello in these bytes. Looks at 11 of them.
pub fn sniff(bytes: &[u8]) -> Verdict {
    let head = match read(bytes) {
        Read::Is(head) if head.kind == Kind::Handshake => head,
        Read::Is(_) => return Verdict::Not,
        Read::More if bytes.first().is_none_or(|kind| *kind == 22) => return Verdict::More,
        Read::More | Read::Not => return sniff_v2(bytes),
    };
    let flow = match bytes.get(HEAD) {
        None => return Verdict::More,
        Some(&CLIENT_HELLO) => Flow::Request,
        Some(&SERVER_HELLO) => Flow::Response,
        Some(_) => return Verdict::Not,
    };
    // What a first record that is longer shows of the message: its length, far below 2^16 × 2, and
    // a version.
    let odd = |at: usize, most: u8| {
        usize::from(head.length) > at && bytes.get(HEAD + at).is_some_and(|byte| *byte > most)
    };
    if odd(1, 1) || odd(4, 3) || odd(5, 4) {
        return Verdict::Not;
    }
    Verdict::Is(flow)
}

/// The hello of SSL 2.0, in which old clients offer newer versions (RFC 5246, E.2).
fn sniff_v2(bytes: &[u8]) -> Verdict {
    match V2::read(bytes) {
        Read2::Is(_) => Verdict::Is(Flow::Request),
        Read2::More => Verdict::More,
        Read2::Not => Verdict::Not,
    }
}

/// A hello in the form of SSL 2.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct V2 {
    /// The version it offers.
    pub version: u16,
    /// Its bytes, header included.
    pub length: u16,
}

/// As [`Read`], of a [`V2`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read2 {
    /// A hello.
    Is(V2),
    /// The beginning of one, for all that can be seen.
    More,
    /// None.
    Not,
}

impl V2 {
    /// Reads one by its first 11 bytes: a length with the top bit set, the message's type, the
    /// version, and three lengths that add up.
    pub fn read(bytes: &[u8]) -> Read2 {
        let is = |at: usize, right: fn(u8) -> bool| bytes.get(at).is_none_or(|byte| right(*byte));
        if !is(0, |b| b & 0x80 != 0) || !is(2, |b| b == 1) || !is(3, |b| b == 3 || b == 0) {
            return Read2::Not;
        }
        let Some(&[high, low, _, major, minor, c1, c2, s1, s2, r1, r2]) = bytes.get(..11) else {
            return Read2::More;
        };
        let version = u16::from_be_bytes([major, minor]);
        let length = u16::from_be_bytes([high & 0x7f, low]);
        let ciphers = u16::from_be_bytes([c1, c2]);
        let parts = [
            ciphers,
            u16::from_be_bytes([s1, s2]),
            u16::from_be_bytes([r1, r2]),
        ];
        let sum = parts.into_iter().map(u32::from).sum::<u32>();
        let adds_up = sum.saturating_add(9) == u32::from(length);
        let known = version == 2 || (0x0300..=0x0304).contains(&version);
        if !known || !adds_up || ciphers == 0 || ciphers % 3 != 0 {
            return Read2::Not;
        }
        Read2::Is(Self {
            version,
            length: length.saturating_add(2),
        })
    }
}

/// Whether bytes from the middle of a connection are records: one, and the next one's header as far
/// as it can be seen. Whose they are cannot be told, and does not matter.
pub fn sniff_amid(bytes: &[u8]) -> Verdict {
    let hello = sniff(bytes);
    if matches!(hello, Verdict::Is(_)) {
        return hello;
    }
    let mut rest = bytes;
    for _ in 0..RECORDS {
        match read(rest) {
            Read::Is(head) => {
                if head.kind == Kind::ChangeCipherSpec && head.length != 1 {
                    return Verdict::Not;
                }
                let next = HEAD.saturating_add(usize::from(head.length));
                match rest.get(next..) {
                    Some(more) if !more.is_empty() => rest = more,
                    _ => return Verdict::Is(Flow::Request),
                }
            }
            Read::More if rest.len() == bytes.len() => return Verdict::More,
            Read::More => break,
            // Not a record, but perhaps the beginning of an old hello.
            Read::Not if rest.len() == bytes.len() => return hello,
            Read::Not => return Verdict::Not,
        }
    }
    Verdict::Is(Flow::Request)
}

/// Most records that are looked at.
const RECORDS: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hellos_are_known_by_their_first_bytes() {
        let hello = b"\x16\x03\x01\x00\x40\x01\x00\x00\x3c\x03\x03";
        for n in 0..6 {
            assert_eq!(sniff(&hello[..n]), Verdict::More, "{n}");
        }
        for n in 6..=hello.len() {
            assert_eq!(sniff(&hello[..n]), Verdict::Is(Flow::Request), "{n}");
        }
        let answer = b"\x16\x03\x03\x00\x40\x02\x00\x00\x3c\x03\x03";
        assert_eq!(sniff(answer), Verdict::Is(Flow::Response));
        // The first record has one byte of the message.
        let split = b"\x16\x03\x01\x00\x01\x01\x16\x03\x01\x00\x01\x00";
        assert_eq!(sniff(split), Verdict::Is(Flow::Request));
        for other in [
            &b"GET / HTTP/1.1"[..],
            b"\x16\x02\x01\x00\x40\x01",
            b"\x16\x03\x05\x00\x40\x01",
            b"\x16\x03\x01\x00\x00\x01",
            b"\x16\x03\x01\xff\xff\x01",
            b"\x16\x03\x01\x00\x40\x0b",
            b"\x16\x03\x01\x00\x40\x01\x02",
            b"\x16\x03\x01\x00\x40\x01\x00\x00\x3c\x04\x03",
            b"\x15\x03\x01\x00\x02\x02\x28",
            b"\x17\x03\x03\x00\x02\x02\x28",
        ] {
            assert_eq!(sniff(other), Verdict::Not, "{other:?}");
        }
    }

    #[test]
    fn the_old_form_must_add_up() {
        let hello = b"\x80\x1f\x01\x03\x01\x00\x06\x00\x00\x00\x10\x00\x00\x2f\x00\x00\x35";
        assert_eq!(sniff(hello), Verdict::Is(Flow::Request));
        for n in 1..11 {
            assert_eq!(sniff(&hello[..n]), Verdict::More, "{n}");
        }
        for at in [1, 2, 3, 6, 8, 10] {
            let mut other = *hello;
            other[at] ^= 0x41;
            assert_eq!(sniff(&other), Verdict::Not, "{at}");
        }
    }

    #[test]
    fn records_are_known_amid_a_connection() {
        let is = Verdict::Is(Flow::Request);
        for (bytes, verdict) in [
            (&b"\x17\x03\x03\x00\x03abc"[..], is),
            (b"\x17\x03\x03\x00\x03abc\x17", is),
            (b"\x17\x03\x03\x00\x03abc\x17\x03\x03\x00\x01a", is),
            (b"\x17\x03\x03\x00\x03abcd", Verdict::Not),
            (b"\x17\x03\x03\x40\x00abcd", is),
            (b"\x15\x03\x03\x00\x1aabcd", is),
            (b"\x14\x03\x03\x00\x01\x01", is),
            (b"\x14\x03\x03\x00\x02\x01", Verdict::Not),
            (b"\x17\x03\x03", Verdict::More),
            (b"\x17\x04", Verdict::Not),
            (b"GET / HTTP/1.1\r\n", Verdict::Not),
        ] {
            assert_eq!(sniff_amid(bytes), verdict, "{bytes:?}");
        }
    }
}
