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

    /// Whether its length and stream are such as its type has; flags that mean nothing are ignored
    /// (RFC 9113, 4.1 and 6).
    fn fits(&self) -> bool {
        let on_stream = self.stream != 0;
        match self.kind {
            kind::DATA | kind::HEADERS | kind::PUSH_PROMISE => {
                on_stream && self.length >= self.before_content()
            }
            kind::PRIORITY => on_stream && self.length == 5,
            kind::RST_STREAM => on_stream && self.length == 4,
            kind::SETTINGS => {
                let whole = self.length.is_multiple_of(6) && self.length <= MOST_SETTINGS;
                let empty = !self.has(ACK) || self.length == 0;
                !on_stream && whole && empty
            }
            kind::PING => !on_stream && self.length == 8,
            kind::GOAWAY => !on_stream && self.length >= 8,
            kind::WINDOW_UPDATE => self.length == 4,
            kind::CONTINUATION => on_stream,
            _ => false,
        }
    }

    /// Whether a sender that keeps to the protocol can have sent it: no flag is set that has no
    /// meaning.
    fn plausible(&self) -> bool {
        let known = match self.kind {
            kind::DATA => END_STREAM | PADDED,
            kind::HEADERS => END_STREAM | END_HEADERS | PADDED | PRIORITY,
            kind::PUSH_PROMISE => END_HEADERS | PADDED,
            kind::SETTINGS | kind::PING => ACK,
            kind::CONTINUATION => END_HEADERS,
            kind::WINDOW_UPDATE => 0,
            _ => u8::MAX,
        };
        self.fits() && self.flags & !known == 0
    }

    /// Whether it is what a side says of itself, and no answer to that.
    pub fn is_settings(&self) -> bool {
        self.kind == kind::SETTINGS && !self.has(ACK)
    }

    /// Whether its shape is one that hardly anything else has: of the connection, and of one length.
    pub fn is_telltale(&self) -> bool {
        let fixed = matches!(self.kind, kind::SETTINGS | kind::PING | kind::WINDOW_UPDATE);
        fixed && self.plausible() && self.stream == 0
    }

    /// Whether it can be a frame's head at all; types nobody knows are passed over (RFC 9113, 5.5).
    pub fn is_sound(&self) -> bool {
        let known = self.kind <= kind::CONTINUATION;
        (self.length <= MOST || self.kind == kind::DATA) && (!known || self.fits())
    }

    /// Bytes of the payload of HEADERS, PUSH_PROMISE and DATA before its content: how much padding
    /// there is, a priority, a promised stream.
    fn before_content(&self) -> u32 {
        let fixed = match self.kind {
            kind::HEADERS if self.has(PRIORITY) => 5,
            kind::PUSH_PROMISE => 4,
            _ => 0,
        };
        u32::from(self.has(PADDED)).saturating_add(fixed)
    }

    /// Of as much of the payload as is there, what is content and no padding; `None` where they do
    /// not add up, or how much padding there is has not come.
    pub fn content<'a>(&self, payload: &'a [u8]) -> Option<&'a [u8]> {
        let padding = match self.has(PADDED) {
            true => u32::from(*payload.first()?),
            false => 0,
        };
        let (start, end) = match self.kind {
            kind::CONTINUATION => (0, self.length),
            _ => (self.before_content(), self.length.checked_sub(padding)?),
        };
        if end < start {
            return None;
        }
        let end = payload.len().min(end as usize);
        payload.get((start as usize).min(end)..end)
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
/// Longest HEADERS that may begin what is taken for HTTP/2, bytes.
const MOST_FIELDS: u32 = 64 * 1024;
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
            let whole = payload.get(..head.length as usize);
            if !settings(whole.unwrap_or(payload)) {
                return Verdict::Not;
            }
            begun = match whole {
                Some(_) if !amid => Verdict::Is(Flow::Response),
                _ => Verdict::More,
            };
        }
        if head.kind == kind::HEADERS {
            // A block that nobody sends, and that is not read.
            return match head.length > MOST_FIELDS {
                true => Verdict::Not,
                false => fields(&head, payload),
            };
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
fn settings(payload: &[u8]) -> bool {
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
    let whole = payload.len() >= head.length as usize;
    let Some(content) = head.content(payload) else {
        return if whole { Verdict::Not } else { Verdict::More };
    };
    let block = content.get(..BEGINNING).unwrap_or(content);
    let (mut verdict, mut sane) = (Verdict::Not, true);
    let read = Decoder::new(true).block(block, usize::MAX, |field| {
        let pseudo = field.name.as_deref().filter(|name| name.starts_with(b":"));
        match (verdict, pseudo) {
            (Verdict::Not, Some(b":status")) => verdict = Verdict::Is(Flow::Response),
            (Verdict::Not, Some(_)) => verdict = Verdict::Is(Flow::Request),
            _ => {}
        }
        sane &= is_sane(&field);
    });
    let cut = !whole || block.len() < content.len();
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

/// The name of an error code that was not seen (as the conventions have it, `error.type`).
pub const UNREAD: &str = "_OTHER";

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
