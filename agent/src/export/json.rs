//! A span as one JSON object.

use crate::span::Span;

/// The object, without a line end.
pub fn json(span: &Span) -> String {
    serde_json::json!({ "name": span.name, "service": span.resource.service() }).to_string()
}
