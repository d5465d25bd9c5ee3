//! The answering side: replies in the order of the commands, and what is sent without being asked
//! for.

use std::borrow::Cow;

use super::names::{Shape, Topic};
use super::reply::{self, Head, Next, Number, Push, Simple, Walk};
use super::{Dialogue, What, finish};
use crate::connection::Mark;
use crate::protocol::database::Outcome;
use crate::protocol::messaging::{Operation, Transfer};
use crate::protocol::seek::{Seeker as _, Strict as _};
use crate::protocol::template;
use crate::protocol::told::{abandon, message};
use crate::protocol::{Feed, Finish, Flow, PUSHED, Part, Response, Status};

/// Where the answers are.
#[derive(Debug)]
pub(super) enum Answering {
    /// Nothing was read yet.
    Start,
    /// Passes over everything until a turn begins like a reply.
    Seek,
    /// The same; the reply to this one went on unseen until the mark at least.
    Doubtful(u64, Mark),
    /// Between two replies.
    Fresh,
    /// In the attributes of a reply, whose first byte that was, and whether it began a turn.
    Attributes(Begin, Walk),
    /// Behind them.
    Behind(Begin),
    Within(Under, Walk),
    /// Nothing more is read.
    Done,
}

/// A reply's first byte, and whether it began a turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begin {
    at: Mark,
    turn: bool,
}

/// What is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Under {
    /// The answer to this one.
    Answer(u64),
    /// One confirmation of several, and whether it is the last.
    Confirmation(u64, bool),
    /// A message to a subscriber.
    Message(u64),
    /// Nothing that is told.
    Extra,
}

impl Answering {
    /// The command whose answer is under way.
    pub(super) fn number(&self) -> Option<u64> {
        match self {
            Self::Within(Under::Answer(number) | Under::Confirmation(number, _), _)
            | Self::Doubtful(number, _) => Some(*number),
            _ => None,
        }
    }

    /// Whether no reply is under way.
    pub(super) fn is_between(&self) -> bool {
        matches!(self, Self::Start | Self::Seek | Self::Fresh)
    }
}

impl Dialogue {
    /// Goes on by one step; false when more bytes are needed.
    pub(super) fn answer_one(&mut self, feed: &mut Feed<'_>) -> bool {
        match &mut self.answering {
            Answering::Start => {
                self.answering = Answering::Fresh;
                if feed.stream.position() != 0 {
                    // Answers went by before anything was known.
                    let at = feed.stream.mark(0);
                    self.unsettle(Flow::Response, at, feed);
                    self.answering = Answering::Seek;
                }
                true
            }
            Answering::Seek | Answering::Doubtful(..) => {
                let found = self.seek(Flow::Response, feed);
                if let Answering::Doubtful(_, last) = &mut self.answering {
                    *last = feed.stream.last();
                }
                if found {
                    self.end_doubtful(feed);
                    self.answering = Answering::Fresh;
                }
                found
            }
            Answering::Fresh => {
                let turn = feed.stream.front().is_some_and(|front| front.turn);
                let at = feed.stream.mark(0);
                self.begin_reply(Begin { at, turn }, feed)
            }
            Answering::Behind(begin) => {
                let begin = *begin;
                self.begin_reply(begin, feed)
            }
            Answering::Attributes(..) | Answering::Within(..) => self.walk(feed),
            Answering::Done => {
                feed.stream.skip_all();
                false
            }
        }
    }

