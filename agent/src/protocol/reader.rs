//! A cursor over bytes, the one way in which parsers of binary protocols touch them: every read is
//! checked, and what is not there is `None`, which leaves the cursor where it was.
//!
//! Numbers are big-endian (network order); those of little-endian protocols end in `_le`.

use crate::config::Limits;
use crate::stats::Stats;

/// What came of reading something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read<T> {
    /// It is whole.
    Whole(T),
    /// It goes on.
    More,
    /// It is none.
    Never,
}

/// Bytes, and how far they were read.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    length: usize,
}

macro_rules! numbers {
    ($($(#[doc = $doc:literal])+ $name:ident $le:ident $type:ty;)+) => { $(
        $(#[doc = $doc])+
        pub fn $name(&mut self) -> Option<$type> {
            self.array().map(<$type>::from_be_bytes)
        }

        $(#[doc = $doc])+
        /// Little-endian.
        pub fn $le(&mut self) -> Option<$type> {
            self.array().map(<$type>::from_le_bytes)
        }
    )+ };
}

impl<'a> Reader<'a> {
    /// At the first of them.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            length: bytes.len(),
        }
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// How many bytes were read.
    pub fn position(&self) -> usize {
        self.length.saturating_sub(self.rest.len())
    }

    /// Whether all were read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        Some(taken)
    }

    /// Passes over `n` bytes.
    pub fn skip(&mut self, n: usize) -> Option<()> {
        self.take(n).map(|_| ())
    }

    /// The next bytes, as many as the array has.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*taken)
    }

    numbers! {
        /// One byte.
        u8 u8_le u8;
        /// Two bytes.
        u16 u16_le u16;
        /// Four bytes.
        u32 u32_le u32;
        /// Eight bytes.
        u64 u64_le u64;
        /// One byte, signed.
        i8 i8_le i8;
        /// Two bytes, signed.
        i16 i16_le i16;
        /// Four bytes, signed.
        i32 i32_le i32;
        /// Eight bytes, signed.
        i64 i64_le i64;
    }

    /// The bytes up to the next `end`, which is passed over too.
    pub fn until(&mut self, end: u8) -> Option<&'a [u8]> {
        let at = memchr::memchr(end, self.rest)?;
        let text = self.take(at)?;
        self.skip(1)?;
        Some(text)
    }

    /// A text that ends with a zero byte.
    pub fn c_string(&mut self) -> Option<&'a [u8]> {
        self.until(0)
    }

    /// A line, without the CR LF or the LF that ends it.
    pub fn line(&mut self) -> Option<&'a [u8]> {
        let line = self.until(b'\n')?;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }

    /// A base-128 number, the lowest seven bits first (protocol buffers' and Kafka's varint), of at
    /// most 64 bits.
    pub fn varint(&mut self) -> Option<u64> {
        let mut ahead = *self;
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = ahead.u8()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                *self = ahead;
                return Some(value);
            }
        }
        None
    }

    /// A [`Reader::varint`] that stands for a signed number (zigzag).
    pub fn varint_signed(&mut self) -> Option<i64> {
        let value = self.varint()?;
        let half = i64::try_from(value >> 1).ok()?;
        Some(if value & 1 == 0 { half } else { !half })
    }
}

/// Longest text kept of one value, bytes; the rest is cut off and counted.
pub const MAX_TEXT: usize = 8192;
/// Least that is kept of a text, bytes.
const MIN_TEXT: usize = 1024;

/// How much is kept of texts that anybody may have written: what will leave, and as much again some
/// times over, since what is redacted gets shorter.
pub fn kept(limits: &Limits) -> usize {
    let leaves = limits.text_length.min(limits.attribute_length);
    leaves.saturating_mul(4).clamp(MIN_TEXT, MAX_TEXT)
}

/// Text of at most `keep` bytes; what is no UTF-8 is replaced.
pub fn text(value: &[u8], keep: usize, stats: &Stats) -> String {
    let kept = match value.get(..keep) {
        Some(kept) if value.len() > keep => {
            stats.protocol_text_cut.add(1);
            // Not in the middle of a character.
            let back = kept
                .iter()
                .rev()
                .take(3)
                .take_while(|&&b| b & 0xC0 == 0x80)
                .count();
            let lead = kept.len().saturating_sub(back.saturating_add(1));
            match kept.get(lead) {
                Some(b) if *b >= 0xC0 => kept.get(..lead).unwrap_or(kept),
                _ => kept,
            }
        }
        _ => value,
    };
    match std::str::from_utf8(kept) {
        Ok(text) => text.to_owned(),
        Err(_) => String::from_utf8_lossy(kept).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_not_taken() {
        let mut reader = Reader::new(b"\x01\x02\x03");
        assert_eq!((reader.u16(), reader.u16()), (Some(0x0102), None));
        assert_eq!((reader.u8(), reader.u8()), (Some(3), None));
        assert_eq!(reader.position(), 3);
        let mut reader = Reader::new(b"\x01\x02\x03\x04");
        assert_eq!(reader.u32_le(), Some(0x0403_0201));
    }

    #[test]
    fn texts_end_where_their_end_is() {
        let mut reader = Reader::new(b"one\0two");
        assert_eq!(reader.c_string(), Some(&b"one"[..]));
        assert_eq!(reader.c_string(), None);
        assert_eq!(reader.rest(), b"two");
        let mut reader = Reader::new(b"a\r\nb\n\nc");
        assert_eq!(reader.line(), Some(&b"a"[..]));
        assert_eq!(reader.line(), Some(&b"b"[..]));
        assert_eq!(reader.line(), Some(&b""[..]));
        assert_eq!(reader.line(), None);
    }

    #[test]
    fn no_more_is_kept_of_a_text_than_can_leave() {
        let mut limits = Limits::default();
        assert_eq!(kept(&limits), MIN_TEXT);
        limits.text_length = 2000;
        assert_eq!(kept(&limits), 8000);
        limits.text_length = usize::MAX;
        assert_eq!(kept(&limits), MAX_TEXT);
    }

    #[test]
    fn varints() {
        for (bytes, value) in [
            (&b"\x00"[..], Some(0)),
            (b"\xac\x02", Some(300)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", Some(u64::MAX)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", None),
            (b"\x80", None),
        ] {
            assert_eq!(Reader::new(bytes).varint(), value, "{bytes:?}");
        }
        for (bytes, value) in [
            (&b"\x00"[..], 0),
            (b"\x01", -1),
            (b"\x02", 1),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", i64::MIN),
        ] {
            assert_eq!(Reader::new(bytes).varint_signed(), Some(value), "{bytes:?}");
        }
    }
}
