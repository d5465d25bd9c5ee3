//! An HTTP/1 body: how long it is by the head (RFC 9112, 6.3) and where it ends on the wire.
//!
//! Never true here: that a body's bytes are kept, or that a body whose framing is in doubt is
//! followed by a message that began inside it.

mod doubtful;

use self::doubtful::Doubtful;
use super::head::Head;
use crate::connection::Mark;
use crate::connection::stream::Stream;
use crate::protocol::Finish;

/// Longest line of a chunk's size and its extensions, and most bytes of trailers.
const MAX_LINE: usize = 16 * 1024;

/// How a body's end is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes.
    Length(u64),
    /// By its chunks.
    Chunked,
    /// By the end of the connection.
    Close,
    /// Not by anything that can be relied on.
    Doubtful,
}

/// What a head says of the message after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    /// How the body ends.
    pub(super) framing: Framing,
    /// Why two readers may disagree about that.
    pub(super) suspicion: Option<&'static str>,
    /// `Expect: 100-continue` (RFC 9110, 10.1.1).
    pub(super) expect: bool,
}

/// The lengths and codings that a head declares.
#[derive(Debug, Default)]
struct Declared {
    length: Option<u64>,
    coded: bool,
    /// The last coding named, and how often `chunked` was.
    chunked_last: bool,
    chunked: usize,
    suspicion: Option<&'static str>,
    expect: bool,
}

impl Declared {
    fn of(head: &Head<'_>) -> Self {
        let mut declared = Self::default();
        for (name, value) in head.fields() {
            match name.len() {
                6 if name.eq_ignore_ascii_case("expect") => {
                    declared.expect = value.eq_ignore_ascii_case(b"100-continue");
                }
                14 if name.eq_ignore_ascii_case("content-length") => declared.length(value),
                17 if name.eq_ignore_ascii_case("transfer-encoding") => declared.coding(value),
                _ => {}
            }
        }
        if head.obscure {
            declared.suspect("length or coding that is no header");
        }
        if head.mended {
            declared.suspect("control characters");
        }
        if declared.chunked > 1 {
            declared.suspect("chunked twice");
        }
        if declared.coded && declared.length.is_some() {
            declared.suspect("length and transfer coding");
        }
        if declared.coded && head.minor == 0 {
            declared.suspect("transfer coding in HTTP/1.0");
        }
        declared
    }

    /// RFC 9110, 8.6: equal values, in one field or several, are one value.
    fn length(&mut self, value: &[u8]) {
        for part in value.split(|&b| b == b',') {
            match digits(part.trim_ascii()) {
                None => self.suspect("length that is no number"),
                length if self.length.is_some_and(|l| Some(l) != length) => {
                    self.suspect("two lengths");
                }
                length => self.length = length,
            }
        }
    }

    fn coding(&mut self, value: &[u8]) {
        self.coded = true;
        for part in value.split(|&b| b == b',') {
            let name = part.split(|&b| b == b';').next().unwrap_or_default();
            let name = name.trim_ascii();
            if name.is_empty() {
                continue;
            }
            self.chunked_last = name.eq_ignore_ascii_case(b"chunked");
            self.chunked = self.chunked.saturating_add(usize::from(self.chunked_last));
        }
    }

    fn suspect(&mut self, why: &'static str) {
        self.suspicion.get_or_insert(why);
    }
}

fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The body of a request.
pub(super) fn of_request(head: &Head<'_>) -> Frame {
    let mut declared = Declared::of(head);
    if declared.coded && !declared.chunked_last {
        declared.suspect("transfer coding that does not end in chunked");
    }
    let framing = if declared.suspicion.is_some() {
        Framing::Doubtful
    } else if declared.coded {
        Framing::Chunked
    } else {
        Framing::Length(declared.length.unwrap_or(0))
    };
    Frame {
        framing,
        suspicion: declared.suspicion,
        expect: declared.expect,
    }
}

/// The body of a final response with this code; `to_head`: it answers a HEAD request.
pub(super) fn of_response(head: &Head<'_>, code: u16, to_head: bool) -> Frame {
    let declared = Declared::of(head);
    let empty = to_head || code == 204 || code == 304;
    let framing = if empty {
        Framing::Length(0)
    } else if declared.coded {
        // Whatever else is declared: the coding wins.
        match (declared.chunked_last, declared.chunked) {
            (true, 1) => Framing::Chunked,
            (true, _) => Framing::Doubtful,
            (false, _) => Framing::Close,
        }
    } else if declared.suspicion.is_some() {
        Framing::Doubtful
    } else {
        declared.length.map_or(Framing::Close, Framing::Length)
    };
    Frame {
        framing,
        suspicion: declared.suspicion.filter(|_| !empty),
        expect: false,
    }
}

