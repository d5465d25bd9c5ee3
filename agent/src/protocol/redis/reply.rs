//! The other half of the wire: replies, their kinds, and how one is passed over to its end.
//!
//! A reply is a tree; to find its end only the number of what is still to come is kept, and for
//! streamed aggregates, whose end is said behind them, one number a level.
//!
//! Never true here: that a value is kept, or that nesting costs more than a constant.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::names::{self, Topic};

/// Streamed aggregates in one another; servers send none at all as yet.
const MAX_STREAMS: usize = 16;
/// More elements in one reply than any server holds.
const MAX_ELEMENTS: u64 = 1 << 40;
/// First bytes of a line of text that are looked at.
const LOOK: usize = 128;
/// Longest name of a channel that is told, bytes.
const MAX_CHANNEL: usize = 128;

/// What a line of a type and a number says: `$5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    More,
    Bad,
    /// The number, and the length of the line.
    Is(i64, usize),
    /// `?`: streamed.
    Open(usize),
}

/// Reads such a line from its type on.
pub(super) fn number(bytes: &[u8]) -> Number {
    let end = |at: usize, found: Number| match (bytes.get(at), bytes.get(at.saturating_add(1))) {
        (Some(b'\r'), Some(b'\n')) => found,
        (None, _) | (Some(b'\r'), None) => Number::More,
        _ => Number::Bad,
    };
    if bytes.get(1) == Some(&b'?') {
        return end(2, Number::Open(4));
    }
    let negative = bytes.get(1) == Some(&b'-');
    let from = 1usize.saturating_add(usize::from(negative));
    let mut value = 0i64;
    let mut digits = 0usize;
    // An integer has 64 bits; a length or a count has fewer.
    let most = if bytes.first() == Some(&b':') { 19 } else { 10 };
    for b in bytes.iter().skip(from) {
        if !b.is_ascii_digit() {
            break;
        }
        digits = digits.saturating_add(1);
        value = value.saturating_mul(10).saturating_add((b & 0xf).into());
        if digits > most {
            return Number::Bad;
        }
    }
    let at = from.saturating_add(digits);
    if digits == 0 && bytes.len() > from {
        return Number::Bad;
    }
    let value = if negative {
        value.saturating_neg()
    } else {
        value
    };
    end(at, Number::Is(value, at.saturating_add(2)))
}

/// What a reply is, by its first bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Head<'a> {
    More,
    Bad,
    /// What comes before the reply and belongs to it.
    Attributes,
    Error(Option<Cow<'static, str>>),
    Simple(Simple),
    /// A bulk string, or null.
    Bulk,
    /// A number, whole or not.
    Number,
    /// Several values, or null.
    Several,
    /// `_`, `#`: of any type's place.
    Any,
    Push(Push<'a>),
}

/// Simple strings that mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Simple {
    Ok,
    Queued,
    Reset,
    /// A line of MONITOR.
    Watched,
    Other,
}

/// What is sent without being asked for, or confirms that it will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Push<'a> {
    /// A message of this channel or pattern; none where its name is too long.
    Message(Option<&'a [u8]>),
    /// The topic, and how many are subscribed to now, where that can be seen.
    Confirmed(Topic, Option<u64>),
    Other,
}

/// Judges a reply by its first bytes. `subscribed`: what looks like a message is one.
pub(super) fn head(bytes: &[u8], subscribed: bool) -> Head<'_> {
    let sized = |head| match number(bytes) {
        Number::More => Head::More,
        Number::Bad => Head::Bad,
        Number::Is(..) | Number::Open(_) => head,
    };
    match bytes.first() {
        None => Head::More,
        Some(b'-') => match line(bytes) {
            Some(line) => Head::Error(code(line)),
            None => Head::More,
        },
        Some(b'!') => match number(bytes) {
            Number::Is(length, at) => {
                let length = usize::try_from(length).unwrap_or(0).min(LOOK);
                let text = bytes.get(at..at.saturating_add(length));
                text.map_or(Head::More, |text| Head::Error(code(text)))
            }
            Number::More => Head::More,
            _ => Head::Bad,
        },
        Some(b'+') => line(bytes).map_or(Head::More, |line| Head::Simple(simple(line))),
        Some(b'>') => pushed(bytes).unwrap_or_else(|| sized(Head::Push(Push::Other))),
        Some(b'*') if subscribed => match pushed(bytes) {
            Some(Head::Push(Push::Other)) | None => sized(Head::Several),
            Some(other) => other,
        },
        Some(b'*' | b'%' | b'~') => sized(Head::Several),
        Some(b'$' | b'=') => sized(Head::Bulk),
        Some(b'|') => sized(Head::Attributes),
        Some(b':' | b',' | b'(') => Head::Number,
        Some(b'_' | b'#') => Head::Any,
        Some(_) => Head::Bad,
    }
}

