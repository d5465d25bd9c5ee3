//! Whether bytes begin like a command or like a reply.
//!
//! A command is an array of strings whose first is a name; so may be a reply. What nothing but a
//! command can be, on a connection whose beginning was seen, is an array that begins with a known
//! name. All else needs both halves.

use super::names;
use super::reply::{self, Head, Number, Push, number};
use crate::protocol::{Flow, Verdict};

/// Longest inline command that is looked at.
const MAX_INLINE: usize = 1024;
/// Most words of a command.
const MAX_WORDS: i64 = 1024 * 1024;

/// Whose the first bytes of a turn are; `amid`: they may be any of the connection's.
pub(super) fn sniff(bytes: &[u8], amid: bool) -> Verdict {
    match bytes.first() {
        None => Verdict::More,
        Some(b'*') => match array(bytes) {
            Begins::More => Verdict::More,
            Begins::Known if !amid => Verdict::Is(Flow::Request),
            Begins::Known => Verdict::Likely(Flow::Request),
            Begins::Word if !amid => Verdict::Likely(Flow::Request),
            Begins::Word | Begins::Reply => Verdict::Likely(Flow::Response),
            Begins::Not => Verdict::Not,
        },
        Some(b'a'..=b'z' | b'A'..=b'Z') => inline(bytes),
        Some(_) => answer(bytes),
    }
}

/// Whether a turn begins like a message of this flow, on a connection that is Redis's.
pub(super) fn begins(bytes: &[u8], flow: Flow) -> Verdict {
    let found = match (flow, bytes.first()) {
        (Flow::Request, Some(b'*')) => match array(bytes) {
            Begins::More => Verdict::More,
            Begins::Known => Verdict::Is(Flow::Request),
            _ => Verdict::Not,
        },
        (Flow::Response, Some(b'*')) => match array(bytes) {
            Begins::More => Verdict::More,
            Begins::Not => Verdict::Not,
            _ => Verdict::Is(Flow::Response),
        },
        _ => sniff(bytes, true),
    };
    match found {
        Verdict::Likely(found) | Verdict::Is(found) if found == flow => Verdict::Is(flow),
        Verdict::More => Verdict::More,
        _ => Verdict::Not,
    }
}

/// What an array begins like.
enum Begins {
    More,
    /// A command of the list.
    Known,
    /// A word that may be a command or an element.
    Word,
    Reply,
    Not,
}

fn array(bytes: &[u8]) -> Begins {
    let (count, at) = match number(bytes) {
        Number::Is(count, at) => (count, at),
        Number::More => return Begins::More,
        Number::Open(_) => return Begins::Reply,
        Number::Bad => return Begins::Not,
    };
    if count < 1 {
        let whole = bytes.len() == at || count == 0;
        return if whole && count >= -1 { Begins::Reply } else { Begins::Not };
    }
    let rest = bytes.get(at..).unwrap_or_default();
    let Some(first) = rest.first() else {
        return Begins::More;
    };
    if *first != b'$' {
        return if is_type(*first) { Begins::Reply } else { Begins::Not };
    }
    let (length, at) = match number(rest) {
        Number::Is(length, at) => (length, at),
        Number::More => return Begins::More,
        _ => return Begins::Not,
    };
    let Some(length) = usize::try_from(length).ok().filter(|n| *n <= names::LONGEST) else {
        return if length >= -1 { Begins::Reply } else { Begins::Not };
    };
    let end = at.saturating_add(length);
    let (Some(name), Some(behind)) = (rest.get(at..end), rest.get(end..end.saturating_add(2)))
    else {
        return Begins::More;
    };
    if behind != b"\r\n" {
        return Begins::Not;
    }
    if names::topic(name).is_some() && count == 3 {
        return match reply::head(bytes, true) {
            Head::More => Begins::More,
            Head::Push(Push::Confirmed(_, Some(_))) => Begins::Reply,
            _ => Begins::Known,
        };
    }
    match (names::known(name), names::word(name)) {
        _ if count > MAX_WORDS => Begins::Reply,
        (Some(_), _) => Begins::Known,
        (None, Some(_)) => Begins::Word,
        (None, None) => Begins::Reply,
    }
}

