//! What is asked up to one ReadyForQuery, and the request that an exchange of it becomes.

use std::collections::VecDeque;
use std::sync::Arc;

use super::statements::Statement;
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
    /// Whether what ends it was asked: a Sync, a simple query, a function call.
    pub synced: bool,
    /// Whether messages may be missing from it.
    pub blurred: bool,
    /// Whether the client has gone on with data to be copied.
    pub copied: bool,
    /// Whether one failed: the others are not executed.
    pub failed: bool,
}

/// One message that is answered.
#[derive(Debug)]
pub enum Item {
    /// A connection begins.
    Startup,
    /// A statement is prepared; where the message begins and ends.
    Parse(Arc<Statement>, Mark, Mark),
    /// Its parameters are bound.
    Bind(Arc<Statement>, Mark, Mark),
    /// What it takes and gives is asked for.
    Describe(Arc<Statement>, Mark, Mark),
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
