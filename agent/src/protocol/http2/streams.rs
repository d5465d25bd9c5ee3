//! Streams (RFC 9113, 5.1): what a header block, an end and a reset mean for the exchange they are
//! of. A client's streams have odd numbers that only grow; those a server pushes are passed over.
//!
//! Never true here: that more than [`MAX_STREAMS`] streams are remembered.

use crate::connection::stream::Missing;
use std::collections::BTreeMap;

use bytes::Bytes;

use super::frame::{self, Head, kind};
use super::{Dialogue, Fault, Feed, Field, Finish, Flow, Mark, Part, Stats, http, message};
use crate::event::Hole;
use crate::protocol::grpc;
use crate::protocol::http::Line;
use crate::protocol::http::over;

/// The streams whose response has not ended.
#[derive(Debug, Default)]
pub struct Streams {
    open: BTreeMap<u32, Talk>,
    /// Highest number of any that was opened.
    highest: u32,
}

/// One stream.
#[derive(Debug, Default)]
struct Talk {
    request: Half,
    response: Half,
    /// Whether it is a gRPC call.
    call: bool,
    /// The method it calls, if it is a call after all: its content type is not known.
    perhaps: Option<Box<str>>,
    /// Whether the response's head, whose status is not known, may have been an interim one.
    interim: bool,
}

#[derive(Debug, Default)]
struct Half {
    begun: bool,
    ended: bool,
    body: u64,
    /// Of a call, or what may be one.
    messages: grpc::Messages,
    /// Whether bytes may be missing from it that nobody counted.
    holed: bool,
    /// What passed unseen before it began: it may have been all of it.
    unseen: Missing,
}

impl Half {
    /// How many messages there were, where all of them were seen.
    fn count(&self) -> Option<u64> {
        self.messages.count().filter(|_| !self.holed)
    }
}

impl Talk {
    /// Whether both sides sent messages as calls have them, and nothing else.
    fn is_framed(&self) -> bool {
        let some = |half: &Half| half.count() > Some(0);
        some(&self.request) && some(&self.response)
    }

    fn half(&mut self, flow: Flow) -> &mut Half {
        match flow {
            Flow::Request => &mut self.request,
            Flow::Response => &mut self.response,
        }
    }
}

impl Streams {
    /// With the first one asked in whole, in HTTP/1.1.
    pub fn upgraded() -> Self {
        let request = Half {
            begun: true,
            ended: true,
            ..Half::default()
        };
        let talk = Talk {
            request,
            ..Talk::default()
        };
        Self {
            open: BTreeMap::from([(1, talk)]),
            highest: 1,
        }
    }

    /// Whether it is open.
    pub fn has(&self, stream: u32) -> bool {
        self.open.contains_key(&stream)
    }

    /// Bytes of body have begun to pass; `exact`: without padding.
    pub fn data(&mut self, flow: Flow, stream: u32, bytes: u64, exact: bool) {
        if let Some(talk) = self.open.get_mut(&stream) {
            // Content follows a final head only (RFC 9113, 8.1).
            talk.interim &= flow == Flow::Request;
            let half = talk.half(flow);
            half.body = half.body.saturating_add(bytes);
            half.holed |= !exact;
        }
    }

    /// The messages of a stream that is a call or may be one.
    pub fn messages(&mut self, flow: Flow, stream: u32) -> Option<&mut grpc::Messages> {
        let talk = self.open.get_mut(&stream)?;
        let counts = talk.call || talk.perhaps.is_some();
        counts.then(|| &mut talk.half(flow).messages)
    }

    /// Bytes of this flow passed unseen: the streams that they may be a part of.
    pub fn miss(&mut self, flow: Flow, cause: Hole, bytes: u64) -> Vec<u32> {
        let mut inside = Vec::new();
        for (stream, talk) in &mut self.open {
            let half = talk.half(flow);
            half.holed |= !half.ended;
            match (half.begun, half.ended) {
                (true, false) => inside.push(*stream),
                (true, true) => {}
                (false, _) => half.unseen.add(cause, bytes),
            }
        }
        inside
    }

    /// Takes out those that are `over`, the oldest first.
    fn take(&mut self, over: impl Fn(&Talk) -> bool) -> Vec<(u32, Talk)> {
        let all = std::mem::take(&mut self.open).into_iter();
        let (over, open): (BTreeMap<_, _>, _) = all.partition(|(_, talk)| over(talk));
        self.open = open;
        over.into_iter().collect()
    }

