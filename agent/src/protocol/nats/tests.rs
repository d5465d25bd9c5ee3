//! The dialogue's own corners; whole dialogues are in `tests/wire/nats`.

use proptest::prelude::*;

use super::*;
use crate::protocol::bench::Bench;

const INFO: &[u8] = b"INFO {\"server_id\":\"S\"}\r\n";
const CONNECT: &[u8] = b"CONNECT {\"verbose\":false}\r\n";

fn begun() -> Bench {
    let mut bench = Bench::new(PROTOCOL);
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

fn is_guess(part: &Part) -> bool {
    matches!(part, Part::Finish(finish) if !finish.exact)
}

/// One message, to be acknowledged.
fn delivered() -> Bench {
    let mut bench = begun();
    bench.ask(b"SUB a 1\r\n");
    bench.answer(b"MSG a 1 $JS.ACK.x 1\r\nx\r\n");
    assert_eq!(bench.count(is_finish), 1);
    bench
}

#[test]
fn a_slow_consumer_is_waited_for() {
    for (said, error) in [
        ("+ACK", None),
        ("-NAK", Some("NAK")),
        ("+TERM", Some("TERM")),
    ] {
        let mut bench = delivered();
        bench.quiet();
        bench.time += 3_000_000_000;
        bench.ask(b"PING\r\n");
        assert!(bench.out.is_empty());
        let line = format!("PUB $JS.ACK.x {}\r\n{said}\r\n", said.len());
        bench.ask(line.as_bytes());
        let [response] = bench.responses()[..] else {
            panic!("no answer: {:?}", bench.out);
        };
        assert_eq!(response.client_error.as_deref(), error);
        assert_eq!(bench.count(is_guess), 0);
    }
}

#[test]
fn one_of_a_thousand_is_refused() {
    let mut bench = begun();
    bench.ask(b"SUB a 1\r\n");
    for n in 0..1000 {
        let ack = format!("$JS.ACK.STREAM.consumer.1.{n}.{n}.1795300082373917418.0");
        let line = format!("MSG a 1 {ack} 0\r\n\r\n");
        bench.answer(line.as_bytes());
    }
    assert_eq!(bench.count(is_guess), 0);
    bench.ask(b"PUB $JS.ACK.STREAM.consumer.1.0.0.1795300082373917418.0 4\r\n-NAK\r\n");
    let [response] = bench.responses()[..] else {
        panic!("no answer: {:?}", bench.out);
    };
    assert_eq!(response.client_error.as_deref(), Some("NAK"));
}

#[test]
fn pings_keep_nobody_waiting() {
    let mut bench = delivered();
    bench.time += 299_000_000_000;
    bench.answer(b"PING\r\n");
    assert!(bench.out.is_empty());
    bench.time += 1_000_000_000;
    bench.answer(b"PING\r\n");
    assert_eq!(bench.count(is_guess), 1);
}

#[test]
fn silence_ends_what_is_not_answered() {
    let mut bench = delivered();
    bench.silenced();
    assert_eq!(bench.count(is_guess), 1);
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
    assert!(bench.parser.weight() < 384 * 1024);
    let abandoned = bench.out.iter().filter(|m| m.part == Part::Abandon).count();
    assert_eq!(abandoned, 2000 - 256);
    assert_eq!(bench.count(is_guess), 2000 - MAX_DELIVERED);
    let forgotten = bench.stats.protocol_entries_forgotten.get();
    assert_eq!(forgotten, (4000 - 256 - MAX_DELIVERED) as u64);
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
    let mut bench = Bench::new(PROTOCOL);
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
        let mut bench = Bench::new(PROTOCOL);
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