    /// Judges a reply by its first bytes.
    fn begin_reply(&mut self, begin: Begin, feed: &mut Feed<'_>) -> bool {
        let first = self.order.first();
        let first = first.map(|(_, asked)| asked.what);
        let is_what = |what| first == Some(what);
        let subscribed = self.session.may_be_subscribed(first);
        let window = feed.stream.window();
        if window.first() == Some(&b'\n') && is_what(What::Sync) {
            // Sent while a copy is being made.
            feed.stream.skip(1);
            return true;
        }
        let is_push = window.first() == Some(&b'>');
        let under = match reply::head(window, subscribed) {
            Head::More => {
                return match feed.stream.is_cut() {
                    true => self.cut(Flow::Response, feed),
                    false => false,
                };
            }
            Head::Bad => return self.malformed(Flow::Response, feed),
            Head::Attributes => {
                if let Number::Is(count, length) = reply::number(window) {
                    let values = count.unsigned_abs().saturating_mul(2);
                    feed.stream.skip(length as u64);
                    self.answering = Answering::Attributes(begin, Walk::new(values));
                    return true;
                }
                return self.malformed(Flow::Response, feed);
            }
            Head::Push(Push::Message(channel)) => {
                let sure = is_push || self.session.topics.any() && self.session.topics_known;
                match sure {
                    true => {
                        let channel = channel.and_then(name);
                        self.deliver(channel, begin, feed)
                    }
                    false => Under::Extra,
                }
            }
            Head::Push(Push::Confirmed(topic, now)) => self.confirm(topic, now, begin, feed),
            Head::Push(Push::Other) | Head::Simple(Simple::Watched) => Under::Extra,
            head => {
                let outcome = Outcome {
                    status_code: match &head {
                        Head::Error(code) => code.clone(),
                        _ => None,
                    },
                    is_error: matches!(head, Head::Error(_)),
                    rows: None,
                };
                let kind = Answer::of(&head);
                self.reply(kind, outcome, begin, feed)
            }
        };
        if self.ended.is_some() {
            return false;
        }
        self.answering = Answering::Within(under, Walk::new(1));
        true
    }

    /// A reply to a command.
    fn reply(
        &mut self,
        kind: Answer,
        outcome: Outcome,
        begin: Begin,
        feed: &mut Feed<'_>,
    ) -> Under {
        self.pace.answered();
        if begin.turn && !self.pace.is_shared() {
            self.order.resume();
        }
        let first = self.order.first();
        let fitting = first.filter(|(_, asked)| begin.at.time >= asked.time);
        let fitting = fitting.filter(|(_, asked)| kind.fits(asked.shape));
        let Some((number, asked)) = fitting else {
            // Nobody can have asked for it, if all is as it seems.
            if self.understood_answers && !self.order.is_lost() {
                self.disown(begin.at, feed);
            }
            let part = Part::Response(Box::<Response>::default());
            let number = self.order.unpaired();
            feed.out
                .push(message(Flow::Response, number, begin.at, part));
            return Under::Extra;
        };
        let part = Part::Response(Box::new(outcome.response(Vec::new())));
        feed.out
            .push(message(Flow::Response, number, begin.at, part));
        self.changed(asked.what, kind);
        if asked.what == What::Sync && kind != Answer::Error {
            feed.stats.protocol_upgraded.add(1);
            feed.out
                .push(message(Flow::Response, number, begin.at, Part::Upgrade));
            self.ended = Some(Status::Leave);
        }
        Under::Answer(number)
    }

    /// What an answer changes.
    fn changed(&mut self, what: What, kind: Answer) {
        let session = &mut self.session;
        match what {
            What::Select(index) => {
                session.changing = session.changing.saturating_sub(1);
                if kind == Answer::Ok {
                    session.namespace = index;
                }
            }
            What::Reset => {
                session.changing = session.changing.saturating_sub(1);
                if kind == Answer::Reset {
                    session.namespace = Some(0);
                    session.topics = Default::default();
                }
            }
            What::Multi if kind == Answer::Error => {
                session.queued = None;
                session.unsure = true;
            }
            What::Exec(true) => {
                session.changing = session.changing.saturating_sub(1);
                if kind != Answer::Error {
                    session.namespace = None;
                }
            }
            What::Exec(false) | What::Nothing | What::Multi | What::Ping | What::Sync => {}
            // Refused, or queued.
            What::Topic(..) => self.confirmed = (0, 0),
        }
    }

