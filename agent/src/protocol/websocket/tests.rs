//! Frames in any portions, what holes take away, and who is to blame for a close.

use proptest::prelude::*;

use super::*;
use crate::connection::stream::Stream;
use crate::event::{ConnectionId, Direction, Execution, Hole, Segment};
use crate::protocol::{Message, Value};
use crate::stats::Stats;

const MASK: [u8; 4] = [7, 0, 250, 99];

/// One WebSocket from behind its upgrade.
struct Bench {
    parser: Box<dyn Parser>,
    streams: [Stream; 2],
    out: Vec<Message>,
    stats: Stats,
}

impl Bench {
    fn new() -> Self {
        Self {
            parser: upgraded(3, false),
            streams: [Stream::new(0), Stream::new(0)],
            out: Vec::new(),
            stats: Stats::default(),
        }
    }

    fn send(&mut self, flow: Flow, bytes: &[u8], missing: u32) -> Status {
        let stream = &mut self.streams[flow as usize];
        let segment = Segment {
            connection: ConnectionId(1),
            direction: Direction::Ingress,
            time: 1,
            offset: stream.end(),
            length: bytes.len() as u32 + missing,
            bytes,
            tail: &[],
            hole: (missing > 0).then_some(Hole::Budget),
            turn: false,
            lost: 0,
            execution: Execution::default(),
        };
        stream.push(&segment, 0, &self.stats);
        let (out, stats) = (&mut self.out, &self.stats);
        self.parser.parse(flow, &mut Feed { stream, out, stats })
    }

    /// The connection ends.
    fn ends(&mut self, clean: bool) {
        for flow in [Flow::Request, Flow::Response] {
            let stream = &mut self.streams[flow as usize];
            let (out, stats) = (&mut self.out, &self.stats);
            self.parser
                .close(flow, clean, &mut Feed { stream, out, stats });
        }
    }

    /// What was told at the end: messages of both, code, and whose error it is; and whether it is
    /// over by itself.
    fn told(&self) -> (String, bool) {
        let told: Vec<_> = self
            .out
            .iter()
            .filter_map(|m| match &m.part {
                Part::Trailers(response) => Some(response),
                _ => None,
            })
            .collect();
        let [told] = &told[..] else {
            return (format!("{} times", told.len()), false);
        };
        let number = |key: &str| {
            let found = told.attributes.iter().find(|a| a.key.ends_with(key));
            match found.map(|a| &a.value) {
                Some(Value::Int(number)) => number.to_string(),
                _ => "-".into(),
            }
        };
        let [asked, answered, code] = [
            number("request.messages"),
            number("response.messages"),
            number("close_code"),
        ];
        let error = match (&told.client_error, &told.server_error) {
            (None, None) => "",
            (Some(_), None) => " client's",
            (None, Some(_)) => " server's",
            (Some(_), Some(_)) => " both's",
        };
        let over = self.out.iter().any(|m| m.part == Part::Upgrade);
        (format!("{asked} {answered} {code}{error}"), over)
    }
}

