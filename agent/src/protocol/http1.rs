//! HTTP/1.0 and HTTP/1.1 as they are spoken (RFC 9110, RFC 9112): both directions of one
//! connection, read as lenient servers and clients read them.
//!
//! Each flow is in one of four states: looking for a turn that begins like a message, reading a
//! head, passing over a body, or done. A head that bytes are missing from, or framing that they are
//! missing from, sends the flow back to looking; `order` keeps the pairs right meanwhile.
//!
//! Never true here: that a body is kept; that two messages are read where senders and readers may
//! disagree about where the first one ends (request smuggling); that a response is read without
//! knowing what it answers, unless nobody can know.

mod body;
mod head;
mod pair;
mod passing;

use self::body::Body;
use self::head::{First, MAX_HEAD, Scan};
use super::http;
use super::http::over::Taps;
use super::order::Order;
use super::reader::kept;
use super::seek::{self, Front, Refused};
use super::told::{abandon_unseen, message};
use super::{Fault, Feed, Flow, Pairing, Parser, Part, Protocol, Setup, Status, Verdict};
use crate::connection::Mark;
use crate::connection::stream::Missing;

/// The registry's entry.
pub const PROTOCOL: &dyn Protocol = &Http1;

#[derive(Debug)]
struct Http1;

impl Protocol for Http1 {
    fn name(&self) -> &'static str {
        "http1"
    }

    fn sniff(&self, bytes: &[u8]) -> Verdict {
        head::sniff(bytes)
    }

    fn parser(&self, setup: Setup) -> Box<dyn Parser> {
        Box::new(Dialogue {
            keep: kept(&setup.config.limits),
            taps: Taps::new(setup.config.http.applications, "http1", Pairing::Order),
            setup,
            request: Side::default(),
            response: Side::default(),
            order: Order::default(),
            interim: None,
            displaced: false,
            unseen: Missing::default(),
            refused: Refused::default(),
            changing: None,
            held: false,
            left: false,
            next: None,
        })
    }
}

/// What reading a response needs to know of its request (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Head,
    Connect,
    /// To go on as a WebSocket.
    WebSocket,
    Other,
}

/// One connection.
#[derive(Debug)]
struct Dialogue {
    setup: Setup,
    /// Bytes kept of a text.
    keep: usize,
    request: Side,
    response: Side,
    order: Order<Asked>,
    /// What looks at bodies.
    taps: Taps,
    /// The request that has had an interim answer (1xx).
    interim: Option<u64>,
    /// Whether the next request stands where a body was declared.
    displaced: bool,
    /// Bytes of responses that passed without being seen since those who wait asked, by cause.
    unseen: Missing,
    refused: Refused,
    /// The request whose answer may make the connection a WebSocket: what follows it is held back.
    changing: Option<u64>,
    /// Whether something followed it.
    held: bool,
    left: bool,
    /// Who reads on, if another protocol follows.
    next: Option<(&'static dyn Protocol, Box<dyn Parser>)>,
}

/// One flow.
#[derive(Debug, Default)]
struct Side {
    state: State,
    /// The message under way, or the last one.
    number: u64,
}

#[derive(Debug, Default)]
enum State {
    /// Passes over everything until a turn begins like a message.
    #[default]
    Seek,
    /// At or in a head.
    Head(Scan),
    /// In a body.
    Body(Body),
    /// Nothing more is read.
    Done,
}

impl Parser for Dialogue {
    fn parse(&mut self, flow: Flow, feed: &mut Feed<'_>) -> Status {
        while !self.left && self.step(flow, feed) {}
        if self.left {
            Status::Leave
        } else {
            Status::Stay
        }
    }

    fn answer(&mut self, feed: &mut Feed<'_>) -> Status {
        if !matches!(self.request.state, State::Body(Body::Expected(_))) {
            return Status::Stay;
        }
        self.decide_expected(feed);
        self.parse(Flow::Request, feed)
    }

    fn missed(&mut self, flow: Flow, _feed: &mut Feed<'_>) {
        // Where nobody knows where a body ends, both flows may miss what seems to be of it.
        let doubtful = matches!(self.request.state, State::Body(Body::Doubtful(_)));
        if flow == Flow::Request || doubtful {
            self.order.lose_asks();
        }
    }

