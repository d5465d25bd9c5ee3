//! B3 headers, single and multiple. Lower-case hex only, as both specifications write it.
//! Source: <https://github.com/openzipkin/b3-propagation>, README of 2021.

use super::context::{Carried, Context, Refusal, SAMPLED, hex, span_id, trace_id};
use super::{Method, SpanId, TraceId};
use crate::protocol::Carrier;

/// Reads `b3`: `{trace}-{span}`, `{trace}-{span}-{state}`, `{trace}-{span}-{state}-{parent}`, or
/// a lone state.
pub(super) fn single(carrier: &Carrier) -> Result<Option<Carried>, Refusal> {
    let Some(value) = carrier.b3.as_deref().map(trim) else {
        return Ok(None);
    };
    let mut fields = value.split('-');
    let first = fields.next().unwrap_or_default();
    let Some(span) = fields.next() else {
        return decision(first).map(|sampled| Some(Carried::Decision(sampled)));
    };
    let flags = match fields.next() {
        Some(state) => Some(flags(decision(state)?)),
        None => None,
    };
    if let Some(parent) = fields.next() {
        hex::<8>(parent.as_bytes())?;
    }
    if fields.next().is_some() {
        return Err(Refusal::Shape);
    }
    Ok(Some(context(trace(first)?, self::span(span)?, flags)))
}

/// Reads `x-b3-traceid`, `x-b3-spanid`, `x-b3-sampled` and `x-b3-flags`.
pub(super) fn multi(carrier: &Carrier) -> Result<Option<Carried>, Refusal> {
    let debug = match carrier.b3_flags.as_deref().map(trim) {
        None | Some("0") => false,
        Some("1") => true,
        Some(_) => return Err(Refusal::Incomplete),
    };
    let sampled = match carrier.b3_sampled.as_deref().map(trim) {
        _ if debug => Some(true),
        None => None,
        // Older tracers wrote words.
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some("d") => return Err(Refusal::Incomplete),
        Some(state) => Some(decision(state)?),
    };
    match (
        carrier.b3_trace_id.as_deref(),
        carrier.b3_span_id.as_deref(),
    ) {
        (Some(trace), Some(span)) => Ok(Some(context(
            self::trace(trim(trace))?,
            self::span(trim(span))?,
            sampled.map(flags),
        ))),
        (None, None) => Ok(sampled.map(Carried::Decision)),
        _ => Err(Refusal::Incomplete),
    }
}

fn trim(value: &str) -> &str {
    value.trim_matches([' ', '\t'])
}

fn context(trace: TraceId, span: SpanId, flags: Option<u8>) -> Carried {
    let state = None;
    let context = Context {
        trace,
        span,
        flags,
        state,
    };
    Carried::Context(context, Method::B3)
}

fn decision(state: &str) -> Result<bool, Refusal> {
    match state {
        "0" => Ok(false),
        "1" | "d" => Ok(true),
        _ => Err(Refusal::Incomplete),
    }
}

fn flags(sampled: bool) -> u8 {
    if sampled { SAMPLED } else { 0 }
}

/// 128 bits, or 64 that stand for the right half.
fn trace(text: &str) -> Result<TraceId, Refusal> {
    if text.len() == 16 {
        let low = u64::from_be_bytes(hex(text.as_bytes())?);
        return trace_id(u128::from(low).to_be_bytes());
    }
    trace_id(hex(text.as_bytes())?)
}

