//! Connections that nobody could read: how many, whose, and what their first bytes looked like. Never
//! the bytes.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::event::{Address, Nanos, Open, Role};
use crate::protocol::sniff::Shape;
use crate::resource::Resources;
use crate::say::count;

/// Kinds of connections that are counted apart.
const MAX_KINDS: usize = 512;
/// Kinds that are told at the end.
const MAX_LINES: usize = 20;

/// Shared by all shards. Bounded: past `MAX_KINDS` only how many there were is remembered of those that
/// were met least.
#[derive(Debug, Default)]
pub struct Unknown(Mutex<Kinds>);

#[derive(Debug, Default)]
struct Kinds {
    /// When one was met last, and how many were.
    known: BTreeMap<Kind, (Nanos, u64)>,
    /// Those of other kinds.
    others: u64,
}

/// What connections that are told together have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    process: u32,
    whom: String,
    /// Of what was sent, and of what was received.
    shapes: [Shape; 2],
}

impl Unknown {
    /// A connection was left because no protocol knows it.
    pub fn insert(&self, open: &Open, process: u32, time: Nanos, shapes: [&Shape; 2]) {
        let kind = Kind {
            process,
            whom: whom(open),
            shapes: shapes.map(Clone::clone),
        };
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((last, count)) = kinds.known.get_mut(&kind) {
            (*last, *count) = (time, count.saturating_add(1));
            return;
        }
        if kinds.known.len() >= MAX_KINDS {
            kinds.make_room();
        }
        kinds.known.insert(kind, (time, 1));
    }

    /// A line for each kind, those of most connections first.
    pub fn report(&self, resources: &Resources) -> Vec<String> {
        self.lines(|process, time| resources.who(process, time).0)
    }

    fn lines(&self, who: impl Fn(u32, Nanos) -> String) -> Vec<String> {
        let kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = kinds.known.iter().collect();
        all.sort_by_key(|(_, (_, count))| std::cmp::Reverse(*count));
        let rest = all.iter().skip(MAX_LINES).map(|(_, (_, count))| *count);
        let rest = rest.fold(kinds.others, u64::saturating_add);
        let mut lines: Vec<String> = all
            .into_iter()
            .take(MAX_LINES)
            .map(|(kind, (time, connections))| {
                let Kind {
                    process,
                    whom,
                    shapes: [sent, received],
                } = kind;
                let connections = count(*connections, "connection");
                let name = who(*process, *time);
                let said = |shape: &Shape| match shape.as_str() {
                    "" => "nothing".to_owned(),
                    shape => format!("`{shape}`"),
                };
                let (sent, received) = (said(sent), said(received));
                format!(
                    "unknown protocol: {connections} of {name}[{process}] {whom}: \
                     began with {sent} sent, {received} received"
                )
            })
            .collect();
        if rest > 0 {
            let connections = count(rest, "connection");
            lines.push(format!("unknown protocol: {connections} of other kinds"));
        }
        lines
    }
}

impl Kinds {
    /// Forgets the kind that was met least, and longest ago, but for how many there were.
    fn make_room(&mut self) {
        let least = self
            .known
            .iter()
            .min_by_key(|(_, (last, count))| (*count, *last));
        let least = least.map(|(kind, _)| kind.clone());
        if let Some((_, count)) = least.and_then(|kind| self.known.remove(&kind)) {
            self.others = self.others.saturating_add(count);
        }
    }
}

/// Never the port a client happens to have.
fn whom(open: &Open) -> String {
    let (way, end) = match open.role {
        Some(Role::Client) => ("to", &open.remote),
        Some(Role::Server) => ("at", &open.local),
        None => ("with", &open.remote),
    };
    let transport = if open.datagrams { " (UDP)" } else { "" };
    match (end, &open.local) {
        (Address::Inet(end), _) if open.role.is_none() && end.port() != 0 => {
            format!("{way} {}{transport}", end.ip())
        }
        (Address::Inet(end), Address::Inet(local)) if end.port() == 0 => {
            format!("at {local}{transport}")
        }
        (Address::Inet(end), _) => format!("{way} {end}{transport}"),
        (Address::Unix(Some(name)), _) | (_, Address::Unix(Some(name))) => format!("{way} {name}"),
        (Address::Unix(None), _) => format!("{way} a unix socket"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{ConnectionId, Ends};

    fn open(port: u16, role: Option<Role>) -> Open {
        let address = |port| Address::Inet(([127, 0, 0, 1], port).into());
        Open {
            connection: ConnectionId(1),
            time: 1,
            process: 7,
            comm: "x".into(),
            local: address(40_000),
            remote: address(port),
            role,
            ends: None::<Ends>,
            start: [0; 2],
            base: [0; 2],
            line: 0,
            netns: 0,
            session: None,
            kernel_tls: false,
            datagrams: false,
        }
    }

    #[test]
    fn the_same_are_told_together_and_the_most_first() {
        let unknown = Unknown::default();
        let (some, none) = (Shape::of(b"HELO x1\r\n\xff"), Shape::default());
        let client = Some(Role::Client);
        for (port, role) in [(1, client), (2, client), (2, client), (9, None)] {
            unknown.insert(&open(port, role), 7, 5, [&some, &none]);
        }
        let lines = unknown.lines(|process, _| format!("p{process}"));
        assert_eq!(
            lines,
            [
                "unknown protocol: 2 connections of p7[7] to 127.0.0.1:2: began with `AAAA a9..*` sent, nothing received",
                "unknown protocol: 1 connection of p7[7] to 127.0.0.1:1: began with `AAAA a9..*` sent, nothing received",
                "unknown protocol: 1 connection of p7[7] with 127.0.0.1: began with `AAAA a9..*` sent, nothing received",
            ]
        );
    }

    #[test]
    fn kinds_are_bounded() {
        let unknown = Unknown::default();
        for port in 1..1000 {
            let shape = Shape::default();
            unknown.insert(&open(port, Some(Role::Client)), 7, 5, [&shape, &shape]);
        }
        let lines = unknown.lines(|_, _| String::new());
        assert_eq!(lines.len(), MAX_LINES + 1);
        assert_eq!(
            lines[MAX_LINES],
            "unknown protocol: 979 connections of other kinds"
        );
    }

    #[test]
    fn those_met_least_and_longest_ago_make_room() {
        let unknown = Unknown::default();
        let shape = Shape::default();
        let meet = |port, time| {
            let open = open(port, Some(Role::Client));
            unknown.insert(&open, 7, time, [&shape, &shape]);
        };
        for _ in 0..2 {
            meet(9001, 1);
        }
        for port in 1..=600 {
            meet(port, 2 + u64::from(port));
        }
        for _ in 0..3 {
            meet(9002, 1000);
        }
        let lines = unknown.lines(|_, _| String::new());
        for (line, begins) in lines.iter().zip(["3 connections", "2 connections"]) {
            assert!(
                line.starts_with(&format!("unknown protocol: {begins}")),
                "{line}"
            );
        }
        assert_eq!(
            lines[MAX_LINES],
            "unknown protocol: 582 connections of other kinds"
        );
    }
}
