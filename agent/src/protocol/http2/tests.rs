//! The dialogue's own corners; whole dialogues are in `tests/wire/http2`.

use proptest::prelude::*;

use super::frame::{END_HEADERS, END_STREAM};
use super::*;
use crate::connection::stream::Stream;
use crate::event::{ConnectionId, Direction, Execution, Hole, Segment};
use crate::protocol::{Request, Value};
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

    /// One call that moved these bytes, of which those past `shown` were not copied.
    fn call(&mut self, flow: Flow, bytes: &[u8], shown: usize) -> Status {
        let stream = &mut self.streams[flow as usize];
        let shown = shown.min(bytes.len());
        let segment = Segment {
            connection: ConnectionId(1),
            direction: Direction::Ingress,
            time: 1,
            offset: stream.end(),
            length: bytes.len() as u32,
            bytes: &bytes[..shown],
            tail: &[],
            hole: (shown < bytes.len()).then_some(Hole::Lost),
            turn: self.last != Some(flow),
            lost: 0,
            execution: Execution::default(),
        };
        self.last = Some(flow);
        stream.push(&segment, 0, &self.stats);
        let (out, stats) = (&mut self.out, &self.stats);
        self.parser.parse(flow, &mut Feed { stream, out, stats })
    }

    fn send(&mut self, flow: Flow, bytes: &[u8]) {
        assert_eq!(self.call(flow, bytes, usize::MAX), Status::Stay);
    }

    /// What was found, a word each.
    fn told(&self) -> Vec<String> {
        self.out.iter().map(told).collect()
    }
}

fn told(message: &Message) -> String {
    let Pairing::Number(stream) = message.pairing else {
        panic!("paired by order")
    };
    let what = match &message.part {
        Part::Request(request, _) => format!("asks {}", path(request)),
        Part::Response(response) => format!(
            "answers {:?}",
            response.attributes.first().map(|a| &a.value)
        ),
        Part::Trailers(trailers) => format!("trails {:?}", trailers.client_error),
        Part::Finish(finish) => format!("{:?} ends {}", message.flow, finish.body),
        Part::Reset(code) => format!("reset {code}"),
        Part::Fault(fault) => format!("{fault:?}"),
        other => format!("{other:?}"),
    };
    format!("{stream} {what}")
}

fn path(request: &Request) -> String {
    let path = request.attributes.iter().find(|a| a.key == "url.path");
    match path.map(|a| &a.value) {
        Some(Value::Str(path)) => format!("{} {path}", request.operation),
        _ => request.operation.to_string(),
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A field whose name and value are written out, remembered in the table or not.
fn literal(kept: bool, name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![if kept { 0x40 } else { 0 }, name.len() as u8];
    bytes.extend(name.as_bytes());
    bytes.push(value.len() as u8);
    bytes.extend(value.as_bytes());
    bytes
}

/// `GET path` on http://h.
fn get(path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x04, path.len() as u8];
    block.extend(path.as_bytes());
    block.extend([0x41, 1, b'h']);
    block
}

fn opening() -> Vec<u8> {
    [PREFACE, &frame(kind::SETTINGS, 0, 0, &[])].concat()
}

const BOTH: u8 = END_HEADERS | END_STREAM;

/// Three streams at once, with a body, an interim response, padding and trailers.
fn dialogue() -> Vec<(Flow, Vec<u8>)> {
    let padded = |content: &[u8]| [&[3][..], content, &[0; 3]].concat();
    let (half, rest) = (get("/b")[..3].to_vec(), get("/b")[3..].to_vec());
    vec![
        (
            Flow::Request,
            [opening(), frame(kind::HEADERS, BOTH, 1, &get("/a"))].concat(),
        ),
        (
            Flow::Response,
            [
                frame(kind::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]),
                frame(kind::SETTINGS, 1, 0, &[]),
            ]
            .concat(),
        ),
        (
            Flow::Request,
            [
                frame(kind::SETTINGS, 1, 0, &[]),
                frame(kind::HEADERS, 0, 3, &half),
                frame(kind::CONTINUATION, END_HEADERS, 3, &rest),
                frame(kind::HEADERS, BOTH | 8, 5, &padded(&get("/c"))),
                frame(kind::DATA, 8, 3, &padded(b"hello")),
                frame(kind::DATA, END_STREAM, 3, b"world"),
            ]
            .concat(),
        ),
        (
            Flow::Response,
            [
                frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0]),
                frame(
                    kind::HEADERS,
                    END_HEADERS,
                    5,
                    &literal(false, ":status", "103"),
                ),
                frame(kind::HEADERS, END_HEADERS, 5, &[0x8d]),
                frame(kind::DATA, 0, 5, &[b'x'; 100]),
                frame(kind::HEADERS, BOTH, 3, &[0x89]),
                frame(kind::HEADERS, END_HEADERS, 1, &[0x88]),
                frame(kind::DATA, END_STREAM, 5, &[]),
                frame(kind::HEADERS, BOTH, 1, &literal(true, "sum", "9")),
            ]
            .concat(),
        ),
    ]
}