    /// What they cost to hold, in bytes.
    pub fn weight(&self) -> usize {
        let each = size_of::<(u32, Talk)>();
        match self.open.len() {
            0..=FEW => 0,
            many => many.saturating_mul(each),
        }
    }
}

/// Most streams of a connection that are followed at once.
pub const MAX_STREAMS: usize = 1024;
/// Streams that count for nothing.
const FEW: usize = 16;

impl Dialogue {
    /// A header block is over: a request's or a response's head, an interim one, or trailers.
    /// `whole`: all of it was read.
    pub(super) fn head(
        &mut self,
        flow: Flow,
        head: Head,
        start: Mark,
        (fields, whole): (Vec<Field>, bool),
        feed: &mut Feed<'_>,
    ) {
        if head.kind == kind::PUSH_PROMISE || head.stream.is_multiple_of(2) {
            return;
        }
        let last = head.has(frame::END_STREAM);
        let begun = match self.streams.open.get_mut(&head.stream) {
            // Trailers end their stream and have no status (RFC 9113, 8.1).
            Some(talk) if talk.interim && flow == Flow::Response => {
                last && find(&fields, b":status").is_none()
            }
            Some(talk) => talk.half(flow).begun,
            None if flow == Flow::Response => return,
            // One that was opened before the agent came, or is over.
            None if head.stream <= self.streams.highest => return,
            None => false,
        };
        match (flow, begun) {
            (Flow::Request, false) => self.asked(head, start, &fields, whole, feed),
            (Flow::Response, false) => self.answered(head, start, &fields, whole, feed),
            // Nothing but trailers that end it can follow a final head (RFC 9113, 8.1).
            (Flow::Response, true) if last => self.trailed(head, start, &fields, whole, feed),
            (_, true) => {}
        }
    }

    /// A block's frame may be the last of its stream's flow.
    pub(super) fn end_of(&mut self, flow: Flow, head: Head, feed: &mut Feed<'_>) {
        if head.kind == kind::HEADERS && head.has(frame::END_STREAM) {
            let at = feed.stream.last();
            self.finish(flow, head.stream, at, feed);
        }
    }

    fn asked(
        &mut self,
        head: Head,
        start: Mark,
        fields: &[Field],
        whole: bool,
        feed: &mut Feed<'_>,
    ) {
        let pseudo = |field: &Field| field.name.as_ref().is_some_and(|n| n.starts_with(b":"));
        let partial = !whole || fields.iter().any(|f| f.name.is_none() || f.value.is_none());
        // Trailers of a request that was opened before the agent came; what no request has.
        let answer = find(fields, b":status").is_some();
        if answer || (!partial && !fields.iter().any(pseudo)) {
            return;
        }
        self.streams.highest = head.stream;
        // Ends may have been lost: the oldest makes room, as its exchange does.
        if self.streams.open.len() >= MAX_STREAMS {
            if let Some((oldest, _)) = self.streams.open.pop_first() {
                self.taps.forget(oldest.into());
            }
            feed.stats.protocol_streams_forgotten.add(1);
        }
        let text = |name| find(fields, name).and_then(|value| std::str::from_utf8(value).ok());
        let authority = find(fields, b":authority").map(|value| ("host", value.as_ref()));
        let (method, path) = (text(b":method"), text(b":path"));
        let called = path.and_then(grpc::method);
        let call = is_call(fields, partial && called.is_some());
        // A call's scheme says nothing of where its server listens.
        let scheme = text(b":scheme").filter(|_| !call);
        let line = Line {
            method,
            target: path.or(text(b":authority").filter(|_| method == Some("CONNECT"))),
            version: "2",
            scheme: scheme.map(|scheme| match scheme {
                "https" => "https",
                _ => "http",
            }),
        };
        let headers = authority.into_iter().chain(plain(fields));
        let settings = (&self.config.http, self.keep);
        let mut request = http::request("http2", line, headers, self.role, settings, feed.stats);
        request.likeness = request.likeness.filter(|_| !partial);
        if call {
            grpc::call(called).apply(&mut request);
        }
        if !partial && !call {
            self.tap(head.stream, fields, feed.stats);
        }
        let talk = Talk {
            request: Half {
                begun: true,
                ..Half::default()
            },
            call,
            // Calls are asked by POST; of this one's fields some are not known.
            perhaps: called
                .filter(|_| partial && !call && method == Some("POST"))
                .filter(|_| find(fields, b"content-type").is_none())
                .map(Box::from),
            ..Talk::default()
        };
        self.streams.open.insert(head.stream, talk);
        let end = feed.stream.last();
        let part = Part::Request(Box::new(request), end);
        feed.out
            .push(message(Flow::Request, head.stream, start, part));
        self.partial(partial, Flow::Request, head, start, feed);
    }

