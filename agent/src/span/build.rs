//! The rules of the semantic conventions: names, kinds, statuses, and which side says what.
//! Source: HTTP, database and messaging spans, <https://opentelemetry.io/docs/specs/semconv/> (1.42.0).

use std::borrow::Cow;
use std::sync::Arc;

use super::place::{self, find, string};
use super::route::{Routed, Routes, Seen};
use super::{Resource, Span, SpanEvent, SpanKind, Status, semconv};
use crate::config;
use crate::event::{Ending, Hole, Nanos, Role};
use crate::exchange::{Exchange, Outcome};
use crate::protocol::{Attribute, Attributes, Fault, Finish, Kind, Value, hands_on_http};
use crate::stats::Stats;
use crate::trace::{Linked, RANDOM, SAMPLED};

/// Makes spans; remembers the routes of each service.
#[derive(Debug)]
pub struct Builder {
    routes: Routes,
    stats: Arc<Stats>,
}

impl Builder {
    /// As configured.
    pub fn new(config: &config::Route, stats: Arc<Stats>) -> Self {
        Self {
            routes: Routes::new(config),
            stats,
        }
    }

    /// The span of an exchange that is to be kept (its sampled flag is set). `clock` maps
    /// CLOCK_MONOTONIC to Unix time, both in nanoseconds.
    pub fn build(
        &mut self,
        linked: Linked,
        resource: &Arc<Resource>,
        clock: impl Fn(Nanos) -> u64,
    ) -> Span {
        let Linked {
            exchange,
            trace,
            span,
            parent,
            flags,
            state,
            links,
            not_before,
            begin: _,
        } = linked;
        let exchange = *exchange;
        let (begin, finish) = period(&exchange, not_before);
        let start = clock(begin);
        let kind = kind(&exchange);
        let (status, error) = status(&exchange);
        let events = events(&exchange, &clock, start);
        let process = exchange.start.execution.process;
        let route = self.route(&exchange, resource);
        let named = is_named(&exchange);
        let mut facts = Facts(Vec::with_capacity(TYPICAL));
        measures(&mut facts, &exchange);
        faults(&mut facts, &exchange);
        if let Some(error) = error {
            facts.put(semconv::ERROR_TYPE, Value::Str(error));
        }
        if let Some(parent) = &parent {
            facts.put(semconv::LINK_METHOD, text(parent.method.name()));
            facts.put(semconv::LINK_CONFIDENCE, Value::Double(parent.confidence));
        }
        if let Some(route) = &route {
            let key = match exchange.role {
                Role::Server => semconv::HTTP_ROUTE,
                Role::Client => semconv::URL_TEMPLATE,
            };
            facts.put(key, Value::Str(route.clone().into()));
        }
        let (operation, attributes) = gather(facts, exchange);
        Span {
            trace,
            id: span,
            parent,
            flags: flags.unwrap_or(RANDOM) | SAMPLED,
            state,
            kind,
            name: name(operation, route.filter(|_| !named)),
            start,
            end: clock(finish).max(start),
            attributes,
            dropped_attributes: 0,
            events,
            links,
            status,
            resource: Arc::clone(resource),
            process,
        }
    }

    fn route(&mut self, exchange: &Exchange, resource: &Resource) -> Option<String> {
        let path = string(&exchange.request.attributes, semconv::URL_PATH)?;
        let answer = exchange.response.as_deref();
        let code = answer.and_then(|r| find(&r.attributes, semconv::HTTP_RESPONSE_STATUS_CODE));
        let seen = Seen {
            at: exchange.end,
            // There is no such thing, or it is not what was asked for.
            vouched: !matches!(code, Some(Value::Int(400 | 404 | 405 | 501))),
        };
        match self.routes.route(resource.service(), path, seen) {
            Routed::Route(route) => Some(route),
            Routed::None => None,
            Routed::Capped => {
                self.stats.span_routes_capped.add(1);
                None
            }
        }
    }
}

/// Attributes this stage finds; no key twice.
pub(super) struct Facts(Attributes);

