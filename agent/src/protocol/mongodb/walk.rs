//! The way through a message: its flags, its sections, and the elements of the first document, one
//! after the other, so that nothing of it need be held.
//!
//! Of a command its name, its collection, its database and the number of its statements are read; of
//! an answer whether it went well, and the first error's code. All else is passed over by its length.
//!
//! Never true here: that more than three documents are entered, one inside the other.

use super::bson::{self, Element, LENGTH, kind};
use super::commands::{self, About};
use super::frame::{HEAD, flag};
use crate::protocol::reader::{Read, Reader, text};
use crate::stats::Stats;

/// Longest text that is read: of a namespace, 255 bytes.
const MAX_TEXT: u64 = 1024;

/// What a message was found to say.
#[derive(Debug, Default)]
pub struct Found {
    /// Another message follows without an answer to this one.
    pub more: bool,
    /// What is asked, if there is such a command.
    pub operation: Option<&'static str>,
    /// Of what kind that is.
    pub about: Option<About>,
    /// What it is done to.
    pub collection: Option<String>,
    /// The database it is done in.
    pub namespace: Option<String>,
    /// How many statements it has.
    pub statements: u32,
    /// Whether the answer says that it went well.
    pub ok: Option<bool>,
    /// Whether it has more than a little of what is read.
    pub brought: bool,
    /// The code of the error.
    pub code: Option<i64>,
    /// The code of the first statement's error, or of what was to happen after it.
    pub inner: Option<i64>,
    /// Whether a statement failed, or what was to happen after it.
    pub failed: bool,
    /// Something of it could not be read.
    pub lost: bool,
}

/// The way through one message.
#[derive(Debug)]
pub struct Walk {
    reply: bool,
    place: Place,
    /// Offset in the message.
    at: u64,
    /// Where its sections end.
    end: u64,
    /// Documents that were entered.
    levels: Vec<Level>,
    /// Whether the first document was.
    entered: bool,
    keep: usize,
    /// What was found.
    pub found: Found,
}

/// What is read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Flags,
    Section,
    /// An element of the last document that was entered.
    Element,
    /// A document of a section that ends there.
    Sequence(u64),
    Over,
}

/// A document that was entered.
#[derive(Clone, Copy, Debug)]
struct Level {
    what: What,
    /// Offset of the first byte that is not its own.
    end: u64,
}

/// What it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Command,
    /// Statements, which are counted.
    Statements,
    Answer,
    /// Errors of statements, of which the first is looked into.
    Errors,
    Error,
}

impl Walk {
    /// Behind the head of a message of so many bytes; `keep` bytes are kept of a text.
    pub fn new(reply: bool, length: u32, keep: usize) -> Self {
        Self {
            reply,
            place: Place::Flags,
            at: HEAD as u64,
            end: length.into(),
            levels: Vec::new(),
            entered: false,
            keep,
            found: Found::default(),
        }
    }

    /// Whether there is nothing more to be read.
    pub fn is_over(&self) -> bool {
        self.place == Place::Over
    }

    /// Reads what comes next from `bytes`, behind which there is nothing to come if they are `cut`;
    /// gives how many are to be passed over.
    pub fn step(&mut self, bytes: &[u8], cut: bool, stats: &Stats) -> Read<u64> {
        let read = match self.place {
            Place::Flags => self.flags(bytes),
            Place::Section => self.section(bytes),
            Place::Element => self.element(bytes, cut, stats),
            Place::Sequence(end) => self.statement(bytes, end),
            Place::Over => Read::Whole(0),
        };
        if let Read::Whole(passed) = read {
            self.at = self.at.saturating_add(passed);
        }
        read
    }

    /// What is at hand cannot be read: gives how many bytes are passed over for that.
    pub fn lose(&mut self) -> u64 {
        self.found.lost = true;
        let end = self.levels.first().map(|level| level.end);
        self.levels.clear();
        self.place = match end {
            Some(_) => Place::Section,
            None => Place::Over,
        };
        let passed = end.unwrap_or(self.at).saturating_sub(self.at);
        self.at = self.at.saturating_add(passed);
        passed
    }

