//! BSON (<https://bsonspec.org/spec.html>, version 1.1), as far as passing over elements needs it.
//!
//! Never true here: that a document is entered by itself, or that a length is believed that is
//! shorter than what it counts.

use crate::protocol::reader::{Read, Reader};

/// Types of values that are looked into.
pub mod kind {
    /// 64-bit floating point.
    pub const DOUBLE: u8 = 0x01;
    /// Text.
    pub const STRING: u8 = 0x02;
    /// Document.
    pub const DOCUMENT: u8 = 0x03;
    /// Array: a document whose names count.
    pub const ARRAY: u8 = 0x04;
    /// Truth.
    pub const BOOL: u8 = 0x08;
    /// 32-bit integer.
    pub const INT32: u8 = 0x10;
    /// 64-bit integer.
    pub const INT64: u8 = 0x12;
}

/// Shortest document: its length, and the zero that ends it.
pub const SHORTEST: u32 = 5;
/// Bytes of a document's length.
pub const LENGTH: usize = 4;
/// Longest name of an element that is read. Those that are looked for are short.
const MAX_NAME: usize = 1024;
/// Longest regular expression that is passed over: its end has to be looked for.
const MAX_PATTERN: usize = 32 * 1024;

/// What begins an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element<'a> {
    /// The type of its value.
    pub kind: u8,
    /// Its name.
    pub name: &'a [u8],
    /// Bytes before its value.
    pub head: usize,
    /// Bytes of its value.
    pub size: u64,
}

/// Reads what begins an element, up to where the length of its value is known.
pub fn element(bytes: &[u8]) -> Read<Element<'_>> {
    let mut reader = Reader::new(bytes);
    let Some(kind) = reader.u8() else {
        return Read::More;
    };
    let Some(name) = reader.c_string() else {
        return match reader.rest().len() > MAX_NAME {
            true => Read::Never,
            false => Read::More,
        };
    };
    let head = reader.position();
    let size = match size(kind, reader.rest()) {
        Read::Whole(size) => size,
        Read::More => return Read::More,
        Read::Never => return Read::Never,
    };
    Read::Whole(Element {
        kind,
        name,
        head,
        size,
    })
}

/// How long a value is that begins so.
fn size(kind: u8, value: &[u8]) -> Read<u64> {
    // Its length, the least that may be, and what comes besides.
    let counted = |least: i32, besides: u64| match Reader::new(value).i32_le() {
        None => Read::More,
        Some(length) if length < least => Read::Never,
        Some(length) => Read::Whole(u64::from(length.unsigned_abs()).saturating_add(besides)),
    };
    match kind {
        // Undefined, null, the least and the greatest key.
        0x06 | 0x0a | 0x7f | 0xff => Read::Whole(0),
        kind::BOOL => Read::Whole(1),
        kind::INT32 => Read::Whole(4),
        // Doubles, dates, timestamps.
        kind::DOUBLE | 0x09 | 0x11 | kind::INT64 => Read::Whole(8),
        0x07 => Read::Whole(12),
        0x13 => Read::Whole(16),
        kind::DOCUMENT | kind::ARRAY => counted(5, 0),
        // Texts, code and symbols, with the zero that ends them.
        kind::STRING | 0x0d | 0x0e => counted(1, 4),
        // The subtype.
        0x05 => counted(0, 5),
        // A pointer is a text and an id.
        0x0c => counted(1, 16),
        0x0f => counted(14, 0),
        0x0b => pattern(value),
        _ => Read::Never,
    }
}

/// A regular expression: two texts that end with zeros.
fn pattern(value: &[u8]) -> Read<u64> {
    let mut reader = Reader::new(value);
    match reader.c_string().and_then(|_| reader.c_string()) {
        Some(_) => Read::Whole(reader.position() as u64),
        None if value.len() > MAX_PATTERN => Read::Never,
        None => Read::More,
    }
}

