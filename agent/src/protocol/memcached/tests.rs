//! What dialogues cannot say: limits, and whose a connection is.

use super::*;
use crate::connection::stream::Stream;
use crate::event::{ConnectionId, Direction, Execution, Role, Segment};
use crate::stats::Stats;

/// Plays portions of both flows to a parser.
fn play(portions: &[(Flow, &[u8])], mut each: impl FnMut(Status, &mut Vec<Message>)) {
    let setup = Setup {
        role: Role::Server,
        secure: false,
        config: Arc::new(Config::default()),
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
fn a_million_messages() {
    let asks = b"get k\r\n".repeat(500);
    let answers = b"VALUE k 0 1\r\nx\r\nEND\r\n".repeat(500);
    let round = [(Flow::Request, &asks[..]), (Flow::Response, &answers[..])];
    let portions = round.repeat(500);
    let mut messages = 0;
    play(&portions, |_, out| messages += out.drain(..).count());
    assert_eq!(messages, 1_000_000);
}
