//! Whether a turn begins like one of MySQL's: the greeting and the client's answer to it are its own;
//! commands and answers are judged by every field that has few values, as both halves must be.
//!
//! Never true here: that more than a bounded number of bytes is looked at.

use super::command;
use super::packet::{self, Fine, GREETING, Greeting, HEAD, Head, LOGIN, Login};
use crate::protocol::reader::Reader;
use crate::protocol::{Flow, Verdict};

/// The first turns of a connection.
pub(super) fn begins(bytes: &[u8]) -> Verdict {
    let Some(head) = Head::read(bytes) else {
        return may_begin(bytes);
    };
    let payload = bytes.get(HEAD..).unwrap_or_default();
    let size = head.size();
    match head.sequence {
        0 if (GREETING.0..=GREETING.1).contains(&size) => match payload.first() {
            Some(10) if payload.len() < size => Verdict::More,
            Some(10) if Greeting::read(payload, size).is_some() => Verdict::Is(Flow::Response),
            Some(_) => Verdict::Not,
            None => Verdict::More,
        },
        // After TLS has begun the number goes on.
        1 | 2 if (LOGIN.0..=LOGIN.1).contains(&size) => {
            match payload.len() < size.min(LOGIN_LOOK) {
                true if could_be_login(payload) => Verdict::More,
                false if Login::read(payload, size).is_some() => Verdict::Is(Flow::Request),
                _ => Verdict::Not,
            }
        }
        _ => Verdict::Not,
    }
}

/// Bytes of a login that are looked at: what a database stands behind is seldom longer.
const LOGIN_LOOK: usize = 1024;

/// Fewer bytes than a packet's head.
fn may_begin(bytes: &[u8]) -> Verdict {
    match bytes {
        [0, 0, 0, ..] => Verdict::Not,
        _ => Verdict::More,
    }
}

/// Whether zeros are where they must be, as far as that is to be seen.
fn could_be_login(payload: &[u8]) -> bool {
    let zeros = payload.get(9..).unwrap_or_default();
    zeros.iter().take(19).all(|b| *b == 0)
}

/// Any turn.
pub(super) fn amid(bytes: &[u8]) -> Verdict {
    let Some(head) = Head::read(bytes) else {
        return may_begin(bytes);
    };
    let payload = bytes.get(HEAD..).unwrap_or_default();
    let verdict = match head.sequence {
        0 => command(head, payload),
        1 => answer(head, payload),
        _ => Verdict::Not,
    };
    match (verdict, begins(bytes)) {
        (Verdict::Not, begins) => begins,
        (_, sure @ Verdict::Is(_)) => sure,
        (verdict, _) => verdict,
    }
}

/// A turn of the asking side.
pub(super) fn command(head: Head, payload: &[u8]) -> Verdict {
    let size = head.size();
    let payload = payload.get(..size).unwrap_or(payload);
    let Some((&code, body)) = payload.split_first() else {
        return if size == 0 {
            Verdict::Not
        } else {
            Verdict::More
        };
    };
    let rest = size.saturating_sub(1);
    let fixed = |length| rest == length;
    let fits = match code {
        command::QUERY => return statement(body, rest, true),
        command::PREPARE => return statement(body, rest, false),
        command::EXECUTE if rest >= 9 => match body.get(4..9) {
            // No, read-only or both other kinds of cursor, and whether parameters are counted; once.
            Some([flags, 1, 0, 0, 0]) => *flags <= 0x0f,
            Some(_) => false,
            None => return Verdict::More,
        },
        command::CLOSE | command::RESET => fixed(4),
        command::FETCH => fixed(8),
        command::PING | command::RESET_CONNECTION | command::STATISTICS | command::QUIT => fixed(0),
        command::INIT_DB if (1..=256).contains(&rest) => match body.len() < rest {
            true => return Verdict::More,
            false => body.iter().all(|b| !b.is_ascii_control()),
        },
        _ => false,
    };
    match fits {
        true => Verdict::Likely(Flow::Request),
        false => Verdict::Not,
    }
}

/// A statement, perhaps with attributes before it.
fn statement(body: &[u8], length: usize, attributes: bool) -> Verdict {
    let text = match command::attributes(body, None) {
        _ if !attributes => body,
        _ if body.len() < length.min(2) => return Verdict::More,
        Some(found) => found.text,
        None if body.len() < length.min(ATTRIBUTES_LOOK) => return Verdict::More,
        None => return Verdict::Not,
    };
    let seen = text.get(..STATEMENT_LOOK).unwrap_or(text);
    let control = |b: &u8| b.is_ascii_control() && !b.is_ascii_whitespace();
    if seen.iter().any(control) {
        return Verdict::Not;
    }
    if seen.len() < STATEMENT_LOOK && body.len() < length {
        return Verdict::More;
    }
    match begins_like_sql(seen) {
        true => Verdict::Likely(Flow::Request),
        false => Verdict::Not,
    }
}

