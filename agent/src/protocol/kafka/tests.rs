//! The dialogue's own corners, with messages made here; whole dialogues are in `tests/wire/kafka`.

use std::sync::Arc;

use super::*;
use crate::connection::stream::Stream;
use crate::event::{ConnectionId, Direction, Execution, Hole, Role, Segment};
use crate::protocol::{Fault, Message, Part, Shared, Value};
use crate::stats::Stats;

/// One connection, and what was said of it.
struct Talk {
    parser: Box<dyn Parser>,
    streams: [Stream; 2],
    stats: Stats,
    out: Vec<Message>,
    last: Option<Flow>,
    /// When the next call moves its bytes.
    time: u64,
}

impl Talk {
    fn new() -> Self {
        Self::of(1, &Arc::default())
    }

    /// One of this process.
    fn of(process: u32, shared: &Arc<Shared>) -> Self {
        let setup = Setup {
            role: Role::Server,
            secure: false,
            process,
            config: Arc::default(),
            shared: Arc::clone(shared),
            counted: true,
        };
        Self {
            parser: PROTOCOL.parser(setup),
            streams: [Stream::new(0), Stream::new(0)],
            stats: Stats::default(),
            out: Vec::new(),
            last: None,
            time: 1,
        }
    }

    /// Moves bytes by one call, `missing` of them behind the first unseen.
    fn moves(&mut self, flow: Flow, bytes: &[u8], missing: u32, cause: Hole) -> Status {
        let stream = &mut self.streams[usize::from(flow == Flow::Response)];
        let segment = Segment {
            connection: ConnectionId(1),
            direction: Direction::Egress,
            time: self.time,
            offset: stream.end(),
            length: bytes.len() as u32 + missing,
            bytes,
            tail: &[],
            hole: (missing > 0).then_some(cause),
            turn: self.last.replace(flow) != Some(flow),
            lost: 0,
            execution: Execution::default(),
        };
        stream.push(&segment, 0, &self.stats);
        let mut feed = Feed {
            stream,
            out: &mut self.out,
            stats: &self.stats,
        };
        self.parser.parse(flow, &mut feed)
    }

    fn ask(&mut self, bytes: &[u8]) {
        let status = self.moves(Flow::Request, bytes, 0, Hole::Budget);
        assert_eq!(status, Status::Stay);
    }

    fn answer(&mut self, bytes: &[u8]) {
        let status = self.moves(Flow::Response, bytes, 0, Hole::Budget);
        assert_eq!(status, Status::Stay);
    }

    /// What was said since the last call, in short.
    fn said(&mut self) -> Vec<String> {
        let out = std::mem::take(&mut self.out);
        out.iter().map(gist).collect()
    }
}

fn gist(message: &Message) -> String {
    let attributes = |list: &[crate::protocol::Attribute]| {
        let of = |a: &crate::protocol::Attribute| match &a.value {
            Value::Str(text) => format!(" {text}"),
            Value::Int(number) => format!(" {number}"),
            other => format!(" {other:?}"),
        };
        list.iter()
            .filter(|a| !a.key.contains("operation") && a.key != "messaging.system")
            .map(of)
            .collect::<String>()
    };
    match &message.part {
        Part::Request(r, _) => {
            let links = r.messages.len();
            format!("{}:{} ({links})", r.operation, attributes(&r.attributes))
        }
        Part::Response(r) => {
            let error = r.client_error.as_deref().unwrap_or("fine");
            let links = r.messages.len();
            format!("{error}:{} ({links})", attributes(&r.attributes))
        }
        Part::Revise(r) => {
            let name = r.kind.as_ref().map_or("", |(_, name)| name.as_ref());
            format!("now {name}:{}", attributes(&r.with))
        }
        Part::Finish(_) => "end".into(),
        Part::Fault(Fault::Missing { bytes, .. }) => format!("{bytes} missing"),
        other => format!("{other:?}"),
    }
}

fn frame(body: &[u8]) -> Vec<u8> {
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.extend(body);
    frame
}

fn ask(key: i16, version: i16, number: i32, body: &[u8]) -> Vec<u8> {
    let mut bytes = key.to_be_bytes().to_vec();
    bytes.extend(version.to_be_bytes());
    bytes.extend(number.to_be_bytes());
    bytes.extend(b"\x00\x03app");
    if api::is_flexible(key, version) {
        bytes.push(0);
    }
    bytes.extend(body);
    frame(&bytes)
}

