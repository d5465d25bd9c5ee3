//! What the client sends: one command after the other, each a packet of the number 0. Packets of other
//! numbers go on with something (a long command, a file, a log-in) and are passed over.
//!
//! Never true here: that a parameter's value, a row of a file or a password is looked at.

use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use super::packet::{self, HEAD, Head, LOGIN, Login};
use super::statements::{Later, Namespace};
use super::{Asked, Dialogue, Kind, message, sniff};
use crate::protocol::database::Query;
use crate::protocol::reader::{self, Reader};
use crate::protocol::sql::{self, Described, Dialect};
use crate::protocol::{Carrier, Fault, Feed, Finish, Flow, Part, Request, Verdict, tls};

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

/// Bytes of a statement that are waited for.
const MAX_STATEMENT: usize = 48 * 1024;
/// Bytes of other commands, and of a log-in.
const MAX_OTHER: usize = 1024;
/// Bytes of a database's name that are kept.
const MAX_NAME: usize = 256;
/// Most attributes of a statement that are read.
const MAX_ATTRIBUTES: u64 = 64;
/// The statement prepared last (MariaDB).
const LAST: u32 = u32::MAX;

/// The client's flow.
#[derive(Debug, Default)]
pub(super) struct Side {
    pub(super) state: State,
    /// The last packet's number, where it had a payload.
    previous: Option<u8>,
    /// Whether the payload goes on in the next packet.
    continues: bool,
    /// Whether the last command had several packets: its answer's number follows theirs.
    pub(super) long: bool,
    /// Whether nothing that has an answer was asked in this turn yet.
    fresh: bool,
    /// Whether a log-in or a command was read.
    begun: bool,
}

#[derive(Debug, Default)]
pub(super) enum State {
    /// At a packet.
    #[default]
    Head,
    /// In the command of this exchange.
    Body(Option<u64>),
    /// Passes over everything until a turn begins like a command.
    Seek,
    /// Nothing more is read.
    Done,
}

/// What a command means.
#[derive(Default)]
struct Meaning {
    /// How its answer is read; without one it has none.
    kind: Option<Kind>,
    /// What is asked, where that is an exchange.
    request: Option<Request>,
    /// Whether not all of that is known.
    partial: bool,
    /// What is so once it went well.
    later: Option<Later>,
}

impl Dialogue {
    /// Goes on by one state; false when more bytes are needed.
    pub(super) fn ask(&mut self, feed: &mut Feed<'_>) -> bool {
        match self.request.state {
            State::Head => self.packet(feed),
            State::Body(number) => self.body(number, feed),
            State::Seek => self.seek_command(feed),
            State::Done => {
                feed.stream.skip_all();
                false
            }
        }
    }

    fn packet(&mut self, feed: &mut Feed<'_>) -> bool {
        if feed.stream.is_empty() {
            return false;
        }
        let Some(head) = Head::read(feed.stream.window()) else {
            return self.short(feed);
        };
        let side = &mut self.request;
        side.fresh |= feed.stream.front().is_some_and(|front| front.turn);
        let goes_on = side.continues || head.sequence > 0 || side.previous == Some(u8::MAX);
        let log_in = !side.begun && matches!(head.sequence, 1 | 2);
        if !goes_on {
            return self.command(head, feed);
        }
        if log_in && (LOGIN.0..=LOGIN.1).contains(&head.size()) {
            return self.log_in(head, feed);
        }
        side.previous = (head.length > 0).then_some(head.sequence);
        side.continues = head.continues();
        feed.stream.skip(head.whole());
        true
    }

    /// What is needed is not there.
    fn short(&mut self, feed: &mut Feed<'_>) -> bool {
        if !feed.stream.is_cut() {
            return false;
        }
        feed.stats.protocol_cut.add(1);
        self.lose_commands(feed);
        true
    }

    fn body(&mut self, number: Option<u64>, feed: &mut Feed<'_>) -> bool {
        if !feed.stream.reached() {
            return false;
        }
        if self.request.continues {
            let Some(head) = Head::read(feed.stream.window()) else {
                return self.short(feed);
            };
            self.request.continues = head.continues();
            feed.stream.skip(head.whole());
            return true;
        }
        self.request.state = State::Head;
        let at = feed.stream.last();
        let missing = feed.stream.take_missing();
        let Some(number) = number else {
            return true;
        };
        for fault in super::faults(&missing) {
            let part = Part::Fault(fault);
            feed.out.push(message(Flow::Request, number, at, part));
        }
        let part = Part::Finish(WHOLE);
        feed.out.push(message(Flow::Request, number, at, part));
        true
    }

    /// Looks for a turn that begins like a command.
    fn seek_command(&mut self, feed: &mut Feed<'_>) -> bool {
        while let Some(front) = feed.stream.front() {
            if front.turn && front.hole.is_none() {
                let (bytes, cut) = feed.stream.turn_window();
                let verdict = match Head::read(bytes) {
                    Some(head) if head.sequence == 0 => {
                        sniff::command(head, bytes.get(HEAD..).unwrap_or_default())
                    }
                    Some(_) => Verdict::Not,
                    None => Verdict::More,
                };
                match verdict {
                    Verdict::Likely(_) => {
                        self.refused = 0;
                        feed.stream.take_missing();
                        self.request.state = State::Head;
                        return true;
                    }
                    Verdict::More if !cut => return false,
                    _ if self.refuse(feed) => return false,
                    _ => {}
                }
            }
            feed.stream.skip_front();
            feed.stream.take_missing();
            self.order.lose_asks();
        }
        false
    }

