//! The asking side: commands one after the other, and what they do to the connection.

use super::command::{Command, Next, Replies, Told};
use super::names::{Kind, Topic};
use super::reply::{Number, number};
use super::{Asked, Asking, Dialogue, What, finish};
use crate::connection::Mark;
use crate::protocol::seek::{Seeker as _, Strict as _};
use crate::protocol::told::{abandon, message};
use crate::protocol::{Fault, Feed, Flow, Part, Response};

/// Longest inline command, bytes.
const MAX_INLINE: usize = 4096;
/// Most words of a command; servers take no more.
const MAX_WORDS: i64 = i32::MAX as i64;

impl Dialogue {
    /// Goes on by one step; false when more bytes are needed.
    pub(super) fn ask(&mut self, feed: &mut Feed<'_>) -> bool {
        match &self.asking {
            Asking::Start => {
                if feed.stream.position() == 0 {
                    self.session.namespace = Some(0);
                } else {
                    // Others may be waiting.
                    self.order.lose_asks();
                    self.session.forget();
                }
                self.asking = Asking::Fresh;
                true
            }
            Asking::Seek => {
                let found = self.seek(Flow::Request, feed);
                if found {
                    self.asking = Asking::Fresh;
                }
                found
            }
            Asking::Fresh => self.begin(feed),
            Asking::Within(_) => self.within(feed),
            Asking::Done => {
                feed.stream.skip_all();
                false
            }
        }
    }

    /// Reads the first line of a command.
    fn begin(&mut self, feed: &mut Feed<'_>) -> bool {
        let window = feed.stream.window();
        let Some(first) = window.first() else {
            return match feed.stream.is_cut() {
                true => self.cut(Flow::Request, feed),
                false => false,
            };
        };
        match first {
            b'*' => match number(window) {
                Number::Is(count, length) if count <= MAX_WORDS => {
                    let turn = feed.stream.front().is_some_and(|front| front.turn);
                    let start = feed.stream.mark(0);
                    feed.stream.skip(length as u64);
                    // None at all is no command.
                    if let Some(count) = u32::try_from(count).ok().filter(|n| *n > 0) {
                        self.asking = Asking::Within(Command::new(count, start, turn));
                    }
                    true
                }
                Number::More => self.more(feed),
                _ => self.malformed(Flow::Request, feed),
            },
            b'\r' | b'\n' => {
                feed.stream.skip(1);
                true
            }
            b'a'..=b'z' | b'A'..=b'Z' => self.inline(feed),
            _ => self.malformed(Flow::Request, feed),
        }
    }

    /// Bytes are missing: yet, or for good.
    fn more(&mut self, feed: &mut Feed<'_>) -> bool {
        match feed.stream.is_cut() {
            true => self.cut(Flow::Request, feed),
            false => false,
        }
    }

    fn inline(&mut self, feed: &mut Feed<'_>) -> bool {
        let window = feed.stream.window();
        let Some(end) = memchr::memchr(b'\n', window) else {
            return match window.len() < MAX_INLINE {
                true => self.more(feed),
                false => self.malformed(Flow::Request, feed),
            };
        };
        let turn = feed.stream.front().is_some_and(|front| front.turn);
        let mut command = Command::new(0, feed.stream.mark(0), turn);
        let line = window.get(..end).unwrap_or_default();
        if !command.inline(line, &self.config.database) {
            return self.malformed(Flow::Request, feed);
        }
        feed.stream.skip((end as u64).saturating_add(1));
        self.tell(&mut command, feed);
        self.over(&command, feed);
        true
    }

    /// Reads on in a command.
    fn within(&mut self, feed: &mut Feed<'_>) -> bool {
        if !feed.stream.reached() {
            return false;
        }
        feed.stream.take_missing();
        let Asking::Within(command) = &mut self.asking else {
            return false;
        };
        let next = command.go(feed.stream.window(), &self.config.database);
        let passed = match next {
            Next::More(n) | Next::Done(n) => n as u64,
            Next::Over(n) => n,
            Next::Bad => return self.malformed(Flow::Request, feed),
        };
        feed.stream.skip(passed);
        if let Next::Done(_) = next {
            let Asking::Within(mut command) = std::mem::replace(&mut self.asking, Asking::Fresh)
            else {
                return false;
            };
            self.tell(&mut command, feed);
            self.over(&command, feed);
            return true;
        }
        if command.told == Told::No && command.is_ready(&self.config.database) {
            let Asking::Within(mut command) = std::mem::replace(&mut self.asking, Asking::Fresh)
            else {
                return false;
            };
            self.tell(&mut command, feed);
            self.asking = Asking::Within(command);
        }
        match next {
            Next::Over(_) => feed.stream.reached(),
            _ => self.more(feed),
        }
    }

