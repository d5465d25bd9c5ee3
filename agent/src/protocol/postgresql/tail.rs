//! The end of an answer some of whose messages were not copied: of each call the last bytes are, and
//! what ends an answer is short. Which message stands before ReadyForQuery is told by its length: it
//! must reach up to it, and be what such a message is to its last byte.
//!
//! Calls end anywhere, in the midst of a row as well, and what stands there anybody may have written.
//! In rows of text nothing reads like an end: its length would have to be that of a value, which would
//! have the zero in it that ends a tag, and no text has one. Of other rows an end is believed once
//! something was asked behind it, and nothing more was answered before; not where questions are asked
//! while answers are under way.
//!
//! Never true here: that an end is taken for this answer's where a question may have gone unseen, that a
//! value can make one, or that rows are told of that some other statement of the same text may have
//! returned.

use super::backend::{code, field, is_fatal, returned};
use super::frame::{self, HEAD};
use super::group::{Group, Item, Outcomes};
use super::{Dialogue, Side};
use crate::connection::Mark;
use crate::event::Hole;
use crate::protocol::reader::Reader;
use crate::protocol::told;
use crate::protocol::{Feed, Flow, Part};

/// ReadyForQuery, without the state of the transaction.
const READY: &[u8] = b"Z\0\0\0\x05";
/// Bytes of an answer's end that are looked at: a call's last ones, and a short call after them.
const LOOK: usize = 256;

impl Dialogue {
    /// Whether one statement's answer is under way, and nothing else waits: what ends a turn ends it.
    pub(super) fn may_end_by_its_tail(&self) -> bool {
        let one = |group: &Group| {
            let item = group.items.front().and_then(Item::exchange);
            item.is_some() && group.items.len() == 1 && group.synced && !group.blurred
        };
        self.overlaps == Overlap::No
            && self.first.is_some()
            && self.order.first().is_some()
            && self.groups.len() == 1
            && self.groups.front().is_some_and(one)
    }

    /// Looks for the end of an answer some of whose messages were lost.
    pub(super) fn tail(&mut self, feed: &mut Feed<'_>) -> bool {
        while let Some(front) = feed.stream.front() {
            let ended = self.ended.take();
            // It ended unseen, or what was lost may be questions as well.
            if front.turn || matches!(front.hole, Some(Hole::Lost | Hole::Unseen)) {
                match ended.filter(|_| front.hole.is_none()) {
                    Some(ended) => self.ends(ended, feed),
                    None => self.end_unseen(feed),
                }
                return true;
            }
            let (window, cut) = feed.stream.turn_window();
            let turn_follows = window.len() < feed.stream.window().len();
            let over = !cut || turn_follows;
            let last = window.get(window.len().saturating_sub(LOOK)..);
            let length = window.len();
            match last.filter(|_| over).and_then(end) {
                Some(end) => {
                    let ended = self.may_end(end, length, feed);
                    if turn_follows || self.is_text() {
                        self.ends(ended, feed);
                        return true;
                    }
                    self.ended = Some(ended);
                }
                // More may come.
                None if !cut => {
                    let rest = length.saturating_sub(LOOK);
                    feed.stream.skip(rest as u64);
                    self.seen = Some(
                        feed.stream
                            .mark(length.saturating_sub(rest).saturating_sub(1)),
                    );
                    return false;
                }
                None => {
                    feed.stream.skip_front();
                    self.overlook(Flow::Response, feed);
                }
            }
        }
        false
    }

    /// Whether the rows of the present answer are text, also those that were not seen.
    fn is_text(&self) -> bool {
        let item = self.groups.front().and_then(|group| group.items.front());
        self.plain && matches!(item, Some(Item::Query(_, of)) if !of.several)
    }

    /// Something is asked after bytes of answers: what may have ended has.
    pub(super) fn asked_anew(&mut self, kind: u8, feed: &mut Feed<'_>) {
        if let (Side::Tail, Some(ended)) = (self.answers, self.ended.take()) {
            return self.ends(ended, feed);
        }
        let asks = matches!(kind, b'Q' | b'P' | b'B' | b'D' | b'E' | b'F');
        let waits = self.groups.back().is_some_and(|group| group.synced);
        let follows = self.answers == Side::Messages && !self.order.is_lost();
        self.overlaps = match (self.overlaps, asks && waits) {
            (Overlap::Yes, _) => Overlap::Yes,
            (_, true) if follows => Overlap::Yes,
            (_, true) => Overlap::Perhaps,
            // All that was asked was answered to its end, and that was read.
            (Overlap::Perhaps, false) if follows && self.groups.is_empty() => Overlap::No,
            (known, false) => known,
        };
    }

