//! What is answered: how statements end, and where.

use super::frame::{self, HEAD};
use super::group::{Item, Outcomes};
use super::{Dialogue, End, Side, faults, message};
use crate::connection::Mark;
use crate::protocol::database::Outcome;
use crate::protocol::reader::Reader;
use crate::protocol::{Feed, Finish, Flow, Part};

/// Bytes of an error that are waited for: its code stands among the first fields.
const ERROR: usize = 4 << 10;
/// ReadyForQuery, without the state of the transaction.
const READY: &[u8] = b"Z\0\0\0\x05";
/// Bytes of an answer's end that are looked at: those of a call that are always copied.
const TAIL: usize = 16;

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
        let told = match kind {
            b'C' => Told::Complete(returned(body)),
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
            self.first = self.first.filter(|_| kind != b'Z');
            feed.stream.take_missing();
            return true;
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
                let empty = kind == b'I';
                let error = None;
                let outcomes = Outcomes { error, rows, empty };
                self.end_execute(outcomes, last, feed);
                true
            }
            (b'C', Some(Item::Query(_, outcomes))) => {
                outcomes.add(rows);
                (self.rows, self.copying) = (0, false);
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
            (b'G', _) => {
                self.copying = true;
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

    /// What waits first was prepared.
    fn prepared(&mut self) {
        let Some(group) = self.groups.front_mut() else {
            return;
        };
        let begins = match group.items.pop_front() {
            Some(Item::Parse(_, first, _) | Item::Bind(_, first, _)) => first.offset,
            Some(Item::Describe(_, first, _)) => first.offset,
            _ => 0,
        };
        self.items = self.items.saturating_sub(1);
        let prepares = group.items.iter().find_map(|item| match item {
            Item::Execute(_, from) => Some(*from <= begins),
            _ => None,
        });
        // It prepared for no statement that is executed with it.
        if prepares != Some(true) {
            self.first = None;
        }
    }

    /// The Execute that waits first has come to its end.
    fn end_execute(&mut self, outcomes: Outcomes, last: Mark, feed: &mut Feed<'_>) {
        let Some(group) = self.groups.front_mut() else {
            return;
        };
        let Some(number) = group.items.pop_front().and_then(|item| item.exchange()) else {
            return;
        };
        self.items = self.items.saturating_sub(1);
        self.end_exchange(number, outcomes, last, feed);
    }

    fn end_exchange(&mut self, number: u64, outcomes: Outcomes, last: Mark, feed: &mut Feed<'_>) {
        self.understood = true;
        self.rows = 0;
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
            group.items.push_back(item);
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

    /// Whether one statement's answer is under way, and nothing else waits: what ends a turn ends it.
    pub(super) fn may_end_by_its_tail(&self) -> bool {
        let one = |group: &super::Group| {
            group
                .items
                .iter()
                .filter(|item| item.exchange().is_some())
                .count()
                == 1
                && group.items.len() == 1
                && group.synced
                && !group.blurred
        };
        self.first.is_some()
            && self.order.first().is_some()
            && self.groups.len() == 1
            && self.groups.front().is_some_and(one)
    }

    /// Looks for the end of an answer some of whose messages were lost.
    pub(super) fn tail(&mut self, feed: &mut Feed<'_>) -> bool {
        while let Some(front) = feed.stream.front() {
            if front.turn {
                // It ended unseen.
                self.answers = Side::Seek;
                self.unsettle(Flow::Response, feed);
                return true;
            }
            if front.hole.is_some() {
                feed.stream.skip_front();
                continue;
            }
            let (window, length) = (feed.stream.window(), front.bytes.len());
            let rest = window.len().saturating_sub(TAIL);
            if window.len() > length {
                feed.stream.skip(length as u64);
                continue;
            }
            feed.stream.skip(rest as u64);
            let window = feed.stream.window();
            if feed.stream.is_cut() {
                feed.stream.skip_front();
                continue;
            }
            return self.ends(ready_after(window), window.len(), feed);
        }
        false
    }

    /// The answer's last bytes, if they are: a command was completed, and all is ready.
    fn ends(&mut self, completed: bool, length: usize, feed: &mut Feed<'_>) -> bool {
        if !completed {
            return false;
        }
        let last = feed.stream.mark(length.saturating_sub(1));
        feed.stream.skip(length as u64);
        self.answers = Side::Messages;
        let Some(mut group) = self.groups.pop_front() else {
            return true;
        };
        self.items = self.items.saturating_sub(group.items.len());
        self.order.answered(group.number);
        if let Some(number) = group.items.pop_front().and_then(|item| item.exchange()) {
            self.end_exchange(number, Outcomes::default(), last, feed);
        }
        self.first = None;
        self.rows = 0;
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

/// Rows that a command returned, by its tag: those of others are changed rows.
fn returned(tag: &[u8]) -> Option<u64> {
    let tag = tag.strip_suffix(&[0]).unwrap_or(tag);
    let (verb, count) = std::str::from_utf8(tag).ok()?.rsplit_once(' ')?;
    match verb {
        "SELECT" | "FETCH" => count.parse().ok(),
        _ => None,
    }
}

/// The value of an error's field.
fn field(error: &[u8], wanted: u8) -> Option<&[u8]> {
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
fn code(error: &[u8]) -> Option<[u8; 5]> {
    let code: [u8; 5] = field(error, b'C')?.try_into().ok()?;
    code.iter()
        .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
        .then_some(code)
}

/// Whether the session ends with an error; `V` is never translated.
fn is_fatal(error: &[u8]) -> bool {
    let severity = field(error, b'V').or_else(|| field(error, b'S'));
    matches!(severity, Some(b"FATAL" | b"PANIC"))
}

/// Whether bytes end in a command's tag and ReadyForQuery.
fn ready_after(bytes: &[u8]) -> bool {
    let Some((before, [b'I' | b'T' | b'E'])) = bytes.split_last_chunk::<1>() else {
        return false;
    };
    let Some(tag) = before
        .strip_suffix(READY)
        .and_then(|b| b.strip_suffix(&[0]))
    else {
        return false;
    };
    tag.last()
        .is_some_and(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}
