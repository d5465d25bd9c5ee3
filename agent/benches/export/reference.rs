//! The same request by way of opentelemetry-proto's types and prost: what the encoder's tests hold
//! it against, and what its benchmark compares it with. Whoever includes this file imports our
//! types first.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value,
};
use opentelemetry_proto::tonic::resource::v1 as resource;
use opentelemetry_proto::tonic::trace::v1::{self as proto, ResourceSpans, ScopeSpans};

use super::{Attribute, Span, SpanKind, Status, Value};

/// Spans of one service each follow one another in `spans`, by equality of resources.
pub fn request(spans: &[Span]) -> ExportTraceServiceRequest {
    let mut all: Vec<(&Span, ResourceSpans)> = Vec::new();
    for one in spans {
        let known = all
            .iter()
            .position(|(first, _)| first.resource == one.resource);
        let at = known.unwrap_or_else(|| {
            all.push((one, resource_spans(one)));
            all.len() - 1
        });
        all[at].1.scope_spans[0].spans.push(span(one));
    }
    ExportTraceServiceRequest {
        resource_spans: all.into_iter().map(|(_, spans)| spans).collect(),
    }
}

fn resource_spans(first: &Span) -> ResourceSpans {
    let schema = "https://opentelemetry.io/schemas/1.42.0".to_owned();
    ResourceSpans {
        resource: Some(resource::Resource {
            attributes: attributes(&first.resource.attributes),
            ..Default::default()
        }),
        scope_spans: vec![ScopeSpans {
            scope: Some(InstrumentationScope {
                name: "spantap".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                ..Default::default()
            }),
            spans: Vec::new(),
            schema_url: schema.clone(),
        }],
        schema_url: schema,
    }
}

fn span(span: &Span) -> proto::Span {
    let remote = span.parent.is_some_and(|parent| parent.remote);
    proto::Span {
        trace_id: span.trace.0.to_vec(),
        span_id: span.id.0.to_vec(),
        trace_state: span.state.as_deref().unwrap_or_default().to_owned(),
        parent_span_id: span.parent.map(|p| p.span.0.to_vec()).unwrap_or_default(),
        flags: u32::from(span.flags)
            | proto::SpanFlags::ContextHasIsRemoteMask as u32
            | if remote {
                proto::SpanFlags::ContextIsRemoteMask as u32
            } else {
                0
            },
        name: span.name.to_string(),
        kind: match span.kind {
            SpanKind::Server => proto::span::SpanKind::Server,
            SpanKind::Client => proto::span::SpanKind::Client,
            SpanKind::Producer => proto::span::SpanKind::Producer,
            SpanKind::Consumer => proto::span::SpanKind::Consumer,
        } as i32,
        start_time_unix_nano: span.start,
        end_time_unix_nano: span.end,
        attributes: attributes(&span.attributes),
        dropped_attributes_count: span.dropped_attributes,
        events: span
            .events
            .iter()
            .map(|event| proto::span::Event {
                time_unix_nano: event.time,
                name: event.name.to_string(),
                attributes: attributes(&event.attributes),
                dropped_attributes_count: 0,
            })
            .collect(),
        dropped_events_count: 0,
        links: span
            .links
            .iter()
            .map(|link| proto::span::Link {
                trace_id: link.trace.0.to_vec(),
                span_id: link.span.0.to_vec(),
                attributes: match link.reason.as_ref() {
                    "" => Vec::new(),
                    reason => attributes(&[Attribute {
                        key: "spantap.link.reason".into(),
                        value: Value::Str(reason.to_owned().into()),
                    }]),
                },
                ..Default::default()
            })
            .collect(),
        dropped_links_count: 0,
        status: match &span.status {
            Status::Unset => None,
            Status::Error(text) => Some(proto::Status {
                message: text.to_string(),
                code: proto::status::StatusCode::Error as i32,
            }),
        },
    }
}

fn attributes(attributes: &[Attribute]) -> Vec<KeyValue> {
    attributes
        .iter()
        .map(|attribute| KeyValue {
            key: attribute.key.to_string(),
            value: Some(value(&attribute.value)),
            ..Default::default()
        })
        .collect()
}

fn value(value: &Value) -> AnyValue {
    let text = |text: &str| any_value::Value::StringValue(text.to_owned());
    AnyValue {
        value: Some(match value {
            Value::Str(string) => text(string),
            Value::Int(number) => any_value::Value::IntValue(*number),
            Value::Bool(truth) => any_value::Value::BoolValue(*truth),
            Value::Double(number) => any_value::Value::DoubleValue(*number),
            Value::List(texts) => any_value::Value::ArrayValue(ArrayValue {
                values: texts
                    .iter()
                    .map(|string| AnyValue {
                        value: Some(text(string)),
                    })
                    .collect(),
            }),
        }),
    }
}
