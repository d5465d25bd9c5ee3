//! What dialogues cannot say: settings, limits, who is trusted after a loss.

use super::*;
use crate::config::QueryText;
use crate::connection::stream::Stream;
use crate::event::{ConnectionId, Direction, Execution, Hole, Nanos, Role, Segment};
use crate::protocol::{Fault, Message, Part, Value};
use crate::stats::Stats;

/// Both ends' bytes, as they were moved.
struct Played {
    parser: Box<dyn Parser>,
    streams: [Stream; 2],
    out: Vec<Message>,
    stats: Stats,
    time: Nanos,
    last: Option<Flow>,
}

impl Played {
    fn new(text: QueryText) -> Self {
        let mut config = Config::default();
        config.database.query_text = text;
        let setup = Setup {
            role: Role::Server,
            secure: false,
            process: 1,
            counted: true,
            config: Arc::new(config),
            shared: Arc::default(),
        };
        Self {
            parser: PROTOCOL.parser(setup),
            streams: [Stream::new(0), Stream::new(0)],
            out: Vec::new(),
            stats: Stats::default(),
            time: 1,
            last: None,
        }
    }

    fn moves(&mut self, flow: Flow, bytes: &[u8], hole: Option<Hole>) -> Status {
        self.time += 1000;
        let stream = &mut self.streams[flow as usize];
        let segment = Segment {
            connection: ConnectionId(1),
            direction: Direction::Ingress,
            time: self.time,
            offset: stream.end(),
            length: bytes.len() as u32,
            bytes: if hole.is_some() { &[] } else { bytes },
            tail: &[],
            hole,
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

    fn ask(&mut self, words: &[&[u8]]) {
        let status = self.moves(Flow::Request, &command(words), None);
        assert_eq!(status, Status::Stay);
    }

    fn answer(&mut self, bytes: &[u8]) {
        assert_eq!(self.moves(Flow::Response, bytes, None), Status::Stay);
    }

    /// Each exchange that had an answer: its text, and the answer's error.
    fn answered(&self) -> Vec<(String, Option<String>)> {
        let mut all = Vec::new();
        for message in &self.out {
            let Part::Request(request, _) = &message.part else {
                continue;
            };
            let response = self.out.iter().find_map(|m| match &m.part {
                Part::Response(r) if m.pairing == message.pairing => Some(r),
                _ => None,
            });
            let text = request.attributes.iter().find_map(|a| match &a.value {
                Value::Str(text) if a.key == "db.query.text" => Some(text.to_string()),
                _ => None,
            });
            if let Some(response) = response {
                let error = response.client_error.as_ref().map(ToString::to_string);
                all.push((text.unwrap_or_default(), error));
            }
        }
        all
    }
}

fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).into_bytes());
        bytes.extend(*word);
        bytes.extend(b"\r\n");
    }
    bytes
}

fn text(setting: QueryText, words: &[&[u8]]) -> String {
    let mut played = Played::new(setting);
    played.ask(words);
    played.answer(b"+OK\r\n");
    played.answered().remove(0).0
}

#[test]
fn texts() {
    let set: &[&[u8]] = &[b"set", b"user:42", b"two words", b"\x00\"\n"];
    assert_eq!(text(QueryText::Redacted, set), "SET ? ? ?");
    assert_eq!(
        text(QueryText::Full, set),
        r#"SET user:42 "two words" "\x00\"\n""#
    );
    assert_eq!(text(QueryText::Off, set), "");
    for secret in [
        &[&b"AUTH"[..], b"hunter2"][..],
        &[b"hello", b"3", b"auth", b"u", b"hunter2"],
        &[b"CONFIG", b"SET", b"requirepass", b"hunter2"],
        &[b"ACL", b"SETUSER", b"u", b">hunter2"],
        &[
            b"MIGRATE", b"h", b"1", b"k", b"0", b"9", b"AUTH", b"hunter2",
        ],
    ] {
        assert!(!text(QueryText::Full, secret).contains("hunter2"));
    }
    let large = vec![b'x'; 100_000];
    let long = text(QueryText::Full, &[b"SET", b"k", &large]);
    assert!(
        long.len() <= 2048 + 8 && long.ends_with('…'),
        "{}",
        long.len()
    );
}

#[test]
fn an_answer_that_cannot_be_is_given_to_nobody() {
    let mut played = Played::new(QueryText::Redacted);
    played.ask(&[b"GET", b"a"]);
    played.answer(b"$1\r\nx\r\n");
    played.ask(&[b"GET", b"a"]);
    played.answer(b":5\r\n");
    assert_eq!(played.answered().len(), 1);
    // Until all has been silent.
    played.ask(&[b"GET", b"b"]);
    played.answer(b"$1\r\nx\r\n");
    assert_eq!(played.answered().len(), 1);
    played.time += 60_000_000;
    played.ask(&[b"GET", b"c"]);
    played.answer(b"$1\r\nx\r\n");
    assert_eq!(played.answered().len(), 2);
}

#[test]
fn a_shared_connection_is_not_trusted_by_its_turns() {
    let mut played = Played::new(QueryText::Redacted);
    for _ in 0..2 {
        played.ask(&[b"GET", b"a"]);
    }
    played.answer(b"$-1\r\n");
    played.ask(&[b"INCR", b"a"]);
    played.answer(b"$-1\r\n");
    let before = played.answered().len();
    assert_eq!(before, 2);
    let hole = command(&[b"GET", b"b"]);
    let _ = played.moves(Flow::Request, &hole, Some(Hole::Lost));
    for _ in 0..10 {
        played.answer(b":1\r\n");
        played.ask(&[b"INCR", b"a"]);
    }
    // The first of them is older than the hole.
    assert_eq!(played.answered().len(), before + 1);
    for _ in 0..64 {
        played.answer(b":1\r\n");
        played.ask(&[b"INCR", b"a"]);
    }
    assert!(played.answered().len() > before + 1);
}

