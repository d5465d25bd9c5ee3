//! WebSocket (RFC 6455), which an upgrade of HTTP/1.1's becomes: the exchange of the upgrade lasts until
//! the WebSocket is closed, and says how many messages each side sent and the code it closed with.
//!
//! Frames are passed over by their lengths: a hole in a payload does no harm. One where a head may
//! have been leaves the rest of its flow unread, and its messages uncounted. Two closes end the
//! WebSocket; one and the end of the connection do so as well (7.1.4).
//!
//! Never true here: that a payload is kept, or looked at but for the code of a close; that a frame is
//! looked for where its beginning is not known, on connections older than the agent too; that a
//! message counts before its last byte has passed.

mod frame;

use std::borrow::Cow;
use std::time::Duration;

use self::frame::{Found, Frame, Kind};
use super::told::{faults, message};
use super::{
    Attribute, Fault, Feed, Flow, Parser, Part, Protocol, Response, Setup, Status, Verdict, http1,
};

/// The registry's entry.
pub const PROTOCOL: &dyn Protocol = &WebSocket;

/// How long one lasts in which nothing is sent, pings neither.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug)]
struct WebSocket;

impl Protocol for WebSocket {
    fn name(&self) -> &'static str {
        "websocket"
    }

    /// It begins as HTTP/1.1, which knows when it has become this.
    fn sniff(&self, _bytes: &[u8]) -> Verdict {
        Verdict::Not
    }

    fn patience(&self) -> Option<Duration> {
        Some(PATIENCE)
    }

    fn parser(&self, setup: Setup) -> Box<dyn Parser> {
        http1::PROTOCOL.parser(setup)
    }
}

/// The parser of a connection from behind the answer that agreed to it: `number` is the upgrade's
/// exchange, `extended` whether extensions were agreed on.
pub fn upgraded(number: u64, extended: bool) -> Box<dyn Parser> {
    Box::new(Socket {
        number,
        extended,
        sides: [Side::default(), Side::default()],
        closing: None,
        over: false,
    })
}

/// One connection.
#[derive(Debug)]
struct Socket {
    number: u64,
    extended: bool,
    /// Of the request flow and of the response flow.
    sides: [Side; 2],
    /// The first close that was seen.
    closing: Option<Closing>,
    over: bool,
}

/// One flow.
#[derive(Debug, Default)]
struct Side {
    state: State,
    /// Messages that have passed whole.
    messages: u64,
    /// Whether a message goes on in the next frame.
    goes_on: bool,
    /// Whether what is being passed over is a message's last frame.
    last: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// At a frame's head, or in a payload.
    #[default]
    Frames,
    /// A head was not seen, or was none.
    Lost,
    /// Its sender has closed.
    Closed,
}

#[derive(Clone, Copy, Debug)]
struct Closing {
    code: Option<u16>,
    /// Who began to close, where that is known.
    by: Option<Flow>,
}

impl Parser for Socket {
    fn parse(&mut self, flow: Flow, feed: &mut Feed<'_>) -> Status {
        while self.step(flow, feed) {}
        for fault in faults(feed.stream.take_missing()) {
            self.say(flow, Part::Fault(fault), feed);
        }
        match self.over {
            true => Status::Leave,
            false => Status::Stay,
        }
    }

    fn close(&mut self, flow: Flow, clean: bool, feed: &mut Feed<'_>) {
        self.side(flow).pass(feed);
        if flow == Flow::Response && !self.over {
            // Where one was lost its close may have been.
            let lost = self.sides.iter().any(|side| side.state == State::Lost);
            self.end(self.closing.is_some() || lost && clean, feed);
        }
    }

    fn silenced(&mut self, _feed: &mut Feed<'_>) {
        self.over = true;
    }
}

impl Socket {
    fn side(&mut self, flow: Flow) -> &mut Side {
        let [request, response] = &mut self.sides;
        match flow {
            Flow::Request => request,
            Flow::Response => response,
        }
    }

