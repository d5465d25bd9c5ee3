//! Judges what a sink received against what is known to have happened: each known exchange must
//! have exactly its spans, with the right fields and links, and nothing else may be there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::known::{Known, Origin, Party};
use crate::span::{Kind, Span};

/// What a judgement came to; several add up.
#[derive(Clone, Debug, Default)]
pub struct Score {
    /// Server spans: expected, and found.
    pub server: (usize, usize),
    /// Client spans: expected, and found.
    pub client: (usize, usize),
    /// Parents: expected, and right.
    pub parents: (usize, usize),
    /// Spans nobody expected.
    pub surplus: usize,
    /// The same by who it was: side, `service.name`, HTTP version.
    pub tallies: BTreeMap<(Kind, String, String), Tally>,
    /// What a family counts of its own, by name.
    pub counts: Counts,
    /// The same of parts of it, by their names: too many to be shown, but reported.
    pub parts: BTreeMap<String, Counts>,
    /// What is wrong, a line each.
    pub problems: Vec<String>,
    /// Why nothing was tried, where nothing was.
    pub skipped: Option<String>,
}

/// Numbers by their names.
pub type Counts = BTreeMap<String, usize>;

/// One program's spans of one side and version.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Expected.
    pub expected: usize,
    /// Found, with nothing wrong in them.
    pub right: usize,
    /// Received, those nobody expected too.
    pub received: usize,
    /// The versions of TLS they were said to have come by.
    pub tls: BTreeSet<String>,
}

/// The attribute that says so.
const TLS: &str = "tls.protocol.version";

impl Score {
    /// Spans expected.
    pub fn expected(&self) -> usize {
        self.server.0 + self.client.0
    }

    /// Found of expected, in percent.
    pub fn recall(&self) -> f64 {
        percent(self.server.1 + self.client.1, self.expected())
    }

    /// Expected of received, in percent.
    pub fn precision(&self) -> f64 {
        let found = self.server.1 + self.client.1;
        percent(found, found + self.surplus)
    }

    /// One count of another, in percent.
    pub fn share(&self, part: &str, whole: &str) -> f64 {
        let count = |name| self.counts.get(name).copied().unwrap_or_default();
        percent(count(part), count(whole))
    }

    /// Adds another's counts and problems.
    pub fn add(&mut self, other: Score) {
        for (mine, its) in [
            (&mut self.server, other.server),
            (&mut self.client, other.client),
            (&mut self.parents, other.parents),
        ] {
            mine.0 += its.0;
            mine.1 += its.1;
        }
        self.surplus += other.surplus;
        for (who, other) in other.tallies {
            let tally = self.tallies.entry(who).or_default();
            tally.expected += other.expected;
            tally.right += other.right;
            tally.received += other.received;
            tally.tls.extend(other.tls);
        }
        sum(&mut self.counts, &other.counts);
        for (name, counts) in &other.parts {
            sum(self.parts.entry(name.clone()).or_default(), counts);
        }
        self.problems.extend(other.problems);
    }

    fn tally(&mut self, kind: Kind, service: String, version: String) -> &mut Tally {
        self.tallies.entry((kind, service, version)).or_default()
    }

    fn receive(&mut self, span: &Span) -> &mut Tally {
        let version = span.text("network.protocol.version").unwrap_or_default();
        let tally = self.tally(span.kind, span.service(), version);
        tally.received += 1;
        tally.tls.extend(span.text(TLS));
        tally
    }
}

/// Adds numbers to those of the same names.
pub(crate) fn sum(mine: &mut Counts, others: &Counts) {
    for (name, count) in others {
        *mine.entry(name.clone()).or_default() += count;
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of spans are small")]
fn percent(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        100.0
    } else {
        part as f64 * 100.0 / whole as f64
    }
}

/// The spans of one exchange, once found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pair<'a> {
    /// The client's.
    pub client: Option<&'a Span>,
    /// The server's.
    pub server: Option<&'a Span>,
}

