//! Judges whose children server spans are, where the programs of a chain are traced by agents that share
//! nothing: each hop is a call of one program to another, and all calls made for one request say its number,
//! as [`crate::cause`] has it. What answers a call is to be a child of that very call, in its trace.

use std::collections::{BTreeMap, BTreeSet};

use crate::cause::{METHOD, call, header};
use crate::expect::{Counts, Score, sum};
use crate::span::{Kind, Span};

/// Calls of one program to another, one for each request.
pub struct Hop<'a> {
    /// In counts and problems.
    pub name: &'a str,
    /// Processes of who calls.
    pub from: &'a [u32],
    /// Processes of who answers.
    pub to: &'a [u32],
    /// `db.system.name` of both; none where they speak HTTP.
    pub store: Option<&'a str>,
}

/// Counts calls (`calls`), those whose answer is a child of the call (`right`), of something else or in
/// another trace (`wrong`) or of nothing (`none`), by what means those that are a child of anything are
/// (`by METHOD`), and calls of which a span is missing (`unseen`): of all hops, and of each as a part. Of
/// `requests` those are `whole` all of whose spans are of one trace, and those `mixed` that have a span, be it
/// nobody's child, in a trace that another has one in. What is wrong, unseen or mixed is a problem, and so is
/// what is seen twice.
pub fn judge(hops: &[Hop<'_>], requests: usize, spans: &[Span]) -> Score {
    let mut score = Score::default();
    let mut traces: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for hop in hops {
        let asked = hop.side(Kind::Client, spans, &mut score.problems);
        let answered = hop.side(Kind::Server, spans, &mut score.problems);
        let mut counts = Counts::from(VERDICTS.map(|verdict| (verdict.into(), 0)));
        for number in (0..requests).map(|number| number.to_string()) {
            let both = asked.get(&number).zip(answered.get(&number));
            let verdict = both.map_or("unseen", |(ask, answer)| verdict(ask, answer));
            let method = both.filter(|(_, answer)| answer.parent.is_some());
            let method = method.and_then(|(_, answer)| answer.text(METHOD));
            let method = method.map(|method| format!("by {method}"));
            let of_call = [verdict.into(), "calls".into()].into_iter().chain(method);
            of_call.for_each(|name| *counts.entry(name).or_default() += 1);
            if matches!(verdict, "wrong" | "unseen") {
                let problem = format!("{}, request {number}: {verdict}", hop.name);
                score.problems.push(problem);
            }
            let of = both.map_or(MISSING, |(ask, answer)| [&ask.trace, &answer.trace]);
            traces.entry(number).or_default().extend(of);
        }
        sum(&mut score.counts, &counts);
        score.parts.insert(hop.name.into(), counts);
    }
    let whole = traces.values().filter(|traces| traces.len() == 1).count();
    let mixed = mixed(&traces);
    let named = [
        ("whole", whole),
        ("mixed", mixed.len()),
        ("requests", requests),
    ];
    score
        .counts
        .extend(named.map(|(name, count)| (name.to_owned(), count)));
    let problems = mixed.into_iter();
    let problems = problems.map(|number| format!("request {number}: a trace is another's too"));
    score.problems.extend(problems);
    score
}

/// The requests that have a trace in common with another.
fn mixed<'a>(traces: &'a BTreeMap<String, BTreeSet<&str>>) -> Vec<&'a str> {
    let mut had: BTreeMap<&str, usize> = BTreeMap::new();
    for trace in traces.values().flatten() {
        *had.entry(trace).or_default() += 1;
    }
    let shared = |trace: &&str| !MISSING.contains(trace) && had[trace] > 1;
    let mixed = traces.iter().filter(|(_, its)| its.iter().any(shared));
    mixed.map(|(number, _)| number.as_str()).collect()
}

/// Traces of a call of which a span is missing, that may be of any: two, so that it is not of one.
const MISSING: [&str; 2] = ["", "?"];

/// What a call can come to.
const VERDICTS: [&str; 4] = ["right", "wrong", "none", "unseen"];

impl Hop<'_> {
    /// The spans of one side of the calls, by the number of the request that each is made for.
    fn side<'s>(
        &self,
        kind: Kind,
        spans: &'s [Span],
        problems: &mut Vec<String>,
    ) -> BTreeMap<String, &'s Span> {
        let pids = match kind {
            Kind::Client => self.from,
            _ => self.to,
        };
        let of_side = |span: &&Span| {
            span.kind == kind
                && span.text("db.system.name").as_deref() == self.store
                && span.pid().is_some_and(|pid| pids.contains(&pid))
        };
        let mut side = BTreeMap::new();
        for span in spans.iter().filter(of_side) {
            let number = match self.store {
                None => header(span),
                Some(_) => in_query(span),
            };
            if number.is_some_and(|number| side.insert(number, span).is_some()) {
                problems.push(format!("{}: seen twice: {}", self.name, span.line()));
            }
        }
        side
    }
}

