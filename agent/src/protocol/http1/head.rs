//! An HTTP/1 head: where it ends, and its lines taken apart (RFC 9112, 2 to 5).
//!
//! The end is looked for once over each byte, however the bytes arrive; httparse then reads the
//! whole head once. Real servers are more lenient than the grammar, and so is this: bare LF, empty
//! lines before the first, folded lines and lines that are no header do not end a conversation.
//!
//! Never true here: that a byte is scanned again because another one came.

use std::borrow::Cow;
use std::mem::MaybeUninit;

use httparse::{Header, ParserConfig};

use crate::protocol::{Flow, Verdict};

/// Longest head that is read, bytes.
pub(super) const MAX_HEAD: usize = 64 * 1024;
/// Headers read without an allocation.
const FEW: usize = 32;

/// Looks for the empty line that ends a head.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// First byte not looked at.
    at: usize,
    /// Lines seen to their end, the first line included.
    pub(super) lines: usize,
    /// Whether a line goes on in the next one (obs-fold).
    folded: bool,
    #[cfg(test)]
    pub(super) work: usize,
}

impl Scan {
    /// Whether nothing was looked at yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.at == 0 && self.lines == 0
    }

    /// Length of the head that `bytes` begin with, once its end is there.
    pub(super) fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        loop {
            let rest = bytes.get(self.at..)?;
            let Some(newline) = memchr::memchr(b'\n', rest) else {
                self.advance(rest.len());
                return None;
            };
            match rest.get(newline.saturating_add(1)..)? {
                [] | [b'\r'] => {
                    // What follows the line decides; the newline is found again then.
                    self.advance(newline);
                    return None;
                }
                [b'\n', ..] => return Some(self.end(newline, 2)),
                [b'\r', b'\n', ..] => return Some(self.end(newline, 3)),
                [b' ' | b'\t', ..] => self.folded = true,
                _ => {}
            }
            self.lines = self.lines.saturating_add(1);
            self.advance(newline.saturating_add(1));
        }
    }

    fn advance(&mut self, n: usize) {
        self.at = self.at.saturating_add(n);
        #[cfg(test)]
        {
            self.work += n + 1;
        }
    }

    fn end(&mut self, newline: usize, more: usize) -> usize {
        self.lines = self.lines.saturating_add(1);
        self.at.saturating_add(newline).saturating_add(more)
    }

    /// The head with its folded lines made one (RFC 9112, 5.2): the line break becomes blanks.
    pub(super) fn unfold<'a>(&self, head: &'a [u8]) -> Cow<'a, [u8]> {
        if !self.folded {
            return Cow::Borrowed(head);
        }
        let mut plain = head.to_vec();
        for i in 0..plain.len() {
            let next = plain.get(i.saturating_add(1)).copied();
            if plain.get(i) == Some(&b'\n') && matches!(next, Some(b' ' | b'\t')) {
                if let Some(b) = plain.get_mut(i) {
                    *b = b' ';
                }
                if let Some(b @ b'\r') = i.checked_sub(1).and_then(|i| plain.get_mut(i)) {
                    *b = b' ';
                }
            }
        }
        Cow::Owned(plain)
    }
}

/// Most bytes of a first line that are looked at to recognise it.
const LOOK: usize = 1024;
/// Longest method that is recognised; WebDAV's and UPnP's longest have 17.
const MAX_METHOD: usize = 32;

/// Whether bytes begin like a request or a response of HTTP/1, empty lines left out.
pub(super) fn sniff(bytes: &[u8]) -> Verdict {
    let blank = |b: &u8| matches!(b, b'\r' | b'\n');
    let blanks = bytes.iter().take(LOOK).take_while(|b| blank(b)).count();
    let bytes = bytes.get(blanks..).unwrap_or_default();
    match response_line(bytes) {
        Verdict::Not => request_line(bytes),
        verdict => verdict,
    }
}

/// `HTTP/1.x nnn` (RFC 9112, 4).
fn response_line(bytes: &[u8]) -> Verdict {
    const NAME: &[u8] = b"HTTP/1.";
    let (name, rest) = bytes.split_at_checked(NAME.len()).unwrap_or((bytes, &[]));
    if !NAME.starts_with(name) {
        return Verdict::Not;
    }
    let Some((minor, rest)) = rest.split_first() else {
        return Verdict::More;
    };
    let blanks = rest.iter().take(LOOK).take_while(|&&b| b == b' ').count();
    if !minor.is_ascii_digit() || (blanks == 0 && !rest.is_empty()) {
        return Verdict::Not;
    }
    let code = rest.get(blanks..).unwrap_or_default();
    if !code.iter().take(3).all(u8::is_ascii_digit) {
        return Verdict::Not;
    }
    match code.get(3) {
        Some(b' ' | b'\r' | b'\n') => Verdict::Is(Flow::Response),
        Some(_) => Verdict::Not,
        None => Verdict::More,
    }
}

