//! gRPC over HTTP/2: which requests are calls, what is called, and how the call went.
//! Source: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>; attributes and which
//! codes are errors: semantic conventions for gRPC,
//! <https://opentelemetry.io/docs/specs/semconv/rpc/grpc/> (1.42.0).

use std::borrow::Cow;

use smallvec::SmallVec;

use super::{Attribute, Flow, Response, Revision};

/// [`super::Request::protocol`] of calls.
pub const NAME: &str = "grpc";

/// Whether a request with this content type is a call.
pub fn is_call(content_type: &[u8]) -> bool {
    match content_type.strip_prefix(b"application/grpc") {
        Some(rest) => rest.first().is_none_or(|b| matches!(b, b'+' | b';' | b' ')),
        None => false,
    }
}

/// Whether a request or a response with a field of this name is a call's, whatever else is known.
pub fn is_own(name: &[u8]) -> bool {
    const OWN: [&[u8]; 4] = [
        b"grpc-status",
        b"grpc-timeout",
        b"grpc-encoding",
        b"grpc-accept-encoding",
    ];
    OWN.contains(&name)
}

/// The name of the method that is called by this path: `/package.Service/Method`.
pub fn method(path: &str) -> Option<&str> {
    let name = path.strip_prefix('/')?;
    (name.len() <= LONGEST && name.contains('/')).then_some(name)
}

/// Makes a request a call of this method.
pub fn call(method: Option<&str>) -> Revision {
    let mut with = vec![Attribute::fixed("rpc.system.name", "grpc")];
    with.extend(method.map(|name| Attribute::text("rpc.method", name.to_owned())));
    let operation = match method {
        Some(name) => Cow::Owned(name.to_owned()),
        None => Cow::Borrowed("grpc"),
    };
    Revision {
        kind: Some((NAME, operation)),
        // The method and the path are the call's; that every call is a POST says nothing.
        without: &["http.request.method", "url.path", "url.scheme", "url.query"],
        with,
    }
}

/// How many messages were sent by one side. The conventions have an event for each message of a
/// stream, and no attribute for their number.
pub fn messages(flow: Flow, count: u64) -> Revision {
    let key = match flow {
        Flow::Request => "spantap.rpc.request.messages",
        Flow::Response => "spantap.rpc.response.messages",
    };
    Revision {
        with: vec![Attribute::int(
            key,
            i64::try_from(count).unwrap_or(i64::MAX),
        )],
        ..Revision::default()
    }
}

/// The messages of one flow of a call, by what stands before each: a byte that says whether it is
/// compressed, and its length in four.
#[derive(Debug, Default)]
pub struct Messages {
    /// What has come of the next one's prefix.
    prefix: SmallVec<[u8; 5]>,
    /// Bytes of the last one that have not passed.
    rest: u64,
    count: u64,
    /// A prefix was not seen, or is none.
    lost: bool,
}

impl Messages {
    /// Bytes from here on that are no prefix's: [`Self::pass`] them, seen or not.
    pub fn rest(&self) -> u64 {
        match self.lost {
            true => u64::MAX,
            false => self.rest,
        }
    }

    /// So many bytes passed.
    pub fn pass(&mut self, bytes: u64) {
        self.rest = self.rest.saturating_sub(bytes);
    }

    /// Reads a prefix, or a part of it; returns how many bytes that are.
    pub fn read(&mut self, bytes: &[u8]) -> usize {
        let missing = 5usize.saturating_sub(self.prefix.len());
        let taken = bytes.get(..missing).unwrap_or(bytes);
        self.prefix.extend_from_slice(taken);
        if let [compressed, length @ ..] = self.prefix.as_slice()
            && let Some(length) = length.first_chunk()
        {
            self.lost |= *compressed > 1;
            self.rest = u32::from_be_bytes(*length).into();
            self.count = self.count.saturating_add(1);
            self.prefix.clear();
        }
        taken.len()
    }

    /// A prefix may be among bytes that were not seen.
    pub fn lose(&mut self) {
        self.lost = true;
    }

    /// How many there were, if that is known and the last one is whole.
    pub fn count(&self) -> Option<u64> {
        let whole = self.rest == 0 && self.prefix.is_empty();
        (whole && !self.lost).then_some(self.count)
    }
}

/// Makes a response a call's that ended with its head.
pub fn response(status: Option<&[u8]>, http: Option<u16>, response: &mut Response) {
    let ended = match (status, http) {
        (None, Some(code)) if code != 200 => outcome(from_http(code)),
        _ => trailers(status),
    };
    response.attributes.extend(ended.attributes);
    response.client_error = ended.client_error;
    response.server_error = ended.server_error;
}

/// What a call's trailers say.
pub fn trailers(status: Option<&[u8]>) -> Response {
    let code = status
        .and_then(|text| std::str::from_utf8(text).ok())
        .and_then(|text| text.parse::<usize>().ok());
    match code {
        Some(code) => outcome(code),
        None => Response::default(),
    }
}

fn outcome(code: usize) -> Response {
    let name = CODES.get(code).copied();
    let text = match name {
        Some(name) => Cow::Borrowed(name),
        None => Cow::Owned(code.to_string()),
    };
    let error = |is: bool| is.then(|| text.clone());
    Response {
        client_error: error(code != 0),
        server_error: error(SERVER_ERRORS.contains(&code) || name.is_none()),
        attributes: vec![Attribute {
            key: Cow::Borrowed("rpc.response.status_code"),
            value: super::Value::Str(text),
        }],
        messages: Vec::new(),
    }
}

/// What a response without a status stands for
/// (<https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>).
fn from_http(code: u16) -> usize {
    match code {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// Longest name of a method that is believed.
const LONGEST: usize = 256;
/// Codes by their number (<https://grpc.io/docs/guides/status-codes/>).
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
/// Those that are the server's own errors: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL,
/// UNAVAILABLE and DATA_LOSS.
const SERVER_ERRORS: [usize; 6] = [2, 4, 12, 13, 14, 15];
