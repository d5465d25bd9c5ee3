//! A command, word by word: what is kept of it until it can be told, and how it is told.
//!
//! Never true here: that more of a value is kept than is shown.

use std::borrow::Cow;
use std::fmt::Write as _;

use smallvec::SmallVec;

use super::names::{self, Kind, Shape};
use super::reply::{Number, number};
use crate::config::{Database, QueryText};
use crate::connection::Mark;
use crate::protocol::Request;
use crate::protocol::database::Query;

/// Longest word that is kept for what it means: a digest, a function's name, an index.
const MAX_WORD: usize = 64;
/// Arguments that are written out as `?`.
const MAX_SHOWN: u32 = 16;

/// A command under way.
#[derive(Debug)]
pub(super) struct Command {
    /// Its first byte, and whether that began a turn.
    pub(super) start: Mark,
    pub(super) turn: bool,
    /// Words it has, and how many were passed.
    total: u32,
    passed: u32,
    name: Option<Cow<'static, str>>,
    pub(super) kind: Kind,
    pub(super) shape: Shape,
    /// The two words behind the name, where they mean something.
    second: SmallVec<[u8; 40]>,
    third: SmallVec<[u8; 8]>,
    /// Arguments as they are shown, where they are.
    text: String,
    pub(super) told: Told,
}

/// Whether it was told already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Told {
    #[default]
    No,
    /// Too many wait.
    Unasked,
    /// It has this number.
    Asked(u64),
    /// It has this number, and no answer will come.
    Silent(u64),
}

impl Told {
    pub(super) fn number(self) -> Option<u64> {
        match self {
            Self::Asked(number) | Self::Silent(number) => Some(number),
            Self::No | Self::Unasked => None,
        }
    }
}

/// What comes next of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// So many bytes were read; the others are not whole.
    More(usize),
    /// So many bytes are to be passed over, some of them yet to come.
    Over(u64),
    /// It is over after so many bytes.
    Done(usize),
    Bad,
}

impl Command {
    /// Of so many words.
    pub(super) fn new(total: u32, start: Mark, turn: bool) -> Self {
        Self {
            start,
            turn,
            total,
            passed: 0,
            name: None,
            kind: Kind::Plain,
            shape: Shape::Free,
            second: SmallVec::new(),
            third: SmallVec::new(),
            text: String::new(),
            told: Told::default(),
        }
    }

    /// Reads on in what has come.
    pub(super) fn go(&mut self, bytes: &[u8], config: &Database) -> Next {
        let mut at = 0usize;
        while self.passed < self.total {
            let rest = bytes.get(at..).unwrap_or_default();
            let (length, head) = match (rest.first(), number(rest)) {
                (None, _) | (Some(b'$'), Number::More) => return Next::More(at),
                (Some(b'$'), Number::Is(length, head)) if length >= 0 => (length, head),
                _ => return Next::Bad,
            };
            let length = length.unsigned_abs();
            let wanted = usize::try_from(length).unwrap_or(usize::MAX);
            let wanted = wanted.min(self.wants(config));
            if self.passed == 0 && length > MAX_WORD as u64 {
                return Next::Bad;
            }
            let begin = at.saturating_add(head);
            let Some(word) = bytes.get(begin..begin.saturating_add(wanted)) else {
                return Next::More(at);
            };
            self.word(word, length, config);
            let end = (begin as u64).saturating_add(length).saturating_add(2);
            if end > bytes.len() as u64 {
                return Next::Over(end);
            }
            at = usize::try_from(end).unwrap_or(usize::MAX);
        }
        Next::Done(at)
    }