fn answer(number: i32, body: &[u8]) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend(body);
    frame(&bytes)
}

fn name(bytes: &mut Vec<u8>, name: &str) {
    bytes.extend((name.len() as i16).to_be_bytes());
    bytes.extend(name.as_bytes());
}

/// The body of Produce 3.
fn produce(acks: i16, topics: &[(&str, &[Vec<u8>])]) -> Vec<u8> {
    let mut bytes = vec![0xff, 0xff];
    bytes.extend(acks.to_be_bytes());
    bytes.extend(1000_i32.to_be_bytes());
    bytes.extend((topics.len() as i32).to_be_bytes());
    for (topic, sets) in topics {
        name(&mut bytes, topic);
        bytes.extend((sets.len() as i32).to_be_bytes());
        for (partition, set) in sets.iter().enumerate() {
            bytes.extend((partition as i32).to_be_bytes());
            bytes.extend(frame(set));
        }
    }
    bytes
}

/// The body of its response about one topic.
fn produced(topic: &str, errors: &[i16]) -> Vec<u8> {
    let mut bytes = 1_i32.to_be_bytes().to_vec();
    name(&mut bytes, topic);
    bytes.extend((errors.len() as i32).to_be_bytes());
    for (partition, error) in errors.iter().enumerate() {
        bytes.extend((partition as i32).to_be_bytes());
        bytes.extend(error.to_be_bytes());
        bytes.extend(40_i64.to_be_bytes());
        bytes.extend((-1_i64).to_be_bytes());
    }
    bytes.extend([0; 4]);
    bytes
}

/// The body of Fetch 4, by a replica of this number.
fn fetch(replica: i32, topic: &str) -> Vec<u8> {
    let mut bytes = replica.to_be_bytes().to_vec();
    bytes.extend([0; 13]);
    bytes.extend(1_i32.to_be_bytes());
    name(&mut bytes, topic);
    bytes.extend(1_i32.to_be_bytes());
    bytes.extend([0; 16]);
    bytes
}

