//! What begins a frame ("native protocol v5", section 2; those of v3 and v4 are alike), and whether a turn
//! begins like one: every field that has few values is checked, of both halves.
//!
//! Never true here: that more than a bounded number of bytes is looked at.

use super::segment::{self, Framing};
use super::{lz4, result};
use crate::protocol::reader::{Read, Reader};
use crate::protocol::{Flow, Verdict};

/// Bytes of a frame before its body.
pub const HEAD: usize = 9;
/// Longest body ("a frame is limited to 256MB in length").
const MAX_BODY: u32 = 256 << 20;
/// Longest id of a prepared statement that is followed; Cassandra's have 16 bytes.
pub const MAX_ID: u16 = 64;
/// Bytes of a packed segment that are unpacked to see what begins it.
const PEEK: usize = 32;

/// What a frame is.
pub mod opcode {
    /// What went wrong.
    pub const ERROR: u8 = 0x00;
    /// Opens a connection.
    pub const STARTUP: u8 = 0x01;
    /// The answer to that, where nobody has to prove who they are.
    pub const READY: u8 = 0x02;
    /// The other answer to it.
    pub const AUTHENTICATE: u8 = 0x03;
    /// Asks what is supported, or whether anybody is there.
    pub const OPTIONS: u8 = 0x05;
    /// The answer to that.
    pub const SUPPORTED: u8 = 0x06;
    /// A statement.
    pub const QUERY: u8 = 0x07;
    /// The answer to statements.
    pub const RESULT: u8 = 0x08;
    /// A statement that is executed later.
    pub const PREPARE: u8 = 0x09;
    /// Executes one.
    pub const EXECUTE: u8 = 0x0a;
    /// Asks for events.
    pub const REGISTER: u8 = 0x0b;
    /// Something happened.
    pub const EVENT: u8 = 0x0c;
    /// Several statements.
    pub const BATCH: u8 = 0x0d;
    /// Asks for a proof.
    pub const AUTH_CHALLENGE: u8 = 0x0e;
    /// Proves.
    pub const AUTH_RESPONSE: u8 = 0x0f;
    /// The proof is good.
    pub const AUTH_SUCCESS: u8 = 0x10;
}

/// The body is compressed.
const COMPRESSED: u8 = 0x01;
/// The request is to be traced, or the answer begins with the trace's id.
const TRACING: u8 = 0x02;
/// What server and client agreed on comes first.
const PAYLOAD: u8 = 0x04;
/// Warnings come first.
const WARNING: u8 = 0x08;

/// What begins a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The protocol's version, 3 to 5.
    pub version: u8,
    flags: u8,
    /// What the answer has too; events have -1.
    pub stream: i16,
    /// What it is.
    pub opcode: u8,
    /// Bytes of the body.
    pub length: u32,
}

impl Head {
    /// Whether the body is compressed.
    pub fn is_compressed(self) -> bool {
        self.flags & COMPRESSED != 0
    }

    /// The same of a body of so many bytes.
    pub fn with_length(self, length: u32) -> Self {
        Self { length, ..self }
    }

    /// Passes over what comes before a body's own fields.
    pub fn preamble(self, flow: Flow, fields: &mut Reader<'_>) -> Option<()> {
        if flow == Flow::Response && self.flags & TRACING != 0 {
            fields.skip(16)?;
        }
        if self.flags & WARNING != 0 {
            for _ in 0..fields.u16()? {
                string(fields)?;
            }
        }
        if self.flags & PAYLOAD != 0 {
            for _ in 0..fields.u16()? {
                string(fields)?;
                value(fields)?;
            }
        }
        Some(())
    }

    /// Whether the body's own fields come first in it, as they are.
    fn is_bare(self, flow: Flow) -> bool {
        let traced = flow == Flow::Response && self.flags & TRACING != 0;
        self.flags & (COMPRESSED | PAYLOAD | WARNING) == 0 && !traced
    }
}

/// A text behind its length.
pub fn string<'a>(fields: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = fields.u16()?;
    fields.take(length.into())
}

/// A value behind its length; one that is null or not set has none.
pub fn value(fields: &mut Reader<'_>) -> Option<()> {
    match usize::try_from(fields.i32()?) {
        Ok(length) => fields.skip(length),
        Err(_) => Some(()),
    }
}

/// Reads what begins a frame of this flow.
pub fn head(bytes: &[u8], flow: Flow) -> Read<Head> {
    let mut fields = Reader::new(bytes);
    let Some(first) = fields.u8() else {
        return Read::More;
    };
    let version = match flow {
        Flow::Request => first,
        Flow::Response => first ^ 0x80,
    };
    // Version 4 brought payloads and warnings; the bit for what is tried out is no frame's body.
    let known = match (version, flow) {
        (3, _) => COMPRESSED | TRACING,
        (4, Flow::Request) => COMPRESSED | TRACING | PAYLOAD,
        (5, Flow::Request) => COMPRESSED | TRACING | PAYLOAD | 0x10,
        (4, Flow::Response) => COMPRESSED | TRACING | PAYLOAD | WARNING,
        (5, Flow::Response) => COMPRESSED | TRACING | PAYLOAD | WARNING | 0x10,
        _ => return Read::Never,
    };
    let Some(flags) = fields.u8() else {
        return Read::More;
    };
    if flags & !known != 0 {
        return Read::Never;
    }
    let (Some(stream), Some(opcode)) = (fields.i16(), fields.u8()) else {
        return Read::More;
    };
    let Some(lengths) = lengths(opcode, flow) else {
        return Read::Never;
    };
    let pushed = stream == -1 && opcode == opcode::EVENT;
    let own = stream >= 0 && opcode != opcode::EVENT;
    let Some(length) = fields.u32() else {
        return Read::More;
    };
    match (pushed || own) && (lengths.0..=lengths.1).contains(&length) {
        true => Read::Whole(Head {
            version,
            flags,
            stream,
            opcode,
            length,
        }),
        false => Read::Never,
    }
}

