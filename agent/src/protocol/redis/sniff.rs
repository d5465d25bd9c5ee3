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
            Begins::Module if !amid => Verdict::Likely(Flow::Request),
            // Which side sends a module's command is not sure enough.
            Begins::Module => Verdict::Not,
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
    /// One that no element is like: `JSON.GET`.
    Module,
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
        return if whole && count >= -1 {
            Begins::Reply
        } else {
            Begins::Not
        };
    }
    let rest = bytes.get(at..).unwrap_or_default();
    let Some(first) = rest.first() else {
        return Begins::More;
    };
    if *first != b'$' {
        return if is_type(*first) {
            Begins::Reply
        } else {
            Begins::Not
        };
    }
    let (length, at) = match number(rest) {
        Number::Is(length, at) => (length, at),
        Number::More => return Begins::More,
        _ => return Begins::Not,
    };
    let Some(length) = usize::try_from(length)
        .ok()
        .filter(|n| *n <= names::LONGEST)
    else {
        return if length >= -1 {
            Begins::Reply
        } else {
            Begins::Not
        };
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
        (None, Some(_)) if name.contains(&b'.') => Begins::Module,
        (None, Some(_)) => Begins::Word,
        (None, None) => Begins::Reply,
    }
}

/// A command as people type it, of the list. What mail and news servers are told too is left out.
fn inline(bytes: &[u8]) -> Verdict {
    const ELSEWHERE: [&str; 5] = ["AUTH", "HELLO", "QUIT", "TYPE", "TIME"];
    let looked = bytes.get(..MAX_INLINE).unwrap_or(bytes);
    let word = looked
        .iter()
        .take_while(|b| b.is_ascii_alphabetic() || **b == b'_')
        .count();
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

const LIKELY: Verdict = Verdict::Likely(Flow::Response);

/// It, or it is nothing of ours.
fn sure(so: bool) -> Verdict {
    if so { LIKELY } else { Verdict::Not }
}

/// A reply that is no array.
fn answer(bytes: &[u8]) -> Verdict {
    let text = bytes.get(1..).unwrap_or_default();
    match bytes.first() {
        Some(b'+') => status(text),
        Some(b'-') => {
            let capital = |b: &&u8| b.is_ascii_uppercase();
            let word = text.iter().take(names::LONGEST).take_while(capital).count();
            match text.get(word) {
                Some(b' ') => sure(word >= 2),
                None => Verdict::More,
                Some(_) => Verdict::Not,
            }
        }
        Some(b':') => sized(bytes, |_, _| LIKELY),
        Some(b'$' | b'=' | b'!') => sized(bytes, |length, rest| {
            if length < 0 {
                return sure(length == -1 && bytes.starts_with(b"$"));
            }
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let behind = rest.get(length..).unwrap_or_default();
            sure(b"\r\n".starts_with(behind.get(..2).unwrap_or(behind)))
        }),
        Some(b'%' | b'~' | b'>' | b'|') => sized(bytes, |count, rest| match rest.first() {
            Some(b) => sure(count >= 0 && is_type(*b)),
            None if count > 0 => Verdict::More,
            None => sure(count == 0),
        }),
        Some(b'_') => exact(bytes, &[b"_\r\n"]),
        Some(b'#') => exact(bytes, &[b"#t\r\n", b"#f\r\n"]),
        Some(b',' | b'(') => {
            let plain = |b: &&u8| b.is_ascii_digit() || b"+-.eEinfa".contains(b);
            let digits = text.iter().take(64).take_while(plain).count();
            match text.get(digits..) {
                Some([] | [b'\r']) if digits < 64 => Verdict::More,
                Some(rest) => sure(digits > 0 && rest.starts_with(b"\r\n")),
                None => Verdict::Not,
            }
        }
        _ => Verdict::Not,
    }
}

/// Judges what begins with a size, by it and by what follows.
fn sized(bytes: &[u8], judge: impl Fn(i64, &[u8]) -> Verdict) -> Verdict {
    match number(bytes) {
        Number::Is(size, at) => judge(size, bytes.get(at..).unwrap_or_default()),
        Number::More => Verdict::More,
        Number::Bad | Number::Open(_) => Verdict::Not,
    }
}

/// A line of text is believed by its words only: others begin so too.
fn status(text: &[u8]) -> Verdict {
    const LINES: [&[u8]; 17] = [
        b"OK\r\n",
        b"PONG\r\n",
        b"QUEUED\r\n",
        b"RESET\r\n",
        b"string\r\n",
        b"none\r\n",
        b"list\r\n",
        b"set\r\n",
        b"zset\r\n",
        b"hash\r\n",
        b"stream\r\n",
        b"vectorset\r\n",
        b"ReJSON-RL\r\n",
        b"Background saving started\r\n",
        b"Background append only file rewriting started\r\n",
        b"FULLRESYNC ",
        b"CONTINUE",
    ];
    exact(text, &LINES)
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
            (b"*3\r\n$8\r\nJSON.GET\r\n", asks, Verdict::Not),
            (
                b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n",
                answers,
                answers,
            ),
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
            (
                b"INFO {\"server_id\":\"x\"}\r\n",
                Verdict::Not,
                Verdict::Not,
            ),
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
