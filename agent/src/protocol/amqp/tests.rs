//! Channels, tags and bounds; whole dialogues are in `tests/wire/amqp`.

use std::sync::Arc;

use super::*;
use crate::connection::stream::Stream;
use crate::event::{ConnectionId, Direction, Execution, Role, Segment};

/// One connection of which every byte is seen.
struct Play {
    parser: Box<dyn Parser>,
    streams: [Stream; 2],
    stats: Stats,
    last: Option<Flow>,
    out: Vec<Message>,
    status: Status,
}

impl Play {
    fn new() -> Self {
        let setup = Setup {
            role: Role::Server,
            secure: false,
            process: 1,
            counted: true,
            config: Arc::default(),
            shared: Arc::default(),
        };
        let mut play = Self {
            parser: PROTOCOL.parser(setup),
            streams: [Stream::new(0), Stream::new(0)],
            stats: Stats::default(),
            last: None,
            out: Vec::new(),
            status: Status::Stay,
        };
        play.moves(Flow::Request, PROTOCOL_HEADER);
        play
    }

    fn moves(&mut self, flow: Flow, bytes: &[u8]) {
        let index = usize::from(flow == Flow::Response);
        let segment = Segment {
            connection: ConnectionId(1),
            direction: Direction::Egress,
            time: 1,
            offset: self.streams[index].end(),
            length: bytes.len() as u32,
            bytes,
            tail: &[],
            hole: None,
            turn: self.last.replace(flow) != Some(flow),
            lost: 0,
            execution: Execution::default(),
        };
        self.streams[index].push(&segment, 0, &self.stats);
        let mut feed = Feed {
            stream: &mut self.streams[index],
            out: &mut self.out,
            stats: &self.stats,
        };
        self.status = self.parser.parse(flow, &mut feed);
        assert!(self.parser.weight() <= 1 << 20);
    }

    fn asks(&mut self, bytes: &[u8]) {
        self.moves(Flow::Request, bytes);
    }

    fn answers(&mut self, bytes: &[u8]) {
        self.moves(Flow::Response, bytes);
    }

    /// Opens a channel, with confirms or without.
    fn opens(&mut self, channel: u16, confirms: bool) {
        self.asks(&method(channel, (20, 10), b"\0"));
        self.answers(&method(channel, (20, 11), b"\0\0\0\0"));
        if confirms {
            self.asks(&method(channel, (85, 10), b"\0"));
            self.answers(&method(channel, (85, 11), b""));
        }
    }

    /// What became of exchanges since the last call: `!` an error, `~` given up.
    fn ends(&mut self) -> Vec<String> {
        let mut ends = Vec::new();
        let mut error = None;
        for message in self.out.drain(..) {
            let Pairing::Order(number) = message.pairing else {
                panic!("no number");
            };
            let number = number & !crate::protocol::PUSHED;
            match message.part {
                Part::Response(response) => error = response.client_error,
                Part::Finish(_) => {
                    if let Some(error) = error.take() {
                        ends.push(format!("{number}!{error}"));
                    } else {
                        ends.push(number.to_string());
                    }
                }
                Part::Abandon => ends.push(format!("{number}~")),
                Part::Reset(why) => ends.push(format!("{number}!{why}")),
                Part::Dismiss => ends.push(format!("{number}-")),
                _ => {}
            }
        }
        ends
    }
}

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(channel.to_be_bytes());
    bytes.extend((payload.len() as u32).to_be_bytes());
    bytes.extend(payload);
    bytes.push(END);
    bytes
}

fn method(channel: u16, (class, number): (u16, u16), arguments: &[u8]) -> Vec<u8> {
    let mut payload = class.to_be_bytes().to_vec();
    payload.extend(number.to_be_bytes());
    payload.extend(arguments);
    frame(kind::METHOD, channel, &payload)
}

fn content(channel: u16, body: &[u8]) -> Vec<u8> {
    let mut header = b"\0\x3c\0\0".to_vec();
    header.extend((body.len() as u64).to_be_bytes());
    header.extend([0, 0]);
    let mut bytes = frame(kind::HEADER, channel, &header);
    if !body.is_empty() {
        bytes.extend(frame(kind::BODY, channel, body));
    }
    bytes
}

fn publish(channel: u16, key: &[u8]) -> Vec<u8> {
    let arguments = [&[0, 0, 0, key.len() as u8], key, &[1]].concat();
    let mut bytes = method(channel, (60, 40), &arguments);
    bytes.extend(content(channel, b"x"));
    bytes
}

