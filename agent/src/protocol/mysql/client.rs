//! What the client sends: one command after the other, each a packet of the number 0. Packets of other
//! numbers go on with something (a long command, a file, a log-in) and are passed over.
//!
//! Never true here: that a row of a file or a password is looked at.

use super::command::{self, Meaning, Seen};
use super::packet::{HEAD, Head, LOGIN, Login};
use super::{Asked, Dialogue, MAX_NAME, sniff};
use crate::protocol::reader::Read;
use crate::protocol::seek::{self, Front};
use crate::protocol::told::{faults, message};
use crate::protocol::{Fault, Feed, Finish, Flow, Part, reader, tls};

/// Bytes of a statement that are waited for.
const MAX_STATEMENT: usize = 48 * 1024;
/// Bytes of other commands, and of a log-in.
const MAX_OTHER: usize = 1024;

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

impl Side {
    /// What is read next began before what was answered since.
    pub(super) fn late(&mut self) {
        self.fresh = false;
    }
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
        for fault in faults(missing) {
            let part = Part::Fault(fault);
            feed.out.push(message(Flow::Request, number, at, part));
        }
        let part = Part::Finish(WHOLE);
        feed.out.push(message(Flow::Request, number, at, part));
        true
    }

    /// Looks for a turn that begins like a command.
    fn seek_command(&mut self, feed: &mut Feed<'_>) -> bool {
        let begins = |bytes: &[u8]| match Head::read(bytes) {
            Some(head) if head.sequence == 0 => {
                let payload = bytes.get(HEAD..).unwrap_or_default();
                seek::is_of(Flow::Request, sniff::command(head, payload))
            }
            Some(_) => Read::Never,
            None => Read::More,
        };
        loop {
            match seek::front(feed.stream, begins) {
                Front::Message => break,
                Front::Wait => return false,
                Front::Refused if self.refuse(feed) => return false,
                Front::Refused | Front::Other => {}
            }
            feed.stream.skip_front();
            feed.stream.take_missing();
            self.order.lose_asks();
        }
        self.refused.reset();
        feed.stream.take_missing();
        self.request.state = State::Head;
        true
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
            Some(&code) => size.min(match command::length(code) {
                command::Length::Statement => MAX_STATEMENT,
                command::Length::Name => MAX_OTHER,
                command::Length::Number => 5,
            }),
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
            None if command::is_stream(code) => {
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
                time: start.time,
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
                self.session.remember(number, later);
            }
        }
        self.request.state = State::Body(told);
    }
}

const WHOLE: Finish = Finish {
    body: 0,
    exact: true,
    whole: true,
};
