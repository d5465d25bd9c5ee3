//! The dialogue's own corners; whole dialogues are in `tests/wire/nats`.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::connection::stream::Stream;
use crate::event::{ConnectionId, Direction, Execution, Role, Segment};
use crate::stats::Stats;

struct Bench {
    parser: Box<dyn Parser>,
    streams: [Stream; 2],
    last: Option<Flow>,
    out: Vec<Message>,
    stats: Stats,
}

impl Bench {
    fn new() -> Self {
        let setup = Setup {
            role: Role::Server,
            secure: false,
            config: Arc::default(),
        };
        Self {
            parser: PROTOCOL.parser(setup),
            streams: [Stream::new(0), Stream::new(0)],
            last: None,
            out: Vec::new(),
            stats: Stats::default(),
        }
    }

    fn send(&mut self, flow: Flow, bytes: &[u8]) -> Status {
        let stream = &mut self.streams[flow as usize];
        let segment = Segment {
            connection: ConnectionId(1),
            direction: Direction::Ingress,
            time: 1,
            offset: stream.end(),
            length: bytes.len() as u32,
            bytes,
            tail: &[],
            hole: None,
            turn: self.last != Some(flow),
            lost: 0,
            execution: Execution::default(),
        };
        self.last = Some(flow);
        stream.push(&segment, 0, &self.stats);
        let (out, stats) = (&mut self.out, &self.stats);
        self.parser.parse(flow, &mut Feed { stream, out, stats })
    }

    fn count(&mut self, is: fn(&Part) -> bool) -> usize {
        let found = self.out.iter().filter(|m| is(&m.part)).count();
        self.out.clear();
        found
    }

    fn quiet(&mut self) {
        for flow in [Flow::Request, Flow::Response] {
            let stream = &mut self.streams[flow as usize];
            let (out, stats) = (&mut self.out, &self.stats);
            self.parser.quiet(flow, &mut Feed { stream, out, stats });
        }
    }
}

const INFO: &[u8] = b"INFO {\"server_id\":\"S\"}\r\n";
const CONNECT: &[u8] = b"CONNECT {\"verbose\":false}\r\n";

fn begun() -> Bench {
    let mut bench = Bench::new();
    assert_eq!(bench.send(Flow::Response, INFO), Status::Stay);
    assert_eq!(bench.send(Flow::Request, CONNECT), Status::Stay);
    bench
}

fn is_request(part: &Part) -> bool {
    matches!(part, Part::Request(..))
}

fn is_finish(part: &Part) -> bool {
    matches!(part, Part::Finish(_))
}

#[test]
fn many_small_messages_are_read_in_time() {
    let mut bench = begun();
    for _ in 0..1000 {
        let _ = bench.send(Flow::Request, &b"PING\r\n".repeat(1000));
    }
    let mut requests = 0;
    for _ in 0..50 {
        let _ = bench.send(Flow::Request, &b"PUB a 1\r\nx\r\n".repeat(1000));
        requests += bench.count(is_request);
    }
    assert_eq!(requests, 50_000);
    assert_eq!(bench.streams[0].held(), 0);
}

#[test]
fn silence_ends_what_is_not_answered() {
    let mut bench = begun();
    let _ = bench.send(Flow::Request, b"SUB a 1\r\n");
    let _ = bench.send(Flow::Response, b"MSG a 1 $JS.ACK.x 1\r\nx\r\n");
    assert_eq!(bench.count(is_finish), 1);
    bench.quiet();
    assert_eq!(bench.count(is_finish), 1);
    // Too late.
    let _ = bench.send(Flow::Request, b"PUB $JS.ACK.x 0\r\n\r\n");
    assert!(bench.out.is_empty());
}

#[test]
fn what_waits_is_bounded() {
    let mut bench = begun();
    let _ = bench.send(Flow::Request, b"SUB _INBOX.a.> 1\r\n");
    for n in 0..2000 {
        let line = format!("PUB a _INBOX.a.{n} 0\r\n\r\n");
        let _ = bench.send(Flow::Request, line.as_bytes());
        let line = format!("MSG a 2 $JS.ACK.{n} 0\r\n\r\n");
        let _ = bench.send(Flow::Response, line.as_bytes());
    }
    assert!(bench.parser.weight() < 192 * 1024);
    let abandoned = bench.out.iter().filter(|m| m.part == Part::Abandon).count();
    assert_eq!(abandoned, 2000 - 256);
}