    fn close(&mut self, flow: Flow, clean: bool, feed: &mut Feed<'_>) {
        let side = self.side(flow);
        if let State::Body(body) = &side.state {
            let finish = body.cut(feed.stream, clean);
            let at = feed.stream.last();
            self.finish(flow, finish, at, feed);
        }
        if flow == Flow::Response {
            self.answered_unseen(feed);
        }
        self.side(flow).state = State::Done;
    }

    fn quiet(&mut self, flow: Flow, feed: &mut Feed<'_>) {
        if let State::Body(body @ Body::Doubtful(_)) = &self.side(flow).state {
            let finish = body.cut(feed.stream, true);
            let at = feed.stream.last();
            self.finish(flow, finish, at, feed);
        }
        // Who is still asking may have got no more than leave to go on.
        if flow == Flow::Response && !matches!(self.request.state, State::Body(_)) {
            self.answered_unseen(feed);
        }
    }

    fn successor(&mut self) -> Option<(&'static dyn Protocol, Box<dyn Parser>)> {
        self.next.take()
    }

    fn needs_whole(&self) -> bool {
        self.taps.need_whole()
    }

    fn weight(&self) -> usize {
        self.order.weight().saturating_add(self.taps.weight())
    }
}

impl Dialogue {
    fn side(&mut self, flow: Flow) -> &mut Side {
        match flow {
            Flow::Request => &mut self.request,
            Flow::Response => &mut self.response,
        }
    }

    /// Goes on by one state; false when more bytes are needed.
    fn step(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        match &mut self.side(flow).state {
            State::Seek => self.seek(flow, feed),
            State::Head(_) => self.head(flow, feed),
            State::Body(_) => self.body(flow, feed),
            State::Done => {
                feed.stream.skip_all();
                false
            }
        }
    }

    /// Looks for a turn that begins like a message of this flow.
    fn seek(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        loop {
            match seek::front(feed.stream, |bytes| seek::is_of(flow, head::sniff(bytes))) {
                Front::Message => break,
                Front::Wait => return false,
                Front::Refused if self.refused.again(feed.stats) => {
                    self.left = true;
                    return false;
                }
                Front::Refused | Front::Other => {}
            }
            // What is passed over may have been messages.
            let at = feed.stream.mark(0);
            feed.stream.skip_front();
            self.overlook(flow, feed);
            self.unsettle(flow, None, at, feed);
        }
        self.refused.reset();
        feed.stream.take_missing();
        if flow == Flow::Response {
            self.order.resume();
            if self.order.first().is_some() {
                self.unseen = Missing::default();
            }
        }
        self.side(flow).state = State::Head(Scan::default());
        true
    }

    /// Remembers what was passed over unseen, for those who wait: it may have been their answer.
    fn overlook(&mut self, flow: Flow, feed: &mut Feed<'_>) {
        let missing = feed.stream.take_missing();
        if flow == Flow::Request || self.order.asked().next().is_none() {
            return;
        }
        self.unseen.merge(missing);
    }

    /// No more comes of the responses: those who wait, while some of these passed unseen, had
    /// theirs among them for all that can be known.
    fn answered_unseen(&mut self, feed: &mut Feed<'_>) {
        if !self.unseen.any() || !matches!(self.response.state, State::Seek) {
            return;
        }
        let at = feed.stream.last();
        let unseen = std::mem::take(&mut self.unseen);
        self.order
            .give_up(|number| abandon_unseen(number, at, &unseen, feed));
    }

    /// Reads a head once it is whole.
    fn head(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        let held = flow == Flow::Request && self.changing.is_some();
        let State::Head(scan) = &mut self.side(flow).state else {
            return false;
        };
        if held && scan.is_fresh() {
            self.held |= !feed.stream.is_empty();
            return false;
        }
        if scan.is_fresh() {
            // RFC 9112, 2.2: empty lines before a message are left out.
            let blank = |b: &&u8| matches!(b, b'\r' | b'\n');
            let blanks = feed.stream.window().iter().take_while(blank).count();
            feed.stream.skip(blanks as u64);
            feed.stream.take_missing();
            if feed.stream.is_empty() {
                return false;
            }
        }
        let window = feed.stream.window();
        if scan.lines == 0 {
            let verdict = head::sniff(window);
            let other = matches!(verdict, Verdict::Is(found) if found != flow);
            if verdict == Verdict::Not || other {
                let cut = window.is_empty() && feed.stream.is_cut();
                return self.resync(flow, cut, feed);
            }
        }
        match scan.find(window) {
            Some(length) if length <= MAX_HEAD => {
                let scan = std::mem::take(scan);
                self.take_head(flow, length, &scan, feed)
            }
            None if window.len() <= MAX_HEAD && !feed.stream.is_cut() => false,
            None if window.len() <= MAX_HEAD => self.resync(flow, true, feed),
            _ => {
                feed.stats.protocol_head_too_long.add(1);
                self.lose(flow, feed);
                true
            }
        }
    }

