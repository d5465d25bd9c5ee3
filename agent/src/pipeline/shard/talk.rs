//! What the stages after `connection` keep about one.

use std::sync::Arc;

use super::super::encrypted::Seen;
use crate::connection::Streams;
use crate::event::{Direction, Open, Role, Segment};
use crate::exchange::{Exchanges, Fact, Peer, Sink};
use crate::protocol::Message;
use crate::protocol::conversation::Conversation;
use crate::stats::Stats;

#[derive(Debug)]
pub(super) struct Talk {
    pub conversation: Conversation,
    pub exchanges: Exchanges,
    pub peer: Option<Arc<Peer>>,
    /// Once this end serves where that does not show on the kernel side, as it connected or is asked by
    /// datagrams: whether that was told.
    pub unseen: Option<bool>,
    /// Whether the other end is the receiver of spans.
    pub receiver: bool,
    /// Bytes held of it, as they are counted in the shard's.
    pub held: usize,
    /// Its number among those who hold some; old where it holds none.
    pub holds: u64,
    /// The number it is among the shard's holders with; 0 where it is not.
    pub listed: u64,
    /// Whether records of it were lost: where nothing is open, nothing is said of its end.
    pub blind: bool,
    /// Which of its directions may miss more than their bytes show.
    pub losses: Losses,
}

/// Directions that may miss records which no gap in them has shown yet. Records are counted as lost over
/// both, and bytes over each: a gap accounts for one record, and for those that were told before it.
#[derive(Debug, Default)]
pub(super) struct Losses {
    egress: bool,
    ingress: bool,
}

impl Losses {
    /// `lost` records came before a segment that goes this way, with or without a `gap` before its first
    /// byte: whether some of them may have gone the other way.
    pub fn spread(&mut self, direction: Direction, lost: u32, gap: bool) -> bool {
        let Self { egress, ingress } = self;
        let (own, other) = match direction {
            Direction::Egress => (egress, ingress),
            Direction::Ingress => (ingress, egress),
        };
        let told = std::mem::take(own);
        let spread = lost > u32::from(gap && !told);
        *other |= spread;
        spread
    }

    /// Records were lost before an end: either direction may miss them.
    pub fn spread_all(&mut self) {
        (self.egress, self.ingress) = (true, true);
    }
}

impl Talk {
    /// Whether the entry of this number among the holders is still its own, and of use.
    pub fn lists(&mut self, number: u64) -> bool {
        let own = self.listed == number;
        if own && self.held == 0 {
            self.listed = 0;
        }
        own && self.held > 0
    }

    /// Records were lost before a segment: tells who reads the connection where more may be missing than
    /// a `gap` before its first byte shows.
    pub fn lose(
        &mut self,
        segment: &Segment<'_>,
        gap: bool,
        streams: &mut Streams,
        messages: &mut Vec<Message>,
        stats: &Stats,
    ) {
        self.blind |= segment.lost > 0;
        let direction = segment.direction;
        if self.losses.spread(direction, segment.lost, gap) {
            self.conversation
                .missed(direction.opposite(), streams, messages, stats);
        }
    }

    /// The same before an end, which goes no way.
    pub fn lose_before_end(
        &mut self,
        streams: &mut Streams,
        messages: &mut Vec<Message>,
        stats: &Stats,
    ) {
        self.blind = true;
        self.losses.spread_all();
        for direction in [Direction::Egress, Direction::Ingress] {
            self.conversation
                .missed(direction, streams, messages, stats);
        }
    }

    /// Whether this end serves where that does not show on the kernel side; true once.
    pub fn serves_unseen(&mut self) -> bool {
        let found = self.unseen == Some(false);
        if found {
            self.unseen = Some(true);
        }
        found
    }

    /// Counts anew what is held of it; true if it begins to hold something.
    pub fn weigh(&mut self, streams: &Streams, all: &mut usize) -> bool {
        let weight = streams
            .weight()
            .saturating_add(self.exchanges.weight())
            .saturating_add(self.conversation.weight());
        *all = all.saturating_sub(self.held).saturating_add(weight);
        std::mem::replace(&mut self.held, weight) == 0 && weight > 0
    }

    /// The connection as its socket shows it, that went on encrypted by a segment.
    pub fn seen<'a>(&self, open: &'a Open, segment: &Segment<'_>, hellos: bool) -> Seen<'a> {
        let known = self.conversation.role().filter(|_| hellos);
        Seen {
            open,
            role: known.or(open.role),
            process: segment.execution.process,
            time: segment.time,
        }
    }

    /// Gives what the parser found to the exchanges.
    pub fn settle(&mut self, open: &Open, messages: &mut Vec<Message>, sink: &mut Sink<'_>) {
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
                    shares_offsets: open.counts_from_start(),
                    line: open.line,
                    carrier: open.session.map(|session| session.carrier),
                    datagrams: open.datagrams,
                    receiver: self.receiver,
                })
            });
        }
        let before = sink.facts.len();
        for message in messages.drain(..) {
            if let Some(peer) = &self.peer {
                self.exchanges.take(message, peer, sink);
            }
        }
        let serves = |fact: &Fact| {
            matches!(fact, Fact::Opened(opened) if opened.role == Role::Server
                && (opened.peer.role == Role::Client || opened.peer.datagrams))
        };
        if self.unseen.is_none() && sink.facts.iter().skip(before).any(serves) {
            self.unseen = Some(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Egress, Ingress};

    #[test]
    fn a_gap_accounts_for_one_record_and_for_those_told_before() {
        for (told, spreads) in [
            (
                &[(Egress, 0, false), (Egress, 0, true)][..],
                &[false, false][..],
            ),
            (&[(Egress, 1, true), (Egress, 2, true)], &[false, true]),
            (&[(Egress, 1, false), (Ingress, 0, true)], &[true, false]),
            // Its gap is that of the record before; what was lost since went the other way, or both.
            (&[(Egress, 1, false), (Ingress, 1, true)], &[true, true]),
            // There was none after all.
            (
                &[(Egress, 2, true), (Ingress, 0, false), (Ingress, 1, true)],
                &[true, false, false],
            ),
        ] {
            let mut losses = Losses::default();
            let spread: Vec<bool> = told
                .iter()
                .map(|(way, lost, gap)| losses.spread(*way, *lost, *gap))
                .collect();
            assert_eq!(spread, spreads, "{told:?}");
        }
    }
}
