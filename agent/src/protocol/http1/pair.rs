//! What a whole head means for the dialogue: who waits for whom from now on, and what that ends on
//! the other side.
//!
//! Never true here: that bytes are looked at; the head was taken apart before.

use super::body::{Body, Frame, Framing};
use super::head::{First, Head};
use super::{Asked, Dialogue, State, abandon, message};
use crate::config;
use crate::event::Role;
use crate::protocol::http::{self, Line};
use crate::protocol::{Fault, Feed, Finish, Flow, Part, Request, Response};
use crate::stats::Stats;

impl Dialogue {
    /// A request's head is whole.
    pub(super) fn asked(
        &mut self,
        request: Request,
        asked: Asked,
        frame: &Frame,
        length: usize,
        feed: &mut Feed<'_>,
    ) {
        let turn = feed.stream.front().is_some_and(|front| front.turn);
        if turn {
            self.settle(feed);
        }
        let start = feed.stream.mark(0);
        feed.stream.skip(length as u64);
        let end = feed.stream.last();
        let number = self.order.ask(asked, turn);
        if number.is_none() {
            feed.stats.exchange_too_deep.add(1);
        }
        self.request.number = number.unwrap_or_else(|| self.order.unpaired());
        if let Some(number) = number {
            let part = Part::Request(Box::new(request), end);
            feed.out.push(message(Flow::Request, number, start, part));
        }
        let displaced =
            std::mem::take(&mut self.displaced).then_some("request in the place of a body");
        if let Some(why) = displaced.or(frame.suspicion) {
            feed.stats.protocol_suspicious.add(1);
            self.fault(Flow::Request, Fault::Suspicious(why), start, feed);
        }
        self.start_body(Flow::Request, frame, feed);
    }

    /// A request begins a turn: if no response is under way, nobody waits for one.
    pub(super) fn settle(&mut self, feed: &mut Feed<'_>) {
        match &self.response.state {
            State::Seek => {}
            State::Head(scan) if scan.is_fresh() => {}
            State::Body(Body::Doubtful(doubtful)) => {
                let finish = Finish {
                    body: doubtful.seen(),
                    exact: false,
                    whole: true,
                };
                self.finish(Flow::Response, finish, doubtful.last(), feed);
            }
            _ => return,
        }
        let at = feed.stream.mark(0);
        let unseen = std::mem::take(&mut self.unseen);
        self.order
            .settle(|number| abandon(number, at, &unseen, feed));
    }

    /// A final response's head is whole.
    pub(super) fn answered(
        &mut self,
        first: Option<(u64, Asked)>,
        answer: Answer,
        length: usize,
        feed: &mut Feed<'_>,
    ) {
        let start = feed.stream.mark(0);
        feed.stream.skip(length as u64);
        let number = first.map_or_else(|| self.order.unpaired(), |(number, _)| number);
        self.response.number = number;
        self.end_doubtful_request(number, feed);
        let part = Part::Response(Box::new(answer.response));
        feed.out.push(message(Flow::Response, number, start, part));
        let tunnel = answer.code < 300 && matches!(first, Some((_, Asked::Connect)));
        if tunnel || answer.code == 101 {
            let at = feed.stream.last();
            feed.out
                .push(message(Flow::Response, number, at, Part::Upgrade));
            feed.stats.protocol_upgraded.add(1);
            self.left = true;
            return;
        }
        let mut frame = answer.frame;
        if let Some(why) = frame.suspicion {
            self.fault(Flow::Response, Fault::Suspicious(why), start, feed);
        }
        if first.is_none() {
            // Whether a body follows depends on a request nobody knows.
            frame.framing = Framing::Doubtful;
        }
        self.start_body(Flow::Response, &frame, feed);
    }

    /// The answer shows that a request whose end cannot be seen is over.
    pub(super) fn end_doubtful_request(&mut self, number: u64, feed: &mut Feed<'_>) {
        if self.request.number != number {
            return;
        }
        if let State::Body(Body::Doubtful(doubtful)) = &self.request.state {
            let finish = Finish {
                body: doubtful.seen(),
                exact: false,
                whole: true,
            };
            let at = doubtful.last();
            feed.out
                .push(message(Flow::Request, number, at, Part::Finish(finish)));
            self.order.lose_asks();
            self.request.state = State::Seek;
        }
    }

    /// An interim response (RFC 9110, 15.2): the final one is yet to come.
    pub(super) fn interim(
        &mut self,
        first: Option<(u64, Asked)>,
        length: usize,
        feed: &mut Feed<'_>,
    ) {
        feed.stream.skip(length as u64);
        if let Some((number, _)) = first {
            self.interim = Some(number);
        }
    }
}

/// A final response.
pub(super) struct Answer {
    pub(super) code: u16,
    pub(super) response: Response,
    pub(super) frame: Frame,
}

/// What a request's head asks.
pub(super) fn ask(
    head: &Head<'_>,
    (role, secure): (Role, bool),
    config: (&config::Http, usize),
    stats: &Stats,
) -> (Request, Asked) {
    let (method, target) = match head.first {
        First::Request { method, target } => (method, target),
        First::Response { .. } => ("", ""),
    };
    let line = Line {
        method: Some(method),
        target: Some(target),
        version: if head.minor == 0 { "1.0" } else { "1.1" },
        scheme: if secure { "https" } else { "http" },
    };
    let asked = match method {
        "HEAD" => Asked::Head,
        "CONNECT" => Asked::Connect,
        _ => Asked::Other,
    };
    let request = http::request("http1", line, head.fields(), role, config, stats);
    (request, asked)
}
