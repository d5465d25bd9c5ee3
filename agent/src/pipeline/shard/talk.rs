//! What the stages after `connection` keep about one.

use std::sync::Arc;

use super::super::encrypted::Seen;
use crate::connection::Streams;
use crate::event::{Open, Segment};
use crate::exchange::{Exchanges, Peer, Sink};
use crate::protocol::Message;
use crate::protocol::conversation::Conversation;

#[derive(Debug)]
pub(super) struct Talk {
    pub conversation: Conversation,
    pub exchanges: Exchanges,
    pub peer: Option<Arc<Peer>>,
    /// Bytes held of it, as they are counted in the shard's.
    pub held: usize,
    /// Its number among those who hold some; old where it holds none.
    pub holds: u64,
    /// The number it is among the shard's holders with; 0 where it is not.
    pub listed: u64,
    /// Whether records of it were lost: where nothing is open, nothing is said of its end.
    pub blind: bool,
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
                    carrier: open.session.map(|session| session.carrier),
                    datagrams: open.datagrams,
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
