//! The asking side: commands one after the other.

use std::borrow::Cow;

use super::text::{self, Shape};
use super::{Asked, Dialogue, Expects, binary};
use crate::config::{Database, QueryText};
use crate::connection::Mark;
use crate::protocol::database::Query;
use crate::protocol::seek::{Seeker as _, Strict as _};
use crate::protocol::told::{abandon, finish, message};
use crate::protocol::{Feed, Flow, Part, Request, Response};

/// Longest line of a command, bytes: many keys at once.
const MAX_LINE: usize = 64 * 1024;
/// Arguments that are written out as `?`.
const MAX_SHOWN: usize = 16;

/// Where the commands are.
#[derive(Debug)]
pub(super) enum Asking {
    /// Nothing was read yet.
    Start,
    /// Passes over everything until a turn begins like a command.
    Seek,
    /// Between two commands.
    Fresh,
    /// In what follows a head.
    Data(Told),
    /// Nothing more is read.
    Done,
}

/// What was told of the command whose data is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing: it closes the connection, or too many wait.
    No,
    Asked(u64),
    /// No answer will come.
    Silent(u64),
}

impl Dialogue {
    /// Goes on by one step; false when more bytes are needed.
    pub(super) fn ask(&mut self, feed: &mut Feed<'_>) -> bool {
        match self.asking {
            Asking::Start => {
                let first = feed.stream.window().first();
                self.binary = matches!(first, Some(0x80));
                if feed.stream.position() != 0 {
                    // Others may be waiting.
                    self.order.lose_asks();
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
            Asking::Fresh if feed.stream.window().is_empty() => self.more(Flow::Request, feed),
            Asking::Fresh if self.binary => self.binary_command(feed),
            Asking::Fresh => self.text_command(feed),
            Asking::Data(told) => {
                feed.stream.take_missing();
                let over = feed.stream.reached();
                if over {
                    self.over(told, feed);
                }
                over
            }
            Asking::Done => {
                feed.stream.skip_all();
                false
            }
        }
    }

    fn binary_command(&mut self, feed: &mut Feed<'_>) -> bool {
        let window = feed.stream.window();
        if window.len() < binary::HEAD {
            return self.more(Flow::Request, feed);
        }
        let head = binary::head(window).filter(|head| head.flow == Flow::Request);
        let Some(head) = head else {
            return self.malformed(Flow::Request, feed);
        };
        let expects = Expects::Binary {
            code: head.code,
            opaque: head.opaque,
        };
        let name = Cow::Borrowed(head.code.name);
        let text = match self.config.database.query_text {
            QueryText::Off => None,
            _ => Some(with_marks(&name, usize::from(head.key > 0))),
        };
        let request = (!head.code.leaves()).then(|| request(name, text));
        let length = (binary::HEAD as u64).saturating_add(head.body.into());
        self.tell(request, expects, false, binary::HEAD, length, feed);
        true
    }

    fn text_command(&mut self, feed: &mut Feed<'_>) -> bool {
        let Some(length) = self.line(Flow::Request, feed) else {
            return match feed.stream.window().len() <= MAX_LINE {
                true => self.more(Flow::Request, feed),
                false => self.malformed(Flow::Request, feed),
            };
        };
        let window = feed.stream.window();
        let line = window.get(..length.saturating_sub(1)).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(ask) = text::ask(line) else {
            return self.malformed(Flow::Request, feed);
        };
        let text = shown(line, &ask, &self.config.database);
        let request = (!ask.leaves).then(|| request(Cow::Owned(ask.name.to_owned()), text));
        let silent = ask.quiet || ask.shape == Shape::Silent;
        // Who waits for its answers before it asks again has them.
        let turn = feed.stream.front().is_some_and(|front| front.turn);
        self.quiet &= !turn || self.pace.is_shared();
        self.quiet |= ask.quiet;
        let all = (length as u64).saturating_add(ask.data);
        let expects = Expects::Text(ask.shape);
        self.tell(request, expects, silent, length, all, feed);
        true
    }

    /// Says what is asked, whose head is so long, and passes over all of it.
    fn tell(
        &mut self,
        request: Option<Request>,
        expects: Expects,
        silent: bool,
        head: usize,
        length: u64,
        feed: &mut Feed<'_>,
    ) {
        let turn = feed.stream.front().is_some_and(|front| front.turn);
        let start = feed.stream.mark(0);
        let end = feed.stream.mark(head.saturating_sub(1));
        let waits = turn && self.someone_waits();
        self.pace.asked(turn, waits);
        if turn && self.pace.is_sure(start.time) {
            self.settle(start, feed);
        }
        feed.stream.skip(length);
        feed.stream.take_missing();
        self.understood[0] = true;
        let told = match request {
            None => Told::No,
            Some(request) => {
                let asked = Asked { expects, end };
                let number = match silent {
                    true => Some(self.order.unpaired()),
                    false => self.order.ask(asked, turn),
                };
                if let Some(number) = number {
                    let part = Part::Request(Box::new(request), end);
                    feed.out.push(message(Flow::Request, number, start, part));
                } else {
                    feed.stats.exchange_too_deep.add(1);
                    self.pace.share();
                }
                match (number, silent) {
                    (None, _) => Told::No,
                    (Some(number), true) => Told::Silent(number),
                    (Some(number), false) => Told::Asked(number),
                }
            }
        };
        self.asking = Asking::Data(told);
    }

    /// A command begins a turn, and nobody can be waiting any more.
    fn settle(&mut self, start: Mark, feed: &mut Feed<'_>) {
        self.end_doubtful(true, feed);
        if self.answering.is_between() && self.order.is_lost() {
            self.quiet = false;
            self.order.start_anew(|number| abandon(number, start, feed));
        }
    }

    /// Whether a command surely waits for its answer.
    fn someone_waits(&self) -> bool {
        self.order.asked().next().is_some() && !self.order.is_lost()
    }

    /// Its last byte has passed.
    fn over(&mut self, told: Told, feed: &mut Feed<'_>) {
        self.asking = Asking::Fresh;
        self.refused.reset();
        let at = feed.stream.last();
        self.pace.moved(at.time);
        match told {
            Told::No => {}
            Told::Asked(number) => finish(Flow::Request, number, at, (true, true), feed),
            Told::Silent(number) => {
                finish(Flow::Request, number, at, (true, true), feed);
                let part = Part::Response(Box::<Response>::default());
                feed.out.push(message(Flow::Response, number, at, part));
                finish(Flow::Response, number, at, (true, true), feed);
            }
        }
    }

    /// No more commands come.
    pub(super) fn close_commands(&mut self, feed: &mut Feed<'_>) {
        if let Asking::Data(Told::Asked(number) | Told::Silent(number)) = self.asking {
            let at = feed.stream.last();
            finish(Flow::Request, number, at, (true, false), feed);
        }
        self.asking = Asking::Done;
    }
}

fn request(name: Cow<'static, str>, text: Option<String>) -> Request {
    let query = Query {
        system: "memcached",
        operation: Some(name),
        text: text.map(Cow::Owned),
        ..Query::default()
    };
    query.request("memcached", Vec::new())
}

/// A command's line as it may be shown.
fn shown(line: &[u8], ask: &text::Ask<'_>, config: &Database) -> Option<String> {
    match config.query_text {
        QueryText::Off => None,
        QueryText::Redacted => Some(with_marks(ask.name, ask.arguments)),
        QueryText::Full => {
            let kept = line.get(..config.query_length).unwrap_or(line);
            Some(String::from_utf8_lossy(kept).into_owned())
        }
    }
}

fn with_marks(name: &str, arguments: usize) -> String {
    let marks = arguments.min(MAX_SHOWN);
    let mut text = String::with_capacity(
        name.len()
            .saturating_add(marks.saturating_mul(2))
            .saturating_add(4),
    );
    text.push_str(name);
    for _ in 0..marks {
        text.push_str(" ?");
    }
    if arguments > marks {
        text.push_str(" …");
    }
    text
}
