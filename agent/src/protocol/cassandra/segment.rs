//! What frames of version 5 are carried in once a connection is set up ("native protocol v5", section 2.3):
//! segments, whose heads have a sum of their own, which nothing else has by chance. What sums up their
//! payload is not looked at.
//!
//! Never true here: that a head is believed whose sum is wrong.

use super::frame;
use crate::protocol::Flow;
use crate::protocol::reader::Read;

/// Bytes behind a payload: its sum.
pub const TAIL: u64 = 4;

/// How segments begin on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// With six bytes: nothing is compressed.
    Plain,
    /// With eight: each payload may be.
    Packed,
}

/// What carries frames on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Not known yet.
    Any,
    /// Nothing: versions 3 and 4, and version 5 while a connection is set up.
    Frames,
    /// Segments of this form.
    Segments(Form),
}

impl Framing {
    /// Whether a turn begins like one of this flow.
    pub fn begins(self, bytes: &[u8], flow: Flow) -> Read<()> {
        match self {
            Self::Frames => frame::begins(bytes, flow),
            Self::Segments(form) => frame::begins_segment(bytes, flow, Some(form)),
            Self::Any => match frame::begins(bytes, flow) {
                Read::Whole(()) => Read::Whole(()),
                read => match frame::begins_segment(bytes, flow, None) {
                    Read::Never => read,
                    read => read,
                },
            },
        }
    }
}

/// What begins a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Bytes of that.
    pub head: usize,
    /// Bytes of the payload, as it is on the wire.
    pub length: u32,
    /// Bytes of it unpacked; 0 where it is not packed.
    pub unpacked: u32,
}

impl Segment {
    /// Whether the payload is compressed.
    pub fn is_packed(self) -> bool {
        self.unpacked > 0
    }

    /// Of which form it is.
    pub fn form(self) -> Form {
        match self.head {
            PLAIN => Form::Plain,
            _ => Form::Packed,
        }
    }
}

const PLAIN: usize = 6;
/// Bytes around a payload where nothing is compressed.
pub const AROUND: u64 = PLAIN as u64 + TAIL;
const PACKED: usize = 8;
/// Most bytes of a payload.
pub const MAX_PAYLOAD: u32 = (1 << 17) - 1;

/// Reads what begins a segment of this form, or of any.
pub fn read(bytes: &[u8], form: Option<Form>) -> Read<Segment> {
    let plain = match form {
        Some(Form::Packed) => Read::Never,
        _ => plain(bytes),
    };
    match (plain, form) {
        (Read::Whole(_), _) | (_, Some(Form::Plain)) => plain,
        (plain, _) => match packed(bytes) {
            Read::Never => plain,
            read => read,
        },
    }
}

fn plain(bytes: &[u8]) -> Read<Segment> {
    // Length, one bit that tells whether no frame goes on in the next segment, and zeros.
    if bytes.get(2).is_some_and(|b| *b > 3) {
        return Read::Never;
    }
    let Some([a, b, c, d, e, f]) = bytes.first_chunk::<PLAIN>() else {
        return Read::More;
    };
    match crc24(&[*a, *b, *c]) == u32::from_le_bytes([*d, *e, *f, 0]) {
        true => Read::Whole(Segment {
            head: PLAIN,
            length: u32::from_le_bytes([*a, *b, *c, 0]) & MAX_PAYLOAD,
            unpacked: 0,
        }),
        false => Read::Never,
    }
}

fn packed(bytes: &[u8]) -> Read<Segment> {
    // Both lengths, the bit, and zeros.
    if bytes.get(4).is_some_and(|b| *b > 7) {
        return Read::Never;
    }
    let Some([a, b, c, d, e, f, g, h]) = bytes.first_chunk::<PACKED>() else {
        return Read::More;
    };
    if crc24(&[*a, *b, *c, *d, *e]) != u32::from_le_bytes([*f, *g, *h, 0]) {
        return Read::Never;
    }
    let bits = u64::from_le_bytes([*a, *b, *c, *d, *e, 0, 0, 0]);
    let field = |bits: u64| u32::try_from(bits & u64::from(MAX_PAYLOAD)).unwrap_or(0);
    Read::Whole(Segment {
        head: PACKED,
        length: field(bits),
        unpacked: field(bits >> 17),
    })
}

/// The sum of a segment's head.
pub(super) fn crc24(bytes: &[u8]) -> u32 {
    let mut sum = 0x0087_5060_u32;
    for byte in bytes {
        sum ^= u32::from(*byte) << 16;
        for _ in 0..8 {
            sum <<= 1;
            if sum & 0x0100_0000 != 0 {
                sum ^= 0x0197_4f0b;
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_known_by_its_sum() {
        let head = *b"\x3a\x00\x02\x73\x61\x83";
        let plain = Segment {
            head: 6,
            length: 0x3a,
            unpacked: 0,
        };
        assert_eq!(read(&head, None), Read::Whole(plain));
        assert_eq!(read(&head, Some(Form::Packed)), Read::Never);
        for bit in 0..48_usize {
            let mut broken = head;
            broken[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&broken, Some(Form::Plain)), Read::Never, "{bit}");
        }
        assert_eq!(read(b"+OK\r\n", None), Read::Never);
        assert_eq!(read(b"\x3a\x00", None), Read::More);
    }
}