/// Judges; also gives each exchange's spans, in the order of `known`.
pub fn judge<'a>(known: &[Known], spans: &'a [Span]) -> (Score, Vec<Pair<'a>>) {
    let mut score = Score::default();
    let mut pool = Pool::new(spans);
    let mut pairs = Vec::new();
    for one in known {
        let pair = Pair {
            client: one
                .client
                .as_ref()
                .and_then(|p| pool.take(Kind::Client, one, p)),
            server: one
                .server
                .as_ref()
                .and_then(|p| pool.take(Kind::Server, one, p)),
        };
        count(&mut score, one, pair);
        pairs.push(pair);
    }
    let surplus = pool.left();
    score.surplus = surplus.len();
    for span in &surplus {
        score.receive(span);
    }
    let lines = surplus
        .iter()
        .map(|span| format!("surplus: {}", span.line()));
    score.problems.extend(lines);
    (score, pairs)
}

/// Spans not yet spoken for, by what ties them to a request.
struct Pool<'a> {
    by: BTreeMap<(Kind, String), Vec<&'a Span>>,
}

impl<'a> Pool<'a> {
    fn new(spans: &'a [Span]) -> Self {
        let mut by: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for span in spans {
            by.entry((span.kind, span.target())).or_default().push(span);
        }
        Self { by }
    }

    /// Prefers the span of the right process and method where several have the same target.
    fn take(&mut self, kind: Kind, known: &Known, party: &Party) -> Option<&'a Span> {
        let list = self.by.get_mut(&(kind, known.target.clone()))?;
        let fit = |span: &&Span| {
            let process = span.pid().is_some_and(|pid| party.pids.contains(&pid));
            let method = span.text("http.request.method").as_deref() == Some(known.method.as_str());
            (
                u32::from(process) + u32::from(method),
                u64::MAX - span.start,
            )
        };
        let (at, _) = list.iter().enumerate().max_by_key(|(_, span)| fit(span))?;
        Some(list.remove(at))
    }

    fn left(self) -> Vec<&'a Span> {
        self.by.into_values().flatten().collect()
    }
}

fn count(score: &mut Score, known: &Known, pair: Pair<'_>) {
    let sides = [
        (&known.client, pair.client, Kind::Client, "client"),
        (&known.server, pair.server, Kind::Server, "server"),
    ];
    let what = format!("{} {}", known.method, known.target);
    for (party, span, kind, side) in sides {
        let Some(party) = party else { continue };
        let (service, version) = (party.service.clone(), known.version.into());
        score.tally(kind, service, version).expected += 1;
        let counts = match kind {
            Kind::Client => &mut score.client,
            _ => &mut score.server,
        };
        counts.0 += 1;
        let Some(span) = span else {
            score
                .problems
                .push(format!("missing: {side} span of {what}"));
            continue;
        };
        counts.1 += 1;
        let faults = faults(known, span, party);
        let tally = score.receive(span);
        tally.right += usize::from(faults.is_empty());
        let lines = faults
            .into_iter()
            .map(|fault| format!("{what}, {side}: {fault}"));
        score.problems.extend(lines);
    }
    parents(score, known, pair, &what);
}

fn parents(score: &mut Score, known: &Known, pair: Pair<'_>, what: &str) {
    let mut check = |span: &Span, fine: bool, side: &str, want: &str| {
        score.parents.0 += 1;
        if fine {
            score.parents.1 += 1;
        } else if !(known.may_be_apart && span.parent.is_none()) {
            let got = span.parent.as_deref().unwrap_or("none");
            score.problems.push(format!(
                "{what}, {side}: parent {got} in trace {}, want {want}",
                span.trace
            ));
        }
    };
    if let Some(span) = pair.client.or(pair.server) {
        let side = if pair.client.is_some() {
            "client"
        } else {
            "server"
        };
        match &known.origin {
            Origin::Root => check(span, span.parent.is_none(), side, "none"),
            Origin::Carried(trace, parent) => {
                let fine = span.trace == *trace && span.parent.as_ref() == Some(parent);
                check(span, fine, side, &format!("{parent} in {trace}"));
            }
            Origin::Any => {}
        }
    }
    if let Pair {
        client: Some(client),
        server: Some(server),
    } = pair
    {
        let carried =
            matches!(&known.origin, Origin::Carried(_, id) if server.parent.as_ref() == Some(id));
        let linked = server.parent.as_ref() == Some(&client.id) || carried;
        let fine = linked && server.trace == client.trace;
        check(
            server,
            fine,
            "server",
            &format!("{} in {}", client.id, client.trace),
        );
    }
}

