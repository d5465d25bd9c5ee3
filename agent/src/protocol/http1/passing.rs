//! From a body's first byte to its message's end: bodies are passed over, never kept, and where a
//! hole took the framing with it the next message's beginning is the end.
//!
//! Never true here: that a message ends twice, or that bytes missing from it go unsaid.

use super::body::{Body, Frame, Framing, Step};
use super::head::{self, MAX_HEAD, Scan};
use super::{Dialogue, State};
use crate::connection::Mark;
use crate::event::Hole;
use crate::protocol::told::{faults, message};
use crate::protocol::{Feed, Finish, Flow, Part, Verdict};

impl Dialogue {
    pub(super) fn start_body(&mut self, flow: Flow, frame: &Frame, feed: &mut Feed<'_>) {
        let number = self.side(flow).number;
        if frame.framing == Framing::Doubtful {
            self.taps.lose(flow, number);
        }
        let tapped = self.taps.wants(flow, number);
        let body = Body::new(frame, tapped, feed.stream);
        self.side(flow).state = State::Body(body);
    }

    pub(super) fn body(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        let State::Body(body) = &mut self.side(flow).state else {
            return false;
        };
        match body.advance(feed.stream) {
            Step::More => false,
            Step::Content(content) => {
                let number = self.side(flow).number;
                let left = self.taps.pass(flow, number, content, feed);
                let tapped = self.taps.wants(flow, number);
                if let State::Body(body) = &mut self.side(flow).state {
                    body.shown(left, tapped);
                }
                left == 0
            }
            // Whoever asked has what it needs, whenever that is told.
            Step::MayEnd(at) => {
                if flow == Flow::Response {
                    let number = self.response.number;
                    feed.out.push(message(flow, number, at, Part::Detach));
                }
                true
            }
            Step::Done(finish, at) => {
                self.finish(flow, finish, at, feed);
                true
            }
            Step::Lost => {
                body.lose(feed.stream);
                feed.stats.protocol_cut.add(1);
                let number = self.side(flow).number;
                self.taps.lose(flow, number);
                let at = feed.stream.mark(0);
                self.unsettle(flow, Some(number), at, feed);
                true
            }
            Step::Turn => self.turn(flow, feed),
        }
    }

    /// In a body that may be over: ends it if the next message begins here.
    fn turn(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        let State::Body(body) = &mut self.side(flow).state else {
            return false;
        };
        if let Body::Expected(_) = body {
            return self.expected(feed);
        }
        let begins = feed
            .stream
            .front()
            .is_some_and(|f| f.turn && f.hole.is_none());
        let (bytes, cut) = feed.stream.turn_window();
        let verdict = head::sniff(bytes);
        let ends = match verdict {
            _ if !begins => false,
            Verdict::Is(found) => found == flow,
            Verdict::More if !cut => return false,
            _ => false,
        };
        if ends {
            let finish = body.cut(feed.stream, true);
            let at = feed.stream.last();
            self.finish(flow, finish, at, feed);
        } else {
            body.accept_turn(feed.stream);
        }
        true
    }

    /// At a body for which leave was to be given. It is sent after that, and after some waiting
    /// without it; after a final answer it may be sent or not (RFC 9110, 10.1.1), and one that
    /// begins like a request is held back until what happens next tells the two apart.
    fn expected(&mut self, feed: &mut Feed<'_>) -> bool {
        // The copy budget leaves out nothing but bodies.
        let begins = feed.stream.front().is_some_and(|front| match front.hole {
            None => front.turn,
            Some(why) => why != Hole::Budget,
        });
        let (bytes, cut) = feed.stream.turn_window();
        if begins && bytes.len() <= MAX_HEAD && self.refused_expected().is_some() {
            match head::sniff(bytes) {
                Verdict::Is(Flow::Request) => return false,
                Verdict::More if !cut => return false,
                // A hole where a request may have begun.
                Verdict::More => {
                    self.end_expected(feed);
                    let at = feed.stream.mark(0);
                    self.unsettle(Flow::Request, None, at, feed);
                    self.request.state = State::Seek;
                    return true;
                }
                _ => {}
            }
        }
        self.accept_expected(feed);
        true
    }

    /// An answer begins after the one that refused a body: does it answer what was held back?
    /// The declared length says so (RFC 9112, 6.3), where another request follows it, or nothing.
    pub(super) fn decide_expected(&mut self, feed: &mut Feed<'_>) {
        let State::Body(Body::Expected(length)) = &self.request.state else {
            return;
        };
        let length = *length;
        if feed.stream.is_empty() || self.refused_expected() != Some(true) {
            return;
        }
        let held = feed.stream.end().saturating_sub(feed.stream.position());
        let rest = usize::try_from(length)
            .ok()
            .and_then(|n| feed.stream.window().get(n..));
        let follows = match rest {
            Some(rest) => matches!(
                head::sniff(rest),
                Verdict::Is(Flow::Request) | Verdict::More
            ),
            None => true,
        };
        if held >= length && follows {
            feed.stats.protocol_suspicious.add(1);
            self.accept_expected(feed);
            return;
        }
        self.end_expected(feed);
        self.displaced = true;
    }

    /// The body is not sent.
    fn end_expected(&mut self, feed: &mut Feed<'_>) {
        if let State::Body(body) = &self.request.state {
            let finish = body.cut(feed.stream, false);
            let at = feed.stream.last();
            self.finish(Flow::Request, finish, at, feed);
        }
    }

    /// Whether the body may have been refused, and if so whether that answer is over.
    fn refused_expected(&self) -> Option<bool> {
        let number = self.request.number;
        let body = matches!(self.response.state, State::Body(_));
        if self.response.number == number && body {
            return Some(false);
        }
        // Its turn came by an interim answer, or by one that was not seen.
        let refused = !self.order.waits(number) || self.interim != Some(number);
        refused.then_some(true)
    }

    fn accept_expected(&mut self, feed: &mut Feed<'_>) {
        let tapped = self.taps.wants(Flow::Request, self.request.number);
        if let State::Body(body) = &mut self.request.state {
            body.accept(tapped, feed.stream);
        }
    }

    /// A message is over.
    pub(super) fn finish(&mut self, flow: Flow, finish: Finish, at: Mark, feed: &mut Feed<'_>) {
        let side = self.side(flow);
        let number = side.number;
        let mut missing = feed.stream.take_missing();
        if let State::Body(Body::Doubtful(doubtful)) = &side.state {
            missing.merge(doubtful.missing());
        }
        for fault in faults(missing) {
            self.fault(flow, fault, at, feed);
        }
        self.taps.end((flow, number), at, feed.out);
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