fn deliver(channel: u16, tag: u64) -> Vec<u8> {
    let arguments = [b"\x01t".as_slice(), &tag.to_be_bytes(), b"\0\0\x01q"].concat();
    let mut bytes = method(channel, (60, 60), &arguments);
    bytes.extend(content(channel, b"x"));
    bytes
}

fn ack(channel: u16, number: u16, tag: u64, bits: u8) -> Vec<u8> {
    method(
        channel,
        (60, number),
        &[&tag.to_be_bytes()[..], &[bits]].concat(),
    )
}

fn consume(channel: u16) -> Vec<u8> {
    method(channel, (60, 20), b"\0\0\x01q\x01t\0\0\0\0\0")
}

#[test]
fn a_confirm_is_of_one_publish_or_of_all_before() {
    let mut play = Play::new();
    play.opens(1, true);
    for _ in 0..5 {
        play.asks(&publish(1, b"q"));
    }
    assert_eq!(play.ends(), ["0", "1", "2", "3", "4"], "requests");
    play.answers(&ack(1, 80, 2, 0));
    assert_eq!(play.ends(), ["1"]);
    play.answers(&ack(1, 120, 3, 1));
    assert_eq!(play.ends(), ["0!nack", "2!nack"]);
    play.answers(&ack(1, 80, 0, 1));
    assert_eq!(play.ends(), ["3", "4"]);
    // What was confirmed before is confirmed no more.
    play.answers(&ack(1, 80, 2, 0));
    assert!(play.ends().is_empty());
}

#[test]
fn a_return_is_of_the_first_that_went_there() {
    let mut play = Play::new();
    play.opens(1, true);
    for key in [b"a", b"b", b"b"] {
        play.asks(&publish(1, key));
    }
    play.ends();
    let mut back = method(1, (60, 50), b"\x01\x38\x08NO_ROUTE\0\x01b");
    back.extend(content(1, b"x"));
    play.answers(&back);
    play.answers(&ack(1, 80, 3, 1));
    assert_eq!(play.ends(), ["0", "1!NO_ROUTE", "2"]);
}

#[test]
fn a_channel_that_is_opened_again_counts_from_one() {
    let mut play = Play::new();
    play.opens(1, true);
    play.asks(&publish(1, b"q"));
    play.asks(&method(1, (20, 40), b"\0\xc8\0\0\0\0\0"));
    play.answers(&method(1, (20, 41), b""));
    assert_eq!(play.ends(), ["0", "0!channel_closed"]);
    play.opens(1, true);
    play.asks(&publish(1, b"q"));
    play.answers(&ack(1, 80, 1, 0));
    assert_eq!(play.ends(), ["1", "1"]);
}

#[test]
fn channels_are_told_apart() {
    let mut play = Play::new();
    play.opens(1, true);
    play.opens(2, true);
    // Frames of two messages in turn.
    let (a, b) = (publish(1, b"a"), publish(2, b"b"));
    let body = a.len() - 9;
    play.asks(&a[..body]);
    play.asks(&b[..body]);
    play.asks(&a[body..]);
    play.asks(&b[body..]);
    assert_eq!(play.ends(), ["0", "1"]);
    play.answers(&ack(2, 80, 1, 0));
    play.answers(&ack(1, 80, 1, 0));
    assert_eq!(play.ends(), ["1", "0"]);
}

#[test]
fn what_is_never_acknowledged_has_a_bound() {
    let mut play = Play::new();
    play.opens(1, false);
    play.asks(&consume(1));
    play.answers(&method(1, (60, 21), b"\x01t"));
    for tag in 1..=5000 {
        play.answers(&deliver(1, tag));
    }
    let given_up = play.ends().iter().filter(|end| end.ends_with('~')).count();
    assert_eq!(given_up, 5000 - MAX_WAITING);
    // The newest are still waited for.
    play.asks(&ack(1, 80, 5000, 0));
    assert_eq!(play.ends(), ["4999"]);
    play.asks(&ack(1, 80, 0, 1));
    assert_eq!(play.ends().len(), MAX_WAITING - 1);
}

