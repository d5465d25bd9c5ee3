//! Protocol-buffer fields appended to a byte vector, in one pass: a nested message's length is put
//! in front of it once it is known. Guessing how many bytes that length takes makes it nearly
//! always free. The bytes are canonical: what prost writes for the same fields in the same order.

/// A nested message. `guess` is the usual number of bytes of its length.
pub fn message(out: &mut Vec<u8>, tag: u32, guess: usize, body: impl FnOnce(&mut Vec<u8>)) {
    key(out, tag, LENGTH);
    let start = out.len();
    out.resize(start + guess, 0);
    body(out);
    let length = out.len() - start - guess;
    let mut digits = [0; MAX_VARINT];
    let needed = varint_digits(length as u64, &mut digits);
    if needed != guess {
        out.resize(out.len().max(start + needed + length), 0);
        out.copy_within(start + guess..start + guess + length, start + needed);
        out.truncate(start + needed + length);
    }
    out[start..start + needed].copy_from_slice(&digits[..needed]);
}

/// Text, left out when empty.
pub fn text(out: &mut Vec<u8>, tag: u32, text: &str) {
    if !text.is_empty() {
        bytes(out, tag, text.as_bytes());
    }
}

/// Bytes, even if none.
pub fn bytes(out: &mut Vec<u8>, tag: u32, bytes: &[u8]) {
    key(out, tag, LENGTH);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// An integer of variable length, left out when 0.
pub fn integer(out: &mut Vec<u8>, tag: u32, value: u64) {
    if value != 0 {
        integer_always(out, tag, value);
    }
}

/// An integer of variable length, even if 0.
pub fn integer_always(out: &mut Vec<u8>, tag: u32, value: u64) {
    key(out, tag, VARINT);
    varint(out, value);
}

/// Eight bytes, left out when 0.
pub fn fixed64(out: &mut Vec<u8>, tag: u32, value: u64) {
    if value != 0 {
        double(out, tag, f64::from_bits(value));
    }
}

/// A floating-point number, even if 0.
pub fn double(out: &mut Vec<u8>, tag: u32, value: f64) {
    key(out, tag, FIXED64);
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

/// Four bytes, left out when 0.
pub fn fixed32(out: &mut Vec<u8>, tag: u32, value: u32) {
    if value != 0 {
        key(out, tag, FIXED32);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn key(out: &mut Vec<u8>, tag: u32, kind: u32) {
    varint(out, u64::from(tag << 3 | kind));
}

fn varint(out: &mut Vec<u8>, value: u64) {
    if value < 0x80 {
        out.push(value as u8);
    } else {
        let mut digits = [0; MAX_VARINT];
        let count = varint_digits(value, &mut digits);
        out.extend_from_slice(&digits[..count]);
    }
}

fn varint_digits(mut value: u64, digits: &mut [u8; MAX_VARINT]) -> usize {
    for (at, digit) in digits.iter_mut().enumerate() {
        *digit = value as u8 & 0x7f;
        value >>= 7;
        if value == 0 {
            return at + 1;
        }
        *digit |= 0x80;
    }
    MAX_VARINT
}

const MAX_VARINT: usize = 10;
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH: u32 = 2;
const FIXED32: u32 = 5;
