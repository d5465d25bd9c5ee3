//! Prepared statements by their ids: those of a connection, and those of all connections of its process,
//! since drivers prepare on one and execute on any.
//!
//! One table for a process is sound where an id is what Cassandra makes of the statement itself: MD5 of
//! the keyspace that was used, or of none, and the text. What an id is not such a sum of is known on its own
//! connection alone.
//!
//! Never true here: that one process is believed about what another one executes.

use std::sync::Arc;

use md5::{Digest, Md5};

use crate::protocol::known::{Held, Known};
use crate::protocol::sql::Described;
use crate::protocol::{Setup, Shared};
use crate::stats::Stats;

/// What an id is made as.
type Sum = [u8; 16];

/// A statement that waits for its id.
#[derive(Debug)]
pub struct Prepared {
    /// What it is.
    pub statement: Arc<Described>,
    sums: [Option<Sum>; 2],
}

/// What one connection was told, and all of its process.
#[derive(Debug)]
pub struct Names {
    own: Known<Arc<Described>>,
    shared: Arc<Shared>,
    process: u32,
}

impl Names {
    /// Those of a connection of this process.
    pub fn new(setup: &Setup) -> Self {
        Self {
            own: Known::default(),
            shared: Arc::clone(&setup.shared),
            process: setup.process,
        }
    }

    /// The statement of this id is this one.
    pub fn learn(&mut self, id: &[u8], prepared: &Prepared, stats: &Stats) {
        let statement = &prepared.statement;
        self.own.insert(id, Arc::clone(statement), stats);
        if !prepared.sums.iter().flatten().any(|sum| sum == id) {
            return;
        }
        let all = &self.shared.statements;
        if all.get(self.process, id).as_ref() != Some(statement) {
            all.insert(self.process, id, Arc::clone(statement), stats);
        }
    }

    /// The statement of this id.
    pub fn find(&self, id: &[u8]) -> Option<Arc<Described>> {
        let own = self.own.get(id).cloned();
        own.or_else(|| self.shared.statements.get(self.process, id))
    }

    /// What it costs to hold, in bytes.
    pub fn weight(&self) -> usize {
        self.own.weight()
    }
}

impl Prepared {
    /// Of this text; where not all of it was seen its id is believed on its own connection alone.
    pub fn new(statement: Described, keyspace: Option<&[u8]>, text: Option<&[u8]>) -> Self {
        let sum = |keyspace: &[u8]| {
            Some(
                Md5::new_with_prefix(keyspace)
                    .chain_update(text?)
                    .finalize()
                    .into(),
            )
        };
        Self {
            statement: Arc::new(statement),
            sums: [sum(b""), keyspace.and_then(sum)],
        }
    }

    /// What it costs to hold, in bytes.
    pub fn weight(&self) -> usize {
        self.statement.weight().saturating_add(size_of::<Self>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Described {
        Described {
            text: Some(text.into()),
            ..Described::default()
        }
    }

    fn prepared(keyspace: Option<&str>, text: &str) -> Prepared {
        let keyspace = keyspace.map(str::as_bytes);
        Prepared::new(told(text), keyspace, Some(text.as_bytes()))
    }

    fn names(shared: &Arc<Shared>, process: u32) -> Names {
        Names {
            own: Known::default(),
            shared: Arc::clone(shared),
            process,
        }
    }

    #[test]
    fn what_one_connection_was_told_another_of_its_process_knows() {
        let shared = Arc::default();
        let text = "INSERT INTO shop.items (id, name) VALUES (?, ?)";
        // Cassandra's own, of the text and of shop and the text.
        let alone = b"\x0d\x83\xb4\x84\xf2FG\x05\xa4\x00\xa9C\xdaW\x08\xf9";
        let within = b"\xf7M\x0c\xfbw\xb0d=\xff\x56]\xa3l\xf7\x1d\xdb";
        for (id, keyspace) in [(alone, None), (alone, Some("shop")), (within, Some("shop"))] {
            let mut one = names(&shared, 1);
            one.learn(id, &prepared(keyspace, text), &Stats::default());
            let known = |process: u32| names(&shared, process).find(id);
            assert_eq!(known(1).as_deref(), Some(&told(text)));
            assert_eq!(known(2), None);
        }
    }

    #[test]
    fn an_id_that_is_no_sum_is_known_on_its_connection_alone() {
        let shared = Arc::default();
        let mut one = names(&shared, 1);
        let unseen = Prepared::new(told("SELECT 1"), None, None);
        let sum: Sum = Md5::digest("SELECT 1").into();
        for (id, prepared) in [
            (&b"id"[..], prepared(None, "SELECT 1")),
            (b"sixteen bytes...", prepared(None, "SELECT 1")),
            (&sum, prepared(None, "SELECT 2")),
            (&sum, unseen),
        ] {
            one.learn(id, &prepared, &Stats::default());
            assert_eq!(one.find(id), Some(Arc::clone(&prepared.statement)));
            assert_eq!(names(&shared, 1).find(id), None);
        }
    }

    #[test]
    fn the_oldest_goes() {
        let (mut names, stats) = (names(&Arc::default(), 1), Stats::default());
        for n in 0..1000_u32 {
            names.learn(&n.to_be_bytes(), &prepared(None, "SELECT"), &stats);
        }
        assert_eq!(names.own.iter().count(), 256);
        assert_eq!(stats.protocol_entries_forgotten.get(), 1000 - 256);
        let long = "x".repeat(30 << 10);
        for n in 0..4_u8 {
            names.learn(&[n], &prepared(None, &long), &stats);
        }
        assert!(names.weight() <= 64 << 10, "{}", names.weight());
        assert!(names.find(&[3]).is_some() && names.find(&[1]).is_none());
    }
}