#[test]
fn a_large_answer_with_a_hole_is_over_by_the_next_command() {
    let mut played = Played::new(QueryText::Redacted);
    played.ask(&[b"LRANGE", b"a", b"0", b"-1"]);
    played.answer(b"*3\r\n$1\r\nx\r\n");
    let _ = played.moves(Flow::Response, &[0; 100], Some(Hole::Budget));
    played.ask(&[b"GET", b"a"]);
    played.answer(b"$1\r\nx\r\n");
    assert_eq!(played.answered().len(), 2);
    let inexact = played
        .out
        .iter()
        .filter(|m| matches!(&m.part, Part::Finish(finish) if !finish.exact && finish.whole));
    assert_eq!(inexact.count(), 1);
}

#[test]
fn a_value_with_a_hole_is_passed_over() {
    let mut played = Played::new(QueryText::Redacted);
    let large = vec![b'x'; 1000];
    let set = command(&[b"SET", b"k", &large]);
    let _ = played.moves(Flow::Request, &set[..100], None);
    let _ = played.moves(Flow::Request, &set[100..1000], Some(Hole::Budget));
    let _ = played.moves(Flow::Request, &set[1000..], None);
    played.answer(b"+OK\r\n");
    assert_eq!(played.answered(), [("SET ? ?".to_owned(), None)]);
    let faults = played
        .out
        .iter()
        .filter(|m| matches!(m.part, Part::Fault(Fault::Partial)));
    assert_eq!(faults.count(), 0);
}

#[test]
fn a_million_messages() {
    let mut played = Played::new(QueryText::Redacted);
    let (ask, answer) = (command(&[b"GET", b"k"]), b"$1\r\nv\r\n");
    let (asks, answers) = (ask.repeat(500), answer.repeat(500));
    for _ in 0..500 {
        let _ = played.moves(Flow::Request, &asks, None);
        let _ = played.moves(Flow::Response, &answers, None);
        assert_eq!(played.out.len(), 500 * 4);
        played.out.clear();
    }
    assert_eq!(played.parser.weight(), 0);
}

#[test]
fn many_confirmations_are_one_answer() {
    let mut played = Played::new(QueryText::Redacted);
    played.ask(&[b"SUBSCRIBE", b"a", b"b"]);
    for (channel, count) in [("a", 1), ("b", 2)] {
        let confirmed = format!("*3\r\n$9\r\nsubscribe\r\n$1\r\n{channel}\r\n:{count}\r\n");
        played.answer(confirmed.as_bytes());
    }
    played.answer(b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n");
    played.ask(&[b"UNSUBSCRIBE"]);
    played.ask(&[b"PING"]);
    for (channel, count) in [("a", 1), ("b", 0)] {
        let confirmed = format!("*3\r\n$11\r\nunsubscribe\r\n$1\r\n{channel}\r\n:{count}\r\n");
        played.answer(confirmed.as_bytes());
    }
    played.answer(b"+PONG\r\n");
    assert_eq!(played.answered().len(), 4);
    assert_eq!(played.stats.exchange_unasked.get(), 0);
}

#[test]
fn integers_have_64_bits() {
    let verdict = sniff::begins(b":1763776000123\r\n", Flow::Response);
    assert_eq!(verdict, Verdict::Is(Flow::Response));
    assert_eq!(PROTOCOL.sniff(b"$17637760001\r\n"), Verdict::Not);
}

#[test]
fn a_module_s_command_is_no_reply() {
    let command = b"*2\r\n$12\r\nJSON.OBJKEYS\r\n$1\r\nk\r\n";
    assert_eq!(PROTOCOL.sniff_amid(command), Verdict::Not);
    assert_eq!(PROTOCOL.sniff(command), Verdict::Likely(Flow::Request));
    assert_eq!(
        sniff::begins(command, Flow::Response),
        Verdict::Is(Flow::Response)
    );
}

#[test]
fn answers_past_the_bound_answer_nothing_later() {
    let mut played = Played::new(QueryText::Full);
    let get = command(&[b"GET", b"a"]);
    let many = get.repeat(3000);
    assert_eq!(played.moves(Flow::Request, &many, None), Status::Stay);
    played.answer(&b"$1\r\nx\r\n".repeat(10));
    played.ask(&[b"GET", b"late"]);
    played.answer(&b"$1\r\nx\r\n".repeat(10));
    let late = |(text, _): &(String, _)| text.contains("late");
    assert!(!played.answered().iter().any(late));
    assert_eq!(played.answered().len(), 20);
}

#[test]
fn what_became_of_a_key_is_told_without_it() {
    let mut played = Played::new(QueryText::Full);
    played.ask(&[b"HELLO", b"3"]);
    played.answer(b"%1\r\n$5\r\nproto\r\n:3\r\n");
    for channel in ["__keyspace@0__:sess:abc12", "orders:4711"] {
        let length = channel.len();
        let push = format!(">3\r\n$7\r\nmessage\r\n${length}\r\n{channel}\r\n$3\r\ndel\r\n");
        played.answer(push.as_bytes());
    }
    let names: Vec<_> = played
        .out
        .iter()
        .filter_map(|m| match &m.part {
            Part::Request(request, _) if request.kind == crate::protocol::Kind::Process => {
                Some(request.operation.to_string())
            }
            _ => None,
        })
        .collect();
    assert_eq!(names, ["message __keyspace", "message orders:{id}"]);
}
