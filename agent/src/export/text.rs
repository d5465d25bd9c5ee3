//! What the lines for people and for programs share: finding an attribute, showing a value, telling
//! the time, and keeping control characters away from terminals.

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

/// The text with every control character spelt out.
pub fn printable(text: String) -> String {
    if !text.chars().any(char::is_control) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c.is_control() {
            true => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            false => out.push(c),
        }
    }
    out
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

/// Unix nanoseconds as RFC 3339, UTC, to the nanosecond.
pub struct Moment(pub u64);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1_000_000_000;
        let (year, month, day) = date(seconds / 86_400);
        let (h, m, s) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        let nanos = self.0 % 1_000_000_000;
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{nanos:09}Z"
        )
    }
}

/// Year, month and day of a day since 1970: Howard Hinnant's civil_from_days, for years from 1970.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    (year + era * 400 + u64::from(month <= 2), month, day)
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

    #[test]
    fn moments_are_right_across_leap_days() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000000000Z"),
            (1_709_251_200, "2024-03-01T00:00:00.000000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000000Z"),
        ] {
            assert_eq!(Moment(seconds * 1_000_000_000).to_string(), text);
        }
        assert_eq!(
            Moment(u64::MAX).to_string(),
            "2554-07-21T23:34:33.709551615Z"
        );
    }
}
