//! What is known of connections that went on encrypted: what their hellos agreed on, for the spans
//! of their plaintext, and which of them nobody reads.
//!
//! One table for all shards: a session's plaintext may come through another ring than its socket.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::connection::Table;
use crate::event::{Address, ConnectionId, Nanos, Open, Role};
use crate::protocol::tls::{Handshake, Handshakes};
use crate::resource::Resources;
use crate::say::count;
use crate::stats::Stats;
use crate::target::runtime::Runtime;

/// Shared by all shards.
#[derive(Debug, Default)]
pub struct Encrypted {
    /// What hellos agreed on, by the socket's connection.
    pub handshakes: Handshakes,
    /// Of whom no plaintext was seen.
    pub unread: Unread,
    /// Why.
    pub reasons: Reasons,
}

/// Why the TLS of a process cannot be read, as far as its files tell. Bounded.
#[derive(Debug, Default)]
pub struct Reasons(Mutex<HashMap<u32, Arc<str>>>);

/// Processes of whom that is remembered.
const MAX_REASONS: usize = 4096;

impl Reasons {
    /// Sets it, or with `None` forgets whoever had this id.
    pub fn set(&self, process: u32, reason: Option<&Arc<str>>) {
        let mut reasons = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match reason {
            Some(reason) if reasons.len() < MAX_REASONS => {
                reasons.insert(process, Arc::clone(reason));
            }
            Some(_) => {}
            None => {
                reasons.remove(&process);
            }
        }
    }

    fn get(&self, process: u32) -> Option<Arc<str>> {
        let reasons = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reasons.get(&process).cloned()
    }
}

impl Encrypted {
    /// A connection went on encrypted.
    pub fn insert(&self, seen: &Seen<'_>, handshake: Option<Arc<Handshake>>, stats: &Stats) {
        let connection = seen.open.connection;
        stats.protocol_encrypted.add(1);
        self.unread
            .insert(connection, Note::of(seen, handshake.as_deref()), stats);
        if let Some(handshake) = handshake {
            self.handshakes.insert(connection, handshake, stats);
        }
    }

    /// A line for each kind of connection that nobody read, with the reason.
    pub fn report(&self, resources: &Resources) -> Vec<String> {
        self.unread.lines(|process, time| {
            let (name, runtime) = resources.who(process, time);
            let why = match (runtime, self.reasons.get(process)) {
                (Runtime::Jvm, _) => "JSSE, no safe probe exists; nothing is injected".into(),
                (_, Some(reason)) => reason.to_string(),
                (_, None) => "no TLS library was found in it that can be read".into(),
            };
            (name, why)
        })
    }

    /// Whether a connection is known to have gone on encrypted: bytes of it that look like anything
    /// else are plaintext which the kernel encrypts (kTLS).
    pub fn has(&self, connection: ConnectionId) -> bool {
        matches!(self.unread.lock().open.get(connection), Some(Some(_)))
            || self.handshakes.get(connection).is_some()
    }
}

/// A connection that went on encrypted, as its socket shows it.
#[derive(Debug)]
pub struct Seen<'a> {
    /// How it was introduced.
    pub open: &'a Open,
    /// Who this end is, by its hello or else by the kernel's word.
    pub role: Option<Role>,
    /// Who used it.
    pub process: u32,
    /// When.
    pub time: Nanos,
}

/// Encrypted connections of whom no plaintext was seen. Bounded: of the one that was there for
/// longest only its kind is remembered, and past `MAX_KINDS` only that it was there.
#[derive(Debug)]
pub struct Unread(Mutex<State>);

#[derive(Debug)]
struct State {
    /// `None` where its plaintext is read.
    open: Table<Option<Note>>,
    /// Those that had to go.
    gone: BTreeMap<Kind, (Nanos, u64)>,
    /// Those of other kinds.
    merged: u64,
}

/// Connections that are told one by one.
const MAX_CONNECTIONS: usize = 16_384;
/// Kinds of connections that are counted apart.
const MAX_KINDS: usize = 1024;
/// Kinds that are told at the end.
const MAX_LINES: usize = 20;