    /// A confirmation: of the command that waits first, or one more of another.
    fn confirm(
        &mut self,
        topic: Topic,
        now: Option<u64>,
        begin: Begin,
        feed: &mut Feed<'_>,
    ) -> Under {
        let known = *self.session.topics.of(topic);
        if let Some(now) = now {
            self.session.topics.confirmed(topic, now);
            self.session.topics_known = true;
        }
        let first = self.order.first();
        let Some((number, What::Topic(asked, count))) = first.map(|(n, asked)| (n, asked.what))
        else {
            return Under::Extra;
        };
        if asked != topic {
            return Under::Extra;
        }
        if self.confirmed.0 == 0 {
            self.pace.answered();
            self.confirmed.1 = count.map_or(known.max(1), u64::from);
            let part = Part::Response(Box::<Response>::default());
            feed.out
                .push(message(Flow::Response, number, begin.at, part));
        }
        self.confirmed.0 = self.confirmed.0.saturating_add(1);
        let last = self.confirmed.0 >= self.confirmed.1;
        if last {
            self.confirmed = (0, 0);
        }
        Under::Confirmation(number, last)
    }

    /// A message for a subscriber: the server's own exchange, which nobody answers.
    fn deliver(&mut self, channel: Option<String>, begin: Begin, feed: &mut Feed<'_>) -> Under {
        // A pattern is one name for many.
        let name = channel.as_deref().filter(|name| !name.contains('*'));
        let template = name.and_then(|name| template::of(name, ':'));
        let transfer = Transfer {
            system: "redis",
            name: "message",
            operation: Operation::Process,
            destination: channel.map(Cow::Owned),
            count: None,
            carrier: None,
            messages: Vec::new(),
        };
        let mut request = Box::new(transfer.request("redis", Vec::new()));
        template::apply(&mut request, "message", template);
        let number = self.order.unpaired() | PUSHED;
        let part = Part::Request(request, begin.at);
        feed.out
            .push(message(Flow::Response, number, begin.at, part));
        Under::Message(number)
    }

    /// Reads on in a reply or its attributes.
    fn walk(&mut self, feed: &mut Feed<'_>) -> bool {
        if !feed.stream.reached() {
            return false;
        }
        feed.stream.take_missing();
        let (Answering::Attributes(_, walk) | Answering::Within(_, walk)) = &mut self.answering
        else {
            return false;
        };
        match walk.go(feed.stream.window()) {
            Next::Bad => self.malformed(Flow::Response, feed),
            Next::More(n) => {
                feed.stream.skip(n as u64);
                match feed.stream.is_cut() {
                    true => self.cut(Flow::Response, feed),
                    false => false,
                }
            }
            Next::Over(n) => {
                feed.stream.skip(n);
                feed.stream.reached()
            }
            Next::Done(n) => {
                feed.stream.skip(n as u64);
                match std::mem::replace(&mut self.answering, Answering::Fresh) {
                    Answering::Attributes(begin, _) => self.answering = Answering::Behind(begin),
                    Answering::Within(under, _) => self.replied(under, feed),
                    _ => {}
                }
                true
            }
        }
    }

    /// The last byte of a reply has passed.
    fn replied(&mut self, under: Under, feed: &mut Feed<'_>) {
        self.refused.reset();
        self.pace.moved(feed.stream.last().time);
        match under {
            Under::Answer(number) | Under::Confirmation(number, true) => {
                self.understood_answers = true;
                finish(Flow::Response, number, (true, true), feed);
                self.order.answered(number);
            }
            Under::Message(number) => {
                let at = feed.stream.last();
                finish(Flow::Response, number, (true, true), feed);
                let part = Part::Response(Box::<Response>::default());
                feed.out.push(message(Flow::Request, number, at, part));
                finish(Flow::Request, number, (true, true), feed);
            }
            Under::Confirmation(_, false) | Under::Extra => {}
        }
    }

