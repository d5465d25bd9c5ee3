//! What a command means: how its answer is read, what is asked where that is an exchange, and what is
//! so once it went well.
//!
//! Never true here: that a parameter's value or a password is looked at.

use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use super::packet;
use super::session::{Later, Namespace};
use super::{Dialogue, Kind, MAX_NAME};
use crate::protocol::database::Query;
use crate::protocol::reader::{self, Reader};
use crate::protocol::sql::{self, Described, Dialect};
use crate::protocol::{Carrier, Feed, Request};

pub(super) const QUIT: u8 = 0x01;
pub(super) const INIT_DB: u8 = 0x02;
pub(super) const QUERY: u8 = 0x03;
const FIELD_LIST: u8 = 0x04;
const CREATE_DB: u8 = 0x05;
const DROP_DB: u8 = 0x06;
const REFRESH: u8 = 0x07;
const SHUTDOWN: u8 = 0x08;
pub(super) const STATISTICS: u8 = 0x09;
const PROCESS_INFO: u8 = 0x0a;
const PROCESS_KILL: u8 = 0x0c;
const DEBUG: u8 = 0x0d;
pub(super) const PING: u8 = 0x0e;
const CHANGE_USER: u8 = 0x11;
const BINLOG_DUMP: u8 = 0x12;
const TABLE_DUMP: u8 = 0x13;
const REGISTER_SLAVE: u8 = 0x15;
pub(super) const PREPARE: u8 = 0x16;
pub(super) const EXECUTE: u8 = 0x17;
const SEND_LONG_DATA: u8 = 0x18;
pub(super) const CLOSE: u8 = 0x19;
pub(super) const RESET: u8 = 0x1a;
const SET_OPTION: u8 = 0x1b;
pub(super) const FETCH: u8 = 0x1c;
const BINLOG_DUMP_GTID: u8 = 0x1e;
pub(super) const RESET_CONNECTION: u8 = 0x1f;
const CLONE: u8 = 0x20;
const SUBSCRIBE_GROUP: u8 = 0x21;
/// MariaDB's.
const BULK_EXECUTE: u8 = 0xfa;

/// Most attributes of a statement that are read.
const MAX_ATTRIBUTES: u64 = 64;
/// The statement prepared last (MariaDB).
const LAST: u32 = u32::MAX;

/// What a command means.
#[derive(Default)]
pub(super) struct Meaning {
    /// How its answer is read; without one it has none.
    pub(super) kind: Option<Kind>,
    /// What is asked, where that is an exchange.
    pub(super) request: Option<Request>,
    /// Whether not all of that is known.
    pub(super) partial: bool,
    /// What is so once it went well.
    pub(super) later: Option<Later>,
}

impl Dialogue {
    /// What a command means; `None` where it is none that is known.
    pub(super) fn meaning(
        &mut self,
        code: u8,
        body: &[u8],
        seen: Seen,
        feed: &Feed<'_>,
    ) -> Option<Meaning> {
        let plain = |kind| Meaning {
            kind: Some(kind),
            ..Meaning::default()
        };
        let id = Reader::new(body).u32_le();
        Some(match code {
            QUERY => self.query(body, seen, feed),
            PREPARE => self.prepare(body, seen),
            EXECUTE | BULK_EXECUTE => {
                let known = id.and_then(|id| self.prepared(id));
                self.execute(known)
            }
            FETCH => {
                let known = id.and_then(|id| self.prepared(id));
                self.fetch(known)
            }
            INIT_DB => self.init_db(body, seen, feed),
            CLOSE => {
                if let Some(id) = id {
                    self.session.statements.forget(id);
                }
                Meaning::default()
            }
            SEND_LONG_DATA | QUIT => Meaning::default(),
            RESET_CONNECTION | CHANGE_USER => {
                self.session.statements.clear();
                let name = packet::change_user(body).filter(|_| code == CHANGE_USER);
                let name = name.map(|name| reader::text(name, MAX_NAME, feed.stats));
                Meaning {
                    later: (code == CHANGE_USER).then_some(Later::Database(name)),
                    ..plain(if code == CHANGE_USER {
                        Kind::LogIn
                    } else {
                        Kind::Plain
                    })
                }
            }
            PING | RESET | SET_OPTION | REFRESH | PROCESS_KILL | DEBUG | SHUTDOWN | CREATE_DB
            | DROP_DB | REGISTER_SLAVE => plain(Kind::Plain),
            STATISTICS => plain(Kind::Text),
            FIELD_LIST => plain(Kind::Fields),
            PROCESS_INFO => plain(Kind::Result),
            _ => return None,
        })
    }

