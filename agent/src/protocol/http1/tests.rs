//! The dialogue's own corners; whole dialogues are in `tests/wire/http1`.

use proptest::prelude::*;

use super::*;
use crate::event::Hole;
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

/// A chunked answer some of whose chunks were not copied, read up to a call that ends like one.
fn chunks_in_part() -> Bench {
    let mut bench = Bench::new(PROTOCOL);
    bench.ask(b"GET / HTTP/1.1\r\n\r\n");
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3000\r\nxyz";
    let _ = bench.send_part(Flow::Response, head, 0x8000, Hole::Budget);
    bench.out.clear();
    bench.answer(b"more\r\n0\r\n\r\n");
    bench.time += 1000;
    bench
}

/// How answers ended, and with what byte.
fn ends(bench: &Bench) -> Vec<(Finish, u64)> {
    let end = |m: &Message| match m.part {
        Part::Finish(finish) if m.flow == Flow::Response => Some((finish, m.at.time)),
        _ => None,
    };
    bench.out.iter().filter_map(end).collect()
}

#[test]
fn content_that_reads_like_the_last_chunk_is_no_end() {
    let mut bench = chunks_in_part();
    assert_eq!(ends(&bench), []);
    bench.answer(b"and on it goes\r\n0\r\n\r\n");
    assert_eq!(ends(&bench), []);
    bench.answer(b"without an end");
    bench.ask(b"GET /2 HTTP/1.1\r\n\r\n");
    let [(finish, at)] = ends(&bench)[..] else {
        panic!("{:?}", bench.out);
    };
    assert_eq!((finish.exact, at), (false, 1001));
    bench.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(bench.responses().len(), 1);
}

#[test]
fn the_last_chunk_is_an_end_once_nothing_more_came() {
    for confirm in [
        (|bench| bench.ask(b"GET /2 HTTP/1.1\r\n\r\n")) as fn(&mut Bench),
        Bench::quiet,
        |bench| {
            let stream = &mut bench.streams[Flow::Response as usize];
            let (out, stats) = (&mut bench.out, &bench.stats);
            let feed = &mut Feed { stream, out, stats };
            bench.parser.close(Flow::Response, false, feed);
        },
    ] {
        let mut bench = chunks_in_part();
        // Its thread is free meanwhile.
        assert!(bench.out.iter().any(|m| m.part == Part::Detach));
        confirm(&mut bench);
        let [(finish, at)] = ends(&bench)[..] else {
            panic!("{:?}", bench.out);
        };
        assert_eq!((finish.exact, finish.whole, at), (true, true, 1));
    }
}

#[test]
fn what_an_answer_misses_is_said_with_an_end_that_was_held_back() {
    let mut bench = Bench::new(PROTOCOL);
    bench.ask(b"GET / HTTP/1.1\r\n\r\n");
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3000\r\nxyz";
    let _ = bench.send_part(Flow::Response, head, 0x8000, Hole::Lost);
    bench.answer(b"more\r\n0\r\n\r\n");
    bench.ask(b"GET /2 HTTP/1.1\r\n\r\n");
    let missing = |part: &Part| matches!(part, Part::Fault(Fault::Missing { bytes: 0x8000, .. }));
    assert_eq!(ends(&bench).len(), 1);
    assert_eq!(bench.count(missing), 1);
}

#[test]
fn the_last_chunk_of_a_request_is_its_end_once_it_is_answered() {
    let mut bench = Bench::new(PROTOCOL);
    let head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3000\r\nxyz";
    let _ = bench.send_part(Flow::Request, head, 0x8000, Hole::Budget);
    bench.ask(b"more\r\n0\r\n\r\n");
    let ended =
        |m: &Message| matches!(m.part, Part::Finish(f) if m.flow == Flow::Request && f.exact);
    assert!(!bench.out.iter().any(ended));
    bench.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert!(bench.out.iter().any(ended));
    bench.ask(b"GET /2 HTTP/1.1\r\n\r\n");
    bench.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(bench.responses().len(), 2);
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
