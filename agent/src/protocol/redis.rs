//! Redis and what speaks its protocol (Valkey, KeyDB, Dragonfly, proxies): RESP2 and RESP3 as in
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/>, and the commands that change how
//! a connection is read. Spans follow semantic-conventions 1.42.0, `docs/db/redis.md`.
//!
//! Each command is an exchange, whatever is asked in one go: those of a pipeline, those that MULTI
//! queues, and EXEC. What a subscriber is sent is an exchange that the server opens. Arguments are
//! passed over by their length.
//!
//! Answers come in order, and callers that share a connection ask while others wait (`pace`).
//!
//! Never true here: that a value or a key is kept; that an answer is given to a command that could
//! not be answered so.

mod answers;
mod command;
mod commands;
mod names;
mod reply;
mod sniff;

use std::sync::Arc;

use self::answers::Answering;
use self::command::{Command, Replies};
use self::names::{Shape, Topic};
use super::order::Order;
use super::pace::Pace;
use super::reader::Read;
use super::seek::{self, Refused, Seeker, Strict};
use super::told::{self, abandon};
use super::{Feed, Flow, Parser, Protocol, Setup, Status, Verdict};
use crate::config::Config;
use crate::connection::Mark;
use crate::event::Nanos;

/// The registry's entry.
pub const PROTOCOL: &dyn Protocol = &Redis;

#[derive(Debug)]
struct Redis;

impl Protocol for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn sniff(&self, bytes: &[u8]) -> Verdict {
        sniff::sniff(bytes, false)
    }

    fn sniff_amid(&self, bytes: &[u8]) -> Verdict {
        sniff::sniff(bytes, true)
    }

    fn ports(&self) -> &'static [u16] {
        &[6379]
    }

    fn parser(&self, setup: Setup) -> Box<dyn Parser> {
        Box::new(Dialogue {
            config: setup.config,
            asking: Asking::Start,
            answering: Answering::Start,
            order: Order::default(),
            session: Session::default(),
            pace: Pace::default(),
            confirmed: (0, 0),
            understood: false,
            understood_answers: false,
            refused: Refused::default(),
            ended: None,
        })
    }
}

/// What reading an answer needs to know of its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    what: What,
    shape: Shape,
    /// When its last byte that was looked at was moved: no answer to it is older.
    time: Nanos,
}

/// What a command changes once it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Nothing,
    /// The database, by its index.
    Select(Option<u32>),
    /// Everything.
    Reset,
    Multi,
    /// Whether a SELECT was among what it executes.
    Exec(bool),
    /// So many confirmations come; `None` where that depends on what was subscribed to.
    Topic(Topic, Option<u32>),
    Ping,
    /// The rest of the connection is a replica's.
    Sync,
}

/// One connection.
#[derive(Debug)]
struct Dialogue {
    config: Arc<Config>,
    asking: Asking,
    answering: Answering,
    order: Order<Asked>,
    session: Session,
    pace: Pace,
    /// Confirmations that have come of the command that waits first, and how many will.
    confirmed: (u64, u64),
    /// Whether a command was read to its end, and an answer to one.
    understood: bool,
    understood_answers: bool,
    refused: Refused,
    /// What becomes of the connection, once that is decided.
    ended: Option<Status>,
}

/// Where the commands are.
#[derive(Debug)]
enum Asking {
    /// Nothing was read yet.
    Start,
    /// Passes over everything until a turn begins like a command.
    Seek,
    /// Between two commands.
    Fresh,
    Within(Command),
    /// Nothing more is read.
    Done,
}

/// What a connection remembers of what was said on it.
#[derive(Debug, Default)]
struct Session {
    /// The database's index, where it is known.
    namespace: Option<u32>,
    /// Commands that wait for an answer which may change that.
    changing: u32,
    /// Commands queued since MULTI and whether a SELECT is among them; `None` outside.
    queued: Option<(usize, bool)>,
    /// Whether MULTI or SUBSCRIBE may have been missed.
    unsure: bool,
    replies: Replies,
    /// Channels, patterns and shard channels that are subscribed to.
    topics: Topics,
    /// Whether that was confirmed since anything was missed.
    topics_known: bool,
}

/// How many are subscribed to.
#[derive(Clone, Copy, Debug, Default)]
struct Topics {
    channels: u64,
    patterns: u64,
    shards: u64,
}

impl Topics {
    fn any(&self) -> bool {
        self.channels | self.patterns | self.shards != 0
    }

    /// How many of this kind.
    fn of(&mut self, topic: Topic) -> &mut u64 {
        match topic {
            Topic::Subscribe | Topic::Unsubscribe => &mut self.channels,
            Topic::PSubscribe | Topic::PUnsubscribe => &mut self.patterns,
            Topic::SSubscribe | Topic::SUnsubscribe => &mut self.shards,
        }
    }

