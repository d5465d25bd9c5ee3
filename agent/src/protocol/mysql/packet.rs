//! Packets, and those whose payload has one form in every context: the greeting, the client's answer
//! to it, OK, EOF and ERR (MySQL's source documentation, "Client/Server Protocol"; MariaDB's
//! knowledge base, "Client/Server Protocol").
//!
//! Never true here: that a password's proof is looked at.

use std::borrow::Cow;

use crate::protocol::reader::Reader;

/// Bytes before a payload.
pub(super) const HEAD: usize = 4;
/// A payload of so many bytes goes on in the next packet.
pub(super) const FULL: u32 = 0x00ff_ffff;
/// Bytes of a packet that says how something ended, its head among them, that are waited for.
pub(super) const MAX_END: usize = 1024;

/// `CLIENT_MYSQL`, once `CLIENT_LONG_PASSWORD`: where it is missing, both are MariaDB's.
const MYSQL: u64 = 1;
/// `CLIENT_CONNECT_WITH_DB`.
const WITH_DATABASE: u64 = 1 << 3;
/// `CLIENT_COMPRESS`: zlib.
const COMPRESS: u64 = 1 << 5;
/// `CLIENT_PROTOCOL_41`.
const PROTOCOL_41: u64 = 1 << 9;
/// `CLIENT_SSL`.
const SSL: u64 = 1 << 11;
/// `CLIENT_SECURE_CONNECTION`.
const SECURE: u64 = 1 << 15;
/// `CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA`.
const LONG_PROOF: u64 = 1 << 21;
/// `CLIENT_DEPRECATE_EOF`.
const DEPRECATE_EOF: u64 = 1 << 24;
/// `CLIENT_ZSTD_COMPRESSION_ALGORITHM`.
const ZSTD: u64 = 1 << 26;
/// `CLIENT_QUERY_ATTRIBUTES`.
const ATTRIBUTES: u64 = 1 << 27;

/// `SERVER_MORE_RESULTS_EXISTS`.
const MORE_RESULTS: u16 = 1 << 3;
/// `SERVER_STATUS_CURSOR_EXISTS`.
const CURSOR: u16 = 1 << 6;
/// `SERVER_SESSION_STATE_CHANGED`.
const STATE_CHANGED: u16 = 1 << 14;
/// `SESSION_TRACK_SCHEMA`.
const TRACK_SCHEMA: u8 = 1;

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes of payload.
    pub(super) length: u32,
    /// Its number in its command: the command is 0.
    pub(super) sequence: u8,
}

impl Head {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let &[a, b, c, sequence, ..] = bytes else {
            return None;
        };
        let length = u32::from_le_bytes([a, b, c, 0]);
        Some(Self { length, sequence })
    }

    /// Whether the payload goes on in the next packet.
    pub(super) fn continues(self) -> bool {
        self.length == FULL
    }

    /// Payload's bytes.
    pub(super) fn size(self) -> usize {
        usize::try_from(self.length).unwrap_or(usize::MAX)
    }

    /// With the payload.
    pub(super) fn whole(self) -> u64 {
        u64::from(self.length).saturating_add(HEAD as u64)
    }
}

/// A length-encoded number; NULL and an error's mark are none.
pub(super) fn number(reader: &mut Reader<'_>) -> Option<u64> {
    let mut ahead = *reader;
    let value = match ahead.u8()? {
        0xfb | 0xff => return None,
        0xfc => u64::from(ahead.u16_le()?),
        0xfd => {
            let [a, b, c] = ahead.array()?;
            u64::from(u32::from_le_bytes([a, b, c, 0]))
        }
        0xfe => ahead.u64_le()?,
        small => u64::from(small),
    };
    *reader = ahead;
    Some(value)
}

/// A text with its length before it.
pub(super) fn string<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let mut ahead = *reader;
    let length = usize::try_from(number(&mut ahead)?).ok()?;
    let text = ahead.take(length)?;
    *reader = ahead;
    Some(text)
}

/// What both sides can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Capabilities(u64);

