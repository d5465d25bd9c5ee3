//! Behind what cannot be read: looking for a turn that begins like a message.

use super::reader::Read;
use super::{Flow, Verdict};
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
