//! Plaintext that came before it is known which socket carries it: a library that encrypts into
//! memory gives the first request to its application before anything of the session was sent. It
//! waits here, in order, within bounds.

use std::collections::{HashMap, VecDeque};

use super::kept::Kept;
use crate::event::{ConnectionId, Nanos, Segment};

/// Most bytes that wait, of one session and of all of a shard's.
const MOST: usize = 256 * 1024;
const MOST_OF_ALL: usize = 4 * 1024 * 1024;
/// How long it waits, nanoseconds.
const PATIENCE: Nanos = 30_000_000_000;

/// Segments of sessions that are not introduced.
#[derive(Debug, Default)]
pub(super) struct Early {
    sessions: HashMap<ConnectionId, Waiting>,
    /// Who came when, oldest first; some are gone since.
    order: VecDeque<(ConnectionId, Nanos)>,
    held: usize,
}

#[derive(Debug)]
struct Waiting {
    since: Nanos,
    segments: Vec<Kept>,
    held: usize,
}

impl Early {
    /// Keeps a segment; how many sessions that made give up, its own among them where one has no room.
    pub(super) fn keep(&mut self, segment: &Segment<'_>) -> u64 {
        let id = segment.connection;
        let cost = Kept::cost(segment);
        let order = &mut self.order;
        let waiting = self.sessions.entry(id).or_insert_with(|| {
            order.push_back((id, segment.time));
            Waiting {
                since: segment.time,
                segments: Vec::new(),
                held: 0,
            }
        });
        if waiting.held.saturating_add(cost) > MOST {
            let since = waiting.since;
            return u64::from(self.forget(id, since));
        }
        waiting.held = waiting.held.saturating_add(cost);
        waiting.segments.push(Kept::of(segment));
        self.held = self.held.saturating_add(cost);
        let mut given_up = 0;
        while self.held > MOST_OF_ALL
            && let Some((oldest, since)) = self.order.pop_front()
        {
            given_up += u64::from(self.forget(oldest, since));
        }
        given_up
    }

    /// Gives out what waited for a session, oldest first.
    pub(super) fn take(&mut self, id: ConnectionId, mut take: impl FnMut(&Segment<'_>)) {
        let Some(waiting) = self.sessions.remove(&id) else {
            return;
        };
        self.held = self.held.saturating_sub(waiting.held);
        for kept in &waiting.segments {
            take(&kept.segment(id));
        }
    }

    /// Gives up what waited too long; how many sessions.
    pub(super) fn tick(&mut self, now: Nanos) -> u64 {
        let mut given_up = 0;
        while let Some(&(id, since)) = self.order.front()
            && now.saturating_sub(since) >= PATIENCE
        {
            self.order.pop_front();
            given_up += u64::from(self.forget(id, since));
        }
        given_up
    }

    /// Whether there was such a session, of that time.
    fn forget(&mut self, id: ConnectionId, since: Nanos) -> bool {
        if self.sessions.get(&id).is_none_or(|w| w.since != since) {
            return false;
        }
        let held = self.sessions.remove(&id).map_or(0, |waiting| waiting.held);
        self.held = self.held.saturating_sub(held);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::kept::ENTRY;
    use super::*;
    use crate::event::{Direction, Execution};

    fn segment(id: u64, time: Nanos, bytes: &[u8]) -> Segment<'_> {
        Segment {
            connection: ConnectionId(id),
            direction: Direction::Ingress,
            time,
            offset: 0,
            length: bytes.len() as u32,
            bytes,
            tail: &[],
            hole: None,
            turn: true,
            lost: 0,
            execution: Execution::default(),
        }
    }

    fn taken(early: &mut Early, id: u64) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        early.take(ConnectionId(id), |s| all.push(s.bytes.to_vec()));
        all
    }

    #[test]
    fn what_came_early_comes_in_order_and_once() {
        let mut early = Early::default();
        assert_eq!(early.keep(&segment(1, 5, b"GET")), 0);
        assert_eq!(early.keep(&segment(2, 5, b"other")), 0);
        assert_eq!(early.keep(&segment(1, 6, b" /")), 0);
        assert_eq!(taken(&mut early, 1), [b"GET".to_vec(), b" /".to_vec()]);
        assert!(taken(&mut early, 1).is_empty());
        assert_eq!(taken(&mut early, 2), [b"other".to_vec()]);
        assert_eq!(early.held, 0);
    }

    #[test]
    fn room_is_bounded_for_one_and_for_all() {
        let mut early = Early::default();
        let bytes = vec![0; 16 * 1024];
        let room = (MOST / (bytes.len() + ENTRY)) as u64;
        assert!((0..room).all(|_| early.keep(&segment(1, 1, &bytes)) == 0));
        assert_eq!(early.keep(&segment(1, 1, &bytes)), 1);
        assert!(taken(&mut early, 1).is_empty() && early.held == 0);
        let mut given_up = 0;
        for id in 2..1000 {
            given_up += early.keep(&segment(id, id, &bytes));
            assert!(early.held <= MOST_OF_ALL);
        }
        assert_eq!(given_up + early.sessions.len() as u64, 998);
        assert!(taken(&mut early, 2).is_empty(), "the oldest made room");
        assert_eq!(taken(&mut early, 999).len(), 1);
    }

    #[test]
    fn nobody_waits_for_ever() {
        let mut early = Early::default();
        early.keep(&segment(1, 10, b"x"));
        early.keep(&segment(2, 10 + PATIENCE, b"x"));
        assert_eq!(early.tick(9 + PATIENCE), 0);
        assert_eq!(early.tick(10 + PATIENCE), 1);
        assert!(taken(&mut early, 1).is_empty());
        assert_eq!(taken(&mut early, 2).len(), 1);
    }
}
