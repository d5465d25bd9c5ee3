//! What a message becomes in a span: operation, destination, and how it went.

use std::borrow::Cow;

use super::subject::{self, Purpose};
use super::{Head, Subscription, line};
use crate::protocol::messaging::{Operation, Transfer};
use crate::protocol::reader::text;
use crate::protocol::{Attribute, Kind, Request, Response, template};
use crate::stats::Stats;

const SYSTEM: &str = "nats";
const GROUP: &str = "messaging.consumer.group.name";

/// `publish orders`, and `request $JS.API.STREAM.INFO.>`. With a subject to answer on it is a call:
/// whether a program or a stream answers there is not known before.
pub(super) fn published(
    message: &line::Message<'_>,
    purpose: Purpose,
    head: &Head,
    keep: usize,
    stats: &Stats,
) -> Request {
    let destination = text(message.subject, keep, stats);
    let template = match purpose {
        Purpose::Api => subject::api_template(&destination),
        _ => template::of(&destination, '.'),
    };
    let name = match purpose {
        Purpose::Api => "request",
        _ => "publish",
    };
    let mut request = transfer(name, Operation::Send, Some(destination.into()), head);
    template::apply(&mut request, name, template);
    if message.reply.is_some() {
        request.kind = Kind::Call;
    }
    request
}

/// `process orders`: by the subscription's subject where that stands for many.
pub(super) fn delivered(
    message: &line::Message<'_>,
    from: Option<&Subscription>,
    head: &Head,
    keep: usize,
    stats: &Stats,
) -> Request {
    let destination = text(message.subject, keep, stats);
    let mut template = template::of(&destination, '.');
    let pattern = from.map(|from| text(&from.subject, keep, stats));
    let fits = |pattern: &String| {
        subject::is_pattern(pattern) && subject::matches(pattern.as_bytes(), message.subject)
    };
    if let Some(pattern) = pattern.filter(fits) {
        template = Some(template::of(&pattern, '.').unwrap_or(pattern));
    }
    let operation = Operation::Process;
    let mut request = transfer("process", operation, Some(destination.into()), head);
    if from.is_some() {
        template::apply(&mut request, "process", template);
    } else if template.is_some() {
        // The subscription may name it otherwise.
        request.operation = Cow::Borrowed("process");
    }
    if let Some(group) = from.and_then(|from| from.group.as_deref()) {
        let group = text(group, keep, stats);
        request.attributes.push(Attribute::text(GROUP, group));
    }
    request
}

fn transfer(
    name: &'static str,
    operation: Operation,
    destination: Option<Cow<'_, str>>,
    head: &Head,
) -> Request {
    let headers = head.headers.as_ref();
    let transfer = Transfer {
        system: SYSTEM,
        name,
        operation,
        destination,
        count: None,
        carrier: headers.and_then(|headers| headers.carrier.clone()),
        messages: Vec::new(),
    };
    transfer.request(SYSTEM, Vec::new())
}

/// How a request went: by the answer's headers, and its payload where that is JetStream's; `None`
/// where they are missing.
pub(super) fn answered(head: &Head) -> Option<Response> {
    let headers = head.headers.as_ref()?;
    let failed = headers.status.filter(|status| *status >= 400);
    let error = failed.map(|status| status.to_string());
    let error = error.or_else(|| headers.error.clone());
    Some(response(error.or_else(|| {
        api_error(head.payload.as_deref().unwrap_or_default())
    })))
}

/// By what the consumer says; `None` where that is not known, or that work goes on.
pub(super) fn settled(purpose: Purpose, head: &Head) -> Option<Response> {
    let headers = head.headers.as_ref()?;
    if purpose != Purpose::Acknowledgement {
        return Some(response(headers.error.clone()));
    }
    let said = head.payload.as_deref()?;
    if said.starts_with(b"+WPI") {
        return None;
    }
    let refused = [(&b"-NAK"[..], "NAK"), (b"+TERM", "TERM")];
    let refused = refused.iter().find(|(word, _)| said.starts_with(word));
    Some(response(refused.map(|(_, name)| (*name).to_owned())))
}

/// An error is one to both, unless its code says that the one who asked has made it.
fn response(error: Option<String>) -> Response {
    let asked_wrong = |error: &String| error.len() == 3 && error.starts_with('4');
    Response {
        server_error: error.clone().filter(|e| !asked_wrong(e)).map(Cow::Owned),
        client_error: error.map(Cow::Owned),
        ..Response::default()
    }
}

/// `{"type":"io.nats.jetstream.api…","error":{"code":404,…`: its refusal of what was asked.
fn api_error(payload: &[u8]) -> Option<String> {
    let end = payload.len().min(ERROR_WITHIN);
    let payload = payload.get(..end)?;
    let rest = payload.strip_prefix(b"{\"type\":\"io.nats.jetstream.api.")?;
    let end = memchr::memchr(b'"', rest)?;
    let rest = rest.get(end.saturating_add(1)..)?.strip_prefix(b",")?;
    let code = rest.strip_prefix(b"\"error\":{\"code\":")?.get(..3)?;
    let digits = code.iter().all(u8::is_ascii_digit);
    digits.then(|| String::from_utf8_lossy(code).into_owned())
}

/// Bytes within which an error is said.
const ERROR_WITHIN: usize = 256;