    /// An unknown number of commands may go by unseen.
    pub(super) fn lose_commands(&mut self, feed: &mut Feed<'_>) {
        feed.stats.protocol_resynced.add(1);
        feed.stream.skip_front();
        feed.stream.take_missing();
        self.order.lose_asks();
        self.session.lose_commands();
        self.request = Side {
            state: State::Seek,
            begun: true,
            ..Side::default()
        };
    }

    /// The client's answer to the greeting.
    fn log_in(&mut self, head: Head, feed: &mut Feed<'_>) -> bool {
        let size = head.size();
        let payload = feed.stream.window().get(HEAD..).unwrap_or_default();
        let payload = payload.get(..size).unwrap_or(payload);
        if payload.len() < size.min(MAX_OTHER) && !feed.stream.is_cut() {
            return false;
        }
        let Some(login) = Login::read(payload, size) else {
            return match payload.len() < size {
                true => self.short(feed) || self.nonsense(Flow::Request, feed),
                false => self.nonsense(Flow::Request, feed),
            };
        };
        let database = login
            .database
            .map(|name| reader::text(name, MAX_NAME, feed.stats));
        self.request.begun = true;
        self.understood = true;
        self.request.previous = Some(head.sequence);
        let compress = self.session.log_in(&login, database);
        let tls = login.tls;
        feed.stream.skip(head.whole());
        if tls {
            self.next = Some(tls::PROTOCOL.parser(self.setup.clone()));
            self.left = true;
        } else if compress {
            feed.stats.protocol_compressed.add(1);
            self.left = true;
        }
        !self.left
    }

    fn command(&mut self, head: Head, feed: &mut Feed<'_>) -> bool {
        let window = feed.stream.window();
        let size = head.size();
        let needed = match window.get(HEAD) {
            Some(&(QUERY | PREPARE)) => size.min(MAX_STATEMENT),
            Some(_) => size
                .min(MAX_OTHER)
                .min(if is_named(window) { MAX_OTHER } else { 5 }),
            None if size > 0 => return self.short(feed),
            None => return self.nonsense(Flow::Request, feed),
        };
        let payload = window.get(HEAD..).unwrap_or_default();
        let payload = payload.get(..needed).unwrap_or(payload);
        let missing = payload.len() < needed;
        if missing && !feed.stream.is_cut() {
            return false;
        }
        let seen = Seen {
            whole: payload.len() == size,
            cut: missing,
        };
        let length = payload.len();
        // Its turn may show that nobody waits.
        if self.request.fresh {
            let at = feed.stream.mark(0);
            self.settle(at, feed);
        }
        let payload = feed.stream.window().get(HEAD..).unwrap_or_default();
        let payload = payload.get(..length).unwrap_or(payload);
        let Some((&code, body)) = payload.split_first() else {
            return self.short(feed);
        };
        match self.meaning(code, body, seen, feed) {
            Some(meaning) => self.asked(head, length, meaning, feed),
            None if is_stream(code) => {
                feed.stats.protocol_upgraded.add(1);
                self.left = true;
                return false;
            }
            None => return self.nonsense(Flow::Request, feed),
        }
        true
    }

    /// Says what is asked, and who waits for its answer.
    fn asked(&mut self, head: Head, seen: usize, meaning: Meaning, feed: &mut Feed<'_>) {
        self.answers_commands();
        let start = feed.stream.mark(0);
        let end = feed
            .stream
            .mark(seen.saturating_add(HEAD).saturating_sub(1));
        let side = &mut self.request;
        side.begun = true;
        side.previous = Some(0);
        side.continues = head.continues();
        side.long = head.continues();
        feed.stream.take_missing();
        feed.stream.skip(head.whole());
        let mut told = None;
        if let Some(kind) = meaning.kind {
            let asked = Asked {
                kind,
                told: meaning.request.is_some(),
            };
            let number = self.order.ask(asked, std::mem::take(&mut side.fresh));
            match (number, meaning.request) {
                (Some(number), Some(request)) => {
                    let part = Part::Request(Box::new(request), end);
                    feed.out.push(message(Flow::Request, number, start, part));
                    if meaning.partial {
                        feed.stats.protocol_partial.add(1);
                        let part = Part::Fault(Fault::Partial);
                        feed.out.push(message(Flow::Request, number, start, part));
                    }
                    told = Some(number);
                }
                (None, _) => feed.stats.exchange_too_deep.add(1),
                (Some(_), None) => {}
            }
            if let Some(later) = meaning.later {
                self.session.expect(number, later);
            }
        }
        self.request.state = State::Body(told);
    }

    /// What a command means; `None` where it is none that is known.
    fn meaning(&mut self, code: u8, body: &[u8], seen: Seen, feed: &Feed<'_>) -> Option<Meaning> {
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
        if uses {
            let name = used(text).filter(|_| !seen.cut);
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
struct Seen {
    /// All of it.
    whole: bool,
    /// Less than what is waited for.
    cut: bool,
}

const WHOLE: Finish = Finish {
    body: 0,
    exact: true,
    whole: true,
};

/// Whether a name is in the command of this packet.
fn is_named(window: &[u8]) -> bool {
    matches!(window.get(HEAD), Some(&(INIT_DB | CHANGE_USER)))
}

/// What no end is known of: replication, and a copy of the server.
fn is_stream(code: u8) -> bool {
    matches!(
        code,
        BINLOG_DUMP | TABLE_DUMP | BINLOG_DUMP_GTID | CLONE | SUBSCRIBE_GROUP
    )
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
    if !has.unwrap_or_else(|| matches!(body, [0..=8, 1, ..])) {
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