/// Everything a span says that is not so.
fn faults(known: &Known, span: &Span, party: &Party) -> Vec<String> {
    let mut wrong = Wrong {
        span,
        list: Vec::new(),
    };
    wrong.identity(party);
    wrong.time(known);
    wrong.exchange(known);
    wrong.addresses(known);
    wrong.name();
    if known.hellos {
        wrong.there(TLS);
        wrong.there("tls.cipher");
    }
    wrong.list
}

struct Wrong<'a> {
    span: &'a Span,
    list: Vec<String>,
}

impl Wrong<'_> {
    fn expect(&mut self, fine: bool, say: impl FnOnce() -> String) {
        if !fine {
            self.list.push(say());
        }
    }

    /// An attribute must be there and say this.
    fn text(&mut self, key: &str, want: &str) {
        let got = self.span.text(key);
        self.expect(got.as_deref() == Some(want), || {
            format!("{key} is {got:?}, want {want:?}")
        });
    }

    /// An integer attribute must be there and say this.
    fn int(&mut self, key: &str, want: i64) {
        let got = self.span.attributes.get(key).cloned();
        let fine = got.as_ref().and_then(serde_json::Value::as_i64) == Some(want);
        self.expect(fine, || format!("{key} is {got:?}, want {want}"));
    }

    fn there(&mut self, key: &str) {
        let got = self.span.text(key);
        self.expect(got.is_some_and(|text| !text.is_empty()), || {
            format!("no {key}")
        });
    }

    fn absent(&mut self, key: &str) {
        let got = self.span.text(key);
        self.expect(got.is_none(), || format!("{key} is {got:?}, want none"));
    }

    fn identity(&mut self, party: &Party) {
        let span = self.span;
        let id = |text: &str, length| text.len() == length && text.bytes().any(|b| b != b'0');
        self.expect(id(&span.trace, 32), || format!("trace id {:?}", span.trace));
        self.expect(id(&span.id, 16), || format!("span id {:?}", span.id));
        self.expect(span.repeated.is_empty(), || {
            format!("twice: {:?}", span.repeated)
        });
        let schema = span.schema.starts_with("https://opentelemetry.io/schemas/");
        self.expect(schema, || format!("schema URL {:?}", span.schema));
        let pid = span.pid();
        let known = party.pids.is_empty() || pid.is_some_and(|pid| party.pids.contains(&pid));
        self.expect(known, || {
            format!("process.pid {pid:?}, want one of {:?}", party.pids)
        });
        let service = span.service();
        let fine = party.service.is_empty() || service == party.service;
        self.expect(fine, || {
            format!("service.name {service:?}, want {:?}", party.service)
        });
        for key in ["service.instance.id", "telemetry.sdk.name", "host.name"] {
            let there = span
                .resource_text(key)
                .is_some_and(|value| !value.is_empty());
            self.expect(there, || format!("no {key} in the resource"));
        }
    }

    fn time(&mut self, known: &Known) {
        let (start, end) = (self.span.start, self.span.end);
        self.expect(start <= end, || {
            format!("ends {} ns before it starts", start - end)
        });
        let early = known.window.0.saturating_sub(start);
        self.expect(early < SLACK, || format!("starts {early} ns too early"));
        let late = end.saturating_sub(known.window.1);
        self.expect(late < SLACK, || format!("ends {late} ns too late"));
        let lasted = Duration::from_nanos(end.saturating_sub(start));
        let least = known.least;
        self.expect(lasted >= least, || {
            format!("lasts {lasted:?}, not {least:?}")
        });
    }

    fn exchange(&mut self, known: &Known) {
        if METHODS.contains(&known.method.as_str()) {
            self.text("http.request.method", &known.method);
            self.absent("http.request.method_original");
        } else {
            self.text("http.request.method", "_OTHER");
            self.text("http.request.method_original", &known.method);
        }
        match known.status {
            Some(status) => self.int("http.response.status_code", status.into()),
            None => self.absent("http.response.status_code"),
        }
        let error = &known.errors[usize::from(self.span.kind == Kind::Server)];
        match error {
            Some(error) if error == "?" => {}
            Some(error) if error == "*" => {
                let got = self.span.text("error.type");
                self.expect(got.is_some(), || "no error.type".into());
            }
            Some(error) => self.text("error.type", error),
            None => self.absent("error.type"),
        }
        let span = self.span;
        let open = error.as_deref() == Some("?");
        let fine = open || span.error == error.is_some();
        self.expect(fine, || format!("status is error: {}", span.error));
        self.expect(!span.ok, || {
            "status is Ok, which instrumentation leaves unset".into()
        });
        let sizes = [
            ("http.request.body.size", known.sent),
            ("http.response.body.size", known.received),
        ];
        for (key, want) in sizes {
            let got = span.int(key);
            self.expect(want.fits(got), || {
                format!("{key} is {got:?}, want {want:?}")
            });
        }
        self.text("network.protocol.version", known.version);
    }

    fn addresses(&mut self, known: &Known) {
        let span = self.span;
        if known.elsewhere {
            return;
        }
        self.int("server.port", known.port.into());
        match &known.host {
            Some(host) => self.text("server.address", host),
            None => {
                let address = span.text("server.address");
                self.expect(address.is_some(), || "no server.address".into());
            }
        }
        let scheme = known.scheme;
        let peer = if span.kind == Kind::Server {
            self.text("url.scheme", scheme);
            let client = span.text("client.address");
            self.expect(client.is_some(), || "no client.address".into());
            known.client_port
        } else {
            let full = span.text("url.full").unwrap_or_default();
            let place = full.strip_prefix(scheme).unwrap_or_default();
            let fine = place.starts_with("://") && full.ends_with(&known.target);
            self.expect(fine, || format!("url.full is {full:?}"));
            if let Some(address) = &known.address {
                self.text("network.peer.address", address);
            }
            Some(known.port)
        };
        if let Some(peer) = peer {
            self.int("network.peer.port", peer.into());
        }
    }

    /// A server span is named by method and route, a client's by method; a route tells no numbers.
    fn name(&mut self) {
        let span = self.span;
        let method = match span.text("http.request.method").as_deref() {
            Some("_OTHER") | None => "HTTP".to_string(),
            Some(method) => method.to_string(),
        };
        let key = if span.kind == Kind::Server {
            "http.route"
        } else {
            "url.template"
        };
        let route = span.text(key);
        let want = route
            .as_ref()
            .map_or_else(|| method.clone(), |route| format!("{method} {route}"));
        self.expect(span.name == want, || {
            format!("name is {:?}, want {want:?}", span.name)
        });
        if span.kind == Kind::Client {
            self.absent("http.route");
        }
        if let Some(route) = route {
            let number = route
                .split('/')
                .any(|part| part.parse::<u64>().is_ok_and(|n| n > 9999));
            self.expect(route.starts_with('/') && !number, || {
                format!("{key} is {route:?}")
            });
        }
    }
}