#[derive(Debug)]
struct Note {
    kind: Kind,
    time: Nanos,
}

/// What connections that are told together have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    process: u32,
    /// `to api.example.com`, `as api.example.com`.
    whom: String,
    /// Protocols inside: the chosen one, else those offered.
    alpn: String,
}

impl Default for Unread {
    fn default() -> Self {
        Self::new(MAX_CONNECTIONS)
    }
}

impl Unread {
    /// A table of at most so many connections.
    pub fn new(most: usize) -> Self {
        Self(Mutex::new(State {
            open: Table::new(most),
            gone: BTreeMap::new(),
            merged: 0,
        }))
    }

    /// The plaintext of a socket's connection is read: it has a session. In any order with
    /// [`Encrypted::insert`], and as often as one likes.
    pub fn bound(&self, carrier: ConnectionId, stats: &Stats) {
        let mut state = self.lock();
        match state.open.get(carrier) {
            Some(note) => {
                let first = note.take().is_some();
                stats.protocol_decrypted.add(u64::from(first));
            }
            None => state.put(carrier, None, stats),
        }
    }

    fn insert(&self, connection: ConnectionId, note: Note, stats: &Stats) {
        let mut state = self.lock();
        match state.open.get(connection) {
            Some(None) => stats.protocol_decrypted.add(1),
            _ => state.put(connection, Some(note), stats),
        }
    }

    /// Those of most connections come first; `who` tells a process's name, and why it is not read.
    fn lines(&self, who: impl Fn(u32, Nanos) -> (String, String)) -> Vec<String> {
        let mut state = self.lock();
        let State { open, gone, merged } = &mut *state;
        let mut kinds = gone.clone();
        for note in open.iter_mut().filter_map(|(_, note)| note.as_ref()) {
            let (_, count) = kinds.entry(note.kind.clone()).or_insert((note.time, 0));
            *count = count.saturating_add(1);
        }
        let mut kinds: Vec<_> = kinds.into_iter().collect();
        kinds.sort_by(|(_, (_, a)), (_, (_, b))| b.cmp(a));
        let rest = kinds.iter().skip(MAX_LINES).map(|(_, (_, count))| count);
        let rest = rest.fold(*merged, |sum, count| sum.saturating_add(*count));
        let told = kinds.iter().take(MAX_LINES);
        let mut lines: Vec<String> = told
            .map(|(kind, (time, connections))| {
                let (name, why) = who(kind.process, *time);
                let connections = count(*connections, "connection");
                format!("encrypted, unread: {connections} of {name}{kind}: {why}")
            })
            .collect();
        if rest > 0 {
            let connections = count(rest, "connection");
            lines.push(format!("encrypted, unread: {connections} of other kinds"));
        }
        lines
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, connection: ConnectionId, note: Option<Note>, stats: &Stats) {
        let evicted = self.open.insert(connection, note);
        let Some((_, Some(Note { kind, time }))) = evicted.filter(|(old, _)| *old != connection)
        else {
            return;
        };
        if let Some((_, count)) = self.gone.get_mut(&kind) {
            *count = count.saturating_add(1);
        } else if self.gone.len() < MAX_KINDS {
            self.gone.insert(kind, (time, 1));
        } else {
            self.merged = self.merged.saturating_add(1);
            stats.protocol_unread_merged.add(1);
        }
    }
}

impl Note {
    fn of(seen: &Seen<'_>, handshake: Option<&Handshake>) -> Self {
        let alpn = match handshake {
            Some(Handshake {
                alpn: Some(alpn), ..
            }) => alpn.to_string(),
            Some(handshake) => handshake.alpn_offered.join(" or "),
            None => String::new(),
        };
        let name = handshake.and_then(|handshake| handshake.server_name.as_deref());
        Self {
            kind: Kind {
                process: seen.process,
                whom: whom(seen, name),
                alpn,
            },
            time: seen.time,
        }
    }
}

/// What follows the process's name.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            process,
            whom,
            alpn,
        } = self;
        write!(f, "[{process}] {whom}")?;
        match alpn.is_empty() {
            true => Ok(()),
            false => write!(f, " ({alpn})"),
        }
    }
}

