//! What is spoken over HTTP, whatever its version: protocols whose questions and answers are HTTP's
//! requests and responses. Each is one file and one line of the registry.
//!
//! An [`Application`] is shown heads. Where an exchange may be its, it makes a [`Tap`], which sees the
//! other head, and of the bodies what it wants to see as they pass; what it [`Said`] in the end is
//! added to the exchange, which stays HTTP's. An exchange that is nobody's has no tap and costs a look
//! at its media type.
//!
//! Never true here: that a body is kept, or waited for; that a tap sees what stands behind a hole, or
//! what is compressed; that more than [`MAX_TAPS`] exchanges of a connection have one.

use std::borrow::Cow;
use std::collections::BTreeMap;

use smallvec::SmallVec;

use crate::connection::Mark;
use crate::protocol::{Attributes, Feed, Flow, Message, Pairing, Part, Response, Revision};
use crate::stats::Stats;

/// Declares what is known: each line makes the module and its entry in [`ALL`].
macro_rules! registry {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        $($(#[doc = $doc])+ pub mod $name;)+

        /// Every one of them.
        pub static ALL: &[&dyn Application] = &[$($name::APPLICATION),+];
    };
}

#[cfg(test)]
mod bench;
mod document;
mod heads;

registry! {
    /// GraphQL (GraphQL over HTTP, <https://graphql.github.io/graphql-over-http/>).
    graphql,
    /// JSON-RPC 2.0 (<https://www.jsonrpc.org/specification>), and the Model Context Protocol in it.
    jsonrpc,
    /// Calls of language models, as OpenAI's API has them.
    genai,
    /// Server-sent events (WHATWG HTML, 9.2).
    events,
    /// Amazon's S3 API.
    s3,
    /// Elasticsearch's and OpenSearch's REST API.
    elasticsearch,
}

/// What is spoken over HTTP.
pub trait Application: Sync {
    /// A tap on an exchange whose request has this head, if it may be its. Most are nobody's: the
    /// cheapest test comes first, and nothing is allocated before the last.
    fn asked(&self, _head: &Head<'_>) -> Option<Box<dyn Tap>> {
        None
    }

    /// The same of a response's head, where the request's need not be known.
    fn answered(&self, _head: &Head<'_>) -> Option<Box<dyn Tap>> {
        None
    }
}

/// What looks at one exchange.
pub trait Tap: Send + std::fmt::Debug {
    /// The final response's head has come: whether the exchange may still be its.
    fn answered(&mut self, _head: &Head<'_>, _said: &mut Said) -> bool {
        true
    }

    /// How many bytes of this flow's body it wants to see; asked when the body begins.
    fn budget(&self, _flow: Flow) -> u64 {
        0
    }

    /// The next bytes of a body.
    fn read(&mut self, _flow: Flow, _bytes: &[u8]) -> Look {
        Look::Enough
    }

    /// No more comes of this flow's body: `whole` if all of it that came was shown, or as much as was
    /// wanted. Of the response that is where findings are told.
    fn end(&mut self, _flow: Flow, _whole: bool, _said: &mut Said) {}

    /// What it costs to hold beyond itself, in bytes.
    fn weight(&self) -> usize {
        0
    }
}

/// Whether a tap looks on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// At what comes next.
    More,
    /// Not at the rest of this body.
    Enough,
    /// Not at anything: the exchange is not its.
    Not,
}

/// What was named of which the one who was asked knows nothing, or may not: it has any value, so that
/// neither the span's name nor an attribute of few values has it.
pub const REFUSED: &str = "spantap.refused_name";

/// What is to be told of an exchange besides what HTTP says.
#[derive(Debug, Default)]
pub struct Said {
    /// The span's name, low in cardinality. A route does not come behind it.
    pub name: Option<Cow<'static, str>>,
    /// What was asked.
    pub asked: Attributes,
    /// What was answered, and whether that is an error; not before the response's head has come.
    pub answered: Option<Box<Response>>,
}

/// A head, as far as it is looked at.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// The method; empty of a response.
    pub method: &'a str,
    /// The request target (RFC 9112, 3.2); empty of a response.
    pub target: &'a str,
    /// The status code of a response.
    pub code: Option<u16>,
    /// `type/subtype`, as sent.
    media: &'a [u8],
    fields: &'a dyn Fn(&str) -> Option<&'a [u8]>,
}

impl<'a> Head<'a> {
    /// Of these parts; `fields` gives a field's first value by its name in lower case, `host` being
    /// HTTP/2's `:authority` too.
    pub fn new(
        (method, target): (&'a str, &'a str),
        code: Option<u16>,
        fields: &'a dyn Fn(&str) -> Option<&'a [u8]>,
    ) -> Self {
        let media = fields("content-type").unwrap_or_default();
        let end = memchr::memchr2(b';', b' ', media).unwrap_or(media.len());
        Self {
            method,
            target,
            code,
            media: media.get(..end).unwrap_or_default(),
            fields,
        }
    }