/// The length of the document that begins so.
pub fn length(bytes: &[u8]) -> Read<u64> {
    match Reader::new(bytes).u32_le() {
        None => Read::More,
        Some(length) if length < SHORTEST => Read::Never,
        Some(length) => Read::Whole(length.into()),
    }
}

/// A text's bytes, of a whole value.
pub fn text(value: &[u8]) -> Option<&[u8]> {
    value.get(LENGTH..)?.strip_suffix(b"\0")
}

/// A number or a truth, as a whole number.
pub fn number(kind: u8, value: &[u8]) -> Option<i64> {
    let mut reader = Reader::new(value);
    match kind {
        kind::BOOL => reader.u8().map(i64::from),
        kind::INT32 => reader.i32_le().map(i64::from),
        kind::INT64 => reader.i64_le(),
        // Whole numbers up to 2^53 are themselves; what is more is no code.
        kind::DOUBLE => reader.array().map(|bytes| f64::from_le_bytes(bytes) as i64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: u8, value: &[u8]) -> Read<Element<'static>> {
        let mut bytes = vec![kind];
        bytes.extend(b"n\0");
        bytes.extend(value);
        element(bytes.leak())
    }

    #[test]
    fn values_have_their_lengths() {
        for (kind, value, size) in [
            (0x01, &b"12345678"[..], 8),
            (0x02, b"\x04\0\0\0abc\0", 8),
            (0x03, b"\x05\0\0\0\0", 5),
            (0x04, b"\x05\0\0\0\0", 5),
            (0x05, b"\x03\0\0\0\0abc", 8),
            (0x06, b"", 0),
            (0x07, b"123456789012", 12),
            (0x08, b"\x01", 1),
            (0x09, b"12345678", 8),
            (0x0a, b"", 0),
            (0x0b, b"^a.*\0i\0", 7),
            (0x0c, b"\x02\0\0\0a\x00123456789012", 18),
            (0x0d, b"\x02\0\0\0a\0", 6),
            (0x0e, b"\x02\0\0\0a\0", 6),
            (0x0f, b"\x0e\0\0\0\x01\0\0\0\0\x05\0\0\0\0", 14),
            (0x10, b"1234", 4),
            (0x11, b"12345678", 8),
            (0x12, b"12345678", 8),
            (0x13, b"1234567890123456", 16),
            (0x7f, b"", 0),
            (0xff, b"", 0),
        ] {
            let Read::Whole(element) = of(kind, value) else {
                panic!("{kind:#x}");
            };
            assert_eq!(
                (element.head, element.size),
                (3, size as u64),
                "{kind:#x}: {value:?}"
            );
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        assert_eq!(of(0x00, b""), Read::Never);
        assert_eq!(of(0x14, b"12345678"), Read::Never);
        assert_eq!(of(0x02, b"\0\0\0\0"), Read::Never);
        assert_eq!(of(0x02, b"\xff\xff\xff\xff"), Read::Never);
        assert_eq!(of(0x03, b"\x04\0\0\0"), Read::Never);
        assert_eq!(of(0x03, b"\x04\0\0"), Read::More);
        assert_eq!(element(b"\x10ok"), Read::More);
        assert_eq!(element(&[0x10; 2000]), Read::Never);
    }

    #[test]
    fn numbers_of_every_kind() {
        for (kind, value, number) in [
            (kind::DOUBLE, &1.0_f64.to_le_bytes()[..], Some(1)),
            (kind::INT32, &(-7_i32).to_le_bytes(), Some(-7)),
            (kind::INT64, &11_000_i64.to_le_bytes(), Some(11_000)),
            (kind::BOOL, b"\x01", Some(1)),
            (kind::STRING, b"\x01\0\0\0\0", None),
            (kind::INT32, b"\x01", None),
        ] {
            assert_eq!(super::number(kind, value), number, "{kind} {value:?}");
        }
    }
}
