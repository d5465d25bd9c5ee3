//! What the lines for people and for programs share: finding an attribute, showing a value, telling
//! the time.

use std::borrow::Cow;
use std::fmt;

use crate::protocol::{Attributes, Value};

/// An attribute's value as text.
pub fn find<'a>(attributes: &'a Attributes, key: &str) -> Option<Cow<'a, str>> {
    let found = attributes.iter().find(|a| a.key == key)?;
    Some(show(&found.value))
}

/// A value as text.
pub fn show(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Str(text) => Cow::Borrowed(text.as_ref()),
        Value::Int(number) => Cow::Owned(number.to_string()),
        Value::Bool(truth) => Cow::Borrowed(if *truth { "true" } else { "false" }),
        Value::Double(number) => Cow::Owned(number.to_string()),
        Value::List(texts) => Cow::Owned(texts.join(",")),
    }
}

/// Unix nanoseconds as `hh:mm:ss.mmm`, UTC.
pub struct Clock(pub u64);

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0 / 1_000_000;
        let seconds = millis / 1000;
        let (h, m, s) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        write!(f, "{h:02}:{m:02}:{s:02}.{:03}", millis % 1000)
    }
}

#[cfg(test)]
pub mod tests {
    //! A span to try things on.

    use std::sync::Arc;

    use super::*;
    use crate::protocol::Attribute;
    use crate::span::{Resource, Span, SpanKind, Status};
    use crate::trace::{SpanId, TraceId};

    /// A server span as the pipeline would make it.
    pub fn server() -> Span {
        let attribute = |(key, value): (&'static str, Value)| Attribute {
            key: key.into(),
            value,
        };
        Span {
            trace: TraceId([0xab; 16]),
            id: SpanId([0xcd; 8]),
            parent: None,
            flags: 1,
            state: None,
            kind: SpanKind::Server,
            name: "POST /cart/{id}".into(),
            start: 1_763_726_467_412_003_911,
            end: 1_763_726_467_453_203_911,
            attributes: [
                ("http.request.method", Value::Str("POST".into())),
                ("url.path", Value::Str("/cart/17".into())),
                ("http.route", Value::Str("/cart/{id}".into())),
                ("http.response.status_code", Value::Int(200)),
                ("network.peer.address", Value::Str("10.0.0.3".into())),
                ("network.peer.port", Value::Int(51_422)),
                ("spantap.time_to_first_byte", Value::Double(0.0406)),
            ]
            .map(attribute)
            .into(),
            dropped_attributes: 0,
            events: Vec::new(),
            links: Vec::new(),
            status: Status::Unset,
            resource: Arc::new(Resource {
                attributes: [
                    ("service.name", Value::Str("shop".into())),
                    ("process.executable.name", Value::Str("cart".into())),
                ]
                .map(attribute)
                .into(),
                program: "cart".into(),
            }),
            process: 8812,
        }
    }

    /// The same with one attribute changed.
    pub fn with(key: &str, value: Value) -> Span {
        let mut span = server();
        if let Some(found) = span.attributes.iter_mut().find(|a| a.key == key) {
            found.value = value;
        }
        span
    }
}
