//! What a whole head means for the dialogue: who waits for whom from now on, and what that ends on
//! the other side.
//!
//! Never true here: that bytes are looked at; the head was taken apart before.

use httparse::Header;

use super::body::{Body, Frame, Framing};
use super::head::{First, Head, Scan};
use super::{Asked, Dialogue, State};
use crate::config;
use crate::connection::Mark;
use crate::event::Role;
use crate::protocol::http::over::{self, Tapped};
use crate::protocol::http::{self, Line};
use crate::protocol::told::{abandon_unseen, faults, message};
use crate::protocol::{
    Fault, Feed, Flow, Pairing, Part, Request, Response, Setup, http2, websocket,
};
use crate::stats::Stats;

impl Dialogue {
    /// A request's head is whole.
    pub(super) fn asked(&mut self, question: Question, length: usize, feed: &mut Feed<'_>) {
        let Question {
            request,
            how,
            frame,
            tapped,
        } = question;
        let turn = feed.stream.front().is_some_and(|front| front.turn);
        if turn {
            self.settle(feed);
        }
        let start = feed.stream.mark(0);
        feed.stream.skip(length as u64);
        let end = feed.stream.last();
        let number = self.order.ask(how, turn);
        if number.is_none() {
            feed.stats.exchange_too_deep.add(1);
        }
        self.request.number = number.unwrap_or_else(|| self.order.unpaired());
        self.changing = number.filter(|_| how == Asked::WebSocket);
        self.held = false;
        if let Some(number) = number {
            let part = Part::Request(Box::new(request), end);
            feed.out.push(message(Flow::Request, number, start, part));
            if let Some(tapped) = tapped {
                self.taps.insert(number, tapped, feed.stats);
            }
        }
        let displaced =
            std::mem::take(&mut self.displaced).then_some("request in the place of a body");
        if let Some(why) = displaced.or(frame.suspicion) {
            feed.stats.protocol_suspicious.add(1);
            self.fault(Flow::Request, Fault::Suspicious(why), start, feed);
        }
        self.start_body(Flow::Request, &frame, feed);
    }

