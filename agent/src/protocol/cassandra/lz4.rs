//! LZ4's block format (its `doc/lz4_Block_format.md`), as bodies and segments are compressed.
//! Crates give all of a block or nothing (decision 21).
//!
//! Never true here: that more comes out than was asked for.

use crate::protocol::reader::Reader;

/// Shortest match.
const LEAST: usize = 4;

/// The first bytes of what was packed, at most `room`: fewer where the block is cut or broken.
pub fn unpack(block: &[u8], room: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut fields = Reader::new(block);
    while out.len() < room && sequence(&mut fields, &mut out, room).is_some() {}
    out
}

/// Literals, and bytes that were there before.
fn sequence(fields: &mut Reader<'_>, out: &mut Vec<u8>, room: usize) -> Option<()> {
    let token = fields.u8()?;
    let literals = length(token >> 4, fields)?;
    let there = fields.rest();
    let wanted = literals.min(room.saturating_sub(out.len()));
    out.extend(there.get(..wanted).unwrap_or(there));
    fields.skip(literals)?;
    let distance = usize::from(fields.u16_le()?);
    let mut from = out.len().checked_sub(distance).filter(|_| distance > 0)?;
    let length = length(token & 15, fields)?.saturating_add(LEAST);
    for _ in 0..length.min(room.saturating_sub(out.len())) {
        out.push(*out.get(from)?);
        from = from.saturating_add(1);
    }
    Some(())
}

/// A length of which four bits are known.
fn length(bits: u8, fields: &mut Reader<'_>) -> Option<usize> {
    let mut length = usize::from(bits);
    let mut more = bits == 15;
    while more {
        let byte = fields.u8()?;
        length = length.saturating_add(byte.into());
        more = byte == u8::MAX;
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_may_overlap() {
        // "ab", then six bytes from two before, then "!".
        let block = b"\x22ab\x02\x00\x10!";
        assert_eq!(unpack(block, 100), b"abababab!");
        assert_eq!(unpack(block, 5), b"ababa");
        assert_eq!(unpack(&block[..2], 100), b"a");
        assert_eq!(unpack(b"\x02\x01\x00", 100), b"");
    }

    #[test]
    fn long_ones() {
        let mut block = vec![0xf0, 255, 10];
        block.extend([b'x'; 280]);
        assert_eq!(unpack(&block, 1000), [b'x'; 280]);
        assert_eq!(unpack(b"\x1fy\x01\x00\xff\xff\x00", 64 << 10), [b'y'; 530]);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_end(block: Vec<u8>, room in 0..1000_usize) {
            assert!(unpack(&block, room).len() <= room);
        }
    }
}
