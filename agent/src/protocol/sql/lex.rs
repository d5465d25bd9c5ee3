//! Statements as tokens: where names, literals and comments begin and end in each dialect.
//!
//! PostgreSQL: Documentation 18, 4.1 "Lexical Structure", strings as with `standard_conforming_strings`
//! on (the default since 9.1). MySQL: Reference Manual 8.4, 11 "Language Structure", in the default SQL
//! mode: `"` quotes a string, `\` escapes. CQL: Apache Cassandra 5.0, "The Cassandra Query Language",
//! definitions.
//!
//! Never true here: that a byte is looked at more than a few times, or that a part of a literal is
//! taken for a name. What a statement ends in, where its end was not seen, is no token unless it is a
//! literal: it may go on.

use memchr::{memchr, memchr2, memmem};

use super::Dialect;

/// One token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// What it is.
    pub kind: Kind,
    /// As it was written.
    pub text: &'a [u8],
    /// Whether a blank or a comment stands before it.
    pub spaced: bool,
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A keyword or a name.
    Word,
    /// A name in quotes.
    Quoted,
    /// A value.
    Literal,
    /// What stands for a value: `$1`, `?`, `:name`, `@variable`.
    Parameter,
    /// `(`, `[`, `{`.
    Open,
    /// `)`, `]`, `}`.
    Close,
    /// `,`.
    Comma,
    /// `.`.
    Dot,
    /// `;`.
    Semicolon,
    /// Operators, and all else.
    Other,
}

/// Takes the tokens of statements one by one.
#[derive(Clone, Debug)]
pub struct Lexer<'a> {
    rest: &'a [u8],
    dialect: Dialect,
    /// Whether the end is the statement's.
    whole: bool,
    /// Inside of a comment that MySQL executes.
    hint: bool,
}

impl<'a> Lexer<'a> {
    /// At the beginning.
    pub fn new(statement: &'a [u8], dialect: Dialect, whole: bool) -> Self {
        Self {
            rest: statement,
            dialect,
            whole,
            hint: false,
        }
    }

    /// Whether a sign stands next that belongs to the number behind it, if nothing stands before it
    /// that it could be subtracted from.
    fn sign(&self) -> bool {
        match self.rest {
            [b'+' | b'-', b'.', digit, ..] | [b'+' | b'-', digit, ..] => digit.is_ascii_digit(),
            _ => false,
        }
    }

    /// The next token; `operand`: the one before may be subtracted from.
    pub fn token(&mut self, operand: bool) -> Option<Token<'a>> {
        let spaced = self.blanks();
        let (kind, length) = match self.sign() && !operand {
            true => (Kind::Literal, number(self.rest.get(1..)?).saturating_add(1)),
            false => self.measure()?,
        };
        let length = length.clamp(1, self.rest.len());
        let (text, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        let open = rest.is_empty() && !self.whole;
        let cut = matches!(kind, Kind::Word | Kind::Quoted | Kind::Parameter) && open;
        (!cut).then_some(Token { kind, text, spaced })
    }

    /// Passes over blanks and comments.
    fn blanks(&mut self) -> bool {
        let before = self.rest.len();
        loop {
            let blanks = span(self.rest, |b| b <= b' ' || b == 0x7f);
            self.skip(blanks);
            let comment = match (self.rest, self.dialect) {
                ([b'-', b'-', rest @ ..], Dialect::MySql) => {
                    // `--5` is arithmetic.
                    let is = rest.first().is_none_or(|b| *b <= b' ');
                    is.then(|| line(self.rest))
                }
                ([b'-', b'-', ..], _)
                | ([b'#', ..], Dialect::MySql)
                | ([b'/', b'/', ..], Dialect::Cql) => Some(line(self.rest)),
                ([b'/', b'*', b'!', ..] | [b'/', b'*', b'M', b'!', ..], Dialect::MySql) => {
                    self.hint = true;
                    let head = span(self.rest, |b| matches!(b, b'/' | b'*' | b'M' | b'!'));
                    let version = self.rest.get(head..).unwrap_or_default();
                    Some(head.saturating_add(span(version, |b| b.is_ascii_digit())))
                }
                ([b'*', b'/', ..], Dialect::MySql) if self.hint => {
                    self.hint = false;
                    Some(2)
                }
                ([b'/', b'*', ..], dialect) => Some(comment(self.rest, dialect)),
                _ => None,
            };
            match comment {
                Some(length) => self.skip(length),
                None => return self.rest.len() != before,
            }
        }
    }

    fn skip(&mut self, n: usize) {
        self.rest = self.rest.get(n..).unwrap_or_default();
    }

