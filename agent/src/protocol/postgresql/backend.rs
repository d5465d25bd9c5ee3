//! What is answered: how statements end, and where.

use super::frame::{self, HEAD};
use super::group::{Item, Outcomes};
use super::tail::{self, Overlap};
use super::{Dialogue, End, Side};
use crate::connection::Mark;
use crate::protocol::database::Outcome;
use crate::protocol::reader::Reader;
use crate::protocol::told::{faults, message};
use crate::protocol::{Feed, Finish, Flow, Part};

/// Bytes of an error that are waited for: its code stands among the first fields.
const ERROR: usize = 4 << 10;

/// The number of no group.
const NOBODY: u64 = u64::MAX;

impl Dialogue {
    /// Whether an answer is under way.
    pub(super) fn is_answering(&self) -> bool {
        self.first.is_some() && self.answers == Side::Messages
    }

    /// Reads the next answer.
    pub(super) fn response(&mut self, feed: &mut Feed<'_>) -> bool {
        let window = feed.stream.window();
        let cut = feed.stream.is_cut();
        let Some(first) = window.first() else {
            return cut && self.lose(Flow::Response, true, feed);
        };
        if self.encrypt && matches!(first, b'S' | b'N' | b'G') {
            self.encrypt = false;
            match first {
                b'N' => {}
                first => self.end = Some(End::Encrypted(*first == b'S')),
            }
            feed.stream.skip(1);
            return true;
        }
        let Some((kind, length)) = frame::head(window) else {
            return cut && self.lose(Flow::Response, true, feed);
        };
        if !frame::may(kind, length.saturating_sub(1), Flow::Response) {
            return self.lose(Flow::Response, false, feed);
        }
        let wanted = match kind {
            b'C' | b'Z' => length,
            b'E' => length.min(ERROR),
            _ => HEAD,
        };
        if window.len() < wanted {
            return cut && self.lose(Flow::Response, true, feed);
        }
        let body = window.get(HEAD..length.min(window.len()));
        let body = body.unwrap_or_default();
        match kind {
            b'T' => self.plain = tail::is_text(body),
            b'H' => self.plain = body.first() == Some(&0),
            _ => {}
        }
        let told = match kind {
            b'C' => Told::Complete(returned(body, self.copied_out)),
            b'E' => Told::Failed(code(body), is_fatal(body)),
            _ => Told::Other,
        };
        let (first, last) = (
            feed.stream.mark(0),
            feed.stream.mark(length.saturating_sub(1)),
        );
        if !matches!(kind, b'N' | b'A' | b'S') {
            self.first.get_or_insert(first);
        }
        feed.stream.skip(length as u64);
        match self.answered(kind, told, last, feed) {
            true => true,
            // An answer to nothing that was asked here: messages were missed unseen.
            false => self.lose(Flow::Response, true, feed),
        }
    }

    /// Takes a message; false where it answers nothing that waits.
    fn answered(&mut self, kind: u8, told: Told, last: Mark, feed: &mut Feed<'_>) -> bool {
        let first = self.order.first();
        // What was held back until a question told whose it is, may be older than that question.
        let (sure, at) = (self.understood, last.time);
        let group = self.groups.front_mut();
        let group = group.filter(|group| sure || group.asked_at <= at);
        let Some(group) = group.filter(|group| first.is_some_and(|(n, ())| n == group.number))
        else {
            return self.unasked(kind, feed);
        };
        let blurred = group.blurred;
        let item = group.items.front_mut();
        let rows = match told {
            Told::Complete(Some(rows)) => Some(rows),
            _ => Some(self.rows).filter(|rows| *rows > 0),
        };
        match (kind, item) {
            (b'Z', _) => self.ready(last, feed),
            (b'1', Some(Item::Parse(..)))
            | (b'2', Some(Item::Bind(..)))
            | (b'3', Some(Item::Close))
            | (b'T' | b'n', Some(Item::Describe(..))) => {
                self.prepared();
                true
            }
            (b'C' | b's' | b'I', Some(Item::Execute(..))) => {
                self.copying = false;
                let mut outcomes = Outcomes::default();
                (outcomes.rows, outcomes.empty) = (rows, kind == b'I');
                self.end_execute(outcomes, last, feed);
                true
            }
            (b'C', Some(Item::Query(_, outcomes))) => {
                outcomes.add(rows);
                (self.rows, self.copying, self.copied_out) = (0, false, false);
                true
            }
            (b'I', Some(Item::Query(_, outcomes))) => {
                outcomes.empty = true;
                true
            }
            (b'D', Some(Item::Execute(..) | Item::Query(..))) => {
                self.rows = self.rows.saturating_add(1);
                true
            }
            (b'G' | b'H', _) => {
                (self.copying, self.copied_out) = (kind == b'G', kind == b'H');
                true
            }
            // Data flows both ways until one side ends it: no question and no answer.
            (b'W', Some(item)) => {
                if let Some(number) = std::mem::replace(item, Item::Startup).exchange() {
                    let dismiss = message(Flow::Response, number, last, Part::Dismiss);
                    feed.out.push(dismiss);
                }
                true
            }
            (b'E', _) => {
                if let Told::Failed(code, fatal) = told {
                    self.failed(code, fatal, last, feed);
                }
                true
            }
            (b'1' | b'2' | b'3' | b'n' | b'C' | b's' | b'D', _) => blurred,
            _ => true,
        }
    }