    fn query(&self, body: &[u8], seen: Seen, feed: &Feed<'_>) -> Meaning {
        let has = self
            .session
            .capabilities
            .map(packet::Capabilities::has_attributes);
        let Some(Attributes { text, traceparent }) = attributes(body, has) else {
            return Meaning {
                later: Some(Later::Database(None)),
                ..self.asks(&Described::default(), Kind::Result, true)
            };
        };
        let described = self.describe(text, seen);
        let mut meaning = self.asks(&described, Kind::Result, seen.cut);
        if let (Some(request), Some(value)) = (&mut meaning.request, traceparent) {
            let value = reader::text(value, MAX_NAME, feed.stats).into_boxed_str();
            request.carrier = Some(Box::new(Carrier {
                traceparent: smallvec![value],
                ..Carrier::default()
            }));
        }
        // What nobody knows may be one too.
        let uses = match described.operation.as_deref() {
            Some(word) => word.eq_ignore_ascii_case("USE"),
            None => seen.cut,
        };
        let later = text.split(|b| *b == b';').skip(1).any(begins_use);
        if uses || later {
            let name = used(text).filter(|_| !seen.cut && !later);
            let name = name.map(|name| reader::text(name, MAX_NAME, feed.stats));
            meaning.later = Some(Later::Database(name));
        }
        meaning
    }

    /// A statement; of one that bytes are missing from only what begins it is sure.
    fn describe(&self, text: &[u8], seen: Seen) -> Described {
        let config = &self.setup.config.database;
        let described = sql::describe(text, Dialect::MySql, config, seen.whole);
        match seen.cut {
            true => Described {
                operation: described.operation.filter(|word| !ends_with(text, word)),
                ..Described::default()
            },
            false => described,
        }
    }

    fn asks(&self, described: &Described, kind: Kind, partial: bool) -> Meaning {
        let request = self
            .session
            .query(described)
            .request(super::NAME, Vec::new());
        Meaning {
            kind: Some(kind),
            request: Some(request),
            partial: partial || *self.session.namespace() == Namespace::Unknown,
            later: None,
        }
    }

    /// To prepare a statement is a question of its own: what is wrong with it is said then.
    fn prepare(&mut self, body: &[u8], seen: Seen) -> Meaning {
        let described = Arc::new(self.describe(body, seen));
        let summary = described.summary.as_ref().map(|s| format!("PREPARE {s}"));
        let query = Query {
            operation: Some("PREPARE".into()),
            summary: summary.map(Into::into),
            ..self.session.query(&described)
        };
        let request = query.request(super::NAME, Vec::new());
        let known = (!seen.cut).then_some(described);
        self.session.statements.last.clone_from(&known);
        Meaning {
            request: Some(request),
            later: Some(Later::Prepared(known)),
            ..self.asks(&Described::default(), Kind::Prepare, seen.cut)
        }
    }

    fn prepared(&self, id: u32) -> Option<Arc<Described>> {
        match id {
            LAST => self.session.statements.last.clone(),
            id => self.session.statements.find(id),
        }
    }

    fn execute(&self, known: Option<Arc<Described>>) -> Meaning {
        if let Some(described) = known {
            return self.asks(&described, Kind::Result, false);
        }
        let mut meaning = self.asks(&Described::default(), Kind::Result, true);
        if let Some(request) = &mut meaning.request {
            request.operation = "EXECUTE".into();
        }
        meaning
    }

    /// More rows of a statement that was executed.
    fn fetch(&self, known: Option<Arc<Described>>) -> Meaning {
        let partial = known.is_none();
        let described = known.unwrap_or_default();
        let summary = described.summary.as_ref().map(|s| format!("FETCH {s}"));
        let query = Query {
            operation: Some("FETCH".into()),
            summary: summary.map(Into::into),
            ..self.session.query(&described)
        };
        Meaning {
            request: Some(query.request(super::NAME, Vec::new())),
            ..self.asks(&Described::default(), Kind::Fetch, partial)
        }
    }

    fn init_db(&self, body: &[u8], seen: Seen, feed: &Feed<'_>) -> Meaning {
        let described = Described {
            operation: Some("USE".into()),
            ..Described::default()
        };
        let name = seen.whole.then(|| reader::text(body, MAX_NAME, feed.stats));
        Meaning {
            later: Some(Later::Database(name)),
            ..self.asks(&described, Kind::Plain, false)
        }
    }
}

/// Whether a word may go on behind the text.
fn ends_with(text: &[u8], word: &str) -> bool {
    let from = text.len().saturating_sub(word.len());
    text.get(from..)
        .is_none_or(|end| end.eq_ignore_ascii_case(word.as_bytes()))
}

/// How much of a command is there.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    /// All of it.
    pub(super) whole: bool,
    /// Less than what is waited for.
    pub(super) cut: bool,
}

/// How much of a command is of use.
pub(super) enum Length {
    Statement,
    Name,
    /// A statement's number, at most.
    Number,
}

pub(super) fn length(code: u8) -> Length {
    match code {
        QUERY | PREPARE => Length::Statement,
        INIT_DB | CHANGE_USER => Length::Name,
        _ => Length::Number,
    }
}

