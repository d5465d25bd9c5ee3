//! What spans say of commands and their answers: OpenTelemetry's database conventions and those for
//! MongoDB (semantic-conventions 1.42.0, `docs/database/mongodb.md`). They name no text of a query
//! and no number of documents.
//!
//! Never true here: that anything of a document is shown but names of databases and collections.

use std::borrow::Cow;

use super::commands::About;
use super::walk::Found;
use crate::protocol::database::{Outcome, Query};
use crate::protocol::{Request, Response};

/// The registry's name, and the system's.
pub const NAME: &str = "mongodb";

/// What a command asks, if it is no housekeeping. What was not read is left out, and so is what there is
/// no command by.
pub fn request(found: &mut Found) -> Option<Request> {
    let about = found.about.filter(|about| *about != About::Housekeeping)?;
    let batch = matches!(about, About::Statements(_) | About::Several(_)) && !found.lost;
    let query = Query {
        system: NAME,
        namespace: found.namespace.as_deref(),
        operation: found.operation.map(Cow::Borrowed),
        collection: found.collection.take().map(Into::into),
        batch: batch.then_some(found.statements as usize),
        ..Query::default()
    };
    Some(query.request(NAME, Vec::new()))
}

/// What a command asks that cannot be read.
pub fn unread() -> Request {
    let query = Query {
        system: NAME,
        ..Query::default()
    };
    query.request(NAME, Vec::new())
}

/// Whether something of a command that is told is not known.
pub fn is_partial(found: &Found) -> bool {
    let missing = match found.about {
        Some(About::Statements(_) | About::Several(_)) => true,
        Some(About::Collection | About::Field(_)) => found.collection.is_none(),
        _ => false,
    };
    found.lost && (missing || found.namespace.is_none())
}

/// Whether a command that brings much has done nothing else: what was written may have failed all the
/// same.
pub fn reads(found: &Found) -> bool {
    found.operation.is_some_and(|name| READS.contains(&name))
}

const READS: [&str; 6] = [
    "aggregate",
    "distinct",
    "find",
    "getMore",
    "listCollections",
    "listIndexes",
];

/// How a command went, `reads` being whether it reads and nothing else; `None` where the answer was
/// not read so far.
pub fn response(found: &Found, reads: bool) -> Option<Response> {
    let failed = found.failed || found.ok == Some(false);
    let code = match found.ok {
        Some(false) => found.code,
        _ => found.inner,
    };
    let known = match failed {
        // Which error it was is told by what was lost.
        true => code.is_some() || !found.lost,
        false => !found.lost && found.ok.is_some() || reads && found.brought,
    };
    let outcome = Outcome {
        status_code: code.filter(|_| failed).map(|code| code.to_string().into()),
        is_error: failed,
        rows: None,
    };
    known.then(|| outcome.response(Vec::new()))
}
