//! What the server sends: its greeting, and an answer for every command that has one. Where a packet's
//! length is lost, what is left of the answer is passed over up to the next turn, or to what looks
//! like the end of rows at the end of a call.
//!
//! Never true here: that a row is looked at beyond its first byte, or counted where some passed
//! unseen.

use std::borrow::Cow;

use super::packet::{self, Fine, Greeting, HEAD, Head, MAX_END};
use super::statements::Session;
use super::{Asked, Dialogue, Kind, faults, message, sniff};
use crate::connection::Mark;
use crate::event::Hole;
use crate::protocol::database::Outcome;
use crate::protocol::reader::{self, Reader};
use crate::protocol::{Fault, Feed, Finish, Flow, Part, Verdict};

/// Bytes of a database's name that are kept.
const MAX_NAME: usize = 256;

/// The server's flow.
#[derive(Debug, Default)]
pub(super) struct Side {
    pub(super) state: State,
    /// An EOF packet of this number may follow the answer that is over.
    trailing: Option<u8>,
}

#[derive(Debug, Default)]
pub(super) enum State {
    /// At the greeting, or at an answer where the connection is older.
    #[default]
    Start,
    /// The client is let in, or not.
    LogIn,
    /// At an answer.
    Head,
    /// In an answer.
    Amid(Amid),
    /// Passes over everything until a turn begins like an answer.
    Seek(Option<Doubt>),
    /// Nothing more is read.
    Done,
}

/// An answer under way.
#[derive(Debug)]
pub(super) struct Amid {
    number: u64,
    asked: Asked,
    first: Mark,
    /// The next packet's number, where it is known.
    sequence: Option<u8>,
    place: Place,
    /// Whether the payload goes on in the next packet.
    continues: bool,
    /// Rows that have come, once there was a place for some.
    rows: Option<u64>,
    /// The session's database now, where that is said.
    schema: Option<Vec<u8>>,
    /// The number of the statement that was prepared.
    prepared: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
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

/// An answer whose rest cannot be read.
#[derive(Debug)]
pub(super) struct Doubt {
    number: u64,
    told: bool,
    first: Mark,
    last: Mark,
}

/// What a packet means for its answer.
enum Step {
    Next,
    Over(End),
    Nonsense,
}

/// How an answer ended.
#[derive(Debug, Default)]
struct End {
    error: Option<Cow<'static, str>>,
    /// Whether an EOF packet may follow.
    trailing: bool,
}

impl Dialogue {
    /// Goes on by one state; false when more bytes are needed.
    pub(super) fn reply(&mut self, feed: &mut Feed<'_>) -> bool {
        if feed.stream.is_empty() {
            return false;
        }
        match &mut self.response.state {
            State::Start => self.greeting(feed),
            State::LogIn => self.let_in(feed),
            State::Head => self.first(feed),
            State::Amid(amid) => {
                let (read, step) = amid.read(feed, &mut self.session);
                self.read(read, step, feed)
            }
            State::Seek(_) => self.seek_answer(feed),
            State::Done => {
                feed.stream.skip_all();
                false
            }
        }
    }

    /// A command was read: the log-in is over, whatever was seen of it.
    pub(super) fn answers_commands(&mut self) {
        if let State::Start | State::LogIn = self.response.state {
            self.response.state = State::Head;
        }
    }

    fn greeting(&mut self, feed: &mut Feed<'_>) -> bool {
        let window = feed.stream.window();
        let Some(head) = Head::read(window) else {
            return self.cut_answer(feed);
        };
        let payload = window.get(HEAD..).unwrap_or_default();
        if head.sequence == 0 && payload.len() < head.size().min(MAX_END) {
            return self.cut_answer(feed);
        }
        if let Some(greeting) = Greeting::read(payload, head.size()) {
            self.session.greet(greeting);
            self.understood = true;
            feed.stream.skip(head.whole());
        }
        self.response.state = State::LogIn;
        true
    }

