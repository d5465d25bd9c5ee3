//! What was found of statements, as OpenTelemetry's conventions have it (semantic-conventions 1.42.0,
//! `docs/db/database-spans.md`, "Generating a summary of the query").
//!
//! Two things are done otherwise, since a summary is what spans are grouped by: operations are in
//! capital letters, and quotes are kept only where a name needs them.

use super::lex::{Kind, Token};

/// Longest summary, bytes: "truncation does not occur within an operation name or target".
const LONGEST: usize = 255;

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// `SELECT`, `CREATE TABLE`.
    pub operation: Option<&'static str>,
    /// The table, or the first of several.
    pub collection: Option<String>,
    /// There may be more tables than that.
    pub several: bool,
    /// The procedure that is called.
    pub procedure: Option<String>,
    /// `SELECT orders items`; those of several statements with `;` between them.
    pub summary: String,
    /// Where in it the present statement begins, and the one before.
    begins: usize,
    previous: usize,
    /// The next piece is a new statement's.
    anew: bool,
    /// The present statement is not the first.
    further: bool,
    full: bool,
}

impl Found {
    /// A statement's or a query's verb; `main` where it is the statement's own.
    pub fn verb(&mut self, text: &'static str, main: bool) {
        if main && self.operation.is_none() && !self.further {
            self.operation = Some(text);
        }
        self.push(text);
    }

    /// What the statement does, where that is more than a verb.
    pub fn operation(&mut self, text: &'static str) {
        self.verb(text, true);
    }

    /// CQL's BATCH, whose statements follow.
    pub fn batch(&mut self) {
        self.verb("BATCH", true);
        self.begins = self.summary.len();
        self.previous = self.begins;
    }

    /// A table.
    pub fn table(&mut self, parts: &[Token<'_>]) {
        let name = name(parts);
        self.push(&name);
        match &self.collection {
            None => self.collection = Some(name),
            Some(first) => self.several |= *first != name,
        }
    }

    /// A procedure that is called.
    pub fn procedure(&mut self, parts: &[Token<'_>]) {
        let name = name(parts);
        self.push(&name);
        self.procedure.get_or_insert(name);
    }

    /// Something else that has a name.
    pub fn target(&mut self, parts: &[Token<'_>]) {
        self.push(&name(parts));
    }

    /// A statement is over; another may follow.
    pub fn end_statement(&mut self) {
        self.merge();
        self.further |= !self.summary.is_empty();
        self.anew = self.summary.len() > self.begins;
    }

    /// A statement like the one before is told once.
    pub fn merge(&mut self) {
        fn piece(range: Option<&str>) -> &str {
            range.unwrap_or_default().trim_start_matches([';', ' '])
        }
        let statement = piece(self.summary.get(self.begins..));
        let before = piece(self.summary.get(self.previous..self.begins));
        if !statement.is_empty() && statement == before {
            self.summary.truncate(self.begins);
            self.begins = self.previous;
        }
    }

    fn push(&mut self, piece: &str) {
        if std::mem::take(&mut self.anew) {
            (self.previous, self.begins) = (self.begins, self.summary.len());
            self.piece("; ", piece);
        } else {
            let empty = self.summary.is_empty();
            self.piece(if empty { "" } else { " " }, piece);
        }
    }

    fn piece(&mut self, before: &str, piece: &str) {
        let length = self.summary.len().saturating_add(before.len());
        self.full |= length.saturating_add(piece.len()) > LONGEST;
        if !self.full {
            self.summary.push_str(before);
            self.summary.push_str(piece);
        }
    }
}

/// A name as it is shown: without the quotes of parts that need none.
fn name(parts: &[Token<'_>]) -> String {
    let mut name = String::new();
    for part in parts {
        if !name.is_empty() {
            name.push('.');
        }
        let inside = part.text.get(1..part.text.len().saturating_sub(1));
        let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$') || *b >= 0x80;
        let shown = match (part.kind, inside) {
            (Kind::Quoted, Some(inside)) if !inside.is_empty() && inside.iter().all(plain) => {
                inside
            }
            _ => part.text,
        };
        name.push_str(&String::from_utf8_lossy(shown));
    }
    name
}
