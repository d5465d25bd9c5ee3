//! HTTP/2 frames (RFC 9113, 4 and 6): their heads, what of them is read, and how a turn that begins
//! with one is told from anything else.
//!
//! Never true here: that a payload is kept.

use super::hpack::{Decoder, Field};
use crate::protocol::{Flow, Verdict};

/// What a client says first (RFC 9113, 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame's head.
pub const HEAD: usize = 9;

/// A frame's head (RFC 9113, 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes of payload.
    pub length: u32,
    /// Type.
    pub kind: u8,
    /// Flags; what they mean depends on the type.
    pub flags: u8,
    /// Stream, 0 for the connection.
    pub stream: u32,
}

/// Frame types (RFC 9113, 6).
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

const ACK: u8 = 1;
/// On DATA and HEADERS: nothing follows on this stream.
pub const END_STREAM: u8 = 1;
/// On HEADERS, PUSH_PROMISE and CONTINUATION: no CONTINUATION follows.
pub const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

impl Head {
    /// From the first nine bytes.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, stream @ ..] = bytes.first_chunk::<HEAD>()?;
        Some(Self {
            length: u32::from_be_bytes([0, *a, *b, *c]),
            kind: *kind,
            flags: *flags,
            // The first bit is reserved and to be ignored.
            stream: u32::from_be_bytes(*stream) & 0x7fff_ffff,
        })
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether a sender that keeps to the protocol can have sent it.
    fn plausible(&self) -> bool {
        let on_stream = self.stream != 0;
        match self.kind {
            kind::DATA => on_stream && self.flags & !(END_STREAM | PADDED) == 0,
            kind::HEADERS => {
                let known = END_STREAM | END_HEADERS | PADDED | PRIORITY;
                on_stream && self.flags & !known == 0
            }
            kind::PRIORITY => on_stream && self.length == 5,
            kind::RST_STREAM => on_stream && self.length == 4,
            kind::SETTINGS => {
                let whole = self.length.is_multiple_of(6) && self.length <= MOST_SETTINGS;
                let empty = !self.has(ACK) || self.length == 0;
                !on_stream && self.flags & !ACK == 0 && whole && empty
            }
            kind::PUSH_PROMISE => on_stream && self.flags & !(END_HEADERS | PADDED) == 0,
            kind::PING => !on_stream && self.length == 8 && self.flags & !ACK == 0,
            kind::GOAWAY => !on_stream && self.length >= 8,
            kind::WINDOW_UPDATE => self.length == 4,
            kind::CONTINUATION => on_stream && self.flags & !END_HEADERS == 0,
            _ => false,
        }
    }

    /// Whether it is what a side says of itself, and no answer to that.
    pub fn is_settings(&self) -> bool {
        self.kind == kind::SETTINGS && !self.has(ACK)
    }

    /// Whether it can be a frame's head at all; types nobody knows are passed over (RFC 9113, 5.5).
    pub fn is_sound(&self) -> bool {
        let known = self.kind <= kind::CONTINUATION;
        (self.length <= MOST || self.kind == kind::DATA) && (!known || self.plausible())
    }

    /// Of the payload of HEADERS, PUSH_PROMISE and DATA, what is neither padding nor priority nor
    /// a promised stream; `None` where it does not add up.
    pub fn content<'a>(&self, payload: &'a [u8]) -> Option<&'a [u8]> {
        let mut rest = payload;
        let mut padding = 0;
        if self.has(PADDED) {
            let (first, after) = rest.split_first()?;
            (padding, rest) = (usize::from(*first), after);
        }
        let fixed = match self.kind {
            kind::HEADERS if self.has(PRIORITY) => 5,
            kind::PUSH_PROMISE => 4,
            _ => 0,
        };
        let rest = rest.get(fixed..)?;
        rest.get(..rest.len().checked_sub(padding)?)
    }

    /// Whether bytes before the payload's content say how much padding follows it.
    pub fn is_padded(&self) -> bool {
        self.has(PADDED)
    }
}

/// Most bytes of SETTINGS that are believed.
const MOST_SETTINGS: u32 = 6 * 64;
/// Most bytes of one frame's payload that a sender is believed to be allowed; without a word to the
/// contrary it is 16 KiB, and few ask for more than a megabyte.
const MOST: u32 = 1 << 20;
/// Most frames that are looked at for one that tells who asks.
const LOOK: usize = 64;

