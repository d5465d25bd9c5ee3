//! A span as one line for people: when, who, which side, with whom, what, how it went, how long,
//! what links it, and what must be known of it. Columns are aligned and fit the terminal, where cells
//! are cut for it; elsewhere a cell that is too long pushes its neighbours. Nothing from
//! the wire reaches a terminal as a control character.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::text::{self, Clock};
use crate::protocol::Value;
use crate::say::{cut, printable};
use crate::span::{Span, SpanKind, Status, semconv};

/// How lines look: their colours and columns.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    color: bool,
    /// Width of each column; None for one that is left out.
    widths: [Option<usize>; COLUMNS.len()],
    /// Width of the terminal, where cells are cut to their columns.
    terminal: Option<usize>,
}

impl Table {
    /// For a terminal of `width` columns, or for what is none.
    pub fn new(color: bool, width: Option<usize>) -> Self {
        let widths = COLUMNS.map(|(_, width)| Some(width));
        Self {
            color,
            widths: width.map_or(widths, |width| fit(widths, width)),
            terminal: width,
        }
    }

    /// The line that names the columns, without its end.
    pub fn header(&self) -> String {
        let cells = COLUMNS.map(|(name, _)| Cell::plain(name));
        let mut names = self.row(&cells, false);
        // What stands behind the last column may go over the edge, its name need not.
        if self
            .terminal
            .is_some_and(|most| names.chars().count() > most)
        {
            names.truncate(names.trim_end_matches(COLUMNS[NOTES].0).trim_end().len());
        }
        match self.color {
            true => format!("{BOLD}{names}{RESET}"),
            false => names,
        }
    }

    /// The line, without its end.
    pub fn line(&self, span: &Span) -> String {
        let (side, tint) = match span.kind {
            SpanKind::Server | SpanKind::Consumer => (span.kind.name(), BLUE),
            SpanKind::Client | SpanKind::Producer => (span.kind.name(), MAGENTA),
        };
        let status = status(span);
        let cells = [
            Cell::tinted(Clock(span.start).to_string(), DIM),
            Cell::plain(process(span, self.room(PROCESS))),
            Cell::tinted(side, tint),
            Cell::plain(peer(span, self.room(PEER).unwrap_or(LONGEST_PEER))),
            Cell::plain(call(span)).cut(self.room(CALL).unwrap_or(usize::MAX)),
            Cell::tinted(status.as_str(), status_tint(span, &status)),
            Cell::plain(took(span.end.saturating_sub(span.start))),
            Cell::plain(first_byte(span)),
            Cell::tinted(link(span), DIM),
            Cell::tinted(notes(span), YELLOW),
        ];
        self.row(&cells, self.color)
    }

    /// What a cell is cut to, if it is cut.
    fn room(&self, column: usize) -> Option<usize> {
        self.widths
            .get(column)
            .copied()
            .flatten()
            .filter(|_| self.terminal.is_some())
    }

    /// Puts each cell in its column, or two blanks after the one before where that was too long.
    fn row(&self, cells: &[Cell; COLUMNS.len()], color: bool) -> String {
        let mut out = String::with_capacity(160);
        let (mut at, mut column) = (0, 0);
        for (cell, width) in cells.iter().zip(self.widths) {
            let Some(width) = width else {
                continue;
            };
            if at > 0 {
                let blanks = column.max(at + 2) - at;
                out.extend(std::iter::repeat_n(' ', blanks));
                at += blanks;
            }
            match color && !cell.tint.is_empty() && !cell.text.is_empty() {
                true => {
                    let _ = write!(out, "{}{}{RESET}", cell.tint, cell.text);
                }
                false => out.push_str(&cell.text),
            }
            at += cell.text.chars().count();
            column += width + 2;
        }
        out.truncate(out.trim_end().len());
        out
    }
}

