//! The traces of requests on connections that are introduced next: until then it is not known what their
//! offsets count from.

use std::borrow::Cow;
use std::collections::VecDeque;

use crate::connection::Connection;
use crate::event::{Carried, ConnectionId, Open};
use crate::exchange::Fact;

/// What was told last, oldest first.
#[derive(Debug, Default)]
pub(super) struct Foretold(VecDeque<Carried>);

/// A connection is introduced right behind what is told of its first request, but for a TLS session, which
/// waits for its carrier's next bytes.
const MOST: usize = 256;

impl Foretold {
    pub(super) fn keep(&mut self, carried: Carried) {
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back(carried);
    }

    /// An introduction, as it is where the connection's first request was given a line: of so many bytes,
    /// where it is known already, as another thread was as quick.
    pub(super) fn with_line<'a>(&self, open: &'a Open, known: u64) -> Cow<'a, Open> {
        let told = self.0.iter().filter(|it| it.connection == open.connection);
        match told.map(|carried| carried.line).fold(known, u64::max) {
            0 => Cow::Borrowed(open),
            line => Cow::Owned(open.clone().with_line(line)),
        }
    }

    /// What was told of this connection's requests, in order.
    pub(super) fn take(&mut self, id: ConnectionId) -> impl Iterator<Item = Carried> + use<> {
        let (found, others) =
            (self.0.drain(..)).partition::<VecDeque<_>, _>(|c| c.connection == id);
        self.0 = others;
        found.into_iter()
    }
}

impl<S> Connection<S> {
    /// With its offset as the agent counts.
    pub(super) fn carried(&self, carried: Carried) -> Fact {
        let offset = self.base(carried.direction).wrapping_add(carried.offset);
        Fact::Carried(Carried { offset, ..carried })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Direction, Source};

    #[test]
    fn what_was_told_first_makes_room() {
        let mut foretold = Foretold::default();
        let one = |id, offset| Carried {
            connection: ConnectionId(id),
            direction: Direction::Egress,
            offset,
            line: 0,
            time: 0,
            trace: [1; 16],
            flags: None,
            named: true,
            source: Source::Made,
        };
        foretold.keep(one(1, 0));
        for offset in 0..MOST as u64 {
            foretold.keep(one(2 + offset % 2, offset));
        }
        assert_eq!(foretold.take(ConnectionId(1)).count(), 0);
        let offsets: Vec<u64> = foretold.take(ConnectionId(2)).map(|c| c.offset).collect();
        assert_eq!(offsets, (0..MOST as u64).step_by(2).collect::<Vec<_>>());
        assert_eq!(foretold.take(ConnectionId(2)).count(), 0);
    }
}
