//! What begins a message, and whether a turn begins like one
//! (<https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/>).
//!
//! Never true here: that a length is believed that no server would take.

use super::bson::{self, kind};
use super::commands;
use crate::protocol::reader::{Read, Reader};
use crate::protocol::{Flow, Verdict};

/// Bytes of a message's head.
pub const HEAD: usize = 16;
/// Longest message that servers take (`maxMessageSizeBytes`).
pub const MAX_MESSAGE: u32 = 48_000_000;
/// Shortest message: a head, and what closes cursors in old versions.
const MIN_MESSAGE: u32 = 20;

/// What a message is, by number.
pub mod code {
    /// The answer to a query.
    pub const REPLY: u32 = 1;
    /// Writes without an answer, in versions before 5.1: update and insert, delete and kill cursors.
    pub const SILENT: [u32; 4] = [2001, 2002, 2006, 2007];
    /// A query; of versions since 5.1 the first hello alone.
    pub const QUERY: u32 = 2004;
    /// More of a query's answers, in versions before 5.1.
    pub const GET_MORE: u32 = 2005;
    /// Another message, compressed.
    pub const COMPRESSED: u32 = 2012;
    /// A command or its answer.
    pub const MSG: u32 = 2013;
}

/// Flags of [`code::MSG`].
pub mod flag {
    /// Four bytes behind the sections are a sum of the others.
    pub const CHECKSUM: u32 = 1;
    /// Another message follows without an answer to this one.
    pub const MORE_TO_COME: u32 = 1 << 1;
    /// The answer may have [`MORE_TO_COME`].
    pub const EXHAUST_ALLOWED: u32 = 1 << 16;
    /// Those below this bit mean nothing that may be passed over.
    pub const REQUIRED: u32 = 0xffff;
}

/// The head of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the message, its head among them.
    pub length: u32,
    /// Its number.
    pub id: i32,
    /// The number of what it answers; 0 where it asks.
    pub to: i32,
    /// What it is.
    pub code: u32,
}

impl Head {
    /// Reads it.
    pub fn read(bytes: &[u8]) -> Read<Self> {
        let mut reader = Reader::new(bytes);
        let Some(length) = reader.u32_le() else {
            return Read::More;
        };
        if !(MIN_MESSAGE..=MAX_MESSAGE).contains(&length) {
            return Read::Never;
        }
        let (id, to, code) = (reader.i32_le(), reader.i32_le(), reader.u32_le());
        let (Some(id), Some(to), Some(code)) = (id, to, code) else {
            return Read::More;
        };
        let head = Self {
            length,
            id,
            to,
            code,
        };
        match head.is_of(Flow::Request) || head.is_of(Flow::Response) {
            true => Read::Whole(head),
            false => Read::Never,
        }
    }

    /// Whether a message of this flow can be such.
    pub fn is_of(&self, flow: Flow) -> bool {
        match self.code {
            code::MSG | code::COMPRESSED => true,
            code::REPLY => flow == Flow::Response,
            code::QUERY | code::GET_MORE => flow == Flow::Request,
            other => flow == Flow::Request && code::SILENT.contains(&other),
        }
    }
}

/// Whether bytes begin like one half of a dialogue.
pub fn sniff(bytes: &[u8]) -> Verdict {
    let head = match Head::read(bytes) {
        Read::Whole(head) => head,
        Read::More => return Verdict::More,
        Read::Never => return Verdict::Not,
    };
    let body = bytes.get(HEAD..).unwrap_or_default();
    let like = match head.code {
        code::MSG => message(head, body),
        code::COMPRESSED => compressed(head, body),
        code::QUERY => query(head, body),
        code::REPLY => reply(head, body),
        _ => Read::Never,
    };
    match like {
        Read::Whole(verdict) => verdict,
        Read::More => Verdict::More,
        Read::Never => Verdict::Not,
    }
}

/// A command begins with a name that is known, and answers nothing; what does otherwise may be
/// either half.
fn message(head: Head, body: &[u8]) -> Read<Verdict> {
    let mut reader = Reader::new(body);
    let Some(flags) = reader.u32_le() else {
        return Read::More;
    };
    let known = flag::CHECKSUM | flag::MORE_TO_COME | flag::EXHAUST_ALLOWED;
    if flags & !known != 0 {
        return Read::Never;
    }
    let rest = u64::from(head.length).saturating_sub(HEAD as u64 + 5);
    let like = match head.to {
        0 => Verdict::Likely(Flow::Request),
        _ => Verdict::Likely(Flow::Response),
    };
    match reader.u8() {
        None => Read::More,
        Some(0) => match first(reader.rest(), rest) {
            Read::Whole((kind, name)) if head.to == 0 => Read::Whole(asks(kind, name)),
            Read::Whole(_) => Read::Whole(like),
            Read::More => Read::More,
            Read::Never => Read::Never,
        },
        Some(1) => {
            let Some(size) = reader.u32_le() else {
                return Read::More;
            };
            match reader.c_string() {
                _ if u64::from(size) > rest => Read::Never,
                Some(name) if commands::is_plain(name) => Read::Whole(like),
                None if reader.rest().len() <= commands::MAX_NAME => Read::More,
                _ => Read::Never,
            }
        }
        Some(_) => Read::Never,
    }
}

