//! GraphQL over HTTP: which operation was asked for, and whether it failed. Sources: GraphQL over HTTP,
//! <https://graphql.github.io/graphql-over-http/draft/>; the language, <https://spec.graphql.org/>
//! (2, 7); attributes and the span's name: <https://opentelemetry.io/docs/specs/semconv/graphql/>
//! (1.42.0), by which the operation's name is no part of it.
//!
//! Never true here: that a document or its variables are told; that a request counts as GraphQL whose
//! document does not read so, or whose response is none. A URL that has them is HTTP's to tell: where in
//! it they are, `hidden` says to whom redacts it.

mod outline;

use std::borrow::Cow;
use std::ops::Range;

use percent_encoding::percent_decode_str;
use smallvec::SmallVec;

use super::document::{Documents, name};
use super::heads::parameters;
use super::{Application, Head, Look, Said, Tap};
use crate::protocol::json::{EACH, Path, Reader, Value};
use crate::protocol::{Attribute, Flow};
use outline::{Outline, begins, outline};

/// The registry's entry.
pub const APPLICATION: &dyn Application = &GraphQl;

#[derive(Debug)]
struct GraphQl;

impl Application for GraphQl {
    fn asked(&self, head: &Head<'_>) -> Option<Box<dyn Tap>> {
        match head.method {
            "POST" if head.is_json() => Some(Box::new(Operation::new())),
            "GET" if !head.query().is_empty() => {
                let mut operation = Operation::new();
                for (key, text) in parameters(head.query()) {
                    match key {
                        "query" => operation.outline = outline(&decoded(text), true),
                        "operationName" => {
                            operation.name = name(Value::Text(decoded(text).as_bytes()));
                        }
                        _ => {}
                    }
                }
                operation
                    .outline
                    .is_some()
                    .then(|| Box::new(operation) as _)
            }
            _ => None,
        }
    }

    /// A document, its variables and its extensions (GraphQL over HTTP, 6.2).
    fn hidden(&self, query: &str) -> SmallVec<[Range<usize>; 3]> {
        let mut found = SmallVec::new();
        let mut asks = false;
        let mut start = 0usize;
        for pair in query.split('&') {
            let end = start.saturating_add(pair.len());
            if let Some((key, value)) = pair.split_once('=') {
                // Some clients and servers write objects as `variables[name]=…`.
                let key = decoded(key);
                let (is, asked) = match key.split('[').next().unwrap_or_default() {
                    "query" => (true, is_document(&decoded(value))),
                    "variables" | "extensions" => {
                        (true, decoded(value).trim_start().starts_with('{'))
                    }
                    _ => (false, false),
                };
                if is && !value.is_empty() {
                    found.push(end.saturating_sub(value.len())..end);
                }
                asks |= asked;
            }
            start = end.saturating_add(1);
        }
        found.retain(|_| asks);
        found
    }
}

/// What a request has (GraphQL over HTTP, 5.1); `id` and `documentId` where documents are stored.
const ASKED: &[Path] = &[
    &["query"],
    &["operationName"],
    &["variables"],
    &["extensions"],
    &["id"],
    &["documentId"],
];
/// What a response has (the language, 7.1), and the pieces of one that comes in several.
const ANSWERED: &[Path] = &[
    &["data"],
    &["errors", EACH],
    &["errors", EACH, "extensions", "code"],
    &["extensions"],
    &["hasNext"],
    &["incremental"],
    &["pending"],
    &["completed"],
    &["errors"],
];
/// Bytes of a request that are looked at, of its document, and of a response.
const REQUEST: u64 = 16 * 1024;
const DOCUMENT: usize = 4 * 1024;
const RESPONSE: u64 = 64 * 1024;

/// One operation.
#[derive(Debug)]
struct Operation {
    question: Reader,
    /// What the document has, if it is one.
    outline: Option<Outline>,
    /// Which of its operations is meant.
    name: Option<String>,
    answer: Documents,
    status: u16,
    /// Whether the response has data or errors.
    answered: bool,
    /// Whether there is data besides the errors: it was executed.
    executed: bool,
    failed: bool,
    code: Option<String>,
}

impl Operation {
    fn new() -> Self {
        Self {
            question: Reader::strict(ASKED, DOCUMENT),
            outline: None,
            name: None,
            answer: Documents::new(|| Reader::strict(ANSWERED, MAX_CODE)),
            status: 0,
            answered: false,
            executed: false,
            failed: false,
            code: None,
        }
    }