const TOLD: [&str; 12] = [
    "1 asks GET /a",
    "1 Request ends 0",
    "3 asks GET /b",
    "5 asks GET /c",
    "5 Request ends 0",
    "3 Request ends 10",
    "5 answers Some(Int(404))",
    "3 answers Some(Int(204))",
    "3 Response ends 0",
    "1 answers Some(Int(200))",
    "5 Response ends 100",
    "1 Response ends 0",
];

#[test]
fn streams_are_told_apart() {
    let mut bench = Bench::new();
    for (flow, bytes) in dialogue() {
        bench.send(flow, &bytes);
    }
    assert_eq!(bench.told(), TOLD);
}

#[test]
fn however_the_bytes_come() {
    for size in 1..120 {
        let mut bench = Bench::new();
        for (flow, bytes) in dialogue() {
            for piece in bytes.chunks(size) {
                bench.send(flow, piece);
            }
        }
        assert_eq!(bench.told(), TOLD, "pieces of {size}");
    }
}

#[test]
fn an_older_connection_is_taken_up_and_what_it_refers_to_stays_unknown() {
    let mut bench = Bench::new();
    // In the middle of something.
    bench.send(Flow::Response, b"tail of a body");
    let mut block = get("/late");
    block.push(0xbe + 1);
    bench.send(Flow::Request, &frame(kind::HEADERS, BOTH, 77, &block));
    bench.send(Flow::Response, &frame(kind::HEADERS, BOTH, 77, &[0x88]));
    // The authority was added to the table since: its number is known.
    let block = [0x82, 0x86, 0x84, 0xbe, 0xc5];
    bench.send(Flow::Request, &frame(kind::HEADERS, BOTH, 79, &block));
    assert_eq!(
        bench.told(),
        [
            "77 asks GET /late",
            "77 Partial",
            "77 Request ends 0",
            "77 answers Some(Int(200))",
            "77 Response ends 0",
            "79 asks GET /",
            "79 Partial",
            "79 Request ends 0",
        ]
    );
    let Part::Request(request, _) = &bench.out[5].part else {
        panic!("{:?}", bench.out[5])
    };
    let host = |a: &&crate::protocol::Attribute| a.key == "server.address";
    assert!(request.attributes.iter().any(|a| host(&a)));
}

#[test]
fn a_method_and_a_path_that_are_not_known_are_not_said() {
    let mut bench = Bench::new();
    let block = [&[0x86, 0xbe, 0xbf][..], &literal(true, "a", "b")].concat();
    bench.send(Flow::Request, &frame(kind::HEADERS, BOTH, 9, &block));
    assert_eq!(bench.told()[..2], ["9 asks HTTP", "9 Partial"]);
    let Part::Request(request, _) = &bench.out[0].part else {
        panic!("{:?}", bench.out[0])
    };
    let claims = ["http.request.method", "url.path"];
    let claimed = |a: &crate::protocol::Attribute| claims.contains(&a.key.as_ref());
    assert!(!request.attributes.iter().any(claimed));
}

#[test]
fn what_was_lost_is_said_and_the_next_turn_is_read() {
    let mut bench = Bench::new();
    bench.send(Flow::Request, &opening());
    bench.send(Flow::Response, &frame(kind::SETTINGS, 0, 0, &[]));
    let kept = [get("/a"), literal(true, "x", "y")].concat();
    bench.send(Flow::Request, &frame(kind::HEADERS, BOTH, 1, &kept));
    bench.send(Flow::Response, &frame(kind::HEADERS, BOTH, 1, &[0x88]));
    let two = [
        frame(kind::HEADERS, END_HEADERS, 3, &[0x82, 0x86, 0x84]),
        frame(kind::HEADERS, BOTH, 5, &get("/lost")),
    ]
    .concat();
    let _ = bench.call(Flow::Request, &two, 14);
    bench.send(
        Flow::Response,
        &frame(kind::HEADERS, END_HEADERS, 3, &[0x88]),
    );
    // Entry 62 was known before the loss.
    let block = [0x82, 0x86, 0x84, 0xbe];
    bench.send(Flow::Request, &frame(kind::HEADERS, BOTH, 7, &block));
    let told = bench.told();
    let lost = format!(
        "3 {:?}",
        Fault::Missing {
            cause: Hole::Lost,
            bytes: (two.len() - 14) as u64
        }
    );
    assert!(told.contains(&lost), "{told:?}");
    assert_eq!(
        told[told.len() - 3..],
        ["7 asks GET /", "7 Partial", "7 Request ends 0"]
    );
    assert_eq!(bench.stats.protocol_resynced.get(), 1);
}

