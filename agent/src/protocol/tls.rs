//! TLS, as far as it can be seen on the socket (RFC 8446, RFC 5246): the hellos, and what goes wrong
//! in the clear. What follows is ciphertext: the connection is left, and never taken up again.
//!
//! The client's hello is kept until the server's has come; together they make a `Handshake`, which
//! spans of the plaintext use. Up to TLS 1.2 the rest of the handshake is in the clear: its records
//! are passed over by their lengths until the server changes to ciphertext, as an alert may come
//! instead. A handshake that fails becomes an exchange of its own; one that does not becomes none.
//!
//! Never true here: that a hello costs more than `MAX_HELLO` bytes, or more than one pass over
//! them; that lost bytes make a handshake fail; that a certificate is read.

mod handshake;
mod hello;
mod names;
mod record;

use std::borrow::Cow;
use std::sync::Arc;

pub use self::handshake::{Handshake, Handshakes};
pub use self::names::{Version, cipher};

use self::hello::{ClientHello, MAX_HELLO, ServerHello};
use self::record::{CLIENT_HELLO, HEAD, Kind, Read, Read2, SERVER_HELLO, V2};
use super::{
    Attributes, Fault, Feed, Finish, Flow, Message, Pairing, Parser, Part, Protocol, Request,
};
use super::{Response, Setup, Status, Value, Verdict};
use crate::connection::Mark;

/// The registry's entry.
pub const PROTOCOL: &dyn Protocol = &Tls;

/// `error.type` where the answer to a client's hello is not TLS.
const NOT_TLS: &str = "not_tls";

#[derive(Debug)]
struct Tls;

impl Protocol for Tls {
    fn name(&self) -> &'static str {
        "tls"
    }

    fn sniff(&self, bytes: &[u8]) -> Verdict {
        record::sniff(bytes)
    }

    fn sniff_amid(&self, bytes: &[u8]) -> Verdict {
        record::sniff_amid(bytes)
    }

    fn parser(&self, _setup: Setup) -> Box<dyn Parser> {
        Box::new(Dialogue::default())
    }
}

/// One connection.
#[derive(Debug, Default)]
struct Dialogue {
    request: Side,
    response: Side,
    /// What the client said, until its handshake is over.
    asked: Option<Asked>,
    /// What the server said, while the handshake goes on in the clear.
    answered: Option<ServerHello>,
    left: bool,
}

/// A client's hello, and where it was.
#[derive(Debug)]
struct Asked {
    hello: ClientHello,
    first: Mark,
    last: Mark,
}

/// One flow.
#[derive(Debug, Default)]
struct Side {
    state: State,
    /// Whether its first record was seen.
    begun: bool,
    /// Whether its hello was read: other handshake messages are passed over.
    read: bool,
    /// Where its hello begins.
    first: Mark,
    /// What has come of its hello.
    message: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// At a record's header.
    #[default]
    Head,
    /// In a record, so many bytes before its end, that has some of the hello.
    Fragment(usize),
    /// Nothing more is read.
    Lost,
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

    fn close(&mut self, flow: Flow, _clean: bool, feed: &mut Feed<'_>) {
        if flow == Flow::Response {
            self.open(feed);
        }
        self.side(flow).give_up();
    }

