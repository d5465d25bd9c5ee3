//! Sizes of a span, and spans per second of a service. Resources are exempt, by the specification;
//! what bounds them is in `resource`.
//! Source: <https://opentelemetry.io/docs/specs/otel/common/#attribute-limits>.

use std::borrow::Cow;

use foldhash::{HashMap, HashMapExt as _};

use crate::config;
use crate::event::Nanos;
use crate::protocol::{Attributes, Value};
use crate::span::{Span, semconv};
use crate::stats::Stats;

/// Applies [`config::Limits`].
#[derive(Debug)]
pub struct Limiter {
    limits: config::Limits,
    buckets: HashMap<Box<str>, Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Spans that may still leave, in units of 1/10^9.
    tokens: u64,
    filled: Nanos,
}

impl Limiter {
    /// As configured.
    pub fn new(limits: &config::Limits) -> Self {
        Self {
            limits: limits.clone(),
            buckets: HashMap::new(),
        }
    }

    /// Whether the span's service has not had its share: a bucket of one second's spans.
    pub fn admits(&mut self, span: &Span, now: Nanos, stats: &Stats) -> bool {
        let rate = u64::from(self.limits.spans_per_second);
        if rate == 0 {
            return true;
        }
        let full = rate.saturating_mul(SPAN);
        let service = span.resource.service();
        if !self.buckets.contains_key(service) {
            self.make_room(rate, now, stats);
            let bucket = Bucket {
                tokens: full,
                filled: now,
            };
            self.buckets.insert(service.into(), bucket);
        }
        let Some(bucket) = self.buckets.get_mut(service) else {
            return false;
        };
        bucket.fill(rate, now);
        match bucket.tokens.checked_sub(SPAN) {
            Some(left) => {
                bucket.tokens = left;
                true
            }
            None => {
                stats.policy_rate_limited.add(1);
                false
            }
        }
    }

    /// Full buckets are as good as none; else all are forgotten, and counted.
    fn make_room(&mut self, rate: u64, now: Nanos, stats: &Stats) {
        if self.buckets.len() < MAX_SERVICES {
            return;
        }
        let full = rate.saturating_mul(SPAN);
        self.buckets.retain(|_, bucket| {
            bucket.fill(rate, now);
            bucket.tokens < full
        });
        if self.buckets.len() >= MAX_SERVICES {
            stats.policy_rate_evicted.add(self.buckets.len() as u64);
            self.buckets.clear();
        }
    }

    /// Cuts texts, then attributes, then events; what is left out is counted on the span too.
    pub fn cut(&self, span: &mut Span, stats: &Stats) {
        let dropped = self.attributes(&mut span.attributes, stats);
        span.dropped_attributes = span.dropped_attributes.saturating_add(dropped);
        let over = span.events.len().saturating_sub(self.limits.event_count);
        if over > 0 {
            span.events.truncate(self.limits.event_count);
            stats.policy_events_dropped.add(over as u64);
        }
        for event in &mut span.events {
            self.attributes(&mut event.attributes, stats);
        }
        if let Cow::Owned(name) = &mut span.name {
            stats
                .policy_truncated
                .add(shorten(name, self.limits.text_length).into());
        }
    }

    fn attributes(&self, attributes: &mut Attributes, stats: &Stats) -> u32 {
        let over = attributes.len().saturating_sub(self.limits.attribute_count);
        if over > 0 {
            attributes.truncate(self.limits.attribute_count);
            stats.policy_attributes_dropped.add(over as u64);
        }
        let mut cut = 0u64;
        let short = self.limits.attribute_length.min(self.limits.text_length);
        for attribute in attributes {
            match &mut attribute.value {
                // Most fit, whatever their key.
                Value::Str(text) if text.len() <= short => {}
                Value::Str(text) => {
                    let length = self.longest(&attribute.key);
                    if text.len() > length {
                        cut = cut.saturating_add(shorten(text.to_mut(), length).into());
                    }
                }
                Value::List(texts) => {
                    let length = self.longest(&attribute.key);
                    for text in texts {
                        cut = cut.saturating_add(shorten(text, length).into());
                    }
                }
                _ => {}
            }
        }
        stats.policy_truncated.add(cut);
        u32::try_from(over).unwrap_or(u32::MAX)
    }