/// What begins with this, and does not say that it answers anything: some driver's first question
/// has the number 0.
fn asks(kind: u8, name: &[u8]) -> Verdict {
    let answers = ["ok", "cursor", "n", "helloOk", "isWritablePrimary"];
    if kind == kind::BOOL || answers.iter().any(|answer| answer.as_bytes() == name) {
        return Verdict::Likely(Flow::Response);
    }
    match commands::known(name) {
        Some(_) => Verdict::Is(Flow::Request),
        None => Verdict::Likely(Flow::Request),
    }
}

/// The first element of the document at the front, which has at most `rest` bytes: its type and name.
fn first(bytes: &[u8], rest: u64) -> Read<(u8, &[u8])> {
    match bson::length(bytes) {
        Read::Whole(length) if length <= rest => {}
        Read::More => return Read::More,
        _ => return Read::Never,
    }
    let bytes = bytes.get(bson::LENGTH..).unwrap_or_default();
    let mut reader = Reader::new(bytes);
    let Some(kind) = reader.u8() else {
        return Read::More;
    };
    if !matches!(kind, 0x01..=0x13) {
        return Read::Never;
    }
    match reader.c_string() {
        Some(name) if is_key(name) => Read::Whole((kind, name)),
        None if is_key(reader.rest()) || reader.is_empty() => Read::More,
        _ => Read::Never,
    }
}

/// Answers begin with names of the server's own besides.
fn is_key(name: &[u8]) -> bool {
    commands::is_plain(name.strip_prefix(b"$").unwrap_or(name)) || name == b"$"
}

fn compressed(head: Head, body: &[u8]) -> Read<Verdict> {
    let mut reader = Reader::new(body);
    let Some(code) = reader.u32_le() else {
        return Read::More;
    };
    if !matches!(code, code::MSG | code::QUERY | code::REPLY) {
        return Read::Never;
    }
    let Some(size) = reader.u32_le() else {
        return Read::More;
    };
    match reader.u8() {
        _ if size > MAX_MESSAGE => Read::Never,
        None => Read::More,
        Some(by) if by > LAST_COMPRESSOR => Read::Never,
        Some(_) if head.to == 0 => Read::Whole(Verdict::Likely(Flow::Request)),
        Some(_) => Read::Whole(Verdict::Likely(Flow::Response)),
    }
}

/// None, Snappy, zlib, Zstandard.
const LAST_COMPRESSOR: u8 = 3;

/// A question to `DATABASE.$cmd` is a command in its old clothes.
fn query(head: Head, body: &[u8]) -> Read<Verdict> {
    let mut reader = Reader::new(body);
    let Some(flags) = reader.u32_le() else {
        return Read::More;
    };
    if head.to != 0 || flags > u8::MAX.into() {
        return Read::Never;
    }
    match reader.c_string() {
        Some(name) if name.ends_with(COMMAND) => Read::Whole(Verdict::Is(Flow::Request)),
        Some(name) if is_namespace(name) && name.contains(&b'.') => {
            Read::Whole(Verdict::Likely(Flow::Request))
        }
        None if is_namespace(reader.rest()) => Read::More,
        _ => Read::Never,
    }
}

const COMMAND: &[u8] = b".$cmd";

fn is_namespace(name: &[u8]) -> bool {
    name.len() < 256 && name.iter().all(|b| matches!(b, b'!'..=b'~'))
}

fn reply(head: Head, body: &[u8]) -> Read<Verdict> {
    let mut reader = Reader::new(body);
    let Some(flags) = reader.u32_le() else {
        return Read::More;
    };
    // Behind the cursor's number: the place of the first document, and how many there are.
    let number = (|| {
        reader.u64_le()?;
        Some((reader.u32_le()?, reader.u32_le()?))
    })();
    if flags > 0xf {
        return Read::Never;
    }
    let rest = u64::from(head.length).saturating_sub(HEAD as u64 + 20);
    match number {
        None => Read::More,
        Some((first, _)) if first > i32::MAX.unsigned_abs() => Read::Never,
        Some((_, 0)) if rest == 0 => Read::Whole(Verdict::Likely(Flow::Response)),
        Some((_, number)) if number > 0 && u64::from(number) <= rest => {
            match first(reader.rest(), rest) {
                Read::Whole(_) => Read::Whole(Verdict::Likely(Flow::Response)),
                Read::More => Read::More,
                Read::Never => Read::Never,
            }
        }
        Some(_) => Read::Never,
    }
}

/// Whether a [`code::QUERY`], at its head, is a handshake.
pub fn is_handshake(bytes: &[u8]) -> Read<bool> {
    let mut reader = Reader::new(bytes);
    if reader.skip(HEAD + 4).is_none() {
        return Read::More;
    }
    let Some(name) = reader.c_string() else {
        return match is_namespace(reader.rest()) {
            true => Read::More,
            false => Read::Whole(false),
        };
    };
    if !name.ends_with(COMMAND) {
        return Read::Whole(false);
    }
    if reader.skip(8).is_none() {
        return Read::More;
    }
    match first(reader.rest(), MAX_MESSAGE.into()) {
        Read::Whole((_, name)) => Read::Whole(matches!(
            commands::known(name),
            Some((_, commands::About::Housekeeping))
        )),
        Read::More => Read::More,
        Read::Never => Read::Whole(false),
    }
}