/// The number of the request that a store is asked for.
fn in_query(span: &Span) -> Option<String> {
    let (number, _) = call(&span.text("db.query.text")?)?;
    Some(number)
}

fn verdict(ask: &Span, answer: &Span) -> &'static str {
    match &answer.parent {
        None => "none",
        Some(parent) if *parent == ask.id && answer.trace == ask.trace => "right",
        Some(_) => "wrong",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    /// A span of a process, said to be of the request with that number, in its trace.
    fn span(kind: Kind, pid: u32, id: &str, parent: Option<&str>, number: u32) -> Span {
        let header = (
            "http.request.header.x-cause".into(),
            json!([number.to_string()]),
        );
        Span {
            trace: format!("t{number}"),
            id: id.into(),
            parent: parent.map(Into::into),
            state: String::new(),
            flags: 0,
            kind,
            name: String::new(),
            start: 0,
            end: 0,
            error: false,
            ok: false,
            message: String::new(),
            attributes: BTreeMap::from([header]),
            resource: BTreeMap::from([("process.pid".into(), json!(pid))]),
            schema: String::new(),
            scope: String::new(),
            events: Vec::new(),
            links: Vec::new(),
            repeated: Vec::new(),
        }
    }

    fn ask(id: &str, number: u32) -> Span {
        span(Kind::Client, 1, id, None, number)
    }

    fn answer(parent: Option<&str>, number: u32) -> Span {
        span(Kind::Server, 2, "s", parent, number)
    }

    fn judged(requests: usize, spans: &[Span]) -> Score {
        let hop = Hop {
            name: "a>b",
            from: &[1],
            to: &[2],
            store: None,
        };
        judge(&[hop], requests, spans)
    }

    #[test]
    fn an_answer_is_to_be_a_child_of_its_very_call() {
        let both = [
            ask("a", 0),
            ask("b", 1),
            answer(Some("a"), 0),
            answer(Some("b"), 1),
        ];
        let score = judged(2, &both);
        let counts = ["calls", "right", "whole"].map(|name| score.counts[name]);
        assert_eq!((counts, score.problems.len()), ([2; 3], 0));
        assert_eq!(score.parts["a>b"]["right"], 2);
        let crossed = [
            ask("a", 0),
            ask("b", 1),
            answer(Some("b"), 0),
            answer(Some("c"), 1),
        ];
        let score = judged(2, &crossed);
        assert_eq!([score.counts["wrong"], score.problems.len()], [2, 2]);
        // The right span in another trace.
        let mut other = answer(Some("a"), 0);
        other.trace = "u".into();
        let score = judged(1, &[ask("a", 0), other]);
        assert_eq!([score.counts["wrong"], score.counts["whole"]], [1, 0]);
    }

    #[test]
    fn a_root_is_no_problem_and_its_trace_another() {
        let mut root = answer(None, 0);
        root.trace = "u".into();
        let score = judged(1, &[ask("a", 0), root]);
        assert_eq!([score.counts["none"], score.counts["whole"]], [1, 0]);
        assert_eq!(score.problems, Vec::<String>::new());
    }

    #[test]
    fn no_two_requests_have_a_trace_in_common() {
        let mut spans = [0, 1].map(|number| [ask("a", number), answer(None, number)]);
        assert_eq!(judged(2, &spans.concat()).counts["mixed"], 0);
        // A root of the second in the trace of the first.
        spans[1][1].trace = "t0".into();
        let score = judged(2, &spans.concat());
        assert_eq!([score.counts["mixed"], score.problems.len()], [2, 2]);
        assert_eq!(judged(3, &spans[0]).counts["mixed"], 0);
    }

    #[test]
    fn what_is_missing_or_there_twice_is_told() {
        let score = judged(
            2,
            &[ask("a", 0), answer(Some("a"), 0), answer(Some("b"), 1)],
        );
        assert_eq!([score.counts["unseen"], score.counts["whole"]], [1, 1]);
        assert_eq!(score.problems, ["a>b, request 1: unseen"]);
        let score = judged(1, &[ask("a", 0), ask("b", 0), answer(Some("b"), 0)]);
        assert_eq!(score.problems.len(), 1);
    }
}
