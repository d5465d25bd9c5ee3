//! The two hellos (RFC 8446, 4.1; RFC 5246, 7.4.1): what a client offers, what a server chose.
//!
//! Never true here: that more is kept of a hello than [`NAMES`] short names and a few numbers.

use super::names::Version;

/// Longest handshake message that is read, its four bytes of header included.
pub const MAX_HELLO: usize = 64 * 1024;
/// Most names of protocols that are kept, and most bytes of each: registered ones are shorter.
const NAMES: usize = 8;
/// See [`NAMES`].
const NAME: usize = 32;
/// Longest host name (RFC 1035, 2.3.4).
const HOST: usize = 255;

// Extensions (IANA, TLS ExtensionType Values).
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;

/// What a client offered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// Versions, the newest first.
    pub versions: Vec<Version>,
    /// Whom it wants to talk to (RFC 6066, 3).
    pub server_name: Option<Box<str>>,
    /// Names of protocols inside, the favourite first (RFC 7301).
    pub alpn: Vec<Box<str>>,
}

/// What a server chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerHello {
    /// The version.
    pub version: Version,
    /// The cipher suite.
    pub cipher: u16,
    /// The protocol inside; TLS 1.3 says it encrypted.
    pub alpn: Option<Box<str>>,
    /// Whether it asks for another hello of the client (RFC 8446, 4.1.4).
    pub retry: bool,
}

/// Type and whole length of the handshake message that begins here; `None` before its header has
/// come.
pub fn header(bytes: &[u8]) -> Option<(u8, usize)> {
    let &[kind, high, middle, low] = bytes.get(..4)? else {
        return None;
    };
    let length = u32::from_be_bytes([0, high, middle, low]);
    Some((kind, usize::try_from(length).ok()?.saturating_add(4)))
}

/// Reads a client's hello, without the message's header. `None`: it is malformed.
pub fn client(bytes: &[u8]) -> Option<ClientHello> {
    let mut at = Bytes(bytes);
    let legacy = at.u16()?;
    at.take(32)?;
    at.short()?;
    at.long()?;
    at.short()?;
    let mut hello = ClientHello::default();
    extensions(at, |kind, mut body| {
        match kind {
            SERVER_NAME => hello.server_name = server_name(body),
            ALPN => hello.alpn = alpn(body)?,
            SUPPORTED_VERSIONS => hello.versions = versions(body.short()?),
            _ => {}
        }
        Some(())
    })?;
    if hello.versions.is_empty() {
        hello.versions.push(Version(legacy));
    }
    Some(hello)
}

/// Reads a server's hello, without the message's header. `None`: it is malformed.
pub fn server(bytes: &[u8]) -> Option<ServerHello> {
    let mut at = Bytes(bytes);
    let legacy = at.u16()?;
    let retry = at.take(32)? == RETRY;
    at.short()?;
    let mut hello = ServerHello {
        version: Version(legacy),
        cipher: at.u16()?,
        alpn: None,
        retry,
    };
    at.take(1)?;
    extensions(at, |kind, mut body| {
        match kind {
            ALPN => hello.alpn = alpn(body)?.pop(),
            SUPPORTED_VERSIONS => hello.version = Version(body.u16()?),
            _ => {}
        }
        Some(())
    })?;
    hello.version.is_known().then_some(hello)
}

/// Shows each extension to `take`; a hello of old may end before them.
fn extensions<'a>(
    mut at: Bytes<'a>,
    mut take: impl FnMut(u16, Bytes<'a>) -> Option<()>,
) -> Option<()> {
    if at.0.is_empty() {
        return Some(());
    }
    let mut all = Bytes(at.long()?);
    while !all.0.is_empty() {
        let kind = all.u16()?;
        take(kind, Bytes(all.long()?))?;
    }
    Some(())
}

/// The first host name of a list; `None` where it is none that a host can have.
fn server_name(mut list: Bytes<'_>) -> Option<Box<str>> {
    let mut list = Bytes(list.long()?);
    while !list.0.is_empty() {
        let kind = list.take(1)?;
        let name = list.long()?;
        let fine = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
        if kind == [0] && !name.is_empty() && name.len() <= HOST && name.iter().all(fine) {
            return text(name);
        }
    }
    None
}

/// Names of protocols; those that are long or no text are left out. `None`: malformed.
fn alpn(mut list: Bytes<'_>) -> Option<Vec<Box<str>>> {
    let mut list = Bytes(list.long()?);
    let mut names = Vec::new();
    while !list.0.is_empty() {
        let name = list.short()?;
        let fine = !name.is_empty() && name.len() <= NAME && name.iter().all(u8::is_ascii_graphic);
        if fine && names.len() < NAMES {
            names.extend(text(name));
        }
    }
    Some(names)
}

fn versions(list: &[u8]) -> Vec<Version> {
    let pairs = list
        .chunks_exact(2)
        .take(64)
        .filter_map(|pair| Bytes(pair).u16());
    let mut known: Vec<Version> = pairs.map(Version).filter(|v| v.is_known()).collect();
    known.sort_unstable_by(|a, b| b.cmp(a));
    known.dedup();
    known
}

fn text(bytes: &[u8]) -> Option<Box<str>> {
    std::str::from_utf8(bytes).ok().map(Into::into)
}

/// A cursor: what is left to be read.
#[derive(Clone, Copy)]
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        match self.take(2)? {
            &[high, low] => Some(u16::from_be_bytes([high, low])),
            _ => None,
        }
    }

    /// What a length of one byte stands before.
    fn short(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?.first().copied()?;
        self.take(length.into())
    }

    /// What a length of two bytes stands before.
    fn long(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }
}

/// The random bytes that make a server's hello a request for another one (RFC 8446, 4.1.3).
const RETRY: [u8; 32] = [
    0xCF, 0x21, 0xAD, 0x74, 0xE5, 0x9A, 0x61, 0x11, 0xBE, 0x1D, 0x8C, 0x02, 0x1E, 0x65, 0xB8, 0x91,
    0xC2, 0xA2, 0x11, 0x16, 0x7A, 0xBB, 0x8C, 0x5E, 0x07, 0x9E, 0x09, 0xE2, 0xC8, 0xA8, 0x33, 0x9C,
];
