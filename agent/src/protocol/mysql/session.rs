//! What both sides of a connection know by now: which server it is, what they agreed on, the
//! database that is used, and the statements that were prepared.
//!
//! Never true here: that more is kept than there is room for, or that a database is named that may have
//! been changed.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use super::packet::{Capabilities, Greeting, Login};
use crate::protocol::database::Query;
use crate::protocol::known::{Held, Known};
use crate::protocol::sql::Described;
use crate::stats::Stats;

/// Most commands that change something and wait for their answer.
const MAX_LATER: usize = 16;

/// A connection's session.
#[derive(Debug, Default)]
pub(super) struct Session {
    mariadb: bool,
    /// What the server can do, and what both can.
    greeting: Option<Capabilities>,
    pub(super) capabilities: Option<Capabilities>,
    /// Whether an EOF packet follows definitions, where that is known.
    pub(super) has_eof: Option<bool>,
    namespace: Namespace,
    pub(super) statements: Statements,
    /// What is so once these commands have gone well, the oldest first.
    later: VecDeque<(u64, Later)>,
}

/// The database that is used.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Namespace {
    #[default]
    Unknown,
    None,
    Is(String),
}

/// What is so once a command has gone well.
#[derive(Debug)]
pub(super) enum Later {
    /// This statement has a number; `None` where bytes of it are missing.
    Prepared(Option<Arc<Described>>),
    /// This is the database; `None` where it is not known.
    Database(Option<String>),
}

/// Statements that were prepared.
#[derive(Debug, Default)]
pub(super) struct Statements {
    /// By their number.
    known: Known<Arc<Described>>,
    /// The last one that was asked for.
    pub(super) last: Option<Arc<Described>>,
}

impl Session {
    pub(super) fn greet(&mut self, greeting: Greeting) {
        self.mariadb = greeting.mariadb;
        self.greeting = Some(greeting.capabilities);
    }

    /// The client has answered. Returns whether packets are compressed from here on.
    pub(super) fn log_in(&mut self, login: &Login<'_>, database: Option<String>) -> bool {
        let capabilities = login.capabilities.and(self.greeting);
        self.mariadb |= login.mariadb;
        self.capabilities = Some(capabilities);
        self.has_eof = Some(capabilities.has_eof());
        self.namespace = database.map_or(Namespace::None, Namespace::Is);
        capabilities.compress()
    }

    /// What is asked, with what is known of the session.
    pub(super) fn query<'a>(&'a self, described: &'a Described) -> Query<'a> {
        Query {
            system: if self.mariadb { "mariadb" } else { "mysql" },
            namespace: match self.namespace() {
                Namespace::Is(name) => Some(name),
                Namespace::Unknown | Namespace::None => None,
            },
            operation: described.operation.clone(),
            collection: described.collection.as_deref().map(Cow::Borrowed),
            procedure: described.procedure.as_deref().map(Cow::Borrowed),
            summary: described.summary.as_deref().map(Cow::Borrowed),
            text: described.text.as_deref().map(Cow::Borrowed),
            batch: None,
        }
    }

    /// The database that is used by what is asked now: not known while a change of it waits for its
    /// answer.
    pub(super) fn namespace(&self) -> &Namespace {
        let changes = |(_, later): &(u64, Later)| matches!(later, Later::Database(_));
        match self.later.iter().any(changes) {
            true => &Namespace::Unknown,
            false => &self.namespace,
        }
    }

    /// If the command of this number goes well, this is so; without a number nobody will tell.
    pub(super) fn remember(&mut self, number: Option<u64>, later: Later) {
        let lost = match number {
            Some(number) => {
                self.later.push_back((number, later));
                let full = self.later.len() > MAX_LATER;
                full.then(|| self.later.pop_front())
                    .flatten()
                    .map(|(_, later)| later)
            }
            None => Some(later),
        };
        if let Some(Later::Database(_)) = lost {
            self.namespace = Namespace::Unknown;
        }
    }

    /// The command of this number went well or not. `prepared` is its statement's number, `schema` the
    /// database, where the server says it.
    pub(super) fn answered(
        &mut self,
        number: u64,
        fine: bool,
        prepared: Option<u32>,
        schema: Option<String>,
        stats: &Stats,
    ) {
        while self.later.front().is_some_and(|(of, _)| *of <= number) {
            let Some((of, later)) = self.later.pop_front() else {
                break;
            };
            match later {
                Later::Database(_) if of != number => self.namespace = Namespace::Unknown,
                _ if of != number || !fine => {}
                Later::Prepared(Some(described)) => {
                    if let Some(id) = prepared {
                        self.statements.put(id, described, stats);
                    }
                }
                Later::Prepared(None) => {}
                Later::Database(name) => {
                    self.namespace =
                        name.map_or(Namespace::Unknown, |name| match name.is_empty() {
                            true => Namespace::None,
                            false => Namespace::Is(name),
                        });
                }
            }
        }
        if let Some(name) = schema {
            self.namespace = match name.is_empty() {
                true => Namespace::None,
                false => Namespace::Is(name),
            };
        }
    }

    /// Commands were not seen.
    pub(super) fn lose_commands(&mut self) {
        self.namespace = Namespace::Unknown;
        self.statements.last = None;
    }

    /// Answers were not seen.
    pub(super) fn lose_answers(&mut self) {
        if *self.namespace() == Namespace::Unknown {
            self.namespace = Namespace::Unknown;
        }
    }

    /// What it costs to hold, in bytes; 0 where little is.
    pub(super) fn weight(&self) -> usize {
        let later = self.later.iter().map(|(_, later)| match later {
            Later::Prepared(Some(described)) => described.weight(),
            Later::Prepared(None) | Later::Database(_) => 0,
        });
        later.fold(self.statements.known.weight(), usize::saturating_add)
    }
}

impl Statements {
    fn put(&mut self, id: u32, described: Arc<Described>, stats: &Stats) {
        self.known.insert(&id.to_be_bytes(), described, stats);
    }

    pub(super) fn find(&self, id: u32) -> Option<Arc<Described>> {
        self.known.get(&id.to_be_bytes()).map(Arc::clone)
    }

    pub(super) fn forget(&mut self, id: u32) {
        self.known.remove(&id.to_be_bytes());
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(length: usize) -> Arc<Described> {
        Arc::new(Described {
            text: Some("x".repeat(length)),
            ..Described::default()
        })
    }

    #[test]
    fn the_oldest_statement_goes_first() {
        let (mut statements, stats) = (Statements::default(), Stats::default());
        for id in 0..1000 {
            statements.put(id, statement(10), &stats);
        }
        assert!(statements.find(0).is_none() && statements.find(999).is_some());
        assert_eq!(statements.known.iter().count(), 256);
        assert_eq!(stats.protocol_entries_forgotten.get(), 1000 - 256);
        for id in 0..100 {
            statements.put(id, statement(2000), &stats);
        }
        assert!(statements.known.weight() <= 64 << 10 && statements.find(99).is_some());
        statements.clear();
        statements.put(5, statement(10), &stats);
        statements.forget(5);
        assert!(statements.known.is_empty() && statements.known.weight() == 0);
    }
}
