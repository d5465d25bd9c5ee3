//! HPACK (RFC 7541): a header block becomes fields, by what the blocks before it left in the table.
//!
//! A connection older than the agent, or one that blocks were lost from, has a table of which only
//! the newest entries are known. Entries are counted from the newest, so what was seen to be added
//! keeps its number, and what points past it is unknown: a field without a name or a value, never a
//! guess. Once the sender's table has turned over nothing points there any more.
//!
//! Never true here: that more than `MAX_TABLE` bytes are kept, or more of one block than it was
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

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<char> = hex.chars().filter(|c| !c.is_whitespace()).collect();
        let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16);
        let all = digits.chunks(2).map(byte);
        all.collect::<Result<_, _>>().expect("hex")
    }

    fn text(field: &Field) -> String {
        let text = |part: &Option<Bytes>| {
            let part = part.as_ref().expect("known");
            String::from_utf8(part.to_vec()).expect("text")
        };
        format!("{}: {}", text(&field.name), text(&field.value))
    }

    /// Reads blocks one after the other, each with what it says and the size of the table after it.
    fn check(limit: usize, blocks: &[(&str, &[&str], usize)]) {
        let mut decoder = Decoder::new(false);
        decoder.resize(limit);
        for (hex, want, size) in blocks {
            let mut fields = Vec::new();
            let read = decoder.block(&bytes(hex), usize::MAX, |field| fields.push(text(&field)));
            assert_eq!((read, decoder.size()), (Ok(true), *size), "{hex}");
            assert_eq!(fields, *want, "{hex}");
        }
    }

    /// RFC 7541, C.1.
    #[test]
    fn integers() {
        for (hex, bits, want) in [("ea", 5, 10), ("ff9a0a", 5, 1337), ("2a", 8, 42)] {
            assert_eq!(Input(&bytes(hex)).integer(bits), Ok(want));
        }
        // One that does not end, and one that says more than there can be.
        for hex in ["1fff", "1fffffffffff0f"] {
            assert_eq!(Input(&bytes(hex)).integer(5), Err(Broken));
        }
    }

    /// RFC 7541, C.2.
    #[test]
    fn single_fields() {
        let custom = "400a637573746f6d2d6b65790d637573746f6d2d686561646572";
        check(4096, &[(custom, &["custom-key: custom-header"], 55)]);
        let path = "040c2f73616d706c652f70617468";
        check(4096, &[(path, &[":path: /sample/path"], 0)]);
        let never = "100870617373776f726406736563726574";
        check(4096, &[(never, &["password: secret"], 0)]);
        check(4096, &[("82", &[":method: GET"], 0)]);
    }

    /// RFC 7541, C.3 and C.4: three requests, as they are and Huffman-coded.
    #[test]
    fn requests() {
        let first = [
            ":method: GET",
            ":scheme: http",
            ":path: /",
            ":authority: www.example.com",
        ];
        let second = [&first[..], &["cache-control: no-cache"]].concat();
        let third = [
            ":method: GET",
            ":scheme: https",
            ":path: /index.html",
            ":authority: www.example.com",
            "custom-key: custom-value",
        ];
        for [one, two, three] in [
            [
                "828684410f7777772e6578616d706c652e636f6d",
                "828684be58086e6f2d6361636865",
                "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
            ],
            [
                "828684418cf1e3c2e5f23a6ba0ab90f4ff",
                "828684be5886a8eb10649cbf",
                "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
            ],
        ] {
            let blocks = [
                (one, &first[..], 57),
                (two, &second, 110),
                (three, &third, 164),
            ];
            check(4096, &blocks);
        }
    }

    /// RFC 7541, C.5 and C.6: three responses, with a table of 256 bytes, as they are and
    /// Huffman-coded.
    #[test]
    fn responses() {
        let rest = [
            "cache-control: private",
            "date: Mon, 21 Oct 2013 20:13:21 GMT",
            "location: https://www.example.com",
        ];
        let first = [&[":status: 302"], &rest[..]].concat();
        let second = [&[":status: 307"], &rest[..]].concat();
        let third = [
            ":status: 200",
            "cache-control: private",
            "date: Mon, 21 Oct 2013 20:13:22 GMT",
            "location: https://www.example.com",
            "content-encoding: gzip",
            "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
        ];
        for [one, two, three] in [
            [
                "4803333032580770726976617465611d4d6f6e2c203231204f6374203230313320
                 32303a31333a323120474d546e1768747470733a2f2f7777772e6578616d706c652e636f6d",
                "4803333037c1c0bf",
                "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54
                 c05a04677a69707738666f6f3d4153444a4b48514b425a584f5157454f5049554158
                 5157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31",
            ],
            [
                "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff
                 6e919d29ad171863c78f0b97c8e9ae82ae43d3",
                "4883640effc1c0bf",
                "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7
                 821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed
                 4ee5b1063d5007",
            ],
        ] {
            let blocks = [
                (one, &first[..], 222),
                (two, &second, 222),
                (three, &third, 215),
            ];
            check(256, &blocks);
        }
    }
}