    /// In the log-in: only its end matters.
    fn let_in(&mut self, feed: &mut Feed<'_>) -> bool {
        let window = feed.stream.window();
        let payload = window.get(HEAD..).unwrap_or_default();
        let Some(head) = Head::read(window) else {
            return self.cut_answer(feed);
        };
        let size = head.size().min(MAX_END);
        if payload.len() < size {
            return self.cut_answer(feed);
        }
        let payload = payload.get(..size).unwrap_or(payload);
        if payload.first() == Some(&packet::OK) {
            let schema = Fine::read(payload, head.size()).and_then(|fine| fine.schema);
            let schema = schema.map(|name| reader::text(name, MAX_NAME, feed.stats));
            self.session.answered(0, true, None, schema);
            self.response.state = State::Head;
        }
        feed.stream.skip(head.whole());
        feed.stream.take_missing();
        true
    }

    /// What is needed is not there: a hole is in its place, or it is still to come.
    fn cut_answer(&mut self, feed: &mut Feed<'_>) -> bool {
        if !feed.stream.is_cut() {
            return false;
        }
        feed.stats.protocol_cut.add(1);
        self.lose_answer(feed);
        true
    }

    /// At an answer's first packet.
    fn first(&mut self, feed: &mut Feed<'_>) -> bool {
        let window = feed.stream.window();
        let Some(head) = Head::read(window) else {
            return self.cut_answer(feed);
        };
        if let Some(sequence) = self.response.trailing {
            if head.sequence == sequence && head.size() == packet::EOF {
                self.response.trailing = None;
                self.session.has_eof = Some(true);
                feed.stream.skip(head.whole());
                return true;
            }
            self.session.has_eof = Some(false);
            self.response.trailing = None;
        }
        let Some((number, asked)) = self.order.first() else {
            // Nobody knows what it answers; a server that ends a connection says so unasked.
            self.response.state = State::Seek(None);
            feed.stream.skip_front();
            self.overlook(feed);
            return true;
        };
        if head.sequence != 1 && !self.request.long {
            return self.nonsense(Flow::Response, feed);
        }
        feed.stream.take_missing();
        self.unseen.clear();
        self.response.state = State::Amid(Amid {
            number,
            asked,
            first: feed.stream.mark(0),
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
        });
        true
    }

    /// Packets of an answer were read, so many bytes, with this outcome of the last of them.
    fn read(&mut self, read: u64, step: Step, feed: &mut Feed<'_>) -> bool {
        feed.stream.skip(read);
        match step {
            Step::Next if read > 0 => true,
            Step::Next => self.cut_answer(feed),
            Step::Over(end) => {
                self.over(end, feed);
                true
            }
            Step::Nonsense => self.nonsense(Flow::Response, feed),
        }
    }

    fn over(&mut self, end: End, feed: &mut Feed<'_>) {
        let state = std::mem::replace(&mut self.response.state, State::Head);
        let State::Amid(amid) = state else {
            return;
        };
        self.understood = true;
        self.refused = 0;
        self.response.trailing = amid.sequence.filter(|_| end.trailing);
        let at = feed.stream.last();
        let missing = feed.stream.take_missing();
        let number = amid.number;
        if amid.asked.told {
            let outcome = Outcome {
                is_error: end.error.is_some(),
                rows: amid.rows,
                status_code: end.error.clone(),
            };
            let response = Box::new(outcome.response(Vec::new()));
            let mut say = |at, part| feed.out.push(message(Flow::Response, number, at, part));
            say(amid.first, Part::Response(response));
            for fault in faults(&missing) {
                say(at, Part::Fault(fault));
            }
            say(at, Part::Finish(finish(true)));
        }
        self.order.answered(number);
        let schema = amid
            .schema
            .map(|name| reader::text(&name, MAX_NAME, feed.stats));
        self.session
            .answered(number, end.error.is_none(), amid.prepared, schema);
    }