    /// What began like a message is none that can be read.
    fn unreadable(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        feed.stats.protocol_unreadable.add(1);
        self.lose(flow, feed);
        true
    }

    /// The bytes make no sense, or are not there (`cut`): counts that and looks for the next turn.
    fn resync(&mut self, flow: Flow, cut: bool, feed: &mut Feed<'_>) -> bool {
        if cut {
            feed.stats.protocol_cut.add(1);
        } else {
            feed.stats.protocol_malformed.add(1);
        }
        self.lose(flow, feed);
        true
    }

    /// An unknown number of messages of this flow may go by unseen.
    fn lose(&mut self, flow: Flow, feed: &mut Feed<'_>) {
        feed.stats.protocol_resynced.add(1);
        let at = feed.stream.mark(0);
        // A turn that was refused is not looked at again.
        feed.stream.skip_front();
        self.overlook(flow, feed);
        self.unsettle(flow, None, at, feed);
        if flow == Flow::Request {
            self.displaced = false;
        }
        self.side(flow).state = State::Seek;
    }

    /// Tells [`Order`] that messages after the one under way may be missing.
    fn unsettle(&mut self, flow: Flow, under_way: Option<u64>, at: Mark, feed: &mut Feed<'_>) {
        match flow {
            Flow::Request => self.order.lose_asks(),
            Flow::Response => {
                self.changing = None;
                let unseen = &self.unseen;
                self.order
                    .lose_answers(under_way, |number| abandon_unseen(number, at, unseen, feed));
                if self.order.asked().next().is_none() {
                    self.unseen = Missing::default();
                }
            }
        }
    }

    fn take_head(&mut self, flow: Flow, length: usize, scan: &Scan, feed: &mut Feed<'_>) -> bool {
        let bytes = feed.stream.window().get(..length).unwrap_or_default();
        let bytes = scan.unfold(bytes);
        let role = (self.setup.role, self.setup.secure);
        let (config, stats) = ((&self.setup.config.http, self.keep), feed.stats);
        match flow {
            Flow::Request => {
                let taps = &self.taps;
                let taken = head::request(&bytes, scan.lines, |head| {
                    let (request, how) = pair::ask(&head, role, config, stats);
                    let tapped = pair::look(&head, |head| taps.of(head));
                    let frame = body::of_request(&head);
                    pair::Question {
                        request,
                        how,
                        frame,
                        tapped,
                    }
                });
                match taken {
                    Ok(question) => self.asked(question, length, feed),
                    Err(_) => return self.unreadable(flow, feed),
                }
            }
            Flow::Response => {
                let first = self.order.first();
                let asked = first.map_or(Asked::Other, |(_, asked)| asked);
                let taps = &mut self.taps;
                let taken = head::response(&bytes, scan.lines, |head| {
                    let First::Response { code } = head.first else {
                        return None;
                    };
                    let response = (code >= 200 || code == 101)
                        .then(|| http::response(Some(code), head.fields(), config, stats));
                    let frame = body::of_response(&head, code, asked == Asked::Head);
                    let change = pair::change(&head, code, asked);
                    if let (Some((number, _)), Some(_)) = (first, &response) {
                        pair::look(&head, |head| taps.answered(number, head, stats));
                    }
                    Some((code, response, frame, change))
                });
                match taken {
                    Ok(Some((code, Some(response), frame, change))) => {
                        let answer = pair::Answer {
                            code,
                            response,
                            frame,
                            change,
                        };
                        self.answered(first, answer, length, feed);
                    }
                    Ok(Some((_, None, ..))) => self.interim(first, length, feed),
                    _ => return self.unreadable(flow, feed),
                }
            }
        }
        true
    }

    fn fault(&mut self, flow: Flow, fault: Fault, at: Mark, feed: &mut Feed<'_>) {
        let number = self.side(flow).number;
        feed.out.push(message(flow, number, at, Part::Fault(fault)));
    }
}

#[cfg(test)]
mod tests;