impl Facts {
    pub(super) fn put(&mut self, key: &'static str, value: Value) {
        let key = Cow::Borrowed(key);
        self.0.push(Attribute { key, value });
    }

    pub(super) fn put_port(&mut self, key: &'static str, port: u16) {
        self.put(key, Value::Int(port.into()));
    }
}

/// The operation, and the attributes of request, response and connection beside the facts.
fn gather(mut facts: Facts, exchange: Exchange) -> (Cow<'static, str>, Attributes) {
    let mut request = *exchange.request;
    let protocol = protocol_name(request.protocol);
    facts.put(semconv::NETWORK_PROTOCOL_NAME, text(protocol));
    let partial = exchange.faults.contains(&Fault::Partial);
    let known = !partial || string(&request.attributes, semconv::URL_PATH).is_some();
    let said = place::Said {
        url: known && protocol == "http",
        client: hands_on_http(request.protocol),
    };
    place::sides(&mut facts, &exchange.peer, &mut request.attributes, said);
    let mut response = exchange.response.map(|r| r.attributes).unwrap_or_default();
    let mut attributes = request.attributes;
    attributes.reserve_exact(facts.0.len().saturating_add(response.len()));
    attributes.append(&mut response);
    attributes.append(&mut facts.0);
    (request.operation, attributes)
}

/// Messaging has kinds of its own (messaging spans, "span kind"); at a broker all are calls.
fn kind(exchange: &Exchange) -> SpanKind {
    match (exchange.request.kind, exchange.role) {
        (Kind::Send, Role::Client) => SpanKind::Producer,
        (Kind::Process, Role::Server) => SpanKind::Consumer,
        (_, Role::Client) => SpanKind::Client,
        (_, Role::Server) => SpanKind::Server,
    }
}

/// Whether an exchange of HTTP has a name of its own, by what is spoken over it.
fn is_named(exchange: &Exchange) -> bool {
    let request = &exchange.request;
    match string(&request.attributes, semconv::HTTP_REQUEST_METHOD) {
        Some(OTHER) => request.operation != "HTTP",
        Some(method) => request.operation != method,
        None => false,
    }
}

/// First byte to last, never before the parent's first.
fn period(exchange: &Exchange, not_before: Option<Nanos>) -> (Nanos, Nanos) {
    let begin = exchange.start.time.max(not_before.unwrap_or(0));
    // Bytes that were seen are better than the moment the end was noticed.
    let last = match (exchange.outcome, exchange.response_end) {
        (Outcome::Complete | Outcome::Upgraded, Some((mark, finish))) if finish.whole => mark.time,
        _ => exchange.end,
    };
    (begin, last.max(begin))
}

/// `GET /users/{id}`; the operation alone where there is no route.
fn name(operation: Cow<'static, str>, route: Option<String>) -> Cow<'static, str> {
    let operation = if operation == OTHER || operation.is_empty() {
        Cow::Borrowed("HTTP")
    } else {
        operation
    };
    match route {
        Some(route) => format!("{operation} {route}").into(),
        None => operation,
    }
}

/// An answer's error counts for the side it is one for; an exchange that broke is one for both.
fn status(exchange: &Exchange) -> (Status, Option<Cow<'static, str>>) {
    let answer = exchange
        .response
        .as_deref()
        .and_then(|r| match exchange.role {
            Role::Client => r.client_error.clone(),
            Role::Server => r.server_error.clone(),
        });
    let broken = match exchange.outcome {
        Outcome::Complete | Outcome::Upgraded | Outcome::Abandoned | Outcome::Dismissed => None,
        Outcome::TimedOut => Some("timeout"),
        Outcome::Broken(ending) => Some(broken(ending)),
        Outcome::Reset(code) => Some(code),
    };
    match (broken, answer) {
        // What the answer said is the better name; that it broke is told by the event.
        (_, Some(error)) => (Status::Error(Cow::Borrowed("")), Some(error)),
        (Some(error), None) => (Status::Error(Cow::Borrowed(error)), Some(error.into())),
        (None, None) => (Status::Unset, None),
    }
}

fn broken(ending: Ending) -> &'static str {
    match ending {
        Ending::Error(ECONNRESET) => "connection_reset",
        Ending::Error(EPIPE) => "broken_pipe",
        Ending::Error(ETIMEDOUT) => "timeout",
        Ending::Error(ECONNREFUSED) => "connection_refused",
        Ending::Error(_) => "connection_error",
        Ending::Eof | Ending::Local | Ending::Gone => "connection_closed",
    }
}

