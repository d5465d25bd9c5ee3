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
use std::ops::Range;

use smallvec::SmallVec;

use crate::protocol::{Attributes, Flow, Response};

pub use taps::{MAX_TAPS, Tapped, Taps};

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
mod taps;

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

    /// Where in a URL's query, as sent and perhaps cut, what must not leave is, whether or not the
    /// exchange turned out to be its: most are asked nothing there.
    fn hidden(&self, _query: &str) -> SmallVec<[Range<usize>; 3]> {
        SmallVec::new()
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

    /// Whether what it looks for may stand at the end of a long response: the copy budget does not
    /// hold then, from the end of the request on until it has seen what it wants.
    fn needs_whole(&self) -> bool {
        false
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

    /// The target's query, empty where it has none.
    pub fn query(&self) -> &'a str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// Whether its body is compressed.
    fn is_coded(&self) -> bool {
        let coding = self.field("content-encoding");
        coding.is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity"))
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
