//! The text protocol and its meta commands: lines, some with a block of data behind them.
//!
//! Source: memcached's `doc/protocol.txt` (1.6.39).
//!
//! Never true here: that a key or a value is kept.

use crate::protocol::{Flow, Verdict};

/// Longest key, bytes.
const MAX_KEY: usize = 250;
/// Largest block of data that is believed, bytes: servers may be told to hold items of 1 GiB.
const MAX_DATA: u64 = 1 << 30;
/// Longest line that is shown to the sniffer.
const LOOK: usize = 1024;

/// How a command is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// By one of these words.
    Line(&'static [&'static str]),
    /// By a number, or that there is none.
    Number,
    /// By values, and `END`.
    Values,
    /// By lines, and `END`, or one line.
    Lines,
    /// By a meta reply.
    Meta,
    /// By `MN`.
    Mark,
    /// By one line, whatever it says.
    Free,
    /// Not at all.
    Silent,
    /// By `OK`, and by what is no answer after that.
    Watch,
}

/// A command's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask<'a> {
    pub(super) name: &'a str,
    pub(super) shape: Shape,
    /// Bytes of data behind the line, its own line's end included.
    pub(super) data: u64,
    /// Words behind the name.
    pub(super) arguments: usize,
    /// Whether an answer to it may or may not come.
    pub(super) quiet: bool,
    /// Whether it closes the connection.
    pub(super) leaves: bool,
}

const STORED: Shape = Shape::Line(&["STORED", "NOT_STORED", "EXISTS", "NOT_FOUND"]);
const DELETED: Shape = Shape::Line(&["DELETED", "NOT_FOUND"]);
const TOUCHED: Shape = Shape::Line(&["TOUCHED", "NOT_FOUND"]);
const OK: Shape = Shape::Line(&["OK"]);
const VERSION: Shape = Shape::Line(&["VERSION"]);

/// Reads a command's line; `None` where it is none of the known ones, or not so.
pub(super) fn ask(line: &[u8]) -> Option<Ask<'_>> {
    let mut words = Words(line);
    let name = std::str::from_utf8(words.next()?).ok()?;
    let first = words.next();
    let arguments = Words(line).count().saturating_sub(1);
    let noreply = arguments > 0 && Words(line).last() == Some(b"noreply");
    let own = arguments.saturating_sub(usize::from(noreply));
    let number = |at: usize| Words(line).nth(at).is_some_and(is_number);
    let key = first.is_some_and(is_key);
    let (fits, shape) = match name {
        "get" | "gets" => (
            Words(line).skip(1).all(is_key) && arguments > 0,
            Shape::Values,
        ),
        "gat" | "gats" => (number(1) && arguments > 1, Shape::Values),
        "set" | "add" | "replace" | "append" | "prepend" => {
            (key && own == 4 && (2..=4).all(number), STORED)
        }
        "cas" => (key && own == 5 && (2..=5).all(number), STORED),
        "delete" => (key && (own == 1 || own == 2 && number(2)), DELETED),
        "incr" | "decr" => (key && own == 2 && number(2), Shape::Number),
        "touch" => (key && own == 2 && number(2), TOUCHED),
        "mg" | "md" | "ma" | "me" => (key && Words(line).skip(2).all(is_flag), Shape::Meta),
        "ms" => (
            key && number(2) && Words(line).skip(3).all(is_flag),
            Shape::Meta,
        ),
        "mn" => (arguments == 0, Shape::Mark),
        "stats" => (true, Shape::Lines),
        "version" => (arguments == 0, VERSION),
        "flush_all" => (own == 0 || own == 1 && number(1), OK),
        "verbosity" => (own <= 1, OK),
        "cache_memlimit" => (own == 1, Shape::Free),
        "lru_crawler" => match first {
            Some(b"metadump" | b"mgdump") => (true, Shape::Lines),
            _ => (true, Shape::Free),
        },
        "slabs" | "lru" | "extstore" | "misbehave" | "refresh_certs" => (true, Shape::Free),
        "watch" => (true, Shape::Watch),
        "quit" => (arguments == 0, Shape::Silent),
        "shutdown" => (own <= 1, Shape::Silent),
        _ => return None,
    };
    let data = match (name, shape) {
        ("ms", _) => size(line, 2)?,
        (_, STORED) => size(line, 4)?,
        _ => 0,
    };
    let meta = matches!(shape, Shape::Meta);
    let q = meta && Words(line).skip(2).any(|flag| flag == b"q");
    fits.then_some(Ask {
        name,
        shape: if noreply && !meta {
            Shape::Silent
        } else {
            shape
        },
        data,
        arguments,
        quiet: q,
        leaves: name == "quit",
    })
}