/// A body under way.
#[derive(Debug)]
pub(super) enum Body {
    /// So many bytes; those that are looked at are left to be passed, the others are passed over at
    /// once, and the stream says when the last one has come.
    Length { length: u64, left: u64 },
    /// A length that the sender may yet decide not to send (100-continue).
    Expected(u64),
    /// Chunks.
    Chunked(Chunks),
    /// Until the end.
    Close { from: u64, tapped: bool },
    /// Until something else shows that it is over.
    Doubtful(Doubtful),
}

/// Where a reader is among chunks (RFC 9112, 7.1).
#[derive(Debug, Default)]
pub(super) struct Chunks {
    place: Place,
    /// Bytes of the current line, or of the trailers, that were looked at.
    scanned: usize,
    /// Bytes of data so far.
    data: u64,
    /// Whether they are looked at.
    tapped: bool,
    /// Those of the current chunk that are left to be passed.
    left: u64,
}

#[derive(Debug, Default)]
enum Place {
    #[default]
    Size,
    Data,
    DataEnd,
    Trailers,
}

/// What became of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// More bytes are needed.
    More,
    /// So many bytes of content, come or yet to come, are looked at as they pass.
    Content(u64),
    /// It may be over with this byte, which is told once nothing more came.
    MayEnd(Mark),
    /// It is over; the mark is of its last byte.
    Done(Finish, Mark),
    /// A byte that tells its framing is missing or wrong.
    Lost,
    /// At the first byte of a turn, or of a body that may not be sent: does the next message begin
    /// here?
    Turn,
}

impl Body {
    /// Starts on the body that follows the position; `tapped`: its content is looked at.
    pub(super) fn new(frame: &Frame, tapped: bool, stream: &mut Stream) -> Self {
        let from = stream.position();
        match frame.framing {
            Framing::Length(n) if n > 0 && frame.expect => Self::Expected(n),
            Framing::Length(n) => Self::of_length(n, tapped, stream),
            Framing::Chunked => Self::Chunked(Chunks {
                tapped,
                ..Chunks::default()
            }),
            Framing::Close => Self::Close { from, tapped },
            Framing::Doubtful => Self::Doubtful(Doubtful::new(from, false, stream)),
        }
    }

    fn of_length(length: u64, tapped: bool, stream: &mut Stream) -> Self {
        if !tapped {
            stream.skip(length);
        }
        Self::Length {
            length,
            left: if tapped { length } else { 0 },
        }
    }

    /// Reads on.
    pub(super) fn advance(&mut self, stream: &mut Stream) -> Step {
        match self {
            Self::Length { left, .. } if *left > 0 => Step::Content(*left),
            Self::Length { length, .. } if stream.reached() => {
                Step::Done(finish(*length, true, true), stream.last())
            }
            Self::Length { .. } => Step::More,
            Self::Expected(_) if stream.is_empty() => Step::More,
            Self::Expected(_) => Step::Turn,
            Self::Chunked(chunks) => chunks.advance(stream),
            Self::Close { tapped, .. } => {
                match stream.end().saturating_sub(stream.position()) {
                    0 => return Step::More,
                    come if *tapped => return Step::Content(come),
                    come => stream.skip(come),
                }
                Step::More
            }
            Self::Doubtful(doubtful) => doubtful.advance(stream),
        }
    }

    /// Content was looked at: so many bytes of it are left, and are looked at if still `tapped`.
    pub(super) fn shown(&mut self, rest: u64, still: bool) {
        match self {
            Self::Length { left, .. } => *left = rest,
            Self::Chunked(chunks) => (chunks.left, chunks.tapped) = (rest, still),
            Self::Close { tapped, .. } => *tapped = still,
            Self::Expected(_) | Self::Doubtful(_) => {}
        }
    }

    /// The turn is no message: it belongs to the body.
    pub(super) fn accept_turn(&mut self, stream: &mut Stream) {
        if let Self::Doubtful(doubtful) = self {
            doubtful.pass(stream);
        }
    }