    /// Bytes that a text of this key may have.
    fn longest(&self, key: &str) -> usize {
        if is_free_text(key) {
            self.limits.attribute_length.min(self.limits.text_length)
        } else {
            self.limits.attribute_length
        }
    }
}

impl Bucket {
    fn fill(&mut self, rate: u64, now: Nanos) {
        let earned = now.saturating_sub(self.filled).saturating_mul(rate);
        self.tokens = self
            .tokens
            .saturating_add(earned)
            .min(rate.saturating_mul(SPAN));
        self.filled = self.filled.max(now);
    }
}

/// Cuts at the last character that fits; true if anything went.
fn shorten(text: &mut String, length: usize) -> bool {
    if text.len() <= length {
        return false;
    }
    let mut end = length;
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.truncate(end);
    true
}

/// Texts that anybody may have written.
fn is_free_text(key: &str) -> bool {
    FREE.contains(&key) || FREE_PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}

const FREE: [&str; 6] = [
    semconv::URL_FULL,
    semconv::URL_PATH,
    semconv::URL_QUERY,
    semconv::USER_AGENT_ORIGINAL,
    semconv::HTTP_REQUEST_METHOD_ORIGINAL,
    semconv::SERVER_ADDRESS,
];
const FREE_PREFIXES: [&str; 2] = [semconv::HTTP_REQUEST_HEADER, semconv::HTTP_RESPONSE_HEADER];
/// One span in a bucket's units.
const SPAN: u64 = 1_000_000_000;
/// Most services with a rate of their own.
const MAX_SERVICES: usize = 4096;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::protocol::Attribute;
    use crate::span::{Resource, SpanKind, Status};
    use crate::trace::{SpanId, TraceId};

    fn span(attributes: Attributes) -> Span {
        Span {
            trace: TraceId([1; 16]),
            id: SpanId([1; 8]),
            parent: None,
            flags: 3,
            state: None,
            kind: SpanKind::Server,
            name: "GET".into(),
            start: 0,
            end: 0,
            attributes,
            dropped_attributes: 0,
            events: Vec::new(),
            links: Vec::new(),
            status: Status::Unset,
            resource: Arc::new(Resource::default()),
            process: 1,
        }
    }

    fn attribute(key: &str, value: &str) -> Attribute {
        Attribute {
            key: key.to_owned().into(),
            value: Value::Str(value.to_owned().into()),
        }
    }

    #[test]
    fn a_service_has_its_rate_and_no_more() {
        let stats = Stats::default();
        let limits = config::Limits {
            spans_per_second: 10,
            ..Default::default()
        };
        let mut limiter = Limiter::new(&limits);
        let mut admitted = |from: u64, to: u64| {
            (from..to)
                .filter(|ms| limiter.admits(&span(Vec::new()), ms * 1_000_000, &stats))
                .count()
        };
        assert_eq!(admitted(0, 1000), 19);
        assert_eq!(admitted(1000, 3000), 20);
        assert_eq!(admitted(60_000, 60_001), 1);
        assert_eq!(stats.policy_rate_limited.get(), 981 + 1980);
    }

    #[test]
    fn free_text_is_shorter_than_the_rest() {
        let stats = Stats::default();
        let limits = config::Limits {
            attribute_count: 2,
            attribute_length: 20,
            text_length: 5,
            ..Default::default()
        };
        let long = "0123456789012345678901234567890";
        let mut span = span(vec![
            attribute("url.path", "/ééé"),
            attribute("other", long),
            attribute("third", ""),
        ]);
        Limiter::new(&limits).cut(&mut span, &stats);
        assert_eq!(
            span.attributes,
            [
                attribute("url.path", "/éé"),
                attribute("other", &long[..20])
            ]
        );
        assert_eq!(
            (span.dropped_attributes, stats.policy_truncated.get()),
            (1, 2)
        );
    }

    proptest! {
        #[test]
        fn texts_are_cut_at_characters(text in "\\PC{0,40}", length in 0usize..40) {
            let mut cut = text.clone();
            prop_assert_eq!(shorten(&mut cut, length), text.len() > length);
            prop_assert!(cut.len() <= length.max(cut.len().min(length)) && text.starts_with(&cut));
            prop_assert!(text.len() <= length || length - cut.len() < 4);
        }
    }
}