fn frame(flow: Flow, first: u8, payload: &[u8]) -> Vec<u8> {
    let masked = if flow == Flow::Request { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match payload.len() {
        short @ ..126 => bytes.push(masked | short as u8),
        medium @ ..65_536 => {
            bytes.push(masked | 126);
            bytes.extend((medium as u16).to_be_bytes());
        }
        long => {
            bytes.push(masked | 127);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    if masked == 0 {
        bytes.extend(payload);
        return bytes;
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(b, m)| b ^ m));
    bytes
}

fn close(flow: Flow, code: u16) -> Vec<u8> {
    frame(
        flow,
        0x88,
        &[&code.to_be_bytes()[..], b"for a reason"].concat(),
    )
}

/// Three messages of the client, one of them in three frames with a ping inside it, and two.
fn dialogue() -> [Vec<u8>; 2] {
    let (asks, answers) = (Flow::Request, Flow::Response);
    let asked = [
        frame(asks, 0x81, b"one"),
        frame(asks, 0x02, b"two, in"),
        frame(asks, 0x89, b"ping"),
        frame(asks, 0x00, b"three"),
        frame(asks, 0x80, &[0; 300]),
        frame(asks, 0x82, b""),
        close(asks, 1000),
    ];
    let answered = [
        frame(answers, 0x8a, b"ping"),
        frame(answers, 0x81, &[b'x'; 200]),
        frame(answers, 0x82, &[1; 70_000]),
        close(answers, 1000),
    ];
    [asked.concat(), answered.concat()]
}

#[test]
fn messages_are_counted_however_they_come() {
    let [asked, answered] = dialogue();
    for portion in [1, 2, 3, 7, 100, usize::MAX] {
        let mut bench = Bench::new();
        let mut status = Status::Stay;
        for (flow, bytes) in [(Flow::Request, &asked), (Flow::Response, &answered)] {
            for part in bytes.chunks(portion.min(bytes.len())) {
                assert_eq!(status, Status::Stay);
                status = bench.send(flow, part, 0);
            }
        }
        assert_eq!(status, Status::Leave);
        assert_eq!(bench.told(), ("3 2 1000".into(), true), "{portion}");
    }
}

#[test]
fn a_hole_in_a_payload_does_no_harm_and_one_at_a_head_costs_the_count() {
    let [asked, answered] = dialogue();
    let mut bench = Bench::new();
    let _ = bench.send(Flow::Request, &asked, 0);
    // The pong, the first message, and ten bytes of the second.
    let _ = bench.send(Flow::Response, &answered[..230], 69_900);
    let at = 230 + 69_900;
    let _ = bench.send(Flow::Response, &answered[at..], 0);
    assert_eq!(bench.told(), ("3 2 1000".into(), true));

    let mut bench = Bench::new();
    let _ = bench.send(Flow::Response, &answered[..20], answered.len() as u32 - 20);
    let _ = bench.send(Flow::Request, &asked, 0);
    bench.ends(true);
    assert_eq!(bench.told(), ("3 - 1000".into(), true));
}

#[test]
fn what_is_cut_off_is_no_message_and_no_close() {
    let [asked, answered] = dialogue();
    for cut in 0..asked.len() {
        let mut bench = Bench::new();
        assert_eq!(bench.send(Flow::Request, &asked[..cut], 0), Status::Stay);
        let ends = [9, 351, 357, asked.len()];
        let count = ends[..3].iter().filter(|end| **end <= cut).count();
        assert_eq!(ends[3], 357 + 20);
        bench.ends(true);
        assert_eq!(bench.told(), (format!("{count} 0 -"), false), "{cut}");
    }
    // A reset after a close changes nothing; where a close may have been lost the end is none's fault.
    let mut bench = Bench::new();
    let _ = bench.send(Flow::Response, &answered, 0);
    bench.ends(false);
    assert_eq!(bench.told(), ("0 2 1000".into(), true));
    for (clean, over) in [(true, true), (false, false)] {
        let mut bench = Bench::new();
        let _ = bench.send(Flow::Request, &[], 9);
        bench.ends(clean);
        assert_eq!(bench.told(), ("- 0 -".into(), over));
    }
}

#[test]
fn who_closed_and_why_says_whose_error_it_is() {
    for (code, by_client, by_server) in [
        (1000, "", ""),
        (1001, "", ""),
        (1002, " both's", " client's"),
        (1008, " client's", " client's"),
        (1011, " client's", " both's"),
        (1012, "", ""),
        (1014, " client's", " both's"),
        (4000, "", ""),
    ] {
        for (first, error) in [(Flow::Request, by_client), (Flow::Response, by_server)] {
            let mut bench = Bench::new();
            let _ = bench.send(first, &close(first, code), 0);
            let _ = bench.send(first.opposite(), &close(first.opposite(), code), 0);
            assert_eq!(bench.told(), (format!("0 0 {code}{error}"), true));
        }
    }
    // An echo alone says the code, and not whose it was.
    let mut bench = Bench::new();
    let _ = bench.send(Flow::Response, &[], 9);
    let _ = bench.send(Flow::Request, &close(Flow::Request, 1002), 0);
    bench.ends(true);
    assert_eq!(bench.told(), ("0 - 1002 client's".into(), true));
}

#[test]
fn what_is_no_frame_is_said_once() {
    let asks = Flow::Request;
    for bytes in [
        frame(Flow::Response, 0x81, b"unmasked"),
        frame(asks, 0xc1, b"an extension nobody agreed on"),
        frame(asks, 0x83, b"no opcode"),
        frame(asks, 0x80, b"a continuation of nothing"),
        frame(asks, 0x09, b"a ping in parts"),
        frame(asks, 0x89, &[0; 126]),
        frame(asks, 0x88, &[0]),
        [&[0x82, 0xff][..], &[0xff; 12]].concat(),
        [frame(asks, 0x01, b"goes on"), frame(asks, 0x81, b"anew")].concat(),
    ] {
        let mut bench = Bench::new();
        let _ = bench.send(asks, &bytes, 0);
        let _ = bench.send(asks, &bytes, 0);
        assert_eq!(bench.stats.protocol_malformed.get(), 1, "{bytes:?}");
        let malformed = |m: &&Message| matches!(m.part, Part::Fault(Fault::Malformed(_)));
        assert_eq!(bench.out.iter().filter(malformed).count(), 1);
        bench.ends(true);
        assert!(bench.told().0.starts_with("- 0"));
    }
    assert_eq!(
        frame::read(&frame(asks, 0xc1, b"deflated"), asks, true, false),
        Found::Frame(Frame {
            kind: Kind::Data { last: true },
            length: 14
        })
    );
}

#[test]
fn a_million_messages_take_no_time() {
    let bytes = frame(Flow::Request, 0x81, b"").repeat(10_000);
    let mut bench = Bench::new();
    for _ in 0..100 {
        let _ = bench.send(Flow::Request, &bytes, 0);
        assert_eq!(bench.streams[0].held(), 0);
    }
    bench.ends(true);
    assert_eq!(bench.told(), ("1000000 0 -".into(), false));
}

proptest! {
    /// No hole makes a number that is not so.
    #[test]
    fn a_count_is_right_or_absent(
        lengths in prop::collection::vec(0_usize..400, 0..20), at in 0_usize..4000, size in 1_usize..500,
    ) {
        let frames: Vec<_> = lengths.iter().map(|n| frame(Flow::Response, 0x82, &vec![0x81; *n])).collect();
        let bytes = frames.concat();
        let at = at.min(bytes.len());
        let size = size.min(bytes.len() - at);
        let mut bench = Bench::new();
        let _ = bench.send(Flow::Response, &bytes[..at], size as u32);
        let _ = bench.send(Flow::Response, &bytes[at + size..], 0);
        bench.ends(true);
        let (told, _) = bench.told();
        let count = format!("0 {} -", lengths.len());
        prop_assert!(told == count || told == "0 - -", "{told}, want {count}");
    }

    #[test]
    fn any_bytes(steps in prop::collection::vec(
        (any::<bool>(), prop::collection::vec(any::<u8>(), 0..40), 0_u32..20), 0..30,
    )) {
        let mut bench = Bench::new();
        for (asks, bytes, missing) in steps {
            let flow = if asks { Flow::Request } else { Flow::Response };
            if bench.send(flow, &bytes, missing) == Status::Leave {
                break;
            }
            for stream in &bench.streams {
                prop_assert!(stream.held() <= 256);
            }
        }
        bench.ends(true);
    }
}