    /// Kind and length of what stands next.
    fn measure(&self) -> Option<(Kind, usize)> {
        let rest = self.rest;
        let first = *rest.first()?;
        Some(match first {
            b'\'' => (Kind::Literal, self.string(self.dialect == Dialect::MySql)),
            b'"' if self.dialect == Dialect::MySql => (Kind::Literal, whole(rest, b'"', true)),
            b'"' => self.named(0, b'"'),
            b'`' if self.dialect == Dialect::MySql => self.named(0, b'`'),
            b'(' | b'[' | b'{' => (Kind::Open, 1),
            b')' | b']' | b'}' => (Kind::Close, 1),
            b',' => (Kind::Comma, 1),
            b';' => (Kind::Semicolon, 1),
            b'.' if rest.get(1).is_some_and(u8::is_ascii_digit) => (Kind::Literal, number(rest)),
            b'.' => (Kind::Dot, 1),
            b'$' if self.dialect != Dialect::MySql => self.dollar(),
            b'?' => (Kind::Parameter, 1),
            // A cast is no parameter.
            b':' if rest.get(1) == Some(&b':') => (Kind::Other, 2),
            b':' | b'@' if rest.get(1).is_some_and(|b| begins(*b)) => {
                (Kind::Parameter, span_from(rest, 1, continues))
            }
            b'@' if rest.get(1) == Some(&b'@') => (Kind::Parameter, span_from(rest, 2, continues)),
            first if begins(first) || first == b'$' => self.word(),
            first if first.is_ascii_digit() => match self.uuid() {
                Some(length) => (Kind::Literal, length),
                None => (Kind::Literal, number(rest)),
            },
            _ => (Kind::Other, 1),
        })
    }

    /// A name in quotes, so many bytes from here; one that does not end is no name.
    fn named(&self, from: usize, quote: u8) -> (Kind, usize) {
        let rest = self.rest.get(from..).unwrap_or_default();
        match quoted(rest, quote, false) {
            Some(length) => (Kind::Quoted, length),
            None if !self.whole => (Kind::Quoted, rest.len()),
            None => (Kind::Literal, rest.len()),
        }
    }

    /// A word, or the literal that it begins.
    fn word(&self) -> (Kind, usize) {
        let rest = self.rest;
        if let [prefix, b'\'', ..] = rest {
            let more = |escapes| {
                let string = Self {
                    rest: rest.get(1..).unwrap_or_default(),
                    ..self.clone()
                };
                (Kind::Literal, string.string(escapes).saturating_add(1))
            };
            match (prefix.to_ascii_lowercase(), self.dialect) {
                (b'e', Dialect::Postgres) => return more(true),
                (b'b' | b'x' | b'n', Dialect::Postgres) => return more(false),
                (b'b' | b'x' | b'n', Dialect::MySql) => return more(true),
                _ => {}
            }
        }
        if let ([b'u' | b'U', b'&', quote @ (b'\'' | b'"'), ..], Dialect::Postgres) =
            (rest, self.dialect)
        {
            let (kind, length) = match quote {
                b'"' => self.named(2, b'"'),
                _ => (
                    Kind::Literal,
                    whole(rest.get(2..).unwrap_or_default(), b'\'', false),
                ),
            };
            return (kind, length.saturating_add(2));
        }
        if let Some(length) = self.uuid().or_else(|| self.duration()) {
            return (Kind::Literal, length);
        }
        (Kind::Word, span(rest, continues))
    }

    /// Length of a string in single quotes, with those that it is continued by.
    fn string(&self, escapes: bool) -> usize {
        let mut length = whole(self.rest, b'\'', escapes);
        // "Two string constants that are only separated by whitespace with at least one newline are
        // concatenated", and escapes go on to be escapes. A comment to the line's end is whitespace there.
        let continued = escapes && self.dialect == Dialect::Postgres;
        loop {
            let after = self.rest.get(length..).unwrap_or_default();
            let blanks = blanks_and_lines(after);
            let (between, next) = after.split_at_checked(blanks).unwrap_or_default();
            if !continued || next.first() != Some(&b'\'') || memchr(b'\n', between).is_none() {
                return length;
            }
            let more = blanks.saturating_add(whole(next, b'\'', true));
            length = length.saturating_add(more);
        }
    }

    /// `$1`, or a string between dollars.
    fn dollar(&self) -> (Kind, usize) {
        let rest = self.rest;
        if rest.get(1).is_some_and(u8::is_ascii_digit) {
            return (Kind::Parameter, span_from(rest, 1, |b| b.is_ascii_digit()));
        }
        let tag = span_from(rest, 1, |b| continues(b) && b != b'$');
        match rest.get(tag) {
            Some(b'$') => {}
            // A parameter's beginning, or a string's.
            None if !self.whole => return (Kind::Parameter, rest.len()),
            _ => return (Kind::Other, 1),
        }
        let tag = tag.saturating_add(1);
        let (quote, inside) = rest.split_at_checked(tag).unwrap_or_default();
        let length = match memmem::find(inside, quote) {
            Some(at) => tag.saturating_add(at).saturating_add(quote.len()),
            None => rest.len(),
        };
        (Kind::Literal, length)
    }

