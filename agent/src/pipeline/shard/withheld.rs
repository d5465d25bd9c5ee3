//! Bytes that seem to have moved unseen, until it is known whether they did.
//!
//! A call may find that TCP has gone on the other way, and that no call has told of it: either one
//! did that is never seen (splice to a pipe, io_uring on the fall-back path), or another thread's
//! is over and its program is yet to run. In the second case the bytes come at once. So what was
//! supposed waits for them, and what went the other way waits behind it: else a request would be
//! read without its answer's bytes, or an answer before its request's.

use std::collections::HashMap;

use super::kept::Kept;
use super::{Out, Shard};
use crate::event::{ConnectionId, Hole, Nanos, Segment};

/// How long the other thread may take, nanoseconds: it was moving bytes, and gets its turn.
const PATIENCE: Nanos = 50_000_000;
/// Most bytes that wait on a connection, and most connections on which some do: no more than 8 MiB.
const MOST: usize = 128 * 1024;
const MOST_CONNECTIONS: usize = 64;

/// What supposed bytes are, where nobody tells of them.
const UNSEEN: Option<Hole> = Some(Hole::NoBuffer);

/// Suppositions that are open.
#[derive(Debug, Default)]
pub(super) struct Withheld(HashMap<ConnectionId, Waiting>);

#[derive(Debug)]
struct Waiting {
    supposed: Kept,
    /// In the order in which they came.
    behind: Vec<Kept>,
    held: usize,
}

/// What is to be done with a segment.
#[derive(Debug)]
enum Offer {
    /// Read it.
    Read,
    /// Read it as what it is supposed to be: too much waits.
    Believe,
    /// Nothing yet.
    Wait,
    /// It is what was supposed to be unseen, and `lost` counts for it too: read it, then these.
    Came(Vec<Kept>, u32),
    /// It comes behind what was unseen: read these, then it.
    Behind(Vec<Kept>),
}

impl Waiting {
    /// The supposed bytes as unseen ones, and what came behind them.
    fn unseen(mut self) -> Vec<Kept> {
        self.supposed.hole = UNSEEN;
        self.behind.insert(0, self.supposed);
        self.behind
    }
}

impl Withheld {
    /// What a segment means for what waits on its connection.
    fn offer(&mut self, segment: &Segment<'_>) -> Offer {
        let supposed = segment.hole == Some(Hole::Supposed);
        if self.0.is_empty() && !supposed {
            return Offer::Read;
        }
        let id = segment.connection;
        let Some(waiting) = self.0.get_mut(&id) else {
            if !supposed {
                return Offer::Read;
            }
            if self.0.len() >= MOST_CONNECTIONS {
                return Offer::Believe;
            }
            let waiting = Waiting {
                supposed: Kept::of(segment),
                behind: Vec::new(),
                held: 0,
            };
            self.0.insert(id, waiting);
            return Offer::Wait;
        };
        if supposed || waiting.supposed.direction != segment.direction {
            waiting.held = waiting.held.saturating_add(Kept::cost(segment));
            if waiting.held <= MOST {
                waiting.behind.push(Kept::of(segment));
                return Offer::Wait;
            }
            return Offer::Behind(self.take(id));
        }
        let end = (waiting.supposed.offset).saturating_add(u64::from(waiting.supposed.length));
        if segment.offset >= end {
            return Offer::Behind(self.take(id));
        }
        match self.0.remove(&id) {
            Some(waiting) => Offer::Came(waiting.behind, waiting.supposed.lost),
            None => Offer::Read,
        }
    }

    /// What waits on a connection: the supposed bytes were moved unseen, or will never be known.
    fn take(&mut self, id: ConnectionId) -> Vec<Kept> {
        if self.0.is_empty() {
            return Vec::new();
        }
        self.0.remove(&id).map(Waiting::unseen).unwrap_or_default()
    }

    /// Those that have waited long enough.
    fn due(&self, now: Nanos) -> Vec<ConnectionId> {
        let due = |(id, waiting): (&ConnectionId, &Waiting)| {
            let waited = now.saturating_sub(waiting.supposed.time);
            (waited >= PATIENCE).then_some(*id)
        };
        self.0.iter().filter_map(due).collect()
    }

    /// Since when the first of them waits.
    fn since(&self) -> Option<Nanos> {
        self.0.values().map(|waiting| waiting.supposed.time).min()
    }
}

impl Shard {
    /// Takes a segment.
    pub(super) fn segment(&mut self, segment: &Segment<'_>, out: &mut Out<'_>) {
        let id = segment.connection;
        match self.withheld.offer(segment) {
            Offer::Read => self.read(segment, out),
            Offer::Wait => {}
            Offer::Believe => {
                let hole = UNSEEN;
                self.read(&Segment { hole, ..*segment }, out);
            }
            Offer::Came(behind, lost) => {
                let lost = segment.lost.saturating_add(lost);
                self.read(&Segment { lost, ..*segment }, out);
                self.replay(id, &behind, out);
            }
            Offer::Behind(waiting) => {
                self.replay(id, &waiting, out);
                self.segment(segment, out);
            }
        }
    }

    /// Takes what waited.
    fn replay(&mut self, id: ConnectionId, waiting: &[Kept], out: &mut Out<'_>) {
        for kept in waiting {
            self.segment(&kept.segment(id), out);
        }
    }

    /// Takes what waits on a connection.
    pub(super) fn release(&mut self, id: ConnectionId, out: &mut Out<'_>) {
        let waiting = self.withheld.take(id);
        self.replay(id, &waiting, out);
    }

    /// Takes what has waited long enough.
    pub(super) fn release_due(&mut self, now: Nanos, out: &mut Out<'_>) {
        for id in self.withheld.due(now) {
            self.release(id, out);
        }
    }

    /// Since when something waits whose facts are yet to come.
    pub fn withheld(&self) -> Option<Nanos> {
        self.withheld.since()
    }
}
