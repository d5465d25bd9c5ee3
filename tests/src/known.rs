//! Requests whose every property is known beforehand or from the answer itself, and the mixes of
//! them that programs are driven with. Each carries a number of its own in its path, so a span can
//! be tied to its request by what it says and nothing else.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};

/// A request to be made.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// Method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Bytes of body; None for a request without any.
    pub body: Option<usize>,
    /// Whether the body goes chunked.
    pub chunked: bool,
    /// Whether the connection is to close after it.
    pub close: bool,
    /// Further header lines.
    pub headers: Vec<(String, String)>,
    /// The status that the server is known to give.
    pub status: u16,
}

/// What came back, as the client saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Bytes of body, without framing.
    pub body: u64,
    /// Bytes after the head, with framing, where the client can tell.
    pub wire: Option<u64>,
    /// Bytes of request body with framing, where the client can tell.
    pub sent: Option<u64>,
    /// The client's own port, where it can tell.
    pub port: Option<u16>,
}

/// Anything that makes requests.
pub trait Asks {
    /// Makes one and waits for the whole answer.
    fn ask(&mut self, ask: &Ask) -> Result<Answer>;
}

/// A body's size as a span may give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// This many bytes; zero may also be left out.
    Exact(u64),
    /// Chunked: this many bytes without framing, and up to that many with it.
    Framed(u64, u64),
    /// This many bytes, or none said: the answer may have come before they were read.
    Maybe(u64),
    /// Not to be known; anything or nothing.
    Unknown,
}

impl Size {
    /// Whether an attribute's value fits.
    pub fn fits(self, value: Option<i64>) -> bool {
        let number = value.map(|value| u64::try_from(value).unwrap_or(u64::MAX));
        match (self, number) {
            (Size::Unknown, _) | (Size::Maybe(_), None) => true,
            (Size::Exact(want) | Size::Framed(want, _), None) => want == 0,
            (Size::Exact(want) | Size::Maybe(want), Some(got)) => want == got,
            (Size::Framed(low, high), Some(got)) => (low..=high).contains(&got),
        }
    }
}

/// One end of an exchange.
#[derive(Clone, Debug, Default)]
pub struct Party {
    /// Its `service.name`; empty if the test does not care.
    pub service: String,
    /// Processes it may be; empty if the test does not care.
    pub pids: Vec<u32>,
}

impl Party {
    /// A service and its processes.
    pub fn new(service: &str, pids: &[u32]) -> Self {
        Self {
            service: service.into(),
            pids: pids.into(),
        }
    }
}

/// Where the first span of an exchange gets its parent from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: it is the root.
    Root,
    /// The request carried this trace id and span id.
    Carried(String, String),
    /// The test looks itself.
    Any,
}

/// A request that was made, and all that its spans must say.
#[derive(Clone, Debug)]
pub struct Known {
    /// Method as sent.
    pub method: String,
    /// Path and query as spans show them.
    pub target: String,
    /// Status; None if no response came.
    pub status: Option<u16>,
    /// Request body.
    pub sent: Size,
    /// Response body.
    pub received: Size,
    /// HTTP version.
    pub version: &'static str,
    /// The server's port.
    pub port: u16,
    /// The client's port, where known.
    pub client_port: Option<u16>,
    /// Whether the server's span may have no parent: what ties it to the client's is the place in the
    /// stream, and whether the stream's beginning was seen depends on who came first.
    pub may_be_apart: bool,
    /// Whether the spans must tell of its TLS, as the beginning of its connection was seen.
    pub hellos: bool,
    /// Who asked; None if that side is not traced.
    pub client: Option<Party>,
    /// Who answered; None if that side is not traced.
    pub server: Option<Party>,
    /// Where its trace comes from.
    pub origin: Origin,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// `server.address`, where the test cares.
    pub host: Option<String>,
    /// The server's IP address, where the test cares.
    pub address: Option<String>,
    /// Whether its URL names another place than the one connected to (proxies), so that ports and
    /// addresses are not judged.
    pub elsewhere: bool,
    /// `error.type` on the client's span, and on the server's: a value, `*` for any, `?` for any
    /// or none.
    pub errors: [Option<String>; 2],
    /// No span may be shorter.
    pub least: Duration,
    /// Unix time before it was made and after its answer had come, nanoseconds.
    pub window: (u64, u64),
}

impl Known {
    /// An exchange with a status, by the rules: 4xx and 5xx are errors to the client, 5xx to the
    /// server.
    pub fn new(method: &str, target: &str, status: Option<u16>, port: u16) -> Self {
        let error = |from| status.filter(|s| *s >= from).map(|s| s.to_string());
        Self {
            method: method.into(),
            target: target.into(),
            status,
            sent: Size::Exact(0),
            received: Size::Unknown,
            version: "1.1",
            port,
            client_port: None,
            may_be_apart: false,
            hellos: false,
            client: None,
            server: None,
            origin: Origin::Root,
            scheme: "http",
            host: None,
            address: None,
            elsewhere: false,
            errors: [error(400), error(500)],
            least: Duration::ZERO,
            window: (0, u64::MAX),
        }
    }