#[test]
fn a_body_that_was_not_copied_costs_nothing() {
    let mut bench = Bench::new();
    bench.send(
        Flow::Request,
        &[opening(), frame(kind::HEADERS, BOTH, 1, &get("/big"))].concat(),
    );
    bench.send(Flow::Response, &frame(kind::SETTINGS, 0, 0, &[]));
    let body = frame(kind::DATA, 0, 1, &[0; 16_000]);
    let head = frame(kind::HEADERS, END_HEADERS, 1, &[0x88]);
    bench.send(Flow::Response, &head);
    for _ in 0..100 {
        let _ = bench.call(Flow::Response, &body, 9);
    }
    bench.send(Flow::Response, &frame(kind::DATA, END_STREAM, 1, &[]));
    assert_eq!(
        bench.told().last().map(String::as_str),
        Some("1 Response ends 1600000")
    );
    assert_eq!(bench.streams[1].held(), 0);
}

#[test]
fn resets_end_an_exchange_from_either_side() {
    let mut bench = Bench::new();
    let asks = [
        frame(kind::HEADERS, BOTH, 1, &get("/a")),
        frame(kind::HEADERS, BOTH, 3, &get("/b")),
    ];
    bench.send(Flow::Request, &[opening(), asks.concat()].concat());
    bench.send(Flow::Response, &frame(kind::SETTINGS, 0, 0, &[]));
    bench.send(
        Flow::Response,
        &frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, 7]),
    );
    bench.send(Flow::Request, &frame(kind::RST_STREAM, 0, 3, &[0, 0, 0, 8]));
    let told = bench.told();
    assert_eq!(told[4..], ["1 reset REFUSED_STREAM", "3 reset CANCEL"]);
}

#[test]
fn a_flood_of_continuations_is_not_kept() {
    let mut bench = Bench::new();
    bench.send(Flow::Request, &opening());
    bench.send(Flow::Request, &frame(kind::HEADERS, 0, 1, &get("/a")));
    let piece = frame(kind::CONTINUATION, 0, 1, &[0; 16_000]);
    for _ in 0..100 {
        bench.send(Flow::Request, &piece);
        assert!(bench.parser.weight() <= MAX_BLOCK + 16_384);
    }
    bench.send(
        Flow::Request,
        &frame(kind::CONTINUATION, END_HEADERS, 1, &[]),
    );
    bench.send(Flow::Request, &frame(kind::HEADERS, BOTH, 3, &get("/b")));
    assert_eq!(
        bench.told(),
        [
            "1 asks HTTP",
            "1 Partial",
            "3 asks GET /b",
            "3 Request ends 0"
        ]
    );
    assert_eq!(bench.stats.protocol_unreadable.get(), 1);
}

#[test]
fn many_streams_opened_and_reset_leave_nothing() {
    let mut bench = Bench::new();
    bench.send(Flow::Request, &opening());
    for stream in (1..20_001).step_by(2) {
        let bytes = [
            frame(kind::HEADERS, END_HEADERS, stream, &[0x82, 0x86, 0x84]),
            frame(kind::RST_STREAM, 0, stream, &[0, 0, 0, 8]),
        ];
        bench.send(Flow::Request, &bytes.concat());
    }
    assert_eq!(bench.parser.weight(), 0);
}

#[test]
fn calls_are_told_by_their_content() {
    let mut bench = Bench::new();
    let ask = [
        &[0x83, 0x86, 0x04, 4][..],
        b"/s/m",
        &literal(false, "content-type", "application/grpc+proto"),
    ]
    .concat();
    let asks = frame(kind::HEADERS, END_HEADERS, 1, &ask);
    bench.send(Flow::Request, &[opening(), asks].concat());
    bench.send(Flow::Request, &frame(kind::DATA, END_STREAM, 1, &[0; 7]));
    bench.send(Flow::Response, &frame(kind::SETTINGS, 0, 0, &[]));
    bench.send(
        Flow::Response,
        &frame(kind::HEADERS, END_HEADERS, 1, &[0x88]),
    );
    let trailers = literal(false, "grpc-status", "5");
    bench.send(Flow::Response, &frame(kind::HEADERS, BOTH, 1, &trailers));
    assert_eq!(
        bench.told(),
        [
            "1 asks s/m",
            "1 Request ends 7",
            "1 answers Some(Int(200))",
            "1 trails Some(\"NOT_FOUND\")",
            "1 Response ends 0",
        ]
    );
}

proptest! {
    #[test]
    fn any_bytes_do_no_harm(calls in prop::collection::vec((any::<bool>(), any::<Vec<u8>>()), 0..20)) {
        let mut bench = Bench::new();
        bench.send(Flow::Request, &opening());
        for (asks, bytes) in calls {
            let flow = if asks { Flow::Request } else { Flow::Response };
            let _ = bench.call(flow, &bytes, bytes.len());
        }
    }

    #[test]
    fn any_block_does_no_harm(blocks in prop::collection::vec(any::<Vec<u8>>(), 0..8), adopted: bool) {
        let mut decoder = Decoder::new(adopted);
        for block in blocks {
            let mut taken = 0usize;
            let _ = decoder.block(&block, 1000, |field| {
                let length = |text: &Option<bytes::Bytes>| text.as_ref().map_or(0, bytes::Bytes::len);
                taken += length(&field.name) + length(&field.value);
            });
            prop_assert!(taken <= 1000 && decoder.weight() <= 64 * 1024);
        }
    }
}