#[test]
fn two_that_share_an_inbox_are_not_told_apart() {
    let mut bench = begun();
    let _ = bench.send(Flow::Request, b"SUB _INBOX.a 1\r\n");
    let _ = bench.send(
        Flow::Request,
        b"PUB a _INBOX.a 0\r\n\r\nPUB b _INBOX.a 0\r\n\r\n",
    );
    bench.out.clear();
    let _ = bench.send(Flow::Response, b"MSG _INBOX.a 1 0\r\n\r\n");
    assert!(bench.out.is_empty());
}

#[test]
fn an_answer_that_is_told_too_early_leaves_nobody_waiting() {
    let mut bench = begun();
    let _ = bench.send(Flow::Request, b"SUB _INBOX.a.* 1\r\n");
    let _ = bench.send(Flow::Response, b"MSG _INBOX.a.1 1 0\r\n\r\n");
    let _ = bench.send(Flow::Request, b"PUB a _INBOX.a.1 0\r\n\r\n");
    assert_eq!(bench.count(|part| *part == Part::Abandon), 1);
    // Of later ones nothing is known.
    let _ = bench.send(Flow::Request, b"PUB a _INBOX.a.1 0\r\n\r\n");
    assert_eq!(bench.count(|part| *part == Part::Abandon), 0);
    assert!(bench.parser.weight() > 0);
}

#[test]
fn what_is_no_line_is_given_back() {
    let mut bench = Bench::new();
    let _ = bench.send(Flow::Response, INFO);
    for _ in 0..100 {
        assert_eq!(
            bench.send(Flow::Request, b"GET / HTTP/1.1\r\n"),
            Status::Stay
        );
    }
    assert!(bench.out.is_empty());
    let mut bench = begun();
    assert_eq!(bench.send(Flow::Request, b"RS+ $G a\r\n"), Status::Leave);
}

#[test]
fn a_line_that_lost_a_letter_is_none() {
    for line in [
        "PUB a 12 13\r\n",
        "MSG a 1 12 13\r\n",
        "SUB 5 10\r\n",
        "PUB a 2\r\nxyz",
    ] {
        assert_eq!(line::sniff_amid(line.as_bytes()), Verdict::Not, "{line}");
    }
    for (line, flow) in [
        ("PUB a b 13\r\n", Flow::Request),
        ("HPUB a 12 13\r\nNATS/1", Flow::Request),
        ("MSG a 1 13\r\n", Flow::Response),
    ] {
        assert_eq!(
            line::sniff_amid(line.as_bytes()),
            Verdict::Is(flow),
            "{line}"
        );
    }
}

/// What dialogues are made of.
const FRAGMENTS: &[&[u8]] = &[
    INFO,
    CONNECT,
    b"PUB a 5\r\n",
    b"hello\r\n",
    b"HPUB a _INBOX.x 12 13\r\n",
    b"NATS/1.0\r\n\r\n",
    b"MSG a 1 _INBOX.y 5\r\n",
    b"HMSG _INBOX.x 1 16 16\r\n",
    b"NATS/1.0 503\r\n\r\n",
    b"PUB _INBOX.y 0\r\n\r\n",
    b"SUB a g 1\r\n",
    b"UNSUB 1\r\n",
    b"-ERR 'Permissions Violation for Publish to \"a\"'\r\n",
    b"\x16\x03\x01",
];

proptest! {
    #[test]
    fn any_dialogue_ends(parts in prop::collection::vec((any::<bool>(), 0..FRAGMENTS.len(), any::<bool>()), 0..60)) {
        let mut bench = Bench::new();
        for (asks, fragment, cut) in parts {
            let flow = if asks { Flow::Request } else { Flow::Response };
            let bytes = FRAGMENTS[fragment];
            let bytes = if cut { &bytes[..bytes.len() / 2] } else { bytes };
            if bench.send(flow, bytes) != Status::Stay {
                break;
            }
        }
    }
}