    fn quiet(&mut self, _flow: Flow, _feed: &mut Feed<'_>) {}

    fn time_out(&mut self, feed: &mut Feed<'_>) {
        self.open(feed);
        self.request.give_up();
        self.response.give_up();
    }

    fn weight(&self) -> usize {
        let messages = self.request.message.capacity();
        messages.saturating_add(self.response.message.capacity())
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
        match self.side(flow).state {
            State::Head => self.head(flow, feed),
            State::Fragment(left) => self.fragment(flow, left, feed),
            State::Lost => {
                feed.stream.skip_all();
                false
            }
        }
    }

    /// At a record's header.
    fn head(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        let window = feed.stream.window();
        let found = record::read(window);
        let side = self.side(flow);
        let begun = side.begun;
        side.begun |= found != Read::More;
        let head = match found {
            Read::Is(head) => head,
            Read::More if feed.stream.is_cut() => return self.lose(flow, feed),
            Read::More => return false,
            Read::Not if flow == Flow::Request && !begun => {
                return match V2::read(window) {
                    Read2::Is(hello) => self.hello_v2(hello, feed),
                    Read2::More if !feed.stream.is_cut() => false,
                    _ => self.nonsense(feed),
                };
            }
            Read::Not if flow == Flow::Response && !begun => {
                return self.fail(flow, NOT_TLS.into(), feed.stream.mark(0), feed);
            }
            Read::Not => return self.nonsense(feed),
        };
        let length = usize::from(head.length);
        match head.kind {
            Kind::Handshake if !self.side(flow).read => {
                let side = self.side(flow);
                if side.message.is_empty() {
                    side.first = feed.stream.mark(0);
                }
                side.state = State::Fragment(length);
                feed.stream.skip(HEAD as u64);
                return true;
            }
            Kind::Alert if length == 2 => {
                let Some(&[level, alert]) = window.get(HEAD..HEAD + 2) else {
                    return feed.stream.is_cut() && self.lose(flow, feed);
                };
                if level == FATAL {
                    let at = feed.stream.mark(HEAD + 1);
                    return self.fail(flow, names::alert(alert), at, feed);
                }
            }
            // An alert that is longer is encrypted, and so is all that follows the server's change.
            Kind::Alert | Kind::Data if self.answered.is_some() => return self.encrypted(feed),
            Kind::ChangeCipherSpec if flow == Flow::Response && self.answered.is_some() => {
                return self.encrypted(feed);
            }
            // Before that: early data, and what TLS 1.3 sends to look like TLS 1.2.
            _ => {}
        }
        // Records amid a connection whose beginning nobody saw.
        if self.asked.is_none() && self.answered.is_none() {
            return self.encrypted(feed);
        }
        feed.stream.skip(HEAD.saturating_add(length) as u64);
        true
    }

    /// In a record with some of a hello.
    fn fragment(&mut self, flow: Flow, left: usize, feed: &mut Feed<'_>) -> bool {
        let window = feed.stream.window();
        let bytes = window.get(..left).unwrap_or(window);
        let taken = bytes.len();
        if taken == 0 {
            return feed.stream.is_cut() && self.lose(flow, feed);
        }
        let side = self.side(flow);
        side.message.extend_from_slice(bytes);
        side.state = match left.saturating_sub(taken) {
            0 => State::Head,
            left => State::Fragment(left),
        };
        let last = feed.stream.mark(taken.saturating_sub(1));
        feed.stream.skip(taken as u64);
        match hello::header(&side.message) {
            Some((kind, _)) if kind != expected(flow) => self.nonsense(feed),
            Some((_, length)) if length > MAX_HELLO => {
                feed.stats.protocol_head_too_long.add(1);
                self.lose(flow, feed)
            }
            Some((_, length)) if side.message.len() >= length => {
                // Other messages may share the record.
                if let State::Fragment(left) = std::mem::take(&mut side.state) {
                    feed.stream.skip(left as u64);
                }
                let message = std::mem::take(&mut side.message);
                side.read = true;
                let body = message.get(4..length).unwrap_or_default();
                match flow {
                    Flow::Request => self.client_hello(body, last, feed),
                    Flow::Response => self.server_hello(body, feed),
                }
            }
            _ => true,
        }
    }

    fn client_hello(&mut self, body: &[u8], last: Mark, feed: &mut Feed<'_>) -> bool {
        let first = self.request.first;
        self.asked = hello::client(body).map(|hello| Asked { hello, first, last });
        self.asked.is_some() || self.nonsense(feed)
    }

    fn server_hello(&mut self, body: &[u8], feed: &mut Feed<'_>) -> bool {
        let Some(hello) = hello::server(body) else {
            return self.nonsense(feed);
        };
        if hello.retry {
            // The other one is still to come.
            self.response.read = false;
            return true;
        }
        let over = hello.version >= Version::TLS13;
        self.answered = Some(hello);
        !over || self.encrypted(feed)
    }

    /// The client's hello in its old form: of it the version is of use.
    fn hello_v2(&mut self, hello: V2, feed: &mut Feed<'_>) -> bool {
        let length = usize::from(hello.length);
        self.asked = Some(Asked {
            hello: ClientHello {
                versions: vec![Version(hello.version)],
                ..ClientHello::default()
            },
            first: feed.stream.mark(0),
            last: feed.stream.mark(length.saturating_sub(1)),
        });
        self.request.read = true;
        feed.stream.skip(length as u64);
        true
    }

    /// What began like TLS makes no sense.
    fn nonsense(&mut self, feed: &mut Feed<'_>) -> bool {
        feed.stats.protocol_malformed.add(1);
        self.encrypted(feed)
    }

    /// Bytes are missing where a record's header or a hello is: reads no more of the flow. Without
    /// the client's hello the server's may still tell something; without that, nothing does.
    fn lose(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        let side = self.side(flow);
        side.give_up();
        if !side.read {
            feed.stats.protocol_cut.add(1);
        }
        if flow == Flow::Response || self.response.read {
            return self.encrypted(feed);
        }
        true
    }

    /// The connection goes on in ciphertext: tells what is known of it, and leaves.
    fn encrypted(&mut self, feed: &mut Feed<'_>) -> bool {
        let asked = self.asked.take().map(|asked| asked.hello);
        let answered = self.answered.take();
        let handshake = answered.map(|hello| Arc::new(Handshake::new(asked, hello)));
        let part = Part::Encrypted(handshake);
        feed.out
            .push(message(Flow::Response, feed.stream.last(), part));
        self.left = true;
        false
    }

    /// The handshake failed at `at`, for this reason, as one side says.
    fn fail(
        &mut self,
        flow: Flow,
        error: Cow<'static, str>,
        at: Mark,
        feed: &mut Feed<'_>,
    ) -> bool {
        // A client that complains has had an answer.
        let unseen = flow == Flow::Request && self.answered.is_none();
        if self.open(feed) {
            if unseen {
                let fault = Part::Fault(Fault::Partial);
                feed.out.push(message(Flow::Request, at, fault));
            }
            let response = Response {
                attributes: Attributes::new(),
                client_error: Some(error.clone()),
                server_error: Some(error),
                messages: Vec::new(),
            };
            let finish = Finish {
                body: 0,
                exact: true,
                whole: true,
            };
            let parts = [Part::Response(Box::new(response)), Part::Finish(finish)];
            let messages = parts.map(|part| message(Flow::Response, at, part));
            feed.out.extend(messages);
        }
        self.left = true;
        false
    }

    /// Tells of a handshake that did not succeed, once; false where it is not known to have begun.
    fn open(&mut self, feed: &mut Feed<'_>) -> bool {
        let Some(Asked { hello, first, last }) = self.asked.take() else {
            return false;
        };
        let attributes = failed(hello, self.answered.take());
        let request = Request::call("tls", "TLS handshake", attributes);
        let part = Part::Request(Box::new(request), last);
        feed.out.push(message(Flow::Request, first, part));
        true
    }
}

impl Side {
    fn give_up(&mut self) {
        self.state = State::Lost;
        self.message = Vec::new();
    }
}

/// What is said of a handshake that failed: what was offered and, where the server got so far, what
/// it chose.
fn failed(asked: ClientHello, answered: Option<ServerHello>) -> Attributes {
    let mut attributes = Attributes::new();
    let versions = asked.versions.iter().map(ToString::to_string).collect();
    let alpn: Vec<String> = asked.alpn.iter().map(ToString::to_string).collect();
    match answered {
        Some(hello) => Handshake::new(Some(asked), hello).describe(&mut attributes),
        None => {
            if let Some(name) = &asked.server_name {
                handshake::add(&mut attributes, "server.address", name);
            }
        }
    }
    let mut put = |key: &'static str, value| {
        let key = Cow::Borrowed(key);
        attributes.push(super::Attribute { key, value });
    };
    put("tls.established", Value::Bool(false));
    put("spantap.tls.offered_versions", Value::List(versions));
    if !alpn.is_empty() {
        put("spantap.tls.offered_protocols", Value::List(alpn));
    }
    attributes
}

/// The type of a flow's first handshake message.
fn expected(flow: Flow) -> u8 {
    match flow {
        Flow::Request => CLIENT_HELLO,
        Flow::Response => SERVER_HELLO,
    }
}

fn message(flow: Flow, at: Mark, part: Part) -> Message {
    Message {
        flow,
        pairing: Pairing::Order(0),
        at,
        part,
    }
}

/// `fatal` (RFC 5246, 7.2).
const FATAL: u8 = 2;

#[cfg(test)]
mod tests;
