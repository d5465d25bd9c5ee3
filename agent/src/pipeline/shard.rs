//! One ring's events become facts: the connections, conversations and exchanges of one shard.
//!
//! A connection's records all come through one ring, so a shard has its connections to itself:
//! nothing here is locked, and the order of its events is the order of its facts.
//!
//! Never true here: that a clock is read (time comes with the events and with [`Shard::tick`]), or
//! that anything waits.

use std::sync::Arc;
use std::time::Duration;

use super::collector::Collector;
use crate::config::{Config, Selection};
use crate::connection::{Connection, Entry, Table};
use crate::event::{Address, ConnectionId, End, Ending, Event, Nanos, Open, Segment};
use crate::exchange::{Exchanges, Fact, Ids, Peer, Sink};
use crate::protocol::conversation::Conversation;
use crate::protocol::{Message, Status};
use crate::stats::Stats;

/// How often all connections are looked at for silence.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Silence after which a message of unknown length counts as over.
const QUIET: Duration = Duration::from_secs(2);

/// Most bytes a shard holds of heads that are not whole; a connection that would add to them is
/// given up.
const MAX_HELD: usize = 16 * 1024 * 1024;

/// What a shard wants from the kernel side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Deliver nothing more of this connection.
    Mute(ConnectionId),
}

/// The state of one ring's connections.
#[derive(Debug)]
pub struct Shard {
    table: Table<Talk>,
    ids: Ids,
    config: Arc<Config>,
    collector: Collector,
    stats: Arc<Stats>,
    looked: Nanos,
    /// Captured bytes held of all connections.
    held: usize,
    /// Empty between calls; kept for its room.
    messages: Vec<Message>,
}

/// What the stages after `connection` keep about one.
#[derive(Debug)]
struct Talk {
    conversation: Conversation,
    exchanges: Exchanges,
    peer: Option<Arc<Peer>>,
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
    /// Shard number `index`; all shards together hold `capture.max_connections`, so each is told
    /// its part by `connections`.
    pub fn new(index: u16, connections: usize, config: Arc<Config>, stats: Arc<Stats>) -> Self {
        Self {
            table: Table::new(connections),
            ids: Ids::new(index),
            config,
            collector: Collector::default(),
            stats,
            looked: 0,
            held: 0,
            messages: Vec::new(),
        }
    }

    /// Leaves the receiver of spans alone.
    #[must_use]
    pub fn without(self, collector: Collector) -> Self {
        Self { collector, ..self }
    }

    /// How many connections it knows.
    pub fn connections(&self) -> usize {
        self.table.len()
    }

    /// Takes one event.
    pub fn take(&mut self, event: &Event<'_>, out: &mut Out<'_>) {
        match event {
            Event::Open(open) => self.open(open, out),
            Event::Segment(segment) => self.segment(segment, out),
            Event::End(end) => self.end(end, out),
            Event::Exec(_) | Event::Exit(_) => {}
        }
    }

    fn open(&mut self, open: &Open, out: &mut Out<'_>) {
        let id = open.connection;
        if let Some(Entry::Followed(known)) = self.table.get(id)
            && known.open.base == open.base
            && known.open.local == open.local
            && known.open.remote == open.remote
        {
            return;
        }
        let wanted = selected(open, &self.config.selection) && !self.collector.has(open);
        let entry = if wanted {
            let talk = Talk {
                conversation: Conversation::new(open.base != [0, 0]),
                exchanges: Exchanges::default(),
                peer: None,
            };
            Entry::Followed(Box::new(Connection::new(open.clone(), talk)))
        } else {
            self.stats.connection_unselected.add(1);
            out.commands.push(Command::Mute(id));
            Entry::Left
        };
        let Some((old, entry)) = self.table.insert(id, entry) else {
            return;
        };
        if old != id {
            self.stats.connection_evicted.add(1);
            out.commands.push(Command::Mute(old));
        }
        self.drop_entry(entry, out);
    }

    /// Closes what is open on a connection that was taken out of the table.
    fn drop_entry(&mut self, entry: Entry<Talk>, out: &mut Out<'_>) {
        if let Entry::Followed(mut connection) = entry {
            self.held = self.held.saturating_sub(connection.streams.held());
            let time = connection.active;
            let mut sink = sink(&mut self.ids, out, &self.stats);
            connection.state.exchanges.abandon(time, &mut sink);
        }
    }

    /// Leaves a connection alone from now on.
    fn leave(&mut self, id: ConnectionId, out: &mut Out<'_>) {
        out.commands.push(Command::Mute(id));
        if let Some((_, entry)) = self.table.insert(id, Entry::Left) {
            self.drop_entry(entry, out);
        }
    }

