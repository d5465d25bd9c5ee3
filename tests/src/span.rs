//! A span as a backend sees it: OTLP's message, flattened to what the tests ask about.
//! Ids are lower-case hex; an attribute that came twice is kept twice in `repeated`.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1 as otlp;
use serde_json::Value;

/// Attributes by key.
pub type Attributes = BTreeMap<String, Value>;

/// OTLP's span kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Answers.
    Server,
    /// Asks.
    Client,
    /// Gives messages to a broker.
    Producer,
    /// Is handed messages.
    Consumer,
    /// Anything else.
    Other,
}

/// Something that happened during a span.
#[derive(Clone, Debug)]
pub struct Event {
    /// Name.
    pub name: String,
    /// Unix time, nanoseconds.
    pub time: u64,
    /// Attributes.
    pub attributes: Attributes,
}

/// A span that is related without being the parent.
#[derive(Clone, Debug)]
pub struct Link {
    /// Trace id.
    pub trace: String,
    /// Span id.
    pub span: String,
    /// Attributes.
    pub attributes: Attributes,
}

/// One received span.
#[derive(Clone, Debug)]
pub struct Span {
    /// Trace id.
    pub trace: String,
    /// Span id.
    pub id: String,
    /// Parent span id, if any.
    pub parent: Option<String>,
    /// W3C tracestate.
    pub state: String,
    /// OTLP's flags.
    pub flags: u32,
    /// Kind.
    pub kind: Kind,
    /// Name.
    pub name: String,
    /// Unix time of the start, nanoseconds.
    pub start: u64,
    /// Unix time of the end, nanoseconds.
    pub end: u64,
    /// Whether its status is Error.
    pub error: bool,
    /// Whether its status is Ok, which an instrumentation should not set.
    pub ok: bool,
    /// The status's description.
    pub message: String,
    /// Attributes.
    pub attributes: Attributes,
    /// Attributes of its resource.
    pub resource: Attributes,
    /// Schema URL of its resource or scope.
    pub schema: String,
    /// Name of its instrumentation scope.
    pub scope: String,
    /// Events.
    pub events: Vec<Event>,
    /// Links.
    pub links: Vec<Link>,
    /// Keys that came more than once, which OTLP forbids.
    pub repeated: Vec<String>,
}

impl Span {
    /// An attribute as text; numbers are written out.
    pub fn text(&self, key: &str) -> Option<String> {
        text(self.attributes.get(key)?)
    }

    /// An attribute as an integer, and only if it came as one.
    pub fn int(&self, key: &str) -> Option<i64> {
        self.attributes.get(key)?.as_i64()
    }

    /// An attribute of the resource as text.
    pub fn resource_text(&self, key: &str) -> Option<String> {
        text(self.resource.get(key)?)
    }

    /// The process it belongs to.
    pub fn pid(&self) -> Option<u32> {
        let pid = self.resource.get("process.pid")?.as_i64()?;
        u32::try_from(pid).ok()
    }

    /// `service.name`.
    pub fn service(&self) -> String {
        self.resource_text("service.name").unwrap_or_default()
    }

    /// Path and query: from `url.path` and `url.query`, or out of `url.full`.
    pub fn target(&self) -> String {
        if let Some(path) = self.text("url.path") {
            return match self.text("url.query") {
                Some(query) if !query.is_empty() => format!("{path}?{query}"),
                _ => path,
            };
        }
        let full = self.text("url.full").unwrap_or_default();
        let rest = full
            .split_once("://")
            .map_or(full.as_str(), |(_, rest)| rest);
        rest.find('/')
            .map_or_else(|| "/".into(), |at| rest[at..].to_string())
    }

    /// Everything in one string, to look for what must never be in it.
    pub fn dump(&self) -> String {
        format!("{self:?}")
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let method = self.text("http.request.method").unwrap_or_default();
        let status = self.text("http.response.status_code").unwrap_or_default();
        let pid = self.pid().unwrap_or_default();
        format!(
            "{:?} {method} {} {status} of {} (pid {pid})",
            self.kind,
            self.target(),
            self.service()
        )
    }
}

/// All spans of one export request.
pub fn spans(request: ExportTraceServiceRequest) -> Vec<Span> {
    let mut all = Vec::new();
    for group in request.resource_spans {
        let (resource, _) = attributes(group.resource.unwrap_or_default().attributes);
        for scoped in group.scope_spans {
            let scope = scoped.scope.unwrap_or_default().name;
            let schema = [&scoped.schema_url, &group.schema_url]
                .into_iter()
                .find(|url| !url.is_empty())
                .cloned()
                .unwrap_or_default();
            for span in scoped.spans {
                let mut span = flatten(span);
                span.resource.clone_from(&resource);
                span.scope.clone_from(&scope);
                span.schema.clone_from(&schema);
                all.push(span);
            }
        }
    }
    all
}

fn flatten(span: otlp::Span) -> Span {
    let status = span.status.clone().unwrap_or_default();
    let (attributes, repeated) = attributes(span.attributes);
    Span {
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: Some(hex(&span.parent_span_id)).filter(|id| !id.is_empty()),
        state: span.trace_state,
        flags: span.flags,
        kind: match span.kind {
            2 => Kind::Server,
            3 => Kind::Client,
            4 => Kind::Producer,
            5 => Kind::Consumer,
            _ => Kind::Other,
        },
        name: span.name,
        start: span.start_time_unix_nano,
        end: span.end_time_unix_nano,
        error: status.code == otlp::status::StatusCode::Error as i32,
        ok: status.code == otlp::status::StatusCode::Ok as i32,
        message: status.message,
        attributes,
        resource: Attributes::new(),
        schema: String::new(),
        scope: String::new(),
        events: span.events.into_iter().map(event).collect(),
        links: span.links.into_iter().map(link).collect(),
        repeated,
    }
}

fn event(event: otlp::span::Event) -> Event {
    Event {
        name: event.name,
        time: event.time_unix_nano,
        attributes: attributes(event.attributes).0,
    }
}

fn link(link: otlp::span::Link) -> Link {
    Link {
        trace: hex(&link.trace_id),
        span: hex(&link.span_id),
        attributes: attributes(link.attributes).0,
    }
}

fn attributes(list: Vec<KeyValue>) -> (Attributes, Vec<String>) {
    let mut map = Attributes::new();
    let mut repeated = Vec::new();
    for pair in list {
        let value = pair.value.map_or(Value::Null, value);
        if map.insert(pair.key.clone(), value).is_some() {
            repeated.push(pair.key);
        }
    }
    (map, repeated)
}

fn value(any: AnyValue) -> Value {
    match any.value {
        Some(any_value::Value::StringValue(text)) => text.into(),
        Some(any_value::Value::BoolValue(truth)) => truth.into(),
        Some(any_value::Value::IntValue(number)) => number.into(),
        Some(any_value::Value::DoubleValue(number)) => number.into(),
        Some(any_value::Value::ArrayValue(list)) => list.values.into_iter().map(value).collect(),
        Some(any_value::Value::BytesValue(bytes)) => hex(&bytes).into(),
        _ => Value::Null,
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