impl Capabilities {
    /// Whether packets are compressed once the client is let in.
    pub(super) fn compress(self) -> bool {
        self.0 & (COMPRESS | ZSTD) != 0
    }

    /// Whether an EOF packet follows definitions.
    pub(super) fn has_eof(self) -> bool {
        self.0 & DEPRECATE_EOF == 0
    }

    /// Whether attributes stand before a statement.
    pub(super) fn has_attributes(self) -> bool {
        self.0 & ATTRIBUTES != 0
    }

    /// What both have.
    pub(super) fn and(self, other: Option<Self>) -> Self {
        Self(self.0 & other.map_or(u64::MAX, |other| other.0))
    }
}

/// The server's first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Greeting {
    pub(super) mariadb: bool,
    pub(super) capabilities: Capabilities,
}

impl Greeting {
    /// `bytes` are the payload, as far as it is there; `length` is its true length.
    pub(super) fn read(bytes: &[u8], length: usize) -> Option<Self> {
        if !(GREETING.0..=GREETING.1).contains(&length) || bytes.len() < length {
            return None;
        }
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return None;
        }
        let version = reader.c_string()?;
        let named = version.first()?.is_ascii_digit() && version.iter().all(u8::is_ascii_graphic);
        // Connection, first part of the challenge, which ends in 0.
        reader.skip(12)?;
        if !named || reader.u8()? != 0 {
            return None;
        }
        let low = reader.u16_le()?;
        // Character set, status.
        reader.skip(3)?;
        let high = reader.u16_le()?;
        let challenge = reader.u8()?;
        let [.., a, b, c, d] = reader.array::<10>()?;
        let bits = u64::from(low) | u64::from(high) << 16;
        let fine = bits & PROTOCOL_41 != 0 && (challenge == 0 || challenge >= 8);
        let marked = memchr::memmem::find(version, b"MariaDB").is_some();
        let own = u32::from_le_bytes([a, b, c, d]) != 0;
        let mariadb = marked || bits & MYSQL == 0 && own;
        fine.then_some(Self {
            mariadb,
            capabilities: Capabilities(bits),
        })
    }
}

/// Shortest and longest greeting that is believed.
pub(super) const GREETING: (usize, usize) = (45, 512);
/// Version of the protocol.
const VERSION: u8 = 10;

/// The client's answer to the greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Login<'a> {
    pub(super) capabilities: Capabilities,
    /// Whether the client knows the server to be MariaDB.
    pub(super) mariadb: bool,
    /// Whether TLS follows, and then the same again.
    pub(super) tls: bool,
    pub(super) database: Option<&'a [u8]>,
}

impl<'a> Login<'a> {
    /// `bytes` are the payload, as far as it is there: up to the database it must be.
    pub(super) fn read(bytes: &'a [u8], length: usize) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let bits = u64::from(reader.u32_le()?);
        let capabilities = Capabilities(bits);
        // Longest packet, character set.
        reader.skip(5)?;
        let [zeros @ .., a, b, c, d] = reader.array::<23>()?;
        let own = u32::from_le_bytes([a, b, c, d]);
        let mariadb = bits & MYSQL == 0;
        let fine = bits & PROTOCOL_41 != 0 && zeros == [0; 19] && (mariadb || own == 0);
        if !fine {
            return None;
        }
        let login = Self {
            capabilities,
            mariadb: mariadb && own != 0,
            tls: length == LOGIN.0,
            database: None,
        };
        if login.tls {
            return (bits & SSL != 0).then_some(login);
        }
        let user = reader.c_string()?;
        if user.iter().any(u8::is_ascii_control) {
            return None;
        }
        if bits & LONG_PROOF != 0 {
            string(&mut reader)?;
        } else if bits & SECURE != 0 {
            let length = reader.u8()?;
            reader.skip(usize::from(length))?;
        } else {
            reader.c_string()?;
        }
        let mut database = None;
        if bits & WITH_DATABASE != 0 {
            // Some leave out the zero where nothing follows.
            let name = match reader.c_string() {
                Some(name) => name,
                None if bytes.len() < length => return None,
                None => reader.rest(),
            };
            database = Some(name).filter(|name| !name.is_empty());
        }
        Some(Self { database, ..login })
    }
}