/// Names and ports that are few: never the port a client happens to have.
fn whom(seen: &Seen<'_>, name: Option<&str>) -> String {
    let (way, end) = match seen.role {
        Some(Role::Client) => ("to", &seen.open.remote),
        Some(Role::Server) => ("as", &seen.open.local),
        None => ("with", &seen.open.remote),
    };
    match (name, end) {
        (Some(name), _) => format!("{way} {name}"),
        (None, Address::Inet(end)) if seen.role.is_none() => format!("{way} {}", end.ip()),
        (None, Address::Inet(end)) => format!("{way} {end}"),
        (None, Address::Unix(_)) => format!("{way} a unix socket"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(id: u64) -> Open {
        let address = |port| Address::Inet(([127, 0, 0, 1], port).into());
        Open {
            connection: ConnectionId(id),
            time: 1,
            process: 7,
            comm: "test".into(),
            local: address(40_000),
            remote: address(443),
            role: None,
            ends: None,
            start: [0; 2],
            base: [0, 0],
            line: 0,
            netns: 0,
            session: None,
            kernel_tls: false,
            datagrams: false,
        }
    }

    fn insert(of: &Encrypted, id: u64, process: u32, role: Option<Role>, name: Option<&str>) {
        let handshake = name.map(|name| {
            Arc::new(Handshake {
                version: crate::protocol::tls::Version::TLS13,
                cipher: 0x1301,
                server_name: Some(name.into()),
                alpn_offered: vec!["h2".into(), "http/1.1".into()],
                alpn: None,
            })
        });
        let seen = Seen {
            open: &open(id),
            role,
            process,
            time: 1,
        };
        of.insert(&seen, handshake, &Stats::default());
    }

    fn report(unread: &Unread) -> Vec<String> {
        let lines = unread.lines(|_, _| ("x".into(), "why".into())).into_iter();
        let bare = |line: String| line.replacen("encrypted, unread: ", "", 1);
        lines.map(bare).collect()
    }

    #[test]
    fn what_is_not_read_is_told_by_kind() {
        let (of, client) = (Encrypted::default(), Some(Role::Client));
        for id in 0..3 {
            insert(&of, id, 7, client, Some("a.test"));
        }
        insert(&of, 3, 7, client, None);
        insert(&of, 4, 8, Some(Role::Server), Some("b.test"));
        insert(&of, 5, 9, None, None);
        let lines = [
            "3 connections of x[7] to a.test (h2 or http/1.1): why",
            "1 connection of x[7] to 127.0.0.1:443: why",
            "1 connection of x[8] as b.test (h2 or http/1.1): why",
            "1 connection of x[9] with 127.0.0.1: why",
        ];
        assert_eq!(report(&of.unread), lines);
        assert!(of.has(ConnectionId(5)) && !of.has(ConnectionId(6)));
        assert!(of.handshakes.get(ConnectionId(4)).is_some());
    }

    #[test]
    fn what_is_read_is_not_told_whoever_comes_first() {
        let (of, stats) = (Encrypted::default(), Stats::default());
        insert(&of, 1, 7, None, None);
        of.unread.bound(ConnectionId(1), &stats);
        of.unread.bound(ConnectionId(1), &stats);
        assert_eq!(stats.protocol_decrypted.get(), 1);
        of.unread.bound(ConnectionId(2), &stats);
        assert!(!of.has(ConnectionId(2)), "its hellos may be still to come");
        insert(&of, 2, 7, None, None);
        assert_eq!(report(&of.unread), [""; 0]);
    }

    #[test]
    fn the_table_is_bounded_and_loses_no_count() {
        let of = Encrypted {
            unread: Unread::new(4),
            ..Encrypted::default()
        };
        for id in 0..3000 {
            insert(&of, id, id as u32 % 2000, None, None);
        }
        let lines = report(&of.unread);
        assert_eq!(lines.len(), MAX_LINES + 1);
        let number = |line: &String| line.split(' ').next().and_then(|n| n.parse::<u64>().ok());
        let sum: u64 = lines.iter().filter_map(number).sum();
        assert_eq!(sum, 3000);
    }
}
