//! Plays steps to one end of a connection and says what that end saw.

use std::fmt::Write as _;
use std::sync::Arc;

use spantap::config::Config;
use spantap::event::{
    Address, ConnectionId, Direction, End, Ending, Ends, Event, Execution, Open, Role, Segment,
};
use spantap::exchange::{Exchange, Fact, Outcome};
use spantap::pipeline::encrypted::Encrypted;
use spantap::pipeline::shard::{Out, Shard};
use spantap::protocol::{Attribute, Kind, Request, Response, Value};
use spantap::stats::Stats;

use super::{Step, Way};

/// An exchange as the tests compare it.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Whether the answering side opened it.
    pub pushed: bool,
    /// Offset of the request's first byte.
    pub start: u64,
    pub request: Vec<String>,
    pub status: Option<String>,
    pub outcome: String,
    /// Offset of the response's first byte.
    pub answer: Option<u64>,
    /// The span's name, and what it is to its sides where it is more than a call; not of HTTP.
    name: Option<String>,
    sizes: String,
    response: Vec<String>,
    faults: String,
    carrier: String,
}

impl Seen {
    pub fn text(all: &[Seen]) -> String {
        let mut out = String::new();
        for seen in all {
            let status = seen.status.as_deref().unwrap_or("-");
            let _ = writeln!(
                out,
                "@{}{} {status} {}{}{}",
                if seen.pushed { "<" } else { "" },
                seen.start,
                seen.outcome,
                seen.sizes,
                seen.faults
            );
            if let Some(name) = &seen.name {
                let _ = writeln!(out, "  {name}");
            }
            for line in seen.request.iter().chain(&seen.response) {
                let _ = writeln!(out, "  {line}");
            }
            out.push_str(&seen.carrier);
        }
        out
    }

    fn attribute(&self, key: &str) -> Option<String> {
        let prefix = format!("{key} = ");
        let mut lines = self.request.iter();
        lines
            .find_map(|l| l.strip_prefix(&prefix))
            .map(str::to_owned)
    }

    pub fn method(&self) -> String {
        self.attribute("http.request.method_original")
            .or(self.attribute("http.request.method"))
            .expect("every request has a method")
    }

    pub fn path(&self) -> Option<String> {
        self.attribute("url.path")
    }

    pub fn query(&self) -> Option<String> {
        self.attribute("url.query")
    }

    /// Bytes of the request's body, if its end was seen and is certain.
    pub fn request_body(&self) -> Option<usize> {
        self.size("request=")
    }

    /// As [`Seen::request_body`].
    pub fn response_body(&self) -> Option<usize> {
        self.size("response=")
    }

    fn size(&self, what: &str) -> Option<usize> {
        let mut words = self.sizes.split(' ');
        words
            .find_map(|w| w.strip_prefix(what))
            .and_then(|n| n.parse().ok())
    }

    /// Whether it says that not all of its fields are known.
    pub fn is_partial(&self) -> bool {
        self.faults.contains("Partial")
    }

    /// Whether its destination is known by an id alone.
    pub fn is_unnamed(&self) -> bool {
        let id = |line: &String| line.starts_with("spantap.kafka.topic.id = ");
        self.request.iter().any(id)
    }

    /// Whether it says by itself that it is whole; HTTP tells by its status what is known.
    pub fn is_sure(&self) -> bool {
        self.name.is_some() && self.outcome == "complete" && !self.is_faulty()
    }

    pub fn is_faulty(&self) -> bool {
        !self.faults.is_empty()
    }

    /// What both ends of a connection agree on.
    pub fn gist(&self) -> (u64, Option<String>, String) {
        let start = self.start | u64::from(self.pushed) << 63;
        (start, self.status.clone(), self.outcome.clone())
    }