    /// The rest of the answer under way, if any, and an unknown number of others may go by unseen.
    pub(super) fn lose_answer(&mut self, feed: &mut Feed<'_>) {
        feed.stats.protocol_resynced.add(1);
        self.session.lose_answers();
        self.response.trailing = None;
        let at = feed.stream.mark(0);
        let state = std::mem::replace(&mut self.response.state, State::Seek(None));
        if let State::Amid(amid) = state
            && amid.place != Place::First
        {
            self.response.state = State::Seek(Some(Doubt {
                number: amid.number,
                told: amid.asked.told,
                first: amid.first,
                last: at,
            }));
        }
        // A turn that was refused is not looked at again.
        if feed.stream.front().is_some_and(|front| front.turn) {
            self.pass(feed);
        }
        self.unsettle(at, feed);
    }

    /// Passes over what is left of a call, or over a hole.
    fn pass(&mut self, feed: &mut Feed<'_>) {
        let Some(front) = feed.stream.front() else {
            return;
        };
        let ends = front.seal && front.hole.is_none() && ends_rows(front.bytes);
        feed.stream.skip_front();
        self.overlook(feed);
        if let State::Seek(Some(doubt)) = &mut self.response.state {
            doubt.last = feed.stream.last();
            if ends {
                self.end_doubt(true, feed);
            }
        }
    }

    /// Looks for a turn that begins like an answer.
    fn seek_answer(&mut self, feed: &mut Feed<'_>) -> bool {
        while let Some(front) = feed.stream.front() {
            if front.turn && front.hole.is_none() {
                self.end_doubt(false, feed);
                let (bytes, cut) = feed.stream.turn_window();
                match self.begins_answer(bytes) {
                    Verdict::Likely(_) => {
                        self.order.resume();
                        if self.order.first().is_some() {
                            self.refused = 0;
                            self.response.state = State::Head;
                            return true;
                        }
                    }
                    Verdict::More if !cut => return false,
                    _ if self.refuse(feed) => return false,
                    _ => {}
                }
            }
            let at = feed.stream.mark(0);
            self.pass(feed);
            self.unsettle(at, feed);
        }
        false
    }

    /// Whether a turn begins like an answer to somebody who waits.
    fn begins_answer(&self, bytes: &[u8]) -> Verdict {
        match Head::read(bytes) {
            None => Verdict::More,
            Some(head) if head.sequence != 1 => Verdict::Not,
            Some(head) => sniff::answer(head, bytes.get(HEAD..).unwrap_or_default()),
        }
    }

    /// Tells [`crate::protocol::order::Order`] that answers may be missing.
    fn unsettle(&mut self, at: Mark, feed: &mut Feed<'_>) {
        let under_way = match &self.response.state {
            State::Seek(doubt) => doubt.as_ref().map(|doubt| doubt.number),
            State::Amid(amid) => Some(amid.number),
            _ => None,
        };
        let (unseen, doubted) = (&self.unseen, under_way.is_some());
        self.order
            .lose_answers(under_way, |number| abandon(number, at, unseen, feed));
        if !doubted && self.order.asked().next().is_none() {
            self.unseen.clear();
        }
    }

    /// A command begins a turn: if no answer is under way, nobody waits for one.
    pub(super) fn settle(&mut self, at: Mark, feed: &mut Feed<'_>) {
        match &self.response.state {
            State::Seek(_) => self.end_doubt(false, feed),
            State::Amid(_) => return,
            _ => {}
        }
        let unseen = std::mem::take(&mut self.unseen);
        self.order
            .settle(|number| abandon(number, at, &unseen, feed));
    }