    fn ask(&mut self, bytes: &[u8]) -> Look {
        let mut refuted = false;
        self.question
            .read(bytes, |index, value| match (index, value) {
                (0, Value::Text(text) | Value::Long(text)) => {
                    let whole = matches!(value, Value::Text(_));
                    let text = String::from_utf8_lossy(text);
                    self.outline = outline(&text, whole);
                    refuted = self.outline.is_none();
                }
                (0, _) => refuted = true,
                (1, value) => self.name = name(value),
                _ => {}
            });
        match refuted || self.question.is_broken() {
            true => Look::Not,
            false => Look::More,
        }
    }

    fn answer(&mut self, bytes: &[u8]) -> Look {
        let more = self
            .answer
            .read(bytes, |index, value| match (index, value) {
                (0, value) => {
                    self.answered = true;
                    self.executed |= value == Value::Object;
                }
                (1, _) => self.failed = true,
                (2, value) => {
                    let code = self
                        .code
                        .take()
                        .or_else(|| value.text().filter(is_code).map(Into::into));
                    self.code = code;
                }
                (8, Value::Array) => self.answered = true,
                _ => {}
            });
        // What has other keys is no response of GraphQL.
        match self.answer.is_broken() && !self.answer.is_stream() {
            true => Look::Not,
            false if more => Look::More,
            false => Look::Enough,
        }
    }

    fn tell(&mut self, said: &mut Said) {
        let Some(outline) = self.outline.take().filter(|_| self.answered) else {
            return;
        };
        let (kind, own) = outline.choose(self.name.as_deref());
        said.name = Some(kind.unwrap_or("GraphQL Operation").into());
        if let Some(name) = self.name.take().or(own) {
            said.asked
                .push(Attribute::text("graphql.operation.name", name));
        }
        if let Some(kind) = kind {
            said.asked
                .push(Attribute::fixed("graphql.operation.type", kind));
        }
        // An error of HTTP that nothing is known of besides goes by its status.
        if !self.failed || self.code.is_none() && self.status >= 400 {
            return;
        }
        let code = self.code.take().map_or(OTHER.into(), Into::into);
        let response = said.answered.get_or_insert_default();
        response.client_error = Some(Cow::clone(&code));
        // What was not executed was asked wrongly (the language, 7.1.2).
        response.server_error = Some(code).filter(|_| self.executed);
    }
}

impl Tap for Operation {
    fn answered(&mut self, head: &Head<'_>, _said: &mut Said) -> bool {
        self.status = head.code.unwrap_or(0);
        self.answer.begin(head)
    }

    fn budget(&self, flow: Flow) -> u64 {
        match flow {
            Flow::Request if self.outline.is_some() => 0,
            Flow::Request => REQUEST,
            Flow::Response if self.answer.is_stream() => u64::MAX,
            Flow::Response => RESPONSE,
        }
    }

    fn read(&mut self, flow: Flow, bytes: &[u8]) -> Look {
        match flow {
            Flow::Request => self.ask(bytes),
            Flow::Response => self.answer(bytes),
        }
    }

    fn end(&mut self, flow: Flow, whole: bool, said: &mut Said) {
        match flow {
            // Which of several operations is meant may have come after what was seen.
            Flow::Request if !whole => {
                let one = |outline: &Outline| outline.choose(self.name.as_deref()).0.is_some();
                self.outline = self.outline.take().filter(one);
            }
            Flow::Request => {}
            Flow::Response => self.tell(said),
        }
    }

    fn weight(&self) -> usize {
        let outline = self.outline.as_ref().map_or(0, Outline::weight);
        self.question
            .weight()
            .saturating_add(outline)
            .saturating_add(self.answer.weight())
    }
}

/// Longest code of an error.
const MAX_CODE: usize = 64;
/// `error.type` of errors without a code.
const OTHER: &str = "_OTHER";

/// Whether an error's code is one: a word, as those that servers have.
fn is_code(text: &&str) -> bool {
    let part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    !text.is_empty() && text.bytes().all(part)
}

/// Whether a text is a document, or what one may begin with.
fn is_document(text: &str) -> bool {
    begins(text) || outline(text, false).is_some()
}

/// A name or value of a query, decoded (URL standard, 5.1).
fn decoded(text: &str) -> Cow<'_, str> {
    match text.contains('+') {
        true => decoded(&text.replace('+', " ")).into_owned().into(),
        false => percent_decode_str(text).decode_utf8_lossy(),
    }
}

#[cfg(test)]
mod tests;