    fn answered(
        &mut self,
        head: Head,
        start: Mark,
        fields: &[Field],
        whole: bool,
        feed: &mut Feed<'_>,
    ) {
        let status = find(fields, b":status").and_then(|value| {
            let code: u16 = std::str::from_utf8(value).ok()?.parse().ok()?;
            Some(code)
        });
        // Interim ones never end a stream (RFC 9113, 8.1).
        if status.is_some_and(|code| code < 200) && !head.has(frame::END_STREAM) {
            return;
        }
        if is_call(fields, true) {
            self.reveal(head.stream, start, feed);
        }
        let Some(talk) = self.streams.open.get_mut(&head.stream) else {
            return;
        };
        self.sure = true;
        talk.response.begun = true;
        talk.interim = status.is_none() && !head.has(frame::END_STREAM);
        talk.response.unseen = Missing::default();
        // What passed unseen before its head is no part of it.
        talk.response.holed &= status.is_none();
        let call = talk.call;
        let settings = (&self.config.http, self.keep);
        let mut response = http::response(status, plain(fields), settings, feed.stats);
        let trailers_only = call && head.has(frame::END_STREAM);
        if trailers_only {
            grpc::response(grpc_status(fields), status, &mut response);
        }
        let part = Part::Response(Box::new(response));
        feed.out
            .push(message(Flow::Response, head.stream, start, part));
        let number = head.stream.into();
        let partial = !whole || status.is_none();
        let unknown = |field: &Field| field.name.is_none() || field.value.is_none();
        match partial || fields.iter().any(unknown) {
            true => self.taps.forget(number),
            false if call => {}
            false => look(fields, status, |head| {
                self.taps.answered(number, head, feed.stats);
            }),
        }
        self.taps.tell((Flow::Response, number), start, feed.out);
        self.partial(partial, Flow::Response, head, start, feed);
    }

    fn trailed(
        &mut self,
        head: Head,
        start: Mark,
        fields: &[Field],
        whole: bool,
        feed: &mut Feed<'_>,
    ) {
        let framed = |talk: &Talk| talk.is_framed();
        if is_call(fields, true) || self.streams.open.get(&head.stream).is_some_and(framed) {
            self.reveal(head.stream, start, feed);
        }
        if self.streams.open.get(&head.stream).is_none_or(|t| !t.call) {
            return;
        }
        let status = grpc_status(fields);
        let part = Part::Trailers(Box::new(grpc::trailers(status)));
        feed.out
            .push(message(Flow::Response, head.stream, start, part));
        let partial = !whole || status.is_none();
        self.partial(partial, Flow::Response, head, start, feed);
    }

    /// Shows a request's head to what is spoken over HTTP.
    fn tap(&mut self, stream: u32, fields: &[Field], stats: &Stats) {
        if let Some(tapped) = look(fields, None, |head| self.taps.of(head)) {
            self.taps.insert(stream.into(), tapped, stats);
        }
    }

    /// What may have been a call is one.
    fn reveal(&mut self, stream: u32, at: Mark, feed: &mut Feed<'_>) {
        let Some(talk) = self.streams.open.get_mut(&stream) else {
            return;
        };
        let Some(method) = talk.perhaps.take() else {
            return;
        };
        talk.call = true;
        let mut revisions = vec![grpc::call(Some(&method))];
        if talk.request.ended
            && let Some(count) = talk.request.count()
        {
            revisions.push(grpc::messages(Flow::Request, count));
        }
        for revision in revisions {
            let part = Part::Revise(Box::new(revision));
            feed.out.push(message(Flow::Response, stream, at, part));
        }
    }

    /// Says that not all fields are known.
    fn partial(&self, partial: bool, flow: Flow, head: Head, at: Mark, feed: &mut Feed<'_>) {
        if partial {
            feed.stats.protocol_partial.add(1);
            let part = Part::Fault(Fault::Partial);
            feed.out.push(message(flow, head.stream, at, part));
        }
    }