    /// A UUID, which CQL writes without quotes; also the beginning of one that was cut.
    fn uuid(&self) -> Option<usize> {
        if self.dialect != Dialect::Cql {
            return None;
        }
        let mut at = 0;
        for (index, digits) in [8, 4, 4, 4, 12].into_iter().enumerate() {
            if index > 0 {
                match self.rest.get(at) {
                    Some(b'-') => at = at.saturating_add(1),
                    None if !self.whole => return Some(at),
                    _ => return None,
                }
            }
            for _ in 0..digits {
                match self.rest.get(at) {
                    Some(b) if b.is_ascii_hexdigit() => at = at.saturating_add(1),
                    None if !self.whole => return Some(at),
                    _ => return None,
                }
            }
        }
        Some(at)
    }

    /// A duration as of ISO 8601 (`P3Y6M`, `PT12H`), which CQL writes without quotes.
    fn duration(&self) -> Option<usize> {
        let is = match self.rest {
            [b'P', b'T', digit, ..] | [b'P', digit, ..] => digit.is_ascii_digit(),
            _ => false,
        };
        let part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b':' | b'.');
        (is && self.dialect == Dialect::Cql).then(|| span(self.rest, part))
    }
}

/// Length of a number, with whatever sticks to it.
fn number(rest: &[u8]) -> usize {
    let mut at = 0;
    while let Some(&b) = rest.get(at) {
        let sign = matches!(b, b'+' | b'-')
            && !rest.starts_with(b"0x")
            && at
                .checked_sub(1)
                .and_then(|before| rest.get(before))
                .is_some_and(|b| matches!(b, b'e' | b'E'))
            && rest
                .get(at.saturating_add(1))
                .is_some_and(u8::is_ascii_digit);
        // Two points are a range.
        let point = b == b'.' && rest.get(at.saturating_add(1)) != Some(&b'.');
        if !(continues(b) || point || sign) {
            break;
        }
        at = at.saturating_add(1);
    }
    at
}

/// Length of what stands in quotes, all if it does not end.
fn whole(rest: &[u8], quote: u8, escapes: bool) -> usize {
    quoted(rest, quote, escapes).unwrap_or(rest.len())
}

/// Length of what stands in quotes, both of them with it.
fn quoted(rest: &[u8], quote: u8, escapes: bool) -> Option<usize> {
    let mut at = 1_usize;
    loop {
        let ahead = rest.get(at..)?;
        let found = match escapes {
            true => memchr2(quote, b'\\', ahead)?,
            false => memchr(quote, ahead)?,
        };
        let after = at.checked_add(found)?.checked_add(1)?;
        let escape = ahead.get(found) == Some(&b'\\');
        if !escape && rest.get(after) != Some(&quote) {
            return Some(after);
        }
        at = after.checked_add(1)?;
    }
}

/// Length of a comment between `/*` and `*/`; PostgreSQL's nest.
fn comment(rest: &[u8], dialect: Dialect) -> usize {
    let mut depth = 1_u32;
    let mut at = 2_usize;
    while let Some(found) = memchr2(b'/', b'*', rest.get(at..).unwrap_or_default()) {
        at = at.saturating_add(found);
        let pair = rest.get(at..at.saturating_add(2)).unwrap_or_default();
        match pair {
            b"*/" => depth = depth.saturating_sub(1),
            b"/*" if dialect == Dialect::Postgres => depth = depth.saturating_add(1),
            _ => {
                at = at.saturating_add(1);
                continue;
            }
        }
        at = at.saturating_add(2);
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// Length of blanks and of comments to a line's end.
fn blanks_and_lines(rest: &[u8]) -> usize {
    let mut at = 0_usize;
    loop {
        let ahead = rest.get(at..).unwrap_or_default();
        let more = match ahead {
            [b'-', b'-', ..] => line(ahead),
            _ => span(ahead, |b| b.is_ascii_whitespace()),
        };
        if more == 0 {
            return at;
        }
        at = at.saturating_add(more);
    }
}

fn line(rest: &[u8]) -> usize {
    memchr(b'\n', rest).unwrap_or(rest.len())
}

fn span(bytes: &[u8], is: impl Fn(u8) -> bool) -> usize {
    let other = bytes.iter().position(|b| !is(*b));
    other.unwrap_or(bytes.len())
}

fn span_from(bytes: &[u8], from: usize, is: impl Fn(u8) -> bool) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    from.saturating_add(span(rest, is))
}

/// What a name begins with.
fn begins(b: u8) -> bool {
    b.is_ascii_alphabetic() || b == b'_' || b >= 0x80
}

/// What a name goes on with.
fn continues(b: u8) -> bool {
    begins(b) || b.is_ascii_digit() || b == b'$'
}
