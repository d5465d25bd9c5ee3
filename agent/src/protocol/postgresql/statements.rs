//! What a connection was told and refers to later: prepared statements and portals, by their names.
//!
//! Never true here: that more than so many names or bytes are kept, or that a name stands for a
//! statement that it may not stand for any more.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::protocol::sql::Described;

/// Most names that are kept.
const MOST: usize = 256;
/// Most bytes of names and of what they stand for.
const ROOM: usize = 64 << 10;
/// Longest name that is kept.
pub const LONGEST_NAME: usize = 256;

/// What is known of a statement.
#[derive(Debug)]
pub enum Statement {
    /// What it does; whether all of it was seen.
    Told(Described, bool),
    /// Its name: what it does was said unseen.
    Named(String),
}

/// A statement that is weighed for as long as anybody refers to it.
#[derive(Debug)]
pub struct Held {
    statement: Statement,
    total: Total,
}

/// Bytes of all statements of a connection that are referred to.
pub type Total = Arc<AtomicUsize>;

impl Held {
    /// This statement, weighed here.
    pub fn new(statement: Statement, total: &Total) -> Arc<Self> {
        total.fetch_add(weight(&[], &statement), Ordering::Relaxed);
        Arc::new(Self {
            statement,
            total: Arc::clone(total),
        })
    }
}

impl Deref for Held {
    type Target = Statement;

    fn deref(&self) -> &Statement {
        &self.statement
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let weight = weight(&[], &self.statement);
        self.total.fetch_sub(weight, Ordering::Relaxed);
    }
}

/// By name; the newest last.
#[derive(Debug, Default)]
pub struct Names {
    known: VecDeque<(Box<[u8]>, Arc<Held>)>,
    weight: usize,
}

impl Names {
    /// A name stands for this from now on.
    pub fn put(&mut self, name: &[u8], statement: Arc<Held>) {
        self.remove(name);
        self.weight = self.weight.saturating_add(weight(name, &statement));
        self.known.push_back((name.into(), statement));
        while self.known.len() > MOST || self.weight > ROOM {
            match self.known.pop_front() {
                Some((name, old)) => self.lighten(&name, &old),
                None => break,
            }
        }
    }

    /// What a name stands for.
    pub fn get(&self, name: &[u8]) -> Option<Arc<Held>> {
        let mut newest = self.known.iter().rev();
        let found = newest.find(|(known, _)| **known == *name);
        found.map(|(_, statement)| Arc::clone(statement))
    }

    /// A name stands for nothing any more.
    pub fn remove(&mut self, name: &[u8]) {
        let at = self.known.iter().rposition(|(known, _)| **known == *name);
        if let Some((name, old)) = at.and_then(|at| self.known.remove(at)) {
            self.lighten(&name, &old);
        }
    }

    /// What any name stands for is not known any more.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// What it costs to hold, in bytes.
    pub fn weight(&self) -> usize {
        self.weight
    }

    fn lighten(&mut self, name: &[u8], statement: &Statement) {
        self.weight = self.weight.saturating_sub(weight(name, statement));
    }
}

fn weight(name: &[u8], statement: &Statement) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let held = match statement {
        Statement::Told(told, _) => [&told.collection, &told.procedure, &told.summary, &told.text]
            .into_iter()
            .map(text)
            .fold(0, usize::saturating_add),
        Statement::Named(name) => name.len(),
    };
    let own = size_of::<(Box<[u8]>, Statement)>();
    own.saturating_add(name.len()).saturating_add(held)
}
