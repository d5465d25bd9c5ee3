//! A WebSocket's frame (RFC 6455, 5.2): what it is and how long.
//!
//! Never true here: that a head is believed which its sender may not send.

use crate::protocol::Flow;
use crate::protocol::reader::Reader;

/// A frame whose head is there; all of it where it is a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    /// Its bytes, those of the head among them.
    pub(super) length: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A message, or a part of one.
    Data {
        last: bool,
    },
    /// A ping or a pong.
    Control,
    Close {
        code: Option<u16>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Frame(Frame),
    More,
    /// It is none, for this reason.
    Not(&'static str),
}

/// Reads the frame that `bytes` of this flow begin with. `goes_on`: a message before it is not over.
pub(super) fn read(bytes: &[u8], flow: Flow, extended: bool, goes_on: bool) -> Found {
    let mut reader = Reader::new(bytes);
    let (Some(first), Some(second)) = (reader.u8(), reader.u8()) else {
        return Found::More;
    };
    let (last, reserved, opcode) = (first & 0x80 != 0, first & 0x70 != 0, first & 0x0f);
    let (masked, short) = (second & 0x80 != 0, second & 0x7f);
    if reserved && !extended {
        return Found::Not("reserved bits of a frame");
    }
    // 5.1: a client masks what it sends, a server does not.
    if masked != (flow == Flow::Request) {
        return Found::Not("mask of a frame");
    }
    let fits = match opcode {
        CONTINUATION => goes_on,
        TEXT | BINARY => !goes_on,
        CLOSE | PING | PONG => last && short <= 125,
        _ => false,
    };
    if !fits {
        return Found::Not("opcode of a frame");
    }
    let length = match short {
        126 => reader.u16().map(u64::from),
        127 => reader.u64(),
        short => Some(short.into()),
    };
    let Some(length) = length else {
        return Found::More;
    };
    if length > MAX_LENGTH {
        return Found::Not("length of a frame");
    }
    let mask = match masked {
        true => reader.array(),
        false => Some([0; 4]),
    };
    let Some(mask) = mask else {
        return Found::More;
    };
    let head = reader.position() as u64;
    let kind = match opcode {
        CLOSE => {
            let payload = usize::try_from(length).ok().and_then(|n| reader.take(n));
            let Some(payload) = payload else {
                return Found::More;
            };
            let Some(kind) = close(payload, mask) else {
                return Found::Not("code of a close");
            };
            kind
        }
        PING | PONG => Kind::Control,
        _ => Kind::Data { last },
    };
    Found::Frame(Frame {
        kind,
        length: head.saturating_add(length),
    })
}

/// 5.5.1: a close has no payload, or one that begins with its code.
fn close(payload: &[u8], [first, second, ..]: [u8; 4]) -> Option<Kind> {
    let code = match payload {
        [] => None,
        [high, low, ..] => Some(u16::from_be_bytes([high ^ first, low ^ second])),
        [_] => return None,
    };
    Some(Kind::Close { code })
}

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// 5.2: the first bit of a long length is 0.
const MAX_LENGTH: u64 = u64::MAX >> 1;