/// How far the kernel's clock, mapped to wall time, may be from the harness's.
const SLACK: u64 = 20_000_000;

/// Methods that the semantic conventions know.
const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::known::Size;
    use crate::span::Attributes;

    fn known() -> Known {
        let mut known = Known::new("GET", "/bytes/5/100001", Some(404), 80);
        known = known.between(&Party::new("asker", &[1]), &Party::new("answerer", &[2]));
        known.received = Size::Exact(5);
        known
    }

    fn attributes(pairs: &[(&str, serde_json::Value)]) -> Attributes {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_string(), value.clone()))
            .collect()
    }

    fn span(kind: Kind, pid: u32, service: &str, id: char) -> Span {
        let mut span = Span {
            trace: "a".repeat(32),
            id: id.to_string().repeat(16),
            parent: None,
            state: String::new(),
            flags: 1,
            kind,
            name: "GET".into(),
            start: 10,
            end: 20,
            error: kind == Kind::Client,
            ok: false,
            message: String::new(),
            attributes: attributes(&[
                ("http.request.method", "GET".into()),
                ("http.response.status_code", 404.into()),
                ("http.response.body.size", 5.into()),
                ("network.protocol.version", "1.1".into()),
                ("network.peer.port", 80.into()),
                ("server.address", "127.0.0.1".into()),
                ("server.port", 80.into()),
            ]),
            resource: attributes(&[
                ("service.name", service.into()),
                ("service.instance.id", "x".into()),
                ("telemetry.sdk.name", "x".into()),
                ("host.name", "x".into()),
                ("process.pid", pid.into()),
            ]),
            schema: "https://opentelemetry.io/schemas/1.40.0".into(),
            scope: String::new(),
            events: Vec::new(),
            links: Vec::new(),
            repeated: Vec::new(),
        };
        let more = if kind == Kind::Server {
            attributes(&[
                ("url.path", "/bytes/5/100001".into()),
                ("url.scheme", "http".into()),
                ("client.address", "127.0.0.1".into()),
            ])
        } else {
            attributes(&[
                ("url.full", "http://127.0.0.1:80/bytes/5/100001".into()),
                ("error.type", "404".into()),
            ])
        };
        span.attributes.extend(more);
        span
    }

    fn pair() -> Vec<Span> {
        let client = span(Kind::Client, 1, "asker", 'b');
        let mut server = span(Kind::Server, 2, "answerer", 'c');
        server.parent = Some(client.id.clone());
        vec![client, server]
    }

    fn problems(spans: &[Span]) -> Vec<String> {
        judge(&[known()], spans).0.problems
    }

    #[test]
    fn a_right_pair_is_right() {
        let spans = pair();
        let (score, pairs) = judge(&[known()], &spans);
        assert_eq!(score.problems, Vec::<String>::new());
        assert_eq!(
            (score.server, score.client, score.parents),
            ((1, 1), (1, 1), (2, 2))
        );
        assert!(pairs[0].client.is_some() && pairs[0].server.is_some());
        let asker = &score.tallies[&(Kind::Client, "asker".into(), "1.1".into())];
        assert_eq!((asker.expected, asker.right, asker.received), (1, 1, 1));
    }

    #[test]
    fn a_missing_span_and_one_too_many_are_seen() {
        let mut spans = pair();
        let server = spans.pop();
        assert_eq!(
            problems(&spans),
            ["missing: server span of GET /bytes/5/100001"]
        );
        spans.extend(server.clone());
        spans.extend(server);
        let (score, _) = judge(&[known()], &spans);
        assert_eq!((score.surplus, score.problems.len()), (1, 1));
        let answerer = &score.tallies[&(Kind::Server, "answerer".into(), "1.1".into())];
        assert_eq!((answerer.right, answerer.received), (1, 2));
        assert!(score.precision() < 100.0 && score.recall() >= 100.0);
    }

    #[test]
    fn each_wrong_attribute_is_seen() {
        let status = "http.response.status_code";
        let spoils: [(&str, usize, &str, serde_json::Value); 5] = [
            ("status_code", 0, status, 200.into()),
            ("status_code", 0, status, "404".into()),
            ("error.type", 1, "error.type", "404".into()),
            ("body.size", 1, "http.response.body.size", 6.into()),
            ("name is", 1, "http.route", "/bytes/{n}".into()),
        ];
        for (word, at, key, value) in spoils {
            let mut spans = pair();
            spans[at].attributes.insert(key.into(), value);
            one_problem(word, &spans);
        }
        for (key, value) in [("process.pid", 3.into()), ("service.name", "x".into())] {
            let mut spans: Vec<Span> = pair();
            spans[1].resource.insert(key.into(), value);
            one_problem(key, &spans);
        }
    }

    #[test]
    fn each_wrong_field_is_seen() {
        type Spoil = fn(&mut Span);
        let spoils: [(&str, Spoil); 5] = [
            ("status is error", |span| span.error = true),
            ("parent", |span| span.parent = None),
            ("parent", |span| span.trace = "d".repeat(32)),
            ("before it starts", |span| span.end = 5),
            ("schema URL", |span| span.schema.clear()),
        ];
        for (word, spoil) in spoils {
            let mut spans = pair();
            spoil(&mut spans[1]);
            one_problem(word, &spans);
        }
    }

    fn one_problem(word: &str, spans: &[Span]) {
        let problems = problems(spans);
        assert!(
            problems.len() == 1 && problems[0].contains(word),
            "{word}: {problems:?}"
        );
    }
}