    /// The whole of an inline command: a line of words. False where it is none.
    pub(super) fn inline(&mut self, line: &[u8], config: &Database) -> bool {
        self.total = u32::MAX;
        let mut rest = line;
        let mut count = 0u32;
        loop {
            let blanks = rest.iter().take_while(|b| b.is_ascii_whitespace()).count();
            rest = rest.get(blanks..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            let end = unquoted(rest);
            let (word, behind) = rest.split_at_checked(end).unwrap_or((rest, &[]));
            self.word(word, word.len() as u64, config);
            rest = behind;
            count = count.saturating_add(1);
        }
        (self.total, self.passed) = (count, count);
        self.name.is_some()
    }

    /// Bytes of the next word that are looked at.
    fn wants(&self, config: &Database) -> usize {
        let means = self.passed < self.kind.words();
        let shown = match self.shows(config) {
            true => config.query_length.saturating_sub(self.text.len()),
            false => 0,
        };
        shown.max(if means { MAX_WORD } else { 0 })
    }

    fn shows(&self, config: &Database) -> bool {
        config.query_text == QueryText::Full && !self.kind.is_secret()
    }

    fn word(&mut self, word: &[u8], length: u64, config: &Database) {
        let whole = word.len() as u64 == length;
        match self.passed {
            0 => (self.name, self.kind, self.shape) = names::find(word),
            1 if self.kind.words() > 1 && length <= MAX_WORD as u64 => {
                self.second = SmallVec::from_slice(word);
            }
            2 if self.kind.words() > 2 && length <= 8 => self.third = SmallVec::from_slice(word),
            _ => {}
        }
        let shown = self.passed >= self.of_name() && self.shows(config);
        if shown && self.text.len() < config.query_length {
            quote(&mut self.text, word, config.query_length);
            if !whole {
                self.text.push('…');
            }
        }
        self.passed = self.passed.saturating_add(1);
    }

    /// Words of its name.
    fn of_name(&self) -> u32 {
        if self.kind.is_container() { 2 } else { 1 }
    }

    /// Whether all that is told of it is known.
    pub(super) fn is_ready(&self, config: &Database) -> bool {
        let words = self.kind.words().max(1);
        let full = self.shows(config) && self.text.len() < config.query_length;
        self.passed
            >= if full {
                self.total
            } else {
                words.min(self.total)
            }
    }

    /// Arguments behind its name.
    pub(super) fn arguments(&self) -> u32 {
        self.total.saturating_sub(1)
    }

    /// Its first argument as a number.
    pub(super) fn index(&self) -> Option<u32> {
        std::str::from_utf8(&self.second).ok()?.parse().ok()
    }

    /// What `CLIENT REPLY` asks for.
    pub(super) fn replies(&self) -> Option<Replies> {
        let is = |word: &[u8], known: &str| word.eq_ignore_ascii_case(known.as_bytes());
        if self.kind != Kind::Client || self.total != 3 || !is(&self.second, "REPLY") {
            return None;
        }
        match &self.third[..] {
            word if is(word, "ON") => Some(Replies::On),
            word if is(word, "OFF") => Some(Replies::Off),
            word if is(word, "SKIP") => Some(Replies::Skip),
            _ => None,
        }
    }

    /// The request. `namespace`: the database's index; `batch`: commands that it executes.
    pub(super) fn request(
        &mut self,
        namespace: Option<u32>,
        batch: Option<usize>,
        config: &Database,
    ) -> Request {
        let mut operation = self.name.take();
        let mut words = 1;
        if self.kind.is_container()
            && let Some(sub) = names::word(&self.second)
            && let Some(name) = &operation
        {
            operation = Some(Cow::Owned(format!("{name} {sub}")));
            words = 2;
        }
        let text = match (&operation, config.query_text) {
            (None, _) | (_, QueryText::Off) => None,
            (Some(name), QueryText::Full) if !self.kind.is_secret() => {
                let mut text = std::mem::take(&mut self.text);
                text.insert_str(0, name);
                Some(text)
            }
            (Some(name), _) => Some(with_marks(name, self.total.saturating_sub(words))),
        };
        let script = (self.kind == Kind::Script).then(|| std::str::from_utf8(&self.second).ok());
        let procedure = script.flatten().filter(|name| !name.is_empty());
        let namespace = namespace.map(index);
        // A function's name is said in the span's, a digest is not.
        let digest = |name: &Cow<'static, str>| name.starts_with("EVALSHA");
        let plain = operation.clone().filter(digest);
        let query = Query {
            system: "redis",
            namespace: namespace.as_deref(),
            operation,
            procedure: procedure.map(Cow::Borrowed),
            text: text.map(Cow::Owned),
            batch,
            ..Query::default()
        };
        let mut request = query.request("redis", Vec::new());
        if let Some(name) = plain {
            request.operation = name;
        }
        request
    }

    /// What it costs to hold beyond itself, in bytes.
    pub(super) fn weight(&self) -> usize {
        self.text.capacity()
    }
}

/// How commands are answered from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Replies {
    #[default]
    On,
    Off,
    /// This one is not, nor is the next.
    Skip,
}

/// The usual ones are there already.
fn index(index: u32) -> Cow<'static, str> {
    const FIRST: [&str; 16] = [
        "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15",
    ];
    let known = usize::try_from(index).ok().and_then(|at| FIRST.get(at));
    known.map_or_else(
        || Cow::Owned(index.to_string()),
        |text| Cow::Borrowed(*text),
    )
}

fn with_marks(name: &str, arguments: u32) -> String {
    let marks = arguments.min(MAX_SHOWN);
    let length = name.len().saturating_add(marks.saturating_mul(2) as usize);
    let mut text = String::with_capacity(length.saturating_add(4));
    text.push_str(name);
    for _ in 0..marks {
        text.push_str(" ?");
    }
    if arguments > marks {
        text.push_str(" …");
    }
    text
}

/// A word as it is typed, in quotes where it must be.
fn quote(text: &mut String, word: &[u8], room: usize) {
    text.push(' ');
    let plain = |b: &u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b'\\');
    if !word.is_empty() && word.iter().all(plain) {
        let room = room.saturating_sub(text.len());
        text.push_str(&String::from_utf8_lossy(word.get(..room).unwrap_or(word)));
        return;
    }
    text.push('"');
    for b in word {
        if text.len() >= room {
            break;
        }
        match b {
            b'"' | b'\\' => text.extend(['\\', char::from(*b)]),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            b' '..=b'~' => text.push(char::from(*b)),
            _ => drop(write!(text, "\\x{b:02x}")),
        }
    }
    text.push('"');
}

/// Where a word of a line ends, quotes and what they hold being one.
fn unquoted(line: &[u8]) -> usize {
    let mut quote = None;
    let mut escaped = false;
    for (at, b) in line.iter().enumerate() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(open) if *b == open => quote = None,
            Some(_) => escaped = *b == b'\\',
            None if matches!(b, b'"' | b'\'') => quote = Some(*b),
            None if b.is_ascii_whitespace() => return at,
            None => {}
        }
    }
    line.len()
}
