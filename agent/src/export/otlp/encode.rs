//! Spans → the bytes of an OTLP `ExportTraceServiceRequest`: one `ResourceSpans` per service
//! instance, written straight from our types (why not through opentelemetry-proto's: see
//! docs/decisions/0005-otlp.md; the tests hold the result against those). Fields are written in
//! the order of their tags.

use std::sync::Arc;

use super::wire;
use crate::protocol::{Attribute, Value};
use crate::span::{Resource, Span, SpanEvent, SpanKind, Status, semconv};
use crate::trace::Link;

/// The request's bytes; `capacity` is a guess at their number.
pub fn request(spans: &[Span], capacity: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(capacity);
    for group in group(spans) {
        wire::message(&mut out, 1, 3, |out| resource_spans(out, &group));
    }
    out
}

/// The spans by resource, in the order in which the resources come up.
fn group(spans: &[Span]) -> Vec<Vec<&Span>> {
    let mut groups: Vec<Vec<&Span>> = Vec::new();
    // Address → group. Equal resources at different addresses (a process looked up twice) share.
    let mut known: Vec<(*const Resource, usize)> = Vec::new();
    for span in spans {
        let address = Arc::as_ptr(&span.resource);
        let at = match known.iter().find(|(known, _)| *known == address) {
            Some((_, at)) => *at,
            None => {
                let equal = |group: &Vec<&Span>| {
                    group
                        .first()
                        .is_some_and(|first| first.resource == span.resource)
                };
                let at = groups.iter().position(equal).unwrap_or(groups.len());
                known.push((address, at));
                at
            }
        };
        match groups.get_mut(at) {
            Some(group) => group.push(span),
            None => groups.push(vec![span]),
        }
    }
    groups
}

fn resource_spans(out: &mut Vec<u8>, spans: &[&Span]) {
    wire::message(out, 1, 2, |out| {
        if let Some(first) = spans.first() {
            attributes(out, 1, &first.resource.attributes);
        }
    });
    wire::message(out, 2, 3, |out| {
        wire::message(out, 1, 1, |out| {
            wire::text(out, 1, SCOPE);
            wire::text(out, 2, env!("CARGO_PKG_VERSION"));
        });
        for one in spans {
            wire::message(out, 2, 2, |out| span(out, one));
        }
        wire::text(out, 3, semconv::SCHEMA_URL);
    });
    wire::text(out, 3, semconv::SCHEMA_URL);
}

fn span(out: &mut Vec<u8>, span: &Span) {
    wire::bytes(out, 1, &span.trace.0);
    wire::bytes(out, 2, &span.id.0);
    wire::text(out, 3, span.state.as_deref().unwrap_or_default());
    if let Some(parent) = &span.parent {
        wire::bytes(out, 4, &parent.span.0);
    }
    wire::text(out, 5, &span.name);
    wire::integer(out, 6, kind(span.kind));
    wire::fixed64(out, 7, span.start);
    wire::fixed64(out, 8, span.end);
    attributes(out, 9, &span.attributes);
    wire::integer(out, 10, span.dropped_attributes.into());
    for one in &span.events {
        wire::message(out, 11, 1, |out| event(out, one));
    }
    for one in &span.links {
        wire::message(out, 13, 1, |out| link(out, one));
    }
    if let Status::Error(text) = &span.status {
        wire::message(out, 15, 1, |out| {
            wire::text(out, 2, text);
            wire::integer(out, 3, STATUS_ERROR);
        });
    }
    let remote = span.parent.is_some_and(|parent| parent.remote);
    let remote = if remote { IS_REMOTE } else { 0 };
    wire::fixed32(out, 16, u32::from(span.flags) | HAS_IS_REMOTE | remote);
}

fn kind(kind: SpanKind) -> u64 {
    match kind {
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    }
}

fn event(out: &mut Vec<u8>, event: &SpanEvent) {
    wire::fixed64(out, 1, event.time);
    wire::text(out, 2, &event.name);
    attributes(out, 3, &event.attributes);
}

fn link(out: &mut Vec<u8>, link: &Link) {
    wire::bytes(out, 1, &link.trace.0);
    wire::bytes(out, 2, &link.span.0);
    if !link.reason.is_empty() {
        wire::message(out, 4, 1, |out| {
            wire::text(out, 1, LINK_REASON);
            wire::message(out, 2, 1, |out| wire::bytes(out, 1, link.reason.as_bytes()));
        });
    }
}

fn attributes(out: &mut Vec<u8>, tag: u32, attributes: &[Attribute]) {
    for attribute in attributes {
        wire::message(out, tag, 1, |out| {
            wire::text(out, 1, &attribute.key);
            wire::message(out, 2, 1, |out| value(out, &attribute.value));
        });
    }
}

/// A value's field is written even if it is 0 or empty: its presence says of what type it is.
fn value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Str(text) => wire::bytes(out, 1, text.as_bytes()),
        Value::Bool(truth) => wire::integer_always(out, 2, u64::from(*truth)),
        // A negative number takes ten bytes: that is how protocol buffers have it.
        Value::Int(number) => wire::integer_always(out, 3, number.cast_unsigned()),
        Value::Double(number) => wire::double(out, 4, *number),
        Value::List(texts) => wire::message(out, 5, 1, |out| {
            for text in texts {
                wire::message(out, 1, 1, |out| wire::bytes(out, 1, text.as_bytes()));
            }
        }),
    }
}

const SCOPE: &str = "spantap";
const LINK_REASON: &str = "spantap.link.reason";
const STATUS_ERROR: u64 = 2;
/// SpanFlags of trace.proto: whether the parent is remote is known, and is so.
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

#[cfg(test)]
mod tests;