/// The columns in a terminal of this width. Where they are too many, those for texts are narrower,
/// then TTFB and LINK are left out; what is left over, NOTES aside, is CALL's.
fn fit(mut widths: [Option<usize>; COLUMNS.len()], terminal: usize) -> [Option<usize>; 10] {
    let whole = |widths: &[Option<usize>]| {
        let each = widths.iter().take(NOTES).flatten();
        each.map(|width| width + 2).sum::<usize>() - 2
    };
    for (column, least) in [(CALL, 16), (PEER, 9), (PROCESS, 12)] {
        let over = whole(&widths).saturating_sub(terminal);
        if let Some(Some(width)) = widths.get_mut(column) {
            *width -= over.min(width.saturating_sub(least));
        }
    }
    for column in [TTFB, LINK] {
        if whole(&widths) > terminal
            && let Some(width) = widths.get_mut(column)
        {
            *width = None;
        }
    }
    let left = terminal.saturating_sub(whole(&widths));
    if let Some(Some(width)) = widths.get_mut(CALL) {
        *width = (*width + left).min(WIDEST_CALL).max(*width);
    }
    widths
}

struct Cell {
    text: String,
    tint: &'static str,
}

impl Cell {
    fn plain(text: impl Into<String>) -> Self {
        Self::tinted(text, "")
    }

    fn tinted(text: impl Into<String>, tint: &'static str) -> Self {
        Self {
            text: printable(text.into()),
            tint,
        }
    }

    fn cut(self, most: usize) -> Self {
        Self {
            text: cut(self.text, most),
            ..self
        }
    }
}

/// Names and widths.
const COLUMNS: [(&str, usize); 10] = [
    ("TIME (UTC)", 12),
    ("PROCESS", 20),
    ("SIDE", 6),
    ("PEER", 21),
    ("CALL", 36),
    ("STATUS", 6),
    ("TOTAL", 7),
    ("TTFB", 7),
    ("LINK", 11),
    ("NOTES", 0),
];

const PROCESS: usize = 1;
const PEER: usize = 3;
const CALL: usize = 4;
const TTFB: usize = 7;
const LINK: usize = 8;
const NOTES: usize = 9;
/// Widest that CALL becomes on a wide terminal: notes want room too.
const WIDEST_CALL: usize = 60;
/// Characters of a peer's name at most, wherever the line goes.
const LONGEST_PEER: usize = 60;

/// The pod or, in none, the program, and its process id; `room` is for both.
fn process(span: &Span, room: Option<usize>) -> String {
    let pod = text::find(&span.resource.attributes, "k8s.pod.name");
    let name = pod.unwrap_or_else(|| match &*span.resource.program {
        "" => span.resource.service().into(),
        program => program.into(),
    });
    let id = format!("[{}]", span.process);
    kept(name.into_owned(), &id, room.unwrap_or(usize::MAX))
}

/// The other end: who asked, or who was asked; where it is too long, its name is cut and not its port.
fn peer(span: &Span, most: usize) -> String {
    let names: [(&str, &str); 2] = match span.kind {
        SpanKind::Server => [
            (semconv::NETWORK_PEER_ADDRESS, semconv::NETWORK_PEER_PORT),
            (semconv::CLIENT_ADDRESS, semconv::CLIENT_PORT),
        ],
        SpanKind::Client | SpanKind::Producer | SpanKind::Consumer => [
            (semconv::SERVER_ADDRESS, semconv::SERVER_PORT),
            (semconv::NETWORK_PEER_ADDRESS, semconv::NETWORK_PEER_PORT),
        ],
    };
    let found = names.into_iter().find_map(|(address, port)| {
        let address = text::find(&span.attributes, address)?;
        let port = text::find(&span.attributes, port);
        let address = match port.is_some() && address.contains(':') {
            true => format!("[{address}]"),
            false => address.into_owned(),
        };
        Some((
            address,
            port.map_or_else(String::new, |port| format!(":{port}")),
        ))
    });
    match found {
        Some((address, port)) => kept(address, &port, most),
        None => "-".into(),
    }
}

/// Both in `most` characters: what is too long of the first is cut.
fn kept(text: String, end: &str, most: usize) -> String {
    let room = most.saturating_sub(end.chars().count()).max(3);
    cut(printable(text), room) + end
}