/// The size that a word says, with the end of the line behind the data.
fn size(line: &[u8], at: usize) -> Option<u64> {
    let word = std::str::from_utf8(Words(line).nth(at)?).ok()?;
    let size = word.parse::<u64>().ok().filter(|size| *size <= MAX_DATA)?;
    size.checked_add(2)
}

/// What a line of an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A value, and how many bytes follow, its line's end included.
    Value(u64),
    /// `END`, `EN`.
    End,
    /// `STAT`, and others of which several come.
    Item,
    Number,
    /// A word of one of the known answers.
    Word(&'static str),
    /// A meta reply, and how many bytes follow.
    Meta(u64),
    Mark,
    Error(&'static str),
    Other,
}

/// Reads a line of an answer.
pub(super) fn line(line: &[u8]) -> Line {
    let mut words = Words(line);
    let Some(first) = words.next() else {
        return Line::Other;
    };
    let several = words.next().is_some();
    match first {
        b"VALUE" => size(line, 3).map_or(Line::Other, Line::Value),
        b"VA" => size(line, 1).map_or(Line::Other, Line::Meta),
        b"HD" | b"NS" | b"EX" | b"NF" | b"ME" => Line::Meta(0),
        b"EN" if !several => Line::End,
        b"END" if !several => Line::End,
        b"MN" if !several => Line::Mark,
        b"STAT" | b"PREFIX" | b"ITEM" if several => Line::Item,
        b"ERROR" => Line::Error("ERROR"),
        b"CLIENT_ERROR" => Line::Error("CLIENT_ERROR"),
        b"SERVER_ERROR" => Line::Error("SERVER_ERROR"),
        b"VERSION" if several => Line::Word("VERSION"),
        _ if !several && let Some(word) = WORDS.iter().find(|word| word.as_bytes() == first) => {
            Line::Word(word)
        }
        // What is decremented keeps its length.
        _ if line.iter().all(|b| b.is_ascii_digit() || *b == b' ') && line.len() <= 20 => {
            Line::Number
        }
        _ => Line::Other,
    }
}

/// Answers of one word.
const WORDS: [&str; 8] = [
    "STORED",
    "NOT_STORED",
    "EXISTS",
    "NOT_FOUND",
    "DELETED",
    "TOUCHED",
    "OK",
    "RESET",
];

/// Whether a line answers such a command, or begins to.
pub(super) fn fits(line: Line, shape: Shape) -> bool {
    match (shape, line) {
        (Shape::Silent, _) => false,
        (_, Line::Error(_)) | (Shape::Free, _) => true,
        (Shape::Line(words), Line::Word(word)) => words.contains(&word),
        (Shape::Watch, Line::Word(word)) => word == "OK",
        (Shape::Number, Line::Number | Line::Word("NOT_FOUND")) => true,
        (Shape::Values, Line::Value(_) | Line::End) => true,
        (Shape::Lines, line) => !matches!(line, Line::Value(_) | Line::Meta(1..)),
        (Shape::Meta, Line::Meta(_) | Line::End) => true,
        (Shape::Mark, Line::Mark) => true,
        _ => false,
    }
}

/// Whose the first line of a turn is.
pub(super) fn sniff(bytes: &[u8]) -> Verdict {
    let looked = bytes.get(..LOOK).unwrap_or(bytes);
    let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let first = looked.iter().take_while(|b| word(b)).count();
    let name = looked.get(..first).unwrap_or_default();
    let begins = |known: &&str| match first == looked.len() {
        true => known.as_bytes().starts_with(name),
        false => known.as_bytes() == name,
    };
    let digits = name.iter().all(u8::is_ascii_digit) && first <= 20;
    if !(ASKS.iter().any(&begins) || ANSWERS.iter().any(begins) || digits)
        || first == 0 && !looked.is_empty()
    {
        return Verdict::Not;
    }
    let Some(end) = memchr::memchr(b'\n', looked) else {
        return match looked.len() < LOOK {
            true => Verdict::More,
            // Many keys at once.
            false if name == b"get" || name == b"gets" => Verdict::Likely(Flow::Request),
            false => Verdict::Not,
        };
    };
    let text = looked.get(..end).unwrap_or_default();
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    if memchr::memmem::find(text, b" HTTP/").is_some() {
        return Verdict::Not;
    }
    if ask(text).is_some() {
        return Verdict::Likely(Flow::Request);
    }
    match line(text) {
        Line::Other => Verdict::Not,
        _ => Verdict::Likely(Flow::Response),
    }
}

/// What the sniffer knows of commands: those that begin nothing else.
const ASKS: [&str; 26] = [
    "get",
    "gets",
    "gat",
    "gats",
    "set",
    "add",
    "replace",
    "append",
    "prepend",
    "cas",
    "delete",
    "incr",
    "decr",
    "touch",
    "mg",
    "ms",
    "md",
    "ma",
    "mn",
    "me",
    "stats",
    "version",
    "flush_all",
    "verbosity",
    "lru_crawler",
    "watch",
];

const ANSWERS: [&str; 23] = [
    "VALUE",
    "END",
    "STORED",
    "NOT_STORED",
    "EXISTS",
    "NOT_FOUND",
    "DELETED",
    "TOUCHED",
    "OK",
    "RESET",
    "ERROR",
    "CLIENT_ERROR",
    "SERVER_ERROR",
    "STAT",
    "VERSION",
    "VA",
    "HD",
    "EN",
    "MN",
    "NS",
    "EX",
    "NF",
    "ME",
];

fn is_key(word: &[u8]) -> bool {
    let plain = |b: &u8| !b.is_ascii_control();
    (1..=MAX_KEY).contains(&word.len()) && word.iter().all(plain)
}

fn is_flag(word: &[u8]) -> bool {
    word.first().is_some_and(u8::is_ascii_alphabetic)
}

fn is_number(word: &[u8]) -> bool {
    let digits = word.strip_prefix(b"-").unwrap_or(word);
    (1..=20).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit)
}

