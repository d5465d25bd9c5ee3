//! Judges whose child each call is, where a front makes calls for the requests it serves and all of a
//! request's calls say its number (apps/causality): a request's path begins with `/SHAPE/NUMBER`, and a
//! call holds `call-NUMBER-WHICH` in its path, key or statement. Nobody who links spans reads these, so
//! they are the truth to hold links to. A request may be such a call itself. Where it is handed on, its
//! number is in the header [`HEADER`], which nobody reads either, of it and of the call.

use std::collections::{BTreeMap, BTreeSet};

use crate::expect::Score;
use crate::span::{Kind, Span};

/// What was done.
pub struct Done<'a> {
    /// The front's processes.
    pub front: &'a [u32],
    /// The first segment of the requests' paths.
    pub shape: &'a str,
    /// Requests that the front served.
    pub requests: usize,
    /// Calls it made for all of them.
    pub calls: usize,
}

/// Holds the number of a request that is handed on.
pub const HEADER: &str = "x-cause";

/// What a call's span holds besides.
pub(crate) const METHOD: &str = "spantap.link.method";

/// Counts calls (`calls`), those whose parent is the span of the request they were made for (`right`),
/// something else (`wrong`) or nothing (`none`), what linked those that have a parent (`by METHOD`, `right by METHOD`, `wrong by METHOD`), and
/// calls without a span (`unseen`). Calls for no request (`call-WORD…`) are wrong, or count apart (`nobody's`). Parents that are wrong are problems, as are requests and calls that
/// are unseen, calls that are seen twice, calls that the front answers as children of anything but
/// themselves, and traces that calls and requests of several numbers are in (`mixed` calls), whoever is
/// whose child.
pub fn judge(done: &Done<'_>, spans: &[Span]) -> Score {
    let mut score = Score::default();
    let of_front = |span: &&Span| span.pid().is_some_and(|pid| done.front.contains(&pid));
    let requests = spans.iter().filter(of_front);
    let requests = requests.filter(|span| span.kind == Kind::Server);
    // What one process of the front asks another it serves there.
    let served: BTreeMap<(Option<u32>, String), &Span> = requests
        .filter_map(|span| Some(((span.pid(), number(span, done.shape)?), span)))
        .collect();
    let mut seen = BTreeMap::new();
    let asks = spans.iter().filter(of_front);
    for span in asks.filter(|span| span.kind == Kind::Client) {
        let text = span.text("db.query.text").unwrap_or_else(|| target(span));
        let handed_on = header(span).map(|number| (number, "0".into()));
        let Some((number, which)) = handed_on.or_else(|| call(&text)) else {
            continue;
        };
        let said = (number.clone(), which);
        if seen.insert(said, span).is_some() {
            score.problems.push(format!("seen twice: {text}"));
            continue;
        }
        let nobodys = is_nobodys(&number);
        let server = served.get(&(span.pid(), number));
        let verdict = match &span.parent {
            None if nobodys => "nobody's",
            None => "none",
            Some(parent) if server.is_some_and(|s| s.id == *parent && s.trace == span.trace) => {
                "right"
            }
            Some(parent) => {
                let by = spans.iter().find(|span| span.id == *parent);
                let by = by.map_or_else(|| "a span that did not come".into(), Span::line);
                score.problems.push(format!("{text} is a child of {by}"));
                "wrong"
            }
        };
        *score.counts.entry(verdict.into()).or_default() += 1;
        if let Some(method) = span.text(METHOD) {
            for so in [format!("by {method}"), format!("{verdict} by {method}")] {
                *score.counts.entry(so).or_default() += 1;
            }
        }
    }
    score
        .problems
        .extend(served.values().filter_map(|answer| astray(answer, &seen)));
    let mixed = mixed(&served, &seen);
    score.counts.insert("mixed".into(), mixed.len());
    let mixed = mixed.into_iter();
    let mixed = mixed.map(|text| format!("{text} is in another request's trace"));
    score.problems.extend(mixed);
    let calls = seen.keys().filter(|said| !is_nobodys(&said.0)).count();
    let unseen = done.calls.saturating_sub(calls);
    for (what, of, got) in [
        ("calls", done.calls, calls),
        ("requests", done.requests, served.len()),
    ] {
        if got < of {
            let problem = format!("{} of {of} {what} have no span", of - got);
            score.problems.push(problem);
        }
    }
    for name in ["right", "wrong", "none"] {
        score.counts.entry(name.into()).or_default();
    }
    score.counts.insert("calls".into(), done.calls);
    score.counts.insert("unseen".into(), unseen);
    score
}