fn events(exchange: &Exchange, clock: &impl Fn(Nanos) -> u64, start: u64) -> Vec<SpanEvent> {
    let name = match exchange.outcome {
        Outcome::Complete | Outcome::Upgraded | Outcome::Abandoned | Outcome::Dismissed => {
            return Vec::new();
        }
        Outcome::TimedOut | Outcome::Broken(Ending::Error(ETIMEDOUT)) => semconv::EVENT_TIMEOUT,
        Outcome::Reset(_) | Outcome::Broken(Ending::Error(ECONNRESET)) => semconv::EVENT_RESET,
        Outcome::Broken(_) => semconv::EVENT_CLOSED,
    };
    vec![SpanEvent {
        name: name.into(),
        time: clock(exchange.end).max(start),
        attributes: Vec::new(),
    }]
}

/// Sizes and times.
fn measures(facts: &mut Facts, exchange: &Exchange) {
    let mut size = |key, end: &Option<(crate::connection::Mark, Finish)>| {
        if let Some((_, finish)) = end
            && finish.exact
            && finish.whole
        {
            let bytes = i64::try_from(finish.body).unwrap_or(i64::MAX);
            facts.put(key, Value::Int(bytes));
        }
    };
    let protocol = protocol_name(exchange.request.protocol);
    let http = protocol == "http" || hands_on_http(exchange.request.protocol);
    if http {
        size(semconv::HTTP_REQUEST_BODY_SIZE, &exchange.request_end);
    }
    if http && exchange.outcome != Outcome::Upgraded {
        size(semconv::HTTP_RESPONSE_BODY_SIZE, &exchange.response_end);
    }
    if let Some(first) = exchange.response_start {
        let wait = first.time.saturating_sub(exchange.start.time);
        facts.put(
            semconv::TIME_TO_FIRST_BYTE,
            Value::Double(wait as f64 / 1e9),
        );
    }
    if exchange.outcome == Outcome::Upgraded {
        facts.put(semconv::UPGRADED, Value::Bool(true));
    }
}

/// What the span must say about its bytes.
fn faults(facts: &mut Facts, exchange: &Exchange) {
    let ended = |end: &Option<(crate::connection::Mark, Finish)>| {
        end.is_none_or(|(_, finish)| finish.exact && finish.whole)
    };
    let mut complete = ended(&exchange.request_end) && ended(&exchange.response_end);
    complete &= !matches!(exchange.outcome, Outcome::Abandoned);
    // A message may be over without an answer.
    let answered = exchange.response.is_some() || exchange.request.kind != Kind::Call;
    complete &= answered || exchange.outcome != Outcome::Complete;
    complete &= exchange.response.is_none() || exchange.outcome != Outcome::TimedOut;
    let (mut suspicious, mut malformed) = (Vec::new(), Vec::new());
    let mut partial = false;
    for fault in &exchange.faults {
        match fault {
            Fault::Missing { cause, bytes } => {
                complete &= matches!(cause, Hole::Budget | Hole::NoBuffer);
                add(facts, semconv::missing(*cause), *bytes);
            }
            Fault::Suspicious(what) => suspicious.push((*what).to_owned()),
            Fault::Malformed(what) => malformed.push((*what).to_owned()),
            Fault::Partial => partial = true,
        }
    }
    if partial {
        facts.put(semconv::PARTIAL, Value::Bool(true));
    }
    complete &= malformed.is_empty();
    if !suspicious.is_empty() {
        facts.put(semconv::SUSPICIOUS, Value::List(suspicious));
    }
    if !malformed.is_empty() {
        facts.put(semconv::MALFORMED, Value::List(malformed));
    }
    if !complete {
        facts.put(semconv::COMPLETE, Value::Bool(false));
    }
}