    fn of(exchange: &Exchange) -> Self {
        let end = exchange.end;
        assert!(exchange.start.time <= end, "ends before it starts");
        let response = exchange.response.as_deref();
        let status = response.and_then(|r| {
            let codes = ["http.response.status_code", "db.response.status_code"];
            let code = r.attributes.iter().find(|a| codes.contains(&&*a.key));
            let error = || r.client_error.as_ref().map(ToString::to_string);
            code.map(|a| value(&a.value)).or_else(error)
        });
        let request = &exchange.request;
        let http = request
            .attributes
            .iter()
            .any(|a| a.key.starts_with("http."));
        let name = (!is_unnamed(request)).then(|| match request.kind {
            Kind::Call => format!("name = {}", request.operation),
            kind => format!("name = {} ({kind:?})", request.operation),
        });
        let own = request.carrier.as_deref().map(|c| ("carrier", c));
        let sent = request.messages.iter().map(|c| ("message", c));
        let brought = response.iter().flat_map(|r| &r.messages);
        let brought = brought.map(|c| ("brought", c));
        let carrier = own.into_iter().chain(sent).chain(brought);
        let size = |what: &str, end: &Option<(_, spantap::protocol::Finish)>| match end {
            Some((_, f)) => format!(
                " {what}={}{}{}",
                f.body,
                if f.exact { "" } else { "~" },
                if f.whole { "" } else { "(cut)" }
            ),
            None => String::new(),
        };
        let mut sizes = size("request", &exchange.request_end);
        sizes += &size("response", &exchange.response_end);
        let outcome = match exchange.outcome {
            Outcome::Complete => "complete".to_owned(),
            other => format!("{other:?}").to_lowercase(),
        };
        let lines = |a: &[Attribute]| {
            a.iter()
                .map(|a| format!("{} = {}", a.key, value(&a.value)))
                .collect()
        };
        let faults = exchange.faults.iter().map(|f| format!(" {f:?}")).collect();
        let carrier = carrier
            .map(|(what, c)| format!("  {what} {c:?}\n"))
            .collect();
        let mut told: Vec<_> = response.map_or(Vec::new(), |r| lines(&r.attributes));
        if let Some(r) = response.filter(|_| http) {
            told.extend(errors(r, status.as_deref()));
        }
        Self {
            pushed: exchange.role != exchange.peer.role,
            name,
            start: exchange.start.offset,
            request: lines(&exchange.request.attributes),
            status,
            outcome,
            answer: exchange.response_start.map(|mark| mark.offset),
            sizes,
            response: told,
            faults,
            carrier,
        }
    }
}

/// Whether it is HTTP's, and nothing spoken over it names it.
fn is_unnamed(request: &Request) -> bool {
    let is_method = |a: &Attribute| a.key == "http.request.method";
    let method = request.attributes.iter().find(|a| is_method(a));
    let named = |a: &Attribute| value(&a.value) != request.operation;
    request.operation == "HTTP" || method.is_some_and(|a| !named(a))
}

/// Errors that are more than the status, which is shown.
fn errors(response: &Response, status: Option<&str>) -> Vec<String> {
    let errors = [
        ("client_error", &response.client_error),
        ("server_error", &response.server_error),
    ];
    let told = errors.into_iter().filter_map(|(whose, error)| {
        let error = error.as_deref().filter(|e| Some(*e) != status)?;
        Some(format!("{whose} = {error}"))
    });
    told.collect()
}

fn value(value: &Value) -> String {
    match value {
        Value::Str(s) => format!("{s:?}").trim_matches('"').to_owned(),
        Value::Int(i) => i.to_string(),
        Value::Bool(b) => b.to_string(),
        Value::Double(d) => d.to_string(),
        Value::List(l) => format!("{l:?}"),
    }
}

/// Plays steps to the serving end and returns the exchanges in the order of their requests.
pub fn play(steps: &[Step]) -> Vec<Seen> {
    without_dismissed(run(steps, Role::Server))
}

/// The same with those that turned out to be nothing: seen in part they may be something.
pub fn play_all(steps: &[Step]) -> Vec<Seen> {
    run(steps, Role::Server)
}

/// Plays them to the asking end.
pub fn play_as_client(steps: &[Step]) -> Vec<Seen> {
    without_dismissed(run(steps, Role::Client))
}

fn without_dismissed(mut seen: Vec<Seen>) -> Vec<Seen> {
    seen.retain(|s| s.outcome != "dismissed");
    seen
}

/// Plays steps to the serving end and says all that it saw: exchanges, and what is known of a
/// connection that went on encrypted.
pub fn play_to_text(steps: &[Step]) -> String {
    let mut end = Player::new(Role::Server, older(steps));
    let encrypted = Arc::clone(&end.encrypted);
    end.play(steps);
    let mut text = Seen::text(&without_dismissed(read(&end.facts)));
    if encrypted.has(ID) {
        text += "encrypted\n";
    }
    if let Some(handshake) = encrypted.handshakes.get(ID) {
        let mut attributes = Vec::new();
        handshake.describe(&mut attributes);
        for a in attributes {
            let _ = writeln!(text, "  {} = {}", a.key, value(&a.value));
        }
        let _ = writeln!(text, "  offered {:?}", handshake.alpn_offered);
    }
    text
}

/// Whether the connection was there before the agent.
fn older(steps: &[Step]) -> bool {
    matches!(steps.first(), Some(Step::Older))
}

const ID: ConnectionId = ConnectionId(77);

/// One end of one connection.
struct Player {
    shard: Shard,
    encrypted: Arc<Encrypted>,
    facts: Vec<Fact>,
    role: Role,
    offsets: [u64; 2],
    last: Option<Way>,
    lost: u32,
    time: u64,
}