    /// The rest of the reply under way is missing.
    pub(super) fn lose_answer(&mut self, feed: &mut Feed<'_>) {
        let last = feed.stream.last();
        let waits = |number| self.order.asked().any(|waiting| waiting == number);
        self.answering = match std::mem::replace(&mut self.answering, Answering::Seek) {
            Answering::Within(Under::Answer(number) | Under::Confirmation(number, _), _)
            | Answering::Doubtful(number, _)
                if waits(number) =>
            {
                Answering::Doubtful(number, last)
            }
            Answering::Within(Under::Message(number), _) => {
                abandon(number, last, feed);
                Answering::Seek
            }
            _ => Answering::Seek,
        };
        self.confirmed = (0, 0);
    }

    /// A reply that went on unseen is over by now.
    pub(super) fn end_doubtful(&mut self, feed: &mut Feed<'_>) {
        self.end_doubtful_so(true, feed);
    }

    fn end_doubtful_so(&mut self, whole: bool, feed: &mut Feed<'_>) {
        if let Answering::Doubtful(number, at) = self.answering {
            let finish = Finish {
                body: 0,
                exact: false,
                whole,
            };
            feed.out
                .push(message(Flow::Response, number, at, Part::Finish(finish)));
            self.order.answered(number);
            self.answering = Answering::Seek;
        }
    }

    /// Who waits, while answers passed unseen, had theirs among them for all that can be known.
    pub(super) fn answered_unseen(&mut self, feed: &mut Feed<'_>) {
        if self.order.is_lost() && self.answering.is_between() {
            let at = feed.stream.last();
            self.session.forget_changes();
            self.order.give_up(|number| abandon(number, at, feed));
            self.order.lose_asks();
        }
    }

    /// No more replies come.
    pub(super) fn close_answers(&mut self, clean: bool, feed: &mut Feed<'_>) {
        self.end_doubtful_so(clean, feed);
        self.answered_unseen(feed);
        if let Some(number) = self.answering.number() {
            finish(Flow::Response, number, (true, false), feed);
        }
        self.answering = Answering::Done;
    }
}

/// What matters of a reply to the command that it may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Error,
    Ok,
    Reset,
    Queued,
    Simple,
    Bulk,
    Number,
    Several,
    Any,
}

impl Answer {
    fn of(head: &Head<'_>) -> Self {
        match head {
            Head::Error(_) => Self::Error,
            Head::Simple(Simple::Ok) => Self::Ok,
            Head::Simple(Simple::Reset) => Self::Reset,
            Head::Simple(Simple::Queued) => Self::Queued,
            Head::Simple(_) => Self::Simple,
            Head::Bulk => Self::Bulk,
            Head::Number => Self::Number,
            Head::Several => Self::Several,
            _ => Self::Any,
        }
    }

    /// Whether a command that is answered so may have this answer.
    fn fits(self, shape: Shape) -> bool {
        match shape {
            Shape::Free => true,
            Shape::Simple => matches!(self, Self::Ok | Self::Reset | Self::Simple),
            Shape::Bulk => self == Self::Bulk,
            Shape::Number => self == Self::Number,
            // An array that is none is a null.
            Shape::Several => matches!(self, Self::Several | Self::Bulk),
        }
        .max(matches!(self, Self::Error | Self::Queued | Self::Any))
    }
}

/// A channel as it may be told: without the key, of those that tell what became of one.
fn name(channel: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(channel).ok()?;
    if text.starts_with(KEYSPACE) && text.contains('@') {
        return Some(KEYSPACE.to_owned());
    }
    let fits = !text.is_empty() && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
}

/// What channels of keyspace notifications begin with (<https://redis.io/docs/latest/develop/pubsub/keyspace-notifications/>).
const KEYSPACE: &str = "__keyspace";
