//! What dialogues do not show: first bytes of others, the way to TLS, many messages, limits.

use super::*;
use crate::connection::stream::Stream;
use crate::event::{ConnectionId, Direction, Execution, Role, Segment};
use crate::protocol::Verdict::{Is, Likely, More, Not};
use crate::stats::Stats;

/// A connection whose flows are fed by hand.
struct Pair {
    parser: Box<dyn Parser>,
    streams: [Stream; 2],
    out: Vec<Message>,
    stats: Stats,
    status: Status,
}

impl Pair {
    fn new() -> Self {
        let setup = Setup {
            role: Role::Server,
            secure: false,
            config: Arc::default(),
        };
        Self {
            parser: PROTOCOL.parser(setup),
            streams: [Stream::new(0), Stream::new(0)],
            out: Vec::new(),
            stats: Stats::default(),
            status: Status::Stay,
        }
    }

    fn feed(&mut self, flow: Flow, bytes: &[u8]) {
        let stream = &mut self.streams[usize::from(flow == Flow::Response)];
        let segment = Segment {
            connection: ConnectionId(1),
            direction: Direction::Ingress,
            time: 1,
            offset: stream.end(),
            length: bytes.len() as u32,
            bytes,
            tail: &[],
            hole: None,
            turn: true,
            lost: 0,
            execution: Execution::default(),
        };
        stream.push(&segment, 0, &self.stats);
        self.status = self.parser.parse(
            flow,
            &mut Feed {
                stream,
                out: &mut self.out,
                stats: &self.stats,
            },
        );
    }

    fn requests(&self) -> usize {
        let requests = self.out.iter();
        let requests = requests.filter(|message| matches!(message.part, Part::Request(..)));
        requests.count()
    }
}

#[test]
fn first_bytes() {
    for (bytes, verdict) in [
        (&b"\0\0\0\x08\x04\xd2\x16\x2f"[..], Is(Flow::Request)),
        (
            b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02",
            Is(Flow::Request),
        ),
        (b"\0\0\0\x17\0\x03\0\0user\0app\0\0", Is(Flow::Request)),
        (b"\0\0\0\x17\0\x03", More),
        // Kafka's Metadata, version 0.
        (b"\0\0\0\x17\0\x03\0\0\0\0\0\x01\0\x03abc", Not),
        (b"Q\0\0\0\x0dSELECT 1\0", Likely(Flow::Request)),
        (b"Q\0\0\0\x0dSELECT 1x", Not),
        (b"Z\0\0\0\x05I", Likely(Flow::Response)),
        (b"Z\0\0\0\x05X", Not),
        (b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I", Likely(Flow::Response)),
        (b"C\0\0\0\x0bSone_1\0\0\0\0\0\x04", Not),
        (b"C\0\0\0\x09Sone\0S\0\0\0\x04", Likely(Flow::Request)),
        (b"GET / HTTP/1.1\r\n", Not),
        (b"PRI * HTTP/2.0\r\n", Not),
        (b"\x16\x03\x01\x02\0\x01", Not),
        (b"*1\r\n$4\r\nPING\r\n", Not),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Not),
        (b"", More),
    ] {
        assert_eq!(PROTOCOL.sniff(bytes), verdict, "{bytes:?}");
    }
}

#[test]
fn tls_follows_where_the_server_agrees() {
    let mut pair = Pair::new();
    pair.feed(Flow::Request, b"\0\0\0\x08\x04\xd2\x16\x2f");
    assert_eq!(pair.status, Status::Stay);
    pair.feed(Flow::Response, b"S");
    assert_eq!(pair.status, Status::Leave);
    let (protocol, _) = pair.parser.successor().expect("a successor");
    assert_eq!(protocol.name(), "tls");
    assert_eq!(pair.requests(), 0);
}

#[test]
fn a_million_messages() {
    let mut pair = Pair::new();
    let asks = b"Q\0\0\0\x05\0".repeat(1000);
    let answers = b"I\0\0\0\x04Z\0\0\0\x05I".repeat(1000);
    for _ in 0..500 {
        pair.feed(Flow::Request, &asks);
        pair.feed(Flow::Response, &answers);
        assert_eq!(pair.requests(), 1000);
        assert_eq!(pair.parser.weight(), 0);
        pair.out.clear();
    }
}

#[test]
fn what_is_remembered_has_a_limit() {
    let mut names = Names::default();
    for number in 0..10_000 {
        let name = format!("{number:0200}");
        let statement = Statement::Named(name.clone());
        names.put(name.as_bytes(), Arc::new(statement));
        assert!(names.weight() <= 64 << 10);
    }
    assert!(names.get(format!("{:0200}", 9_999).as_bytes()).is_some());
    assert!(names.get(format!("{:0200}", 0).as_bytes()).is_none());
    names.clear();
    assert_eq!(names.weight(), 0);
}

#[test]
fn a_pipeline_without_end_is_not_followed() {
    let mut pair = Pair::new();
    for _ in 0..20 {
        let executes = b"E\0\0\0\x09\0\0\0\0\0".repeat(1000);
        pair.feed(Flow::Request, &executes);
    }
    assert_eq!(pair.requests(), 20_000);
    assert!(pair.parser.weight() < 1 << 20);
}
