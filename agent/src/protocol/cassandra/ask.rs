//! What requests ask: statements as text, by their ids, and several at once ("native protocol v5",
//! section 4.1; those of v3 and v4 have fewer fields).
//!
//! Never true here: that a value is looked at.

use std::borrow::Cow;
use std::sync::Arc;

use super::frame::{Head, MAX_ID, opcode, string, value};
use super::names::{Names, Prepared};
use super::waiting::What;
use crate::config::Database;
use crate::protocol::database::Query;
use crate::protocol::reader::{Reader, text};
use crate::protocol::sql::{self, Described, Dialect};
use crate::protocol::{Attribute, Flow, Request};
use crate::stats::Stats;

/// Most statements of a batch that are looked at.
const MAX_BATCH: u16 = 1024;
/// Longest summary, bytes, as of other statements.
const MAX_SUMMARY: usize = 255;
/// Longest keyspace's name ("max 48 characters").
pub const MAX_KEYSPACE: usize = 192;

/// What reading a request needs to know of its connection.
pub struct Known<'a> {
    pub names: &'a Names,
    /// The keyspace that is used.
    pub keyspace: Option<&'a str>,
    pub config: &'a Database,
    pub stats: &'a Stats,
}

/// A request that was read.
pub struct Ask {
    pub request: Request,
    pub what: What,
    /// Whether not all that is to be told is known.
    pub partial: bool,
    /// Whether it may change the keyspace.
    pub may_use: bool,
}

/// What statements are executed with.
#[derive(Debug, Default)]
struct Options<'a> {
    consistency: Option<&'static str>,
    page: Option<i32>,
    keyspace: Option<&'a [u8]>,
}

/// Reads a request; `None` for one that makes no exchange. `whole`: whether all of the body is there
/// that may be looked at.
pub fn read(head: Head, body: &[u8], whole: bool, known: &Known<'_>) -> Option<Ask> {
    let mut fields = Reader::new(body);
    let fine = head.preamble(Flow::Request, &mut fields);
    if fine.is_none() {
        fields = Reader::new(&[]);
    }
    match head.opcode {
        opcode::QUERY => Some(known.query(head, &mut fields, whole)),
        opcode::PREPARE => Some(known.prepare(head, &mut fields, whole)),
        opcode::EXECUTE => Some(known.execute(head, &mut fields)),
        opcode::BATCH => Some(known.batch(head, &mut fields)),
        _ => None,
    }
}

