//! gRPC over HTTP/2: which requests are calls, what is called, and how the call went.
//! Source: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>; attributes and which
//! codes are errors: semantic conventions for gRPC,
//! <https://opentelemetry.io/docs/specs/semconv/rpc/grpc/> (1.42.0).

use std::borrow::Cow;

use super::{Attribute, Request, Response};

/// [`Request::protocol`] of calls.
pub const NAME: &str = "grpc";

/// Whether a request with this content type is a call.
pub fn is_call(content_type: &[u8]) -> bool {
    match content_type.strip_prefix(b"application/grpc") {
        Some(rest) => rest.first().is_none_or(|b| matches!(b, b'+' | b';' | b' ')),
        None => false,
    }
}

/// Makes a request a call: of `/package.Service/Method`.
pub fn request(path: Option<&str>, request: &mut Request) {
    request.protocol = NAME;
    // The method and the path are the call's; that every call is a POST says nothing.
    const OWN: [&str; 4] = ["http.request.method", "url.path", "url.scheme", "url.query"];
    request
        .attributes
        .retain(|attribute| !OWN.contains(&attribute.key.as_ref()));
    request
        .attributes
        .push(Attribute::fixed("rpc.system.name", "grpc"));
    let called = path.and_then(|path| path.strip_prefix('/'));
    let called = called.filter(|name| name.len() <= LONGEST && name.contains('/'));
    request.operation = match called {
        Some(name) => {
            request
                .attributes
                .push(Attribute::text("rpc.method", name.to_owned()));
            Cow::Owned(name.to_owned())
        }
        None => Cow::Borrowed("grpc"),
    };
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
        None => Response {
            attributes: Vec::new(),
            client_error: None,
            server_error: None,
        },
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
