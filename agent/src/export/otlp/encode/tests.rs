//! The bytes are what prost makes of the same spans, and decode to them.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use super::request;
use crate::protocol::{Attribute, Value};
use crate::span::{Resource, Span, SpanEvent, SpanKind, Status};
use crate::trace::{Link, Method, Parent, SpanId, TraceId};

#[path = "../../../../benches/export/reference.rs"]
mod reference;

fn check(spans: &[Span]) {
    let bytes = request(spans, 0);
    let expected = reference::request(spans);
    let decoded = ExportTraceServiceRequest::decode(bytes.as_slice()).expect("our bytes decode");
    assert_eq!(decoded, expected);
    assert!(
        bytes == expected.encode_to_vec(),
        "same fields, other bytes"
    );
}

fn text() -> impl Strategy<Value = String> {
    // Lengths on both sides of one and two bytes of length.
    prop_oneof![
        8 => "[a-zäö/.]{0,20}",
        1 => "[a-z]{110,135}",
        1 => (16_300_usize..16_500).prop_map(|n| "x".repeat(n)),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        text().prop_map(|text| Value::Str(text.into())),
        any::<i64>().prop_map(Value::Int),
        any::<bool>().prop_map(Value::Bool),
        prop_oneof![Just(0.0), Just(-0.0), Just(1.5), -1e9..1e9].prop_map(Value::Double),
        vec(text(), 0..3).prop_map(Value::List),
    ]
}

fn attributes() -> impl Strategy<Value = Vec<Attribute>> {
    let one = (text(), value()).prop_map(|(key, value)| Attribute {
        key: key.into(),
        value,
    });
    vec(one, 0..5)
}

fn event() -> impl Strategy<Value = SpanEvent> {
    (text(), any::<u64>(), attributes()).prop_map(|(name, time, attributes)| SpanEvent {
        name: name.into(),
        time,
        attributes,
    })
}

fn link() -> impl Strategy<Value = Link> {
    (any::<[u8; 16]>(), any::<[u8; 8]>(), text()).prop_map(|(trace, span, reason)| Link {
        trace: TraceId(trace),
        span: SpanId(span),
        reason: reason.into(),
    })
}

fn parent() -> impl Strategy<Value = Parent> {
    (any::<[u8; 8]>(), any::<bool>()).prop_map(|(span, remote)| Parent {
        span: SpanId(span),
        remote,
        method: Method::TraceParent,
        confidence: 1.0,
    })
}

prop_compose! {
    fn span()(
        ids in (any::<[u8; 16]>(), any::<[u8; 8]>()),
        parent in proptest::option::of(parent()),
        flags in any::<u8>(),
        state in proptest::option::of(text()),
        server in any::<bool>(),
        name in text(),
        times in (any::<u64>(), any::<u64>()),
        attributes in attributes(),
        dropped in any::<u32>(),
        events in vec(event(), 0..3),
        links in vec(link(), 0..3),
        error in proptest::option::of(text()),
        service in attributes(),
    ) -> Span {
        Span {
            trace: TraceId(ids.0),
            id: SpanId(ids.1),
            parent,
            flags,
            state: state.map(String::into_boxed_str),
            kind: if server { SpanKind::Server } else { SpanKind::Client },
            name: name.into(),
            start: times.0,
            end: times.1,
            attributes,
            dropped_attributes: dropped,
            events,
            links,
            status: error.map_or(Status::Unset, |text| Status::Error(text.into())),
            resource: Arc::new(Resource { attributes: service, program: String::new() }),
            process: 1,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn as_prost_writes_it(spans in vec(span(), 0..4), again in vec(any::<(bool, usize)>(), 0..4)) {
        let mut spans = spans;
        // Some share a resource, some have an equal one of their own.
        for (shared, at) in again {
            if spans.is_empty() {
                break;
            }
            let mut copy = spans[at % spans.len()].clone();
            if !shared {
                copy.resource = Arc::new(Resource::clone(&copy.resource));
            }
            spans.push(copy);
        }
        check(&spans);
    }
}

#[test]
fn no_spans_are_no_bytes() {
    assert!(request(&[], 0).is_empty());
    check(&[]);
}