    /// Takes a message that answers nothing that is known: of those past the bound one is over.
    fn unasked(&mut self, kind: u8, feed: &mut Feed<'_>) -> bool {
        // Behind an answer that was taken for the last one's: it may have been an older one's.
        let behind = self.overlaps == Overlap::Perhaps && self.groups.is_empty();
        if behind && !self.order.is_lost() && !matches!(kind, b'N' | b'A' | b'S') {
            self.overlaps = Overlap::Yes;
        }
        if kind == b'Z' {
            self.first = None;
            self.order.answered(NOBODY);
        }
        feed.stream.take_missing();
        true
    }

    /// What waits first was prepared.
    fn prepared(&mut self) {
        let Some(group) = self.groups.front_mut() else {
            return;
        };
        let begins = match group.pop() {
            Some(Item::Parse(_, first, _) | Item::Bind(_, first, _)) => first.offset,
            Some(Item::Describe(_, first, _)) => first.offset,
            _ => 0,
        };
        self.items = self.items.saturating_sub(1);
        // It prepared for no statement that is executed with it.
        if group.executes.front().is_none_or(|from| *from > begins) {
            self.first = None;
        }
    }

    /// The Execute that waits first has come to its end.
    fn end_execute(&mut self, outcomes: Outcomes, last: Mark, feed: &mut Feed<'_>) {
        let Some(group) = self.groups.front_mut() else {
            return;
        };
        let Some(number) = group.pop().and_then(|item| item.exchange()) else {
            return;
        };
        self.items = self.items.saturating_sub(1);
        self.end_exchange(number, outcomes, last, feed);
    }

    /// An exchange has come to its end.
    pub(super) fn end_exchange(
        &mut self,
        number: u64,
        outcomes: Outcomes,
        last: Mark,
        feed: &mut Feed<'_>,
    ) {
        self.understood = true;
        (self.rows, self.copied_out, self.plain) = (0, false, false);
        let first = self.first.take().unwrap_or(last);
        if outcomes.empty && outcomes.error.is_none() {
            feed.out
                .push(message(Flow::Response, number, last, Part::Dismiss));
            return;
        }
        let outcome = Outcome {
            status_code: outcomes.error.flatten().map(|code| {
                let code = String::from_utf8_lossy(&code).into_owned();
                code.into()
            }),
            is_error: outcomes.error.is_some(),
            rows: outcomes.rows.filter(|_| outcomes.error.is_none()),
        };
        let response = Part::Response(Box::new(outcome.response(Vec::new())));
        feed.out
            .push(message(Flow::Response, number, first, response));
        for fault in faults(feed.stream.take_missing()) {
            feed.out
                .push(message(Flow::Response, number, last, Part::Fault(fault)));
        }
        let finish = Finish {
            body: 0,
            exact: true,
            whole: true,
        };
        feed.out
            .push(message(Flow::Response, number, last, Part::Finish(finish)));
    }

    /// ErrorResponse: what waits first has failed, and what follows it up to the end of its group is not
    /// executed.
    fn failed(&mut self, code: Option<[u8; 5]>, fatal: bool, last: Mark, feed: &mut Feed<'_>) {
        let error = Outcomes {
            error: Some(code),
            ..Outcomes::default()
        };
        self.copying = false;
        let Some(group) = self.groups.front_mut() else {
            return;
        };
        group.failed = true;
        match group.items.front_mut() {
            Some(Item::Query(number, outcomes) | Item::Call(number, outcomes)) => {
                outcomes.error = Some(code);
                let number = *number;
                // The server closes the connection: no ReadyForQuery comes.
                if fatal {
                    self.end_exchange(number, error, last, feed);
                    self.drop_items(last, Some(number), feed);
                }
                return;
            }
            Some(Item::Execute(..)) => self.end_execute(error, last, feed),
            Some(
                Item::Parse(statement, begins, ends)
                | Item::Bind(statement, begins, ends)
                | Item::Describe(statement, begins, ends),
            ) => {
                let (statement, begins, ends) = (statement.clone(), *begins, *ends);
                // The Execute that it prepared for has failed with it.
                let prepared = group.items.iter().find_map(|item| match item {
                    Item::Execute(number, from) if *from <= begins.offset => Some(*number),
                    _ => None,
                });
                let number = match prepared {
                    Some(number) => number,
                    // What it prepared for may have been asked unseen.
                    None if group.blurred => return self.drop_items(last, None, feed),
                    None => self.fail_alone(&statement, begins, ends, feed),
                };
                self.end_exchange(number, error, last, feed);
                self.drop_items(last, Some(number), feed);
            }
            _ => {}
        }
        self.drop_items(last, None, feed);
    }