    /// The end was not among what was copied.
    pub(super) fn end_unseen(&mut self, feed: &mut Feed<'_>) {
        feed.stats.protocol_cut.add(1);
        feed.stats.protocol_resynced.add(1);
        self.answers = Side::Seek;
        self.unsettle(Flow::Response, feed);
    }

    /// So many bytes are the answer's last, as far as they show.
    fn may_end(&mut self, end: End, length: usize, feed: &mut Feed<'_>) -> Ended {
        let last = feed.stream.mark(length.saturating_sub(1));
        feed.stream.skip(length as u64);
        self.overlook(Flow::Response, feed);
        Ended { end, last }
    }

    /// This was the answer's end.
    pub(super) fn ends(&mut self, ended: Ended, feed: &mut Feed<'_>) {
        let Ended { end, last } = ended;
        self.answers = Side::Messages;
        if let Some(mut group) = self.groups.pop_front() {
            self.items = self.items.saturating_sub(group.items.len());
            self.order.answered(group.number);
            let item = group.pop();
            let several = matches!(&item, Some(Item::Query(_, of)) if of.several);
            let rows = end.tag.filter(|_| !several);
            let outcomes = Outcomes {
                error: end.error,
                rows: rows.and_then(|tag| returned(&tag, self.copied_out)),
                ..Outcomes::default()
            };
            if let Some(number) = item.and_then(|item| item.exchange()) {
                for fault in told::faults(std::mem::take(&mut self.unseen)) {
                    let fault = told::message(Flow::Response, number, last, Part::Fault(fault));
                    feed.out.push(fault);
                }
                self.end_exchange(number, outcomes, last, feed);
            }
        }
        self.seen = None;
        self.forget_answer();
    }
}

/// Whether this client asks while an answer is under way: an end is not believed by what it asks then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Overlap {
    /// Not as far as was seen.
    #[default]
    No,
    /// It asked when the end of an answer had not been seen: until one was read to its end, and
    /// nothing came behind it.
    Perhaps,
    /// It does.
    Yes,
}

/// How an answer may have ended, and its last byte.
#[derive(Debug)]
pub(super) struct Ended {
    end: End,
    last: Mark,
}

/// Whether all columns of a RowDescription are text.
pub(super) fn is_text(body: &[u8]) -> bool {
    let mut reader = Reader::new(body);
    let Some(columns) = reader.u16() else {
        return false;
    };
    // A name, what it is of, and its format (int16, the last of 18 bytes).
    let mut column = || {
        reader.c_string()?;
        reader.skip(16)?;
        reader.u16()
    };
    (0..columns).all(|_| column() == Some(0))
}

/// How an answer ended.
#[derive(Debug, Default, PartialEq, Eq)]
struct End {
    /// The tag of the last command that was completed.
    tag: Option<Vec<u8>>,
    /// SQLSTATE, where it has failed.
    error: Option<Option<[u8; 5]>>,
}

/// How an answer ends that ends with these bytes: with ReadyForQuery, or with an error after which
/// the connection ends.
fn end(bytes: &[u8]) -> Option<End> {
    let ready = bytes
        .split_last_chunk::<1>()
        .filter(|(_, state)| matches!(state, [b'I' | b'T' | b'E']))
        .and_then(|(before, _)| before.strip_suffix(READY));
    let before = ready.unwrap_or(bytes);
    let places = before.len().checked_sub(HEAD)?;
    (0..=places)
        .rev()
        .find_map(|at| message(before.get(at..)?, ready.is_some()))
}

/// What a message that is these bytes says of the end, if it is one that ends an answer.
fn message(bytes: &[u8], ready: bool) -> Option<End> {
    let (kind, length) = frame::head(bytes)?;
    if length != bytes.len() {
        return None;
    }
    let body = bytes.get(HEAD..)?;
    match kind {
        b'C' if ready => is_tag(body).then(|| End {
            tag: Some(body.to_vec()),
            error: None,
        }),
        // PortalSuspended: there are more rows than were asked for at once.
        b's' if ready && body.is_empty() => Some(End::default()),
        b'E' if is_error(body) && (ready || is_fatal(body)) => Some(End {
            tag: None,
            error: Some(code(body)),
        }),
        _ => None,
    }
}

