//! Frames of AMQP 0-9-1 (specification, 2.3 and 4.2), the methods in them, and how bytes that begin
//! with a frame are told from anything else: what is before its end must be what its method has, to
//! the byte, and its end be there.
//!
//! Never true here: that a table is taken apart, or that a payload is kept.

use crate::protocol::reader::Reader;
use crate::protocol::{Flow, Verdict};

/// What a client sends first: the protocol and its version (4.2.2).
pub const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\0\0\x09\x01";
/// Length of a frame's head.
pub const HEAD: usize = 7;
/// A frame's last byte.
pub const END: u8 = 0xCE;
/// Most bytes of a method or a content header that are read: as long as a frame may be where nobody
/// asked for longer ones (RabbitMQ, `frame_max`).
pub const MAX_READ: usize = 128 * 1024;
/// Longest method or content header there may be: senders agree on no such frames.
const MAX_PLAUSIBLE: u32 = 16 * 1024 * 1024;

/// Types of frames.
pub mod kind {
    /// A method.
    pub const METHOD: u8 = 1;
    /// A content header.
    pub const HEADER: u8 = 2;
    /// A piece of a message's body.
    pub const BODY: u8 = 3;
    /// Nothing but a sign of life.
    pub const HEARTBEAT: u8 = 8;
}

/// Class `basic`: the one that has content.
pub const BASIC: u16 = 60;

/// The first bytes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its type.
    pub kind: u8,
    /// Its channel; 0 is the connection itself.
    pub channel: u16,
    /// Bytes between the head and the last byte.
    pub size: u32,
}

impl Head {
    /// If all its bytes are there.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        Some(Self {
            kind: reader.u8()?,
            channel: reader.u16()?,
            size: reader.u32()?,
        })
    }

    /// Whether there can be such a frame.
    pub fn is_sound(self) -> bool {
        match self.kind {
            kind::METHOD => (4..=MAX_PLAUSIBLE).contains(&self.size),
            kind::HEADER => self.channel != 0 && (14..=MAX_PLAUSIBLE).contains(&self.size),
            kind::BODY => self.channel != 0 && self.size < 1 << 31,
            kind::HEARTBEAT => self.channel == 0 && self.size == 0,
            _ => false,
        }
    }

    /// Bytes from its first to its last.
    pub fn length(self) -> u64 {
        u64::from(self.size).saturating_add(HEAD as u64 + 1)
    }
}

/// Who sends a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The client.
    Client,
    /// The server.
    Server,
    /// Both.
    Either,
}

impl Sender {
    /// Whether it is sent in this flow.
    pub fn is_in(self, flow: Flow) -> bool {
        match self {
            Self::Client => flow == Flow::Request,
            Self::Server => flow == Flow::Response,
            Self::Either => true,
        }
    }
}

/// A method.
#[derive(Clone, Copy, Debug)]
pub struct Method<'a> {
    /// Its class and its number in that.
    pub id: (u16, u16),
    /// Who sends it.
    pub sender: Sender,
    /// Its arguments, which are as many and of the kinds that it has.
    pub arguments: Reader<'a>,
}

impl<'a> Method<'a> {
    /// A known one whose arguments end where the payload does.
    pub fn read(payload: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(payload);
        let id = (reader.u16()?, reader.u16()?);
        let (sender, shape) = shape(id)?;
        let arguments = reader;
        for argument in shape.bytes() {
            match argument {
                b'1' => reader.skip(1)?,
                b'2' => reader.skip(2)?,
                b'4' => reader.skip(4)?,
                b'8' => reader.skip(8)?,
                b'b' => drop(reader.u8().filter(|bits| *bits < 32)?),
                b's' => drop(short(&mut reader)?),
                _ => drop(long(&mut reader)?),
            }
        }
        reader.is_empty().then_some(Self {
            id,
            sender,
            arguments,
        })
    }

    /// Whether a content header follows.
    fn has_content(&self) -> bool {
        matches!(self.id, (BASIC, 40 | 50 | 60 | 71))
    }
}

/// A short string (4.2.5.3).
pub fn short<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = reader.u8()?;
    reader.take(length.into())
}

/// A long string (4.2.5.3), or a table (4.2.5.5) with its names and values.
pub fn long<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = reader.u32()?;
    reader.take(usize::try_from(length).ok()?)
}

