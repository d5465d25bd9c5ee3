//! A span as one line for people.

use crate::span::Span;

/// The line, without its end.
pub fn line(span: &Span, _color: bool) -> String {
    format!("{} {}", span.resource.service(), span.name)
}