/// Whether a call is made for no request: its number begins with a word.
fn is_nobodys(number: &str) -> bool {
    !number.starts_with(|c: char| c.is_ascii_digit())
}

/// The calls that are in the trace of a request of another number.
fn mixed(
    served: &BTreeMap<(Option<u32>, String), &Span>,
    seen: &BTreeMap<(String, String), &Span>,
) -> Vec<String> {
    let mut of: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for ((_, number), span) in served {
        // A request may be another's call, whose number it has, and more.
        of.entry(&span.trace).or_default().insert(digits(number));
    }
    let other = |((number, _), span): &(&(String, String), &&Span)| {
        let numbers = of.get(span.trace.as_str());
        numbers.is_some_and(|numbers| numbers.iter().any(|its| *its != digits(number)))
    };
    let calls = seen.iter().filter(other);
    calls
        .map(|((number, which), _)| format!("call-{number}-{which}"))
        .collect()
}

fn digits(number: &str) -> &str {
    number.trim_end_matches(|c: char| !c.is_ascii_digit())
}

/// What is wrong with a call that the front answers itself.
fn astray(answer: &Span, seen: &BTreeMap<(String, String), &Span>) -> Option<String> {
    let target = target(answer);
    let asked = seen.get(&call(&target)?).map(|ask| (&ask.trace, &ask.id));
    let fine = asked == answer.parent.as_ref().map(|id| (&answer.trace, id));
    (!fine).then(|| format!("{target} is answered for another or for nobody"))
}

/// The number of a request.
fn number(served: &Span, shape: &str) -> Option<String> {
    header(served).or_else(|| request(&target(served), shape))
}

/// The path that is asked for, of a call of gRPC as well.
fn target(span: &Span) -> String {
    let method = span.text("rpc.method");
    method.map_or_else(|| span.target(), |method| format!("/{method}"))
}

/// The number of a request that is handed on.
pub fn header(span: &Span) -> Option<String> {
    let values = span
        .attributes
        .get(&format!("http.request.header.{HEADER}"))?;
    Some(values.as_array()?.first()?.as_str()?.into())
}

/// The number in a request's path.
fn request(path: &str, shape: &str) -> Option<String> {
    let rest = path.strip_prefix('/')?.strip_prefix(shape)?;
    let number = rest.strip_prefix('/')?.split('/').next()?;
    Some(number.into())
}

