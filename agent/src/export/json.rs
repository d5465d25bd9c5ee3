//! A span as one JSON object. `schema` changes when a key changes its meaning or goes away; new
//! keys may come at any time. Times are Unix nanoseconds, durations nanoseconds, ids lower-case hex.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::protocol::{Attributes, Value};
use crate::span::moment::Moment;
use crate::span::{Span, Status};

/// The object, without a line end.
pub fn json(span: &Span) -> String {
    // Serialising plain data into memory cannot fail; were it to, the line says so.
    serde_json::to_string(&Line::of(span)).unwrap_or_else(|why| format!("{{\"error\":\"{why}\"}}"))
}

#[derive(Serialize)]
struct Line<'a> {
    schema: &'static str,
    time: String,
    trace_id: String,
    span_id: String,
    parent_span_id: Option<String>,
    trace_flags: u8,
    trace_state: Option<&'a str>,
    kind: &'static str,
    name: &'a str,
    service: &'a str,
    pid: u32,
    start_ns: u64,
    end_ns: u64,
    duration_ns: u64,
    status: Outcome<'a>,
    link: Option<Evidence>,
    attributes: Map<'a>,
    dropped_attributes: u32,
    events: Vec<Event<'a>>,
    links: Vec<Link<'a>>,
    resource: Map<'a>,
}

#[derive(Serialize)]
struct Outcome<'a> {
    code: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
}

#[derive(Serialize)]
struct Evidence {
    method: &'static str,
    confidence: f64,
    remote: bool,
}

#[derive(Serialize)]
struct Event<'a> {
    name: &'a str,
    time_ns: u64,
    attributes: Map<'a>,
}

#[derive(Serialize)]
struct Link<'a> {
    trace_id: String,
    span_id: String,
    reason: &'a str,
}

impl<'a> Line<'a> {
    fn of(span: &'a Span) -> Self {
        let events = span.events.iter().map(|event| Event {
            name: &event.name,
            time_ns: event.time,
            attributes: Map(&event.attributes),
        });
        let links = span.links.iter().map(|link| Link {
            trace_id: link.trace.to_string(),
            span_id: link.span.to_string(),
            reason: &link.reason,
        });
        Self {
            schema: "1",
            time: Moment(span.start).to_string(),
            trace_id: span.trace.to_string(),
            span_id: span.id.to_string(),
            parent_span_id: span.parent.map(|parent| parent.span.to_string()),
            trace_flags: span.flags,
            trace_state: span.state.as_deref(),
            kind: span.kind.name(),
            name: &span.name,
            service: span.resource.service(),
            pid: span.process,
            start_ns: span.start,
            end_ns: span.end,
            duration_ns: span.end.saturating_sub(span.start),
            status: match &span.status {
                Status::Unset => Outcome {
                    code: "unset",
                    description: "",
                },
                Status::Error(description) => Outcome {
                    code: "error",
                    description,
                },
            },
            link: span.parent.map(|parent| Evidence {
                method: parent.method.name(),
                confidence: parent.confidence,
                remote: parent.remote,
            }),
            attributes: Map(&span.attributes),
            dropped_attributes: span.dropped_attributes,
            events: events.collect(),
            links: links.collect(),
            resource: Map(&span.resource.attributes),
        }
    }
}

/// Attributes as an object, in their order.
struct Map<'a>(&'a Attributes);

impl Serialize for Map<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for attribute in self.0 {
            let key = attribute.key.as_ref();
            match &attribute.value {
                Value::Str(text) => map.serialize_entry(key, text)?,
                Value::Int(number) => map.serialize_entry(key, number)?,
                Value::Bool(truth) => map.serialize_entry(key, truth)?,
                Value::Double(number) => map.serialize_entry(key, number)?,
                Value::List(texts) => map.serialize_entry(key, texts)?,
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::tests::{server, with};
    use super::*;
    use crate::trace::{Method, Parent, SpanId};

    #[test]
    fn a_span_is_one_object_in_a_fixed_order() {
        let mut span = server();
        span.parent = Some(Parent {
            span: SpanId([0x0f; 8]),
            remote: true,
            method: Method::TraceParent,
            confidence: 1.0,
        });
        let expected = concat!(
            r#"{"schema":"1","time":"2025-11-21T12:01:07.412003911Z","#,
            r#""trace_id":"abababababababababababababababab","span_id":"cdcdcdcdcdcdcdcd","#,
            r#""parent_span_id":"0f0f0f0f0f0f0f0f","trace_flags":1,"trace_state":null,"#,
            r#""kind":"server","name":"POST /cart/{id}","service":"shop","pid":8812,"#,
            r#""start_ns":1763726467412003911,"end_ns":1763726467453203911,"#,
            r#""duration_ns":41200000,"status":{"code":"unset"},"#,
            r#""link":{"method":"traceparent","confidence":1.0,"remote":true},"#,
            r#""attributes":{"http.request.method":"POST","url.path":"/cart/17","#,
            r#""http.route":"/cart/{id}","http.response.status_code":200,"#,
            r#""network.peer.address":"10.0.0.3","network.peer.port":51422,"#,
            r#""spantap.time_to_first_byte":0.0406},"dropped_attributes":0,"events":[],"#,
            r#""links":[],"resource":{"service.name":"shop","process.executable.name":"cart"}}"#,
        );
        assert_eq!(json(&span), expected);
    }

    #[test]
    fn any_text_stays_on_one_line() {
        let span = with("url.path", Value::Str("/\n\"\u{7f}\u{2028}".into()));
        let text = json(&span);
        assert!(!text.contains('\n'));
        let back: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        assert_eq!(back["attributes"]["url.path"], "/\n\"\u{7f}\u{2028}");
    }

    #[test]
    fn a_number_that_is_none_is_null() {
        let span = with("spantap.time_to_first_byte", Value::Double(f64::NAN));
        assert!(json(&span).contains("\"spantap.time_to_first_byte\":null"));
    }
}
