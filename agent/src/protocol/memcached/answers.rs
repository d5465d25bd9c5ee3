//! The answering side: answers in the order of the commands.

use std::borrow::Cow;

use super::binary::{self, Head};
use super::text::{self, Line, Shape};
use super::{Asked, Dialogue, Expects};
use crate::connection::Mark;
use crate::protocol::database::Outcome;
use crate::protocol::seek::{Seeker as _, Strict as _};
use crate::protocol::told::{abandon, finish, message};
use crate::protocol::{Feed, Flow, Part, Response, Status};

/// Longest line of an answer, bytes.
const MAX_LINE: usize = 64 * 1024;

/// Where the answers are.
#[derive(Debug)]
pub(super) enum Answering {
    /// Nothing was read yet.
    Start,
    /// Passes over everything until a turn begins like an answer.
    Seek,
    /// The same; the answer to this one went on unseen until the mark at least.
    Doubtful(u64, Mark),
    /// Between two answers.
    Fresh,
    /// Between two parts of one.
    Within(Under),
    /// In the data of a part, which is the last one or not.
    Data(Under, bool),
    /// Nothing more is read.
    Done,
}

/// The answer under way.
#[derive(Clone, Debug)]
pub(super) struct Under {
    /// Whom it answers; nobody who is known, or who waits no more.
    number: Option<u64>,
    shape: Shape,
    begin: Mark,
    /// Values in it.
    values: Option<u64>,
    outcome: Outcome,
}

impl Answering {
    /// The command whose answer is under way.
    pub(super) fn number(&self) -> Option<u64> {
        match self {
            Self::Within(under) | Self::Data(under, _) => under.number,
            Self::Doubtful(number, _) => Some(*number),
            _ => None,
        }
    }