/// Whether bytes begin like HTTP/2: the client's preface, or whole frames up to one that tells
/// which side sends them. `amid`: whether the connection's first bytes may have gone by unseen.
pub fn sniff(bytes: &[u8], amid: bool) -> Verdict {
    let (begun, _) = PREFACE
        .split_at_checked(bytes.len())
        .unwrap_or((PREFACE, &[]));
    if bytes.starts_with(PREFACE) {
        return Verdict::Is(Flow::Request);
    }
    if bytes == begun {
        return Verdict::More;
    }
    let mut rest = bytes;
    // A server's preface, where a client's is behind its own. Later either side sends SETTINGS: what
    // comes with them or from the other side tells.
    let mut begun = Verdict::Not;
    for at in 0..LOOK {
        let Some(head) = Head::read(rest) else {
            // Only a first frame may be waited for: behind others it tells nothing by itself.
            let more = at == 0 && rest.len() < HEAD && begins(rest);
            return if more { Verdict::More } else { begun };
        };
        if !head.plausible() || head.length > MOST {
            return Verdict::Not;
        }
        let payload = rest.get(HEAD..).unwrap_or_default();
        if at == 0 && head.is_settings() {
            if !settings(payload, head.length) {
                return Verdict::Not;
            }
            if !amid {
                return Verdict::Is(Flow::Response);
            }
            begun = Verdict::More;
        }
        if head.kind == kind::HEADERS {
            return fields(&head, payload);
        }
        match payload.get(head.length as usize..) {
            Some([]) | None => return begun,
            Some(next) => rest = next,
        }
    }
    begun
}

/// Whether fewer bytes than a head's can be one's first.
fn begins(bytes: &[u8]) -> bool {
    let short = bytes.first().is_none_or(|&b| b <= (MOST >> 16) as u8);
    short && bytes.get(3).is_none_or(|&kind| kind <= kind::CONTINUATION)
}

/// Whether SETTINGS can be such: identifiers that are in use (RFC 9113, 6.5.2, and IANA's registry),
/// left for experiments (RFC 7540, 11.3: gRPC's C core sends 0xfe03), or reserved to be ignored (RFC
/// 8701).
fn settings(payload: &[u8], length: u32) -> bool {
    let payload = payload.get(..length as usize).unwrap_or(payload);
    let known = |entry: &[u8]| match entry {
        [0, id, ..] => (1..=16).contains(id),
        [0xf0..=0xff, ..] => true,
        [a, b, ..] => a == b && a & 0x0f == 0x0a,
        _ => false,
    };
    payload.chunks_exact(6).all(known)
}

/// Who sends HEADERS: the pseudo-headers, which come first, are a request's or a response's (RFC
/// 9113, 8.3). Those that are known without a table say it.
fn fields(head: &Head, payload: &[u8]) -> Verdict {
    let shown = payload.get(..head.length as usize).unwrap_or(payload);
    let priority = if head.has(PRIORITY) { 5 } else { 0 };
    let before = usize::from(head.has(PADDED)).saturating_add(priority);
    let block = shown.get(before..).unwrap_or_default();
    let block = block.get(..BEGINNING).unwrap_or(block);
    let (mut verdict, mut sane) = (Verdict::Not, true);
    let read = Decoder::new(true).block(block, BEGINNING, |field| {
        let pseudo = field.name.as_deref().filter(|name| name.starts_with(b":"));
        match (verdict, pseudo) {
            (Verdict::Not, Some(b":status")) => verdict = Verdict::Is(Flow::Response),
            (Verdict::Not, Some(_)) => verdict = Verdict::Is(Flow::Request),
            _ => {}
        }
        sane &= is_sane(&field);
    });
    let whole = payload.len() >= head.length as usize;
    let cut = !whole || block.len() == BEGINNING || head.has(PADDED);
    match verdict {
        _ if !sane || (read.is_err() && !cut) => Verdict::Not,
        Verdict::Not if !whole && block.len() < BEGINNING => Verdict::More,
        verdict => verdict,
    }
}

/// Whether what is known of a field can be one (RFC 9113, 8.2.1).
fn is_sane(field: &Field) -> bool {
    let name = field.name.as_deref().unwrap_or(b"x");
    let name = name.strip_prefix(b":").unwrap_or(name);
    let token = |b: &u8| matches!(b, b'a'..=b'z' | b'0'..=b'9') || b"!#$%&'*+-.^_`|~".contains(b);
    let value = field.value.as_deref().unwrap_or_default();
    !name.is_empty()
        && name.iter().all(token)
        && !value.iter().any(|b| matches!(b, 0 | b'\r' | b'\n'))
}

/// Bytes of a block that are looked at.
const BEGINNING: usize = 512;

/// The name of an error code (RFC 9113, 7).
pub fn error(code: u32) -> &'static str {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    NAMES.get(code as usize).copied().unwrap_or("UNKNOWN")
}