    fn segment(&mut self, segment: &Segment<'_>, out: &mut Out<'_>) {
        let id = segment.connection;
        let stats = &*self.stats;
        if segment.lost > 0 {
            stats.connection_lost_records.add(u64::from(segment.lost));
        }
        let connection = match self.table.get(id) {
            Some(Entry::Followed(connection)) => connection,
            Some(Entry::Left) => return,
            None => {
                stats.connection_unknown.add(1);
                out.commands.push(Command::Mute(id));
                return;
            }
        };
        connection.active = connection.active.max(segment.time);
        let base = connection.base(segment.direction);
        let Connection {
            streams,
            state,
            open,
            ..
        } = &mut **connection;
        let before = streams.held();
        streams.get(segment.direction).push(segment, base, stats);
        let config = &self.config;
        let status = state.conversation.feed(
            segment.direction,
            streams,
            config,
            &mut self.messages,
            stats,
        );
        let mut sink = sink(&mut self.ids, out, stats);
        state.settle(open, &mut self.messages, &mut sink);
        let after = streams.held();
        self.held = self.held.saturating_sub(before).saturating_add(after);
        let full = after > before && self.held > MAX_HELD;
        if full {
            stats.connection_evicted.add(1);
        }
        if full || status == Status::Leave {
            self.leave(id, out);
        }
    }

    fn end(&mut self, end: &End, out: &mut Out<'_>) {
        let stats = &*self.stats;
        if end.lost > 0 {
            stats.connection_lost_records.add(u64::from(end.lost));
        }
        if let Some(Entry::Followed(connection)) = self.table.get(end.connection) {
            connection.active = connection.active.max(end.time);
            let Connection {
                streams,
                state,
                open,
                ..
            } = &mut **connection;
            let over = state
                .conversation
                .end(end.ending, streams, &mut self.messages, stats);
            let mut sink = sink(&mut self.ids, out, stats);
            state.settle(open, &mut self.messages, &mut sink);
            state.exchanges.end(end.ending, end.time, over, &mut sink);
        }
        if end.ending == Ending::Gone
            && let Some(entry) = self.table.remove(end.connection)
        {
            self.drop_entry(entry, out);
        }
    }

    /// Ends what silence ends. `now` is CLOCK_MONOTONIC; more often than once a second is free.
    pub fn tick(&mut self, now: Nanos, out: &mut Out<'_>) {
        if now.saturating_sub(self.looked) < nanos(LOOK_EVERY) {
            return;
        }
        self.looked = now;
        let timeout = nanos(self.config.capture.exchange_timeout);
        let mut stale = Vec::new();
        let mut sink = sink(&mut self.ids, out, &self.stats);
        for (id, connection) in self.table.followed() {
            let silent = now.saturating_sub(connection.active);
            let Connection {
                streams,
                state,
                open,
                ..
            } = connection;
            if silent >= timeout && streams.held() > 0 {
                stale.push(id);
            }
            if state.exchanges.is_empty() || silent < nanos(QUIET) {
                continue;
            }
            state
                .conversation
                .quiet(streams, &mut self.messages, &self.stats);
            state.settle(open, &mut self.messages, &mut sink);
            if silent >= timeout {
                state.exchanges.time_out(now, &mut sink);
            }
        }
        // Heads that were begun and never ended.
        for id in stale {
            self.stats.connection_evicted.add(1);
            self.leave(id, out);
        }
    }

    /// Closes every open exchange: the agent stops.
    pub fn finish(&mut self, now: Nanos, out: &mut Out<'_>) {
        let mut sink = sink(&mut self.ids, out, &self.stats);
        for (_, connection) in self.table.followed() {
            connection.state.exchanges.abandon(now, &mut sink);
        }
    }
}

impl Talk {
    /// Gives what the parser found to the exchanges.
    fn settle(&mut self, open: &Open, messages: &mut Vec<Message>, sink: &mut Sink<'_>) {
        if messages.is_empty() {
            return;
        }
        if self.peer.is_none() {
            self.peer = self.conversation.role().map(|role| {
                Arc::new(Peer {
                    connection: open.connection,
                    local: open.local.clone(),
                    remote: open.remote.clone(),
                    role,
                    key: open.ends.map(|ends| ends.key(role)),
                    netns: open.netns,
                    comm: open.comm.as_str().into(),
                })
            });
        }
        for message in messages.drain(..) {
            if let Some(peer) = &self.peer {
                self.exchanges.take(message, peer, sink);
            }
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

/// Whether the ports at either end let the connection be traced.
fn selected(open: &Open, selection: &Selection) -> bool {
    let port = |address: &Address| match address {
        Address::Inet(address) => Some(address.port()),
        Address::Unix(_) => None,
    };
    let ports = [port(&open.local), port(&open.remote)];
    let any = |of: &[u16]| ports.iter().flatten().any(|port| of.contains(port));
    (selection.ports.is_empty() || any(&selection.ports)) && !any(&selection.exclude_ports)
}

#[cfg(test)]
mod tests;
