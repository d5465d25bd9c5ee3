//! What a connection was told and refers to later: prepared statements and portals, by their names.
//!
//! Never true here: that more than so many names or bytes are kept, or that a name stands for a
//! statement that it may not stand for any more.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::protocol::known::{self, Known};
use crate::protocol::sql::Described;

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
        total.fetch_add(weight(&statement), Ordering::Relaxed);
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
        let weight = weight(&self.statement);
        self.total.fetch_sub(weight, Ordering::Relaxed);
    }
}

/// What names stand for.
pub type Names = Known<Arc<Held>>;

impl known::Held for Arc<Held> {
    fn weight(&self) -> usize {
        weight(&self.statement)
    }
}

fn weight(statement: &Statement) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let held = match statement {
        Statement::Told(told, _) => [&told.collection, &told.procedure, &told.summary, &told.text]
            .into_iter()
            .map(text)
            .fold(0, usize::saturating_add),
        Statement::Named(name) => name.len(),
    };
    size_of::<Statement>().saturating_add(held)
}
