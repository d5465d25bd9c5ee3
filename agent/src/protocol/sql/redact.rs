//! The text of a statement as it may be shown: `?` for each literal, blanks and comments as one blank,
//! lists of values and rows of them as their first.

use super::lex::{Kind, Token};
use super::words::Keyword;

/// Writes it, token by token.
#[derive(Debug)]
pub struct Redactor {
    text: Vec<u8>,
    /// Longest text.
    limit: usize,
    depth: u32,
    /// Brackets, the innermost lowest, in which a run of values is shown as its first.
    lists: u64,
    run: Run,
    rows: Rows,
    /// The keyword before.
    before: Option<Keyword>,
}

/// Where in a list of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Run {
    No,
    /// Behind a value.
    Value,
    /// Behind a comma that was not written, and whether a blank stood before it.
    Comma(bool),
}

/// Where in rows of values. The depths are those of what is around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rows {
    No,
    /// Behind VALUES.
    Expected,
    First(u32),
    /// Between two rows.
    Between,
    /// Behind a comma that was not written, and whether a blank stood before it.
    Comma(bool),
    /// In a row that is not written.
    Further(u32),
}

impl Redactor {
    /// Nothing was written.
    pub fn new(statement: usize, limit: usize) -> Self {
        Self {
            text: Vec::with_capacity(limit.min(statement)),
            limit,
            depth: 0,
            lists: 0,
            run: Run::No,
            rows: Rows::No,
            before: None,
        }
    }

    /// Writes one more.
    pub fn put(&mut self, token: &Token<'_>, keyword: Option<Keyword>) {
        let written = !self.in_rows(token, keyword);
        match token.kind {
            Kind::Open => {
                let list = self.before == Some(Keyword::In) || token.text != b"(";
                self.lists = self.lists << 1 | u64::from(list);
                self.depth = self.depth.saturating_add(1);
            }
            Kind::Close => {
                self.lists >>= 1;
                self.depth = self.depth.saturating_sub(1);
            }
            _ => {}
        }
        if written && !self.in_run(token, keyword) {
            self.write(token, keyword);
        }
        self.before = keyword;
    }

    /// Whether it is part of a row that is not shown.
    fn in_rows(&mut self, token: &Token<'_>, keyword: Option<Keyword>) -> bool {
        let (rows, skipped) = match (self.rows, token.kind) {
            (Rows::No | Rows::Between | Rows::Expected, Kind::Word)
                if matches!(keyword, Some(Keyword::Values | Keyword::Value)) =>
            {
                (Rows::Expected, false)
            }
            (Rows::No, _) => return false,
            (Rows::Expected, Kind::Open) => (Rows::First(self.depth), false),
            (Rows::First(depth), Kind::Close) if self.depth.saturating_sub(1) == depth => {
                (Rows::Between, false)
            }
            (Rows::First(depth), _) => (Rows::First(depth), false),
            (Rows::Between, Kind::Comma) => (Rows::Comma(token.spaced), true),
            (Rows::Comma(_), Kind::Open) => (Rows::Further(self.depth), true),
            (Rows::Comma(spaced), _) => {
                self.comma(spaced);
                (Rows::No, false)
            }
            (Rows::Further(depth), Kind::Close) if self.depth.saturating_sub(1) == depth => {
                (Rows::Between, true)
            }
            (Rows::Further(depth), _) => (Rows::Further(depth), true),
            (Rows::Between | Rows::Expected, _) => (Rows::No, false),
        };
        self.rows = rows;
        skipped
    }

    /// Whether it is one of a list of values that is not shown.
    fn in_run(&mut self, token: &Token<'_>, keyword: Option<Keyword>) -> bool {
        if self.lists & 1 == 0 || token.kind == Kind::Open {
            self.end_run();
            return false;
        }
        let value = matches!(token.kind, Kind::Literal | Kind::Parameter) || self.truth(keyword);
        match (self.run, token.kind) {
            (Run::Value, Kind::Comma) => {
                self.run = Run::Comma(token.spaced);
                true
            }
            (Run::Comma(_), _) if value => {
                self.run = Run::Value;
                true
            }
            _ => {
                self.end_run();
                if value {
                    self.run = Run::Value;
                }
                false
            }
        }
    }

    fn end_run(&mut self) {
        if let Run::Comma(spaced) = std::mem::replace(&mut self.run, Run::No) {
            self.comma(spaced);
        }
    }

    fn comma(&mut self, spaced: bool) {
        let comma = Token {
            kind: Kind::Comma,
            text: b",",
            spaced,
        };
        self.write(&comma, None);
    }

    /// Whether a keyword is a value: `TRUE`, but not in `IS TRUE`.
    fn truth(&self, keyword: Option<Keyword>) -> bool {
        matches!(keyword, Some(Keyword::True | Keyword::False))
            && !matches!(self.before, Some(Keyword::Is | Keyword::Not))
    }

    fn write(&mut self, token: &Token<'_>, keyword: Option<Keyword>) {
        if self.text.len() >= self.limit {
            return;
        }
        if token.spaced && !self.text.is_empty() {
            self.text.push(b' ');
        }
        match token.kind == Kind::Literal || self.truth(keyword) {
            true => self.text.push(b'?'),
            false => {
                let room = self.limit.saturating_sub(self.text.len());
                let text = token.text.get(..room).unwrap_or(token.text);
                self.text.extend_from_slice(text);
            }
        }
    }

    /// What was written.
    pub fn text(self) -> String {
        shown(self.text, self.limit)
    }
}

/// Bytes as text of at most so many bytes.
pub fn shown(bytes: Vec<u8>, limit: usize) -> String {
    let mut text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    };
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.truncate(end);
    text.truncate(text.trim_end().len());
    text
}