    /// Whether no answer is under way.
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
                    self.end_doubtful(true, feed);
                    self.answering = Answering::Fresh;
                }
                found
            }
            Answering::Fresh | Answering::Within(_) if feed.stream.window().is_empty() => {
                self.more(Flow::Response, feed)
            }
            Answering::Fresh | Answering::Within(_) => match self.binary {
                true => self.binary_part(feed),
                false => self.text_part(feed),
            },
            Answering::Data(..) => {
                feed.stream.take_missing();
                if !feed.stream.reached() {
                    return false;
                }
                let state = std::mem::replace(&mut self.answering, Answering::Fresh);
                match state {
                    Answering::Data(under, true) => self.answered(under, feed),
                    Answering::Data(under, false) => self.answering = Answering::Within(under),
                    _ => {}
                }
                true
            }
            Answering::Done => {
                feed.stream.skip_all();
                false
            }
        }
    }

    fn binary_part(&mut self, feed: &mut Feed<'_>) -> bool {
        let window = feed.stream.window();
        if window.len() < binary::HEAD {
            return self.more(Flow::Response, feed);
        }
        let head = binary::head(window).filter(|head| head.flow == Flow::Response);
        let Some(head) = head else {
            return self.malformed(Flow::Response, feed);
        };
        let under = match std::mem::replace(&mut self.answering, Answering::Fresh) {
            Answering::Within(under) => under,
            _ => self.binary_answer(&head, feed),
        };
        let last = !head.code.is_stats() || head.key == 0;
        let length = (binary::HEAD as u64).saturating_add(head.body.into());
        feed.stream.skip(length);
        self.answering = Answering::Data(under, last);
        true
    }

    /// Whose answer begins here: the first that waits and is repeated in it. Quiet ones before it
    /// get none.
    fn binary_answer(&mut self, head: &Head, feed: &mut Feed<'_>) -> Under {
        let is = |asked: &Asked| match asked.expects {
            Expects::Binary { code, opaque } => {
                code.number == head.code.number && opaque == head.opaque
            }
            Expects::Text(_) => false,
        };
        let begin = self.begin(feed);
        let mut first = self.first(begin);
        while let Some((number, asked)) = first
            && !is(&asked)
            && asked.is_quiet()
        {
            self.end_one_quiet(number, asked, feed);
            first = self.first(begin);
        }
        let found = first.filter(|(_, asked)| is(asked));
        let error = binary::is_error(head.status);
        Under {
            number: self.found(found, begin, feed),
            shape: Shape::Free,
            begin,
            values: None,
            outcome: Outcome {
                status_code: error.then(|| Cow::Owned(format!("0x{:04x}", head.status))),
                is_error: error,
                rows: None,
            },
        }
    }

    fn text_part(&mut self, feed: &mut Feed<'_>) -> bool {
        let Some(length) = self.line(Flow::Response, feed) else {
            return match feed.stream.window().len() <= MAX_LINE {
                true => self.more(Flow::Response, feed),
                false => self.malformed(Flow::Response, feed),
            };
        };
        let bytes = feed.stream.window().get(..length.saturating_sub(1));
        let bytes = bytes.unwrap_or_default();
        let line = text::line(bytes.strip_suffix(b"\r").unwrap_or(bytes));
        let mut under = match std::mem::replace(&mut self.answering, Answering::Fresh) {
            Answering::Within(under) if text::fits(line, under.shape) => under,
            Answering::Within(_) => return self.malformed(Flow::Response, feed),
            _ => match self.text_answer(line, feed) {
                Some(under) => under,
                None => return self.malformed(Flow::Response, feed),
            },
        };
        let data = match line {
            Line::Value(data) => {
                under.values = Some(under.values.unwrap_or(0).saturating_add(1));
                data
            }
            Line::Meta(data) => data,
            Line::Error(code) => {
                under.outcome.status_code = Some(Cow::Borrowed(code));
                under.outcome.is_error = true;
                0
            }
            Line::End if under.shape == Shape::Values => {
                under.values = Some(under.values.unwrap_or(0));
                0
            }
            _ => 0,
        };
        let goes_on = match under.shape {
            Shape::Values => matches!(line, Line::Value(_)),
            Shape::Lines => matches!(line, Line::Item | Line::Other),
            _ => false,
        };
        feed.stream.skip((length as u64).saturating_add(data));
        self.answering = Answering::Data(under, !goes_on);
        true
    }

    /// Whose answer this line begins; `None` where it is no line of an answer.
    fn text_answer(&mut self, line: Line, feed: &mut Feed<'_>) -> Option<Under> {
        let begin = self.begin(feed);
        let first = self.first(begin);
        let shape = first.map(|(_, asked)| asked.shape());
        let fits = shape.is_some_and(|shape| text::fits(line, shape));
        let mark = shape == Some(Shape::Mark);
        if line == Line::Other && !fits {
            return None;
        }
        // Answers to quiet commands come before that to the next one, which only `mn` tells apart.
        let extra = self.quiet && !(mark && fits);
        if self.quiet && fits && mark {
            self.quiet = false;
        }
        if extra && !mark && shape.is_some() {
            self.disown(begin, feed);
            self.quiet = false;
        }
        let number = match extra {
            true => None,
            false => self.found(first.filter(|_| fits), begin, feed),
        };
        let own = match line {
            Line::Value(_) => Shape::Values,
            Line::Item => Shape::Lines,
            _ => Shape::Free,
        };
        Some(Under {
            number,
            shape: shape.filter(|_| number.is_some()).unwrap_or(own),
            begin,
            values: None,
            outcome: Outcome::default(),
        })
    }

    /// An answer begins.
    fn begin(&mut self, feed: &Feed<'_>) -> Mark {
        let turn = feed.stream.front().is_some_and(|front| front.turn);
        self.pace.answered();
        if turn && !self.pace.is_shared() {
            self.order.resume();
        }
        feed.stream.mark(0)
    }

    /// Who waits first, if that is known and was asked before this.
    fn first(&self, begin: Mark) -> Option<(u64, Asked)> {
        let first = self.order.first();
        first.filter(|(_, asked)| begin.time >= asked.end.time)
    }

    /// The number of who was found to be answered.
    fn found(
        &mut self,
        found: Option<(u64, Asked)>,
        begin: Mark,
        feed: &mut Feed<'_>,
    ) -> Option<u64> {
        if let Some((number, _)) = found {
            return Some(number);
        }
        // Nobody can have asked for it, if all is as it seems.
        if !self.order.is_lost() {
            match self.understood[1] {
                true => self.disown(begin, feed),
                false if self.order.first().is_some() && self.first(begin).is_some() => {
                    self.ended = Some(Status::Mistaken);
                }
                false => {}
            }
        }
        let part = Part::Response(Box::<Response>::default());
        let number = self.order.unpaired();
        feed.out.push(message(Flow::Response, number, begin, part));
        None
    }

    /// The last byte of an answer has passed.
    fn answered(&mut self, under: Under, feed: &mut Feed<'_>) {
        self.refused.reset();
        let at = feed.stream.last();
        self.pace.moved(at.time);
        let Some(number) = under.number else {
            return;
        };
        self.understood[1] = true;
        let outcome = Outcome {
            rows: under.values.filter(|_| !under.outcome.is_error),
            ..under.outcome
        };
        let watches = under.shape == Shape::Watch && !outcome.is_error;
        let part = Part::Response(Box::new(outcome.response(Vec::new())));
        feed.out
            .push(message(Flow::Response, number, under.begin, part));
        finish(Flow::Response, number, at, (true, true), feed);
        self.order.answered(number);
        if watches {
            // A log follows.
            self.ended = Some(Status::Leave);
        }
    }

    /// The rest of the answer under way is missing.
    pub(super) fn lose_answer(&mut self, feed: &mut Feed<'_>) {
        let last = feed.stream.last();
        let waits = |number| self.order.asked().any(|waiting| waiting == number);
        self.answering = match std::mem::replace(&mut self.answering, Answering::Seek) {
            Answering::Within(under) | Answering::Data(under, _) => match under.number {
                Some(number) if waits(number) => {
                    let part = Part::Response(Box::new(under.outcome.response(Vec::new())));
                    feed.out
                        .push(message(Flow::Response, number, under.begin, part));
                    Answering::Doubtful(number, last)
                }
                _ => Answering::Seek,
            },
            Answering::Doubtful(number, _) if waits(number) => Answering::Doubtful(number, last),
            _ => Answering::Seek,
        };
    }

    /// An answer that went on unseen is over by now.
    pub(super) fn end_doubtful(&mut self, whole: bool, feed: &mut Feed<'_>) {
        if let Answering::Doubtful(number, at) = self.answering {
            finish(Flow::Response, number, at, (false, whole), feed);
            self.order.answered(number);
            self.answering = Answering::Seek;
        }
    }

    /// Who waits, while answers passed unseen, had theirs among them for all that can be known.
    pub(super) fn answered_unseen(&mut self, feed: &mut Feed<'_>) {
        if self.order.is_lost() && self.answering.is_between() {
            let at = feed.stream.last();
            self.order.give_up(|number| abandon(number, at, feed));
            self.order.lose_asks();
        }
    }

    /// A quiet command gets no answer, which means that all is well, or nothing was found.
    fn end_one_quiet(&mut self, number: u64, asked: Asked, feed: &mut Feed<'_>) {
        let part = Part::Response(Box::<Response>::default());
        feed.out
            .push(message(Flow::Response, number, asked.end, part));
        finish(Flow::Response, number, asked.end, (true, true), feed);
        self.order.answered(number);
    }

    /// Quiet commands that wait first get no answer any more.
    pub(super) fn end_quiet(&mut self, feed: &mut Feed<'_>) {
        while let Some((number, asked)) = self.order.first()
            && asked.is_quiet()
            && self.answering.number() != Some(number)
        {
            self.end_one_quiet(number, asked, feed);
        }
    }

    /// No more answers come.
    pub(super) fn close_answers(&mut self, clean: bool, feed: &mut Feed<'_>) {
        self.end_doubtful(clean, feed);
        self.answered_unseen(feed);
        self.end_quiet(feed);
        if let Answering::Within(under) | Answering::Data(under, _) = &self.answering
            && let Some(number) = under.number
        {
            let part = Part::Response(Box::new(under.outcome.clone().response(Vec::new())));
            feed.out
                .push(message(Flow::Response, number, under.begin, part));
            let at = feed.stream.last();
            finish(Flow::Response, number, at, (true, false), feed);
        }
        self.answering = Answering::Done;
    }
}

impl Asked {
    fn is_quiet(&self) -> bool {
        matches!(self.expects, Expects::Binary { code, .. } if code.quiet)
    }

    fn shape(&self) -> Shape {
        match self.expects {
            Expects::Text(shape) => shape,
            Expects::Binary { .. } => Shape::Free,
        }
    }
}