/// Method and path of plain HTTP; what is spoken over it has a name of its own, as all else has.
fn call(span: &Span) -> String {
    let Some(method) = method(span).filter(|_| is_plain(span)) else {
        return span.name.clone().into_owned();
    };
    let keys = [semconv::HTTP_ROUTE, semconv::URL_TEMPLATE];
    let route = keys
        .into_iter()
        .find_map(|k| text::find(&span.attributes, k));
    match route.map(Into::into).or_else(|| path(span)) {
        Some(what) => format!("{method} {what}"),
        None => method,
    }
}

/// Whether the span is named by its method: `GET /cart/{id}`, `GET`, or `HTTP` where nobody knows it.
fn is_plain(span: &Span) -> bool {
    let first = span.name.split(' ').next().unwrap_or_default();
    let known = text::find(&span.attributes, semconv::HTTP_REQUEST_METHOD);
    first == "HTTP" || known.is_some_and(|known| known == first)
}

/// The method as it was sent.
pub fn method(span: &Span) -> Option<String> {
    let keys = [
        semconv::HTTP_REQUEST_METHOD_ORIGINAL,
        semconv::HTTP_REQUEST_METHOD,
    ];
    let found = keys
        .into_iter()
        .find_map(|k| text::find(&span.attributes, k));
    found.map(Into::into)
}

/// The path asked for, without its query; of a client span, from its URL.
pub fn path(span: &Span) -> Option<String> {
    if let Some(path) = text::find(&span.attributes, semconv::URL_PATH) {
        return Some(path.into_owned());
    }
    let url = text::find(&span.attributes, semconv::URL_FULL)?;
    let rest = url.split_once("://").map_or(&*url, |(_, rest)| rest);
    let path = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/");
    path.split(['?', '#']).next().map(str::to_owned)
}

/// The status code, where there is one.
pub fn code(span: &Span) -> Option<i64> {
    let mut all = span.attributes.iter();
    let found = all.find(|a| a.key == semconv::HTTP_RESPONSE_STATUS_CODE)?;
    match found.value {
        Value::Int(code) => Some(code),
        _ => None,
    }
}

/// How a call of gRPC went, by name.
pub fn call_status(span: &Span) -> Option<Cow<'_, str>> {
    text::find(&span.attributes, semconv::RPC_RESPONSE_STATUS_CODE)
}

fn status(span: &Span) -> String {
    if let Some(name) = call_status(span) {
        return name.into_owned();
    }
    if let Some(code) = code(span) {
        return code.to_string();
    }
    if let Some(code) = text::find(&span.attributes, semconv::DB_RESPONSE_STATUS_CODE) {
        return code.into_owned();
    }
    match (
        text::find(&span.attributes, semconv::ERROR_TYPE),
        &span.status,
    ) {
        (Some(kind), _) => kind.into_owned(),
        (None, Status::Error(_)) => "error".into(),
        (None, Status::Unset) => "-".into(),
    }
}

fn status_tint(span: &Span, status: &str) -> &'static str {
    match (status.bytes().next(), &span.status) {
        _ if status == "OK" => GREEN,
        (Some(b'4'), _) => YELLOW,
        (_, Status::Error(_)) => RED,
        (Some(b'2'), _) => GREEN,
        (Some(b'3'), _) => CYAN,
        _ => "",
    }
}

/// Nanoseconds with three digits or so.
fn took(nanos: u64) -> String {
    let value = nanos as f64;
    let (value, unit) = match nanos {
        0..1_000 => return format!("{nanos}ns"),
        1_000..1_000_000 => (value / 1e3, "us"),
        1_000_000..1_000_000_000 => (value / 1e6, "ms"),
        _ => (value / 1e9, "s"),
    };
    match value {
        v if v < 10.0 => format!("{v:.2}{unit}"),
        v if v < 100.0 => format!("{v:.1}{unit}"),
        v => format!("{v:.0}{unit}"),
    }
}

fn first_byte(span: &Span) -> String {
    let mut all = span.attributes.iter();
    match all.find(|a| a.key == semconv::TIME_TO_FIRST_BYTE) {
        Some(a) => match a.value {
            Value::Double(seconds) => took((seconds * 1e9).round().max(0.0) as u64),
            _ => "-".into(),
        },
        None => "-".into(),
    }
}

fn link(span: &Span) -> String {
    match &span.parent {
        None => "root".into(),
        Some(parent) if parent.confidence < 1.0 => {
            format!("{} {:.2}", parent.method.name(), parent.confidence)
        }
        Some(parent) => parent.method.name().into(),
    }
}