    fn flags(&mut self, bytes: &[u8]) -> Read<u64> {
        let Some(flags) = Reader::new(bytes).u32_le() else {
            return Read::More;
        };
        let known = flag::CHECKSUM | flag::MORE_TO_COME;
        if flags & flag::REQUIRED & !known != 0 {
            return Read::Never;
        }
        if flags & flag::CHECKSUM != 0 {
            self.end = self.end.saturating_sub(4);
        }
        self.found.more = flags & flag::MORE_TO_COME != 0;
        self.place = Place::Section;
        Read::Whole(4)
    }

    fn section(&mut self, bytes: &[u8]) -> Read<u64> {
        if self.at >= self.end {
            self.place = Place::Over;
            return Read::Whole(0);
        }
        let mut reader = Reader::new(bytes);
        let Some(section) = reader.u8() else {
            return Read::More;
        };
        let length = match bson::length(reader.rest()) {
            Read::Whole(length) => length,
            other => return other,
        };
        let whole = length.saturating_add(1);
        if self.at.saturating_add(whole) > self.end {
            return Read::Never;
        }
        match section {
            0 if !self.entered => {
                self.entered = true;
                let what = match self.reply {
                    true => What::Answer,
                    false => What::Command,
                };
                let end = self.at.saturating_add(whole);
                self.levels.push(Level { what, end });
                self.place = Place::Element;
                Read::Whole(1 + LENGTH as u64)
            }
            1 => self.sequence(reader, whole),
            // What servers tell one another of their tenants.
            2 => Read::Whole(whole),
            _ => Read::Never,
        }
    }

    /// A section of several documents: of statements they are counted.
    fn sequence(&mut self, mut reader: Reader<'_>, whole: u64) -> Read<u64> {
        let _ = reader.skip(LENGTH);
        let Some(name) = reader.c_string() else {
            return match reader.rest().len() > commands::MAX_NAME {
                true => Read::Never,
                false => Read::More,
            };
        };
        let passed = reader.position() as u64;
        if passed > whole {
            return Read::Never;
        }
        if self.reply || !is_statements(name) {
            return Read::Whole(whole);
        }
        self.place = Place::Sequence(self.at.saturating_add(whole));
        Read::Whole(passed)
    }

    fn statement(&mut self, bytes: &[u8], end: u64) -> Read<u64> {
        if self.at >= end {
            self.place = Place::Section;
            return Read::Whole(0);
        }
        match bson::length(bytes) {
            Read::Whole(length) if self.at.saturating_add(length) <= end => {
                self.found.statements = self.found.statements.saturating_add(1);
                Read::Whole(length)
            }
            Read::More => Read::More,
            _ => Read::Never,
        }
    }

    fn element(&mut self, bytes: &[u8], cut: bool, stats: &Stats) -> Read<u64> {
        let Some(level) = self.levels.last().copied() else {
            self.place = Place::Section;
            return Read::Whole(0);
        };
        let left = level.end.saturating_sub(self.at);
        if left <= 1 {
            return match bytes.first() {
                None => Read::More,
                Some(0) if left == 1 => {
                    self.levels.pop();
                    Read::Whole(1)
                }
                Some(_) => Read::Never,
            };
        }
        let element = match bson::element(bytes) {
            Read::Whole(element) => element,
            Read::More => return Read::More,
            Read::Never => return Read::Never,
        };
        let whole = element.size.saturating_add(element.head as u64);
        if whole >= left {
            return Read::Never;
        }
        if let Some(what) = self.inside(level.what, &element) {
            let end = self.at.saturating_add(whole);
            self.levels.push(Level { what, end });
            return Read::Whole((element.head as u64).saturating_add(LENGTH as u64));
        }
        if level.what == What::Errors {
            // The first one was looked into.
            return Read::Whole(left.saturating_sub(1));
        }
        if self.wants(level.what, &element) {
            let value = bytes.get(element.head..).unwrap_or_default();
            let size = usize::try_from(element.size).unwrap_or(usize::MAX);
            match value.get(..size) {
                Some(value) => self.take(level.what, &element, value, stats),
                None if cut => self.found.lost = true,
                None => return Read::More,
            }
        }
        Read::Whole(whole)
    }