    /// A confirmation says that there are so many now: of shard channels, or of all others.
    fn confirmed(&mut self, topic: Topic, now: u64) {
        let others = match topic {
            Topic::Subscribe | Topic::Unsubscribe => self.patterns,
            Topic::PSubscribe | Topic::PUnsubscribe => self.channels,
            Topic::SSubscribe | Topic::SUnsubscribe => 0,
        };
        *self.of(topic) = now.saturating_sub(others);
        if now < others {
            // What was missed went too.
            (self.channels, self.patterns) = (0, 0);
            *self.of(topic) = now;
        }
    }
}

impl Parser for Dialogue {
    fn parse(&mut self, flow: Flow, feed: &mut Feed<'_>) -> Status {
        loop {
            if let Some(ended) = self.ended {
                return ended;
            }
            let goes_on = match flow {
                Flow::Request => self.ask(feed),
                Flow::Response => self.answer_one(feed),
            };
            if !goes_on {
                return self.ended.unwrap_or(Status::Stay);
            }
        }
    }

    fn missed(&mut self, flow: Flow, feed: &mut Feed<'_>) {
        if flow == Flow::Request {
            let at = feed.stream.mark(0);
            self.unsettle(flow, at, feed);
        }
    }

    fn close(&mut self, flow: Flow, clean: bool, feed: &mut Feed<'_>) {
        match flow {
            Flow::Request => {
                if let Asking::Within(command) = &self.asking
                    && let Some(number) = command.told.number()
                {
                    finish(Flow::Request, number, (true, false), feed);
                }
                self.asking = Asking::Done;
            }
            Flow::Response => self.close_answers(clean, feed),
        }
    }

    fn quiet(&mut self, flow: Flow, feed: &mut Feed<'_>) {
        if flow == Flow::Response {
            self.end_doubtful(feed);
            self.answered_unseen(feed);
        }
    }

    fn weight(&self) -> usize {
        let command = match &self.asking {
            Asking::Within(command) => command.weight(),
            _ => 0,
        };
        self.order.weight().saturating_add(command)
    }
}

impl Dialogue {
    /// What waits may be off by some: nothing is given to it.
    fn disown(&mut self, at: Mark, feed: &mut Feed<'_>) {
        feed.stats.protocol_resynced.add(1);
        self.pace.unasked();
        self.session.forget_changes();
        self.session.unsure = true;
        self.confirmed = (0, 0);
        self.order.give_up(|number| abandon(number, at, feed));
        self.order.lose_asks();
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
        seek::is_of(flow, sniff::begins(bytes, flow))
    }

    /// Who waits for which answer is not known any more.
    fn unsettle(&mut self, flow: Flow, at: Mark, feed: &mut Feed<'_>) {
        self.pace.lost();
        self.session.unsure = true;
        self.session.topics_known = false;
        match flow {
            Flow::Request => {
                self.order.lose_asks();
                self.session.forget();
            }
            Flow::Response => {
                let under_way = self.answering.number();
                let abandon = |number| abandon(number, at, feed);
                self.pace.lose_answers(&mut self.order, under_way, abandon);
                self.session.forget_changes();
            }
        }
    }

    fn set_out(&mut self, flow: Flow, feed: &mut Feed<'_>) {
        match flow {
            Flow::Request => self.asking = Asking::Seek,
            Flow::Response => self.lose_answer(feed),
        }
    }
}

impl Strict for Dialogue {
    fn is_understood(&self) -> bool {
        self.understood
    }
}

impl Session {
    /// Commands may have been missed.
    fn forget(&mut self) {
        self.forget_changes();
        self.namespace = None;
        self.queued = None;
        self.unsure = true;
        self.replies = Replies::On;
    }

    /// Answers that change it may have been missed.
    fn forget_changes(&mut self) {
        if std::mem::take(&mut self.changing) > 0 {
            self.namespace = None;
        }
    }

    /// Whether what looks like a message may be one, and not the answer to `first`.
    fn may_be_subscribed(&self, first: Option<What>) -> bool {
        let may = matches!(first, None | Some(What::Ping));
        matches!(first, Some(What::Topic(..))) || self.topics.any() || self.unsure && may
    }
}

/// It is over with the last byte that was passed. (exact, whole)
fn finish(flow: Flow, number: u64, how: (bool, bool), feed: &mut Feed<'_>) {
    let at = feed.stream.last();
    told::finish(flow, number, at, how, feed);
}

#[cfg(test)]
mod tests;
