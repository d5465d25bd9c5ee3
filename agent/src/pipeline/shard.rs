//! One ring's events become facts: the connections, conversations and exchanges of one shard.
//!
//! A connection's records all come through one ring, so a shard has its connections to itself:
//! nothing here is locked, and the order of its events is the order of its facts.
//!
//! Never true here: that a clock is read (time comes with the events and with [`Shard::tick`]), or
//! that anything waits.

mod apart;
mod chosen;
mod early;
mod foretold;
mod kept;
mod talk;
mod withheld;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use apart::Apart;
use early::Early;
use foretold::Foretold;
use talk::{Losses, Talk};
use withheld::Withheld;

use super::collector::Collector;
use super::encrypted::Encrypted;
use super::unknown::Unknown;
use crate::config::{Config, Selection};
use crate::connection::{Connection, Table};
use crate::event::{ConnectionId, End, Ending, Event, Nanos, Open, Segment};
use crate::exchange::{Exchanges, Fact, Ids, Sink};
use crate::protocol::conversation::Conversation;
use crate::protocol::sniff::{About, Sniffer};
use crate::protocol::{Message, Part, Shared, Status};
use crate::stats::Stats;

/// How often all connections are looked at for silence.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Silence after which a message of unknown length counts as over.
const QUIET: Duration = Duration::from_secs(2);

/// Most bytes that all shards hold of heads that are not whole and of open exchanges; past that the
/// connection that has held some for longest gives up its exchanges, and is given up itself where
/// it holds more than those.
const MAX_HELD: usize = 16 * 1024 * 1024;

/// What a shard wants from the kernel side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Deliver nothing more of this connection.
    Mute(ConnectionId),
    /// Introduce this connection again with its next bytes.
    Introduce(ConnectionId),
    /// Leave nothing of this connection out for its length.
    Whole(ConnectionId),
    /// Leave out again what the budget leaves out.
    Budget(ConnectionId),
    /// This process serves requests that it does not see as such.
    Serves(u32),
}

/// The state of one ring's connections.
#[derive(Debug)]
pub struct Shard {
    table: Table<Box<Connection<Talk>>>,
    apart: Apart,
    early: Early,
    foretold: Foretold,
    withheld: Withheld,
    ids: Ids,
    config: Arc<Config>,
    selection: Arc<Selection>,
    collector: Collector,
    encrypted: Arc<Encrypted>,
    unknown: Arc<Unknown>,
    shared: Arc<Shared>,
    stats: Arc<Stats>,
    looked: Nanos,
    /// Bytes held of all connections, and the most that may be.
    held: usize,
    room: usize,
    /// Who began to hold some, with which number, oldest first; some not any more, or anew since.
    holders: VecDeque<(ConnectionId, u64)>,
    /// Numbers of those who begin to hold some.
    begun: u64,
    /// Empty between calls; kept for its room.
    messages: Vec<Message>,
}

/// Where a shard's findings go; the caller empties both.
#[derive(Debug)]
pub struct Out<'a> {
    /// In the order in which they happened.
    pub facts: &'a mut Vec<Fact>,
    /// For the kernel side.
    pub commands: &'a mut Vec<Command>,
}

impl Shard {
    /// One of so many shards, with its part of `capture.max_connections` and of all other room.
    pub fn one_of(shards: usize, index: u16, config: Arc<Config>, stats: Arc<Stats>) -> Self {
        let shards = shards.max(1);
        let connections = config.capture.max_connections.div_ceil(shards);
        Self {
            room: MAX_HELD / shards,
            ..Self::new(index, connections, config, stats)
        }
    }

    /// Shard number `index`, alone, of at most so many connections.
    pub fn new(index: u16, connections: usize, config: Arc<Config>, stats: Arc<Stats>) -> Self {
        Self {
            table: Table::new(connections),
            apart: Apart::new(connections),
            early: Early::default(),
            foretold: Foretold::default(),
            withheld: Withheld::default(),
            ids: Ids::new(index),
            selection: config.selection.clone().into(),
            config,
            collector: Collector::default(),
            encrypted: Arc::default(),
            unknown: Arc::default(),
            shared: Arc::default(),
            stats,
            looked: 0,
            held: 0,
            room: MAX_HELD,
            holders: VecDeque::new(),
            begun: 0,
            messages: Vec::new(),
        }
    }

