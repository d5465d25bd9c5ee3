//! What an answer is made of, packet by packet: OK or an error; columns and rows, several times; what
//! is said of a statement that was prepared. Whether an EOF packet stands behind definitions is taken
//! from the packets themselves, as both sides may have agreed on that before anybody looked.
//!
//! Never true here: that a row is looked at beyond its first byte.

use std::borrow::Cow;

use super::packet::{self, Fine, HEAD, Head, MAX_END};
use super::session::Session;
use super::{Asked, Kind};
use crate::connection::Mark;
use crate::protocol::Feed;
use crate::protocol::reader::Reader;

/// An answer under way.
#[derive(Debug)]
pub(super) struct Amid {
    pub(super) number: u64,
    pub(super) asked: Asked,
    pub(super) first: Mark,
    /// The next packet's number, where it is known.
    pub(super) sequence: Option<u8>,
    pub(super) place: Place,
    /// Whether the payload goes on in the next packet.
    continues: bool,
    /// Rows that have come, once there was a place for some.
    pub(super) rows: Option<u64>,
    /// The session's database now, where that is said.
    pub(super) schema: Option<Vec<u8>>,
    /// The number of the statement that was prepared.
    pub(super) prepared: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At an answer's first packet, or at another result's.
    First,
    /// At a column's definition, with so many to come.
    Columns(u64),
    /// Behind the last of them.
    Behind,
    /// At a row, or at the end of them.
    Rows,
    /// At one of so many parameters of a statement, with so many columns behind them.
    Parameters(u64, u64),
    /// Behind the last parameter or, where no column follows, behind them too.
    BehindParameters(u64),
    /// At a column's definition of how many nobody said.
    Fields,
    /// At what ends a file's transfer, or a log-in.
    End,
}

/// What a packet means for its answer.
pub(super) enum Step {
    Next,
    Over(End),
    Nonsense,
}

/// How an answer ended.
#[derive(Debug, Default)]
pub(super) struct End {
    pub(super) error: Option<Cow<'static, str>>,
    /// Whether an EOF packet may follow.
    pub(super) trailing: bool,
}

impl Amid {
    /// At the first packet of the answer to this command.
    pub(super) fn new((number, asked): (u64, Asked), head: Head, first: Mark) -> Self {
        Self {
            number,
            asked,
            first,
            sequence: Some(head.sequence),
            place: match asked.kind {
                Kind::LogIn => Place::End,
                Kind::Fields => Place::Fields,
                Kind::Fetch => Place::Rows,
                _ => Place::First,
            },
            continues: false,
            rows: (asked.kind == Kind::Fetch).then_some(0),
            schema: None,
            prepared: None,
        }
    }

    /// Reads packets as far as they are there. Returns how many bytes, and what the last one means;
    /// `Next` where more must come.
    pub(super) fn read(&mut self, feed: &Feed<'_>, session: &mut Session) -> (u64, Step) {
        let window = feed.stream.window();
        let mut at = 0u64;
        loop {
            let rest = usize::try_from(at).ok().and_then(|at| window.get(at..));
            let Some((head, rest)) = rest.and_then(|rest| Head::read(rest).zip(rest.get(HEAD..)))
            else {
                return (at, Step::Next);
            };
            if self.sequence.is_some_and(|number| number != head.sequence) {
                return (at, Step::Nonsense);
            }
            let needed = match rest.first() {
                _ if self.continues => 0,
                Some(first) if self.matters(*first, head) => head.size().min(MAX_END),
                _ => head.size().min(1),
            };
            let Some(payload) = rest.get(..needed) else {
                return (at, Step::Next);
            };
            at = at.saturating_add(head.whole());
            self.sequence = self.sequence.map(|number| number.wrapping_add(1));
            let goes_on = std::mem::replace(&mut self.continues, head.continues());
            if goes_on {
                continue;
            }
            match self.packet(head, payload, session) {
                Step::Next => {}
                step => return (at, step),
            }
        }
    }

    /// Whether more than the first byte of a packet is to be read.
    fn matters(&self, first: u8, head: Head) -> bool {
        match self.place {
            Place::First => true,
            Place::Columns(_) | Place::Parameters(..) => false,
            Place::End => first == packet::OK || first == packet::ERROR,
            Place::Behind | Place::BehindParameters(_) | Place::Rows | Place::Fields => {
                first == packet::ERROR || first == packet::END && !head.continues()
            }
        }
    }

