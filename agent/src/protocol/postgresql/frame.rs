//! Messages by their first bytes: which may stand here, and whether a turn begins with some
//! (PostgreSQL 18, 54.7 "Message Formats").
//!
//! Never true here: that more than a few messages, or more than a bounded part of one, are looked at.

use crate::protocol::reader::Reader;
use crate::protocol::{Flow, Verdict};

/// Bytes before a message's body: its kind, its length.
pub const HEAD: usize = 5;
/// Longest message: "about 1 GB" is what a field may have.
const LONGEST: usize = 0x4000_0000;
/// Longest start-up packet (`MAX_STARTUP_PACKET_LENGTH`).
const LONGEST_STARTUP: usize = 10_000;
/// Most columns of a row, and a few for good measure (`MaxTupleAttributeNumber`).
const MOST_COLUMNS: u16 = 1700;
/// Messages of a turn that are looked at.
const LOOK: usize = 8;
/// Bytes of a text that must look like one.
const TEXT: usize = 64;

/// What a connection begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Version 3 of the protocol: parameters follow.
    Startup,
    /// May it be TLS, or GSSAPI?
    Encrypt,
    /// Another connection's request is to be given up.
    Cancel,
}

/// What a start-up packet is, and its length; `None` if it is none.
pub fn opening(length: u32, code: u32) -> Option<(Opening, usize)> {
    let length = usize::try_from(length).ok()?;
    let opening = match code {
        80_877_103 | 80_877_104 if length == 8 => Opening::Encrypt,
        80_877_102 if (16..=512).contains(&length) => Opening::Cancel,
        // 3.0, and 3.2 since version 18.
        0x0003_0000..=0x0003_000f if (9..=LONGEST_STARTUP).contains(&length) => Opening::Startup,
        _ => return None,
    };
    Some((opening, length))
}

/// Whether a turn begins so: a connection's beginning is nothing else's, other turns may be.
pub fn sniff(bytes: &[u8]) -> Verdict {
    match bytes.first() {
        None => return Verdict::More,
        Some(0) => return begins(bytes),
        Some(_) => {}
    }
    match (chain(bytes, Flow::Request), chain(bytes, Flow::Response)) {
        (Chain::Yes, Chain::No) => Verdict::Likely(Flow::Request),
        (Chain::No, Chain::Yes) => Verdict::Likely(Flow::Response),
        (Chain::No, Chain::No) => Verdict::Not,
        // `CLOSE` of a statement and a command's tag look alike until the next message.
        _ => Verdict::More,
    }
}

/// Whether a connection begins so.
fn begins(bytes: &[u8]) -> Verdict {
    let mut reader = Reader::new(bytes);
    if bytes.first().is_some_and(|b| *b != 0) {
        return Verdict::Not;
    }
    let (Some(length), Some(code)) = (reader.u32(), reader.u32()) else {
        return Verdict::More;
    };
    match opening(length, code) {
        None => Verdict::Not,
        Some((Opening::Startup, _)) => {
            let rest = reader.rest();
            let name = |b: &&u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
            let length = rest.iter().take(TEXT).take_while(name).count();
            match rest.get(length) {
                Some(0) if length > 3 => Verdict::Is(Flow::Request),
                None if length < TEXT => Verdict::More,
                _ => Verdict::Not,
            }
        }
        Some(_) => Verdict::Is(Flow::Request),
    }
}

/// What the first messages of a turn say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chain {
    Yes,
    More,
    No,
}