    /// Leaves the receiver of spans alone.
    #[must_use]
    pub fn without(self, collector: Collector) -> Self {
        Self { collector, ..self }
    }

    /// Shares what is known of connections that are encrypted, and of those that nobody can read.
    #[must_use]
    pub fn sharing(self, encrypted: Arc<Encrypted>, unknown: Arc<Unknown>) -> Self {
        Self {
            encrypted,
            unknown,
            ..self
        }
    }

    /// Shares what parsers know of other connections.
    #[must_use]
    pub fn knowing(self, shared: Arc<Shared>) -> Self {
        Self { shared, ..self }
    }

    /// Takes one event.
    pub fn take(&mut self, event: &Event<'_>, out: &mut Out<'_>) {
        match event {
            Event::Open(open) => {
                let known = self.table.get(open.connection);
                let line = known.map_or(0, |known| known.open.line);
                self.open(&self.foretold.with_line(open, line), out);
                if let Some(known) = self.table.get(open.connection) {
                    let told = self.foretold.take(open.connection);
                    out.facts.extend(told.map(|carried| known.carried(carried)));
                }
                if open.session.is_some() {
                    let mut early = std::mem::take(&mut self.early);
                    early.take(open.connection, |segment| self.segment(segment, out));
                    self.early = early;
                }
            }
            Event::Segment(segment) => self.segment(segment, out),
            Event::End(end) => {
                self.release(end.connection, out);
                self.end(end, out);
            }
            Event::Taken(taken) => out.facts.push(Fact::Taken(*taken)),
            Event::Started(started) => out.facts.push(Fact::Started(*started)),
            Event::Java(java) => out.facts.push(Fact::Java(*java)),
            Event::Carried(carried) => match self.table.get(carried.connection) {
                Some(known) => out.facts.push(known.carried(*carried)),
                None => self.foretold.keep(*carried),
            },
            Event::Exec(_) | Event::Exit(_) | Event::Teems(_) => {}
        }
    }

    fn open(&mut self, open: &Open, out: &mut Out<'_>) {
        let id = open.connection;
        if let Some(known) = self.table.get(id)
            && known.open.base == open.base
            && known.open.local == open.local
            && known.open.remote == open.remote
        {
            return known.begins_earlier(open.start);
        }
        // Who exports spans by itself shows there.
        let receiver = self.config.selection.exclude_instrumented && self.collector.is_sent(open);
        let selected = self.selection.has_port(open.ports()) && !self.collector.has(open);
        if !selected && !receiver {
            self.stats.connection_unselected.add(1);
            return self.leave(id, open.time, out);
        }
        if self.encrypted.has(id) {
            // Introduced anew, as room was short: its bytes are not what was sent.
            return self.leave(id, open.time, out);
        }
        if let Some(session) = open.session {
            self.encrypted.unread.bound(session.carrier, &self.stats);
        }
        let again = self.apart.forget(id);
        let mut open = open.clone();
        if again && open.ends_unseen() {
            // Its offsets begin anew on this end only: they name no message on both.
            open.ends = None;
        }
        // Any datagram may be a first one.
        let adopted = again || open.start != [0, 0] || !open.counts_from_start() || open.datagrams;
        let talk = Talk {
            conversation: Conversation::new(Sniffer::new(About {
                secure: open.is_secure(),
                adopted,
                ports: open.ports(),
                datagrams: open.datagrams,
                process: open.process,
            })),
            exchanges: Exchanges::default(),
            peer: None,
            unseen: None,
            receiver,
            held: 0,
            holds: 0,
            listed: 0,
            blind: false,
            losses: Losses::default(),
        };
        let connection = Box::new(Connection::new(open, talk));
        if let Some((old, connection)) = self.table.insert(id, connection) {
            // What had to go is introduced anew with its next bytes.
            if old != id {
                self.stats.connection_evicted.add(1);
                self.apart.expect(old);
            }
            self.close(*connection, out);
        }
    }

    /// Closes what is open on a connection that was taken out of the table.
    fn close(&mut self, mut connection: Connection<Talk>, out: &mut Out<'_>) {
        self.held = self.held.saturating_sub(connection.state.held);
        let time = connection.active;
        let mut sink = sink(&mut self.ids, out, &self.stats);
        connection.state.exchanges.abandon(time, &mut sink);
    }