/// Who sends a method and what arguments it has: numbers of so many bytes, bits, short strings, and
/// what has its length in four bytes (specification, 1.4 to 1.8, and RabbitMQ's extensions).
fn shape(id: (u16, u16)) -> Option<(Sender, &'static str)> {
    use Sender::{Client, Either, Server};
    Some(match id {
        (10, 10) => (Server, "11lll"),
        (10, 11) => (Client, "lsls"),
        (10, 20) => (Server, "l"),
        (10, 21) => (Client, "l"),
        (10, 30) => (Server, "242"),
        (10, 31) => (Client, "242"),
        (10, 40) => (Client, "ssb"),
        (10, 41) => (Server, "s"),
        (10, 50) | (20, 40) => (Either, "2s22"),
        (10, 51) | (20, 41) => (Either, ""),
        (10, 60) => (Server, "s"),
        (10, 61) => (Server, ""),
        (10, 70) => (Client, "ls"),
        (10, 71) => (Server, ""),
        (20, 10) => (Client, "s"),
        (20, 11) => (Server, "l"),
        (20, 20 | 21) => (Either, "b"),
        (30, 10) => (Client, "sb"),
        (30, 11) => (Server, "2"),
        (40, 10) => (Client, "2ssbl"),
        (40, 20) => (Client, "2sb"),
        (40, 30 | 40) => (Client, "2sssbl"),
        (40, 11 | 21 | 31 | 51) => (Server, ""),
        (50, 10) => (Client, "2sbl"),
        (50, 11) => (Server, "s44"),
        (50, 20) => (Client, "2sssbl"),
        (50, 50) => (Client, "2sssl"),
        (50, 21 | 51) => (Server, ""),
        (50, 30 | 40) => (Client, "2sb"),
        (50, 31 | 41) => (Server, "4"),
        (BASIC, 10) => (Client, "42b"),
        (BASIC, 11) => (Server, ""),
        (BASIC, 20) => (Client, "2ssbl"),
        (BASIC, 21) => (Server, "s"),
        (BASIC, 30) => (Either, "sb"),
        (BASIC, 31) => (Either, "s"),
        (BASIC, 40) => (Client, "2ssb"),
        (BASIC, 50) => (Server, "2sss"),
        (BASIC, 60) => (Server, "s8bss"),
        (BASIC, 70) => (Client, "2sb"),
        (BASIC, 71) => (Server, "8bss4"),
        (BASIC, 72) => (Server, "s"),
        (BASIC, 80 | 120) => (Either, "8b"),
        (BASIC, 90) => (Client, "8b"),
        (BASIC, 100 | 110) => (Client, "b"),
        (BASIC, 111) => (Server, ""),
        (85, 10) => (Client, "b"),
        (85, 11) => (Server, ""),
        (90, 10 | 20 | 30) => (Client, ""),
        (90, 11 | 21 | 31) => (Server, ""),
        _ => return None,
    })
}

/// What bytes that may begin with a frame are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// A whole frame that only this side sends; `content`: with a content header behind it.
    Of(Sender, bool),
    /// Perhaps one: more bytes are needed.
    More,
    /// None.
    Not,
}

/// The first frame of these bytes, which must be a method or a heartbeat, since who begins with
/// anything else has begun before.
pub fn first(bytes: &[u8]) -> First {
    let Some(head) = Head::read(bytes) else {
        return match bytes.first() {
            None | Some(&kind::METHOD | &kind::HEARTBEAT) => First::More,
            Some(_) => First::Not,
        };
    };
    let whole = usize::try_from(head.length()).unwrap_or(usize::MAX);
    if !head.is_sound() || whole > MAX_FIRST || !matches!(head.kind, kind::METHOD | kind::HEARTBEAT)
    {
        return First::Not;
    }
    let Some(frame) = bytes.get(..whole) else {
        let id = bytes.get(HEAD..).unwrap_or_default();
        let mut id = Reader::new(id);
        let known = match (id.u16(), id.u16()) {
            (Some(class), Some(method)) => shape((class, method)).is_some(),
            _ => true,
        };
        return if known { First::More } else { First::Not };
    };
    let Some((&END, frame)) = frame.split_last() else {
        return First::Not;
    };
    if head.kind == kind::HEARTBEAT {
        return First::Of(Sender::Either, false);
    }
    let payload = frame.get(HEAD..).unwrap_or_default();
    let Some(method) = Method::read(payload) else {
        return First::Not;
    };
    // What is said of the connection is said on channel 0 (2.2.4).
    if (method.id.0 == 10) != (head.channel == 0) {
        return First::Not;
    }
    if !method.has_content() {
        return First::Of(method.sender, false);
    }
    match header(bytes.get(whole..).unwrap_or_default(), head.channel) {
        Some(true) => First::Of(method.sender, true),
        Some(false) => First::Not,
        None => First::More,
    }
}

/// Whether these bytes begin with a content header on this channel, as far as they are there.
fn header(bytes: &[u8], channel: u16) -> Option<bool> {
    let mut reader = Reader::new(bytes);
    let head = Head::read(reader.take(HEAD)?)?;
    let sound = head.is_sound() && head.kind == kind::HEADER && head.channel == channel;
    if !sound {
        return Some(false);
    }
    Some(reader.u16()? == BASIC && reader.u16()? == 0)
}