fn add(facts: &mut Facts, key: &'static str, bytes: u64) {
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    let known = facts.0.iter_mut().find(|a| a.key == key);
    match known.map(|a| &mut a.value) {
        Some(Value::Int(sum)) => *sum = sum.saturating_add(bytes),
        _ => facts.put(key, Value::Int(bytes)),
    }
}

/// `network.protocol.name` of a registry name: `http1` and `http2` are both `http`.
fn protocol_name(registered: &'static str) -> &'static str {
    registered.trim_end_matches(|c: char| c.is_ascii_digit())
}

pub(super) fn text(value: &'static str) -> Value {
    Value::Str(Cow::Borrowed(value))
}

/// `http.request.method` of methods nobody knows.
const OTHER: &str = "_OTHER";
/// Attributes this stage adds to most spans.
const TYPICAL: usize = 16;
// asm-generic/errno.h, the same on every architecture we run on.
const EPIPE: i32 = 32;
const ECONNRESET: i32 = 104;
const ETIMEDOUT: i32 = 110;
const ECONNREFUSED: i32 = 111;

#[cfg(test)]
mod tests {
    use smallvec::{SmallVec, smallvec};

    use super::*;
    use crate::connection::Mark;
    use crate::event::{Address, ConnectionId};
    use crate::exchange::{ExchangeId, Peer};
    use crate::protocol::{Request, Response};
    use crate::span::place::{push, v4};
    use crate::trace::{Method, Parent, SpanId, TraceId};

    struct Case {
        role: Role,
        local: Address,
        remote: Address,
        request: &'static [(&'static str, &'static str)],
        status: u16,
        outcome: Outcome,
        faults: SmallVec<[Fault; 1]>,
    }

    fn inet(text: &str) -> Address {
        Address::Inet(text.parse().unwrap())
    }

    fn case(role: Role) -> Case {
        Case {
            role,
            local: inet("127.0.0.1:8080"),
            remote: inet("127.0.0.1:40000"),
            request: &[
                ("url.path", "/users/42"),
                ("server.address", "localhost"),
                ("server.port", "8080"),
                ("client.address", "198.51.100.7"),
                ("client.port", "1"),
            ],
            status: 200,
            outcome: Outcome::Complete,
            faults: SmallVec::new(),
        }
    }

    fn mark(time: u64) -> Mark {
        Mark {
            time,
            ..Default::default()
        }
    }

    fn attributes(pairs: &[(&'static str, &'static str)]) -> Attributes {
        let value = |text: &'static str| text.parse().map_or(Value::Str(text.into()), Value::Int);
        pairs
            .iter()
            .map(|(k, v)| Attribute {
                key: (*k).into(),
                value: value(v),
            })
            .collect()
    }

    fn linked(case: Case) -> Linked {
        let mut request = attributes(case.request);
        if string(&request, semconv::URL_SCHEME).is_none() {
            push(&mut request, semconv::URL_SCHEME, text("http"));
        }
        let finish = Finish {
            body: 5,
            exact: true,
            whole: true,
        };
        let answered = case.status != 0;
        let error = |least: u16| (case.status >= least).then(|| case.status.to_string().into());
        Linked {
            exchange: Box::new(Exchange {
                id: ExchangeId(1),
                peer: Arc::new(Peer {
                    connection: ConnectionId(1),
                    local: case.local,
                    remote: case.remote,
                    role: case.role,
                    key: None,
                    shares_offsets: true,
                    line: 0,
                    carrier: None,
                    datagrams: false,
                    receiver: false,
                }),
                role: case.role,
                key: None,
                request: Box::new(Request::call("http1", "GET", request)),
                response: answered.then(|| {
                    Box::new(Response {
                        attributes: attributes(&[("http.response.status_code", "200")]),
                        client_error: error(400),
                        server_error: error(500),
                        messages: Vec::new(),
                    })
                }),
                start: mark(1_000),
                request_end: Some((mark(2_000), finish)),
                response_start: answered.then(|| mark(501_000)),
                response_end: answered.then(|| (mark(600_000), finish)),
                end: 700_000,
                outcome: case.outcome,
                faults: case.faults,
            }),
            trace: TraceId([1; 16]),
            span: SpanId([2; 8]),
            parent: None,
            flags: None,
            state: None,
            links: Vec::new(),
            not_before: None,
            begin: 0,
        }
    }

    fn span(case: Case) -> Span {
        build(linked(case))
    }

    fn build(linked: Linked) -> Span {
        let mut builder = Builder::new(&config::Route::default(), Arc::default());
        let span = builder.build(linked, &Arc::default(), |time| time + 1_000_000);
        let mut keys: Vec<_> = span.attributes.iter().map(|a| a.key.as_ref()).collect();
        keys.sort_unstable();
        let count = keys.len();
        keys.dedup();
        assert_eq!(keys.len(), count, "a key twice");
        span
    }

    fn has(span: &Span, key: &str) -> String {
        match find(&span.attributes, key) {
            None => "-".into(),
            Some(Value::Str(text)) => text.to_string(),
            Some(Value::Int(number)) => number.to_string(),
            Some(other) => format!("{other:?}"),
        }
    }

    #[test]
    fn a_server_span() {
        let span = span(case(Role::Server));
        for (key, value) in [
            ("http.route", "/users/{id}"),
            ("url.path", "/users/42"),
            ("url.scheme", "http"),
            ("url.full", "-"),
            ("server.address", "localhost"),
            ("server.port", "8080"),
            ("client.address", "127.0.0.1"),
            ("client.port", "40000"),
            ("network.peer.address", "127.0.0.1"),
            ("network.peer.port", "40000"),
            ("network.transport", "tcp"),
            ("network.type", "ipv4"),
            ("network.protocol.name", "http"),
            ("http.request.body.size", "5"),
            ("http.response.body.size", "5"),
            ("error.type", "-"),
            ("spantap.time_to_first_byte", "Double(0.0005)"),
            ("spantap.complete", "-"),
            ("spantap.link.method", "-"),
        ] {
            assert_eq!(has(&span, key), value, "{key}");
        }
        assert_eq!(
            (span.name.as_ref(), span.kind, span.flags),
            ("GET /users/{id}", SpanKind::Server, 3)
        );
        assert_eq!(
            (span.start, span.end, span.status),
            (1_001_000, 1_600_000, Status::Unset)
        );
    }

    /// (url.full, server.address, server.port) of a client span of these facts.
    fn client(remote: &str, request: &'static [(&str, &str)]) -> [String; 3] {
        let span = span(Case {
            remote: inet(remote),
            request,
            ..case(Role::Client)
        });
        for key in ["url.path", "http.route", "client.address"] {
            assert_eq!(has(&span, key), "-", "{key}");
        }
        ["url.full", "server.address", "server.port"].map(|key| has(&span, key))
    }

    #[test]
    fn a_client_span() {
        const PATH: (&str, &str) = ("url.path", "/a");
        const SHOP: (&str, &str) = ("server.address", "shop");
        let told = client("10.0.0.1:80", &[PATH, ("url.query", "b=c"), SHOP]);
        assert_eq!(told, ["http://shop/a?b=c", "shop", "80"]);
        let told = client("10.0.0.1:8080", &[PATH, SHOP, ("server.port", "8080")]);
        assert_eq!(told, ["http://shop:8080/a", "shop", "8080"]);
        // Host without a port, but not the scheme's port: the socket's.
        let told = client("10.0.0.1:8080", &[PATH, SHOP]);
        assert_eq!(told, ["http://shop:8080/a", "shop", "8080"]);
        let told = client("10.0.0.1:8080", &[PATH, SHOP, ("server.port", "80")]);
        assert_eq!(told, ["http://shop:8080/a", "shop", "8080"]);
        // CONNECT.
        let told = client("10.0.0.1:3128", &[SHOP, ("server.port", "443")]);
        assert_eq!(told, ["http://shop:443", "shop", "443"]);
    }

    #[test]
    fn a_scheme_that_is_not_known_is_not_said() {
        let mut linked = linked(Case {
            remote: inet("10.0.0.1:8080"),
            request: &[("url.path", "/a"), ("server.address", "shop")],
            ..case(Role::Client)
        });
        let request = &mut linked.exchange.request.attributes;
        request.retain(|a| a.key != semconv::URL_SCHEME);
        let span = build(linked);
        for (key, want) in [
            ("url.scheme", "-"),
            ("url.full", "-"),
            ("url.path", "/a"),
            ("server.address", "shop"),
            ("server.port", "8080"),
        ] {
            assert_eq!(has(&span, key), want, "{key}");
        }
    }

    #[test]
    fn a_client_span_of_a_request_to_a_proxy() {
        const WHOLE: [(&str, &str); 4] = [
            ("url.path", "/a"),
            ("server.address", "shop"),
            ("server.port", "9000"),
            ("url.full", "http://shop:9000/a"),
        ];
        let told = client("10.0.0.1:3128", &WHOLE);
        assert_eq!(told, ["http://shop:9000/a", "shop", "9000"]);
    }

    #[test]
    fn a_client_span_whose_host_is_not_whom_it_asked() {
        // A proxy that passes on the Host it was called by.
        const FRONT: [(&str, &str); 3] = [
            ("url.path", "/a"),
            ("server.address", "front"),
            ("server.port", "8080"),
        ];
        let told = client("10.0.0.1:9000", &FRONT);
        assert_eq!(told, ["http://10.0.0.1:9000/a", "10.0.0.1", "9000"]);
        let told = client("[::ffff:10.0.0.1]:9000", &[("url.path", "*")]);
        assert_eq!(told, ["http://10.0.0.1:9000", "10.0.0.1", "9000"]);
        let told = client("[2001:db8::1]:80", &[("url.path", "/")]);
        assert_eq!(told, ["http://[2001:db8::1]/", "2001:db8::1", "80"]);
    }

    #[test]
    fn statuses() {
        let told = |role, status, outcome| {
            let span = span(Case {
                status,
                outcome,
                ..case(role)
            });
            let events: Vec<_> = span.events.iter().map(|e| e.name.as_ref()).collect();
            let error = matches!(span.status, Status::Error(_));
            assert_eq!(error, has(&span, "error.type") != "-");
            format!("{} {}", has(&span, "error.type"), events.join(" "))
        };
        let broken = |errno| Outcome::Broken(Ending::Error(errno));
        for (role, status, outcome, want) in [
            (Role::Server, 200, Outcome::Complete, "- "),
            (Role::Server, 404, Outcome::Complete, "- "),
            (Role::Client, 404, Outcome::Complete, "404 "),
            (Role::Server, 500, Outcome::Complete, "500 "),
            (Role::Client, 500, Outcome::Complete, "500 "),
            (
                Role::Client,
                0,
                Outcome::TimedOut,
                "timeout spantap.timeout",
            ),
            (
                Role::Server,
                200,
                Outcome::TimedOut,
                "timeout spantap.timeout",
            ),
            (
                Role::Client,
                0,
                broken(104),
                "connection_reset spantap.reset",
            ),
            (
                Role::Client,
                200,
                broken(104),
                "connection_reset spantap.reset",
            ),
            (
                Role::Server,
                0,
                Outcome::Broken(Ending::Eof),
                "connection_closed spantap.closed",
            ),
            (Role::Server, 0, Outcome::Abandoned, "- "),
            (Role::Server, 101, Outcome::Upgraded, "- "),
        ] {
            assert_eq!(
                told(role, status, outcome),
                want,
                "{role:?} {status} {outcome:?}"
            );
        }
    }

    #[test]
    fn holes_are_told() {
        let missing = |cause, bytes| Fault::Missing { cause, bytes };
        let lost = span(Case {
            faults: smallvec![
                missing(Hole::Lost, 3),
                missing(Hole::Lost, 4),
                missing(Hole::NoBuffer, 9)
            ],
            ..case(Role::Server)
        });
        assert_eq!(
            (
                has(&lost, "spantap.missing.lost"),
                has(&lost, "spantap.missing.no_buffer")
            ),
            ("7".into(), "9".into())
        );
        assert_eq!(has(&lost, "spantap.complete"), "Bool(false)");
        let harmless = span(Case {
            faults: smallvec![missing(Hole::NoBuffer, 9)],
            ..case(Role::Server)
        });
        assert_eq!(has(&harmless, "spantap.complete"), "-");
        let odd = span(Case {
            faults: smallvec![Fault::Suspicious("two lengths")],
            ..case(Role::Server)
        });
        assert_eq!(has(&odd, "spantap.suspicious"), "List([\"two lengths\"])");
    }

    #[test]
    fn a_child_never_starts_before_its_parent_nor_ends_before_its_start() {
        let mut late = linked(case(Role::Server));
        late.not_before = Some(5_000_000);
        late.parent = Some(Parent {
            span: SpanId([3; 8]),
            remote: true,
            method: Method::StreamKey,
            confidence: 1.0,
        });
        let span = build(late);
        assert_eq!((span.start, span.end), (6_000_000, 6_000_000));
        assert_eq!(has(&span, "spantap.link.method"), "stream_key");
    }

    #[test]
    fn addresses_are_written_as_usual() {
        for octet in 0..=255 {
            let octets = [octet, 255 - octet, 10, 0];
            assert_eq!(v4(octets), std::net::Ipv4Addr::from(octets).to_string());
        }
    }

    #[test]
    fn unix_sockets() {
        let unix = |path: Option<&str>| Address::Unix(path.map(Into::into));
        let span = span(Case {
            local: unix(None),
            remote: unix(Some("/run/x.sock")),
            request: &[("url.path", "/a"), ("server.address", "docker")],
            ..case(Role::Client)
        });
        assert_eq!(
            (
                has(&span, "network.transport"),
                has(&span, "network.peer.address")
            ),
            ("unix".into(), "/run/x.sock".into())
        );
        assert_eq!(
            (has(&span, "url.full"), has(&span, "server.port")),
            ("http://docker/a".into(), "-".into())
        );
    }

    #[test]
    fn unknown_methods_are_called_http() {
        assert_eq!(name(OTHER.into(), None), "HTTP");
        assert_eq!(name("GET".into(), None), "GET");
        assert_eq!(name("".into(), Some("/a".into())), "HTTP /a");
    }

    #[test]
    fn a_handshake_that_failed() {
        for (role, kind) in [
            (Role::Client, SpanKind::Client),
            (Role::Server, SpanKind::Server),
        ] {
            let mut linked = linked(Case {
                request: &[("server.address", "shop.test")],
                status: 500,
                ..case(role)
            });
            let request = &mut linked.exchange.request;
            request.attributes.retain(|a| a.key != semconv::URL_SCHEME);
            linked.exchange.request.protocol = "tls";
            linked.exchange.request.operation = "TLS handshake".into();
            let response = linked.exchange.response.as_mut().expect("an alert");
            response.attributes.clear();
            for error in [&mut response.client_error, &mut response.server_error] {
                *error = Some("handshake_failure".into());
            }
            let span = build(linked);
            assert_eq!((&*span.name, span.kind), ("TLS handshake", kind));
            assert_eq!(span.status, Status::Error("".into()));
            for (key, value) in [
                ("error.type", "handshake_failure"),
                ("network.protocol.name", "tls"),
                ("server.address", "shop.test"),
                ("network.peer.address", "127.0.0.1"),
                ("url.scheme", "-"),
                ("url.full", "-"),
                ("http.response.body.size", "-"),
            ] {
                assert_eq!(has(&span, key), value, "{key}");
            }
        }
    }

    #[test]
    fn what_is_handed_on_is_http_for_another_client() {
        for (protocol, size, client) in [
            ("http1", "5", "127.0.0.1"),
            ("fastcgi", "5", "198.51.100.7"),
            ("redis", "-", "127.0.0.1"),
        ] {
            let mut linked = linked(case(Role::Server));
            linked.exchange.request.protocol = protocol;
            let span = build(linked);
            assert_eq!(has(&span, "http.request.body.size"), size, "{protocol}");
            assert_eq!(has(&span, "http.response.body.size"), size, "{protocol}");
            assert_eq!(has(&span, "client.address"), client, "{protocol}");
        }
    }
}
