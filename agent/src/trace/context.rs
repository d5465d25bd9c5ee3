//! Trace context as requests carry it: W3C Trace Context level 2 here, B3 in `b3`.
//!
//! Strict: what the rules refuse is refused with its reason, and nothing is repaired. A bad
//! `tracestate` never costs its `traceparent`; a bad `traceparent` always costs its `tracestate`.
//! Source: <https://www.w3.org/TR/trace-context-2/>, sections 3.2 and 3.3.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Method, SpanId, TraceId, b3};
use crate::protocol::Carrier;
use crate::stats::Stats;

/// W3C trace flag: the caller may have recorded this trace.
pub const SAMPLED: u8 = 0x01;
/// W3C trace flag (level 2): the right-most seven bytes of the trace id are random.
pub const RANDOM: u8 = 0x02;

/// A parent somewhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// Trace.
    pub trace: TraceId,
    /// The parent's span.
    pub span: SpanId,
    /// Flags, known bits only; `None` where the caller left the decision open (B3).
    pub flags: Option<u8>,
    /// tracestate, normalised: members without surrounding blanks, joined with `,`.
    pub state: Option<Arc<str>>,
}

/// What a message says about its trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carried {
    /// A parent, and the format that named it.
    Context(Context, Method),
    /// No parent, but a sampling decision for whoever starts the trace (B3 `0`, `1`, `d`).
    Decision(bool),
}

/// A format a context is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `traceparent` and `tracestate`.
    W3c,
    /// `b3`.
    B3,
    /// `x-b3-*`.
    B3Multi,
}

impl Format {
    /// The format with this name in OTEL_PROPAGATORS; `None` for those that carry no context.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "tracecontext" => Some(Format::W3c),
            "b3" => Some(Format::B3),
            "b3multi" => Some(Format::B3Multi),
            _ => None,
        }
    }
}

/// Why a value was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Wrong length, wrong separators, or not lower-case hex.
    Shape,
    /// Version `ff`.
    Version,
    /// A trace id of zeros.
    TraceId,
    /// A span id of zeros.
    SpanId,
    /// More than one `traceparent`.
    Many,
    /// `tracestate` breaks its grammar or has more than 32 members; its `traceparent` stands.
    State,
    /// B3: half a context, or a sampling state that is none.
    Incomplete,
}

impl Refusal {
    /// Adds one to the counter of such values.
    pub(super) fn count(self, stats: &Stats) {
        let counter = match self {
            Refusal::Shape => &stats.trace_refused_shape,
            Refusal::Version => &stats.trace_refused_version,
            Refusal::TraceId => &stats.trace_refused_trace_id,
            Refusal::SpanId => &stats.trace_refused_span_id,
            Refusal::Many => &stats.trace_refused_many,
            Refusal::State => &stats.trace_refused_state,
            Refusal::Incomplete => &stats.trace_refused_incomplete,
        };
        counter.add(1);
    }
}

/// Result of [`extract`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extracted {
    /// The first valid context in the order asked for; else the first bare decision.
    pub carried: Option<Carried>,
    /// What was refused on the way.
    pub refused: SmallVec<[Refusal; 1]>,
}

/// Reads what a message carries, trying `formats` in order; the first valid context wins.
pub fn extract(carrier: &Carrier, formats: &[Format]) -> Extracted {
    let mut found = Extracted::default();
    for format in formats {
        let read = match format {
            Format::W3c => w3c(carrier, &mut found.refused),
            Format::B3 => b3::single(carrier),
            Format::B3Multi => b3::multi(carrier),
        };
        match read {
            Ok(Some(context @ Carried::Context(..))) => {
                found.carried = Some(context);
                return found;
            }
            Ok(Some(decision)) => {
                found.carried.get_or_insert(decision);
            }
            Ok(None) => {}
            Err(refusal) => found.refused.push(refusal),
        }
    }
    found
}