/// What must be known before the rest of the line is believed.
fn notes(span: &Span) -> String {
    let mut notes: Vec<String> = Vec::new();
    for attribute in &span.attributes {
        let Some(name) = attribute.key.strip_prefix("spantap.") else {
            continue;
        };
        match (name, &attribute.value) {
            ("complete", Value::Bool(false)) => notes.push("incomplete".into()),
            ("upgraded", Value::Bool(true)) => notes.push("upgraded".into()),
            // Bodies left out on purpose: nothing a reader needs to know.
            ("missing.budget", _) => {}
            ("suspicious" | "malformed", value) => {
                notes.push(format!("{name}: {}", text::show(value)));
            }
            (_, value) => {
                if let Some(cause) = name.strip_prefix("missing.") {
                    notes.push(format!("{} B missing ({cause})", text::show(value)));
                }
            }
        }
    }
    let events = span.events.iter();
    notes.extend(events.map(|e| e.name.trim_start_matches("spantap.").to_owned()));
    if code(span).is_some()
        && let Some(kind) = text::find(&span.attributes, semconv::ERROR_TYPE)
        && !kind.bytes().all(|b| b.is_ascii_digit())
        && kind != status(span)
    {
        notes.push(kind.into_owned());
    }
    notes.join(", ")
}

const RESET: &str = "\x1b[0m";
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const BLUE: &str = "\x1b[34m";
const MAGENTA: &str = "\x1b[35m";
const CYAN: &str = "\x1b[36m";

#[cfg(test)]
mod tests {
    use super::super::text::tests::{server, with};
    use super::*;
    use crate::protocol::Attribute;
    use crate::span::SpanEvent;
    use crate::trace::{Method, Parent, SpanId};

    fn plain() -> Table {
        Table::new(false, None)
    }

    #[test]
    fn a_line_stands_under_its_header() {
        let mut span = server();
        assert_eq!(
            format!("{}\n{}\n", plain().header(), plain().line(&span)),
            "\
TIME (UTC)    PROCESS               SIDE    PEER                   CALL                                  STATUS  TOTAL    TTFB     LINK         NOTES
12:01:07.412  cart[8812]            server  10.0.0.3:51422         POST /cart/{id}                       200     41.2ms   40.6ms   root
"
        );
        span.parent = Some(Parent {
            span: SpanId([1; 8]),
            remote: false,
            method: Method::Thread,
            confidence: 0.9,
        });
        assert!(plain().line(&span).ends_with("40.6ms   thread 0.90"));
    }

    #[test]
    fn a_long_cell_is_whole_and_the_columns_after_it_recover() {
        let span = with(
            "http.route",
            Value::Str("/a/very/long/route/of/fifty/letters/or/more/still".into()),
        );
        let text = plain().line(&span);
        assert!(text.contains("/or/more/still  200  41.2ms"), "{text}");
    }

    #[test]
    fn lines_fit_the_terminal() {
        let mut span = with(
            "http.route",
            Value::Str("/a/very/long/route/of/fifty/letters/or/more/still".into()),
        );
        span.attributes
            .retain(|a| a.key != "network.peer.address" && a.key != "network.peer.port");
        span.attributes.push(Attribute {
            key: "client.address".into(),
            value: Value::Str("x".repeat(120).into()),
        });
        for width in [80, 100, 120, 144, 200] {
            let table = Table::new(false, Some(width));
            for text in [table.header(), table.line(&span)] {
                assert!(text.chars().count() <= width, "{width}: {text}");
            }
        }
        let narrow = Table::new(false, Some(80));
        assert_eq!(
            format!("{}\n{}\n", narrow.header(), narrow.line(&span)),
            "\
TIME (UTC)    PROCESS       SIDE    PEER       CALL              STATUS  TOTAL
12:01:07.412  cart[8812]    server  xxxxxxxx…  POST /a/very/lo…  200     41.2ms
"
        );
        let text = narrow.line(&server());
        assert!(text.contains("server  10…:51422  POST"), "{text}");
        // What is no terminal gets everything but a peer's endless name.
        let whole = plain().line(&span);
        assert!(whole.contains("/or/more/still"), "{whole}");
        assert!(whole.contains("xxx…  POST"), "{whole}");
    }

