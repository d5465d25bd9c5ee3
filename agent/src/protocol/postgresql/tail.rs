//! The end of an answer some of whose messages were not copied: of each call the last bytes are, and
//! what ends an answer is short. Which message stands before ReadyForQuery is told by its length: it
//! must reach up to it, and be what such a message is to its last byte.
//!
//! Never true here: that an end is taken for this answer's where a question may have gone unseen, or
//! that rows are told of that some other statement of the same text may have returned.

use super::backend::{code, field, is_fatal, returned};
use super::frame::{self, HEAD};
use super::group::{Group, Item, Outcomes};
use super::{Dialogue, Side};
use crate::event::Hole;
use crate::protocol::reader::Reader;
use crate::protocol::{Feed, Flow};

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
        self.first.is_some()
            && self.order.first().is_some()
            && self.groups.len() == 1
            && self.groups.front().is_some_and(one)
    }

    /// Looks for the end of an answer some of whose messages were lost.
    pub(super) fn tail(&mut self, feed: &mut Feed<'_>) -> bool {
        while let Some(front) = feed.stream.front() {
            // It ended unseen, or what was lost may be questions as well.
            if front.turn || matches!(front.hole, Some(Hole::Lost | Hole::Unseen)) {
                self.end_unseen(feed);
                return true;
            }
            let (window, cut) = feed.stream.turn_window();
            let turn_follows = window.len() < feed.stream.window().len();
            let over = !cut || turn_follows;
            let last = window.get(window.len().saturating_sub(LOOK)..);
            match last.filter(|_| over).and_then(end) {
                Some(end) => {
                    let length = window.len();
                    self.ends(end, length, feed);
                    return true;
                }
                // More may come.
                None if !cut => {
                    let rest = window.len().saturating_sub(LOOK);
                    feed.stream.skip(rest as u64);
                    return false;
                }
                None => feed.stream.skip_front(),
            }
        }
        false
    }

    /// The end was not among what was copied.
    pub(super) fn end_unseen(&mut self, feed: &mut Feed<'_>) {
        feed.stats.protocol_cut.add(1);
        feed.stats.protocol_resynced.add(1);
        self.answers = Side::Seek;
        self.unsettle(Flow::Response, feed);
    }

    /// These are the answer's last bytes.
    fn ends(&mut self, end: End, length: usize, feed: &mut Feed<'_>) {
        let last = feed.stream.mark(length.saturating_sub(1));
        feed.stream.skip(length as u64);
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
                self.end_exchange(number, outcomes, last, feed);
            }
        }
        self.first = None;
        self.rows = 0;
    }
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
    use super::*;
    use crate::protocol::Status;
    use crate::protocol::bench::Bench;
    use crate::protocol::postgresql::PROTOCOL;

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
        let bench = answered(b"SELECT 1; SELECT 2;\0", &[&whole], Hole::Budget);
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
}