    fn packet(&mut self, head: Head, payload: &[u8], session: &mut Session) -> Step {
        let first = payload.first().copied();
        let is_end = first == Some(packet::END) && !head.continues();
        match self.place {
            Place::Columns(_) | Place::Parameters(..) => return self.definition(session),
            _ if first == Some(packet::ERROR) => return error(payload),
            Place::First => return self.begin(head, payload),
            Place::End => {
                // The client's packets have numbers of the same row.
                self.sequence = None;
                return match first {
                    Some(packet::OK) => self.fine(head, payload),
                    _ => Step::Next,
                };
            }
            Place::Behind if is_end && head.size() == packet::EOF => {
                session.has_eof.get_or_insert(true);
                let waits = Fine::read(payload, head.size()).is_some_and(|fine| fine.cursor());
                if waits {
                    return Step::Over(End::default());
                }
                self.place = Place::Rows;
                return Step::Next;
            }
            Place::BehindParameters(columns) => {
                let eof = is_end && head.size() == packet::EOF;
                session.has_eof.get_or_insert(eof);
                return match (eof, columns) {
                    (true, 0) => Step::Over(End::default()),
                    (true, columns) => {
                        self.place = Place::Parameters(columns, 0);
                        Step::Next
                    }
                    (false, 0) => Step::Nonsense,
                    (false, columns) => {
                        self.place = Place::Parameters(columns, 0);
                        self.definition(session)
                    }
                };
            }
            Place::Behind | Place::Rows | Place::Fields => {}
        }
        if is_end {
            return self.fine(head, payload);
        }
        if self.place == Place::Fields {
            return Step::Next;
        }
        if self.place == Place::Behind {
            session.has_eof.get_or_insert(false);
            self.place = Place::Rows;
        }
        self.rows = self.rows.map(|rows| rows.saturating_add(1));
        Step::Next
    }

    /// An answer's first packet, or that of another result.
    fn begin(&mut self, head: Head, payload: &[u8]) -> Step {
        match (self.asked.kind, payload.first()) {
            (Kind::Text, _) => return Step::Over(End::default()),
            (Kind::Prepare, Some(&packet::OK)) => return self.prepared(payload),
            (Kind::Plain, Some(&(packet::OK | packet::END))) => return self.fine(head, payload),
            (Kind::Result, Some(&packet::OK)) if head.size() >= packet::SHORT_OK => {
                return self.fine(head, payload);
            }
            (Kind::Result, Some(&packet::FILE)) => {
                self.place = Place::End;
                self.sequence = None;
                return Step::Next;
            }
            (Kind::Result, Some(_)) => {}
            _ => return Step::Nonsense,
        }
        let Some((count, defined)) = packet::columns(payload) else {
            return Step::Nonsense;
        };
        self.rows = Some(self.rows.unwrap_or(0));
        self.place = match defined {
            true => Place::Columns(count),
            false => Place::Behind,
        };
        Step::Next
    }

    fn definition(&mut self, session: &Session) -> Step {
        let (left, columns) = match self.place {
            Place::Columns(left) => {
                self.place = match left.saturating_sub(1) {
                    0 => Place::Behind,
                    left => Place::Columns(left),
                };
                return Step::Next;
            }
            Place::Parameters(left, columns) => (left.saturating_sub(1), columns),
            _ => return Step::Nonsense,
        };
        self.place = match (left, columns, session.has_eof) {
            (1.., ..) => Place::Parameters(left, columns),
            (0, 1.., Some(false)) => Place::Parameters(columns, 0),
            (0, 0, Some(false)) => return Step::Over(End::default()),
            // Whether another packet comes is to be seen.
            (0, 0, None) => {
                return Step::Over(End {
                    trailing: true,
                    ..End::default()
                });
            }
            (0, columns, _) => Place::BehindParameters(columns),
        };
        Step::Next
    }

    fn prepared(&mut self, payload: &[u8]) -> Step {
        let mut reader = Reader::new(payload);
        let read = reader.skip(1).and_then(|()| {
            let id = reader.u32_le()?;
            let columns = u64::from(reader.u16_le()?);
            Some((id, columns, u64::from(reader.u16_le()?)))
        });
        let Some((id, columns, parameters)) = read else {
            return Step::Nonsense;
        };
        // MySQL may leave the definitions out.
        let left_out = payload.get(PREPARED) == Some(&0);
        self.prepared = Some(id);
        self.place = match (parameters, columns) {
            _ if left_out => return Step::Over(End::default()),
            (0, 0) => return Step::Over(End::default()),
            (0, columns) => Place::Parameters(columns, 0),
            (parameters, columns) => Place::Parameters(parameters, columns),
        };
        Step::Next
    }

    /// OK, or the end of rows.
    fn fine(&mut self, head: Head, payload: &[u8]) -> Step {
        let Some(fine) = Fine::read(payload, head.size()) else {
            return Step::Nonsense;
        };
        if let Some(schema) = fine.schema {
            self.schema = Some(schema.to_vec());
        }
        if fine.more() && self.asked.kind == Kind::Result {
            self.place = Place::First;
            return Step::Next;
        }
        Step::Over(End::default())
    }
}

/// An error, or how far a long command has come.
fn error(payload: &[u8]) -> Step {
    match packet::error(payload) {
        None => Step::Nonsense,
        Some(None) => Step::Next,
        Some(error) => Step::Over(End {
            error,
            ..End::default()
        }),
    }
}

/// Bytes of the answer to a statement that was prepared, before what not all servers say.
const PREPARED: usize = 12;