/// Bytes of attributes before a statement that are looked at.
const ATTRIBUTES_LOOK: usize = 1024;
/// Bytes of a statement that are looked at.
const STATEMENT_LOOK: usize = 24;

fn begins_like_sql(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    if text.starts_with(b"/*") || text.starts_with(b"--") || text.starts_with(b"#") {
        return true;
    }
    let open = |b: &u8| *b == b'(' || b.is_ascii_whitespace();
    let from = text.iter().take_while(|b| open(b)).count();
    let text = text.get(from..).unwrap_or_default();
    let length = text.iter().take_while(|b| b.is_ascii_alphabetic()).count();
    let word = text.get(..length).unwrap_or_default();
    WORDS
        .iter()
        .any(|w| word.eq_ignore_ascii_case(w.as_bytes()))
}

/// What statements begin with.
const WORDS: &[&str] = &[
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "REPLACE",
    "WITH",
    "SET",
    "SHOW",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "START",
    "CALL",
    "CREATE",
    "ALTER",
    "DROP",
    "TRUNCATE",
    "USE",
    "EXPLAIN",
    "DESCRIBE",
    "DESC",
    "ANALYZE",
    "LOAD",
    "LOCK",
    "UNLOCK",
    "SAVEPOINT",
    "RELEASE",
    "XA",
    "DO",
    "GRANT",
    "REVOKE",
    "FLUSH",
    "KILL",
    "OPTIMIZE",
    "CHECK",
    "RENAME",
    "PREPARE",
    "EXECUTE",
    "DEALLOCATE",
    "HANDLER",
    "TABLE",
    "VALUES",
    "CHECKSUM",
    "REPAIR",
    "RESET",
    "PURGE",
    "HELP",
    "SIGNAL",
];

/// A turn of the answering side.
pub(super) fn answer(head: Head, payload: &[u8]) -> Verdict {
    let size = head.size();
    let cut = payload.len() < size;
    let whole = payload.get(..size).unwrap_or(payload);
    let fits = match whole.first() {
        None if size > 0 => return Verdict::More,
        None => false,
        Some(&packet::OK) if size == PREPARED && cut => return Verdict::More,
        Some(&packet::OK) if size == PREPARED && whole.get(9) == Some(&0) => true,
        Some(&packet::OK) if !(packet::SHORT_OK..=MAX_OK).contains(&size) => false,
        Some(&packet::OK) if cut => return Verdict::More,
        Some(&packet::OK) => is_ok(whole),
        Some(&packet::ERROR) if size > MAX_ERROR => false,
        Some(&packet::ERROR) => match whole.get(1..9) {
            Some([_, _, b'#', state @ ..]) => state.iter().all(u8::is_ascii_alphanumeric),
            Some(_) => false,
            None => return if cut { Verdict::More } else { Verdict::Not },
        },
        Some(_) if size > 4 => false,
        Some(_) if cut => return Verdict::More,
        Some(_) => match packet::columns(whole) {
            None => false,
            Some((_, false)) => true,
            Some((_, true)) => return definition(payload.get(size..).unwrap_or_default()),
        },
    };
    match fits {
        true => Verdict::Likely(Flow::Response),
        false => Verdict::Not,
    }
}

/// Bytes of the answer to a statement that was prepared.
const PREPARED: usize = 12;
/// Longest OK and error that are believed.
const MAX_OK: usize = 1024;
const MAX_ERROR: usize = 4096;

/// Whether an OK packet has all that must be in it.
fn is_ok(payload: &[u8]) -> bool {
    let mut reader = Reader::new(payload);
    let numbers = reader.skip(1).and_then(|()| {
        packet::number(&mut reader)?;
        packet::number(&mut reader)?;
        reader.u16_le()?;
        reader.u16_le()
    });
    let few = numbers.is_some_and(|warnings| warnings < 0x1000);
    few && Fine::read(payload, payload.len()).is_some()
}

/// The first column's definition, as far as it has come: it is of the catalogue `def`.
fn definition(bytes: &[u8]) -> Verdict {
    let begin = bytes.get(..8).unwrap_or(bytes);
    let want = [
        None,
        None,
        Some(0),
        Some(2),
        Some(3),
        Some(b'd'),
        Some(b'e'),
        Some(b'f'),
    ];
    let fits = begin
        .iter()
        .zip(want)
        .all(|(b, want)| want.is_none_or(|want| *b == want));
    match (fits, begin.len()) {
        (true, 8) => Verdict::Likely(Flow::Response),
        (true, _) => Verdict::More,
        (false, _) => Verdict::Not,
    }
}