/// The line behind its type, or as much of a long one as is looked at.
fn line(bytes: &[u8]) -> Option<&[u8]> {
    let looked = bytes.get(..LOOK).unwrap_or(bytes);
    match memchr::memchr(b'\n', looked) {
        Some(end) => {
            let line = looked.get(1..end)?;
            Some(line.strip_suffix(b"\r").unwrap_or(line))
        }
        None if looked.len() >= LOOK => looked.get(1..),
        None => None,
    }
}

/// An error's first word, where it is one of the server's kind.
fn code(text: &[u8]) -> Option<Cow<'static, str>> {
    const CODES: [&str; 16] = [
        "ERR",
        "WRONGTYPE",
        "MOVED",
        "ASK",
        "NOSCRIPT",
        "NOAUTH",
        "WRONGPASS",
        "NOPERM",
        "LOADING",
        "BUSY",
        "OOM",
        "EXECABORT",
        "CLUSTERDOWN",
        "CROSSSLOT",
        "TRYAGAIN",
        "READONLY",
    ];
    let word = text.split(|b| matches!(b, b' ' | b'\r')).next()?;
    if let Some(known) = CODES.iter().find(|known| known.as_bytes() == word) {
        return Some(Cow::Borrowed(known));
    }
    let capital = |b: &u8| b.is_ascii_uppercase() || *b == b'_';
    let fits = (2..=names::LONGEST).contains(&word.len()) && word.iter().all(capital);
    let word = std::str::from_utf8(word).ok()?;
    fits.then(|| Cow::Owned(word.to_owned()))
}

fn simple(line: &[u8]) -> Simple {
    match line {
        b"OK" => Simple::Ok,
        b"QUEUED" => Simple::Queued,
        b"RESET" => Simple::Reset,
        _ if is_watched(line) => Simple::Watched,
        _ => Simple::Other,
    }
}

/// `1700000000.123456 [0 127.0.0.1:5000] "get" …`
fn is_watched(line: &[u8]) -> bool {
    let digits = |bytes: &[u8]| bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    let seconds = digits(line);
    let Some(rest) = line.get(seconds..).and_then(|rest| rest.strip_prefix(b".")) else {
        return false;
    };
    let rest = rest.get(digits(rest)..).unwrap_or_default();
    seconds >= 9 && rest.starts_with(b" [")
}

/// Reads the words of a message or a confirmation; `None` where the array begins with no word.
fn pushed(bytes: &[u8]) -> Option<Head<'_>> {
    let Number::Is(count, at) = number(bytes) else {
        return None;
    };
    let rest = bytes.get(at..)?;
    let (word, rest) = match bulk(rest, names::LONGEST) {
        Element::More => return Some(Head::More),
        Element::Other => return None,
        Element::Bulk(word, rest) => (word, rest),
    };
    let message = matches!(
        (word, count),
        (b"message" | b"smessage", 3) | (b"pmessage", 4)
    );
    let topic = names::topic(word).filter(|_| count == 3);
    if !message && topic.is_none() {
        return Some(Head::Push(Push::Other));
    }
    let longest = if message {
        MAX_CHANNEL
    } else {
        LOOK.saturating_mul(8)
    };
    let (name, rest) = match bulk(rest, longest) {
        Element::More => return Some(Head::More),
        Element::Other => (None, rest),
        Element::Bulk(name, rest) => (Some(name), rest),
    };
    let Some(topic) = topic else {
        return Some(Head::Push(Push::Message(name)));
    };
    let rest = match (name, number(rest)) {
        (Some(_), _) => Some(rest),
        // Nothing was subscribed to.
        (None, Number::Is(-1, at)) => rest.get(at..),
        (None, Number::More) => return Some(Head::More),
        (None, _) if rest.starts_with(b"_") => rest.get(3..),
        _ => None,
    };
    let count = match rest.map(|rest| (rest.first(), number(rest))) {
        Some((Some(b':'), Number::Is(count, _))) => u64::try_from(count).ok(),
        Some((None, _) | (Some(b':'), Number::More)) => return Some(Head::More),
        _ => None,
    };
    Some(Head::Push(Push::Confirmed(topic, count)))
}

enum Element<'a> {
    More,
    /// No bulk string, or too long a one.
    Other,
    /// It, and what follows it.
    Bulk(&'a [u8], &'a [u8]),
}