fn chain(bytes: &[u8], flow: Flow) -> Chain {
    let mut rest = bytes;
    let mut told = false;
    for _ in 0..LOOK {
        if rest.is_empty() {
            break;
        }
        let Some((kind, length)) = head(rest) else {
            let known = rest
                .first()
                .is_some_and(|kind| [4, 5, 64].iter().any(|length| may(*kind, *length, flow)));
            return match (known, told) {
                (false, _) => Chain::No,
                (true, true) => Chain::Yes,
                (true, false) => Chain::More,
            };
        };
        if !may(kind, length.saturating_sub(1), flow) {
            return Chain::No;
        }
        let (seen, whole) = match rest.get(HEAD..length) {
            Some(body) => (body, true),
            None => (rest.get(HEAD..).unwrap_or_default(), false),
        };
        let fits = match flow {
            Flow::Request => asks(kind, seen, whole),
            Flow::Response => answers(kind, seen, whole),
        };
        match fits {
            None if !whole && seen.len() < TEXT => {
                return if told { Chain::Yes } else { Chain::More };
            }
            None | Some(false) => return Chain::No,
            // Either side may send these.
            Some(true) => told |= !matches!(kind, b'd' | b'c' | b'f' | b'p'),
        }
        if !whole {
            break;
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    match told {
        true => Chain::Yes,
        false => Chain::No,
    }
}

/// Kind of a message, and how long it is with its kind.
pub fn head(bytes: &[u8]) -> Option<(u8, usize)> {
    let mut reader = Reader::new(bytes);
    let kind = reader.u8()?;
    let length = usize::try_from(reader.u32()?).ok()?;
    Some((kind, length.saturating_add(1)))
}

/// Whether a message of this kind and length (as it says it) may be sent this way.
pub fn may(kind: u8, length: usize, flow: Flow) -> bool {
    let range = match (flow, kind) {
        (Flow::Request, b'S' | b'H' | b'X' | b'c') => 4..=4,
        (Flow::Request, b'Q' | b'd' | b'f' | b'p') => 4..=LONGEST,
        (Flow::Request, b'P' | b'B') => 8..=LONGEST,
        (Flow::Request, b'D' | b'C') => 6..=4096,
        (Flow::Request, b'E') => 9..=4096,
        (Flow::Request, b'F') => 14..=LONGEST,
        (Flow::Response, b'1' | b'2' | b'3' | b'n' | b's' | b'I' | b'c') => 4..=4,
        (Flow::Response, b'Z') => 5..=5,
        (Flow::Response, b'd') => 4..=LONGEST,
        (Flow::Response, b'D') => 6..=LONGEST,
        (Flow::Response, b'V') => 8..=LONGEST,
        (Flow::Response, b'T') => 6..=1 << 20,
        (Flow::Response, b't') => 6..=1 << 19,
        (Flow::Response, b'C') => 5..=512,
        (Flow::Response, b'E' | b'N') => 5..=1 << 24,
        (Flow::Response, b'G' | b'H' | b'W') => 7..=1 << 13,
        (Flow::Response, b'S' | b'A') => 6..=1 << 16,
        (Flow::Response, b'R') => 8..=1 << 16,
        (Flow::Response, b'K') => 12..=512,
        (Flow::Response, b'v') => 12..=1 << 16,
        _ => return false,
    };
    range.contains(&length)
}

/// Whether a body is one of a request of this kind; `None` where too little of it is seen.
fn asks(kind: u8, body: &[u8], whole: bool) -> Option<bool> {
    let mut reader = Reader::new(body);
    Some(match kind {
        b'Q' => {
            if !whole && is_text(body) && body.len() < TEXT / 2 {
                return None;
            }
            let text = body.strip_suffix(&[0]).filter(|_| whole);
            is_text(text.unwrap_or(body)) && whole == text.is_some()
        }
        b'P' => {
            let name = is_text(reader.c_string()?);
            let Some(text) = reader.c_string() else {
                return (!whole && reader.rest().len() >= TEXT / 2)
                    .then(|| name && is_text(reader.rest()));
            };
            let types = usize::from(reader.u16()?).saturating_mul(4);
            name && is_text(text) && (!whole || reader.rest().len() == types)
        }
        b'B' => {
            let names = is_text(reader.c_string()?) && is_text(reader.c_string()?);
            let formats = reader.u16()?;
            let plain = (0..formats.min(4)).all(|_| matches!(reader.u16(), None | Some(0 | 1)));
            names && plain
        }
        b'D' | b'C' => matches!(reader.u8()?, b'S' | b'P') && named(&mut reader, whole)?,
        b'E' => {
            let name = is_text(reader.c_string()?);
            name && reader.u32()? <= i32::MAX as u32 && reader.is_empty()
        }
        b'F' => reader.u32()? != 0 && reader.u16()? <= 100,
        _ => true,
    })
}

/// The same of an answer.
fn answers(kind: u8, body: &[u8], whole: bool) -> Option<bool> {
    let mut reader = Reader::new(body);
    Some(match kind {
        b'Z' => matches!(reader.u8()?, b'I' | b'T' | b'E'),
        b'C' => {
            let capital = body.first()?.is_ascii_uppercase();
            capital && named(&mut reader, whole)?
        }
        b'T' => {
            let columns = reader.u16()?;
            // The first column's name, then 18 bytes.
            columns <= MOST_COLUMNS
                && match columns {
                    0 => reader.is_empty(),
                    _ => {
                        reader.c_string()?;
                        reader.skip(16)?;
                        reader.u16()? <= 1
                    }
                }
        }
        b'D' => {
            reader.u16()? <= MOST_COLUMNS && {
                let length = reader.u32();
                length.is_none_or(|n| n == u32::MAX || n < LONGEST as u32)
            }
        }
        b'E' | b'N' => {
            reader.u8()? == b'S'
                && reader
                    .c_string()
                    .map_or(Some(!whole), |s| Some(is_text(s)))?
        }
        b't' => usize::from(reader.u16()?).saturating_mul(4) == reader.rest().len() || !whole,
        b'G' | b'H' | b'W' => {
            let plain = reader.u8()? <= 1;
            let columns = usize::from(reader.u16()?).saturating_mul(2);
            plain && (!whole || columns == reader.rest().len())
        }
        b'S' => is_text(reader.c_string()?) && named(&mut reader, whole)?,
        b'A' => reader.u32()? != 0 && is_text(reader.c_string()?),
        b'R' => reader.u32()? <= 16,
        b'K' => body.len() <= 512,
        b'v' => reader.u32()? <= 0x0003_ffff,
        _ => true,
    })
}

/// A text that ends where the body does.
fn named(reader: &mut Reader<'_>, whole: bool) -> Option<bool> {
    match reader.c_string() {
        Some(name) => Some(is_text(name) && reader.is_empty()),
        None if whole => Some(false),
        None => None,
    }
}

/// Whether the first bytes are of a text.
fn is_text(bytes: &[u8]) -> bool {
    let text = |b: &u8| *b >= b' ' && *b != 0x7f || matches!(b, b'\t' | b'\n' | b'\r' | 0x0c);
    bytes.iter().take(TEXT).all(text)
}
