//! Prepared statements by their ids: those of a connection, and those of all connections of its process,
//! since drivers prepare on one and execute on any.
//!
//! One table for a process is sound where an id is what Cassandra makes of the statement itself: MD5 of
//! the keyspace that was used, or of none, and the text. What an id is not such a sum of is known on its own
//! connection alone.
//!
//! Never true here: that more is kept than the limits say, or that one process is believed about what
//! another one executes.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, RwLock};

use md5::{Digest, Md5};

use crate::protocol::sql::Described;
use crate::protocol::{Setup, Shared};

/// Most ids and bytes that are kept of a connection.
const OWN: (usize, usize) = (256, 64 << 10);
/// The same, of all.
const ALL: (usize, usize) = (4096, 1 << 20);
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
    own: Table,
    shared: Arc<Shared>,
    process: u32,
}

/// What was told, by the process that it was told to, or that told it.
#[derive(Debug, Default)]
pub struct Statements(RwLock<Table>);

/// By id; the oldest goes first.
#[derive(Debug, Default)]
struct Table {
    known: HashMap<Box<[u8]>, Arc<Described>>,
    order: VecDeque<Box<[u8]>>,
    weight: usize,
}

impl Names {
    /// Those of a connection of this process.
    pub fn new(setup: &Setup) -> Self {
        Self {
            own: Table::default(),
            shared: Arc::clone(&setup.shared),
            process: setup.process,
        }
    }

    /// The statement of this id is this one.
    pub fn learn(&mut self, id: &[u8], prepared: &Prepared) {
        let statement = &prepared.statement;
        self.own.put(id, statement, OWN);
        if !prepared.sums.iter().flatten().any(|sum| sum == id) {
            return;
        }
        let id = self.of_process(id);
        let all = &self.shared.statements.0;
        let known = |table: &Table| table.known.get(&id).is_some_and(|told| told == statement);
        if all.read().is_ok_and(|table| known(&table)) {
            return;
        }
        if let Ok(mut table) = all.write() {
            table.put(&id, statement, ALL);
        }
    }

    /// The statement of this id.
    pub fn find(&self, id: &[u8]) -> Option<Arc<Described>> {
        if let Some(told) = self.own.known.get(id) {
            return Some(Arc::clone(told));
        }
        let all = self.shared.statements.0.read().ok()?;
        all.known.get(&self.of_process(id)).cloned()
    }

    /// What it costs to hold, in bytes.
    pub fn weight(&self) -> usize {
        self.own.weight
    }

    /// The key in the table of all.
    fn of_process(&self, id: &[u8]) -> Box<[u8]> {
        [&self.process.to_be_bytes(), id].concat().into()
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
        weight(&[], &self.statement).saturating_add(size_of::<Self>())
    }
}

impl Table {
    fn put(&mut self, id: &[u8], told: &Arc<Described>, (most, room): (usize, usize)) {
        self.weight = self.weight.saturating_add(weight(id, told));
        match self.known.insert(id.into(), Arc::clone(told)) {
            Some(old) => self.lighten(id, &old),
            None => self.order.push_back(id.into()),
        }
        while (self.order.len() > most || self.weight > room)
            && let Some(oldest) = self.order.pop_front()
        {
            if let Some(old) = self.known.remove(&oldest) {
                self.lighten(&oldest, &old);
            }
        }
    }

    fn lighten(&mut self, id: &[u8], told: &Described) {
        self.weight = self.weight.saturating_sub(weight(id, told));
    }
}

/// What a statement costs to hold, in bytes.
fn weight(id: &[u8], told: &Described) -> usize {
    let texts = [&told.collection, &told.procedure, &told.summary, &told.text];
    let texts = texts.into_iter().flatten().map(String::len);
    let places = size_of::<(Box<[u8]>, Box<[u8]>, Described)>();
    let own = id.len().saturating_mul(2).saturating_add(places);
    texts.fold(own, usize::saturating_add)
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
            own: Table::default(),
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
            one.learn(id, &prepared(keyspace, text));
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
            one.learn(id, &prepared);
            assert_eq!(one.find(id), Some(Arc::clone(&prepared.statement)));
            assert_eq!(names(&shared, 1).find(id), None);
        }
    }

    #[test]
    fn the_oldest_goes() {
        let mut names = names(&Arc::default(), 1);
        for n in 0..1000_u32 {
            names.learn(&n.to_be_bytes(), &prepared(None, "SELECT"));
        }
        assert_eq!((names.own.known.len(), names.own.order.len()), (256, 256));
        let long = "x".repeat(30 << 10);
        for n in 0..4_u8 {
            names.learn(&[n], &prepared(None, &long));
        }
        assert!(names.weight() <= 64 << 10, "{}", names.weight());
        assert!(names.find(&[3]).is_some() && names.find(&[1]).is_none());
    }
}