    /// What an element is that is looked into.
    fn inside(&mut self, what: What, element: &Element<'_>) -> Option<What> {
        match (what, element.kind, element.name) {
            (What::Command, kind::ARRAY, name) if self.counts(name) => Some(What::Statements),
            (What::Answer, kind::ARRAY, b"writeErrors") => {
                self.found.failed = true;
                Some(What::Errors)
            }
            (What::Answer, kind::DOCUMENT, b"writeConcernError") => {
                self.found.failed = true;
                Some(What::Error)
            }
            (What::Errors, kind::DOCUMENT, b"0") => Some(What::Error),
            _ => None,
        }
    }

    /// Whether this array of the command holds its statements.
    fn counts(&self, name: &[u8]) -> bool {
        match self.found.about {
            Some(About::Statements(array) | About::Several(array)) => array.as_bytes() == name,
            _ => false,
        }
    }

    /// Whether an element's value is to be read; what is known without it is taken.
    fn wants(&mut self, what: What, element: &Element<'_>) -> bool {
        let found = &mut self.found;
        let text = element.kind == kind::STRING && element.size <= MAX_TEXT;
        match what {
            What::Command => match found.about {
                // The first.
                None => {
                    let (operation, about) = match commands::known(element.name) {
                        Some((name, about)) => (Some(name), about),
                        // It may be anything, but for what no command is called.
                        None if commands::is_plain(element.name) => (None, About::Other),
                        None => (None, About::Housekeeping),
                    };
                    found.operation = operation;
                    found.about = Some(about);
                    let collection = matches!(about, About::Collection | About::Statements(_));
                    collection && text
                }
                Some(About::Field(field)) if field.as_bytes() == element.name => text,
                // Asked again, as it was not whole.
                Some(_) => text && (element.name == b"$db" || self.is_first(element)),
            },
            What::Statements => {
                found.statements = found.statements.saturating_add(1);
                false
            }
            What::Answer => {
                found.brought |= element.size > MAX_TEXT && RESULTS.contains(&element.name);
                matches!(element.name, b"ok" | b"code" | b"nErrors")
            }
            What::Error => element.name == b"code",
            What::Errors => false,
        }
    }

    /// Whether it is the command's first, whose value is its collection's name.
    fn is_first(&self, element: &Element<'_>) -> bool {
        let found = &self.found;
        let of = matches!(found.about, Some(About::Collection | About::Statements(_)));
        let name = found.operation.map(str::as_bytes);
        of && found.collection.is_none() && name == Some(element.name)
    }

    /// Takes an element's value.
    fn take(&mut self, what: What, element: &Element<'_>, value: &[u8], stats: &Stats) {
        let keep = self.keep;
        let words = || bson::text(value).map(|value| text(value, keep, stats));
        let number = || bson::number(element.kind, value);
        let found = &mut self.found;
        match (what, element.name) {
            (What::Command, b"$db") => found.namespace = words(),
            (What::Command, _) => found.collection = words(),
            (What::Answer, b"ok") => found.ok = number().map(|ok| ok != 0),
            (What::Answer, b"code") => found.code = number(),
            (What::Answer, b"nErrors") => found.failed |= number().is_some_and(|n| n > 0),
            (What::Error, _) if found.inner.is_none() => found.inner = number(),
            _ => {}
        }
    }
}

/// What only answers have that went well. What also writes brings a short one at most.
const RESULTS: [&[u8]; 2] = [b"cursor", b"values"];

/// Whether a sequence of this name is one of statements.
fn is_statements(name: &[u8]) -> bool {
    matches!(name, b"updates" | b"deletes" | b"ops")
}