impl Known<'_> {
    fn query(&self, head: Head, fields: &mut Reader<'_>, whole: bool) -> Ask {
        let (statement, partial) = self.statement(fields, whole);
        let options = match partial {
            true => Options::default(),
            false => options(head, fields),
        };
        let operation = statement.operation.as_deref();
        Ask {
            may_use: operation.is_none_or(|operation| operation == "USE"),
            request: self.request(&statement, &options, None),
            what: What::Statement,
            partial,
        }
    }

    /// To prepare a statement is a question of its own: what is wrong with it is said then.
    fn prepare(&self, head: Head, fields: &mut Reader<'_>, whole: bool) -> Ask {
        let text = whole_text(&mut fields.clone());
        let (statement, partial) = self.statement(fields, whole);
        let mut options = Options::default();
        if head.version >= 5 && !partial {
            options.keyspace = fields
                .u32()
                .filter(|flags| flags & 1 != 0)
                .and_then(|_| string(fields));
        }
        let summary = statement.summary.as_ref().map(|s| format!("PREPARE {s}"));
        let told = Described {
            operation: Some("PREPARE".into()),
            summary,
            ..statement.clone()
        };
        Ask {
            may_use: false,
            request: self.request(&told, &options, None),
            what: What::Prepare((!partial).then(|| {
                let keyspace = options.keyspace.or(self.keyspace.map(str::as_bytes));
                Box::new(Prepared::new(statement, keyspace, text))
            })),
            partial,
        }
    }

    fn execute(&self, head: Head, fields: &mut Reader<'_>) -> Ask {
        let id = id(fields);
        let statement = id.and_then(|id| self.names.find(id));
        // From version 5 on the id of what the rows have in common follows.
        let goes_on = id.is_some() && (head.version < 5 || string(fields).is_some());
        let options = match goes_on {
            true => options(head, fields),
            false => Options::default(),
        };
        let partial = statement.is_none();
        let statement = statement.unwrap_or_default();
        let mut request = self.request(&statement, &options, None);
        if partial {
            request.operation = "EXECUTE".into();
        }
        Ask {
            may_use: statement.operation.as_deref() == Some("USE"),
            request,
            what: What::Statement,
            partial,
        }
    }

    fn batch(&self, head: Head, fields: &mut Reader<'_>) -> Ask {
        let count = fields.u8().and_then(|_| fields.u16());
        let mut all = Some(Vec::new());
        let mut passed = count.is_some_and(|count| count <= MAX_BATCH);
        for _ in 0..count.unwrap_or(0).min(MAX_BATCH) {
            let one = self.one(fields);
            match (&mut all, one) {
                (Some(all), Some(Some(one))) => all.push(one),
                (all, one) => {
                    *all = None;
                    if one.is_none() {
                        passed = false;
                        break;
                    }
                }
            }
        }
        let options = match passed {
            true => options_of_batch(head, fields),
            false => Options::default(),
        };
        let all = all.filter(|_| count.is_some());
        let partial = all.is_none();
        let told = match (all.as_deref(), count) {
            (Some([one]), Some(1)) => (**one).clone(),
            (Some(all), Some(count)) => together(all, count > MAX_BATCH, self.config.query_length),
            _ => Described::default(),
        };
        let mut request = self.request(&told, &options, count);
        if told == Described::default() {
            request.operation = "BATCH".into();
        }
        Ask {
            may_use: false,
            request,
            what: What::Statement,
            partial,
        }
    }

    /// A statement of a batch, `None` where it is not to be seen; within it, where its id is not known.
    fn one(&self, fields: &mut Reader<'_>) -> Option<Option<Arc<Described>>> {
        let statement = match fields.u8()? {
            0 => {
                let length = usize::try_from(fields.u32()?).ok()?;
                let text = fields.take(length)?;
                let statement = sql::describe(text, Dialect::Cql, self.config, true);
                Some(Arc::new(statement))
            }
            _ => self.names.find(id(fields)?),
        };
        for _ in 0..fields.u16()? {
            value(fields)?;
        }
        Some(statement)
    }

    /// A text behind its length, and whether some of it is not there that may be looked at.
    fn statement(&self, fields: &mut Reader<'_>, whole: bool) -> (Described, bool) {
        let length = fields.u32().and_then(|n| usize::try_from(n).ok());
        let Some(length) = length else {
            return (Described::default(), true);
        };
        match fields.take(length) {
            Some(text) => (self.describe(text, true), false),
            None if whole => (self.describe(fields.rest(), false), false),
            // Only what begins it is sure.
            None => {
                let there = fields.rest();
                let described = self.describe(there, false);
                let ends = |word: &str| {
                    let at = there.len().saturating_sub(word.len());
                    let end = there.get(at..).unwrap_or_default();
                    end.eq_ignore_ascii_case(word.as_bytes())
                };
                let cut = Described {
                    operation: described.operation.filter(|word| !ends(word)),
                    ..Described::default()
                };
                (cut, true)
            }
        }
    }

    fn describe(&self, text: &[u8], whole: bool) -> Described {
        sql::describe(text, Dialect::Cql, self.config, whole)
    }

    fn request(&self, statement: &Described, options: &Options<'_>, batch: Option<u16>) -> Request {
        let own = options.keyspace;
        let own = own.map(|name| text(name, MAX_KEYSPACE, self.stats));
        let query = Query {
            system: super::NAME,
            namespace: own.as_deref().or(self.keyspace),
            operation: statement.operation.clone(),
            collection: statement.collection.as_deref().map(Cow::Borrowed),
            procedure: None,
            summary: statement.summary.as_deref().map(Cow::Borrowed),
            text: statement.text.as_deref().map(Cow::Borrowed),
            batch: batch.map(usize::from),
        };
        let mut further = Vec::new();
        if let Some(level) = options.consistency {
            further.push(Attribute::fixed("cassandra.consistency.level", level));
        }
        if let Some(page) = options.page {
            further.push(Attribute::int("cassandra.page.size", page.into()));
        }
        query.request(super::NAME, further)
    }
}

fn id<'a>(fields: &mut Reader<'a>) -> Option<&'a [u8]> {
    let id = string(fields)?;
    (1..=usize::from(MAX_ID)).contains(&id.len()).then_some(id)
}

/// A text behind its length, where all of it is there.
fn whole_text<'a>(fields: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = usize::try_from(fields.u32()?).ok()?;
    fields.take(length)
}

