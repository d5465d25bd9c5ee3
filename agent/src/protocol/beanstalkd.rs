//! Beanstalkd's work queue: lines that end in CR LF, some with a job's body behind them, whose length
//! they say (its `doc/protocol.txt`, 1.13). Spans follow semantic-conventions 1.42.0,
//! `docs/messaging/messaging-spans.md`.
//!
//! Answers come in order. A `reserve` waits for a job as long as it likes, so that silence says nothing
//! about who waits. Jobs go to the tube that was chosen before, and come from the tubes that are watched:
//! what chooses them is no exchange, and after a hole they are not known, the one in use until the next
//! choice.
//!
//! Never true here: that a body is kept; that a tube is named that may be another; that an answer is given
//! to a command that is not answered so.

mod line;
mod say;

use self::line::{Command, ERRORS, Fields, MAX_LINE, Place, What, sniff};
use self::say::{request, response};
use super::order::Order;
use super::pace::Pace;
use super::reader::Read;
use super::seek::{self, Refused, Seeker, Strict};
use super::told::{abandon, faults, finish, message};
use super::{Fault, Feed, Flow, Parser, Part, Protocol, Response, Setup, Status, Verdict};
use crate::connection::Mark;
use crate::event::Nanos;

/// The registry's entry.
pub const PROTOCOL: &dyn Protocol = &Beanstalkd;

/// Tubes remembered of those that are watched.
const MAX_WATCHED: usize = 16;

#[derive(Debug)]
struct Beanstalkd;

impl Protocol for Beanstalkd {
    fn name(&self) -> &'static str {
        "beanstalkd"
    }

    fn sniff(&self, bytes: &[u8]) -> Verdict {
        sniff(bytes)
    }

    /// memcached deletes what has a number for its key by the same words.
    fn sniff_amid(&self, bytes: &[u8]) -> Verdict {
        match sniff(bytes) {
            Verdict::Likely(Flow::Request) if bytes.starts_with(b"delete ") => Verdict::Not,
            verdict => verdict,
        }
    }

    fn ports(&self) -> &'static [u16] {
        &[11300]
    }

    fn parser(&self, setup: Setup) -> Box<dyn Parser> {
        Box::new(Dialogue {
            asking: State::Start,
            answering: State::Start,
            order: Order::default(),
            pace: Pace::default(),
            counted: setup.counted,
            used: None,
            watched: Vec::new(),
            all: false,
            begun: 0,
            understood: false,
            refused: Refused::default(),
            ended: None,
        })
    }
}

/// One connection.
#[derive(Debug)]
struct Dialogue {
    asking: State,
    answering: State,
    order: Order<Asked>,
    pace: Pace,
    /// Whether the first byte of all is known.
    counted: bool,
    /// The tube that jobs are put into, where it is known.
    used: Option<Box<str>>,
    /// Tubes that jobs are taken from.
    watched: Vec<Box<str>>,
    /// Whether they are all there are.
    all: bool,
    /// When the first command was read, if others came before it: what is older answers those.
    begun: Nanos,
    /// Whether an answer was read to what no other protocol asks.
    understood: bool,
    refused: Refused,
    /// What becomes of the connection, once that is decided.
    ended: Option<Status>,
}

/// Where one flow is.
#[derive(Clone, Copy, Debug)]
enum State {
    /// Nothing was read yet.
    Start,
    /// Passes over everything until a turn begins like a message.
    Seek,
    /// Between two messages.
    Fresh,
    /// In what follows a line, of the exchange with this number if it is one.
    Body(Option<u64>),
    /// Nothing more is read.
    Done,
}

/// What reading an answer needs to know of its command.
#[derive(Clone, Copy, Debug)]
struct Asked {
    command: &'static Command,
    /// The last byte of its line: no answer to it is older.
    end: Mark,
}

impl Parser for Dialogue {
    fn parse(&mut self, flow: Flow, feed: &mut Feed<'_>) -> Status {
        while self.ended.is_none() && self.step(flow, feed) {}
        self.ended.unwrap_or(Status::Stay)
    }