/// The request's number in what a call says, and which of its calls it is.
pub(crate) fn call(text: &str) -> Option<(String, String)> {
    let (_, rest) = text.split_once("call-")?;
    let (number, rest) = rest.split_once('-')?;
    let end = rest.find(|c: char| !c.is_ascii_digit());
    Some((number.into(), rest[..end.unwrap_or(rest.len())].into()))
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as Sent};

    use super::*;

    fn pair(key: &str, value: Value) -> KeyValue {
        KeyValue {
            key: key.into(),
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        }
    }

    /// A span of process 7; all are of one trace.
    fn span(kind: i32, id: u8, parent: Option<u8>, key: &str, text: &str) -> Sent {
        Sent {
            trace_id: vec![1; 16],
            span_id: vec![id; 8],
            parent_span_id: parent.map(|id| vec![id; 8]).unwrap_or_default(),
            kind,
            attributes: vec![pair(key, Value::StringValue(text.into()))],
            ..Sent::default()
        }
    }

    fn served(id: u8, number: u32) -> Sent {
        span(2, id, None, "url.path", &format!("/direct/{number}"))
    }

    /// The same in a trace of its own.
    fn apart(mut span: Sent) -> Sent {
        span.trace_id = vec![9; 16];
        span
    }

    fn judged(sent: Vec<Sent>, requests: usize, calls: usize) -> Score {
        let group = ResourceSpans {
            resource: Some(Resource {
                attributes: vec![pair("process.pid", Value::IntValue(7))],
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                spans: sent,
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        };
        let spans = crate::span::spans(ExportTraceServiceRequest {
            resource_spans: vec![group],
        });
        let done = Done {
            front: &[7],
            shape: "direct",
            requests,
            calls,
        };
        judge(&done, &spans)
    }

    fn count(score: &Score, name: &str) -> usize {
        score.counts.get(name).copied().unwrap_or_default()
    }

    #[test]
    fn a_call_is_the_child_of_the_request_with_its_number() {
        let url = "http://127.0.0.1:1/leaf/call-12-0";
        let mut child = span(3, 3, Some(2), "url.full", url);
        let method = Value::StringValue("thread".into());
        child.attributes.push(pair(METHOD, method));
        let score = judged(vec![apart(served(1, 1)), served(2, 12), child], 1, 1);
        assert_eq!(score.problems, Vec::<String>::new());
        assert_eq!([count(&score, "right"), count(&score, "by thread")], [1, 1]);
    }

    #[test]
    fn of_another_request_or_of_nothing_received_is_wrong() {
        let text = "GET call-12-0";
        for parent in [1, 9] {
            let child = span(3, 3, Some(parent), "db.query.text", text);
            let score = judged(vec![apart(served(1, 1)), served(2, 12), child], 1, 1);
            assert_eq!([count(&score, "wrong"), score.problems.len()], [1, 1]);
        }
        // Of nobody, in another request's trace.
        let root = apart(span(3, 3, None, "db.query.text", text));
        let score = judged(vec![apart(served(1, 1)), served(2, 12), root], 1, 1);
        assert_eq!([count(&score, "mixed"), score.problems.len()], [1, 1]);
        // The right span of another trace.
        let mut child = span(3, 3, Some(2), "db.query.text", text);
        child.trace_id = vec![5; 16];
        let score = judged(vec![served(2, 12), child], 1, 1);
        assert_eq!(count(&score, "wrong"), 1);
    }

    #[test]
    fn a_root_is_no_problem_and_a_call_without_a_span_is() {
        let child = |which: u8| {
            let text = format!("SELECT 'call-12-{which}'");
            span(3, 10 + which, None, "db.query.text", &text)
        };
        let score = judged(vec![served(2, 12), child(0), child(1)], 1, 2);
        assert_eq!(score.problems, Vec::<String>::new());
        assert_eq!([count(&score, "none"), count(&score, "calls")], [2, 2]);
        let score = judged(vec![served(2, 12), child(0)], 1, 2);
        assert_eq!([count(&score, "unseen"), score.problems.len()], [1, 1]);
        let score = judged(vec![child(0), child(0)], 1, 1);
        let problems = [
            "seen twice: SELECT 'call-12-0'",
            "1 of 1 requests have no span",
        ];
        assert_eq!(score.problems, problems);
    }

    #[test]
    fn what_is_for_no_request_has_no_parent() {
        let own = |parent| span(3, 3, parent, "db.query.text", "GET call-own7-0");
        let score = judged(vec![served(2, 12), apart(own(None))], 1, 1);
        let counts = ["none", "nobody's", "unseen"].map(|name| count(&score, name));
        assert_eq!(counts, [0, 1, 1]);
        let score = judged(vec![served(2, 12), own(Some(2))], 1, 0);
        assert_eq!([count(&score, "wrong"), count(&score, "mixed")], [1, 1]);
    }

    #[test]
    fn what_says_no_number_is_no_call() {
        let score = judged(vec![span(3, 1, Some(9), "db.query.text", "HELLO 3")], 0, 0);
        assert_eq!(score.problems, Vec::<String>::new());
        assert_eq!(call("/leaf/call-3-14?x"), Some(("3".into(), "14".into())));
        assert_eq!(request("/direct/3", "dir"), None);
        assert_eq!(request("/dir/3/call-1-2", "dir"), Some("3".into()));
    }

    #[test]
    fn a_request_of_the_front_itself_is_a_child_of_the_call() {
        let inner = |parent| {
            let path = "/direct/12again/call-12-0";
            span(2, 4, Some(parent), "url.path", path)
        };
        let outer = span(3, 3, Some(2), "url.path", "/direct/12again/call-12-0");
        let last = span(3, 5, Some(4), "url.path", "/leaf/call-12again-0");
        let all = |parent| vec![served(2, 12), outer.clone(), inner(parent), last.clone()];
        let score = judged(all(3), 2, 2);
        assert_eq!(score.problems, Vec::<String>::new());
        assert_eq!([count(&score, "right"), count(&score, "calls")], [2, 2]);
        assert_eq!(judged(all(2), 2, 2).problems.len(), 1);
    }
}