    /// The first value of a field, by its name in lower case.
    pub fn field(&self, name: &str) -> Option<&'a [u8]> {
        (self.fields)(name)
    }

    /// Whether this is its body's media type, by a name in lower case.
    pub fn is_of(&self, media: &str) -> bool {
        self.media.eq_ignore_ascii_case(media.as_bytes())
    }

    /// Whether its body is JSON.
    pub fn is_json(&self) -> bool {
        const SUFFIX: &[u8] = b"+json";
        let from = self.media.len().saturating_sub(SUFFIX.len());
        let end = self.media.get(from..).unwrap_or_default();
        self.is_of("application/json") || end.eq_ignore_ascii_case(SUFFIX)
    }

    /// The target without its query.
    pub fn path(&self) -> &'a str {
        self.target.split(['?', '#']).next().unwrap_or_default()
    }

    /// Whether its body is compressed.
    fn is_coded(&self) -> bool {
        let coding = self.field("content-encoding");
        coding.is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity"))
    }
}

/// Most exchanges of a connection that have a tap at once.
pub const MAX_TAPS: usize = 128;

/// The taps of one connection's exchanges, by their pairing.
#[derive(Debug)]
pub struct Taps {
    open: BTreeMap<u64, Box<Tapped>>,
    /// Whether any are wanted.
    enabled: bool,
    /// What the exchanges are called by.
    protocol: &'static str,
    pairing: fn(u64) -> Pairing,
}

/// The taps of one exchange.
#[derive(Debug, Default)]
pub struct Tapped {
    taps: SmallVec<[Candidate; 1]>,
    said: Said,
}

#[derive(Debug)]
struct Candidate {
    tap: Box<dyn Tap>,
    request: Body,
    response: Body,
}

/// A body, to one tap.
#[derive(Debug, Default)]
struct Body {
    /// Bytes that it is still shown.
    left: u64,
    /// Whether it was told the end.
    over: bool,
}

impl Candidate {
    fn new(tap: Box<dyn Tap>) -> Self {
        Self {
            tap,
            request: Body::default(),
            response: Body::default(),
        }
    }

    fn body(&mut self, flow: Flow) -> &mut Body {
        match flow {
            Flow::Request => &mut self.request,
            Flow::Response => &mut self.response,
        }
    }

    fn end(&mut self, flow: Flow, whole: bool, said: &mut Said) {
        let body = self.body(flow);
        body.left = 0;
        if !std::mem::replace(&mut body.over, true) {
            self.tap.end(flow, whole, said);
        }
    }

    /// Whether it may still be its.
    fn read(&mut self, flow: Flow, bytes: &[u8], said: &mut Said) -> bool {
        let left = self.body(flow).left;
        if left == 0 {
            return true;
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let shown = bytes.get(..most).unwrap_or(bytes);
        match self.tap.read(flow, shown) {
            Look::More => {
                let left = left.saturating_sub(shown.len() as u64);
                self.body(flow).left = left;
                if left == 0 {
                    self.end(flow, false, said);
                }
                true
            }
            Look::Enough => {
                self.body(flow).left = 0;
                true
            }
            Look::Not => false,
        }
    }
}

impl Tapped {
    /// Taps on an exchange whose request has this head, if it may be anybody's.
    fn of(head: &Head<'_>) -> Option<Box<Self>> {
        let mut tapped: Option<Box<Self>> = None;
        for application in ALL {
            if let Some(tap) = application.asked(head) {
                let taps = &mut tapped.get_or_insert_default().taps;
                taps.push(Candidate::new(tap));
            }
        }
        if let Some(tapped) = &mut tapped {
            tapped.begin(Flow::Request, head);
        }
        tapped
    }

    fn begin(&mut self, flow: Flow, head: &Head<'_>) {
        for candidate in &mut self.taps {
            match head.is_coded() {
                true => candidate.end(flow, false, &mut self.said),
                false => candidate.body(flow).left = candidate.tap.budget(flow),
            }
        }
    }

    fn each(&mut self, mut keep: impl FnMut(&mut Candidate, &mut Said) -> bool) {
        let said = &mut self.said;
        self.taps.retain(|candidate| keep(candidate, said));
    }

    fn weight(&self) -> usize {
        let each = self.taps.iter().map(|candidate| candidate.tap.weight());
        each.fold(COST, usize::saturating_add)
    }
}

/// What a tap costs to hold, besides what it weighs.
const COST: usize = 1024;

impl Taps {
    /// None yet, on exchanges of this protocol that pair so.
    pub fn new(enabled: bool, protocol: &'static str, pairing: fn(u64) -> Pairing) -> Self {
        Self {
            open: BTreeMap::new(),
            enabled,
            protocol,
            pairing,
        }
    }

    /// What is to be held of a request with this head, for [`Self::insert`].
    pub fn of(&self, head: &Head<'_>) -> Option<Box<Tapped>> {
        match self.enabled {
            true => Tapped::of(head),
            false => None,
        }
    }