/// Every trace that a message names, in any format, and however often.
pub fn traces(carrier: &Carrier) -> SmallVec<[TraceId; 1]> {
    let parents = carrier.traceparent.iter();
    let parents = parents.filter_map(|value| Some(traceparent(value).ok()?.trace));
    let others = [b3::single(carrier), b3::multi(carrier)].into_iter();
    let others = others.filter_map(|read| match read {
        Ok(Some(Carried::Context(context, _))) => Some(context.trace),
        _ => None,
    });
    let mut all: SmallVec<[TraceId; 1]> = parents.chain(others).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn w3c(
    carrier: &Carrier,
    refused: &mut SmallVec<[Refusal; 1]>,
) -> Result<Option<Carried>, Refusal> {
    let value = match carrier.traceparent.as_slice() {
        [] => return Ok(None),
        [value] => value,
        _ => return Err(Refusal::Many),
    };
    let mut context = traceparent(value)?;
    if let Some(text) = carrier.tracestate.as_deref() {
        match tracestate(text) {
            Ok(state) => context.state = state,
            Err(refusal) => refused.push(refusal),
        }
    }
    Ok(Some(Carried::Context(context, Method::TraceParent)))
}

/// Reads one `traceparent` value (section 3.2.2; versions after 00 by 3.2.4).
pub fn traceparent(value: &str) -> Result<Context, Refusal> {
    let bytes = value.trim_matches([' ', '\t']).as_bytes();
    let (head, rest) = bytes.split_first_chunk::<LENGTH>().ok_or(Refusal::Shape)?;
    let mut fields = head.split(|b| *b == b'-');
    let mut field = || fields.next().ok_or(Refusal::Shape);
    let [version] = hex::<1>(field()?)?;
    let trace = hex::<16>(field()?)?;
    let span = hex::<8>(field()?)?;
    let [flags] = hex::<1>(field()?)?;
    if fields.next().is_some() {
        return Err(Refusal::Shape);
    }
    let known = match (version, rest.first()) {
        (0xff, _) => return Err(Refusal::Version),
        (0, None) => SAMPLED | RANDOM,
        // A later version may go on after a dash, and only its sampled bit is ours to read.
        (1.., None | Some(b'-')) => SAMPLED,
        _ => return Err(Refusal::Shape),
    };
    Ok(Context {
        trace: trace_id(trace)?,
        span: span_id(span)?,
        flags: Some(flags & known),
        state: None,
    })
}

/// Reads a `tracestate` value (section 3.3.1). Entries are kept in order, the first of each key;
/// past 512 characters long entries go first, then the last ones (section 3.3.1.5).
pub fn tracestate(value: &str) -> Result<Option<Arc<str>>, Refusal> {
    let mut members: SmallVec<[(&str, &str); MAX_MEMBERS]> = SmallVec::new();
    let mut count = 0usize;
    for member in value.split(',') {
        let member = member.trim_matches([' ', '\t']);
        if member.is_empty() {
            continue;
        }
        count = count.saturating_add(1);
        let (key, _) = member
            .split_once('=')
            .filter(|(key, value)| is_key(key) && is_value(value))
            .ok_or(Refusal::State)?;
        if count > MAX_MEMBERS {
            return Err(Refusal::State);
        }
        if !members.iter().any(|(known, _)| *known == key) {
            members.push((key, member));
        }
    }
    shorten(&mut members);
    if members.is_empty() {
        return Ok(None);
    }
    let mut text = String::with_capacity(joined(&members));
    for (_, member) in &members {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(member);
    }
    Ok(Some(text.into()))
}

fn shorten(members: &mut SmallVec<[(&str, &str); MAX_MEMBERS]>) {
    while joined(members) > MAX_STATE {
        match members.iter().rposition(|(_, m)| m.len() > LONG_MEMBER) {
            Some(at) => drop(members.remove(at)),
            None => drop(members.pop()),
        }
    }
}

fn joined(members: &[(&str, &str)]) -> usize {
    let text: usize = members.iter().map(|(_, m)| m.len()).sum();
    text.saturating_add(members.len().saturating_sub(1))
}

/// key = (lcalpha / DIGIT) 0*255(lcalpha / DIGIT / "_" / "-" / "*" / "/" / "@").
fn is_key(key: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    key.len() <= 256
        && key.bytes().next().is_some_and(plain)
        && key.bytes().all(|b| plain(b) || b"_-*/@".contains(&b))
}

/// value = 0*255(%x20 / nblk-chr) nblk-chr, nblk-chr = %x21-2B / %x2D-3C / %x3E-7E.
fn is_value(value: &str) -> bool {
    (1..=256).contains(&value.len())
        && !value.ends_with(' ')
        && value
            .bytes()
            .all(|b| (0x20..=0x7e).contains(&b) && b != b',' && b != b'=')
}

/// A trace id, unless it is all zero.
pub(super) fn trace_id(bytes: [u8; 16]) -> Result<TraceId, Refusal> {
    match bytes {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] => Err(Refusal::TraceId),
        _ => Ok(TraceId(bytes)),
    }
}

/// A span id, unless it is all zero.
pub(super) fn span_id(bytes: [u8; 8]) -> Result<SpanId, Refusal> {
    match bytes {
        [0, 0, 0, 0, 0, 0, 0, 0] => Err(Refusal::SpanId),
        _ => Ok(SpanId(bytes)),
    }
}