    /// A request begins a turn: if no response is under way, nobody waits for one.
    pub(super) fn settle(&mut self, feed: &mut Feed<'_>) {
        match &self.response.state {
            State::Seek => {}
            State::Head(scan) if scan.is_fresh() => {}
            State::Body(Body::Doubtful(doubtful)) => {
                let (finish, last) = (doubtful.end(), doubtful.last());
                self.finish(Flow::Response, finish, last, feed);
            }
            _ => return,
        }
        let at = feed.stream.mark(0);
        let unseen = std::mem::take(&mut self.unseen);
        self.order
            .settle(|number| abandon_unseen(number, at, &unseen, feed));
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
        if first.is_some() {
            self.taps.forget_before(number);
        }
        self.end_doubtful_request(number, feed);
        if self.changing.take().is_some() && self.held && answer.change.is_none() {
            // They are read once their answers may have been.
            self.order.lose_asks();
        }
        let rests = !matches!(self.request.state, State::Body(_));
        if answer.change == Some(Change::Http2) && rests {
            return self.become_http2(number, start, feed);
        }
        let part = Part::Response(Box::new(answer.response));
        feed.out.push(message(Flow::Response, number, start, part));
        self.taps.tell((Flow::Response, number), start, feed.out);
        if let (Some(Change::WebSocket { extended }), true) =
            (answer.change, self.is_at_end(number))
        {
            return self.become_websocket(number, extended, feed);
        }
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

    /// The connection is HTTP/2's from here on, and the response is stream 1's (RFC 7540, 3.2).
    fn become_http2(&mut self, number: u64, at: Mark, feed: &mut Feed<'_>) {
        let part = Part::Rename(Pairing::Number(http2::UPGRADED));
        feed.out.push(message(Flow::Response, number, at, part));
        let setup = Setup {
            // Over TLS nobody changes that way.
            secure: false,
            ..self.setup.clone()
        };
        self.next = Some((http2::PROTOCOL, http2::upgraded(setup)));
        self.left = true;
    }

    /// The connection is a WebSocket from here on, for as long as the exchange lasts.
    fn become_websocket(&mut self, number: u64, extended: bool, feed: &mut Feed<'_>) {
        let at = feed.stream.last();
        feed.out
            .push(message(Flow::Response, number, at, Part::Detach));
        let next = websocket::upgraded(number, extended);
        self.next = Some((websocket::PROTOCOL, next));
        self.left = true;
    }

    /// Whether the request flow is just behind the request of this number.
    fn is_at_end(&self, number: u64) -> bool {
        let fresh = matches!(&self.request.state, State::Head(scan) if scan.is_fresh());
        fresh && self.request.number == number
    }

    /// The answer shows that a request whose end cannot be seen is over.
    pub(super) fn end_doubtful_request(&mut self, number: u64, feed: &mut Feed<'_>) {
        if self.request.number != number {
            return;
        }
        if let State::Body(Body::Doubtful(doubtful)) = &self.request.state {
            let (finish, at) = (doubtful.end(), doubtful.last());
            let mut say = |part| feed.out.push(message(Flow::Request, number, at, part));
            for fault in faults(doubtful.missing()) {
                say(Part::Fault(fault));
            }
            say(Part::Finish(finish));
            self.request.state = match finish.exact {
                true => State::Head(Scan::default()),
                false => {
                    self.order.lose_asks();
                    State::Seek
                }
            };
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

/// A request.
pub(super) struct Question {
    pub(super) request: Request,
    pub(super) how: Asked,
    pub(super) frame: Frame,
    pub(super) tapped: Option<Box<Tapped>>,
}

/// A final response.
pub(super) struct Answer {
    pub(super) code: u16,
    pub(super) response: Response,
    pub(super) frame: Frame,
    /// What follows, if that is known here.
    pub(super) change: Option<Change>,
}

/// Shows a head to what is spoken over HTTP.
pub(super) fn look<R>(head: &Head<'_>, show: impl FnOnce(&over::Head<'_>) -> R) -> R {
    let (line, code) = match head.first {
        First::Request { method, target } => ((method, target), None),
        First::Response { code } => (("", ""), Some(code)),
    };
    let field = |name: &str| {
        let is = |field: &&Header<'_>| field.name.eq_ignore_ascii_case(name);
        head.headers.iter().find(is).map(|field| field.value)
    };
    show(&over::Head::new(line, code, &field))
}

/// Another protocol that follows a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// HTTP/2 without TLS.
    Http2,
    /// `extended`: extensions of it were agreed on.
    WebSocket { extended: bool },
}

/// What a response to such a request changes to.
pub(super) fn change(head: &Head<'_>, code: u16, asked: Asked) -> Option<Change> {
    if code != 101 {
        return None;
    }
    if upgrades(head, b"h2c") {
        return Some(Change::Http2);
    }
    let agreed = upgrades(head, b"websocket") && has(head, "sec-websocket-accept");
    (agreed && asked == Asked::WebSocket).then(|| Change::WebSocket {
        extended: has(head, "sec-websocket-extensions"),
    })
}

/// Whether a head names a protocol to change to.
fn upgrades(head: &Head<'_>, protocol: &[u8]) -> bool {
    let names = |value: &[u8]| {
        let mut names = value.split(|&b| b == b',');
        names.any(|name| name.trim_ascii().eq_ignore_ascii_case(protocol))
    };
    let mut fields = head.fields();
    fields.any(|(name, value)| name.eq_ignore_ascii_case("upgrade") && names(value))
}

fn has(head: &Head<'_>, field: &str) -> bool {
    head.fields()
        .any(|(name, _)| name.eq_ignore_ascii_case(field))
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
        scheme: Some(if secure { "https" } else { "http" }),
    };
    let asked = match method {
        "HEAD" => Asked::Head,
        "CONNECT" => Asked::Connect,
        "GET" if upgrades(head, b"websocket") && has(head, "sec-websocket-key") => Asked::WebSocket,
        _ => Asked::Other,
    };
    let request = http::request("http1", line, head.fields(), role, config, stats);
    (request, asked)
}