    /// The exchange with this number is tapped.
    pub fn insert(&mut self, number: u64, tapped: Box<Tapped>, stats: &Stats) {
        if self.open.len() >= MAX_TAPS {
            self.open.pop_first();
            stats.protocol_taps_forgotten.add(1);
        }
        self.open.insert(number, tapped);
    }

    /// The final response to an exchange begins with this head.
    pub fn answered(&mut self, number: u64, head: &Head<'_>, stats: &Stats) {
        if !self.enabled {
            return;
        }
        if let Some(tapped) = self.open.get_mut(&number) {
            // Answers may come before all was asked, and tell of it.
            tapped.each(|candidate, said| candidate.tap.answered(head, said));
        }
        for application in ALL {
            if let Some(tap) = application.answered(head) {
                if !self.open.contains_key(&number) {
                    self.insert(number, Box::default(), stats);
                }
                if let Some(tapped) = self.open.get_mut(&number) {
                    tapped.taps.push(Candidate::new(tap));
                }
            }
        }
        if let Some(tapped) = self.open.get_mut(&number) {
            tapped.begin(Flow::Response, head);
        }
    }

    /// Whether bytes of this body are looked at.
    pub fn wants(&mut self, flow: Flow, number: u64) -> bool {
        let Some(tapped) = self.open.get_mut(&number) else {
            return false;
        };
        tapped.taps.iter_mut().any(|c| c.body(flow).left > 0)
    }

    /// Passes over the next `content` bytes of a body, looking at those that have come; how many of
    /// them are left.
    pub fn pass(&mut self, flow: Flow, number: u64, content: u64, feed: &mut Feed<'_>) -> u64 {
        let mut left = content;
        while left > 0 {
            if !self.wants(flow, number) {
                feed.stream.skip(left);
                return 0;
            }
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            let window = feed.stream.window();
            let bytes = window.get(..most).unwrap_or(window);
            if bytes.is_empty() {
                if !feed.stream.is_cut() {
                    return left;
                }
                self.lose(flow, number);
                continue;
            }
            if let Some(tapped) = self.open.get_mut(&number) {
                tapped.each(|candidate, said| candidate.read(flow, bytes, said));
                // What the response may yet be is nobody's to know from the request.
                if tapped.taps.is_empty() {
                    self.open.remove(&number);
                }
            }
            let passed = bytes.len() as u64;
            feed.stream.skip(passed);
            left = left.saturating_sub(passed);
        }
        0
    }

    /// The rest of a body is not seen.
    pub fn lose(&mut self, flow: Flow, number: u64) {
        if let Some(tapped) = self.open.get_mut(&number) {
            tapped.each(|candidate, said| {
                candidate.end(flow, false, said);
                true
            });
        }
    }

    /// The rest of any body of this flow is not seen.
    pub fn lose_all(&mut self, flow: Flow) {
        let all: SmallVec<[u64; 8]> = self.open.keys().copied().collect();
        for number in all {
            self.lose(flow, number);
        }
    }

    /// A body is over; tells what is known now.
    pub fn end(&mut self, (flow, number): (Flow, u64), at: Mark, out: &mut Vec<Message>) {
        if let Some(tapped) = self.open.get_mut(&number) {
            tapped.each(|candidate, said| {
                candidate.end(flow, true, said);
                true
            });
            self.tell((flow, number), at, out);
        }
        if flow == Flow::Response {
            self.open.remove(&number);
        }
    }

    /// Tells what taps said of an exchange.
    pub fn tell(&mut self, (flow, number): (Flow, u64), at: Mark, out: &mut Vec<Message>) {
        let Some(tapped) = self.open.get_mut(&number) else {
            return;
        };
        let Said {
            name,
            asked,
            answered,
        } = std::mem::take(&mut tapped.said);
        let revision = Revision {
            kind: name.map(|name| (self.protocol, name)),
            without: &[],
            with: asked,
        };
        let mut push = |part| {
            out.push(Message {
                flow,
                pairing: (self.pairing)(number),
                at,
                part,
            });
        };
        if revision != Revision::default() {
            push(Part::Revise(Box::new(revision)));
        }
        if let Some(answered) = answered {
            push(Part::Trailers(answered));
        }
    }

    /// Nobody waits for this exchange's answer any more.
    pub fn forget(&mut self, number: u64) {
        self.open.remove(&number);
    }

    /// Nor for those before this one.
    pub fn forget_before(&mut self, number: u64) {
        if self
            .open
            .first_key_value()
            .is_some_and(|(n, _)| *n < number)
        {
            self.open = self.open.split_off(&number);
        }
    }

    /// What they cost to hold, in bytes.
    pub fn weight(&self) -> usize {
        let each = self.open.values().map(|tapped| tapped.weight());
        each.fold(0, usize::saturating_add)
    }
}

impl std::fmt::Debug for Head<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Head")
            .field("method", &self.method)
            .field("target", &self.target)
            .field("code", &self.code)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
