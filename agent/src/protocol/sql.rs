//! Statements of SQL and its like: what they do, to which tables, and their text without values.
//!
//! One pass of a lexer that knows each dialect's quotes and comments; no grammar, so that a statement
//! that is broken, cut or newer than this file says what can be known of it (decision 18).
//!
//! Never true here: that a part of a literal is shown unless the whole text is (`database.query_text`),
//! that time grows faster than the statement, or that a name is made up.

use std::borrow::Cow;
use std::sync::Arc;

use lex::{Kind, Lexer};
use outline::Outline;
use redact::{Redactor, shown};
use words::Keyword;

use super::known::Held;
use crate::config::{Database, QueryText};

mod lex;
mod outline;
mod redact;
mod summary;
#[cfg(test)]
mod tests;
mod words;

/// Whose SQL it is: what quotes and comments look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// PostgreSQL, and what speaks its protocol.
    Postgres,
    /// MySQL and MariaDB.
    MySql,
    /// Cassandra's CQL.
    Cql,
}

/// What is said of a statement, or of several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Described {
    /// `db.operation.name`: the first statement's verb, from a closed list.
    pub operation: Option<Cow<'static, str>>,
    /// `db.collection.name`: the table, where there is exactly one.
    pub collection: Option<String>,
    /// `db.stored_procedure.name`, of CALL.
    pub procedure: Option<String>,
    /// `db.query.summary`: `SELECT orders items`.
    pub summary: Option<String>,
    /// `db.query.text`, as it may be shown.
    pub text: Option<String>,
}

impl Held for Arc<Described> {
    fn weight(&self) -> usize {
        let Described {
            operation: _,
            collection,
            procedure,
            summary,
            text,
        } = &**self;
        let texts = [collection, procedure, summary, text];
        let texts = texts.into_iter().flatten().map(String::capacity);
        texts.fold(size_of::<Described>(), usize::saturating_add)
    }
}

/// Bytes of a statement that are looked at.
const LOOK: usize = 64 << 10;

/// Describes a statement. `whole`: false where its end was not seen.
pub fn describe(statement: &[u8], dialect: Dialect, config: &Database, whole: bool) -> Described {
    let look = statement.get(..LOOK);
    let whole = whole && look.is_none_or(|look| look.len() == statement.len());
    let look = look.unwrap_or(statement);
    let mut redactor = (config.query_text == QueryText::Redacted)
        .then(|| Redactor::new(look.len(), config.query_length));
    let mut lexer = Lexer::new(look, dialect, whole);
    let mut outline = Outline::new(dialect);
    let mut operand = false;
    while let Some(token) = lexer.token(operand) {
        let keyword = match token.kind {
            Kind::Word => Keyword::of(token.text),
            _ => None,
        };
        operand = match token.kind {
            Kind::Word => keyword.is_none(),
            Kind::Quoted | Kind::Literal | Kind::Parameter | Kind::Close => true,
            _ => false,
        };
        outline.take(&token, keyword);
        if let Some(redactor) = &mut redactor {
            redactor.put(&token, keyword);
        }
    }
    let text = match config.query_text {
        QueryText::Redacted => redactor.map(Redactor::text),
        QueryText::Full => {
            // One byte more, so that what is cut can be seen to be.
            let kept = statement.get(..config.query_length).unwrap_or(statement);
            Some(shown(kept.to_vec(), config.query_length))
        }
        QueryText::Off => None,
    };
    let found = outline.found(whole);
    Described {
        operation: found.operation.map(Cow::Borrowed),
        collection: found.collection.filter(|_| !found.several),
        procedure: found.procedure,
        summary: Some(found.summary).filter(|summary| !summary.is_empty()),
        text: text.filter(|text| !text.is_empty()),
    }
}
