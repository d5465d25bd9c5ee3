//! HPACK (RFC 7541): a header block becomes fields, by what the blocks before it left in the table.
//!
//! A connection older than the agent, or one that blocks were lost from, has a table of which only
//! the newest entries are known. Entries are counted from the newest, so what was seen to be added
//! keeps its number, and what points past it is unknown: a field without a name or a value, never a
//! guess. Once the sender's table has turned over nothing points there any more.
//!
//! Never true here: that more than [`MAX_TABLE`] bytes are kept, or more of one block than it was
//! asked for.

use std::collections::VecDeque;

use bytes::Bytes;

use super::huffman;

/// Most that is kept of a table, bytes as RFC 7541, 4.1 counts them; a sender may have announced
/// a larger one, whose older entries are unknown then.
const MAX_TABLE: usize = 64 * 1024;
/// What a sender's table holds at most until it says otherwise (RFC 9113, 6.5.2).
const DEFAULT_TABLE: usize = 4096;
/// What an entry counts beside its name and value (RFC 7541, 4.1).
const OVERHEAD: usize = 32;

/// A field; what is not known of it is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Field {
    /// Its name, in lower case.
    pub name: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
}

/// Why a block cannot be read, and nothing after it either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// One direction's state.
#[derive(Debug)]
pub struct Decoder {
    /// Newest first.
    table: VecDeque<Field>,
    size: usize,
    limit: usize,
    /// Whether there are entries behind the last one here, for all that is known.
    more: bool,
    /// Entries the sender has, and this table had no room for, since they were last asked about.
    forgotten: u64,
}

impl Decoder {
    /// At a connection's beginning, or (`adopted`) anywhere in it.
    pub fn new(adopted: bool) -> Self {
        Self {
            table: VecDeque::new(),
            size: 0,
            limit: if adopted { MAX_TABLE } else { DEFAULT_TABLE },
            more: adopted,
            forgotten: 0,
        }
    }

    /// Blocks were not seen: what they added is not known, nor how much it was.
    pub fn lose(&mut self) {
        *self = Self::new(true);
    }

    /// Bytes of the table, as RFC 7541, 4.1 counts them.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Entries forgotten since the last call, of those the sender is known to keep.
    pub fn take_forgotten(&mut self) -> u64 {
        std::mem::take(&mut self.forgotten)
    }

    /// Reads a whole block; gives at most `room` bytes of fields to `take`, counted as entries are,
    /// and says whether that was all.
    ///
    /// # Errors
    /// Where it is no block: the table is not known from there on ([`Self::lose`]).
    pub fn block(
        &mut self,
        block: &[u8],
        mut room: usize,
        mut take: impl FnMut(Field),
    ) -> Result<bool, Broken> {
        let mut all = true;
        let mut input = Input(block);
        while let Some(first) = input.peek() {
            let field = match first {
                0x80.. => self.entry(input.integer(7)?)?,
                0x40..=0x7f => {
                    let field = self.literal(6, &mut input)?;
                    self.add(field.clone());
                    field
                }
                0x20..=0x3f => {
                    self.resize(input.integer(5)?);
                    continue;
                }
                _ => self.literal(4, &mut input)?,
            };
            match room.checked_sub(field.size()) {
                Some(left) => {
                    room = left;
                    take(field);
                }
                None => all = false,
            }
        }
        Ok(all)
    }

    /// An entry by its number (RFC 7541, 2.3.3).
    fn entry(&self, number: usize) -> Result<Field, Broken> {
        let at = number.checked_sub(1).ok_or(Broken)?;
        if let Some((name, value)) = STATIC.get(at) {
            return Ok(Field {
                name: Some(Bytes::from_static(name.as_bytes())),
                value: Some(Bytes::from_static(value.as_bytes())),
            });
        }
        match self.table.get(at.saturating_sub(STATIC.len())) {
            Some(field) => Ok(field.clone()),
            None if self.more => Ok(Field::default()),
            None => Err(Broken),
        }
    }

    /// A field whose name has a number or is written out, with its value (RFC 7541, 6.2).
    fn literal(&self, bits: u32, input: &mut Input<'_>) -> Result<Field, Broken> {
        let name = match input.integer(bits)? {
            0 => Some(input.string()?),
            number => self.entry(number)?.name,
        };
        let value = Some(input.string()?);
        Ok(Field { name, value })
    }

    fn add(&mut self, field: Field) {
        self.size = self.size.saturating_add(field.size());
        // What is unknown may be longer: no entry that may be there is taken for one that is not.
        self.more |= field.name.is_none();
        self.table.push_front(field);
        self.evict();
    }

    /// The sender's table is of another size from here on (RFC 7541, 6.3).
    fn resize(&mut self, limit: usize) {
        self.more &= limit > 0;
        self.limit = limit;
        self.evict();
    }

    fn evict(&mut self) {
        while self.size > self.limit.min(MAX_TABLE)
            && let Some(field) = self.table.pop_back()
        {
            let kept = self.limit > MAX_TABLE;
            self.more |= kept;
            self.forgotten = self.forgotten.saturating_add(kept.into());
            self.size = self.size.saturating_sub(field.size());
        }
    }
}

impl Field {
    fn length(&self) -> usize {
        let length = |text: &Option<Bytes>| text.as_ref().map_or(0, Bytes::len);
        length(&self.name).saturating_add(length(&self.value))
    }

    fn size(&self) -> usize {
        self.length().saturating_add(OVERHEAD)
    }
}

/// What is left of a block.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn byte(&mut self) -> Result<u8, Broken> {
        let (first, rest) = self.0.split_first().ok_or(Broken)?;
        self.0 = rest;
        Ok(*first)
    }

    /// An integer in the lower `bits` of the first byte and what follows (RFC 7541, 5.1).
    fn integer(&mut self, bits: u32) -> Result<usize, Broken> {
        let mask = u8::MAX
            .checked_shr(8u32.saturating_sub(bits))
            .ok_or(Broken)?;
        let first = self.byte()? & mask;
        let mut value = usize::from(first);
        if first < mask {
            return Ok(value);
        }
        // Four more bytes say more than any block or table has.
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value = value.saturating_add(usize::from(byte & 0x7f) << shift);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Broken)
    }

    /// A string, as it is or Huffman-coded (RFC 7541, 5.2).
    fn string(&mut self) -> Result<Bytes, Broken> {
        let coded = self.peek().ok_or(Broken)? & 0x80 != 0;
        let length = self.integer(7)?;
        let (text, rest) = self.0.split_at_checked(length).ok_or(Broken)?;
        self.0 = rest;
        if !coded {
            return Ok(Bytes::copy_from_slice(text));
        }
        let mut out = Vec::with_capacity(length.saturating_mul(8).div_ceil(5));
        match huffman::decode(text, &mut out) {
            true => Ok(out.into()),
            false => Err(Broken),
        }
    }
}

/// RFC 7541, appendix A.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];