/// A command as people type it, of the list. What mail and news servers are told too is left out.
fn inline(bytes: &[u8]) -> Verdict {
    const ELSEWHERE: [&str; 5] = ["AUTH", "HELLO", "QUIT", "TYPE", "TIME"];
    let looked = bytes.get(..MAX_INLINE).unwrap_or(bytes);
    let word = looked.iter().take_while(|b| b.is_ascii_alphabetic() || **b == b'_').count();
    let Some(behind) = looked.get(word) else {
        return match word <= names::LONGEST {
            true => Verdict::More,
            false => Verdict::Not,
        };
    };
    let name = looked.get(..word).unwrap_or_default();
    let known = names::known(name).is_some_and(|known| !ELSEWHERE.contains(&known));
    if !known || !matches!(behind, b' ' | b'\r' | b'\n') {
        return Verdict::Not;
    }
    let Some(end) = memchr::memchr(b'\n', looked) else {
        return match looked.len() < MAX_INLINE {
            true => Verdict::More,
            false => Verdict::Not,
        };
    };
    let line = looked.get(word..end).unwrap_or_default();
    let text = |b: &u8| matches!(b, b' '..=b'~' | b'\t' | b'\r' | 128..);
    let other = memchr::memmem::find(line, b" HTTP/").is_some() || line.starts_with(b" {");
    match line.iter().all(text) && !other {
        true => Verdict::Likely(Flow::Request),
        false => Verdict::Not,
    }
}

/// A reply that is no array. Lines of text are believed by their words only: others begin so too.
fn answer(bytes: &[u8]) -> Verdict {
    const WORDS: [&str; 17] = [
        "OK",
        "PONG",
        "QUEUED",
        "RESET",
        "string",
        "none",
        "list",
        "set",
        "zset",
        "hash",
        "stream",
        "vectorset",
        "ReJSON-RL",
        "Background saving started",
        "Background append only file rewriting started",
        "FULLRESYNC",
        "CONTINUE",
    ];
    let likely = Verdict::Likely(Flow::Response);
    let sure = |so: bool| if so { likely } else { Verdict::Not };
    let looked = bytes.get(..64).unwrap_or(bytes);
    let line = match memchr::memchr(b'\n', looked) {
        Some(end) => looked.get(1..end).and_then(|line| line.strip_suffix(b"\r")),
        None => None,
    };
    let text = looked.get(1..).unwrap_or_default();
    match bytes.first() {
        Some(b'+') => {
            let first = |text: &[u8]| {
                let word = text.split(|b| *b == b' ').next().unwrap_or_default();
                matches!(word, b"FULLRESYNC" | b"CONTINUE")
            };
            match line {
                Some(line) => sure(WORDS.iter().any(|word| word.as_bytes() == line) || first(line)),
                None if looked.len() >= 64 => sure(first(text)),
                None if WORDS.iter().any(|word| word.as_bytes().starts_with(text))
                    || first(text)
                    || WORDS.iter().any(|word| {
                        text.strip_suffix(b"\r") == Some(word.as_bytes())
                    }) =>
                {
                    Verdict::More
                }
                None => Verdict::Not,
            }
        }
        Some(b'-') => {
            let word = text.iter().take_while(|b| b.is_ascii_uppercase()).count();
            match text.get(word) {
                Some(b' ') => sure((2..=names::LONGEST).contains(&word)),
                None if word <= names::LONGEST => Verdict::More,
                _ => Verdict::Not,
            }
        }
        Some(b':') => match number(bytes) {
            Number::Is(..) => likely,
            Number::More => Verdict::More,
            _ => Verdict::Not,
        },
        Some(b'$' | b'=' | b'!') => match number(bytes) {
            Number::Is(length, at) if length >= 0 => {
                let end = usize::try_from(length).ok().and_then(|n| n.checked_add(at));
                let behind = end.and_then(|end| bytes.get(end..)).unwrap_or_default();
                let behind = behind.get(..2).unwrap_or(behind);
                sure(b"\r\n".starts_with(behind))
            }
            Number::Is(-1, _) => sure(bytes.starts_with(b"$")),
            Number::More => Verdict::More,
            _ => Verdict::Not,
        },
        Some(b'%' | b'~' | b'>' | b'|') => match number(bytes) {
            Number::Is(count, at) if count >= 0 => match bytes.get(at) {
                Some(b) => sure(is_type(*b)),
                None if count == 0 => likely,
                None => Verdict::More,
            },
            Number::More => Verdict::More,
            _ => Verdict::Not,
        },
        Some(b'_') => exact(bytes, &[b"_\r\n"]),
        Some(b'#') => exact(bytes, &[b"#t\r\n", b"#f\r\n"]),
        Some(b',' | b'(') => {
            let plain = |b: &u8| b.is_ascii_digit() || b"+-.eEinfa".contains(b);
            match line {
                Some(line) => sure(!line.is_empty() && line.iter().all(plain)),
                None if looked.len() < 64 && text.iter().all(|b| plain(b) || *b == b'\r') => {
                    Verdict::More
                }
                None => Verdict::Not,
            }
        }
        _ => Verdict::Not,
    }
}