    /// The body that leave was asked for is sent.
    pub(super) fn accept(&mut self, tapped: bool, stream: &mut Stream) {
        if let Self::Expected(length) = self {
            *self = Self::of_length(*length, tapped, stream);
        }
    }

    /// Goes on without framing.
    pub(super) fn lose(&mut self, stream: &mut Stream) {
        let from = match self {
            Self::Chunked(chunks) => stream.position().saturating_sub(chunks.data),
            _ => stream.position(),
        };
        *self = Self::Doubtful(Doubtful::new(from, true, stream));
    }

    /// How it ended when something else ended it: `clean` if its sender meant to.
    pub(super) fn cut(&self, stream: &Stream, clean: bool) -> Finish {
        let since = |from: u64| stream.position().min(stream.end()).saturating_sub(from);
        match self {
            Self::Length { length, left } => {
                let to_come = stream.position().saturating_sub(stream.end());
                let to_come = to_come.saturating_add(*left);
                finish(length.saturating_sub(to_come), true, to_come == 0)
            }
            Self::Expected(_) => finish(0, true, false),
            Self::Chunked(chunks) => {
                let to_come = stream.position().saturating_sub(stream.end());
                let to_come = to_come.saturating_add(chunks.left);
                finish(chunks.data.saturating_sub(to_come), true, false)
            }
            Self::Close { from, .. } => finish(since(*from), clean, clean),
            Self::Doubtful(doubtful) => doubtful.cut(clean),
        }
    }
}

fn finish(body: u64, exact: bool, whole: bool) -> Finish {
    Finish { body, exact, whole }
}

impl Chunks {
    fn advance(&mut self, stream: &mut Stream) -> Step {
        loop {
            if !stream.reached() {
                return Step::More;
            }
            match self.place {
                Place::Data if self.left > 0 => return Step::Content(self.left),
                Place::Data => self.place = Place::DataEnd,
                Place::DataEnd => match stream.window() {
                    [b'\n', ..] => self.pass(stream, 1, Place::Size),
                    [b'\r', b'\n', ..] => self.pass(stream, 2, Place::Size),
                    [] | [b'\r'] if !stream.is_cut() => return Step::More,
                    _ => return Step::Lost,
                },
                Place::Size | Place::Trailers => match self.line(stream) {
                    Line::More => return Step::More,
                    Line::Lost => return Step::Lost,
                    Line::Next => {}
                    Line::End => return Step::Done(finish(self.data, true, true), stream.last()),
                },
            }
        }
    }

    /// Reads a line: a chunk's size, or a trailer.
    fn line(&mut self, stream: &mut Stream) -> Line {
        let window = stream.window();
        let fresh = window.get(self.scanned..).unwrap_or_default();
        let Some(newline) = memchr::memchr(b'\n', fresh) else {
            self.scanned = window.len();
            let hopeless = stream.is_cut() || self.scanned > MAX_LINE;
            return if hopeless { Line::Lost } else { Line::More };
        };
        let end = self.scanned.saturating_add(newline);
        let line = window.get(..end).unwrap_or_default();
        let length = (end as u64).saturating_add(1);
        if let Place::Trailers = self.place {
            let empty = matches!(line, [] | [b'\r']);
            self.pass(stream, length, Place::Trailers);
            return if empty { Line::End } else { Line::Next };
        }
        let Some(size) = chunk_size(line) else {
            return Line::Lost;
        };
        if size == 0 {
            self.pass(stream, length, Place::Trailers);
        } else {
            self.pass(stream, length, Place::Data);
            match self.tapped {
                true => self.left = size,
                false => stream.skip(size),
            }
            self.data = self.data.saturating_add(size);
        }
        Line::Next
    }

    fn pass(&mut self, stream: &mut Stream, n: u64, place: Place) {
        stream.skip(n);
        self.scanned = 0;
        self.place = place;
    }
}

enum Line {
    More,
    Next,
    End,
    Lost,
}

/// The size that a line begins with, in hexadecimal; extensions are left alone.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let line = line.trim_ascii();
    let end = line
        .iter()
        .position(|b| !b.is_ascii_hexdigit())
        .unwrap_or(line.len());
    let (size, rest) = line.split_at_checked(end)?;
    if size.is_empty() || !matches!(rest.trim_ascii_start(), [] | [b';', ..]) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()
}

#[cfg(test)]
mod tests;