    /// Says what is asked, unless it was said.
    fn tell(&mut self, command: &mut Command, feed: &mut Feed<'_>) {
        if command.told != Told::No {
            return;
        }
        let waits = command.turn && self.someone_waits();
        self.pace.asked(command.turn, waits);
        if command.turn {
            self.settle(command.start, feed);
        }
        let namespace = self
            .session
            .namespace
            .filter(|_| self.session.changing == 0);
        let mut unknown = namespace.is_none();
        let mut batch = None;
        if command.kind == Kind::Exec {
            batch = self.session.queued.map(|(count, _)| count);
            unknown |= batch.is_none() && self.session.unsure;
        }
        let silent = self.is_silent(command);
        let what = if silent {
            What::Nothing
        } else {
            self.what(command)
        };
        let end = feed.stream.last();
        let asked = Asked {
            what,
            shape: command.shape,
            time: end.time,
        };
        let number = match silent {
            true => Some(self.order.unpaired()),
            false => self.order.ask(asked, command.turn),
        };
        let Some(number) = number else {
            feed.stats.exchange_too_deep.add(1);
            self.pace.share();
            command.told = Told::Unasked;
            return;
        };
        command.told = match silent {
            true => Told::Silent(number),
            false => Told::Asked(number),
        };
        let request = command.request(namespace, batch, &self.config.database);
        let part = Part::Request(Box::new(request), end);
        feed.out
            .push(message(Flow::Request, number, command.start, part));
        if unknown {
            feed.stats.protocol_partial.add(1);
            let part = Part::Fault(Fault::Partial);
            feed.out
                .push(message(Flow::Request, number, command.start, part));
        }
    }

    /// Whether a command surely waits for its answer.
    fn someone_waits(&self) -> bool {
        self.order.asked().next().is_some() && !self.order.is_lost()
    }

    /// Its last byte has passed.
    fn over(&mut self, command: &Command, feed: &mut Feed<'_>) {
        self.understood = true;
        self.refused.reset();
        self.pace.moved(feed.stream.last().time);
        if let Some(number) = command.told.number() {
            finish(Flow::Request, number, (true, true), feed);
        }
        if let Told::Silent(number) = command.told {
            let part = Part::Response(Box::<Response>::default());
            let at = feed.stream.last();
            feed.out.push(message(Flow::Response, number, at, part));
            finish(Flow::Response, number, (true, true), feed);
        }
    }

    /// A command begins a turn: where it is sure that nobody waits any more, order pairs again.
    fn settle(&mut self, start: Mark, feed: &mut Feed<'_>) {
        if !self.pace.is_sure(start.time) {
            return;
        }
        self.end_doubtful(feed);
        if self.answering.is_between() && self.order.is_lost() {
            self.confirmed = (0, 0);
            self.session.forget_changes();
            self.order.start_anew(|number| abandon(number, start, feed));
        }
    }

    /// Whether this command has no answer, as CLIENT REPLY asked for.
    fn is_silent(&mut self, command: &Command) -> bool {
        if self.session.queued.is_some() {
            return false;
        }
        if let Some(replies) = command.replies() {
            self.session.replies = replies;
            return replies != Replies::On;
        }
        match self.session.replies {
            Replies::On => false,
            Replies::Off => true,
            Replies::Skip => {
                self.session.replies = Replies::On;
                true
            }
        }
    }

    /// What a command changes once it is answered.
    fn what(&mut self, command: &Command) -> What {
        let session = &mut self.session;
        let ends = matches!(command.kind, Kind::Exec | Kind::Discard | Kind::Reset);
        if let Some((count, selects)) = &mut session.queued
            && !ends
        {
            *count = count.saturating_add(1);
            *selects |= command.kind == Kind::Select;
            return What::Nothing;
        }
        let queued = session.queued.take();
        let what = match command.kind {
            Kind::Select => What::Select(command.index()),
            Kind::Reset => What::Reset,
            Kind::Multi => {
                session.queued = Some((0, false));
                What::Multi
            }
            // What an unseen MULTI holds may be anything.
            Kind::Exec => What::Exec(queued.is_some_and(|(_, selects)| selects)),
            Kind::Subscribe(topic) => What::Topic(topic, count(topic, command.arguments())),
            Kind::Ping => What::Ping,
            Kind::Sync => What::Sync,
            _ => What::Nothing,
        };
        if matches!(what, What::Select(_) | What::Reset | What::Exec(true)) {
            session.changing = session.changing.saturating_add(1);
        }
        what
    }
}

/// How many confirmations come: one for each argument; without any, one for each that is known.
fn count(topic: Topic, arguments: u32) -> Option<u32> {
    let all = matches!(
        topic,
        Topic::Unsubscribe | Topic::PUnsubscribe | Topic::SUnsubscribe
    );
    (arguments > 0 || !all).then_some(arguments)
}
