//! What spans of messaging have in common, whatever the broker: OpenTelemetry's messaging conventions
//! (semantic-conventions 1.42.0, `docs/messaging/messaging-spans.md`), and the trace context in a
//! message's headers.
//!
//! A message's own context is its span's parent where the span is of one message that was pushed to
//! its consumer; where several were asked for, each becomes a link.
//!
//! Never true here: that a message's body is looked at.

use std::borrow::Cow;

use smallvec::smallvec;

use super::reader::text;
use super::{Attribute, Attributes, Carrier, Kind, Request};
use crate::stats::Stats;

/// What is done with messages: `messaging.operation.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// They are given to the broker.
    Send,
    /// They are asked for.
    Receive,
    /// One is handed to its consumer.
    Process,
    /// They are acknowledged or refused.
    Settle,
}

/// One operation. What is not known is left out of the span.
#[derive(Clone, Debug)]
pub struct Transfer<'a> {
    /// `messaging.system`: `kafka`, `rabbitmq`.
    pub system: &'static str,
    /// `messaging.operation.name`, as the broker's clients call it: `publish`, `poll`.
    pub name: &'static str,
    /// What that is.
    pub operation: Operation,
    /// `messaging.destination.name`: the topic, queue or exchange; low in cardinality.
    pub destination: Option<Cow<'a, str>>,
    /// `messaging.batch.message_count`, where it is a batch.
    pub count: Option<usize>,
    /// The message's own context, where it is one message.
    pub carrier: Option<Carrier>,
    /// Contexts of several messages.
    pub messages: Vec<Carrier>,
}

impl Transfer<'_> {
    /// The request of a protocol of the registry, further attributes behind those of the conventions.
    pub fn request(self, protocol: &'static str, further: Attributes) -> Request {
        let mut attributes = Vec::with_capacity(further.len().saturating_add(5));
        attributes.push(Attribute::fixed("messaging.system", self.system));
        attributes.push(Attribute::fixed("messaging.operation.name", self.name));
        let kind = match self.operation {
            Operation::Send => "send",
            Operation::Receive => "receive",
            Operation::Process => "process",
            Operation::Settle => "settle",
        };
        attributes.push(Attribute::fixed("messaging.operation.type", kind));
        let name = match &self.destination {
            Some(destination) => Cow::Owned(format!("{} {destination}", self.name)),
            None => Cow::Borrowed(self.name),
        };
        if let Some(destination) = self.destination {
            let destination = destination.into_owned();
            attributes.push(Attribute::text("messaging.destination.name", destination));
        }
        if let Some(count) = self.count {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            attributes.push(Attribute::int("messaging.batch.message_count", count));
        }
        attributes.extend(further);
        Request {
            protocol,
            operation: name,
            kind: match self.operation {
                Operation::Send => Kind::Send,
                Operation::Process => Kind::Process,
                Operation::Receive | Operation::Settle => Kind::Call,
            },
            attributes,
            carrier: self.carrier.map(Box::new),
            messages: self.messages,
            likeness: None,
        }
    }
}

/// Longest header that may be part of a context, bytes.
const LONGEST: usize = 1024;

/// Takes a header of a message into its carrier, where it may be part of a trace context. Names are
/// compared without regard to case; a header that is too long for its kind counts as absent.
pub fn header(carrier: &mut Option<Carrier>, name: &[u8], value: &[u8], stats: &Stats) {
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    if value.len() > LONGEST || name.len() > LONGEST_NAME || !NAMES.iter().any(|known| is(known)) {
        return;
    }
    let value: Box<str> = text(value, LONGEST, stats).into();
    let carrier = carrier.get_or_insert_with(Carrier::default);
    if is(NAMES[0]) {
        match carrier.traceparent.is_empty() {
            true => carrier.traceparent = smallvec![value],
            false => carrier.traceparent.push(value),
        }
        return;
    }
    let slots = [
        &mut carrier.tracestate,
        &mut carrier.b3,
        &mut carrier.b3_trace_id,
        &mut carrier.b3_span_id,
        &mut carrier.b3_sampled,
        &mut carrier.b3_flags,
    ];
    for (known, slot) in NAMES.iter().skip(1).zip(slots) {
        if is(known) {
            *slot = Some(value);
            return;
        }
    }
}

const NAMES: [&str; 7] = [
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-sampled",
    "x-b3-flags",
];
/// Of the longest of them.
const LONGEST_NAME: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_a_context_are_kept() {
        let stats = Stats::default();
        let mut carrier = None;
        header(&mut carrier, b"content-type", b"x", &stats);
        assert_eq!(carrier, None);
        header(&mut carrier, b"Traceparent", b"00-a", &stats);
        header(&mut carrier, b"tracestate", b"k=v", &stats);
        header(&mut carrier, b"x-b3-flags", b"1", &stats);
        header(&mut carrier, b"b3", &[b'0'; 2000], &stats);
        let carrier = carrier.expect("some");
        assert_eq!(carrier.traceparent.as_slice(), [Box::from("00-a")]);
        assert_eq!(carrier.tracestate.as_deref(), Some("k=v"));
        assert_eq!(carrier.b3_flags.as_deref(), Some("1"));
        assert_eq!(carrier.b3, None);
    }

    #[test]
    fn a_name_says_what_and_where() {
        let transfer = Transfer {
            system: "kafka",
            name: "poll",
            operation: Operation::Receive,
            destination: Some("orders".into()),
            count: Some(3),
            carrier: None,
            messages: Vec::new(),
        };
        let request = transfer.request("kafka", Vec::new());
        assert_eq!(
            (request.operation.as_ref(), request.kind),
            ("poll orders", Kind::Call)
        );
    }
}