/// Words between blanks.
struct Words<'a>(&'a [u8]);

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let from = self.0.iter().position(|b| *b != b' ')?;
        let rest = self.0.get(from..)?;
        let end = memchr::memchr(b' ', rest).unwrap_or(rest.len());
        let (word, rest) = rest.split_at_checked(end)?;
        self.0 = rest;
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        for (text, found) in [
            ("get a", Some((Shape::Values, 0, 1))),
            ("gets a b c", Some((Shape::Values, 0, 3))),
            ("get", None),
            ("set k 0 0 5", Some((STORED, 7, 4))),
            ("set k 0 -1 0 noreply", Some((Shape::Silent, 2, 5))),
            ("set k 0 0 x", None),
            ("set k 0 0 99999999999", None),
            ("cas k 0 0 5 77", Some((STORED, 7, 5))),
            ("delete k", Some((DELETED, 0, 1))),
            ("incr k 5", Some((Shape::Number, 0, 2))),
            ("ms k 2 T0", Some((Shape::Meta, 4, 3))),
            ("mg k t v", Some((Shape::Meta, 0, 3))),
            ("mn", Some((Shape::Mark, 0, 0))),
            ("GET k", None),
            ("hello", None),
        ] {
            let seen = ask(text.as_bytes()).map(|ask| (ask.shape, ask.data, ask.arguments));
            assert_eq!(seen, found, "{text}");
        }
        assert!(ask(b"mg k v q").is_some_and(|ask| ask.quiet));
    }

    #[test]
    fn first_lines() {
        let asks = Verdict::Likely(Flow::Request);
        let answers = Verdict::Likely(Flow::Response);
        for (bytes, verdict) in [
            (&b"get key\r\n"[..], asks),
            (b"get /x HTTP/1.1\r\n", Verdict::Not),
            (b"GET / HTTP/1.1\r\n", Verdict::Not),
            (b"set k 0 0 1\r\nx\r\n", asks),
            (b"set k v\r\n", Verdict::Not),
            (b"version\r\n", asks),
            (b"VALUE k 0 5\r\nhello\r\nEND\r\n", answers),
            (b"END\r\n", answers),
            (b"OK\r\n", answers),
            (b"OK 1.2\r\n", Verdict::Not),
            (b"42\r\n", answers),
            (b"220 mail\r\n", Verdict::Not),
            (b"HD\r\n", answers),
            (b"ERROR\r\n", answers),
            (b"+OK\r\n", Verdict::Not),
            (b"*1\r\n$4\r\nPING\r\n", Verdict::Not),
            (b"ver", Verdict::More),
            (b"", Verdict::More),
        ] {
            assert_eq!(sniff(bytes), verdict, "{}", bytes.escape_ascii());
        }
    }
}