    /// Takes a connection out of the table, if it is there.
    fn drop(&mut self, id: ConnectionId, out: &mut Out<'_>) {
        if let Some(connection) = self.table.remove(id) {
            self.close(*connection, out);
        }
    }

    /// Leaves a connection alone from now on.
    fn leave(&mut self, id: ConnectionId, now: Nanos, out: &mut Out<'_>) {
        self.apart.leave(id, now, out.commands);
        self.drop(id, out);
    }

    /// Takes a segment whose bytes are what they are said to be.
    fn read(&mut self, segment: &Segment<'_>, out: &mut Out<'_>) {
        let id = segment.connection;
        let stats = &*self.stats;
        stats.connection_lost_records.add(u64::from(segment.lost));
        let Some(connection) = self.table.get(id) else {
            if id.is_session() && !self.apart.knows(id) {
                stats.connection_unbound.add(self.early.keep(segment));
                return;
            }
            if self.apart.met(id, segment.time, out.commands) {
                stats.connection_unknown.add(1);
            }
            return;
        };
        connection.active = connection.active.max(segment.time);
        let base = connection.base(segment.direction);
        let Connection {
            streams,
            state,
            open,
            ..
        } = &mut **connection;
        let (direction, process) = (segment.direction, segment.execution.process);
        let stream = streams.get(direction);
        // Where a datagram is in its direction is not known, nor which way those went that were lost.
        let gap = !open.datagrams && base.wrapping_add(segment.offset) > stream.end();
        match open.datagrams {
            true => stream.push_datagram(segment, stats),
            false => stream.push(segment, base, stats),
        }
        let (setting, messages) = ((&self.config, &self.shared), &mut self.messages);
        state.lose(segment, gap, streams, messages, stats);
        let status = (state.conversation).feed(direction, streams, setting, messages, stats);
        out.commands.extend(match state.conversation.wants_whole() {
            Some(true) => Some(Command::Whole(id)),
            Some(false) => Some(Command::Budget(id)),
            None => None,
        });
        let encrypted = |message: &mut Message| matches!(message.part, Part::Encrypted(_));
        if let Some(message) = self.messages.pop_if(encrypted)
            && let Part::Encrypted(handshake) = message.part
        {
            let seen = state.seen(open, segment, handshake.is_some());
            self.encrypted.insert(&seen, handshake, stats);
        }
        if let (Status::Leave, Some(shapes)) = (status, state.conversation.unknown()) {
            self.unknown.insert(open, process, segment.time, shapes);
        }
        let mut sink = sink(&mut self.ids, out, stats);
        if status == Status::Mistaken {
            self.messages.clear();
            state.exchanges.withdraw(segment.time, &mut sink);
            state.peer = None;
        }
        state.settle(open, &mut self.messages, &mut sink);
        let serves = state.serves_unseen();
        (out.commands).extend(serves.then_some(Command::Serves(process)));
        if state.weigh(streams, &mut self.held) {
            self.begun = self.begun.saturating_add(1);
            state.holds = self.begun;
            if state.listed == 0 {
                state.listed = self.begun;
                self.holders.push_back((id, self.begun));
            }
        }
        if status == Status::Leave {
            self.leave(id, segment.time, out);
        }
        self.give_up(out);
    }

    /// Keeps what is held within its bound.
    fn give_up(&mut self, out: &mut Out<'_>) {
        while self.held > self.room
            && let Some((id, number)) = self.holders.pop_front()
        {
            let Some(connection) = self.table.get(id) else {
                continue;
            };
            let time = connection.active;
            let Connection { streams, state, .. } = &mut **connection;
            if !state.lists(number) {
                continue;
            }
            if state.holds != number {
                state.listed = state.holds;
                self.holders.push_back((id, state.holds));
                continue;
            }
            state.listed = 0;
            let mut sink = sink(&mut self.ids, out, &self.stats);
            state.exchanges.evict(time, &mut sink);
            state.weigh(streams, &mut self.held);
            if state.held > 0 {
                self.stats.connection_evicted.add(1);
                self.apart.expect(id);
                self.drop(id, out);
            }
        }
        if self.holders.len() > self.table.len().saturating_mul(2).saturating_add(64) {
            let (holders, table) = (&mut self.holders, &mut self.table);
            holders.retain(|&(id, number)| table.get(id).is_some_and(|c| c.state.lists(number)));
        }
    }