/// `method target HTTP/1.x` (RFC 9112, 3); a line that goes on past [`LOOK`] is believed without
/// its end.
fn request_line(bytes: &[u8]) -> Verdict {
    let looked = bytes.get(..LOOK).unwrap_or(bytes);
    let Some(space) = looked
        .iter()
        .take(MAX_METHOD.saturating_add(1))
        .position(|&b| !is_token(b))
    else {
        return if looked.len() > MAX_METHOD {
            Verdict::Not
        } else {
            Verdict::More
        };
    };
    if space == 0 || looked.get(space) != Some(&b' ') {
        return Verdict::Not;
    }
    let rest = looked.get(space..).unwrap_or_default();
    let (line, whole) = match memchr::memchr(b'\n', rest) {
        Some(end) => (rest.get(..end).unwrap_or_default(), true),
        None => (rest, false),
    };
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    // Without a way out, so that it is done many bytes at a time.
    if line
        .iter()
        .fold(false, |bad, &b| bad | (b < b' ') | (b == 0x7f))
    {
        return Verdict::Not;
    }
    if !whole {
        let much = looked.len() == LOOK;
        return if much {
            Verdict::Is(Flow::Request)
        } else {
            Verdict::More
        };
    }
    let line = line.trim_ascii_end();
    let ends = line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0");
    // " t HTTP/1.1" is the shortest there is.
    if ends && line.trim_ascii_start().len() > b"HTTP/1.1".len() {
        Verdict::Is(Flow::Request)
    } else {
        Verdict::Not
    }
}

/// RFC 9110, 5.6.2.
fn is_token(byte: u8) -> bool {
    let mark = matches!(
        byte,
        b'!' | b'#'
            | b'$'
            | b'%'
            | b'&'
            | b'\''
            | b'*'
            | b'+'
            | b'-'
            | b'.'
            | b'^'
            | b'_'
            | b'`'
            | b'|'
            | b'~'
    );
    byte.is_ascii_alphanumeric() || mark
}

/// A first line, whichever half of the dialogue it is from.
#[derive(Clone, Copy, Debug)]
pub(super) enum First<'h> {
    Request { method: &'h str, target: &'h str },
    Response { code: u16 },
}

/// A head taken apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<'h> {
    pub(super) first: First<'h>,
    /// Minor version: 0 or 1.
    pub(super) minor: u8,
    pub(super) headers: &'h [Header<'h>],
    /// Whether a line that declares a length or a coding was left out as no header: another reader
    /// may read it.
    pub(super) obscure: bool,
    /// Whether headers were left out for bytes that some readers refuse and others pass over.
    pub(super) mended: bool,
}

impl<'h> Head<'h> {
    /// Names and values in wire order.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&'h str, &'h [u8])> + use<'h> {
        self.headers.iter().map(|h| (h.name, h.value))
    }
}

/// Takes a whole head of `lines` lines apart and shows it to `read`.
pub(super) fn request<R>(
    head: &[u8],
    lines: usize,
    read: impl Fn(Head<'_>) -> R,
) -> Result<R, &'static str> {
    let repaired = repair(head);
    leniently(&repaired, |head, mended| {
        parse_request(head, lines, mended, &read)
    })
}

fn parse_request<R>(
    head: &[u8],
    lines: usize,
    mended: bool,
    read: impl Fn(Head<'_>) -> R,
) -> Result<R, &'static str> {
    with_room(lines, |room| {
        let mut parsed = httparse::Request::new(&mut []);
        match config().parse_request_with_uninit_headers(&mut parsed, head, room) {
            Ok(status) if status.is_complete() => {}
            Ok(_) => return Err("head without an end"),
            Err(error) => return Err(reason(error)),
        }
        let first = First::Request {
            method: parsed.method.ok_or("no method")?,
            target: parsed.path.ok_or("no target")?,
        };
        Ok(read(Head {
            first,
            minor: parsed.version.unwrap_or(1),
            obscure: lines != parsed.headers.len().saturating_add(1)
                && obscure(head, parsed.headers),
            mended,
            headers: parsed.headers,
        }))
    })
}

/// As [`request`], for a response.
pub(super) fn response<R>(
    head: &[u8],
    lines: usize,
    mut read: impl FnMut(Head<'_>) -> R,
) -> Result<R, &'static str> {
    leniently(head, |head, mended| {
        parse_response(head, lines, mended, &mut read)
    })
}