/// Several statements as one: what all have in common, and their texts.
fn together(all: &[Arc<Described>], more: bool, room: usize) -> Described {
    // Prepared statements are most often the same one, again and again.
    let mut runs: Vec<&Described> = all.iter().map(Arc::as_ref).collect();
    runs.dedup_by(|one, other| std::ptr::eq(*one, *other));
    let Some((first, others)) = runs.split_first() else {
        return Described {
            operation: Some("BATCH".into()),
            ..Described::default()
        };
    };
    let same = |of: fn(&Described) -> Option<&str>| {
        let value = of(first).filter(|_| !more);
        value.filter(|value| others.iter().all(|other| of(other) == Some(value)))
    };
    let operation = same(|one| one.operation.as_deref());
    let text = match same(|one| one.text.as_deref()) {
        Some(text) => Some(text.to_owned()),
        None => joined(all, room),
    };
    Described {
        operation: Some(match operation {
            Some(operation) => Cow::Owned(format!("BATCH {operation}")),
            None => Cow::Borrowed("BATCH"),
        }),
        collection: same(|one| one.collection.as_deref()).map(str::to_owned),
        procedure: None,
        summary: Some(summary(&runs)),
        text,
    }
}

/// What each of them does, those that do the same one after the other being told once.
fn summary(all: &[&Described]) -> String {
    let mut summary = "BATCH".to_owned();
    let mut before = None;
    for one in all {
        let own = one.summary.as_deref();
        let (Some(text), false) = (own, own == before) else {
            continue;
        };
        let separator = if before.is_none() { " " } else { "; " };
        let length = separator.len().saturating_add(text.len());
        if summary.len().saturating_add(length) > MAX_SUMMARY {
            break;
        }
        summary.push_str(separator);
        summary.push_str(text);
        before = own;
    }
    summary
}

/// The statements' texts as far as there is room; none where one has none.
fn joined(all: &[Arc<Described>], room: usize) -> Option<String> {
    let mut joined = String::new();
    for one in all {
        let text = one.text.as_deref()?;
        let separator = if joined.is_empty() { "" } else { "; " };
        let length = separator.len().saturating_add(text.len());
        if joined.len().saturating_add(length) > room {
            break;
        }
        joined.push_str(separator);
        joined.push_str(text);
    }
    Some(joined).filter(|joined| !joined.is_empty())
}

/// What a statement is executed with; what is not there is not known.
fn options<'a>(head: Head, fields: &mut Reader<'a>) -> Options<'a> {
    let mut options = Options::default();
    let mut read = || {
        options.consistency = consistency(fields.u16()?);
        let flags = flags(head, fields)?;
        let has = |bit: u32| flags & bit != 0;
        if has(0x01) {
            for _ in 0..fields.u16()? {
                if has(0x40) {
                    string(fields)?;
                }
                value(fields)?;
            }
        }
        if has(0x04) {
            options.page = Some(fields.i32()?);
        }
        if has(0x08) {
            value(fields)?;
        }
        options.keyspace = keyspace(flags, fields);
        Some(())
    };
    let _ = read();
    options
}

fn options_of_batch<'a>(head: Head, fields: &mut Reader<'a>) -> Options<'a> {
    let mut options = Options::default();
    let mut read = || {
        options.consistency = consistency(fields.u16()?);
        let flags = flags(head, fields)?;
        options.keyspace = keyspace(flags, fields);
        Some(())
    };
    let _ = read();
    options
}

fn flags(head: Head, fields: &mut Reader<'_>) -> Option<u32> {
    match head.version {
        5 => fields.u32(),
        _ => fields.u8().map(u32::from),
    }
}

/// The keyspace that a request brings, behind a consistency and a time.
fn keyspace<'a>(flags: u32, fields: &mut Reader<'a>) -> Option<&'a [u8]> {
    if flags & 0x10 != 0 {
        fields.u16()?;
    }
    if flags & 0x20 != 0 {
        fields.u64()?;
    }
    match flags & 0x80 != 0 {
        true => string(fields),
        false => None,
    }
}

/// How many replicas must agree (section 3, "[consistency]"), as the conventions write it.
fn consistency(level: u16) -> Option<&'static str> {
    const LEVELS: [&str; 11] = [
        "any",
        "one",
        "two",
        "three",
        "quorum",
        "all",
        "local_quorum",
        "each_quorum",
        "serial",
        "local_serial",
        "local_one",
    ];
    LEVELS.get(usize::from(level)).copied()
}
