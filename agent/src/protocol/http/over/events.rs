//! Server-sent events: how many a response brought. Source: WHATWG HTML, 9.2 (event stream
//! interpretation), <https://html.spec.whatwg.org/multipage/server-sent-events.html>.
//!
//! Never true here: that what an event says is kept; that a number is told of which some may be
//! missing.

use super::{Application, Head, Look, Said, Tap};
use crate::protocol::{Attribute, Flow};

/// The registry's entry.
pub const APPLICATION: &dyn Application = &Events;

/// The media type of event streams.
pub const MEDIA: &str = "text/event-stream";

#[derive(Debug)]
struct Events;

impl Application for Events {
    fn answered(&self, head: &Head<'_>) -> Option<Box<dyn Tap>> {
        head.is_of(MEDIA).then(|| Box::<Counter>::default() as _)
    }
}

/// Counts a response's events.
#[derive(Debug, Default)]
struct Counter {
    lines: Lines,
    count: u64,
}

impl Tap for Counter {
    fn budget(&self, flow: Flow) -> u64 {
        match flow {
            Flow::Request => 0,
            // Streams are long, and what is looked for in them are line ends.
            Flow::Response => u64::MAX,
        }
    }

    fn read(&mut self, _flow: Flow, bytes: &[u8]) -> Look {
        self.lines.read(bytes, |found| {
            self.count = self.count.saturating_add(u64::from(found == Found::End));
        });
        Look::More
    }

    fn end(&mut self, flow: Flow, whole: bool, said: &mut Said) {
        if flow == Flow::Response && whole {
            let count = i64::try_from(self.count).unwrap_or(i64::MAX);
            let response = said.answered.get_or_insert_default();
            response.attributes.push(Attribute::int(EVENTS, count));
        }
    }
}

/// The conventions have no attribute for it.
const EVENTS: &str = "spantap.sse.events";

/// What a reader of lines finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// The next bytes of a line of data.
    Data(&'a [u8]),
    /// The end of a line of data.
    Line,
    /// The end of an event that has data.
    End,
}

/// Takes the lines of an event stream apart, in whatever portions they come.
#[derive(Debug, Default)]
pub struct Lines {
    place: Place,
    /// Whether the event under way has data.
    filled: bool,
    /// Whether the last byte was a CR: an LF after it ends no other line.
    cr: bool,
}

/// Where in a line.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// In its field's name, behind so many bytes of [`DATA`].
    Name(usize),
    /// At the first byte of a value.
    Value,
    Data,
    /// In what means nothing here.
    Other,
}

impl Default for Place {
    fn default() -> Self {
        Self::Name(0)
    }
}

const DATA: &[u8] = b"data";

impl Lines {
    /// Reads the next bytes of the stream.
    pub fn read(&mut self, bytes: &[u8], mut found: impl FnMut(Found<'_>)) {
        let mut rest = bytes;
        while let Some((first, behind)) = rest.split_first() {
            if std::mem::take(&mut self.cr) && *first == b'\n' {
                rest = behind;
                continue;
            }
            let end = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
            let (piece, behind) = rest.split_at_checked(end).unwrap_or((rest, &[]));
            self.piece(piece, &mut found);
            rest = behind;
            if let Some((end, behind)) = behind.split_first() {
                self.cr = *end == b'\r';
                self.line(&mut found);
                rest = behind;
            }
        }
    }

    fn piece(&mut self, mut piece: &[u8], found: &mut impl FnMut(Found<'_>)) {
        while let Place::Name(at) = self.place {
            let Some((byte, rest)) = piece.split_first() else {
                return;
            };
            self.place = match DATA.get(at) {
                Some(known) if known == byte => Place::Name(at.saturating_add(1)),
                None if *byte == b':' => Place::Value,
                _ => Place::Other,
            };
            piece = rest;
        }
        if let (Place::Value, Some((first, rest))) = (self.place, piece.split_first()) {
            self.place = Place::Data;
            if *first == b' ' {
                piece = rest;
            }
        }
        if matches!(self.place, Place::Data) && !piece.is_empty() {
            found(Found::Data(piece));
        }
    }

    /// A line is over.
    fn line(&mut self, found: &mut impl FnMut(Found<'_>)) {
        match std::mem::take(&mut self.place) {
            Place::Name(0) if std::mem::take(&mut self.filled) => found(Found::End),
            Place::Data | Place::Value => {
                self.filled = true;
                found(Found::Line);
            }
            Place::Name(at) if at == DATA.len() => {
                self.filled = true;
                found(Found::Line);
            }
            Place::Name(_) | Place::Other => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(stream: &[u8], portion: usize) -> String {
        let mut lines = Lines::default();
        let mut text = String::new();
        for bytes in stream.chunks(portion) {
            lines.read(bytes, |found| match found {
                Found::Data(bytes) => text.push_str(&String::from_utf8_lossy(bytes)),
                Found::Line => text.push('|'),
                Found::End => text.push('#'),
            });
        }
        text
    }

    #[test]
    fn events_end_with_an_empty_line() {
        for (stream, want) in [
            (&b"data: a\n\n"[..], "a|#"),
            (b"data:a\r\n\r\ndata:  b\r\rdata\n\n", "a|# b|#|#"),
            (b"data: a\ndata: b\nid: 1\n\n", "a|b|#"),
            (b": ping\n\nevent: x\n\nretry: 5\n\n", ""),
            (b"database: a\ndat: b\n\ndata: c", "c"),
            (b"data: a\n\n\n\n: x\n\ndata:\n\n", "a|#|#"),
        ] {
            for portion in [1, 2, 3, 100] {
                assert_eq!(read(stream, portion), want, "{stream:?} {portion}");
            }
        }
    }

    #[test]
    fn a_million_events() {
        let stream = b"data: {\"n\":1}\n\n".repeat(1000);
        let mut count = 0;
        let mut lines = Lines::default();
        for _ in 0..1000 {
            lines.read(&stream, |found| count += u64::from(found == Found::End));
        }
        assert_eq!(count, 1_000_000);
    }
}