    /// RST_STREAM, with its code's name.
    pub(super) fn reset(
        &mut self,
        flow: Flow,
        stream: u32,
        code: &'static str,
        feed: &mut Feed<'_>,
    ) {
        if self.streams.open.remove(&stream).is_some() {
            self.taps.forget(stream.into());
            let at = feed.stream.last();
            feed.out.push(message(flow, stream, at, Part::Reset(code)));
        }
    }

    /// The last byte of a flow of a stream has passed.
    pub(super) fn finish(&mut self, flow: Flow, stream: u32, at: Mark, feed: &mut Feed<'_>) {
        let Some(talk) = self.streams.open.get_mut(&stream) else {
            return;
        };
        let call = talk.call;
        let half = talk.half(flow);
        // Who ends it again breaks the protocol (RFC 9113, 5.1), and has nothing more to say.
        if std::mem::replace(&mut half.ended, true) {
            return;
        }
        if let Some(count) = half.count().filter(|_| call) {
            let part = Part::Revise(Box::new(grpc::messages(flow, count)));
            feed.out.push(message(flow, stream, at, part));
        }
        let finish = Finish {
            body: half.body,
            exact: !half.holed,
            whole: true,
        };
        self.taps.end((flow, stream.into()), at, feed.out);
        feed.out
            .push(message(flow, stream, at, Part::Finish(finish)));
        if flow == Flow::Response {
            self.streams.open.remove(&stream);
        }
    }
}

impl Dialogue {
    /// Frames of responses may go by unseen: those under way have ended among them, for all that can
    /// be known. Where they went on after all, the rest is nobody's.
    pub(super) fn end_begun(&mut self, feed: &mut Feed<'_>) {
        let at = feed.stream.last();
        for (stream, talk) in self.streams.take(|talk| talk.response.begun) {
            self.taps.end((Flow::Response, stream.into()), at, feed.out);
            let finish = Finish {
                body: talk.response.body,
                exact: false,
                whole: true,
            };
            feed.out
                .push(message(Flow::Response, stream, at, Part::Finish(finish)));
        }
    }

    /// No more responses come: those who wait while some passed unseen had theirs among them, for
    /// all that can be known.
    pub(super) fn answered_unseen(&mut self, feed: &mut Feed<'_>) {
        let at = feed.stream.last();
        for (stream, talk) in self.streams.take(|talk| talk.response.unseen.any()) {
            self.taps.forget(stream.into());
            for (cause, bytes) in talk.response.unseen.iter() {
                let part = Part::Fault(Fault::Missing { cause, bytes });
                feed.out.push(message(Flow::Response, stream, at, part));
            }
            feed.out
                .push(message(Flow::Response, stream, at, Part::Abandon));
        }
    }
}

/// The first value of a field.
fn find<'a>(fields: &'a [Field], name: &[u8]) -> Option<&'a Bytes> {
    fields
        .iter()
        .find(|field| field.name.as_deref() == Some(name))
        .and_then(|field| field.value.as_ref())
}

/// Shows a whole head to what is spoken over HTTP.
fn look<R>(fields: &[Field], code: Option<u16>, show: impl FnOnce(&over::Head<'_>) -> R) -> R {
    let known = |name: &str| match name {
        "host" => find(fields, b":authority").or_else(|| find(fields, b"host")),
        name => find(fields, name.as_bytes()),
    };
    let field = |name: &str| known(name).map(AsRef::as_ref);
    let text = |name| known(name).and_then(|value| std::str::from_utf8(value).ok());
    let line = (text(":method"), text(":path"));
    let line = (line.0.unwrap_or_default(), line.1.unwrap_or_default());
    show(&over::Head::new(line, code, &field))
}

/// Whether fields are a call's: by their content type, or, where that may be one that is not known
/// (`partial`), by one that only calls have.
fn is_call(fields: &[Field], partial: bool) -> bool {
    let own = |field: &Field| field.name.as_deref().is_some_and(grpc::is_own);
    match find(fields, b"content-type") {
        Some(kind) => grpc::is_call(kind),
        None => partial && fields.iter().any(own),
    }
}

fn grpc_status(fields: &[Field]) -> Option<&[u8]> {
    find(fields, b"grpc-status").map(AsRef::as_ref)
}

/// Fields that are known and no pseudo-headers.
fn plain(fields: &[Field]) -> impl Iterator<Item = (&str, &[u8])> {
    fields.iter().filter_map(|field| {
        let name = std::str::from_utf8(field.name.as_ref()?).ok()?;
        let value = field.value.as_ref()?;
        (!name.starts_with(':')).then_some((name, value.as_ref()))
    })
}