    #[test]
    fn a_pods_process_goes_by_the_pod() {
        let mut span = server();
        let resource = std::sync::Arc::make_mut(&mut span.resource);
        resource.attributes.push(Attribute {
            key: "k8s.pod.name".into(),
            value: Value::Str("front-6bd65fb88c-x2x".into()),
        });
        let text = plain().line(&span);
        assert!(
            text.contains("  front-6bd65fb88c-x2x[8812]  server"),
            "{text}"
        );
        let narrow = Table::new(false, Some(80)).line(&span);
        assert!(narrow.contains("  front…[8812]  server"), "{narrow}");
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        let mut span = with("http.route", Value::Str("/\x1b[31m\n\u{9b}x".into()));
        span.process = 1;
        let text = plain().line(&span);
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert!(text.contains("/\\x1b[31m\\x0a\\x9bx"), "{text}");
    }

    #[test]
    fn colour_changes_nothing_but_colour() {
        let span = server();
        let colored = Table::new(true, None).line(&span);
        assert!(colored.contains("\x1b[32m200\x1b[0m"));
        let mut bare = String::new();
        let mut rest = colored.as_str();
        while let Some((before, after)) = rest.split_once('\x1b') {
            bare.push_str(before);
            rest = after.split_once('m').map_or("", |(_, r)| r);
        }
        bare.push_str(rest);
        assert_eq!(bare.trim_end(), plain().line(&span));
    }

    #[test]
    fn what_is_missing_is_noted() {
        let mut span = server();
        span.attributes
            .retain(|a| a.key != "http.response.status_code");
        for (key, value) in [
            ("error.type", Value::Str("timeout".into())),
            ("spantap.complete", Value::Bool(false)),
            ("spantap.missing.lost", Value::Int(12)),
            ("spantap.missing.budget", Value::Int(9)),
        ] {
            span.attributes.push(Attribute {
                key: key.into(),
                value,
            });
        }
        span.events.push(SpanEvent {
            name: "spantap.reset".into(),
            time: span.end,
            attributes: Vec::new(),
        });
        let text = plain().line(&span);
        assert!(text.contains("timeout  41.2ms"), "{text}");
        assert!(
            text.ends_with("incomplete, 12 B missing (lost), reset"),
            "{text}"
        );
    }

    #[test]
    fn a_client_span_shows_whom_it_asked_and_the_path_of_its_url() {
        let mut span = server();
        span.kind = SpanKind::Client;
        span.name = "GET".into();
        span.attributes = [
            ("http.request.method", Value::Str("GET".into())),
            ("url.full", Value::Str("http://shop:8080/a/b?q=1".into())),
            ("server.address", Value::Str("fe80::1".into())),
            ("server.port", Value::Int(8080)),
        ]
        .map(|(key, value)| Attribute {
            key: key.into(),
            value,
        })
        .into();
        let text = plain().line(&span);
        assert!(
            text.contains("client  [fe80::1]:8080         GET /a/b  "),
            "{text}"
        );
    }

    #[test]
    fn what_is_spoken_over_http_is_shown_by_its_name() {
        for (name, method, shown) in [
            ("query Cart", "POST", "query Cart"),
            ("search orders", "POST", "search orders"),
            ("S3/GetObject", "GET", "S3/GetObject"),
            ("POST /cart/{id}", "POST", "POST /cart/{id}"),
            ("POST", "POST", "POST /cart/{id}"),
            ("HTTP", "_OTHER", "_OTHER /cart/{id}"),
        ] {
            let mut span = with("http.request.method", Value::Str(method.into()));
            span.name = name.into();
            assert_eq!(call(&span), shown, "{name}");
        }
    }

    #[test]
    fn durations_have_three_digits() {
        for (nanos, text) in [
            (999, "999ns"),
            (1_500, "1.50us"),
            (41_200_000, "41.2ms"),
            (412_000_000, "412ms"),
            (61_000_000_000, "61.0s"),
        ] {
            assert_eq!(took(nanos), text);
        }
    }
}