/// Shortest and longest answer to a greeting that is believed; the shortest asks for TLS.
pub(super) const LOGIN: (usize, usize) = (32, 65_536);

/// The database that COM_CHANGE_USER (without its first byte) asks for.
pub(super) fn change_user(bytes: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(bytes);
    reader.c_string()?;
    let proof = reader.u8()?;
    reader.skip(usize::from(proof))?;
    reader.c_string()
}

/// How a command, or a part of its answer, went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fine<'a> {
    status: u16,
    /// The session's database, where it is said to have changed.
    pub(super) schema: Option<&'a [u8]>,
}

impl<'a> Fine<'a> {
    /// Whether another result follows.
    pub(super) fn more(&self) -> bool {
        self.status & MORE_RESULTS != 0
    }

    /// Whether rows wait to be fetched.
    pub(super) fn cursor(&self) -> bool {
        self.status & CURSOR != 0
    }

    /// An OK packet, or the end of rows, which may have its form. Its first byte is known; `whole`
    /// says that all of it is there.
    pub(super) fn read(payload: &'a [u8], length: usize) -> Option<Self> {
        let mut reader = Reader::new(payload);
        let first = reader.u8()?;
        if first == END && length <= EOF {
            // Before 4.1 it is nothing but that.
            let status = reader.skip(2).and_then(|()| reader.u16_le());
            return (length == 1 || status.is_some()).then(|| Self {
                status: status.unwrap_or_default(),
                schema: None,
            });
        }
        number(&mut reader)?;
        number(&mut reader)?;
        let status = reader.u16_le()?;
        let mut fine = Self {
            status,
            schema: None,
        };
        if status & STATE_CHANGED != 0 {
            fine.schema = schema(&mut reader);
        }
        Some(fine)
    }
}

/// The database among what changed in the session; cut short where bytes are missing.
fn schema<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    reader.skip(2)?;
    string(reader)?;
    let mut changes = Reader::new(string(reader)?);
    while let Some(kind) = changes.u8() {
        let data = string(&mut changes)?;
        if kind == TRACK_SCHEMA {
            return string(&mut Reader::new(data));
        }
    }
    None
}

/// First byte of an OK packet.
pub(super) const OK: u8 = 0;
/// First byte of what ends rows.
pub(super) const END: u8 = 0xfe;
/// First byte of an error.
pub(super) const ERROR: u8 = 0xff;
/// First byte of a question for a file.
pub(super) const FILE: u8 = 0xfb;
/// Bytes of an EOF packet; an OK packet in its place has more.
pub(super) const EOF: usize = 5;
/// Fewest bytes of an OK packet.
pub(super) const SHORT_OK: usize = 7;

/// An error's number; `None` is no error but how far a long command has come (MariaDB).
pub(super) fn error(payload: &[u8]) -> Option<Option<Cow<'static, str>>> {
    let mut reader = Reader::new(payload);
    reader.skip(1)?;
    let code = reader.u16_le()?;
    Some((code != PROGRESS).then(|| Cow::Owned(code.to_string())))
}

/// The number that is none.
const PROGRESS: u16 = 0xffff;

/// How many columns a result has, and whether their definitions follow: MariaDB says that behind
/// their number, MySQL before it, and both only where they agreed on it.
pub(super) fn columns(payload: &[u8]) -> Option<(u64, bool)> {
    let count = |bytes: &[u8]| {
        let mut reader = Reader::new(bytes);
        let n = number(&mut reader)?;
        ((1..=MAX_COLUMNS).contains(&n) && reader.is_empty()).then_some(n)
    };
    if let Some(n) = count(payload) {
        return Some((n, true));
    }
    let (&last, before) = payload.split_last()?;
    let (&first, behind) = payload.split_first()?;
    match (count(before), count(behind)) {
        (Some(n), _) if last <= 1 => Some((n, last == 1)),
        (_, Some(n)) if first <= 1 => Some((n, first == 1)),
        _ => None,
    }
}

/// Most columns that a result is believed to have: the server's own limit.
const MAX_COLUMNS: u64 = 4096;