fn bulk(bytes: &[u8], longest: usize) -> Element<'_> {
    match (bytes.first(), number(bytes)) {
        (None, _) | (Some(b'$'), Number::More) => Element::More,
        (Some(b'$'), Number::Is(length, at)) => {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if length > longest {
                return Element::Other;
            }
            let end = at.saturating_add(length);
            match (bytes.get(at..end), bytes.get(end.saturating_add(2)..)) {
                (Some(text), Some(rest)) => Element::Bulk(text, rest),
                _ => Element::More,
            }
        }
        _ => Element::Other,
    }
}

/// Where a reply is in itself.
#[derive(Debug)]
pub(super) struct Walk {
    /// Elements to come, on the innermost streamed level those of aggregates in it.
    left: u64,
    /// The same of the levels around streamed aggregates.
    outer: SmallVec<[u64; 2]>,
    /// In a line of text whose end has not come.
    line: bool,
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

impl Walk {
    /// At the first byte of so many elements.
    pub(super) fn new(elements: u64) -> Self {
        Self {
            left: elements,
            outer: SmallVec::new(),
            line: false,
        }
    }

    /// Reads on in what has come.
    pub(super) fn go(&mut self, bytes: &[u8]) -> Next {
        let mut at = 0usize;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            if self.line {
                match memchr::memchr(b'\n', rest) {
                    Some(end) => at = at.saturating_add(end).saturating_add(1),
                    None => return Next::More(bytes.len()),
                }
                self.line = false;
                continue;
            }
            if self.left == 0 && self.outer.is_empty() {
                return Next::Done(at);
            }
            let Some(&first) = rest.first() else {
                return Next::More(at);
            };
            if matches!(first, b'+' | b'-' | b':' | b',' | b'(' | b'#' | b'_') {
                self.element(0);
                self.line = true;
                continue;
            }
            let (head, text) = match self.sized(first, rest) {
                Sized::More => return Next::More(at),
                Sized::Bad => return Next::Bad,
                Sized::Is(head, text) => (head, text),
            };
            let end = (at as u64).saturating_add(head as u64).saturating_add(text);
            if end > bytes.len() as u64 {
                return Next::Over(end);
            }
            at = usize::try_from(end).unwrap_or(usize::MAX);
        }
    }

    /// Reads the line of what says its size, or ends what does not.
    fn sized(&mut self, first: u8, bytes: &[u8]) -> Sized {
        if first == b'.' {
            return self.end_stream(bytes);
        }
        let (value, head) = match number(bytes) {
            Number::More => return Sized::More,
            Number::Is(value, head) => (value, head),
            Number::Open(head)
                if matches!(first, b'$' | b'*' | b'~' | b'%' | b'>') && self.stream() =>
            {
                return Sized::Is(head, 0);
            }
            Number::Bad | Number::Open(_) => return Sized::Bad,
        };
        let count = u64::try_from(value).unwrap_or(0);
        let mut text = 0;
        match first {
            b'$' | b'!' | b'=' => {
                self.element(0);
                text = if value < 0 {
                    0
                } else {
                    count.saturating_add(2)
                };
            }
            b';' if self.outer.is_empty() => return Sized::Bad,
            b';' if value == 0 => self.pop(),
            b';' => text = count.saturating_add(2),
            b'*' | b'~' | b'>' => self.element(count),
            b'%' => self.element(count.saturating_mul(2)),
            // They come besides what they are about.
            b'|' => self.left = self.left.saturating_add(count.saturating_mul(2)),
            _ => return Sized::Bad,
        }
        match self.left > MAX_ELEMENTS {
            true => Sized::Bad,
            false => Sized::Is(head, text),
        }
    }

    /// An element that holds others.
    fn element(&mut self, holds: u64) {
        self.left = self.left.saturating_sub(1).saturating_add(holds);
    }

    fn stream(&mut self) -> bool {
        self.element(0);
        self.outer.push(std::mem::take(&mut self.left));
        self.outer.len() <= MAX_STREAMS
    }

    fn pop(&mut self) {
        self.left = self.outer.pop().unwrap_or(0);
    }

    /// `.` ends a streamed aggregate.
    fn end_stream(&mut self, bytes: &[u8]) -> Sized {
        let line = bytes.get(..3).unwrap_or(bytes);
        if self.left > 0 || self.outer.is_empty() || !b".\r\n".starts_with(line) {
            return Sized::Bad;
        }
        if line.len() < 3 {
            return Sized::More;
        }
        self.pop();
        Sized::Is(3, 0)
    }
}