/// Least and most bytes of a body.
fn lengths(opcode: u8, flow: Flow) -> Option<(u32, u32)> {
    /// Housekeeping is short.
    const SHORT: u32 = 64 << 10;
    Some(match (flow, opcode) {
        (Flow::Request, opcode::OPTIONS) | (Flow::Response, opcode::READY) => (0, 0),
        (Flow::Request, opcode::STARTUP | opcode::REGISTER) => (6, SHORT),
        (Flow::Request, opcode::AUTH_RESPONSE) => (4, SHORT),
        (Flow::Request, opcode::PREPARE) => (5, MAX_BODY),
        (Flow::Request, opcode::QUERY) => (8, MAX_BODY),
        (Flow::Request, opcode::EXECUTE | opcode::BATCH) => (6, MAX_BODY),
        (Flow::Response, opcode::AUTHENTICATE) => (3, SHORT),
        (Flow::Response, opcode::AUTH_CHALLENGE | opcode::AUTH_SUCCESS) => (4, SHORT),
        (Flow::Response, opcode::SUPPORTED | opcode::EVENT) => (4, SHORT),
        (Flow::Response, opcode::ERROR) => (6, MAX_BODY),
        (Flow::Response, opcode::RESULT) => (4, MAX_BODY),
        _ => return None,
    })
}

/// Whether a body begins as its kind does; `None` where more is needed.
fn fits(head: Head, body: &[u8]) -> Option<bool> {
    let length = head.length;
    let body = body.get(..length as usize).unwrap_or(body);
    let mut fields = Reader::new(body);
    Some(match head.opcode {
        opcode::QUERY | opcode::PREPARE => {
            let text = fields.u32()?;
            let further = if head.opcode == opcode::QUERY { 7 } else { 4 };
            let first = fields.rest().iter().take(text.min(8) as usize);
            (1..=length.saturating_sub(further)).contains(&text) && { first }.all(|b| is_text(*b))
        }
        opcode::EXECUTE => {
            let id = fields.u16()?;
            (1..=MAX_ID).contains(&id) && u32::from(id).saturating_add(5) <= length
        }
        opcode::BATCH => {
            let (kind, count) = (fields.u8()?, fields.u16()?);
            kind <= 2 && (count == 0 || fields.u8()? <= 1)
        }
        opcode::STARTUP | opcode::SUPPORTED | opcode::REGISTER => {
            (1..=64).contains(&fields.u16()?) && is_word(&mut fields)?
        }
        opcode::EVENT | opcode::AUTHENTICATE => is_word(&mut fields)?,
        opcode::AUTH_RESPONSE | opcode::AUTH_CHALLENGE | opcode::AUTH_SUCCESS => {
            let token = fields.i32()?;
            let rest = length.checked_sub(4);
            token < 0 && length == 4 || u32::try_from(token).ok() == rest
        }
        opcode::ERROR => {
            let code = fields.i32()?;
            let text = fields.u16()?;
            result::is_code(code) && u32::from(text).saturating_add(6) <= length
        }
        opcode::RESULT => (1..=5).contains(&fields.i32()?),
        _ => true,
    })
}

fn is_text(b: u8) -> bool {
    !b.is_ascii_control() || b.is_ascii_whitespace()
}

/// Whether a name stands here: of an option, an event, a class.
fn is_word(fields: &mut Reader<'_>) -> Option<bool> {
    let length = fields.u16()?;
    let name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'$' | b'-');
    let first = fields.rest().iter().take(length.into());
    Some((1..=256).contains(&length) && { first }.all(name))
}

/// Whether a body of this head begins as its kind does.
pub fn begins_body(head: Head, body: &[u8], flow: Flow) -> Read<()> {
    let bare = Head {
        flags: head.flags & !COMPRESSED,
        ..head
    };
    match fits(head, body) {
        _ if !bare.is_bare(flow) => Read::Never,
        Some(true) => Read::Whole(()),
        Some(false) => Read::Never,
        None => Read::More,
    }
}

/// Whether bytes begin like a frame of this flow.
pub fn begins(bytes: &[u8], flow: Flow) -> Read<()> {
    let head = match head(bytes, flow) {
        Read::Whole(head) => head,
        Read::More => return Read::More,
        Read::Never => return Read::Never,
    };
    match head.is_bare(flow) {
        true => begins_body(head, bytes.get(HEAD..).unwrap_or_default(), flow),
        false => Read::Whole(()),
    }
}

/// Whether bytes begin like a segment of this flow that begins with a frame, where segments have this
/// form, if that is known.
pub fn begins_segment(bytes: &[u8], flow: Flow, form: Option<segment::Form>) -> Read<()> {
    let segment = match segment::read(bytes, form) {
        Read::Whole(segment) => segment,
        Read::More => return Read::More,
        Read::Never => return Read::Never,
    };
    let payload = bytes.get(segment.head..).unwrap_or_default();
    if !segment.is_packed() {
        return begins(payload, flow);
    }
    match begins(&lz4::unpack(payload, PEEK), flow) {
        Read::More if payload.len() >= segment.length as usize => Read::Never,
        read => read,
    }
}

/// Whether a turn begins like one of either flow.
pub fn sniff(bytes: &[u8], framing: Framing) -> Verdict {
    let mut more = false;
    for flow in [Flow::Request, Flow::Response] {
        match framing.begins(bytes, flow) {
            Read::Whole(()) => return Verdict::Likely(flow),
            Read::More => more = true,
            Read::Never => {}
        }
    }
    match more {
        true => Verdict::More,
        false => Verdict::Not,
    }
}