/// What no end is known of: replication, and a copy of the server.
pub(super) fn is_stream(code: u8) -> bool {
    matches!(
        code,
        BINLOG_DUMP | TABLE_DUMP | BINLOG_DUMP_GTID | CLONE | SUBSCRIBE_GROUP
    )
}

/// Whether a statement behind another may change the database; one inside a literal may seem to.
fn begins_use(statement: &[u8]) -> bool {
    let word = statement.trim_ascii_start().get(..3);
    word.is_some_and(|word| word.eq_ignore_ascii_case(b"use"))
}

/// The database of a `USE`.
fn used(text: &[u8]) -> Option<&[u8]> {
    let (word, rest) = text.trim_ascii().split_at_checked(3)?;
    if !word.eq_ignore_ascii_case(b"USE") {
        return None;
    }
    let rest = rest.trim_ascii_start();
    if let Some(quoted) = rest.strip_prefix(b"`") {
        return Reader::new(quoted).until(b'`');
    }
    let plain = |b: &&u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | b'-' | 128..);
    let length = rest.iter().take_while(plain).count();
    let (name, rest) = rest.split_at_checked(length)?;
    let ends = rest.trim_ascii_start().is_empty() || rest.trim_ascii_start() == b";";
    (ends && !name.is_empty()).then_some(name)
}

/// A statement, and what is said before it.
pub(super) struct Attributes<'a> {
    pub(super) text: &'a [u8],
    /// The attribute of this name, as MySQL's drivers send it.
    traceparent: Option<&'a [u8]>,
}

/// What stands before a statement, where both sides agreed on that; where that is not known it shows,
/// as no statement begins with such a byte.
pub(super) fn attributes(body: &[u8], has: Option<bool>) -> Option<Attributes<'_>> {
    if !has.unwrap_or(matches!(body, [0..=8, 1, ..])) {
        return Some(Attributes {
            text: body,
            traceparent: None,
        });
    }
    let mut reader = Reader::new(body);
    let count = packet::number(&mut reader)?;
    let sets = packet::number(&mut reader)?;
    if count > MAX_ATTRIBUTES || sets != 1 {
        return None;
    }
    let mut traceparent = None;
    if count > 0 {
        let nulls = reader.take(usize::try_from(count.div_ceil(8)).ok()?)?;
        // Types follow.
        reader.u8().filter(|bound| *bound == 1)?;
        let mut names = SmallVec::<[(u8, &[u8]); 8]>::new();
        for _ in 0..count {
            let [kind, _] = reader.array()?;
            names.push((kind, packet::string(&mut reader)?));
        }
        for (at, (kind, name)) in names.into_iter().enumerate() {
            let null = nulls
                .get(at / 8)
                .is_some_and(|bits| bits >> (at % 8) & 1 != 0);
            if null {
                continue;
            }
            let text = value(kind, &mut reader)?;
            if name == b"traceparent" {
                traceparent = text;
            }
        }
    }
    Some(Attributes {
        text: reader.rest(),
        traceparent,
    })
}

/// Passes over a value in the binary form; a text's is given.
fn value<'a>(kind: u8, reader: &mut Reader<'a>) -> Option<Option<&'a [u8]>> {
    let length = match kind {
        1 => 1,
        2 | 13 => 2,
        3 | 4 | 9 => 4,
        5 | 8 => 8,
        6 => 0,
        7 | 10 | 11 | 12 => usize::from(reader.u8()?),
        _ => return packet::string(reader).map(Some),
    };
    reader.skip(length).map(|()| None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_that_are_used() {
        for (text, name) in [
            (&b"USE shop"[..], Some(&b"shop"[..])),
            (b"use `my shop` ;", Some(b"my shop")),
            (b" Use shop_2; ", Some(b"shop_2")),
            (b"use shop; select 1", None),
            (b"/* x */ use shop", None),
        ] {
            assert_eq!(used(text), name, "{text:?}");
        }
    }

    #[test]
    fn attributes_are_passed_over() {
        let found = |body, has| attributes(body, has).map(|found| (found.text, found.traceparent));
        for has in [None, Some(true)] {
            assert_eq!(
                found(b"\0\x01SELECT 1", has),
                Some((&b"SELECT 1"[..], None))
            );
            let body = b"\x03\x01\x02\x01\xfe\0\x0btraceparent\x03\0\x01n\x08\0\x01i\x0200\x09\0\0\0\0\0\0\0DO 1";
            assert_eq!(found(body, has), Some((&b"DO 1"[..], Some(&b"00"[..]))));
            assert_eq!(found(&body[..20], has), None);
        }
        assert_eq!(found(b"\0\x01", Some(false)), Some((&b"\0\x01"[..], None)));
        assert_eq!(found(b"SELECT 1", None), Some((&b"SELECT 1"[..], None)));
    }
}