    fn missed(&mut self, flow: Flow, feed: &mut Feed<'_>) {
        if flow == Flow::Request {
            let at = feed.stream.mark(0);
            self.unsettle(flow, at, feed);
        }
    }

    fn close(&mut self, flow: Flow, _clean: bool, feed: &mut Feed<'_>) {
        let at = feed.stream.last();
        if let State::Body(Some(number)) = *self.state(flow) {
            finish(flow, number, at, (true, false), feed);
        }
        if flow == Flow::Response {
            self.answered_unseen(feed);
        }
        *self.state(flow) = State::Done;
    }

    fn quiet(&mut self, flow: Flow, feed: &mut Feed<'_>) {
        if flow == Flow::Response {
            self.answered_unseen(feed);
        }
    }

    fn weight(&self) -> usize {
        self.order.weight()
    }
}

impl Dialogue {
    fn state(&mut self, flow: Flow) -> &mut State {
        match flow {
            Flow::Request => &mut self.asking,
            Flow::Response => &mut self.answering,
        }
    }

    /// Goes on by one state; false when more bytes are needed.
    fn step(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        match *self.state(flow) {
            State::Start => {
                self.start(flow, feed);
                true
            }
            State::Seek => {
                let found = self.seek(flow, feed);
                if found {
                    *self.state(flow) = State::Fresh;
                }
                found
            }
            State::Fresh => self.line(flow, feed),
            State::Body(number) => self.body(flow, number, feed),
            State::Done => {
                feed.stream.skip_all();
                false
            }
        }
    }

    fn start(&mut self, flow: Flow, feed: &mut Feed<'_>) {
        *self.state(flow) = State::Fresh;
        match (flow, feed.stream.position()) {
            (Flow::Request, 0) if self.counted => {
                self.used = Some("default".into());
                self.watched = vec!["default".into()];
                self.all = true;
            }
            (_, 0) => {}
            // Others may be waiting, or have had their answers.
            (_, _) => {
                let at = feed.stream.mark(0);
                self.unsettle(flow, at, feed);
                match flow {
                    Flow::Request => self.begun = at.time,
                    Flow::Response => self.answering = State::Seek,
                }
            }
        }
    }

    /// Reads a line once it is whole.
    fn line(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        let window = feed.stream.window();
        let Some(line) = line::whole(window) else {
            return match window.len() < MAX_LINE {
                true => self.more(flow, feed),
                false => self.malformed(flow, feed),
            };
        };
        let length = line.len().saturating_add(2);
        let goes_on = match flow {
            Flow::Request => line::command(line)
                .map(|(command, fields)| self.asked(command, fields, length, feed)),
            Flow::Response => {
                line::answer(line).map(|(word, fields)| self.answered(word, &fields, length, feed))
            }
        };
        goes_on.is_some() || self.malformed(flow, feed)
    }

    /// A command begins, whose line is so long.
    fn asked(
        &mut self,
        command: &'static Command,
        mut fields: Fields,
        length: usize,
        feed: &mut Feed<'_>,
    ) {
        let turn = feed.stream.front().is_some_and(|front| front.turn);
        let start = feed.stream.mark(0);
        let end = feed.stream.mark(length.saturating_sub(1));
        let waits = turn && self.order.asked().next().is_some() && !self.order.is_lost();
        self.pace.asked(turn, waits);
        // Silence is no sign that nobody waits: no time is given.
        let between = !matches!(self.answering, State::Body(_));
        if turn && self.pace.is_sure(0) && between {
            self.order.settle(|number| abandon(number, start, feed));
        }
        skip(fields.size, length, feed);
        self.asking = State::Body(None);
        if command.what == What::Leave {
            return;
        }
        let number = self.order.ask(Asked { command, end }, turn);
        if command.what.chooses() {
            self.choose(command.what, fields.tube);
            return;
        }
        let Some(number) = number else {
            feed.stats.exchange_too_deep.add(1);
            return;
        };
        let (place, known) = self.place(command, fields.tube.take());
        let part = Part::Request(Box::new(request(command, &fields, place)), end);
        feed.out.push(message(Flow::Request, number, start, part));
        if !known {
            let part = Part::Fault(Fault::Partial);
            feed.out.push(message(Flow::Request, number, start, part));
        }
        if command.what == What::Reserve {
            feed.out
                .push(message(Flow::Request, number, start, Part::Poll));
        }
        self.asking = State::Body(Some(number));
    }