/// Whether a turn is AMQP's; `amid`: it need not be the connection's first.
pub fn sniff(bytes: &[u8], amid: bool) -> Verdict {
    if bytes.starts_with(PROTOCOL_HEADER) {
        return Verdict::Is(Flow::Request);
    }
    if PROTOCOL_HEADER.starts_with(bytes) {
        return Verdict::More;
    }
    if !amid {
        return start(bytes);
    }
    let mut rest = bytes;
    for _ in 0..MAX_LOOKED {
        match first(rest) {
            First::Not => return Verdict::Not,
            First::More => return Verdict::More,
            // A method with its content's header is nothing else.
            First::Of(Sender::Client, true) => return Verdict::Is(Flow::Request),
            First::Of(Sender::Server, true) => return Verdict::Is(Flow::Response),
            First::Of(Sender::Client, false) => return Verdict::Likely(Flow::Request),
            First::Of(Sender::Server, false) => return Verdict::Likely(Flow::Response),
            // Both send it: what follows tells.
            First::Of(Sender::Either, _) => {
                let length = Head::read(rest).map_or(0, Head::length);
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                rest = rest.get(length..).unwrap_or_default();
            }
        }
    }
    Verdict::Not
}

/// Whether a server's first frame begins so: `connection.start` with version 0-9.
fn start(bytes: &[u8]) -> Verdict {
    let is = |at: usize, want: &[u8]| {
        let there = bytes.get(at..).unwrap_or_default();
        there.iter().zip(want).all(|(is, want)| is == want)
    };
    match bytes.len() {
        _ if !is(0, b"\x01\0\0\0") || !is(HEAD, b"\0\x0a\0\x0a\0\x09") => Verdict::Not,
        0..START => Verdict::More,
        _ => Verdict::Is(Flow::Response),
    }
}

/// Bytes of a server's first frame that are looked at.
const START: usize = HEAD + 6;
/// Longest frame that a turn is known by.
const MAX_FIRST: usize = 16 * 1024;
/// Most frames that are looked at before one tells who sends.
const MAX_LOOKED: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLISH: &[u8] = b"\x01\0\x01\0\0\0\x0f\0<\0(\0\0\0\x06orders\0\xce";
    const HEADER: &[u8] = b"\x02\0\x01\0\0\0\x0e\0<\0\0\0\0\0\0\0\0\0\x03\0\0\xce";
    const ACK: &[u8] = b"\x01\0\x01\0\0\0\x0d\0<\0P\0\0\0\0\0\0\0\x01\0\xce";
    const GET: &[u8] = b"\x01\0\x01\0\0\0\x0e\0<\0F\0\0\x06orders\0\xce";
    const BEAT: &[u8] = b"\x08\0\0\0\0\0\0\xce";

    #[test]
    fn turns_are_known_by_their_frames() {
        use Flow::{Request, Response};
        let empty = b"\x01\0\x01\0\0\0\x05\0<\0H\0\xce";
        for (bytes, amid, want) in [
            (&PROTOCOL_HEADER[..], false, Verdict::Is(Request)),
            (b"AMQP\0", false, Verdict::More),
            (b"AMQP\0\x01\0\0", false, Verdict::Not),
            (b"AMQP\x03\x01\0\0", false, Verdict::Not),
            (
                b"\x01\0\0\0\0\x01\xf0\0\x0a\0\x0a\0\x09",
                false,
                Verdict::Is(Response),
            ),
            (b"\x01\0\0\0\0\x01\xf0\0\x0a\0\x0a\0", false, Verdict::More),
            (b"\x01\0\0\0\0\x01\xf0\0\x0a\0\x0b\0", false, Verdict::Not),
            (GET, false, Verdict::Not),
            (GET, true, Verdict::Likely(Request)),
            (empty, true, Verdict::Likely(Response)),
            (&GET[..20], true, Verdict::More),
            (PUBLISH, true, Verdict::More),
            (&[PUBLISH, HEADER].concat(), true, Verdict::Is(Request)),
            (&[PUBLISH, GET].concat(), true, Verdict::Not),
            (ACK, true, Verdict::More),
            (&[BEAT, ACK, GET].concat(), true, Verdict::Likely(Request)),
            (HEADER, true, Verdict::Not),
            (b"GET / HTTP/1.1\r\n", true, Verdict::Not),
        ] {
            assert_eq!(sniff(bytes, amid), want, "{bytes:?}");
        }
    }

    #[test]
    fn a_frame_must_fit_to_the_byte() {
        for at in 0..GET.len() {
            let mut other = GET.to_vec();
            other[at] ^= 0x40;
            let queue = (14..20).contains(&at);
            let free = (11..13).contains(&at) || at == 1 || at == 2;
            let verdict = sniff(&other, true);
            let fits = verdict == Verdict::Likely(Flow::Request);
            assert_eq!(fits, queue || free, "byte {at}: {verdict:?}");
        }
    }
}
