//! Connections of which records come though they are not followed: those left alone, and those met
//! without an introduction. The kernel side is told once, and again where it seems to have
//! forgotten; what it is asked is bounded by connection and by second.

use super::Command;
use crate::connection::Table;
use crate::event::{ConnectionId, Nanos};

/// Most introductions asked for of one connection before it is left alone.
const TRIES: u32 = 3;
/// How long the kernel side is given to act, nanoseconds.
const AGAIN: Nanos = 1_000_000_000;
/// Most introductions asked for in a second: each makes every connection look at its verdict anew.
const INTRODUCTIONS: u32 = 1024;

/// The connections of one shard that are not followed.
#[derive(Debug)]
pub(super) struct Apart {
    table: Table<Stranger>,
    /// Introductions that may still be asked for, and since when.
    budget: u32,
    filled: Nanos,
}

#[derive(Clone, Copy, Debug)]
enum Stranger {
    /// Left alone; when the kernel side was told.
    Left(Nanos),
    /// Its introduction was asked for, how often and when last.
    Awaited(u32, Nanos),
}

impl Apart {
    /// Of at most so many connections.
    pub(super) fn new(connections: usize) -> Self {
        Self {
            table: Table::new(connections),
            budget: INTRODUCTIONS,
            filled: 0,
        }
    }

    /// Leaves a connection alone from now on.
    pub(super) fn leave(&mut self, id: ConnectionId, now: Nanos, commands: &mut Vec<Command>) {
        commands.push(Command::Mute(id));
        // Whoever goes for it is muted still: that costs nothing until the kernel side forgets.
        self.table.insert(id, Stranger::Left(now));
    }

    /// A connection is followed no more: with its next record its introduction is asked for.
    pub(super) fn expect(&mut self, id: ConnectionId) {
        self.table.insert(id, Stranger::Awaited(0, 0));
    }

    /// A record came of a connection that is not followed; true if nothing is known of it.
    pub(super) fn met(
        &mut self,
        id: ConnectionId,
        now: Nanos,
        commands: &mut Vec<Command>,
    ) -> bool {
        let times = match self.table.get(id) {
            Some(Stranger::Left(told)) => {
                if now.saturating_sub(*told) >= AGAIN {
                    *told = now;
                    commands.push(Command::Mute(id));
                }
                return false;
            }
            Some(&mut Stranger::Awaited(times, asked)) => {
                if times > 0 && now.saturating_sub(asked) < AGAIN {
                    return true;
                }
                times
            }
            None => 0,
        };
        if times >= TRIES {
            self.leave(id, now, commands);
        } else if self.spend(now) {
            commands.push(Command::Introduce(id));
            let awaited = Stranger::Awaited(times.saturating_add(1), now);
            self.table.insert(id, awaited);
        }
        true
    }

    /// Whether it was left alone, or is waited for.
    pub(super) fn knows(&mut self, id: ConnectionId) -> bool {
        self.table.get(id).is_some()
    }

    /// It is followed now, or gone; true if it had been met before.
    pub(super) fn forget(&mut self, id: ConnectionId) -> bool {
        self.table.remove(id).is_some()
    }

    fn spend(&mut self, now: Nanos) -> bool {
        if now.saturating_sub(self.filled) >= AGAIN {
            self.filled = now;
            self.budget = INTRODUCTIONS;
        }
        let left = self.budget.checked_sub(1);
        self.budget = left.unwrap_or(0);
        left.is_some()
    }
}