/// Exactly `N` bytes of lower-case hex.
pub(super) fn hex<const N: usize>(text: &[u8]) -> Result<[u8; N], Refusal> {
    let (pairs, rest) = text.as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return Err(Refusal::Shape);
    }
    let mut out = [0; N];
    for (byte, [high, low]) in out.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Ok(out)
}

fn digit(byte: u8) -> Result<u8, Refusal> {
    match byte {
        b'0'..=b'9' => Ok(byte & 0x0f),
        b'a'..=b'f' => Ok((byte & 0x0f) + 9),
        _ => Err(Refusal::Shape),
    }
}

/// Length of a version 00 traceparent, and the least of any later one.
const LENGTH: usize = 55;
/// Section 3.3.1.1: there can be a maximum of 32 list-members.
const MAX_MEMBERS: usize = 32;
/// Section 3.3.1.5: at least 512 characters are propagated; we keep no more.
const MAX_STATE: usize = 512;
/// Section 3.3.1.5: entries longer than 128 characters are removed first.
const LONG_MEMBER: usize = 128;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn check(value: &str, expected: Result<u8, Refusal>) {
        let got = traceparent(value);
        assert_eq!(
            got.as_ref().map(|c| c.flags.unwrap()).map_err(|r| *r),
            expected,
            "{value:?}"
        );
        if let Ok(context) = got {
            assert_eq!(context.trace.to_string(), TRACE);
            assert_eq!(context.span.to_string(), SPAN);
        }
    }

    #[test]
    fn traceparent_vectors() {
        let with = |version: &str, flags: &str, rest: &str| {
            format!("{version}-{TRACE}-{SPAN}-{flags}{rest}")
        };
        check(&with("00", "00", ""), Ok(0));
        check(&with("00", "01", ""), Ok(1));
        check(&with("00", "03", ""), Ok(3));
        check(&with("00", "ff", ""), Ok(3));
        check(&format!(" \t{}\t ", with("00", "01", "")), Ok(1));
        check(&with("cc", "01", ""), Ok(1));
        check(&with("cc", "03", ""), Ok(1));
        check(&with("cc", "01", "-what-the-future-will-be-like"), Ok(1));
        check(&with("cc", "01", "-"), Ok(1));
        for bad in [
            with("00", "01", "-what-the-future-will-be-like"),
            with("00", "01", "-"),
            with("00", "01", "."),
            with("cc", "01", ".what"),
            with("0", "01", ""),
            with("000", "01", ""),
            with(".0", "01", ""),
            with("0.", "01", ""),
            with("00", "1", ""),
            with("00", ".0", ""),
            with("00", "0.", ""),
            with("00", "0A", ""),
            with("00", "001", ""),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{}-01", SPAN.to_uppercase()),
            format!("00-{}-{SPAN}-01", &TRACE[1..]),
            format!("00-{TRACE}0-{SPAN}-01"),
            format!("00-.{}-{SPAN}-01", &TRACE[1..]),
            format!("00-{TRACE}-{}-01", &SPAN[1..]),
            format!("00-{TRACE}-{SPAN}0-01"),
            format!("00_{TRACE}_{SPAN}_01"),
            format!("00{TRACE}-{SPAN}-01-"),
            format!("{0},{0}", with("00", "01", "")),
            String::new(),
            "00".into(),
            "é".repeat(40),
        ] {
            check(&bad, Err(Refusal::Shape));
        }
        check(&with("ff", "01", ""), Err(Refusal::Version));
        check(&with("FF", "01", ""), Err(Refusal::Shape));
        check(
            &format!("00-{}-{SPAN}-01", "0".repeat(32)),
            Err(Refusal::TraceId),
        );
        check(
            &format!("00-{TRACE}-{}-01", "0".repeat(16)),
            Err(Refusal::SpanId),
        );
    }

    #[test]
    fn two_traceparents_are_none() {
        let value: Box<str> = format!("00-{TRACE}-{SPAN}-01").into();
        let carrier = Carrier {
            traceparent: smallvec::smallvec![value.clone(), value],
            ..Default::default()
        };
        let found = extract(&carrier, &[Format::W3c]);
        assert_eq!(
            (found.carried, found.refused.as_slice()),
            (None, &[Refusal::Many][..])
        );
    }

    fn state(value: &str) -> Result<Option<String>, Refusal> {
        tracestate(value).map(|s| s.map(|s| s.to_string()))
    }

    #[test]
    fn tracestate_vectors() {
        let ok =
            |value: &str, want: &str| assert_eq!(state(value), Ok(Some(want.into())), "{value:?}");
        ok("foo=1", "foo=1");
        ok("foo=1,bar=2", "foo=1,bar=2");
        ok("foo=1 \t , \t bar=2, \t baz=3", "foo=1,bar=2,baz=3");
        ok("foo=1,", "foo=1");
        ok(",,foo=1,,bar=2", "foo=1,bar=2");
        ok("foo= 1", "foo= 1");
        ok("0foo=1", "0foo=1");
        ok("t_-*/@x=!~", "t_-*/@x=!~");
        ok("foo=1,foo=2", "foo=1");
        ok(
            &format!("{}=1", "z".repeat(256)),
            &format!("{}=1", "z".repeat(256)),
        );
        assert_eq!(state(""), Ok(None));
        assert_eq!(state(" , "), Ok(None));
        for bad in [
            "foo",
            "foo=",
            "=1",
            "foo =1",
            "FOO=1",
            "foo.bar=1",
            "foo=1=2",
            "foo=1;bar=2",
            "@foo=1",
            "foo=\u{7f}",
            "foo=é",
            "foo\t=1",
            "_foo=1",
        ] {
            assert_eq!(state(bad), Err(Refusal::State), "{bad:?}");
        }
        assert_eq!(
            state(&format!("{}=1", "z".repeat(257))),
            Err(Refusal::State)
        );
        assert_eq!(
            state(&format!("z={}", "1".repeat(257))),
            Err(Refusal::State)
        );
        let many = |n: usize| {
            (0..n)
                .map(|i| format!("k{i}=v"))
                .collect::<Vec<_>>()
                .join(",")
        };
        assert_eq!(state(&many(32)), Ok(Some(many(32))));
        assert_eq!(state(&many(33)), Err(Refusal::State));
    }

    #[test]
    fn long_tracestates_lose_long_entries_first() {
        let long = format!("long={}", "x".repeat(200));
        let short = |n: usize| {
            (0..n)
                .map(|i| format!("k{i:02}={}", "y".repeat(60)))
                .collect::<Vec<_>>()
                .join(",")
        };
        assert_eq!(state(&format!("{long},{}", short(5))), Ok(Some(short(5))));
        assert_eq!(state(&short(10)), Ok(Some(short(7))));
    }

    #[test]
    fn a_bad_state_spares_the_parent() {
        let carrier = Carrier {
            traceparent: smallvec::smallvec![format!("00-{TRACE}-{SPAN}-01").into()],
            tracestate: Some("foo=1,=2".into()),
            ..Default::default()
        };
        let found = extract(&carrier, &[Format::W3c]);
        assert_eq!(found.refused.as_slice(), [Refusal::State]);
        assert!(matches!(found.carried, Some(Carried::Context(c, _)) if c.state.is_none()));
    }

    #[test]
    fn the_order_asked_for_decides() {
        let carrier = Carrier {
            traceparent: smallvec::smallvec![format!("00-{TRACE}-{SPAN}-01").into()],
            b3: Some(format!("{}-{SPAN}-0", "1".repeat(32)).into()),
            ..Default::default()
        };
        let method = |formats: &[Format]| match extract(&carrier, formats).carried {
            Some(Carried::Context(_, method)) => Some(method),
            _ => None,
        };
        assert_eq!(
            method(&[Format::W3c, Format::B3]),
            Some(Method::TraceParent)
        );
        assert_eq!(method(&[Format::B3, Format::W3c]), Some(Method::B3));
        assert_eq!(method(&[]), None);
    }

    proptest! {
        #[test]
        fn any_text_ends(value in "\\PC*") {
            let _ = traceparent(&value);
            let _ = tracestate(&value);
        }

        #[test]
        fn what_is_written_is_read(trace in any::<[u8; 16]>(), span in any::<[u8; 8]>(), flags in 0u8..4) {
            prop_assume!(trace != [0; 16] && span != [0; 8]);
            let (trace, span) = (TraceId(trace), SpanId(span));
            let got = traceparent(&format!("00-{trace}-{span}-{flags:02x}"));
            prop_assert_eq!(got, Ok(Context { trace, span, flags: Some(flags), state: None }));
        }

        #[test]
        fn one_changed_character_is_never_another_id(at in 0usize..55, by in "[^0-9a-f]") {
            let good = format!("00-{TRACE}-{SPAN}-01");
            let bad: String = good.chars().enumerate().map(|(i, c)| if i == at { by.chars().next().unwrap() } else { c }).collect();
            prop_assert!(bad == good || traceparent(&bad).is_err());
        }

        #[test]
        fn a_state_that_is_kept_is_valid_and_short(value in "[a-z0-9=, @*]{0,700}") {
            if let Ok(Some(kept)) = tracestate(&value) {
                prop_assert!(kept.len() <= MAX_STATE);
                prop_assert_eq!(tracestate(&kept), Ok(Some(kept.clone())));
            }
        }
    }
}