fn span(text: &str) -> Result<SpanId, Refusal> {
    span_id(hex(text.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LONG: &str = "80f198ee56343ba864fe8b2a57d3eff7";
    const SHORT: &str = "64fe8b2a57d3eff7";
    const SPAN: &str = "e457b5a2e4d86bd1";

    fn b3(value: &str) -> Result<Option<Carried>, Refusal> {
        single(&Carrier {
            b3: Some(value.into()),
            ..Default::default()
        })
    }

    fn seen(got: Result<Option<Carried>, Refusal>) -> String {
        match got {
            Ok(None) => "none".into(),
            Ok(Some(Carried::Decision(sampled))) => format!("decision {sampled}"),
            Ok(Some(Carried::Context(c, method))) => {
                assert_eq!((c.span.to_string().as_str(), method), (SPAN, Method::B3));
                format!("{} {:?}", c.trace, c.flags)
            }
            Err(refusal) => format!("{refusal:?}"),
        }
    }

    #[test]
    fn single_vectors() {
        let padded = format!("0000000000000000{SHORT}");
        for (value, want) in [
            (format!("{LONG}-{SPAN}"), format!("{LONG} None")),
            (format!("{LONG}-{SPAN}-1"), format!("{LONG} Some(1)")),
            (format!("{LONG}-{SPAN}-0"), format!("{LONG} Some(0)")),
            (format!("{LONG}-{SPAN}-d"), format!("{LONG} Some(1)")),
            (
                format!("{LONG}-{SPAN}-1-05e3ac9a4f6e3b90"),
                format!("{LONG} Some(1)"),
            ),
            (format!("{SHORT}-{SPAN}-1"), format!("{padded} Some(1)")),
            ("0".into(), "decision false".into()),
            ("1".into(), "decision true".into()),
            ("d".into(), "decision true".into()),
            (String::new(), "Incomplete".into()),
            ("2".into(), "Incomplete".into()),
            (LONG.into(), "Incomplete".into()),
            (format!("{LONG}-{SPAN}-2"), "Incomplete".into()),
            (format!("{LONG}-{SPAN}-"), "Incomplete".into()),
            (format!("{LONG}-{SPAN}-1-xyz"), "Shape".into()),
            (
                format!("{LONG}-{SPAN}-1-05e3ac9a4f6e3b90-1"),
                "Shape".into(),
            ),
            (format!("{}-{SPAN}", LONG.to_uppercase()), "Shape".into()),
            (format!("{}-{SPAN}", &LONG[1..]), "Shape".into()),
            (format!("{}-{SPAN}", "0".repeat(16)), "TraceId".into()),
            (format!("{}-{SPAN}", "0".repeat(32)), "TraceId".into()),
            (format!("{LONG}-{}", "0".repeat(16)), "SpanId".into()),
        ] {
            assert_eq!(seen(b3(&value)), want, "{value:?}");
        }
    }

    fn headers(
        trace: Option<&str>,
        span: Option<&str>,
        sampled: Option<&str>,
        flags: Option<&str>,
    ) -> String {
        seen(multi(&Carrier {
            b3_trace_id: trace.map(Into::into),
            b3_span_id: span.map(Into::into),
            b3_sampled: sampled.map(Into::into),
            b3_flags: flags.map(Into::into),
            ..Default::default()
        }))
    }

    #[test]
    fn multi_vectors() {
        let (long, span) = (Some(LONG), Some(SPAN));
        assert_eq!(headers(long, span, None, None), format!("{LONG} None"));
        assert_eq!(
            headers(long, span, Some("1"), None),
            format!("{LONG} Some(1)")
        );
        assert_eq!(
            headers(long, span, Some("true"), None),
            format!("{LONG} Some(1)")
        );
        assert_eq!(
            headers(long, span, Some("0"), None),
            format!("{LONG} Some(0)")
        );
        assert_eq!(
            headers(long, span, Some("0"), Some("1")),
            format!("{LONG} Some(1)")
        );
        assert_eq!(
            headers(Some(SHORT), span, None, None),
            format!("0000000000000000{SHORT} None")
        );
        assert_eq!(headers(None, None, Some("0"), None), "decision false");
        assert_eq!(headers(None, None, None, Some("1")), "decision true");
        assert_eq!(headers(None, None, None, None), "none");
        assert_eq!(headers(long, None, None, None), "Incomplete");
        assert_eq!(headers(None, span, Some("1"), None), "Incomplete");
        assert_eq!(headers(long, span, Some("yes"), None), "Incomplete");
        assert_eq!(headers(long, span, None, Some("x")), "Incomplete");
        assert_eq!(headers(Some("zz"), span, None, None), "Shape");
    }

    proptest! {
        #[test]
        fn any_text_ends(value in "\\PC*") {
            let _ = b3(&value);
        }
    }
}