    /// The answer whose rest could not be read is over; `seen` says that its end was, and that it is
    /// no error.
    fn end_doubt(&mut self, seen: bool, feed: &mut Feed<'_>) {
        let State::Seek(doubt) = &mut self.response.state else {
            return;
        };
        let Some(doubt) = doubt.take() else {
            return;
        };
        let unseen = std::mem::take(&mut self.unseen);
        let number = doubt.number;
        if doubt.told {
            let response = Box::new(Outcome::default().response(Vec::new()));
            let mut say = |at, part| feed.out.push(message(Flow::Response, number, at, part));
            say(doubt.first, Part::Response(response));
            let told = unseen
                .iter()
                .filter(|(cause, _)| !seen || *cause != Hole::Budget);
            for &(cause, bytes) in told {
                say(doubt.last, Part::Fault(Fault::Missing { cause, bytes }));
            }
            if unseen.is_empty() {
                let fault = Fault::Malformed("the answer's packets");
                say(doubt.last, Part::Fault(fault));
            }
            say(doubt.last, Part::Finish(finish(false)));
        }
        self.order.answered(number);
        self.session.answered(number, seen, None, None);
    }

    /// Remembers what was passed over unseen, for those who wait: it may have been their answer.
    fn overlook(&mut self, feed: &mut Feed<'_>) {
        let missing = feed.stream.take_missing();
        for (cause, bytes) in missing.iter() {
            match self.unseen.iter_mut().find(|(known, _)| *known == cause) {
                Some((_, sum)) => *sum = sum.saturating_add(bytes),
                None => self.unseen.push((cause, bytes)),
            }
        }
    }

    /// No more comes of the answers: those who wait, while some of these passed unseen, had theirs
    /// among them for all that can be known.
    pub(super) fn answered_unseen(&mut self, feed: &mut Feed<'_>) {
        self.end_doubt(false, feed);
        if self.unseen.is_empty() || !matches!(self.response.state, State::Seek(_)) {
            return;
        }
        let at = feed.stream.last();
        let unseen = std::mem::take(&mut self.unseen);
        self.order
            .give_up(|number| abandon(number, at, &unseen, feed));
    }
}

impl Amid {
    /// Reads packets as far as they are there. Returns how many bytes, and what the last one means;
    /// `Next` where more must come.
    fn read(&mut self, feed: &Feed<'_>, session: &mut Session) -> (u64, Step) {
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
                session.has_eof = Some(true);
                let waits = Fine::read(payload, head.size()).is_some_and(|fine| fine.cursor());
                if waits {
                    return Step::Over(End::default());
                }
                self.place = Place::Rows;
                return Step::Next;
            }
            Place::BehindParameters(columns) => {
                let eof = is_end && head.size() == packet::EOF;
                session.has_eof = Some(eof);
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
            session.has_eof = Some(false);
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

fn finish(exact: bool) -> Finish {
    Finish {
        body: 0,
        exact,
        whole: true,
    }
}

/// Whether a call's last bytes are those of a packet that ends rows, and the whole answer.
fn ends_rows(bytes: &[u8]) -> bool {
    let ends = |n: usize| {
        let from = bytes.len().checked_sub(n)?;
        let packet = bytes.get(from..)?;
        let head = Head::read(packet)?;
        let payload = packet.get(HEAD..)?;
        let fits = head.size() == payload.len() && payload.first() == Some(&packet::END);
        let zeros = n == EOF_PACKET || payload.get(1..3) == Some(&[0, 0]);
        let fine = Fine::read(payload, head.size())?;
        Some(fits && zeros && !fine.more())
    };
    ends(EOF_PACKET) == Some(true) || ends(OK_PACKET) == Some(true)
}

/// Bytes of an EOF packet, and of an OK packet in its place that says no more.
const EOF_PACKET: usize = 9;
const OK_PACKET: usize = 11;

/// The answer to a command cannot be known any more, `unseen` being where it may have been.
fn abandon(number: u64, at: Mark, unseen: &[(Hole, u64)], feed: &mut Feed<'_>) {
    for &(cause, bytes) in unseen {
        let fault = Fault::Missing { cause, bytes };
        feed.out
            .push(message(Flow::Response, number, at, Part::Fault(fault)));
    }
    feed.out
        .push(message(Flow::Response, number, at, Part::Abandon));
}
