//! The JSON of a body: a document, or, of an event stream, one in each event.
//!
//! Never true here: that an event is kept until it is over.

use super::Head;
use super::events::{self, Found, Lines};
use crate::protocol::json::{Reader, Value};

/// Reads a body's documents.
#[derive(Debug)]
pub struct Documents {
    make: fn() -> Reader,
    reader: Reader,
    /// Of an event stream.
    lines: Option<Lines>,
}

impl Documents {
    /// Of which each is read by such a reader.
    pub fn new(make: fn() -> Reader) -> Self {
        Self {
            make,
            reader: make(),
            lines: None,
        }
    }

    /// Whether a body behind this head has any.
    pub fn begin(&mut self, head: &Head<'_>) -> bool {
        let stream = head.is_of(events::MEDIA);
        self.lines = stream.then(Lines::default);
        stream || head.is_json()
    }

    /// Whether it is an event stream.
    pub fn is_stream(&self) -> bool {
        self.lines.is_some()
    }

    /// Reads the next bytes; whether there is more to be read.
    pub fn read(&mut self, bytes: &[u8], mut found: impl FnMut(usize, Value<'_>)) -> bool {
        let Some(lines) = &mut self.lines else {
            self.reader.read(bytes, found);
            return !self.reader.is_broken() && !self.reader.is_whole();
        };
        lines.read(bytes, |line| match line {
            Found::Data(bytes) => self.reader.read(bytes, &mut found),
            // A line of data ends in a line end.
            Found::Line => self.reader.read(b"\n", &mut found),
            Found::End => self.reader = (self.make)(),
        });
        true
    }

    /// Whether what was read last is none.
    pub fn is_broken(&self) -> bool {
        self.reader.is_broken()
    }

    /// Whether what was read last ends inside the wanted text of this path.
    pub fn is_within(&self, index: usize) -> bool {
        self.reader.is_within(index)
    }

    /// What it costs to hold beyond itself, in bytes.
    pub fn weight(&self) -> usize {
        self.reader.weight()
    }
}

/// A name out of a body, if it is one: short, and without anything that is not shown.
pub fn name(value: Value<'_>) -> Option<String> {
    let text = value.text()?;
    let fine = !text.is_empty() && text.len() <= MAX_NAME && !text.contains(char::is_control);
    fine.then(|| text.to_owned())
}

/// Longest text that is a name, bytes.
const MAX_NAME: usize = 256;