/// What a line with a size says.
enum Sized {
    More,
    Bad,
    /// Its length, and that of what follows it, its line's end included.
    Is(usize, u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(bytes: &[u8]) -> Next {
        Walk::new(1).go(bytes)
    }

    #[test]
    fn every_type_has_its_end() {
        for reply in [
            &b"+OK\r\n"[..],
            b"-ERR no\r\n",
            b":-42\r\n",
            b"$5\r\nhe\r\no\r\n",
            b"$-1\r\n",
            b"$0\r\n\r\n",
            b"*-1\r\n",
            b"*0\r\n",
            b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
            b"_\r\n",
            b"#t\r\n",
            b",1.25\r\n",
            b",inf\r\n",
            b"(3492890328409238509324850943850943825024385\r\n",
            b"!9\r\nERR thing\r\n",
            b"=7\r\ntxt:abc\r\n",
            b"%1\r\n+a\r\n*2\r\n:1\r\n_\r\n",
            b"~2\r\n:1\r\n:2\r\n",
            b">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n",
            b"|1\r\n+ttl\r\n:3\r\n$1\r\nv\r\n",
            b"*2\r\n|1\r\n+ttl\r\n:3\r\n:1\r\n:2\r\n",
            b"*?\r\n:1\r\n*2\r\n:2\r\n:3\r\n.\r\n",
            b"*2\r\n%?\r\n+a\r\n*?\r\n.\r\n.\r\n:7\r\n",
            b"$?\r\n;4\r\nabcd\r\n;2\r\nef\r\n;0\r\n",
        ] {
            assert_eq!(
                length(reply),
                Next::Done(reply.len()),
                "{}",
                reply.escape_ascii()
            );
            for cut in 0..reply.len() {
                let mut walk = Walk::new(1);
                let mut passed = match walk.go(&reply[..cut]) {
                    Next::More(read) => read,
                    Next::Over(end) => end as usize,
                    other => panic!("{other:?} of {}", reply[..cut].escape_ascii()),
                };
                passed += match walk.go(&reply[passed..]) {
                    Next::Done(read) => read,
                    other => panic!("{other:?} of {}", reply.escape_ascii()),
                };
                assert_eq!(passed, reply.len());
            }
        }
    }

    #[test]
    fn nesting_costs_nothing() {
        let mut deep = b"*1\r\n".repeat(100_000);
        deep.extend(b":1\r\n");
        assert_eq!(length(&deep), Next::Done(deep.len()));
        assert_eq!(length(&b"*?\r\n".repeat(17)), Next::Bad);
    }

    #[test]
    fn what_is_none() {
        for bytes in [
            &b"HTTP/1.1 200"[..],
            b"*12345678901\r\n",
            b"$x\r\n",
            b"*1\r\n.\r\n",
            b";1\r\na\r\n",
            b"$5\n",
        ] {
            assert_eq!(length(bytes), Next::Bad, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn heads() {
        let error = |word: &'static str| Head::Error(Some(word.into()));
        for (bytes, subscribed, head) in [
            (&b"-MOVED 42 10.0.0.1:7000\r\n"[..], false, error("MOVED")),
            (b"-NOGOODSLAVE x\r\n", false, error("NOGOODSLAVE")),
            (b"-My user:42\r\n", false, Head::Error(None)),
            (b"!11\r\nWRONGPASS x\r\n", false, error("WRONGPASS")),
            (b"+OK\r\n", false, Head::Simple(Simple::Ok)),
            (b"+OK", false, Head::More),
            (
                b"+1700000000.123456 [0 127.0.0.1:5] \"get\" \"k\"\r\n",
                false,
                Head::Simple(Simple::Watched),
            ),
            (
                b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n",
                false,
                Head::Several,
            ),
            (
                b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n",
                true,
                Head::Push(Push::Message(Some(b"a"))),
            ),
            (
                b">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:2\r\n",
                false,
                Head::Push(Push::Confirmed(Topic::Subscribe, Some(2))),
            ),
            (
                b"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n",
                true,
                Head::Push(Push::Confirmed(Topic::Unsubscribe, Some(0))),
            ),
            (
                b">3\r\n$11\r\nunsubscribe\r\n_\r\n:0\r\n",
                true,
                Head::Push(Push::Confirmed(Topic::Unsubscribe, Some(0))),
            ),
            (b"*3\r\n$9\r\nsubsc", true, Head::More),
            (b"*2\r\n$4\r\npong\r\n$0\r\n\r\n", true, Head::Several),
        ] {
            assert_eq!(
                super::head(bytes, subscribed),
                head,
                "{}",
                bytes.escape_ascii()
            );
        }
    }
}
