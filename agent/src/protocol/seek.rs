//! Behind what cannot be read: looking for a turn that begins like a message.

use super::reader::Read;
use super::{Feed, Flow, Status, Verdict};
use crate::connection::Mark;
use crate::connection::stream::Stream;
use crate::stats::Stats;

/// Turns in a row that begin like no message, until the connection is given up, where nothing else is said.
const MAX_REFUSED: u32 = 16;

/// What is at the front of a flow in which the next message is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// A message, with which a turn begins.
    Message,
    /// Nothing, or too few bytes to tell.
    Wait,
    /// A turn that begins like no message: to be passed over.
    Refused,
    /// What goes on from before, or is missing: to be passed over.
    Other,
}

/// Looks at the front; `begins` is asked whether bytes begin like a message.
pub fn front(stream: &Stream, begins: impl FnOnce(&[u8]) -> Read<()>) -> Front {
    let Some(front) = stream.front() else {
        return Front::Wait;
    };
    if !front.turn || front.hole.is_some() {
        return Front::Other;
    }
    let (bytes, cut) = stream.turn_window();
    match begins(bytes) {
        Read::Whole(()) => Front::Message,
        Read::More if !cut => Front::Wait,
        _ => Front::Refused,
    }
}

/// Whether a verdict is on a message of this flow.
pub fn is_of(flow: Flow, verdict: Verdict) -> Read<()> {
    match verdict {
        Verdict::Is(found) | Verdict::Likely(found) if found == flow => Read::Whole(()),
        Verdict::More => Read::More,
        _ => Read::Never,
    }
}

/// How many turns in a row began like no message; past `MOST` the connection is given up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Refused<const MOST: u32 = MAX_REFUSED>(u32);

impl<const MOST: u32> Refused<MOST> {
    /// One more did; true when the connection is to be given up for it, which is counted.
    pub fn again(&mut self, stats: &Stats) -> bool {
        self.0 = self.0.saturating_add(1);
        let too_often = self.0 > MOST;
        stats.protocol_given_up.add(too_often.into());
        too_often
    }

    /// What was read made sense.
    pub fn reset(&mut self) {
        self.0 = 0;
    }
}

/// A parser that goes on, behind what it cannot read, at the next turn that begins like a message.
pub trait Seeker {
    /// Its count.
    fn refused(&mut self) -> &mut Refused;

    /// Says what becomes of the connection.
    fn end(&mut self, status: Status);

    /// Whether bytes begin like a message of this flow.
    fn begins(&self, flow: Flow, bytes: &[u8]) -> Read<()>;

    /// An unknown number of messages of this flow, from `at` on, may have gone by unseen.
    fn unsettle(&mut self, flow: Flow, at: Mark, feed: &mut Feed<'_>);

    /// From here on the next message of this flow is looked for.
    fn set_out(&mut self, flow: Flow, feed: &mut Feed<'_>);

    /// Something began like no message; true when the connection is left for it.
    fn refuse(&mut self, feed: &Feed<'_>) -> bool {
        let left = self.refused().again(feed.stats);
        if left {
            self.end(Status::Leave);
        }
        left
    }

    /// Nothing is known of where the next message begins; true, as there may be more to read.
    fn lose(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        feed.stats.protocol_resynced.add(1);
        // A turn that was refused is not looked at again.
        self.pass(flow, feed);
        self.set_out(flow, feed);
        true
    }

    /// Looks for a turn that begins like a message of this flow; false when more bytes are needed.
    fn seek(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        loop {
            match front(feed.stream, |bytes| self.begins(flow, bytes)) {
                Front::Message => break,
                Front::Wait => return false,
                Front::Refused if self.refuse(feed) => return false,
                // What is passed over may have been messages.
                Front::Refused | Front::Other => self.pass(flow, feed),
            }
        }
        feed.stream.take_missing();
        true
    }

    /// Passes over what is at the front.
    fn pass(&mut self, flow: Flow, feed: &mut Feed<'_>) {
        let at = feed.stream.mark(0);
        feed.stream.skip_front();
        feed.stream.take_missing();
        self.unsettle(flow, at, feed);
    }
}

/// One that counts what makes no sense as refused, too.
pub trait Strict: Seeker {
    /// Whether messages of its own were read.
    fn is_understood(&self) -> bool;

    /// Bytes that make no sense: the connection was never the protocol's, or the next turn is looked for.
    fn malformed(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        if !self.is_understood() {
            self.end(Status::Mistaken);
            return false;
        }
        feed.stats.protocol_malformed.add(1);
        self.refuse(feed);
        self.lose(flow, feed)
    }

    /// A message whose head is in a hole.
    fn cut(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        feed.stats.protocol_cut.add(1);
        self.lose(flow, feed)
    }

    /// The next message is not whole: yet, or for good.
    fn more(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        feed.stream.is_cut() && self.cut(flow, feed)
    }
}
