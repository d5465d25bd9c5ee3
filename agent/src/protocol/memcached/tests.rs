//! What dialogues cannot say: limits, and whose a connection is.

use super::*;
use crate::connection::stream::Stream;
use crate::event::{ConnectionId, Direction, Execution, Role, Segment};
use crate::protocol::Message;
use crate::protocol::bench::Bench;
use crate::stats::Stats;

/// Plays portions of both flows to a parser.
fn play(portions: &[(Flow, &[u8])], mut each: impl FnMut(Status, &mut Vec<Message>)) {
    let setup = Setup {
        role: Role::Server,
        secure: false,
        process: 1,
        counted: true,
        config: Arc::new(Config::default()),
        shared: Arc::default(),
    };
    let mut parser = PROTOCOL.parser(setup);
    let mut streams = [Stream::new(0), Stream::new(0)];
    let (stats, mut out, mut last) = (Stats::default(), Vec::new(), None);
    for (time, (flow, bytes)) in portions.iter().enumerate() {
        let stream = &mut streams[*flow as usize];
        let segment = Segment {
            connection: ConnectionId(1),
            direction: Direction::Ingress,
            time: time as u64,
            offset: stream.end(),
            length: bytes.len() as u32,
            bytes,
            tail: &[],
            hole: None,
            turn: last.replace(*flow) != Some(*flow),
            lost: 0,
            execution: Execution::default(),
        };
        stream.push(&segment, 0, &stats);
        let mut feed = Feed {
            stream,
            out: &mut out,
            stats: &stats,
        };
        each(parser.parse(*flow, &mut feed), &mut out);
        assert!(parser.weight() < 256 * 1024);
    }
}

#[test]
fn an_answer_that_cannot_be_gives_the_connection_back() {
    let mut seen = Vec::new();
    let portions = [
        (Flow::Request, &b"get k\r\n"[..]),
        (Flow::Response, b"STORED\r\n"),
    ];
    play(&portions, |status, _| seen.push(status));
    assert_eq!(seen, [Status::Stay, Status::Mistaken]);
}

#[test]
fn what_is_no_command_gives_the_connection_back() {
    let mut seen = Vec::new();
    let portions = [(Flow::Request, &b"get k\r\nhello\r\n"[..])];
    play(&portions, |status, _| seen.push(status));
    assert_eq!(seen, [Status::Mistaken]);
}

#[test]
fn amid_others_a_number_is_no_key() {
    let asks = Verdict::Likely(Flow::Request);
    for (bytes, verdict) in [
        (&b"delete 5\r\n"[..], Verdict::Not),
        (b"delete k5\r\n", asks),
        (b"get 5\r\n", asks),
    ] {
        assert_eq!(PROTOCOL.sniff_amid(bytes), verdict);
        assert_eq!(PROTOCOL.sniff(bytes), asks);
    }
}

#[test]
fn a_million_messages() {
    let asks = b"get k\r\n".repeat(500);
    let answers = b"VALUE k 0 1\r\nx\r\nEND\r\n".repeat(500);
    let round = [(Flow::Request, &asks[..]), (Flow::Response, &answers[..])];
    let portions = round.repeat(500);
    let mut messages = 0;
    play(&portions, |_, out| messages += out.drain(..).count());
    assert_eq!(messages, 1_000_000);
}

#[test]
fn a_line_begun_in_one_direction_moves_none_in_the_other() {
    let mut bench = Bench::new(PROTOCOL);
    bench.ask(b"get a\r\nget b\r\nget ccccc");
    bench.answer(b"END\r\nEND\r\n");
    bench.ask(b"\r\n");
    bench.answer(b"END\r\n");
    assert_eq!((bench.requests().len(), bench.responses().len()), (3, 3));
    assert_eq!(bench.stats.protocol_malformed.get(), 0);
}
