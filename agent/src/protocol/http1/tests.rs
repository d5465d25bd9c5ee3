//! The dialogue's own corners; whole dialogues are in `tests/wire/http1`.

use proptest::prelude::*;

use super::*;
use crate::protocol::Finish;
use crate::protocol::Message;
use crate::protocol::bench::Bench;

#[test]
fn a_head_past_the_limit_is_given_up_and_the_next_one_read() {
    let mut bench = Bench::new(PROTOCOL);
    let long = format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(MAX_HEAD));
    assert_eq!(bench.send(Flow::Request, long.as_bytes()), Status::Stay);
    assert_eq!(bench.stats.protocol_head_too_long.get(), 1);
    let _ = bench.send(
        Flow::Response,
        b"HTTP/1.1 431 No\r\nContent-Length: 0\r\n\r\n",
    );
    let _ = bench.send(Flow::Request, b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(bench.requests().len(), 1);
}

#[test]
fn a_head_of_64_kib_is_read() {
    let mut head = b"GET / HTTP/1.1\r\nCookie: ".to_vec();
    head.resize(MAX_HEAD - 4, b'x');
    head.extend(b"\r\n\r\n");
    let mut bench = Bench::new(PROTOCOL);
    for byte in &head {
        assert_eq!(bench.send(Flow::Request, &[*byte]), Status::Stay);
    }
    assert_eq!(bench.requests().len(), 1);
}

#[test]
fn a_connection_that_speaks_something_else_is_given_up() {
    let mut bench = Bench::new(PROTOCOL);
    let _ = bench.send(Flow::Request, b"GET / HTTP/1.1\r\n\r\n");
    let mut rounds = 0;
    loop {
        rounds += 1;
        assert!(rounds < 100);
        if bench.send(Flow::Response, b"+OK\r\n") == Status::Leave {
            break;
        }
        if bench.send(Flow::Request, b"*1\r\n$4\r\nPING\r\n") == Status::Leave {
            break;
        }
    }
    assert_eq!(bench.stats.protocol_given_up.get(), 1);
}

#[test]
fn silence_ends_a_message_of_unknown_length() {
    let mut bench = Bench::new(PROTOCOL);
    let _ = bench.send(Flow::Request, b"GET / HTTP/1.1\r\n\r\n");
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy";
    let _ = bench.send(Flow::Response, answer);
    let over =
        |m: &Message| matches!(m.part, Part::Finish(f) if m.flow == Flow::Response && !f.exact);
    assert!(!bench.out.iter().any(over));
    bench.quiet();
    assert!(bench.out.iter().any(over));
}

#[test]
fn chunks_that_come_byte_by_byte_are_read() {
    let mut bench = Bench::new(PROTOCOL);
    let mut body = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for n in 0..2000 {
        body.extend(format!("1;note={n}\r\nx\r\n").bytes());
    }
    body.extend(b"0\r\nTrailer: t\r\n\r\n");
    for byte in &body {
        let _ = bench.send(Flow::Request, &[*byte]);
    }
    let finish = bench.out.last().expect("an end");
    let expected = Finish {
        body: 2000,
        exact: true,
        whole: true,
    };
    assert_eq!(finish.part, Part::Finish(expected));
}

/// What dialogues are made of.
const FRAGMENTS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"hello",
    b"\n",
    b" ",
    b"\xff\0",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HEAD /x HTTP/1.0\r\n",
    b"Expect: 100-continue\r\n",
    b"CONNECT h:1 HTTP/1.1\r\n\r\n",
];

proptest! {
    /// Any bytes on either flow in any order: no panic, and nothing held that should be passed.
    #[test]
    fn any_bytes(steps in prop::collection::vec(
        (any::<bool>(), prop::collection::vec(prop::sample::select(FRAGMENTS), 0..6)), 0..30,
    )) {
        let mut bench = Bench::new(PROTOCOL);
        for (asks, parts) in steps {
            let flow = if asks { Flow::Request } else { Flow::Response };
            if bench.send(flow, &parts.concat()) == Status::Leave {
                break;
            }
            for stream in &bench.streams {
                prop_assert!(stream.held() <= MAX_HEAD + 1024);
            }
        }
    }
}