/// Whether they begin with one of these, or may yet.
fn exact(bytes: &[u8], all: &[&[u8]]) -> Verdict {
    if all.iter().any(|one| bytes.starts_with(one)) {
        Verdict::Likely(Flow::Response)
    } else if all.iter().any(|one| one.starts_with(bytes)) {
        Verdict::More
    } else {
        Verdict::Not
    }
}

/// Whether a value may begin with this byte.
fn is_type(byte: u8) -> bool {
    b"+-:$*_#,(!=%~|>".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes() {
        let is = Verdict::Is(Flow::Request);
        let asks = Verdict::Likely(Flow::Request);
        let answers = Verdict::Likely(Flow::Response);
        for (bytes, fresh, amid) in [
            (&b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"[..], is, asks),
            (b"*1\r\n$4\r\nping\r\n", is, asks),
            (b"*3\r\n$8\r\nJSON.GET\r\n", asks, answers),
            (b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n", answers, answers),
            (b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n$1\r\nb\r\n", is, asks),
            (b"*3\r\n$7\r\nmessage\r\n", asks, answers),
            (b"*2\r\n$1\r\n1\r\n", answers, answers),
            (b"*2\r\n:1\r\n:2\r\n", answers, answers),
            (b"*0\r\n", answers, answers),
            (b"*-1\r\n", answers, answers),
            (b"*3\r\n", Verdict::More, Verdict::More),
            (b"* OK IMAP4rev1\r\n", Verdict::Not, Verdict::Not),
            (b"PING\r\n", asks, asks),
            (b"get key\r\n", asks, asks),
            (b"GET / HTTP/1.1\r\n", Verdict::Not, Verdict::Not),
            (b"INFO {\"server_id\":\"x\"}\r\n", Verdict::Not, Verdict::Not),
            (b"CONNECT {}\r\n", Verdict::Not, Verdict::Not),
            (b"QUIT\r\n", Verdict::Not, Verdict::Not),
            (b"+OK\r\n", answers, answers),
            (b"+OK POP3 ready\r\n", Verdict::Not, Verdict::Not),
            (b"-ERR unknown\r\n", answers, answers),
            (b"-err unknown\r\n", Verdict::Not, Verdict::Not),
            (b":42\r\n", answers, answers),
            (b"$5\r\nhello\r\n", answers, answers),
            (b"$-1\r\n", answers, answers),
            (b"%1\r\n+a\r\n", answers, answers),
            (b"_\r\n", answers, answers),
            (b"HTTP/1.1 200 OK\r\n", Verdict::Not, Verdict::Not),
            (b"\x16\x03\x01\0", Verdict::Not, Verdict::Not),
        ] {
            let seen = (sniff(bytes, false), sniff(bytes, true));
            assert_eq!(seen, (fresh, amid), "{}", bytes.escape_ascii());
            for cut in 0..bytes.len() {
                let part = sniff(&bytes[..cut], false);
                let fits = part == Verdict::More || part == fresh;
                assert!(fits, "{}: {part:?}", bytes[..cut].escape_ascii());
            }
        }
        assert_eq!(sniff(b"$5\r\nhelloworld", false), Verdict::Not);
    }
}