    /// Sets both ends.
    #[must_use]
    pub fn between(mut self, client: &Party, server: &Party) -> Self {
        self.client = Some(client.clone());
        self.server = Some(server.clone());
        self
    }

    /// Spans that it makes.
    pub fn spans(&self) -> usize {
        usize::from(self.client.is_some()) + usize::from(self.server.is_some())
    }
}

/// Unix time now, nanoseconds.
pub fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Makes requests one after the other and notes what is then known of them.
pub fn drive(
    asks: &[Ask],
    by: &mut dyn Asks,
    port: u16,
    client: Option<&Party>,
    server: Option<&Party>,
) -> Result<Vec<Known>> {
    let mut known = Vec::new();
    for ask in asks {
        let begun = now();
        let what = || format!("{} {}", ask.method, ask.target);
        let answer = by.ask(ask).with_context(what)?;
        ensure!(
            answer.status == ask.status,
            "{}: the program answered {}, not {}",
            what(),
            answer.status,
            ask.status
        );
        let mut one = Known::new(&ask.method, &ask.target, Some(ask.status), port);
        one.window = (begun, now());
        one.sent = sent(ask, &answer);
        one.received = received(ask, &answer);
        one.client_port = answer.port;
        one.client = client.cloned();
        one.server = server.cloned();
        known.push(one);
    }
    Ok(known)
}

fn sent(ask: &Ask, answer: &Answer) -> Size {
    let body = ask.body.unwrap_or_default() as u64;
    if ask.chunked {
        Size::Framed(body, answer.sent.unwrap_or_else(|| framed(body)))
    } else {
        Size::Exact(body)
    }
}

fn received(ask: &Ask, answer: &Answer) -> Size {
    match answer.wire {
        _ if ask.method == "HEAD" => Size::Exact(0),
        Some(wire) if wire != answer.body => Size::Framed(answer.body, wire),
        None if ask.target.starts_with("/chunked/") => {
            Size::Framed(answer.body, framed(answer.body))
        }
        _ => Size::Exact(answer.body),
    }
}

/// The most that chunks of at least 64 bytes can make of a body.
fn framed(body: u64) -> u64 {
    body + body / 64 * 12 + 64
}

static NUMBER: AtomicU32 = AtomicU32::new(100_000);

/// A number no request has had.
pub fn number() -> u32 {
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

/// A request without a body.
pub fn ask(method: &str, target: &str, status: u16) -> Ask {
    Ask {
        method: method.into(),
        target: target.into(),
        status,
        ..Ask::default()
    }
}

/// A request with one.
pub fn put(method: &str, target: &str, body: usize, status: u16) -> Ask {
    Ask {
        body: Some(body),
        ..ask(method, target, status)
    }
}

/// What servers with code behind them are asked: every application in `apps/` knows these paths.
pub fn application() -> Vec<Ask> {
    let mut all = Vec::new();
    for size in [0, 1024, 100 << 10, 2 << 20] {
        all.push(ask("GET", &format!("/bytes/{size}/{}", number()), 200));
    }
    for size in [1, 5000, 2 << 20] {
        all.push(ask("GET", &format!("/chunked/{size}/{}", number()), 200));
    }
    all.push(ask("HEAD", &format!("/bytes/1024/{}", number()), 200));
    for size in [0, 1024, 100 << 10] {
        all.push(put("POST", &format!("/upload/{}", number()), size, 201));
    }
    all.push(put("PUT", &format!("/upload/{}", number()), 2 << 20, 201));
    for size in [10, 100 << 10] {
        let mut chunked = put("POST", &format!("/upload/{}", number()), size, 201);
        chunked.chunked = true;
        all.push(chunked);
    }
    all.push(ask("DELETE", &format!("/item/{}", number()), 204));
    for status in [200, 201, 204, 301, 404, 500] {
        all.push(ask(
            "GET",
            &format!("/status/{status}/{}", number()),
            status,
        ));
    }
    all.push(ask(
        "GET",
        &format!("/bytes/7/{}?page=2&sort=up", number()),
        200,
    ));
    all
}

/// A few of them, for where many programs are tried on few things.
pub fn few() -> Vec<Ask> {
    vec![
        ask("GET", &format!("/bytes/1024/{}", number()), 200),
        put("POST", &format!("/upload/{}", number()), 1024, 201),
        ask("GET", &format!("/status/404/{}", number()), 404),
        ask("GET", &format!("/status/500/{}", number()), 500),
    ]
}

/// Requests that ask for the connection's end.
pub fn closing() -> Vec<Ask> {
    (0..3)
        .map(|_| Ask {
            close: true,
            ..ask("GET", &format!("/bytes/1024/{}", number()), 200)
        })
        .collect()
}