#[test]
fn an_answer_is_of_no_later_pull() {
    let get = method(1, (60, 70), b"\0\0\x01q\0");
    let got = |tag: u64| {
        let arguments = [&tag.to_be_bytes()[..], b"\0\0\x01q\0\0\0\0"].concat();
        [method(1, (60, 71), &arguments), content(1, b"x")].concat()
    };
    let mut play = Play::new();
    play.opens(1, false);
    play.opens(2, true);
    for _ in 1..MAX_WAITING {
        play.asks(&publish(2, b"q"));
    }
    play.ends();
    play.asks(&get);
    assert_eq!(play.ends(), ["999"]);
    play.asks(&get);
    assert_eq!(play.ends(), ["1000", "999~"]);
    play.answers(&ack(2, 80, 1, 0));
    assert_eq!(play.ends(), ["0"]);
    play.asks(&get);
    assert_eq!(play.ends(), ["1001"]);
    play.answers(&got(1));
    assert!(play.ends().is_empty());
    play.answers(&got(2));
    assert_eq!(play.ends(), ["1000"]);
    play.answers(&got(3));
    assert_eq!(play.ends(), ["1001"]);
}

#[test]
fn names_and_channels_have_bounds() {
    let mut play = Play::new();
    let long = [b'q'; 255];
    for channel in 1..=3000 {
        let queue = [b"\0\0\xff".as_slice(), &long, b"\0\0\0\0\0\0"].concat();
        play.asks(&method(channel, (20, 10), b"\0"));
        play.asks(&method(channel, (60, 20), &queue));
    }
    assert_eq!(play.status, Status::Stay);
    assert!(play.stats.protocol_streams_forgotten.get() > 0);
    assert!(play.stats.protocol_entries_forgotten.get() > 0);
}

#[test]
fn what_is_under_way_is_weighed() {
    let mut play = Play::new();
    play.opens(1, false);
    let empty = play.parser.weight();
    let long = [&b"\0\0\0\xff"[..], &[b'k'; 255], &[0]].concat();
    play.asks(&method(1, (60, 40), &long));
    assert!(play.parser.weight() > empty + 255);
    play.asks(&content(1, b"x"));
    assert_eq!(play.parser.weight(), empty);
    for _ in 0..100 {
        play.asks(&method(1, (60, 20), b"\0\0\x01q\0\0\0\0\0\0"));
    }
    assert!(play.parser.weight() > empty + 100 * 24);
    for channel in 2..=1000 {
        play.opens(channel, false);
        play.asks(&method(channel, (60, 40), &long));
    }
    assert!(play.stats.protocol_entries_forgotten.get() > 0);
    for channel in 1..=1000 {
        play.asks(&method(channel, (20, 40), b"\0\xc8\0\0\0\0\0"));
        play.answers(&method(channel, (20, 41), b""));
    }
    assert!(play.parser.weight() < 32 * 1024);
}

#[test]
fn what_never_makes_sense_is_given_up() {
    let mut play = Play::new();
    for channel in 1..=2048 {
        play.opens(channel, true);
    }
    let mut bytes = frame(kind::HEARTBEAT, 0, b"");
    bytes.extend(b"\x09\0\0\0\0\0\0");
    for _ in 0..MAX_REFUSED {
        play.asks(&bytes);
        assert_eq!(play.status, Status::Stay);
    }
    play.asks(&bytes);
    assert_eq!(play.status, Status::Leave);
    assert_eq!(play.stats.protocol_given_up.get(), 1);
}

#[test]
fn who_waits_is_told_of_each_loss() {
    let mut play = Play::new();
    play.opens(1, true);
    play.opens(2, true);
    for channel in [1, 2] {
        play.asks(&publish(channel, b"q"));
        assert_eq!(play.ends().len(), 1);
        for _ in 0..2 {
            play.answers(b"\x09\0\0\0\0\0\0");
            play.answers(&frame(kind::HEARTBEAT, 0, b""));
        }
        let gone = u64::from(channel) - 1;
        assert_eq!(play.ends(), [format!("{gone}~")]);
    }
    // Tags go on.
    play.asks(&publish(1, b"q"));
    play.answers(&ack(1, 80, 2, 0));
    assert_eq!(play.ends(), ["2", "2"]);
}

#[test]
fn many_small_messages() {
    let mut play = Play::new();
    play.opens(1, true);
    let bytes: Vec<u8> = publish(1, b"q").repeat(1000);
    for round in 1..=20 {
        play.asks(&bytes);
        play.answers(&ack(1, 80, round * 1000, 1));
        play.out.clear();
    }
    play.asks(&consume(1));
    let bytes: Vec<u8> = (0..1000).flat_map(|_| deliver(1, 7)).collect();
    for _ in 0..20 {
        play.answers(&bytes);
        play.asks(&ack(1, 80, 0, 1));
        play.out.clear();
    }
    let beats = frame(kind::HEARTBEAT, 0, b"").repeat(10_000);
    for _ in 0..20 {
        play.asks(&beats);
    }
    assert_eq!(play.status, Status::Stay);
    assert_eq!(play.stats.exchange_too_deep.get(), 0);
}