    fn say(&self, flow: Flow, part: Part, feed: &mut Feed<'_>) {
        let at = feed.stream.last();
        feed.out.push(message(flow, self.number, at, part));
    }

    /// Goes on by one frame; false when more bytes are needed.
    fn step(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        let extended = self.extended;
        let side = self.side(flow);
        if side.state != State::Frames {
            feed.stream.skip_all();
            return false;
        }
        if !side.pass(feed) {
            return false;
        }
        let (window, cut) = (feed.stream.window(), feed.stream.is_cut());
        match frame::read(window, flow, extended, side.goes_on) {
            Found::Frame(frame) => self.take(flow, frame, feed),
            Found::More if !cut => return false,
            Found::More => {
                feed.stats.protocol_cut.add(1);
                side.state = State::Lost;
            }
            Found::Not(why) => {
                feed.stats.protocol_malformed.add(1);
                side.state = State::Lost;
                self.say(flow, Part::Fault(Fault::Malformed(why)), feed);
            }
        }
        true
    }

    fn take(&mut self, flow: Flow, frame: Frame, feed: &mut Feed<'_>) {
        feed.stream.skip(frame.length);
        let side = self.side(flow);
        match frame.kind {
            Kind::Data { last } => {
                side.goes_on = !last;
                side.last = last;
            }
            Kind::Control => {}
            Kind::Close { code } => self.closes(flow, code, feed),
        }
    }

    /// A side has closed; the other's answer to that is the end.
    fn closes(&mut self, flow: Flow, code: Option<u16>, feed: &mut Feed<'_>) {
        self.side(flow).state = State::Closed;
        let other = self.side(flow.opposite()).state;
        if self.closing.is_none() {
            let by = (other != State::Lost).then_some(flow);
            self.closing = Some(Closing { code, by });
        }
        if other == State::Closed {
            self.end(true, feed);
        }
    }

    /// Says what is known of the whole; `over` unless the end of the connection broke it.
    fn end(&mut self, over: bool, feed: &mut Feed<'_>) {
        let keys = [
            "spantap.websocket.request.messages",
            "spantap.websocket.response.messages",
        ];
        let mut told = Response::default();
        for (key, side) in keys.into_iter().zip(&self.sides) {
            if side.state != State::Lost {
                let count = i64::try_from(side.messages).unwrap_or(i64::MAX);
                told.attributes.push(Attribute::int(key, count));
            }
        }
        if let Some(Closing {
            code: Some(code),
            by,
        }) = self.closing
        {
            let key = "spantap.websocket.close_code";
            told.attributes.push(Attribute::int(key, code.into()));
            let [client, server] = errors(code, by);
            let name = |is: bool| is.then(|| Cow::Owned(code.to_string()));
            (told.client_error, told.server_error) = (name(client), name(server));
        }
        self.say(Flow::Response, Part::Trailers(Box::new(told)), feed);
        if over {
            self.say(Flow::Response, Part::Upgrade, feed);
        }
        self.over = true;
    }
}

impl Side {
    /// Whether what is passed over has come; a message that ends with it counts then.
    fn pass(&mut self, feed: &Feed<'_>) -> bool {
        let passed = feed.stream.reached();
        if passed && std::mem::take(&mut self.last) {
            self.messages = self.messages.saturating_add(1);
        }
        passed
    }
}

/// Whether a close with this code is an error to the client and to the server (RFC 6455, 7.4.1; the
/// IANA registry has 1012 to 1014). As with HTTP's codes it is one to the client always, to the server
/// where that is what failed: it could not go on, or the client refuses what it sent.
fn errors(code: u16, by: Option<Flow>) -> [bool; 2] {
    let error = matches!(code, 1002 | 1003 | 1007..=1011 | 1013 | 1014);
    let server = match by {
        Some(Flow::Response) => matches!(code, 1011 | 1013 | 1014),
        Some(Flow::Request) => matches!(code, 1002 | 1003 | 1007),
        None => false,
    };
    [error, server]
}

#[cfg(test)]
mod tests;
