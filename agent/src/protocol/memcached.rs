//! memcached: its text protocol with the meta commands, and its binary protocol; the first byte of a
//! connection says which. Spans follow semantic-conventions 1.42.0, `docs/db/database-spans.md`.
//!
//! Answers come in order. A command that asks for no answer is over with its last byte; a quiet one
//! of the binary protocol once an answer to a later one shows that it gets none. Values are passed
//! over by their length.
//!
//! Never true here: that a key or a value is kept; that an answer is given to a command that could
//! not be answered so.

mod answers;
mod binary;
mod commands;
mod text;

use std::sync::Arc;

use self::answers::Answering;
use self::commands::Asking;
use self::text::Shape;
use super::order::Order;
use super::pace::Pace;
use super::reader::Read;
use super::seek::{self, Refused, Seeker, Strict};
use super::told::abandon;
use super::{Feed, Flow, Parser, Protocol, Setup, Status, Verdict};
use crate::config::Config;
use crate::connection::Mark;

/// The registry's entry.
pub const PROTOCOL: &dyn Protocol = &Memcached;

#[derive(Debug)]
struct Memcached;

impl Protocol for Memcached {
    fn name(&self) -> &'static str {
        "memcached"
    }

    fn sniff(&self, bytes: &[u8]) -> Verdict {
        match bytes.first() {
            Some(0x80 | 0x81) => binary::sniff(bytes),
            _ => text::sniff(bytes),
        }
    }

    /// Jobs of Beanstalkd, which are numbers, are deleted by the same words.
    fn sniff_amid(&self, bytes: &[u8]) -> Verdict {
        let job = bytes.strip_prefix(b"delete ");
        match job.and_then(<[u8]>::first) {
            Some(b'0'..=b'9') => Verdict::Not,
            _ => self.sniff(bytes),
        }
    }

    fn ports(&self) -> &'static [u16] {
        &[11211]
    }

    fn parser(&self, setup: Setup) -> Box<dyn Parser> {
        Box::new(Dialogue {
            config: setup.config,
            binary: false,
            asking: Asking::Start,
            answering: Answering::Start,
            order: Order::default(),
            pace: Pace::default(),
            quiet: false,
            scanned: [0; 2],
            understood: [false; 2],
            refused: Refused::default(),
            ended: None,
        })
    }
}

/// What reading an answer needs to know of its command.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Asked {
    expects: Expects,
    /// Its last byte: no answer to it is older.
    end: Mark,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Expects {
    Text(Shape),
    /// What its answer repeats; quiet ones may have none.
    Binary {
        code: binary::Code,
        opaque: u32,
    },
}

/// One connection.
#[derive(Debug)]
struct Dialogue {
    config: Arc<Config>,
    binary: bool,
    asking: Asking,
    answering: Answering,
    order: Order<Asked>,
    pace: Pace,
    /// Whether meta commands were sent whose answers may come, and no `mn` was answered since.
    quiet: bool,
    /// Bytes of a line that were looked at in vain, by flow.
    scanned: [usize; 2],
    /// Whether a command was read, and an answer to one.
    understood: [bool; 2],
    refused: Refused,
    /// What becomes of the connection, once that is decided.
    ended: Option<Status>,
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
            Flow::Request => self.close_commands(feed),
            Flow::Response => self.close_answers(clean, feed),
        }
    }

    fn quiet(&mut self, flow: Flow, feed: &mut Feed<'_>) {
        if flow == Flow::Response {
            self.end_doubtful(true, feed);
            self.answered_unseen(feed);
            self.end_quiet(feed);
        }
    }

    fn weight(&self) -> usize {
        self.order.weight()
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
        let verdict = match self.binary {
            true => binary::sniff(bytes),
            false => text::sniff(bytes),
        };
        seek::is_of(flow, verdict)
    }

    /// Who waits for which answer is not known any more.
    fn unsettle(&mut self, flow: Flow, at: Mark, feed: &mut Feed<'_>) {
        self.pace.lost();
        self.scanned = [0; 2];
        match flow {
            Flow::Request => self.order.lose_asks(),
            Flow::Response => {
                let under_way = self.answering.number();
                let abandon = |number| abandon(number, at, feed);
                self.pace.lose_answers(&mut self.order, under_way, abandon);
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
        self.understood == [true; 2]
    }
}

impl Dialogue {
    /// What waits may be off by some: nothing is given to it.
    fn disown(&mut self, at: Mark, feed: &mut Feed<'_>) {
        feed.stats.protocol_resynced.add(1);
        self.pace.unasked();
        self.order.give_up(|number| abandon(number, at, feed));
        self.order.lose_asks();
    }

    /// The length of the line at the front, its end included; `None` while it is not whole.
    fn line(&mut self, flow: Flow, feed: &Feed<'_>) -> Option<usize> {
        let window = feed.stream.window();
        let [asked, answered] = &mut self.scanned;
        let scanned = match flow {
            Flow::Request => asked,
            Flow::Response => answered,
        };
        let rest = window.get(*scanned..).unwrap_or_default();
        match memchr::memchr(b'\n', rest) {
            Some(at) => {
                let end = scanned.saturating_add(at).saturating_add(1);
                *scanned = 0;
                Some(end)
            }
            None => {
                *scanned = window.len();
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