    fn end(&mut self, end: &End, out: &mut Out<'_>) {
        let stats = &*self.stats;
        stats.connection_lost_records.add(u64::from(end.lost));
        if let Some(connection) = self.table.get(end.connection) {
            connection.active = connection.active.max(end.time);
            let Connection {
                streams,
                state,
                open,
                ..
            } = &mut **connection;
            if end.lost > 0 {
                state.lose_before_end(streams, &mut self.messages, stats);
            }
            let over = state
                .conversation
                .end(end.ending, streams, &mut self.messages, stats);
            if state.blind && state.exchanges.is_empty() {
                // What is missing may have been what did not come.
                self.messages.clear();
            }
            let mut sink = sink(&mut self.ids, out, stats);
            state.settle(open, &mut self.messages, &mut sink);
            state.exchanges.end(end.ending, end.time, over, &mut sink);
            state.weigh(streams, &mut self.held);
        }
        if end.ending == Ending::Gone {
            self.apart.forget(end.connection);
            self.encrypted.handshakes.gone(end.connection);
            self.drop(end.connection, out);
        }
    }

    /// Ends what silence ends. `now` is CLOCK_MONOTONIC; more often than once a second is free.
    pub fn tick(&mut self, now: Nanos, out: &mut Out<'_>) {
        self.release_due(now, out);
        if now.saturating_sub(self.looked) < nanos(LOOK_EVERY) {
            return;
        }
        self.looked = now;
        self.stats.connection_unbound.add(self.early.tick(now));
        let timeout = nanos(self.config.capture.exchange_timeout);
        let (mut stale, mut idle) = (Vec::new(), Vec::new());
        let mut sink = sink(&mut self.ids, out, &self.stats);
        for (id, connection) in self.table.iter_mut() {
            let silent = now.saturating_sub(connection.active);
            let patience = connection.state.conversation.patience();
            let over = silent >= patience.map_or(timeout, nanos);
            let unseen = connection.open.ends_unseen();
            let Connection {
                streams,
                state,
                open,
                active,
                ..
            } = &mut **connection;
            if over && streams.held() > 0 {
                stale.push(id);
            } else if over && unseen {
                idle.push(id);
            }
            if over && state.exchanges.is_empty() && !state.blind {
                let messages = &mut self.messages;
                state.conversation.time_out(streams, messages, &self.stats);
                state.settle(open, messages, &mut sink);
            }
            if state.exchanges.is_empty() || silent < nanos(QUIET) {
                continue;
            }
            state
                .conversation
                .quiet(streams, &mut self.messages, &self.stats);
            if over && unseen {
                // Nobody tells when it is closed, and some answers end with it.
                let messages = &mut self.messages;
                state
                    .conversation
                    .end(Ending::Gone, streams, messages, &self.stats);
            }
            if over {
                let messages = &mut self.messages;
                state.conversation.silenced(streams, messages, &self.stats);
            }
            state.settle(open, &mut self.messages, &mut sink);
            if over {
                state.exchanges.time_out(*active, now, &mut sink);
            }
            state.weigh(streams, &mut self.held);
        }
        self.stats.connection_expired.add(idle.len() as u64);
        // Heads that were begun and never ended.
        self.stats.connection_evicted.add(stale.len() as u64);
        for id in stale.into_iter().chain(idle) {
            self.apart.expect(id);
            self.drop(id, out);
        }
    }

    /// Closes every open exchange: the agent stops.
    pub fn finish(&mut self, now: Nanos, out: &mut Out<'_>) {
        self.release_due(Nanos::MAX, out);
        let mut sink = sink(&mut self.ids, out, &self.stats);
        for (_, connection) in self.table.iter_mut() {
            connection.state.exchanges.abandon(now, &mut sink);
        }
    }
}

fn sink<'a>(ids: &'a mut Ids, out: &'a mut Out<'_>, stats: &'a Stats) -> Sink<'a> {
    Sink {
        ids,
        facts: out.facts,
        stats,
    }
}

fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