    /// The tube that a command is about, if it is one; false where that is not known.
    fn place(&self, command: &Command, said: Option<Box<str>>) -> (Option<Box<str>>, bool) {
        match command.place {
            Place::None => (None, true),
            Place::Said => (said, true),
            Place::Used => (self.used.clone(), self.used.is_some()),
            Place::Watched => match self.watched.as_slice() {
                [only] if self.all => (Some(only.clone()), true),
                _ => (None, self.all),
            },
        }
    }

    /// A tube is chosen from here on.
    fn choose(&mut self, what: What, tube: Option<Box<str>>) {
        let Some(tube) = tube else {
            return;
        };
        match what {
            What::Use => self.used = Some(tube),
            What::Watch if self.watched.contains(&tube) => {}
            What::Watch if self.watched.len() < MAX_WATCHED => self.watched.push(tube),
            What::Watch => self.all = false,
            // The last one stays.
            _ if self.all && self.watched.len() < 2 => {}
            _ => self.watched.retain(|other| *other != tube),
        }
    }

    /// An answer begins, whose line is so long.
    fn answered(
        &mut self,
        word: &'static str,
        fields: &Fields,
        length: usize,
        feed: &mut Feed<'_>,
    ) {
        let turn = feed.stream.front().is_some_and(|front| front.turn);
        let begin = feed.stream.mark(0);
        self.pace.answered();
        if turn && !self.pace.is_shared() {
            self.order.resume();
        }
        skip(fields.size, length, feed);
        self.answering = State::Body(None);
        let first = self
            .order
            .first()
            .filter(|(_, asked)| begin.time >= asked.end.time && asked.command.is_answered(word));
        let Some((number, Asked { command, .. })) = first else {
            self.unasked(begin, feed);
            return;
        };
        self.order.answered(number);
        self.understood |= command.name != "delete";
        if command.what.chooses() {
            self.chosen(command, word, fields.count);
            return;
        }
        if word == "TIMED_OUT" {
            feed.out
                .push(message(Flow::Response, number, begin, Part::Dismiss));
            return;
        }
        let part = Part::Response(Box::new(response(command, word, fields)));
        feed.out.push(message(Flow::Response, number, begin, part));
        self.answering = State::Body(Some(number));
    }

    /// What was chosen is so, or is not. How many tubes are watched tells whether all are known.
    fn chosen(&mut self, command: &Command, word: &str, count: Option<u32>) {
        let latest = !self.order.is_lost() && self.order.asked().next().is_none();
        match (command.what, count) {
            (What::Use, _) if ERRORS.contains(&word) => self.used = None,
            (What::Use, _) => {}
            (_, Some(count)) if latest => {
                self.all = u32::try_from(self.watched.len()).is_ok_and(|known| known == count);
            }
            (_, None) if !self.all || ERRORS.contains(&word) => self.forget_watched(),
            _ => {}
        }
    }

    fn forget_watched(&mut self) {
        self.watched.clear();
        self.all = false;
    }

    /// An answer to nobody who is known.
    fn unasked(&mut self, begin: Mark, feed: &mut Feed<'_>) {
        if !self.order.is_lost() && begin.time >= self.begun {
            // What waits may be off by some: nothing is given to it.
            feed.stats.protocol_resynced.add(1);
            self.pace.unasked();
            self.order.give_up(|number| abandon(number, begin, feed));
            self.order.lose_asks();
        }
        let number = self.order.unpaired();
        self.order.answered(number);
        let part = Part::Response(Box::<Response>::default());
        feed.out.push(message(Flow::Response, number, begin, part));
    }

