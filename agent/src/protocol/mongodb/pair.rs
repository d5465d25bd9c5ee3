//! From a message that was read to what is said of it: requests open exchanges, responses tell how
//! they went.
//!
//! Never true here: that a request is told whose command was not read.

use super::say;
use super::waiting::Asked;
use super::{Dialogue, Ended, Frame, State};
use crate::connection::Mark;
use crate::protocol::{Fault, Feed, Flow, Part, Request, Response, told};

impl Dialogue {
    /// A message was read as far as it can be.
    pub(super) fn read(&mut self, flow: Flow, feed: &mut Feed<'_>) {
        let state = std::mem::replace(self.state(flow), State::Rest(None));
        let State::Body(frame) = state else {
            return;
        };
        let rest = frame.end.saturating_sub(feed.stream.position());
        let ended = match frame.asked {
            None => self.request(*frame, feed),
            Some(asked) => self.response(*frame, asked, feed),
        };
        feed.stream.skip(rest);
        *self.state(flow) = State::Rest(ended);
    }

    fn request(&mut self, frame: Frame, feed: &mut Feed<'_>) -> Option<Ended> {
        let mut found = frame.walk.found;
        let silent = found.more;
        let partial = say::is_partial(&found);
        let reads = say::reads(&found);
        let request = say::request(&mut found);
        let at = (frame.start, feed.stream.last());
        let number = request.map(|request| self.tell(request, at, partial, feed));
        if !silent {
            let asked = Asked {
                id: frame.id,
                time: frame.start.time,
                number,
                told: false,
                reads,
            };
            self.waiting.ask(asked, feed);
        }
        Some(Ended {
            silent,
            ..Ended::of(number?)
        })
    }

    /// Tells of a request, between the first byte and the last of what was read of it.
    pub(super) fn tell(
        &mut self,
        request: Request,
        (start, head): (Mark, Mark),
        partial: bool,
        feed: &mut Feed<'_>,
    ) -> u64 {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let mut say = |part| {
            let message = told::message(Flow::Request, number, start, part);
            feed.out.push(message);
        };
        say(Part::Request(Box::new(request), head));
        if partial {
            feed.stats.protocol_partial.add(1);
            say(Part::Fault(Fault::Partial));
        }
        number
    }

    fn response(&mut self, frame: Frame, asked: Asked, feed: &mut Feed<'_>) -> Option<Ended> {
        let found = frame.walk.found;
        // An error ends a stream of answers.
        let more = found.more && found.ok != Some(false);
        if more {
            self.waiting.again(Asked {
                id: frame.id,
                time: frame.start.time,
                told: true,
                ..asked
            });
        }
        let number = asked.number?;
        let response = say::response(&found, asked.reads);
        if !asked.told {
            respond(number, response, frame.start, feed);
        } else if let Some(response) = response.filter(|r| r.client_error.is_some()) {
            let part = Part::Trailers(Box::new(response));
            let message = told::message(Flow::Response, number, frame.start, part);
            feed.out.push(message);
        }
        Some(Ended {
            more,
            ..Ended::of(number)
        })
    }

    /// Passes over what is left of a message; false while it has not come.
    pub(super) fn rest(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        if !feed.stream.reached() {
            return false;
        }
        let state = std::mem::replace(self.state(flow), State::Head);
        let missing = feed.stream.take_missing();
        let State::Rest(Some(ended)) = state else {
            return true;
        };
        let (number, at) = (ended.number, feed.stream.last());
        for fault in told::faults(missing) {
            let message = told::message(flow, number, at, Part::Fault(fault));
            feed.out.push(message);
        }
        if !ended.more {
            told::finish(flow, number, at, (true, true), feed);
        }
        if ended.silent {
            let part = Part::Response(Box::default());
            let message = told::message(Flow::Response, number, at, part);
            feed.out.push(message);
            told::finish(Flow::Response, number, at, (true, true), feed);
        }
        true
    }
}

/// Tells of a response, as far as it was read.
pub fn respond(number: u64, response: Option<Response>, at: Mark, feed: &mut Feed<'_>) {
    let partial = response.is_none();
    let part = Part::Response(Box::new(response.unwrap_or_default()));
    feed.out
        .push(told::message(Flow::Response, number, at, part));
    if partial {
        feed.stats.protocol_partial.add(1);
        let part = Part::Fault(Fault::Partial);
        feed.out
            .push(told::message(Flow::Response, number, at, part));
    }
}