/// Whether bytes are a command's tag and the zero after it: words in capitals, numbers.
fn is_tag(body: &[u8]) -> bool {
    let Some(([first, ..], [0])) = body.split_last_chunk::<1>() else {
        return false;
    };
    let mut tag = body.iter().take(body.len().saturating_sub(1));
    first.is_ascii_uppercase()
        && tag.all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b' ')
}

/// Whether bytes are an error's fields, those that every error has among them, and nothing else.
fn is_error(body: &[u8]) -> bool {
    let mut reader = Reader::new(body);
    while let Some(kind) = reader.u8() {
        if kind == 0 {
            break;
        }
        if !kind.is_ascii_alphabetic() || reader.c_string().is_none() {
            return false;
        }
    }
    let has = |kind| field(body, kind).is_some();
    reader.is_empty() && has(b'S') && code(body).is_some() && has(b'M')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::bench::Bench;
    use crate::protocol::postgresql::PROTOCOL;
    use crate::protocol::{Fault, Response, Status, Value};

    const FAILED: &[u8] = b"SERROR\0VERROR\0C22012\0Mdivision by zero\0Fint.c\0L846\0Rint4div\0\0";

    fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u32 + 4).to_be_bytes();
        [&[kind], &length[..], body].concat()
    }

    fn ready(before: &[u8]) -> Vec<u8> {
        [before, b"Z\0\0\0\x05I"].concat()
    }

    #[test]
    fn ends_are_read_strictly() {
        let tag = |tag: &[u8]| End {
            tag: Some(tag.to_vec()),
            error: None,
        };
        let failed = |code: &[u8; 5]| End {
            tag: None,
            error: Some(Some(*code)),
        };
        let rows = b"\0\0\x01x row of C\0\0\0\x0d and more";
        let selected = framed(b'C', b"SELECT 100000\0");
        let copied = framed(b'C', b"COPY 7\0");
        let error = framed(b'E', FAILED);
        let fatal = framed(b'E', b"SFATAL\0VFATAL\0C57P01\0Mgone\0\0");
        for (bytes, expected) in [
            (ready(&selected), Some(tag(b"SELECT 100000\0"))),
            (
                ready(&[rows, &selected[..]].concat()),
                Some(tag(b"SELECT 100000\0")),
            ),
            (
                ready(&[b"c\0\0\0\x04", &copied[..]].concat()),
                Some(tag(b"COPY 7\0")),
            ),
            (ready(&[rows, &error[..]].concat()), Some(failed(b"22012"))),
            (ready(b"rows\0s\0\0\0\x04"), Some(End::default())),
            ([rows, &fatal[..]].concat(), Some(failed(b"57P01"))),
            // An error after which more comes.
            (error.clone(), None),
            (selected.clone(), None),
            // Cut off, of another length, what is in no tag.
            (ready(&selected[1..]), None),
            (ready(b"C\0\0\0\x0eSELECT 1\0"), None),
            (ready(&framed(b'C', b"select 1\0")), None),
            (ready(&framed(b'C', b"SELECT\x001\0")), None),
            (ready(&framed(b'C', b"\0")), None),
            (ready(&framed(b'C', b"SELECT 1")), None),
            (ready(&error[1..]), None),
            (ready(&framed(b'E', b"SERROR\0Mno code\0\0")), None),
            (ready(&framed(b'N', FAILED)), None),
            (ready(b""), None),
            (b"Z\0\0\0\x05".to_vec(), None),
            (Vec::new(), None),
        ] {
            assert_eq!(end(&bytes), expected, "{bytes:?}");
        }
    }

    /// The answer to a query that is too long to be copied, the last call in these pieces.
    fn answered(query: &[u8], last: &[&[u8]], cause: Hole) -> Bench {
        let mut bench = Bench::new(PROTOCOL);
        bench.ask(&framed(b'Q', query));
        bench.answer(b"T\0\0\0!\0\x01?column?\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0");
        let row = framed(b'D', b"\0\x01\0\0\0\x011");
        assert_eq!(
            bench.send_part(Flow::Response, &row, 5000, cause),
            Status::Stay
        );
        for piece in last {
            bench.answer(piece);
        }
        bench
    }

    #[test]
    fn an_end_in_two_calls() {
        let whole = ready(&framed(b'C', b"SELECT 100000\0"));
        for at in 0..=whole.len() {
            let (a, b) = whole.split_at(at);
            let bench = answered(b"SELECT a FROM b\0", &[a, b], Hole::Budget);
            let [response] = bench.responses()[..] else {
                panic!("{:?}", bench.out);
            };
            let rows = response.attributes.iter().find(|a| a.key.ends_with("rows"));
            assert!(rows.is_some(), "{response:?}");
        }
    }

    #[test]
    fn what_is_not_sure_is_not_said() {
        let whole = ready(&framed(b'C', b"SELECT 100000\0"));
        // Of two statements, the last one's rows.
        let mut bench = answered(b"SELECT 1; SELECT 2;\0", &[&whole], Hole::Budget);
        bench.ask(&framed(b'Q', b"SELECT 3\0"));
        let responses = bench.responses();
        assert_eq!(responses.len(), 1);
        assert!(
            !responses[0]
                .attributes
                .iter()
                .any(|a| a.key.ends_with("rows"))
        );
        // Records that were lost may have been a question.
        let bench = answered(b"SELECT 1\0", &[&whole], Hole::Lost);
        assert_eq!(bench.responses().len(), 0);
    }

    /// Parse to Sync of a statement whose rows are binary, answered up to a row that was not copied.
    fn binary() -> Bench {
        let mut bench = Bench::new(PROTOCOL);
        bench.ask(&extended());
        let columns = b"\0\x01a\0\0\0\0\0\0\0\0\0\0\x11\xff\xff\xff\xff\xff\xff\0\x01";
        let row = framed(b'D', b"\0\x01\0\0\0\x01\x01");
        let begun = [
            &framed(b'1', b"")[..],
            &framed(b'2', b""),
            &framed(b'T', columns),
            &row,
        ];
        let begun = begun.concat();
        let _ = bench.send_part(Flow::Response, &begun, 70_000, Hole::Budget);
        bench.out.clear();
        bench
    }

    fn extended() -> Vec<u8> {
        [
            framed(b'P', b"\0SELECT a FROM b\0\0\0"),
            framed(b'B', b"\0\0\0\0\0\0\0\x01\0\x01"),
            framed(b'D', b"P\0"),
            framed(b'E', b"\0\0\0\0\0"),
            framed(b'S', b""),
        ]
        .concat()
    }

    fn rows(bench: &Bench) -> Vec<Option<Value>> {
        let responses = bench.responses();
        let rows = |response: &&Response| {
            let mut attributes = response.attributes.iter();
            let found = attributes.find(|a| a.key.ends_with("rows"));
            found.map(|rows| rows.value.clone())
        };
        responses.iter().map(rows).collect()
    }

    #[test]
    fn a_value_is_no_end() {
        let forged = ready(&[b"a row's ", &framed(b'C', b"SELECT 1\0")[..]].concat());
        let whole = ready(&framed(b'C', b"SELECT 200\0"));
        let (unseen, seen) = (Vec::new(), vec![Some(Value::Int(200))]);
        // Whatever comes, nothing is over before something else is asked.
        for last in [&whole[..], b"and on", b""] {
            let mut bench = binary();
            bench.answer(&forged);
            bench.answer(&[b"its rest", last].concat());
            assert_eq!(rows(&bench), unseen);
            bench.ask(&extended());
            let told = if last == whole { &seen } else { &unseen };
            assert_eq!(rows(&bench), *told, "{last:?}");
        }
        // What ends a connection asks as well, and silence says so in the end.
        for end in [
            (|bench: &mut Bench| bench.ask(&framed(b'X', b""))) as fn(&mut Bench),
            Bench::silenced,
        ] {
            let mut bench = binary();
            bench.answer(&whole);
            assert_eq!(rows(&bench), unseen);
            end(&mut bench);
            assert_eq!(rows(&bench), seen);
        }
    }

    #[test]
    fn who_asks_amid_answers_is_told_no_end() {
        let whole = ready(&framed(b'C', b"SELECT 200\0"));
        let mut bench = binary();
        bench.answer(b"some of a row");
        bench.ask(&extended());
        bench.answer(&whole);
        assert_eq!(rows(&bench), []);
        bench.ask(&extended());
        let row = framed(b'D', b"\0\x01\0\0\0\x01\x01");
        let _ = bench.send_part(Flow::Response, &row, 70_000, Hole::Budget);
        bench.answer(&whole);
        bench.ask(&extended());
        assert_eq!(rows(&bench), []);
    }

    const COLUMNS: &[u8] = b"\0\x01?column?\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0";

    /// A query with so many rows, the last of which is left out and much more with it, and these last
    /// bytes.
    fn large(bench: &mut Bench, count: usize, last: &[u8]) {
        bench.ask(&framed(b'Q', b"SELECT a FROM b\0"));
        let rows = framed(b'D', b"\0\x01\0\0\0\x011").repeat(count);
        let begun = [framed(b'T', COLUMNS), rows].concat();
        bench.time += 10;
        let _ = bench.send_part(Flow::Response, &begun, 70_000, Hole::Budget);
        bench.time += 10;
        bench.answer(last);
        bench.time += 10;
    }

    fn small(bench: &mut Bench, query: &[u8], tag: &[u8]) {
        bench.ask(&framed(b'Q', query));
        bench.answer(&ready(&framed(b'C', tag)));
    }

    #[test]
    fn what_was_read_of_an_answer_without_an_end_is_not_the_next_ones() {
        let mut bench = Bench::new(PROTOCOL);
        large(&mut bench, 9, b"no end");
        small(&mut bench, b"BEGIN\0", b"BEGIN\0");
        assert_eq!(rows(&bench), [None]);
    }

    #[test]
    fn one_end_that_was_not_seen_spoils_no_later_one() {
        let mut bench = Bench::new(PROTOCOL);
        let whole = ready(&framed(b'C', b"SELECT 200\0"));
        large(&mut bench, 1, b"no end");
        // Whether that one was over is not known yet.
        large(&mut bench, 1, &whole);
        small(&mut bench, b"BEGIN\0", b"BEGIN\0");
        large(&mut bench, 1, &whole);
        small(&mut bench, b"COMMIT\0", b"COMMIT\0");
        assert_eq!(rows(&bench), [None, Some(Value::Int(200)), None]);
        let abandoned = bench.count(|part| matches!(part, Part::Abandon));
        assert_eq!(abandoned, 2);
    }

    #[test]
    fn who_asked_amid_an_answer_once_may_again() {
        let mut bench = Bench::new(PROTOCOL);
        let whole = ready(&framed(b'C', b"SELECT 200\0"));
        // The first answer is under way when the second statement is sent: what comes is not its.
        large(&mut bench, 1, b"some of a row");
        bench.ask(&framed(b'Q', b"SELECT c FROM d\0"));
        bench.answer(&whole);
        bench.answer(&ready(&framed(b'C', b"SELECT 1\0")));
        small(&mut bench, b"BEGIN\0", b"BEGIN\0");
        bench.out.clear();
        large(&mut bench, 1, &whole);
        bench.ask(&framed(b'Q', b"SELECT 1\0"));
        assert_eq!(rows(&bench), []);
    }

    #[test]
    fn an_answer_without_an_end_lasts_as_long_as_it_was_seen() {
        let mut bench = Bench::new(PROTOCOL);
        for last in [&b"no end"[..], b""] {
            large(&mut bench, 9, last);
            let seen = bench.time - if last.is_empty() { 20 } else { 10 };
            bench.out.clear();
            small(&mut bench, b"BEGIN\0", b"BEGIN\0");
            let mut told = bench
                .out
                .iter()
                .filter(|m| m.pairing == bench.out[0].pairing);
            let missing = Fault::Missing {
                cause: Hole::Budget,
                bytes: 70_000,
            };
            assert_eq!(told.next().map(|m| &m.part), Some(&Part::Fault(missing)));
            let end = told.next().expect("an end");
            assert_eq!((&end.part, end.at.time), (&Part::Abandon, seen));
        }
    }

    #[test]
    fn an_error_whose_beginning_was_left_out_is_no_success() {
        let mut bench = Bench::new(PROTOCOL);
        let failed = [
            b"SERROR\0VERROR\0C22012\0M",
            &[b'x'; 300][..],
            b"\0Rint4div\0\0",
        ]
        .concat();
        let failed = framed(b'E', &failed);
        let last = [&failed[failed.len() - 100..], b"Z\0\0\0\x05E"].concat();
        large(&mut bench, 9, &last);
        bench.ask(&framed(b'Q', b"ROLLBACK\0"));
        assert_eq!(rows(&bench), []);
        assert_eq!(bench.count(|part| matches!(part, Part::Abandon)), 1);
    }

    proptest! {
        #[test]
        fn rows_of_text_have_no_end_in_them(
            rows in prop::collection::vec(prop::collection::vec("[A-Z0-9 Is\x05\r]{0,24}", 1..4), 1..8),
        ) {
            let mut bytes = Vec::new();
            for row in rows {
                let mut body = (row.len() as u16).to_be_bytes().to_vec();
                for value in row {
                    body.extend((value.len() as u32).to_be_bytes());
                    body.extend(value.bytes());
                }
                bytes.extend(framed(b'D', &body));
            }
            for at in 0..=bytes.len() {
                prop_assert_eq!(end(&bytes[..at]), None);
            }
        }
    }
}