    /// A statement that was only to be prepared has failed.
    fn fail_alone(
        &mut self,
        statement: &super::Statement,
        begins: Mark,
        ends: Mark,
        feed: &mut Feed<'_>,
    ) -> u64 {
        let number = self.begin(statement, begins, ends, feed);
        let finish = Finish {
            body: 0,
            exact: true,
            whole: true,
        };
        feed.out
            .push(message(Flow::Request, number, ends, Part::Finish(finish)));
        number
    }

    /// The rest of a failed group is not executed.
    fn drop_items(&mut self, at: Mark, ended: Option<u64>, feed: &mut Feed<'_>) {
        let Some(group) = self.groups.front_mut() else {
            return;
        };
        self.items = self.items.saturating_sub(group.items.len());
        let rest = std::mem::take(&mut group.items);
        group.executes.clear();
        let mut kept = None;
        for item in rest {
            match item.exchange() {
                Some(number) if Some(number) == ended => {}
                Some(_) if matches!(item, Item::Query(..) | Item::Call(..)) => kept = Some(item),
                Some(number) => {
                    feed.out
                        .push(message(Flow::Response, number, at, Part::Dismiss));
                }
                None => {}
            }
        }
        // A simple query in the place of a Sync is executed.
        if let Some(item) = kept {
            group.push(item);
            self.items = self.items.saturating_add(1);
        }
    }

    /// ReadyForQuery: the group is over.
    fn ready(&mut self, last: Mark, feed: &mut Feed<'_>) -> bool {
        let over = self
            .groups
            .front()
            .is_some_and(|group| group.synced || group.blurred);
        if !over {
            return false;
        }
        let Some(group) = self.groups.pop_front() else {
            return false;
        };
        self.items = self.items.saturating_sub(group.items.len());
        self.order.answered(group.number);
        for item in group.items {
            match item {
                Item::Query(number, outcomes) | Item::Call(number, outcomes) => {
                    self.end_exchange(number, outcomes, last, feed);
                }
                Item::Execute(number, _) => {
                    feed.out
                        .push(message(Flow::Response, number, last, Part::Abandon));
                }
                _ => {}
            }
        }
        self.first = None;
        self.rows = 0;
        self.copying = false;
        feed.stream.take_missing();
        true
    }
}

/// What a message says that is read.
#[derive(Clone, Copy)]
enum Told {
    /// A command's tag: the rows that it returned.
    Complete(Option<u64>),
    /// SQLSTATE, and whether the connection ends with it.
    Failed(Option<[u8; 5]>, bool),
    Other,
}

/// Rows that a command returned, by its tag: those of others are changed rows, and those of COPY are
/// returned where it copies out.
pub(super) fn returned(tag: &[u8], copied_out: bool) -> Option<u64> {
    let tag = tag.strip_suffix(&[0]).unwrap_or(tag);
    let (verb, count) = std::str::from_utf8(tag).ok()?.rsplit_once(' ')?;
    match verb {
        "SELECT" | "FETCH" => count.parse().ok(),
        "COPY" if copied_out => count.parse().ok(),
        _ => None,
    }
}

/// The value of an error's field.
pub(super) fn field(error: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut reader = Reader::new(error);
    loop {
        let kind = reader.u8().filter(|kind| *kind != 0)?;
        let value = reader.c_string()?;
        if kind == wanted {
            return Some(value);
        }
    }
}

/// SQLSTATE: five capital letters and digits.
pub(super) fn code(error: &[u8]) -> Option<[u8; 5]> {
    let code: [u8; 5] = field(error, b'C')?.try_into().ok()?;
    code.iter()
        .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
        .then_some(code)
}

/// Whether the session ends with an error; `V` is never translated.
pub(super) fn is_fatal(error: &[u8]) -> bool {
    let severity = field(error, b'V').or_else(|| field(error, b'S'));
    matches!(severity, Some(b"FATAL" | b"PANIC"))
}