fn parse_response<R>(
    head: &[u8],
    lines: usize,
    mended: bool,
    read: impl FnOnce(Head<'_>) -> R,
) -> Result<R, &'static str> {
    with_room(lines, |room| {
        let mut parsed = httparse::Response::new(&mut []);
        match config().parse_response_with_uninit_headers(&mut parsed, head, room) {
            Ok(status) if status.is_complete() => {}
            Ok(_) => return Err("head without an end"),
            Err(error) => return Err(reason(error)),
        }
        let first = First::Response {
            code: parsed.code.ok_or("no status code")?,
        };
        Ok(read(Head {
            first,
            minor: parsed.version.unwrap_or(1),
            obscure: lines != parsed.headers.len().saturating_add(1)
                && obscure(head, parsed.headers),
            mended,
            headers: parsed.headers,
        }))
    })
}

/// Reads a head as it is, or else without what httparse refuses in any line.
fn leniently<R>(
    head: &[u8],
    mut read: impl FnMut(&[u8], bool) -> Result<R, &'static str>,
) -> Result<R, &'static str> {
    read(head, false).or_else(|why| match mend(head) {
        Some((mended, headers)) => read(&mended, headers),
        None => Err(why),
    })
}

/// NUL and a CR that ends no line become another control character: the header they are in is left
/// out, which is told. In a first line, so far as that was recognised, they are as good as blanks
/// (RFC 9112, 2.2).
fn mend(head: &[u8]) -> Option<(Vec<u8>, bool)> {
    let mut plain: Option<Vec<u8>> = None;
    let (mut first, mut headers) = (true, false);
    for (at, &byte) in head.iter().enumerate() {
        let next = head.get(at.saturating_add(1));
        let bad = match byte {
            b'\n' => {
                first = false;
                false
            }
            b'\r' => next != Some(&b'\n'),
            b'\t' => false,
            byte => byte == 0 || (first && (byte < b' ' || byte == 0x7f)),
        };
        if bad && let Some(slot) = plain.get_or_insert_with(|| head.to_vec()).get_mut(at) {
            *slot = if first { b' ' } else { 1 };
            headers |= !first;
        }
    }
    plain.map(|plain| (plain, headers))
}

/// Whether more lines begin like a declaration of the body's end than were read as headers.
fn obscure(head: &[u8], headers: &[Header<'_>]) -> bool {
    let declares = |line: &[u8]| {
        [&b"content-length"[..], b"transfer-encoding"]
            .into_iter()
            .any(|name| {
                line.get(..name.len())
                    .is_some_and(|start| start.eq_ignore_ascii_case(name))
            })
    };
    let lines = head.split(|&b| b == b'\n').skip(1);
    let written = lines
        .filter(|line| declares(line.trim_ascii_start()))
        .count();
    let read = headers
        .iter()
        .filter(|h| declares(h.name.as_bytes()))
        .count();
    written != read
}

/// Gives `parse` room for the headers of that many lines.
fn with_room<'b, R>(lines: usize, parse: impl FnOnce(&mut [MaybeUninit<Header<'b>>]) -> R) -> R {
    if lines <= FEW {
        parse(&mut [const { MaybeUninit::uninit() }; FEW])
    } else {
        let mut room: Vec<_> = (0..lines).map(|_| MaybeUninit::uninit()).collect();
        parse(&mut room)
    }
}

/// What servers accept beyond the grammar.
fn config() -> ParserConfig {
    let mut config = ParserConfig::default();
    config
        .allow_multiple_spaces_in_request_line_delimiters(true)
        .allow_multiple_spaces_in_response_status_delimiters(true)
        .allow_spaces_after_header_name_in_responses(true)
        .allow_space_before_first_header_name(true)
        .ignore_invalid_headers_in_requests(true)
        .ignore_invalid_headers_in_responses(true);
    config
}

/// httparse wants UTF-8 in the target; the bytes that are none are percent-encoded.
fn repair(head: &[u8]) -> Cow<'_, [u8]> {
    let end = memchr::memchr(b'\n', head).unwrap_or(head.len());
    let (line, rest) = head.split_at_checked(end).unwrap_or((head, &[]));
    if line.is_ascii() || std::str::from_utf8(line).is_ok() {
        return Cow::Borrowed(head);
    }
    let mut plain = Vec::with_capacity(head.len().saturating_add(64));
    for &byte in line {
        if byte.is_ascii() {
            plain.push(byte);
        } else {
            let digit = |n: u8| {
                char::from_digit(u32::from(n), 16).map_or(b'0', |c| c.to_ascii_uppercase() as u8)
            };
            plain.extend([b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    plain.extend_from_slice(rest);
    Cow::Owned(plain)
}

fn reason(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "header name",
        httparse::Error::HeaderValue => "header value",
        httparse::Error::NewLine => "line end",
        httparse::Error::Status => "status code",
        httparse::Error::Token => "method or target",
        httparse::Error::TooManyHeaders => "too many headers",
        httparse::Error::Version => "version",
    }
}

#[cfg(test)]
mod tests;