    /// Waits for the end of a body.
    fn body(&mut self, flow: Flow, number: Option<u64>, feed: &mut Feed<'_>) -> bool {
        if !feed.stream.reached() {
            return false;
        }
        let at = feed.stream.last();
        let missing = feed.stream.take_missing();
        self.refused.reset();
        self.pace.moved(at.time);
        if let Some(number) = number {
            for fault in faults(missing) {
                feed.out.push(message(flow, number, at, Part::Fault(fault)));
            }
            finish(flow, number, at, (true, true), feed);
        }
        *self.state(flow) = State::Fresh;
        true
    }

    /// Who waits, while answers passed unseen, had theirs among them for all that can be known.
    fn answered_unseen(&mut self, feed: &mut Feed<'_>) {
        if self.order.is_lost() && !matches!(self.answering, State::Body(_)) {
            let at = feed.stream.last();
            self.order.give_up(|number| abandon(number, at, feed));
            self.order.lose_asks();
        }
    }
}

impl Seeker for Dialogue {
    fn refused(&mut self) -> &mut Refused {
        &mut self.refused
    }

    fn end(&mut self, status: Status) {
        self.ended = Some(status);
    }

    fn begins(&self, flow: Flow, bytes: &[u8]) -> Read<()> {
        seek::is_of(flow, sniff(bytes))
    }

    /// Who waits for which answer is not known any more.
    fn unsettle(&mut self, flow: Flow, at: Mark, feed: &mut Feed<'_>) {
        self.pace.lost();
        match flow {
            Flow::Request => {
                self.used = None;
                self.forget_watched();
                self.order.lose_asks();
            }
            Flow::Response => {
                let abandon = |number| abandon(number, at, feed);
                self.pace.lose_answers(&mut self.order, None, abandon);
            }
        }
    }

    fn set_out(&mut self, flow: Flow, _: &mut Feed<'_>) {
        *self.state(flow) = State::Seek;
    }
}

impl Strict for Dialogue {
    fn is_understood(&self) -> bool {
        self.understood
    }
}