/// The body of its response, without the records: (topic, error, their length) of partition 0.
fn fetched(topics: &[(&str, i16, usize)]) -> Vec<Vec<u8>> {
    let mut pieces = vec![[0; 4].to_vec()];
    pieces[0].extend((topics.len() as i32).to_be_bytes());
    for (topic, error, length) in topics {
        let mut bytes = pieces.pop().unwrap_or_default();
        name(&mut bytes, topic);
        bytes.extend(1_i32.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(error.to_be_bytes());
        bytes.extend([0; 16]);
        bytes.extend((-1_i32).to_be_bytes());
        bytes.extend((*length as i32).to_be_bytes());
        pieces.push(bytes);
        pieces.push(Vec::new());
    }
    pieces
}

fn zigzag(bytes: &mut Vec<u8>, value: usize) {
    let mut value = value << 1;
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// A record with so many bytes of value, and a context if it is to have one.
fn record(value: usize, context: bool) -> Vec<u8> {
    let mut inside = vec![0, 0, 0, 1];
    zigzag(&mut inside, value);
    inside.extend(vec![b'v'; value]);
    if context {
        zigzag(&mut inside, 1);
        zigzag(&mut inside, 11);
        inside.extend(b"traceparent");
        let text = format!("00-{:032x}-{:016x}-01", 1, 1);
        zigzag(&mut inside, text.len());
        inside.extend(text.as_bytes());
    } else {
        inside.push(0);
    }
    let mut bytes = Vec::new();
    zigzag(&mut bytes, inside.len());
    bytes.extend(inside);
    bytes
}

fn batch(attributes: i16, records: &[Vec<u8>]) -> Vec<u8> {
    let inside: Vec<u8> = records.concat();
    let mut bytes = 7_i64.to_be_bytes().to_vec();
    bytes.extend((inside.len() as i32 + 49).to_be_bytes());
    bytes.extend([0, 0, 0, 0, 2, 0, 0, 0, 0]);
    bytes.extend(attributes.to_be_bytes());
    bytes.extend((records.len() as i32 - 1).to_be_bytes());
    bytes.extend([0; 30]);
    bytes.extend((records.len() as i32).to_be_bytes());
    bytes.extend(inside);
    bytes
}

fn plain(records: usize) -> Vec<u8> {
    batch(0, &vec![record(1, true); records])
}

#[test]
fn several_partitions_and_topics() {
    let mut talk = Talk::new();
    let body = produce(-1, &[("a", &[plain(1), plain(2)])]);
    talk.ask(&ask(0, 3, 1, &body));
    talk.answer(&answer(1, &produced("a", &[0, 6])));
    let one = "send a: a 3 app (3)";
    let failed = "NOT_LEADER_OR_FOLLOWER: (0)";
    assert_eq!(talk.said(), [one, "end", failed, "end"]);
    let body = produce(1, &[("a", &[plain(1)]), ("b", &[plain(1)])]);
    talk.ask(&ask(0, 3, 2, &body));
    assert_eq!(talk.said(), ["send: 2 app (2)", "end"]);
}

#[test]
fn what_is_not_acknowledged_ends_with_itself() {
    let mut talk = Talk::new();
    talk.ask(&ask(0, 3, 1, &produce(0, &[("a", &[plain(1)])])));
    assert_eq!(
        talk.said(),
        ["send a: a app 0 (1)", "end", "fine: (0)", "end"]
    );
}

#[test]
fn holes_in_records_do_no_harm() {
    let mut talk = Talk::new();
    let large = batch(0, &[record(300_000, true)]);
    let whole = ask(0, 3, 1, &produce(1, &[("a", &[large.clone(), large])]));
    // Behind the first partition, and up to the second's batch.
    let head = 200;
    let second = whole.len() - 300_200;
    let _ = talk.moves(
        Flow::Request,
        &whole[..head],
        (second - head) as u32,
        Hole::Budget,
    );
    let _ = talk.moves(
        Flow::Request,
        &whole[second..second + 150],
        300_050,
        Hole::Lost,
    );
    assert_eq!(talk.streams[0].end(), whole.len() as u64);
    talk.answer(&answer(1, &produced("a", &[0, 0])));
    let told = [
        "send a: a 2 app (0)",
        "300050 missing",
        "end",
        "fine: (0)",
        "end",
    ];
    assert_eq!(talk.said(), told);
    assert_eq!(talk.stats.protocol_contexts_unread.get(), 2);
}

#[test]
fn what_is_behind_a_hole_is_not_guessed() {
    let mut talk = Talk::new();
    let whole = ask(
        0,
        3,
        1,
        &produce(1, &[("a", &[plain(1)]), ("b", &[plain(1)])]),
    );
    let shown = whole.len() - 150;
    let _ = talk.moves(Flow::Request, &whole[..shown], 150, Hole::Budget);
    assert_eq!(talk.said(), ["send: app (1)", "Fault(Partial)", "end"]);
}

#[test]
fn files_that_are_sent_as_they_are() {
    let mut talk = Talk::new();
    talk.ask(&ask(1, 4, 9, &fetch(-1, "a")));
    let pieces = fetched(&[("a", 0, 5000), ("b", 0, 0), ("c", 0, 70)]);
    let length = 4 + pieces.iter().map(Vec::len).sum::<usize>() + 5070;
    let mut head = (length as u32).to_be_bytes().to_vec();
    head.extend(9_i32.to_be_bytes());
    head.extend(&pieces[0]);
    let _ = talk.moves(Flow::Response, &head, 5000, Hole::NoBuffer);
    let rest: Vec<u8> = pieces[1..].concat();
    let _ = talk.moves(Flow::Response, &rest, 70, Hole::NoBuffer);
    let said = [
        "poll: app (0)",
        "Poll",
        "end",
        "now poll:",
        "fine: (0)",
        "5070 missing",
        "end",
    ];
    assert_eq!(talk.said(), said);
}

#[test]
fn polls_that_bring_nothing_are_dismissed() {
    let mut talk = Talk::new();
    for (number, error, told) in [
        (1, 0, None),
        (2, 70, None),
        (3, 3, Some("UNKNOWN_TOPIC_OR_PARTITION: (0)")),
    ] {
        talk.ask(&ask(1, 4, number, &fetch(-1, "a")));
        let body: Vec<u8> = fetched(&[("a", error, 0)]).concat();
        talk.answer(&answer(number, &body));
        let said = talk.said();
        match told {
            None => assert_eq!(said[3..], ["Dismiss"], "{number}"),
            Some(told) => assert_eq!(said[3..], ["now poll a: a 0", told, "end"]),
        }
    }
}

#[test]
fn an_answer_from_before_its_question_is_another_ones() {
    let mut talk = Talk::new();
    let body: Vec<u8> = fetched(&[("a", 3, 0)]).concat();
    talk.time = 10;
    talk.ask(&ask(1, 4, 0, &fetch(-1, "a")));
    talk.said();
    // Kept until it was known whose it is: who does not count has used the number before.
    talk.time = 5;
    talk.answer(&answer(0, &body));
    assert!(talk.said().is_empty());
    talk.time = 20;
    talk.answer(&answer(0, &body));
    let told = ["now poll a: a 0", "UNKNOWN_TOPIC_OR_PARTITION: (0)", "end"];
    assert_eq!(talk.said(), told);
}

#[test]
fn copying_is_housekeeping() {
    let mut talk = Talk::new();
    talk.ask(&ask(1, 4, 1, &fetch(2, "a")));
    talk.ask(&ask(1, 4, 2, &fetch(-1, "__cluster_metadata")));
    // Fetch 15 of nothing, with the replica's number in a tagged field; the same of a topic by its id.
    let mut body = vec![0; 21];
    body.extend([1, 1, 1, 1, 1, 13, 0, 0, 0, 2]);
    body.extend([0; 9]);
    talk.ask(&ask(1, 15, 3, &body));
    let mut body = vec![0; 21];
    body.push(2);
    body.extend(1_u128.to_be_bytes());
    body.extend([1, 0, 1, 1, 0]);
    talk.ask(&ask(1, 15, 4, &body));
    assert_eq!(talk.said(), [""; 0]);
    let body: Vec<u8> = fetched(&[("a", 0, 0)]).concat();
    talk.answer(&answer(1, &body));
    assert_eq!(talk.said(), [""; 0]);
}

#[test]
fn who_is_passed_over_had_an_answer_that_was_not_seen() {
    let mut talk = Talk::new();
    let body = produce(1, &[("a", &[plain(1)])]);
    for number in 1..=3 {
        talk.ask(&ask(0, 3, number, &body));
    }
    talk.said();
    talk.answer(&answer(2, &produced("a", &[0])));
    assert_eq!(talk.said(), ["Abandon", "fine: 40 (0)", "end"]);
    // A hole where the third was answered, and silence.
    let _ = talk.moves(Flow::Response, b"", 50, Hole::Lost);
    let mut feed = Feed {
        stream: &mut talk.streams[1],
        out: &mut talk.out,
        stats: &talk.stats,
    };
    talk.parser.quiet(Flow::Response, &mut feed);
    assert_eq!(talk.said(), ["Abandon"]);
}

#[test]
fn tokens_without_a_header_are_passed_over() {
    let mut talk = Talk::new();
    talk.ask(&ask(17, 0, 1, b"\x00\x05PLAIN"));
    talk.answer(&answer(1, b"\x00\x00\x00\x00\x00\x01\x00\x05PLAIN"));
    talk.ask(&frame(b"\x00user\x00secret"));
    talk.answer(&frame(b""));
    talk.ask(&ask(0, 3, 2, &produce(0, &[("a", &[plain(1)])])));
    assert_eq!(talk.said().len(), 4);
    assert_eq!(talk.stats.protocol_malformed.get(), 0);
}

#[test]
fn only_messages_are_counted() {
    let mut set = batch(1 << 5, &[record(1, false)]);
    set.extend(batch(1, &vec![record(1, true); 5]));
    set.extend(plain(2));
    // A broker ends a set in the middle of a batch.
    set.extend(&plain(9)[..100]);
    let mut talk = Talk::new();
    talk.ask(&ask(1, 4, 1, &fetch(-1, "a")));
    let mut body = fetched(&[("a", 0, set.len())]).concat();
    body.extend(set);
    talk.answer(&answer(1, &body));
    assert_eq!(talk.said()[3..], ["now poll a: a 0", "fine: 7 (2)", "end"]);
    assert_eq!(talk.stats.protocol_contexts_unread.get(), 1);
}

#[test]
fn a_name_is_known_to_all_connections_of_its_process() {
    let (shared, id) = (Arc::default(), [7; 16]);
    let mut talk = Talk::of(1, &shared);
    talk.ask(&ask(3, 12, 1, b"\x01\x00\x00\x00"));
    let mut body = b"\0\0\0\0\0\x01\0\0\0\0\0\x02\0\0\x07orders".to_vec();
    body.extend(id);
    body.extend(b"\0\x01\0\0\0\0\0\0");
    talk.answer(&answer(1, &body));
    let set = plain(1);
    let mut body = b"\0\xff\xff\0\0\0\0\x02".to_vec();
    body.extend(id);
    body.extend(b"\x02\0\0\0\0");
    let length = set.len() + 1;
    body.extend([length as u8 | 0x80, (length >> 7) as u8]);
    body.extend(&set);
    body.extend([0; 3]);
    for (process, told) in [(1, "send orders: orders app 0 (1)"), (2, "send: app 0 (1)")] {
        let mut other = Talk::of(process, &shared);
        other.ask(&ask(0, 13, 1, &body));
        assert_eq!(other.said()[0], told, "{process}");
    }
}

#[test]
fn entries_are_read_one_by_one() {
    let mut talk = Talk::new();
    talk.ask(&ask(0, 8, 1, &produce(1, &[("a", &[plain(1)])])));
    talk.said();
    let mut body = produced("a", &[87]);
    body.truncate(body.len() - 4);
    body.extend((-1_i64).to_be_bytes());
    body.extend(10_000_i32.to_be_bytes());
    body.extend([0, 0, 0, 0, 0xff, 0xff].repeat(10_000));
    body.extend([0xff, 0xff, 0, 0, 0, 0]);
    for byte in answer(1, &body).chunks(1) {
        talk.answer(byte);
        assert!(talk.streams[1].held() < 64);
    }
    assert_eq!(talk.said(), ["INVALID_RECORD: (0)", "end"]);
    // Transactions that were aborted.
    talk.ask(&ask(1, 4, 2, &fetch(-1, "a")));
    talk.said();
    let mut body = fetched(&[("a", 0, 0)]).concat();
    body.truncate(body.len() - 8);
    body.extend(10_000_i32.to_be_bytes());
    body.extend([0; 16].repeat(10_000));
    let set = plain(2);
    body.extend((set.len() as i32).to_be_bytes());
    body.extend(set);
    for bytes in answer(2, &body).chunks(7) {
        talk.answer(bytes);
        assert!(talk.streams[1].held() < 1024);
    }
    assert_eq!(talk.said(), ["now poll a: a 0", "fine: 2 (2)", "end"]);
}

#[test]
fn links_have_a_limit() {
    let mut talk = Talk::new();
    talk.ask(&ask(
        0,
        3,
        1,
        &produce(1, &[("a", &[plain(100), plain(100)])]),
    ));
    assert_eq!(talk.said(), ["send a: a 200 app (64)", "end"]);
    assert!(talk.parser.weight() < 4096);
}

#[test]
fn what_was_never_kafkas_is_given_back() {
    let mut talk = Talk::new();
    talk.ask(&ask(18, 0, 1, b""));
    let status = talk.moves(Flow::Request, b"GET / HTTP/1.1\r\n\r\n", 0, Hole::Lost);
    assert_eq!(status, Status::Mistaken);
}

#[test]
fn a_million_messages() {
    let mut talk = Talk::new();
    let one = ask(12, 0, 5, b"\x00\x01g\x00\x00\x00\x01\x00\x01m");
    let many = one.repeat(1000);
    for _ in 0..200 {
        talk.ask(&many);
    }
    assert_eq!(talk.said(), [""; 0]);
    assert_eq!(talk.stats.exchange_too_deep.get(), 200_000 - 1024);
    let mut talk = Talk::new();
    talk.ask(&ask(1, 4, 5, &fetch(-1, "a")));
    let set = batch(0, &vec![record(1, false); 10]).repeat(100_000);
    let mut head = fetched(&[("a", 0, set.len())]).concat();
    let length = (4 + head.len() + set.len()) as u32;
    head.splice(0..0, [length.to_be_bytes(), 5_i32.to_be_bytes()].concat());
    talk.answer(&head);
    for piece in set.chunks(64 * 1024) {
        talk.answer(piece);
    }
    assert_eq!(talk.said()[4], "fine: 1000000 (0)");
}
