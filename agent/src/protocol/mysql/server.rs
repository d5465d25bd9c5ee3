//! What the server sends: its greeting, and an answer for every command that has one. Where a packet's
//! length is lost, what is left of the answer is passed over up to the next turn. What looks like the
//! end of rows at the end of a call is their end once nothing more came before that, or before silence:
//! values may read the same.
//!
//! Never true here: that rows are counted where some passed unseen, that a value ends them, or that an
//! answer is given to a command it may not belong to.

use super::packet::{self, Fine, Greeting, HEAD, Head, MAX_END};
use super::result::{Amid, End, Place, Step};
use super::{Asked, Dialogue, MAX_NAME, sniff};
use crate::connection::Mark;
use crate::connection::stream::Missing;
use crate::event::Hole;
use crate::protocol::database::Outcome;
use crate::protocol::reader;
use crate::protocol::told::{abandon_unseen, faults, message};
use crate::protocol::{Fault, Feed, Finish, Flow, Part, Verdict};

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

/// An answer whose rest cannot be read.
#[derive(Debug)]
pub(super) struct Doubt {
    number: u64,
    told: bool,
    first: Mark,
    last: Mark,
    /// Whether the last bytes that came look like the end of rows.
    ended: bool,
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
            self.session.answered(0, true, None, schema, feed.stats);
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
                self.session.has_eof.get_or_insert(true);
                feed.stream.skip(head.whole());
                return true;
            }
            self.session.has_eof.get_or_insert(false);
            self.response.trailing = None;
        }
        // What was kept until somebody knew whose connection it is may be older than all that was asked.
        let time = feed.stream.mark(0).time;
        let older = |(_, asked): &(u64, Asked)| !self.understood && time < asked.time;
        let Some((number, asked)) = self.order.first().filter(|first| !older(first)) else {
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
        self.unseen = Missing::default();
        let first = feed.stream.mark(0);
        self.response.state = State::Amid(Amid::new((number, asked), head, first));
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
        self.refused.reset();
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
            for fault in faults(missing) {
                say(at, Part::Fault(fault));
            }
            say(at, Part::Finish(finish(true)));
        }
        self.order.answered(number);
        let schema = amid
            .schema
            .map(|name| reader::text(&name, MAX_NAME, feed.stats));
        self.session.answered(
            number,
            end.error.is_none(),
            amid.prepared,
            schema,
            feed.stats,
        );
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
                ended: false,
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
            (doubt.last, doubt.ended) = (feed.stream.last(), ends);
            // Whoever asked has what it needs, whenever that is told.
            if ends && doubt.told && feed.stream.is_empty() {
                let detach = message(Flow::Response, doubt.number, doubt.last, Part::Detach);
                feed.out.push(detach);
            }
        }
    }

    /// Looks for a turn that begins like an answer.
    fn seek_answer(&mut self, feed: &mut Feed<'_>) -> bool {
        while let Some(front) = feed.stream.front() {
            if front.turn && front.hole.is_none() {
                self.end_doubt(feed);
                let (bytes, cut) = feed.stream.turn_window();
                match self.begins_answer(bytes) {
                    Verdict::Likely(_) => {
                        self.order.resume();
                        if self.order.first().is_some() {
                            self.refused.reset();
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
            .lose_answers(under_way, |number| abandon_unseen(number, at, unseen, feed));
        if !doubted && self.order.asked().next().is_none() {
            self.unseen = Missing::default();
        }
    }

    /// A command begins a turn: if no answer is under way, nobody waits for one.
    pub(super) fn settle(&mut self, at: Mark, feed: &mut Feed<'_>) {
        match &self.response.state {
            State::Seek(_) => self.end_doubt(feed),
            State::Amid(_) => return,
            _ => {}
        }
        let unseen = std::mem::take(&mut self.unseen);
        self.order
            .settle(|number| abandon_unseen(number, at, &unseen, feed));
    }

    /// The answer whose rest could not be read is over.
    fn end_doubt(&mut self, feed: &mut Feed<'_>) {
        let State::Seek(doubt) = &mut self.response.state else {
            return;
        };
        let Some(doubt) = doubt.take() else {
            return;
        };
        let unseen = std::mem::take(&mut self.unseen);
        // Whether its end was seen, which is no error.
        let seen = doubt.ended;
        let number = doubt.number;
        if doubt.told {
            let response = Box::new(Outcome::default().response(Vec::new()));
            let mut say = |at, part| feed.out.push(message(Flow::Response, number, at, part));
            say(doubt.first, Part::Response(response));
            let told = unseen
                .iter()
                .filter(|(cause, _)| !seen || *cause != Hole::Budget);
            for (cause, bytes) in told {
                say(doubt.last, Part::Fault(Fault::Missing { cause, bytes }));
            }
            if !unseen.any() {
                let fault = Fault::Malformed("the answer's packets");
                say(doubt.last, Part::Fault(fault));
            }
            say(doubt.last, Part::Finish(finish(false)));
        }
        self.order.answered(number);
        self.session.answered(number, seen, None, None, feed.stats);
    }

    /// Remembers what was passed over unseen, for those who wait: it may have been their answer.
    fn overlook(&mut self, feed: &mut Feed<'_>) {
        let missing = feed.stream.take_missing();
        self.unseen.merge(missing);
    }

    /// No more comes of the answers: those who wait, while some of these passed unseen, had theirs
    /// among them for all that can be known.
    pub(super) fn answered_unseen(&mut self, feed: &mut Feed<'_>) {
        self.end_doubt(feed);
        if !self.unseen.any() || !matches!(self.response.state, State::Seek(_)) {
            return;
        }
        let at = feed.stream.last();
        let unseen = std::mem::take(&mut self.unseen);
        self.order
            .give_up(|number| abandon_unseen(number, at, &unseen, feed));
    }
}

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
