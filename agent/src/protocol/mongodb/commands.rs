//! Which commands there are (<https://www.mongodb.com/docs/manual/reference/command/>), as far as it
//! matters what their first value is.
//!
//! Never true here: that a value is taken for a collection's name because it is a text: users and
//! roles are made by commands that begin with their names.

use std::borrow::Cow;

/// What is known of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Of drivers and servers among themselves: handshakes, authentication, heartbeats, sessions.
    Housekeeping,
    /// Its first value is its collection's name.
    Collection,
    /// The same, and this array of it holds statements.
    Statements(&'static str),
    /// This field has its collection's name.
    Field(&'static str),
    /// It has no collection, but statements in this array.
    Several(&'static str),
    /// It has no collection, or none that is known.
    Other,
}

use About::{Collection, Field, Housekeeping, Several, Statements};

/// By name, in the order of its bytes.
const COMMANDS: &[(&str, About)] = &[
    ("_isSelf", Housekeeping),
    ("aggregate", Collection),
    ("analyze", Collection),
    ("authenticate", Housekeeping),
    ("bulkWrite", Several("ops")),
    ("cleanupStructuredEncryptionData", Collection),
    ("cloneCollectionAsCapped", Collection),
    ("collMod", Collection),
    ("collStats", Collection),
    ("compact", Collection),
    ("compactStructuredEncryptionData", Collection),
    ("convertToCapped", Collection),
    ("count", Collection),
    ("create", Collection),
    ("createIndexes", Collection),
    ("createSearchIndexes", Collection),
    ("delete", Statements("deletes")),
    ("deleteIndexes", Collection),
    ("distinct", Collection),
    ("drop", Collection),
    ("dropIndexes", Collection),
    ("dropSearchIndex", Collection),
    ("endSessions", Housekeeping),
    ("find", Collection),
    ("findAndModify", Collection),
    ("findandmodify", Collection),
    ("getMore", Field("collection")),
    ("getnonce", Housekeeping),
    ("hello", Housekeeping),
    ("insert", Collection),
    ("isMaster", Housekeeping),
    ("ismaster", Housekeeping),
    ("killCursors", Collection),
    ("listIndexes", Collection),
    ("logout", Housekeeping),
    ("mapReduce", Collection),
    ("mapreduce", Collection),
    ("ping", Housekeeping),
    ("planCacheClear", Collection),
    ("planCacheClearFilters", Collection),
    ("planCacheListFilters", Collection),
    ("planCacheSetFilter", Collection),
    ("reIndex", Collection),
    ("refreshSessions", Housekeeping),
    ("replSetHeartbeat", Housekeeping),
    ("replSetUpdatePosition", Housekeeping),
    ("saslContinue", Housekeeping),
    ("saslStart", Housekeeping),
    ("update", Statements("updates")),
    ("updateSearchIndex", Collection),
    ("validate", Collection),
];

/// A command by its name, if it is one that is known.
pub fn known(name: &[u8]) -> Option<(&'static str, About)> {
    let at = COMMANDS.binary_search_by(|(known, _)| known.as_bytes().cmp(name));
    at.ok().and_then(|at| COMMANDS.get(at)).copied()
}

/// A command by its name, unless that is none that a command can have.
pub fn named(name: &[u8]) -> Option<(Cow<'static, str>, About)> {
    if let Some((name, about)) = known(name) {
        return Some((Cow::Borrowed(name), about));
    }
    let plain = is_plain(name).then(|| String::from_utf8_lossy(name).into_owned())?;
    Some((Cow::Owned(plain), About::Other))
}

/// Longest name that a command has.
pub const MAX_NAME: usize = 64;

/// Whether a name is like those of commands: letters, digits, and what joins them.
pub fn is_plain(name: &[u8]) -> bool {
    let letter = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    matches!(name.first(), Some(first) if !first.is_ascii_digit())
        && name.len() <= MAX_NAME
        && name.iter().all(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found() {
        assert!(COMMANDS.is_sorted_by_key(|(name, _)| *name));
        for (name, about) in COMMANDS {
            assert_eq!(known(name.as_bytes()), Some((*name, *about)));
            assert!(is_plain(name.as_bytes()), "{name}");
        }
        let user = named(b"createUser");
        assert_eq!(user, Some((Cow::Owned("createUser".into()), About::Other)));
        for name in [
            &b""[..],
            b"1",
            b"find orders",
            b"\xff",
            b"$cmd",
            &[b'a'; 65],
        ] {
            assert_eq!(named(name), None, "{name:?}");
        }
    }
}
