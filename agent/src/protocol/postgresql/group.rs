//! What is asked up to one ReadyForQuery, and the request that an exchange of it becomes.

use std::collections::VecDeque;
use std::sync::Arc;

use super::statements::{Held, Statement};
use crate::connection::Mark;
use crate::event::Nanos;
use crate::protocol::database::Query;
use crate::protocol::{Attribute, Request};

/// Messages that one ReadyForQuery ends.
#[derive(Debug)]
pub struct Group {
    /// Its place in the order.
    pub number: u64,
    /// When its first message was moved.
    pub asked_at: Nanos,
    /// Those that were not answered yet.
    pub items: VecDeque<Item>,
    /// Where what each Execute among them executes begins.
    pub executes: VecDeque<u64>,
    /// Whether what ends it was asked: a Sync, a simple query, a function call.
    pub synced: bool,
    /// Whether messages may be missing from it.
    pub blurred: bool,
    /// Whether the client has gone on with data to be copied.
    pub copied: bool,
    /// Whether one failed: the others are not executed.
    pub failed: bool,
}

impl Group {
    /// One more waits.
    pub fn push(&mut self, item: Item) {
        if let Item::Execute(_, from) = item {
            self.executes.push_back(from);
        }
        self.items.push_back(item);
    }

    /// The first that waits does no longer.
    pub fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front();
        if let Some(Item::Execute(..)) = item {
            self.executes.pop_front();
        }
        item
    }
}

/// One message that is answered.
#[derive(Debug)]
pub enum Item {
    /// A connection begins.
    Startup,
    /// A statement is prepared; where the message begins and ends.
    Parse(Arc<Held>, Mark, Mark),
    /// Its parameters are bound.
    Bind(Arc<Held>, Mark, Mark),
    /// What it takes and gives is asked for.
    Describe(Arc<Held>, Mark, Mark),
    /// It is let go.
    Close,
    /// A portal is executed: an exchange, which begins at this offset.
    Execute(u64, u64),
    /// A simple query: an exchange.
    Query(u64, Outcomes),
    /// A function call: an exchange.
    Call(u64, Outcomes),
}

/// What came of statements before ReadyForQuery.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcomes {
    /// SQLSTATE, where one failed.
    pub error: Option<Option<[u8; 5]>>,
    /// Rows that were returned.
    pub rows: Option<u64>,
    /// Nothing was asked: an empty statement, as drivers send them to see whether anybody is there.
    pub empty: bool,
    /// Whether it may be more than one statement.
    pub several: bool,
}

impl Outcomes {
    /// One more statement was completed, with so many rows.
    pub fn add(&mut self, rows: Option<u64>) {
        let sum = |rows: u64| self.rows.unwrap_or(0).saturating_add(rows);
        self.rows = rows.map(sum).or(self.rows);
        self.empty = false;
    }
}

impl Item {
    /// A simple query; whether it may be more than one statement.
    pub fn query(number: u64, several: bool) -> Self {
        let outcomes = Outcomes {
            several,
            ..Outcomes::default()
        };
        Self::Query(number, outcomes)
    }

    /// The exchange that waits with it.
    pub fn exchange(&self) -> Option<u64> {
        match self {
            Self::Execute(number, _) | Self::Query(number, _) | Self::Call(number, _) => {
                Some(*number)
            }
            _ => None,
        }
    }
}

/// The request that a statement is.
pub fn request(statement: &Statement, namespace: Option<&str>) -> Request {
    let mut query = Query {
        system: "postgresql",
        namespace,
        ..Query::default()
    };
    let mut further = Vec::new();
    match statement {
        Statement::Told(told, _) => {
            query.operation.clone_from(&told.operation);
            query.collection = told.collection.as_deref().map(Into::into);
            query.procedure = told.procedure.as_deref().map(Into::into);
            query.summary = told.summary.as_deref().map(Into::into);
            query.text = told.text.as_deref().map(Into::into);
        }
        Statement::Named(name) if !name.is_empty() => {
            further.push(Attribute::text("spantap.db.statement", name.clone()));
        }
        Statement::Named(_) => {}
    }
    query.request("postgresql", further)
}

impl Statement {
    /// Whether not all is known of it.
    pub fn is_partial(&self) -> bool {
        !matches!(self, Self::Told(_, true))
    }
}

/// Whether a text may be more than one statement: something follows a semicolon.
pub fn is_several(text: &[u8]) -> bool {
    let ends = |b: &u8| matches!(b, b';' | 0) || b.is_ascii_whitespace();
    let end = text.iter().rposition(|b| !ends(b)).unwrap_or(0);
    text.iter().take(end).any(|b| *b == b';')
}