fn run(steps: &[Step], role: Role) -> Vec<Seen> {
    let mut end = Player::new(role, older(steps));
    end.play(steps);
    read(&end.facts)
}

impl Player {
    fn new(role: Role, older: bool) -> Self {
        let mut config = Config::default();
        config.http.request_headers = vec!["x-note".into()];
        config.http.response_headers = vec!["x-note".into()];
        let stats = Arc::new(Stats::default());
        let encrypted = Arc::new(Encrypted::default());
        let shard = Shard::new(0, 16, Arc::new(config), stats);
        let mut end = Self {
            shard: shard.sharing(Arc::clone(&encrypted), Arc::default()),
            encrypted,
            facts: Vec::new(),
            role,
            offsets: [0; 2],
            last: None,
            lost: 0,
            time: 10,
        };
        let address = |port| Address::Inet(([127, 0, 0, 1], port).into());
        let open = Open {
            connection: ID,
            time: 1,
            process: 1,
            comm: "test".into(),
            local: address(1),
            remote: address(2),
            role: None,
            ends: Some(Ends { own: 1, peer: 2 }),
            start: if older { [5000, 5000] } else { [0, 0] },
            base: if older { [5000, 5000] } else { [0, 0] },
            line: 0,
            netns: 0,
            session: None,
            kernel_tls: false,
            datagrams: false,
        };
        end.with(|shard, out| shard.take(&Event::Open(open), out));
        end
    }

    fn play(&mut self, steps: &[Step]) {
        for step in steps {
            self.time += 10;
            match step {
                Step::End(ending) => self.ends(*ending),
                Step::Older => {}
                step => self.moves(step),
            }
        }
        // What is left open is shown as abandoned; its time-outs are tested elsewhere.
        let now = self.time + 10;
        self.with(|shard, out| shard.finish(now, out));
    }

    fn with(&mut self, act: impl FnOnce(&mut Shard, &mut Out<'_>)) {
        let mut commands = Vec::new();
        let mut out = Out {
            facts: &mut self.facts,
            commands: &mut commands,
        };
        act(&mut self.shard, &mut out);
    }

    fn ends(&mut self, ending: Ending) {
        let ending = match (self.role, ending) {
            (Role::Client, Ending::Eof) => Ending::Local,
            (Role::Client, Ending::Local) => Ending::Eof,
            (_, ending) => ending,
        };
        let end = End {
            connection: ID,
            time: self.time,
            ending,
            lost: std::mem::take(&mut self.lost),
        };
        self.with(|shard, out| shard.take(&Event::End(end), out));
    }

    fn moves(&mut self, step: &Step) {
        let Step::Bytes {
            way,
            bytes,
            hole,
            cause,
            dropped,
            ..
        } = step
        else {
            return;
        };
        let offset = self.offsets[*way as usize];
        self.offsets[*way as usize] += bytes.len() as u64;
        let turn = self.last.replace(*way) != Some(*way);
        if *dropped {
            self.lost += 1;
            return;
        }
        let (head, tail) = match hole {
            Some((at, size)) => (&bytes[..*at], &bytes[at + size..]),
            None => (&bytes[..], &[][..]),
        };
        let sends = (*way == Way::Ask) == (self.role == Role::Client);
        let segment = Segment {
            connection: ID,
            direction: if sends {
                Direction::Egress
            } else {
                Direction::Ingress
            },
            time: self.time,
            offset,
            length: bytes.len() as u32,
            bytes: head,
            tail,
            hole: *cause,
            turn,
            lost: std::mem::take(&mut self.lost),
            execution: Execution::default(),
        };
        self.with(|shard, out| shard.take(&Event::Segment(segment), out));
    }
}

fn read(facts: &[Fact]) -> Vec<Seen> {
    let mut open = Vec::new();
    let mut seen = Vec::new();
    for fact in facts {
        match fact {
            Fact::Opened(o) => {
                assert!(o.start.offset <= o.head.offset);
                let key = o.key.expect("a key");
                let offset = key.offset & !(0b11 << 62);
                assert!(key.number != 0 || offset == o.start.offset);
                open.push(o.id);
            }
            Fact::Closed(exchange) => {
                let at = open.iter().position(|id| *id == exchange.id);
                open.remove(at.expect("opened before it is closed, and closed once"));
                seen.push(Seen::of(exchange));
            }
            Fact::Detached(id, _) => assert!(open.contains(id), "detached while it is open"),
            Fact::Started(_) | Fact::Taken(_) | Fact::Carried(_) | Fact::Java(_) => {}
        }
    }
    assert!(open.is_empty(), "every exchange is closed");
    seen.sort_by_key(|s| (s.pushed, s.start));
    seen
}
