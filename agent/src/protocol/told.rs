//! What several parsers say alike, mostly of messages that pair by their order.

use super::{Fault, Feed, Finish, Flow, Message, Pairing, Part};
use crate::connection::Mark;
use crate::connection::stream::Missing;
use crate::event::Hole;

/// Of the message with this number.
pub fn message(flow: Flow, number: u64, at: Mark, part: Part) -> Message {
    Message {
        flow,
        pairing: Pairing::Order(number),
        at,
        part,
    }
}

/// The same where what pairs the two is a number that comes again.
pub fn slotted(flow: Flow, number: u64, at: Mark, part: Part) -> Message {
    Message {
        pairing: Pairing::Slot(number),
        ..message(flow, number, at, part)
    }
}

/// It is over with this byte, without a body that counts. (exact, whole)
pub fn finish(
    flow: Flow,
    number: u64,
    at: Mark,
    (exact, whole): (bool, bool),
    feed: &mut Feed<'_>,
) {
    let finish = Finish {
        body: 0,
        exact,
        whole,
    };
    feed.out
        .push(message(flow, number, at, Part::Finish(finish)));
}

/// The answer to a request cannot be known any more.
pub fn abandon(number: u64, at: Mark, feed: &mut Feed<'_>) {
    feed.out
        .push(message(Flow::Response, number, at, Part::Abandon));
}

/// The same, `unseen` being where it may have been.
pub fn abandon_unseen(number: u64, at: Mark, unseen: &Missing, feed: &mut Feed<'_>) {
    for (cause, bytes) in unseen.iter() {
        let fault = Part::Fault(Fault::Missing { cause, bytes });
        feed.out.push(message(Flow::Response, number, at, fault));
    }
    abandon(number, at, feed);
}

/// What a span must say about the holes in its message; the copy budget leaves out only what nobody
/// needed.
pub fn faults(missing: Missing) -> impl Iterator<Item = Fault> {
    missing
        .iter()
        .filter(|(cause, _)| *cause != Hole::Budget)
        .map(|(cause, bytes)| Fault::Missing { cause, bytes })
}
