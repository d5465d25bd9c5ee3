//! Which exchanges `watch` shows. Every kind of filter that is used must match; within one kind any
//! match is enough.

use std::time::Duration;

use super::globs;
use crate::config::Error;
use crate::config::cli::{Side, WatchArgs};
use crate::export::stdout::{call_status, code, method, path};
use crate::span::{Span, Status};
use crate::target::glob::Glob;

/// The filters of one `watch`.
#[derive(Debug, Default)]
pub struct Filter {
    slow: Duration,
    statuses: Vec<Wanted>,
    methods: Vec<String>,
    paths: Vec<Glob>,
    inbound: Option<bool>,
}

/// A status wanted.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// Codes from one to another.
    Codes(i64, i64),
    /// A status of gRPC, by name.
    Name(String),
    /// Any error, with or without a code.
    Error,
}

impl Filter {
    /// Reads the filters as typed.
    pub fn new(args: &WatchArgs) -> Result<Self, Error> {
        let statuses = args.status.iter().map(|text| {
            let wanted = wanted(text.trim());
            wanted.ok_or_else(|| {
                let forms = "404, 1xx to 5xx, 400-499, NOT_FOUND or error";
                Error(format!("--status: expected {forms}, got `{text}`"))
            })
        });
        if let Some(why) = args.path.iter().find_map(|glob| globs::fault(glob)) {
            return Err(Error(format!("--path: {why}")));
        }
        Ok(Self {
            slow: args.slow.unwrap_or_default(),
            statuses: statuses.collect::<Result<_, _>>()?,
            methods: args.method.clone(),
            paths: args.path.iter().map(|glob| Glob::of_path(glob)).collect(),
            inbound: args.side.map(|side| match side {
                Side::Server => true,
                Side::Client => false,
            }),
        })
    }

    /// Whether a span is shown.
    pub fn matches(&self, span: &Span) -> bool {
        let took = Duration::from_nanos(span.end.saturating_sub(span.start));
        took >= self.slow
            && self.inbound.is_none_or(|it| it == span.kind.is_inbound())
            && any(&self.statuses, |wanted| match wanted {
                Wanted::Error => matches!(span.status, Status::Error(_)),
                Wanted::Name(name) => call_status(span).is_some_and(|s| s == name.as_str()),
                Wanted::Codes(from, to) => code(span).is_some_and(|c| (*from..=*to).contains(&c)),
            })
            && any(&self.methods, |wanted| {
                method(span).is_some_and(|m| m.eq_ignore_ascii_case(wanted))
            })
            && any(&self.paths, |glob| {
                path(span).is_some_and(|p| glob.matches(&p))
            })
    }
}

fn any<T>(all: &[T], test: impl Fn(&T) -> bool) -> bool {
    all.is_empty() || all.iter().any(test)
}

fn wanted(text: &str) -> Option<Wanted> {
    if text.eq_ignore_ascii_case("error") {
        return Some(Wanted::Error);
    }
    let code = |text: &str| {
        let number = text.parse::<i64>().ok();
        number.filter(|code| (100..=999).contains(code))
    };
    if let Some((from, to)) = text.split_once('-') {
        let (from, to) = (code(from)?, code(to)?);
        return (from <= to).then_some(Wanted::Codes(from, to));
    }
    let class = text.strip_suffix("xx").or_else(|| text.strip_suffix("XX"));
    if let Some(class) = class {
        // RFC 9110, 15: there are five. Single codes beyond them are in use.
        let &[class @ b'1'..=b'5'] = class.as_bytes() else {
            return None;
        };
        let from = i64::from(class - b'0') * 100;
        return Some(Wanted::Codes(from, from + 99));
    }
    let name = |b: u8| b.is_ascii_uppercase() || b == b'_';
    if !text.is_empty() && text.bytes().all(name) {
        return Some(Wanted::Name(text.to_owned()));
    }
    code(text).map(|code| Wanted::Codes(code, code))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::config::cli::{Cli, Command};
    use crate::export::text::tests::server;

    fn filter(flags: &[&str]) -> Result<Filter, Error> {
        let words = ["spantap", "watch"].iter().chain(flags);
        match Cli::parse_from(words).command {
            Command::Watch(args) => Filter::new(&args),
            _ => Ok(Filter::default()),
        }
    }

    #[test]
    fn each_filter_lets_through_what_it_says() {
        // The span: server, POST /cart/17, 200, 41.2 ms.
        for (flags, shown) in [
            (&[][..], true),
            (&["--slow", "41ms"], true),
            (&["--slow", "42ms"], false),
            (&["--status", "200"], true),
            (&["--status", "2xx"], true),
            (&["--status", "404,100-299"], true),
            (&["--status", "4xx,error"], false),
            (&["--method", "get,post"], true),
            (&["--method", "GET"], false),
            (&["--path", "/cart/*"], true),
            (&["--path", "/x", "--path", "/**"], true),
            (&["--path", "/*"], false),
            (&["--side", "server"], true),
            (&["--side", "client"], false),
            (&["--side", "server", "--slow", "1s"], false),
        ] {
            let filter = filter(flags).expect("they are right");
            assert_eq!(filter.matches(&server()), shown, "{flags:?}");
        }
    }

    #[test]
    fn statuses_that_are_none_are_refused() {
        for bad in [
            "6", "xx", "500-400", "fast", "5xxx", "1000", "9xx", "0xx", "6XX", "05xx",
        ] {
            let error = filter(&["--status", bad]).expect_err("it is not a status");
            assert!(error.0.contains(bad), "{error}");
        }
        let error = filter(&["--path", "/**", "--path", "/["]).expect_err("it is not a glob");
        assert!(error.0.starts_with("--path: `/[`"), "{error}");
    }
}
