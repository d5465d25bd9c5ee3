//! Prepared statements by their ids: those of a connection, and those of all connections of its process,
//! since drivers prepare on one and execute on any.
//!
//! One table for a process is sound where an id is what Cassandra makes of the statement itself: MD5 of
//! the keyspace and the text, so that it is never another statement's. Where that turns out to be
//! otherwise the id stands for nothing.
//!
//! Never true here: that more is kept than the limits say, or that one process is believed about what
//! another one executes.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, RwLock};

use crate::protocol::sql::Described;
use crate::protocol::{Setup, Shared};

/// Most ids and bytes that are kept of a connection.
const OWN: (usize, usize) = (256, 64 << 10);
/// The same, of all.
const ALL: (usize, usize) = (4096, 1 << 20);
/// Bytes of an id that is a sum.
const SUM: usize = 16;

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
    known: HashMap<Box<[u8]>, Option<Arc<Described>>>,
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
    pub fn learn(&mut self, id: &[u8], statement: &Arc<Described>) {
        self.own.put(id, Some(Arc::clone(statement)), OWN);
        if id.len() != SUM {
            return;
        }
        let id = self.of_process(id);
        let all = &self.shared.statements.0;
        let same = |table: &Table| table.told(&id).is_some_and(|told| *told == **statement);
        if all.read().is_ok_and(|table| same(&table)) {
            return;
        }
        if let Ok(mut table) = all.write() {
            let fresh = !table.known.contains_key(&*id);
            table.put(&id, fresh.then(|| Arc::clone(statement)), ALL);
        }
    }

    /// The statement of this id.
    pub fn find(&self, id: &[u8]) -> Option<Arc<Described>> {
        if let Some(told) = self.own.known.get(id) {
            return told.clone();
        }
        let all = self.shared.statements.0.read().ok()?;
        all.known.get(&*self.of_process(id))?.clone()
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

impl Table {
    fn told(&self, id: &[u8]) -> Option<&Described> {
        self.known.get(id)?.as_deref()
    }

    fn put(&mut self, id: &[u8], told: Option<Arc<Described>>, (most, room): (usize, usize)) {
        self.weight = self.weight.saturating_add(weight(id, told.as_deref()));
        match self.known.insert(id.into(), told) {
            Some(old) => self.lighten(id, old.as_deref()),
            None => self.order.push_back(id.into()),
        }
        while (self.order.len() > most || self.weight > room)
            && let Some(oldest) = self.order.pop_front()
        {
            if let Some(old) = self.known.remove(&oldest) {
                self.lighten(&oldest, old.as_deref());
            }
        }
    }

    fn lighten(&mut self, id: &[u8], told: Option<&Described>) {
        self.weight = self.weight.saturating_sub(weight(id, told));
    }
}

/// What a statement costs to hold, in bytes.
pub fn weight(id: &[u8], told: Option<&Described>) -> usize {
    let texts = told.map(|told| [&told.collection, &told.procedure, &told.summary, &told.text]);
    let texts = texts.into_iter().flatten().flatten().map(String::len);
    let places = size_of::<(Box<[u8]>, Box<[u8]>, Described)>();
    let own = id.len().saturating_mul(2).saturating_add(places);
    texts.fold(own, usize::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Arc<Described> {
        Arc::new(Described {
            text: Some(text.into()),
            ..Described::default()
        })
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
        let id = b"names-test-of-16";
        let shared = Arc::default();
        let mut one = names(&shared, 1);
        let other = names(&shared, 1);
        assert_eq!(other.find(id), None);
        one.learn(id, &told("SELECT 1"));
        one.learn(b"short", &told("SELECT 2"));
        assert_eq!(other.find(id), Some(told("SELECT 1")));
        assert_eq!(other.find(b"short"), None);
        assert_eq!(names(&shared, 2).find(id), None);
        // An id that is no sum of its statement.
        names(&shared, 1).learn(id, &told("SELECT 3"));
        assert_eq!(other.find(id), None);
        names(&shared, 1).learn(id, &told("SELECT 1"));
        assert_eq!(other.find(id), None);
        assert_eq!(one.find(id), Some(told("SELECT 1")));
    }

    #[test]
    fn the_oldest_goes() {
        let mut names = names(&Arc::default(), 1);
        for n in 0..1000_u32 {
            names.learn(&n.to_be_bytes(), &told("SELECT"));
        }
        assert_eq!((names.own.known.len(), names.own.order.len()), (256, 256));
        let long = "x".repeat(30 << 10);
        for n in 0..4_u8 {
            names.learn(&[n], &told(&long));
        }
        assert!(names.weight() <= 64 << 10, "{}", names.weight());
        assert!(names.find(&[3]).is_some() && names.find(&[1]).is_none());
    }
}
