//! From a body's first byte to its message's end: bodies are passed over, never kept, and where a
//! hole took the framing with it the next message's beginning is the end.
//!
//! Never true here: that a message ends twice, or that bytes missing from it go unsaid.

use super::body::{Body, Frame, Step};
use super::head::{self, Scan};
use super::{Dialogue, State, message};
use crate::connection::Mark;
use crate::connection::stream::Missing;
use crate::event::Hole;
use crate::protocol::{Fault, Feed, Finish, Flow, Part, Verdict};

impl Dialogue {
    pub(super) fn start_body(&mut self, flow: Flow, frame: &Frame, feed: &mut Feed<'_>) {
        let body = Body::new(frame, feed.stream);
        self.side(flow).state = State::Body(body);
    }

    pub(super) fn body(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        let State::Body(body) = &mut self.side(flow).state else {
            return false;
        };
        match body.advance(feed.stream) {
            Step::More => false,
            Step::Done(finish, at) => {
                self.finish(flow, finish, at, feed);
                true
            }
            Step::Lost => {
                body.lose(feed.stream);
                feed.stats.protocol_cut.add(1);
                let number = self.side(flow).number;
                let at = feed.stream.mark(0);
                self.unsettle(flow, Some(number), at, feed);
                true
            }
            Step::Turn => self.turn(flow, feed),
        }
    }

    /// In a body that may be over: ends it if the next message begins here.
    fn turn(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        let number = self.side(flow).number;
        let waits = self.order.waits(number);
        let leave = waits && self.continued == Some(number);
        let State::Body(body) = &mut self.side(flow).state else {
            return false;
        };
        let expected = matches!(body, Body::Expected(_));
        let begins = feed
            .stream
            .front()
            .is_some_and(|f| f.turn && f.hole.is_none());
        let (bytes, cut) = feed.stream.turn_window();
        let verdict = head::sniff(bytes);
        let ends = match verdict {
            // No body is sent after a final answer; if it is after all, the next turn is found.
            _ if expected && !waits => true,
            _ if !begins => false,
            // A sender with leave to send its body does so.
            _ if expected && leave => false,
            Verdict::Is(found) => found == flow,
            Verdict::More if !cut => return false,
            _ => false,
        };
        if ends {
            let finish = body.cut(feed.stream, !expected);
            let at = feed.stream.last();
            self.finish(flow, finish, at, feed);
            if verdict != Verdict::Is(flow) {
                let at = feed.stream.mark(0);
                self.unsettle(flow, None, at, feed);
                self.side(flow).state = State::Seek;
            }
        } else {
            body.accept_turn(feed.stream);
        }
        true
    }

    /// A message is over.
    pub(super) fn finish(&mut self, flow: Flow, finish: Finish, at: Mark, feed: &mut Feed<'_>) {
        let number = self.side(flow).number;
        for fault in faults(feed.stream.take_missing()) {
            self.fault(flow, fault, at, feed);
        }
        feed.out
            .push(message(flow, number, at, Part::Finish(finish)));
        if flow == Flow::Response {
            self.order.answered(number);
        }
        self.side(flow).state = if finish.exact {
            State::Head(Scan::default())
        } else {
            let at = feed.stream.mark(0);
            self.unsettle(flow, None, at, feed);
            State::Seek
        };
    }
}

/// What a span must say about the holes in its message; the copy budget leaves out only what
/// nobody needed.
fn faults(missing: Missing) -> impl Iterator<Item = Fault> {
    missing
        .iter()
        .filter(|(cause, _)| *cause != Hole::Budget)
        .map(|(cause, bytes)| Fault::Missing { cause, bytes })
}