/// Passes over a line that is so long, and the body behind it.
fn skip(body: Option<u32>, line: usize, feed: &mut Feed<'_>) {
    let body = body.map_or(0, |size| u64::from(size).saturating_add(2));
    feed.stream.skip((line as u64).saturating_add(body));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Hole;
    use crate::protocol::bench::Bench;

    #[test]
    fn a_million_messages() {
        let mut bench = Bench::new(PROTOCOL);
        let asks = b"put 1 0 60 1\r\nx\r\n".repeat(500);
        let answers = b"INSERTED 1\r\n".repeat(500);
        let mut messages = 0;
        for _ in 0..500 {
            bench.ask(&asks);
            bench.answer(&answers);
            messages += bench.count(|_| true);
        }
        assert_eq!(messages, 1_000_000);
    }

    #[test]
    fn what_is_no_command_gives_the_connection_back() {
        let mut bench = Bench::new(PROTOCOL);
        bench.ask(b"delete 5\r\n");
        bench.answer(b"DELETED\r\n");
        let status = bench.send(Flow::Request, b"get key\r\n");
        assert_eq!(status, Status::Mistaken);
    }

    #[test]
    fn a_refused_choice_is_not_believed() {
        let mut bench = Bench::new(PROTOCOL);
        bench.ask(b"use mails\r\n");
        bench.answer(b"OUT_OF_MEMORY\r\n");
        bench.ask(b"put 1 0 60 1\r\nx\r\n");
        assert_eq!(bench.requests()[0].operation, "put");
        assert_eq!(bench.count(|part| *part == Part::Fault(Fault::Partial)), 1);
        bench.answer(b"INSERTED 1\r\n");
        // The last tube stays watched; of two none is said.
        bench.ask(b"ignore default\r\nreserve\r\n");
        bench.answer(b"NOT_IGNORED\r\nRESERVED 1 1\r\nx\r\n");
        assert_eq!(bench.requests()[0].operation, "reserve default");
        bench.count(|_| true);
        bench.ask(b"watch mails\r\nreserve\r\n");
        bench.answer(b"WATCHING 2\r\nRESERVED 1 1\r\nx\r\n");
        assert_eq!(bench.requests()[0].operation, "reserve");
        assert_eq!(bench.count(|part| *part == Part::Fault(Fault::Partial)), 0);
    }

    #[test]
    fn what_is_watched_is_known_by_its_number() {
        let mut bench = Bench::new(PROTOCOL);
        let status = bench.send_part(Flow::Request, b"", 5, Hole::Lost);
        assert_eq!(status, Status::Stay);
        bench.answer(b"WATCHING 1\r\n");
        bench.ask(b"watch mails\r\n");
        bench.answer(b"WATCHING 2\r\n");
        bench.ask(b"reserve\r\n");
        bench.answer(b"RESERVED 1 1\r\nx\r\n");
        assert_eq!(bench.requests()[0].operation, "reserve");
        assert_eq!(bench.count(|part| *part == Part::Fault(Fault::Partial)), 1);
        bench.ask(b"ignore default\r\n");
        bench.answer(b"WATCHING 1\r\n");
        bench.ask(b"reserve\r\n");
        assert_eq!(bench.requests()[0].operation, "reserve mails");
    }

    #[test]
    fn an_answer_that_does_not_fit_is_nobodys() {
        let mut bench = Bench::new(PROTOCOL);
        bench.ask(b"reserve\r\nput 1 0 60 1\r\nx\r\n");
        bench.answer(b"INSERTED 5\r\n");
        assert_eq!(bench.count(|part| *part == Part::Abandon), 2);
        // It may be one that several share: until they have alternated for long.
        for _ in 0..40 {
            bench.count(|_| true);
            bench.ask(b"delete 5\r\n");
            bench.answer(b"DELETED\r\n");
        }
        assert_eq!(bench.count(|part| matches!(part, Part::Finish(_))), 2);
    }

    #[test]
    fn bodies_may_be_missing() {
        let mut bench = Bench::new(PROTOCOL);
        let head = b"put 1 0 60 70000\r\nxx";
        let status = bench.send_part(Flow::Request, head, 70_000, Hole::Budget);
        assert_eq!(status, Status::Stay);
        bench.answer(b"INSERTED 5\r\n");
        assert_eq!(bench.count(|part| matches!(part, Part::Fault(_))), 0);
        bench.ask(b"reserve\r\n");
        let head = b"RESERVED 5 70000\r\n";
        let status = bench.send_part(Flow::Response, head, 70_002, Hole::Lost);
        assert_eq!(status, Status::Stay);
        let lost = |part: &Part| matches!(part, Part::Fault(Fault::Missing { bytes: 70_002, .. }));
        assert_eq!(bench.count(lost), 1);
        assert_eq!(bench.stats.protocol_cut.get(), 0);
    }

    #[test]
    fn nothing_is_said_twice() {
        let mut bench = Bench::new(PROTOCOL);
        bench.ask(b"reserve-job 9\r\n");
        bench.answer(b"RESERVED 9 1\r\nx\r\n");
        let said = |attributes: &[crate::protocol::Attribute]| {
            let keys = attributes.iter().map(|a| a.key.to_string());
            keys.collect::<Vec<_>>()
        };
        let asked = said(&bench.requests()[0].attributes);
        let answered = said(&bench.responses()[0].attributes);
        assert!(asked.iter().any(|key| key == "messaging.message.id"));
        assert_eq!(answered, ["messaging.message.body.size"]);
    }

    #[test]
    fn more_than_are_counted_get_their_answers() {
        let mut bench = Bench::new(PROTOCOL);
        bench.ask(&b"stats\r\n".repeat(3000));
        bench.answer(&b"OK 1\r\nx\r\n".repeat(3000));
        bench.count(|_| true);
        bench.ask(b"delete 5\r\n");
        bench.answer(b"DELETED\r\n");
        assert_eq!(bench.count(|part| matches!(part, Part::Finish(_))), 2);
    }
}
