//! The kinds of field that messages are made of, before and after KIP-482 ("flexible versions"):
//! lengths of two or four bytes, or as varints of one more than they are, with tagged fields behind
//! every structure.

use crate::protocol::reader::Reader;

/// Most tagged fields of one structure; the definitions have up to four.
const MAX_TAGS: u64 = 64;

/// A cursor over the fields of a message.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    reader: Reader<'a>,
    flexible: bool,
}

impl<'a> Fields<'a> {
    /// At the first of these bytes.
    pub fn new(bytes: &'a [u8], flexible: bool) -> Self {
        let reader = Reader::new(bytes);
        Self { reader, flexible }
    }

    /// The same without what KIP-482 brought.
    pub fn plain(bytes: &'a [u8]) -> Self {
        Self::new(bytes, false)
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.reader.rest()
    }

    /// How many bytes were read.
    pub fn position(&self) -> usize {
        self.reader.position()
    }

    /// One byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.reader.u8()
    }

    /// Two bytes.
    pub fn i16(&mut self) -> Option<i16> {
        self.reader.i16()
    }

    /// Four bytes.
    pub fn i32(&mut self) -> Option<i32> {
        self.reader.i32()
    }

    /// Eight bytes.
    pub fn i64(&mut self) -> Option<i64> {
        self.reader.i64()
    }

    /// So many bytes.
    pub fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        self.reader.take(n)
    }

    /// Passes over so many bytes.
    pub fn skip(&mut self, n: usize) -> Option<()> {
        self.reader.skip(n)
    }

    /// A topic's id.
    pub fn id(&mut self) -> Option<[u8; 16]> {
        self.reader.array()
    }

    /// How many entries an array has; one that is null has none.
    pub fn array(&mut self) -> Option<u32> {
        if self.flexible {
            let length = self.reader.varint()?;
            return u32::try_from(length.saturating_sub(1)).ok();
        }
        match self.i32()? {
            -1 => Some(0),
            length => u32::try_from(length).ok(),
        }
    }

    /// Passes over an array whose entries have `size` bytes each.
    pub fn array_of(&mut self, size: usize) -> Option<()> {
        let length = usize::try_from(self.array()?).ok()?;
        self.skip(length.checked_mul(size)?)
    }

    /// A text that may be null.
    pub fn nullable(&mut self) -> Option<Option<&'a [u8]>> {
        let length = if self.flexible {
            self.reader.varint()?.checked_sub(1)
        } else {
            match self.i16()? {
                -1 => None,
                length => Some(u64::try_from(length).ok()?),
            }
        };
        match length {
            None => Some(None),
            Some(length) => self.take(usize::try_from(length).ok()?).map(Some),
        }
    }

    /// A text; one that is null is empty.
    pub fn text(&mut self) -> Option<&'a [u8]> {
        Some(self.nullable()?.unwrap_or_default())
    }

    /// How many bytes of records follow; none where they are null.
    pub fn records(&mut self) -> Option<u64> {
        if self.flexible {
            return Some(self.reader.varint()?.saturating_sub(1));
        }
        match self.i32()? {
            -1 => Some(0),
            length => u64::try_from(length).ok(),
        }
    }

    /// Passes over the tagged fields that end a structure, where there are such.
    pub fn tags(&mut self) -> Option<()> {
        self.tagged(|_, _| ())
    }

    /// The same, shown each (tag, value).
    pub fn tagged(&mut self, mut show: impl FnMut(u64, &'a [u8])) -> Option<()> {
        if !self.flexible {
            return Some(());
        }
        let count = self.reader.varint().filter(|n| *n <= MAX_TAGS)?;
        for _ in 0..count {
            let tag = self.reader.varint()?;
            let size = usize::try_from(self.reader.varint()?).ok()?;
            show(tag, self.take(size)?);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_writing() {
        let mut old = Fields::plain(b"\x00\x02ab\xff\xff\x00\x00\x00\x03\xff\xff\xff\xff");
        assert_eq!(old.text(), Some(&b"ab"[..]));
        assert_eq!(old.nullable(), Some(None));
        assert_eq!(
            (old.array(), old.array(), old.tags()),
            (Some(3), Some(0), Some(()))
        );
        let mut new = Fields::new(b"\x03ab\x00\x04\x00\x02\x00\x01x\x07\x02yz", true);
        assert_eq!(new.text(), Some(&b"ab"[..]));
        assert_eq!(new.nullable(), Some(None));
        assert_eq!((new.array(), new.array()), (Some(3), Some(0)));
        let mut seen = Vec::new();
        new.tagged(|tag, value| seen.push((tag, value.len())))
            .expect("whole");
        assert_eq!(seen, [(0, 1), (7, 2)]);
        assert!(new.rest().is_empty());
    }

    #[test]
    fn lengths_are_not_believed() {
        assert_eq!(Fields::plain(b"\xff\xfe").text(), None);
        assert_eq!(Fields::plain(b"\x80\x00\x00\x00").array(), None);
        assert_eq!(Fields::new(b"\xff\xff\xff\xff\x7f", true).array(), None);
        assert_eq!(Fields::plain(b"\x7f\xff\xff\xff").array_of(16), None);
        assert_eq!(Fields::new(b"\x7f", true).tags(), None);
    }
}
