//! The dialogue's own corners; whole dialogues are in `tests/wire/http2`.

use proptest::prelude::*;

use super::frame::{END_HEADERS, END_STREAM};
use super::*;
use crate::event::Hole;
use crate::protocol::bench::Bench;
use crate::protocol::{Attribute, Request, Value};

impl Bench {
    /// One call that moved these bytes, of which those past `shown` were not copied.
    fn call(&mut self, flow: Flow, bytes: &[u8], shown: usize) -> Status {
        let (shown, rest) = bytes.split_at(shown.min(bytes.len()));
        self.send_part(flow, shown, rest.len() as u32, Hole::Lost)
    }

    fn says(&mut self, flow: Flow, bytes: &[u8]) {
        assert_eq!(self.send(flow, bytes), Status::Stay);
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
        Part::Revise(revision) => match revision.with.as_slice() {
            [
                Attribute {
                    key,
                    value: Value::Int(n),
                },
            ] => format!("{key} {n}"),
            other => format!("{other:?}"),
        },
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
    let mut bench = Bench::new(PROTOCOL);
    for (flow, bytes) in dialogue() {
        bench.says(flow, &bytes);
    }
    assert_eq!(bench.told(), TOLD);
}

#[test]
fn what_was_said_and_answered_is_not_held() {
    let mut bench = Bench::new(PROTOCOL);
    for (flow, bytes) in dialogue() {
        bench.says(flow, &bytes);
    }
    // The tables have entries by now; nobody waits.
    assert_eq!(bench.parser.weight(), 0);
}

#[test]
fn however_the_bytes_come() {
    for size in 1..120 {
        let mut bench = Bench::new(PROTOCOL);
        for (flow, bytes) in dialogue() {
            for piece in bytes.chunks(size) {
                bench.says(flow, piece);
            }
        }
        assert_eq!(bench.told(), TOLD, "pieces of {size}");
    }
}

#[test]
fn an_older_connection_is_taken_up_and_what_it_refers_to_stays_unknown() {
    let mut bench = Bench::new(PROTOCOL);
    // In the middle of something.
    bench.says(Flow::Response, b"tail of a body");
    let mut block = get("/late");
    block.push(0xbe + 1);
    bench.says(Flow::Request, &frame(kind::HEADERS, BOTH, 77, &block));
    bench.says(Flow::Response, &frame(kind::HEADERS, BOTH, 77, &[0x88]));
    // The authority was added to the table since: its number is known.
    let block = [0x82, 0x86, 0x84, 0xbe, 0xc5];
    bench.says(Flow::Request, &frame(kind::HEADERS, BOTH, 79, &block));
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
    let host = |a: &&Attribute| a.key == "server.address";
    assert!(request.attributes.iter().any(|a| host(&a)));
}

#[test]
fn a_method_and_a_path_that_are_not_known_are_not_said() {
    let mut bench = Bench::new(PROTOCOL);
    let block = [&[0x86, 0xbe, 0xbf][..], &literal(true, "a", "b")].concat();
    bench.says(Flow::Request, &frame(kind::HEADERS, BOTH, 9, &block));
    assert_eq!(bench.told()[..2], ["9 asks HTTP", "9 Partial"]);
    let Part::Request(request, _) = &bench.out[0].part else {
        panic!("{:?}", bench.out[0])
    };
    let claims = ["http.request.method", "url.path"];
    let claimed = |a: &Attribute| claims.contains(&a.key.as_ref());
    assert!(!request.attributes.iter().any(claimed));
}

#[test]
fn what_was_lost_is_said_and_the_next_turn_is_read() {
    let mut bench = Bench::new(PROTOCOL);
    bench.says(Flow::Request, &opening());
    bench.says(Flow::Response, &frame(kind::SETTINGS, 0, 0, &[]));
    let kept = [get("/a"), literal(true, "x", "y")].concat();
    bench.says(Flow::Request, &frame(kind::HEADERS, BOTH, 1, &kept));
    bench.says(Flow::Response, &frame(kind::HEADERS, BOTH, 1, &[0x88]));
    let two = [
        frame(kind::HEADERS, END_HEADERS, 3, &[0x82, 0x86, 0x84]),
        frame(kind::HEADERS, BOTH, 5, &get("/lost")),
    ]
    .concat();
    let _ = bench.call(Flow::Request, &two, 14);
    bench.says(
        Flow::Response,
        &frame(kind::HEADERS, END_HEADERS, 3, &[0x88]),
    );
    // Entry 62 was known before the loss.
    let block = [0x82, 0x86, 0x84, 0xbe];
    bench.says(Flow::Request, &frame(kind::HEADERS, BOTH, 7, &block));
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
    let mut bench = Bench::new(PROTOCOL);
    bench.says(
        Flow::Request,
        &[opening(), frame(kind::HEADERS, BOTH, 1, &get("/big"))].concat(),
    );
    bench.says(Flow::Response, &frame(kind::SETTINGS, 0, 0, &[]));
    let body = frame(kind::DATA, 0, 1, &[0; 16_000]);
    let head = frame(kind::HEADERS, END_HEADERS, 1, &[0x88]);
    bench.says(Flow::Response, &head);
    for _ in 0..100 {
        let _ = bench.call(Flow::Response, &body, 9);
    }
    bench.says(Flow::Response, &frame(kind::DATA, END_STREAM, 1, &[]));
    assert_eq!(
        bench.told().last().map(String::as_str),
        Some("1 Response ends 1600000")
    );
    assert_eq!(bench.streams[1].held(), 0);
}

#[test]
fn resets_end_an_exchange_from_either_side() {
    let mut bench = Bench::new(PROTOCOL);
    let asks = [
        frame(kind::HEADERS, BOTH, 1, &get("/a")),
        frame(kind::HEADERS, BOTH, 3, &get("/b")),
    ];
    bench.says(Flow::Request, &[opening(), asks.concat()].concat());
    bench.says(Flow::Response, &frame(kind::SETTINGS, 0, 0, &[]));
    bench.says(
        Flow::Response,
        &frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, 7]),
    );
    bench.says(Flow::Request, &frame(kind::RST_STREAM, 0, 3, &[0, 0, 0, 8]));
    let told = bench.told();
    assert_eq!(told[4..], ["1 reset REFUSED_STREAM", "3 reset CANCEL"]);
}

#[test]
fn a_connection_that_is_http2_for_sure_is_never_given_up() {
    // A preface; SETTINGS of a server; on an older connection, an answer to what was asked.
    let answered = [
        (Flow::Request, frame(kind::HEADERS, BOTH, 7, &get("/a"))),
        (Flow::Response, frame(kind::HEADERS, BOTH, 7, &[0x88])),
    ];
    let beginnings: [&[(Flow, Vec<u8>)]; 3] = [
        &[(Flow::Request, opening())],
        &[(Flow::Response, frame(kind::SETTINGS, 0, 0, &[]))],
        &answered,
    ];
    for beginning in beginnings {
        let mut bench = Bench::new(PROTOCOL);
        for (flow, bytes) in beginning {
            bench.says(*flow, bytes);
        }
        let flow = beginning.last().expect("one").0;
        // A body whose beginning was lost.
        bench.says(flow, b"no frame");
        for _ in 0..2 * MAX_REFUSED {
            bench.last = None;
            bench.says(flow, b"on it goes");
        }
        assert_eq!(bench.stats.protocol_given_up.get(), 0);
        bench.last = None;
        bench.says(Flow::Request, &frame(kind::HEADERS, BOTH, 9, &get("/b")));
        assert!(bench.told().contains(&"9 asks GET /b".to_owned()));
    }
    let mut bench = Bench::new(PROTOCOL);
    let status = (0..=MAX_REFUSED).map(|_| {
        bench.last = None;
        bench.call(Flow::Request, b"on it goes", usize::MAX)
    });
    assert_eq!(status.last(), Some(Status::Leave));
}

#[test]
fn only_what_is_surely_a_frame_is_taken_for_one() {
    let settings = |payload: &[u8]| frame(kind::SETTINGS, 0, 0, payload);
    let one = settings(&[0, 3, 0, 0, 0, 100]);
    assert_eq!(frame::sniff(&one, false), Verdict::Is(Flow::Response));
    assert_eq!(
        frame::sniff(&settings(&[]), false),
        Verdict::Is(Flow::Response)
    );
    // Not all of it has come; what it says is unknown; what follows is no frame.
    assert_eq!(frame::sniff(&one[..14], false), Verdict::More);
    assert_eq!(
        frame::sniff(&settings(&[9, 3, 0, 0, 0, 1]), false),
        Verdict::Not
    );
    let followed = [&one[..], b"\0\0\x09GET /aaaa"].concat();
    assert_eq!(frame::sniff(&followed, false), Verdict::Not);
    // Later both sides send them.
    assert_eq!(frame::sniff(&one, true), Verdict::More);
}

#[test]
fn padding_is_judged_for_what_it_is() {
    // Of no bytes, and of many: zeros, which are no fields.
    for padding in [0, 40] {
        let payload = [&[padding][..], &get("/a"), &vec![0; padding.into()]].concat();
        let asks = frame(kind::HEADERS, BOTH | 8, 1, &payload);
        for shown in [asks.len(), asks.len() - usize::from(padding) / 2] {
            let verdict = frame::sniff(&asks[..shown], true);
            assert_eq!(verdict, Verdict::Is(Flow::Request), "{padding}");
        }
    }
    // There is no room for what the flags promise.
    for (kind, flags, length) in [(kind::DATA, 8, 0), (kind::HEADERS, 0x2c, 5), (5, 8, 4)] {
        let head = Head::read(&frame(kind, flags, 1, &vec![0; length])).expect("a head");
        assert!(!head.is_sound(), "{head:?}");
    }
    // A flag without a meaning is ignored.
    let head = Head::read(&frame(kind::DATA, 0x40, 1, &[])).expect("a head");
    assert!(head.is_sound());
}

#[test]
fn what_is_missing_is_told_before_the_end() {
    let mut bench = Bench::new(PROTOCOL);
    bench.says(Flow::Request, &opening());
    bench.says(Flow::Response, &frame(kind::SETTINGS, 0, 0, &[]));
    let asks = frame(kind::HEADERS, BOTH, 1, &get("/a"));
    let _ = bench.call(Flow::Request, &asks, 12);
    let answers = frame(kind::HEADERS, BOTH, 1, &literal(false, ":status", "200"));
    let _ = bench.call(Flow::Response, &answers, 10);
    let missing = |bytes: usize| {
        let (cause, bytes) = (Hole::Lost, bytes as u64);
        format!("1 {:?}", Fault::Missing { cause, bytes })
    };
    assert_eq!(
        bench.told(),
        [
            "1 asks HTTP",
            "1 Partial",
            &missing(asks.len() - 12),
            "1 Request ends 0",
            "1 answers None",
            "1 Partial",
            &missing(answers.len() - 10),
            "1 Response ends 0",
        ]
    );
}

#[test]
fn a_reset_whose_code_was_not_seen_is_one() {
    let mut bench = Bench::new(PROTOCOL);
    let asks = frame(kind::HEADERS, BOTH, 1, &get("/a"));
    bench.says(Flow::Request, &[opening(), asks].concat());
    let reset = frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8]);
    let _ = bench.call(Flow::Request, &reset, HEAD + 2);
    assert_eq!(bench.told().last().expect("one"), "1 reset _OTHER");
}

#[test]
fn a_head_whose_status_is_not_known_may_be_an_interim_one() {
    let mut bench = Bench::new(PROTOCOL);
    let ask = |bench: &mut Bench, stream| {
        bench.says(
            Flow::Request,
            &frame(kind::HEADERS, BOTH, stream, &get("/a")),
        );
    };
    // By number twice: first 103, then 200, for all that is known; or a final one, and trailers.
    let unknown = |flags, stream| frame(kind::HEADERS, flags, stream, &[0xc5]);
    let known = frame(kind::HEADERS, END_HEADERS, 3, &[0x8d]);
    // Who answers is known by this one.
    bench.says(Flow::Response, &frame(kind::HEADERS, BOTH, 99, &[0x88]));
    ask(&mut bench, 1);
    bench.says(Flow::Response, &unknown(END_HEADERS, 1));
    bench.says(Flow::Response, &unknown(END_HEADERS, 1));
    bench.says(Flow::Response, &frame(kind::DATA, END_STREAM, 1, b"x"));
    ask(&mut bench, 3);
    bench.says(Flow::Response, &unknown(END_HEADERS, 3));
    bench.says(Flow::Response, &known);
    ask(&mut bench, 5);
    bench.says(Flow::Response, &unknown(END_HEADERS, 5));
    bench.says(Flow::Response, &frame(kind::DATA, 0, 5, b"x"));
    bench.says(Flow::Response, &unknown(BOTH, 5));
    let told = bench.told();
    let of = |stream: &str| {
        let about = |line: &&String| line.starts_with(stream) && line.contains("answers");
        told.iter().filter(about).cloned().collect::<Vec<_>>()
    };
    assert_eq!(of("1 "), ["1 answers None", "1 answers None"]);
    assert_eq!(of("3 "), ["3 answers None", "3 answers Some(Int(404))"]);
    assert_eq!(of("5 "), ["5 answers None"]);
}

#[test]
fn a_flood_of_continuations_is_not_kept() {
    let mut bench = Bench::new(PROTOCOL);
    bench.says(Flow::Request, &opening());
    bench.says(Flow::Request, &frame(kind::HEADERS, 0, 1, &get("/a")));
    let piece = frame(kind::CONTINUATION, 0, 1, &[0; 16_000]);
    for _ in 0..100 {
        bench.says(Flow::Request, &piece);
        assert!(bench.parser.weight() <= MAX_BLOCK + 16_384);
    }
    bench.says(
        Flow::Request,
        &frame(kind::CONTINUATION, END_HEADERS, 1, &[]),
    );
    bench.says(Flow::Request, &frame(kind::HEADERS, BOTH, 3, &get("/b")));
    assert_eq!(
        bench.told(),
        [
            "1 asks HTTP",
            "1 Partial",
            "3 asks GET /b",
            "3 Request ends 0"
        ]
    );
    assert_eq!(bench.stats.protocol_head_too_long.get(), 1);
}

#[test]
fn a_block_that_unfolds_without_end_is_cut_and_said_to_be() {
    let mut bench = Bench::new(PROTOCOL);
    // One entry of 4000 bytes, told again by each of 16,000: 64 MB as RFC 9113, 10.5.1 counts.
    let entry = [&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e][..], &[b'y'; 4000]].concat();
    let bomb = [get("/a"), entry, vec![0xbe; 16_000]].concat();
    let asks = frame(kind::HEADERS, BOTH, 1, &bomb);
    bench.says(Flow::Request, &[opening(), asks].concat());
    assert_eq!(
        bench.told(),
        ["1 asks GET /a", "1 Partial", "1 Request ends 0"]
    );
    assert_eq!(bench.stats.protocol_head_too_long.get(), 1);
    // The work: no more fields are given out than there is room for, each visited once.
    let mut decoder = Decoder::new(false);
    let (mut given, mut size) = (0, 0);
    let all = decoder.block(&bomb, MAX_BLOCK, |field| {
        given += 1;
        size += field.value.map_or(0, |value| value.len());
    });
    assert_eq!((all, given), (Ok(false), 20));
    assert!(size <= MAX_BLOCK && decoder.size() <= 4096);
    // What has no bytes costs as well.
    let mut given = 0;
    let empty =
        Decoder::new(true).block(&[0xff, 0xff, 0x7f].repeat(9000), MAX_BLOCK, |_| given += 1);
    assert_eq!((empty, given), (Ok(false), MAX_BLOCK / 32));
}

#[test]
fn a_table_larger_than_is_kept_is_counted() {
    let mut bench = Bench::new(PROTOCOL);
    // Its sender may keep a megabyte; thirty entries of 4000 bytes.
    let entry = [&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e][..], &[b'y'; 4000]].concat();
    bench.says(Flow::Request, &opening());
    for stream in (1..61).step_by(2) {
        let size = [0x3f, 0xe1, 0xff, 0x3f];
        let block = [&size[..], &get("/a"), &entry].concat();
        bench.says(Flow::Request, &frame(kind::HEADERS, BOTH, stream, &block));
    }
    let forgotten = bench.stats.protocol_entries_forgotten.get();
    assert!((10..60).contains(&forgotten), "{forgotten}");
}

#[test]
fn streams_opened_and_reset_leave_nothing() {
    flood(true);
}

#[test]
fn streams_that_never_end_have_a_bound() {
    flood(false);
}

/// Opens a million streams, a thousand in each call, and resets each at once or never; fewer where
/// the code is not optimized.
fn flood(reset: bool) {
    const MANY: u32 = if cfg!(debug_assertions) {
        100_000
    } else {
        1_000_000
    };
    let mut bench = Bench::new(PROTOCOL);
    bench.says(Flow::Request, &opening());
    let mut stream = 1;
    let mut found = 0;
    for _ in 0..MANY / 1000 {
        let mut bytes = Vec::new();
        for _ in 0..1000 {
            let asks = [0x82, 0x86, 0x84];
            bytes.extend(frame(kind::HEADERS, END_HEADERS, stream, &asks));
            if reset {
                bytes.extend(frame(kind::RST_STREAM, 0, stream, &[0, 0, 0, 8]));
            }
            stream += 2;
        }
        bench.says(Flow::Request, &bytes);
        found += bench.out.drain(..).count();
        assert!(bench.streams[0].held() == 0);
        let most = if reset { 0 } else { streams::MAX_STREAMS * 512 };
        assert!(bench.parser.weight() <= most, "{}", bench.parser.weight());
    }
    let (each, forgotten) = if reset {
        (2, 0)
    } else {
        (1, u64::from(MANY) - streams::MAX_STREAMS as u64)
    };
    assert_eq!(found, each * MANY as usize);
    assert_eq!(bench.stats.protocol_streams_forgotten.get(), forgotten);
}

#[test]
fn calls_are_told_by_their_content() {
    let mut bench = Bench::new(PROTOCOL);
    let ask = [
        &[0x83, 0x86, 0x04, 4][..],
        b"/s/m",
        &literal(false, "content-type", "application/grpc+proto"),
    ]
    .concat();
    let asks = frame(kind::HEADERS, END_HEADERS, 1, &ask);
    bench.says(Flow::Request, &[opening(), asks].concat());
    bench.says(Flow::Request, &frame(kind::DATA, END_STREAM, 1, &[0; 7]));
    bench.says(Flow::Response, &frame(kind::SETTINGS, 0, 0, &[]));
    bench.says(
        Flow::Response,
        &frame(kind::HEADERS, END_HEADERS, 1, &[0x88]),
    );
    let trailers = literal(false, "grpc-status", "5");
    bench.says(Flow::Response, &frame(kind::HEADERS, BOTH, 1, &trailers));
    assert_eq!(
        bench.told(),
        [
            "1 asks s/m",
            "1 Request ends 7",
            "1 answers Some(Int(200))",
            "1 trails Some(\"NOT_FOUND\")",
            "1 spantap.rpc.response.messages 0",
            "1 Response ends 0",
        ]
    );
}

/// A message of so many bytes, behind its prefix.
fn counted(length: usize) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend((length as u32).to_be_bytes());
    bytes.resize(5 + length, 7);
    bytes
}

/// What was counted, and what was found to be a call.
fn revised(bench: &Bench) -> Vec<String> {
    let mut found = Vec::new();
    for message in &bench.out {
        if let Part::Revise(revision) = &message.part {
            found.extend(revision.kind.iter().map(|(_, called)| called.to_string()));
            let counts = revision.with.iter().filter(|a| a.key.ends_with("messages"));
            let side = |key: &str| match key.contains("request") {
                true => Flow::Request,
                false => Flow::Response,
            };
            found.extend(counts.map(|a| format!("{:?} {:?}", side(&a.key), a.value)));
        }
    }
    found
}

#[test]
fn messages_of_calls_are_counted_by_their_prefixes() {
    let call = literal(false, "content-type", "application/grpc");
    let ask = [&[0x83, 0x86, 0x04, 4][..], b"/s/m", &call].concat();
    // Three messages in frames that end anywhere, one of them padded.
    let all = [counted(10), counted(0), counted(300)].concat();
    for cut in 1..all.len() {
        let padded = [&[3][..], &all[..cut], &[0; 3]].concat();
        let asks = [
            opening(),
            frame(kind::HEADERS, END_HEADERS, 1, &ask),
            frame(kind::DATA, 8, 1, &padded),
            frame(kind::DATA, END_STREAM, 1, &all[cut..]),
        ];
        for size in [1, 7, 4096] {
            let mut bench = Bench::new(PROTOCOL);
            for piece in asks.concat().chunks(size) {
                bench.says(Flow::Request, piece);
            }
            assert_eq!(revised(&bench), ["Request Int(3)"], "{cut}, {size}");
        }
    }
    // What is missing inside a message does no harm; a prefix that is missing is not made up.
    for (shown, want) in [(HEAD + 5, vec!["Request Int(1)"]), (HEAD + 3, vec![])] {
        let mut bench = Bench::new(PROTOCOL);
        bench.says(Flow::Request, &[&opening()[..], &asks_of(&ask)].concat());
        let body = frame(kind::DATA, END_STREAM, 1, &counted(1000));
        let _ = bench.call(Flow::Request, &body, shown);
        assert_eq!(revised(&bench), want);
    }
}

fn asks_of(block: &[u8]) -> Vec<u8> {
    frame(kind::HEADERS, END_HEADERS, 1, block)
}

#[test]
fn calls_on_an_older_connection_are_known_by_what_only_calls_have() {
    // The content type is among what is not known.
    let unknown = [&[0x83, 0x86, 0x04, 4][..], b"/s/m", &[0xc5]].concat();
    let status = literal(false, "grpc-status", "5");
    let message = counted(4);
    let sums = literal(false, "sum", "9");
    let timeout = [unknown.clone(), literal(false, "grpc-timeout", "1S")].concat();
    // What is asked, the messages, the trailers: what is found.
    let counts = ["s/m", "Request Int(1)", "Response Int(1)"].as_slice();
    for (ask, body, trailers, want) in [
        (&unknown, &message, &status, counts),
        (&unknown, &message, &vec![0xc5], counts),
        (&timeout, &message, &vec![0xc5], &counts[1..]),
        (&unknown, &b"{}".to_vec(), &sums, &[]),
        (&get("/s/m"), &message, &sums, &[]),
    ] {
        let mut bench = Bench::new(PROTOCOL);
        bench.says(Flow::Request, &asks_of(ask));
        bench.says(Flow::Request, &frame(kind::DATA, END_STREAM, 1, body));
        let answers = [
            frame(kind::HEADERS, END_HEADERS, 1, &[0x88]),
            frame(kind::DATA, 0, 1, body),
            frame(kind::HEADERS, BOTH, 1, trailers),
        ];
        bench.says(Flow::Response, &answers.concat());
        assert_eq!(revised(&bench), want, "{ask:?} {body:?} {trailers:?}");
    }
}

#[test]
fn a_port_that_nobody_said_is_not_said() {
    let call = literal(false, "content-type", "application/grpc");
    let unknown = [0x82, 0x84, 0x41, 1, b'h', 0xc5];
    // A request's has its scheme's; a call has none, nor has what has no scheme that is known.
    for (block, want) in [
        (get("/a"), Some(Value::Int(80))),
        ([get("/s/m"), call].concat(), None),
        (unknown.to_vec(), None),
    ] {
        let mut bench = Bench::new(PROTOCOL);
        bench.says(Flow::Request, &frame(kind::HEADERS, BOTH, 1, &block));
        let Part::Request(request, _) = &bench.out[0].part else {
            panic!("{:?}", bench.out[0])
        };
        let mut all = request.attributes.iter();
        let port = all.find(|a| a.key == "server.port").map(|a| &a.value);
        assert_eq!(port, want.as_ref(), "{block:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_do_no_harm(calls in prop::collection::vec((any::<bool>(), any::<Vec<u8>>()), 0..20)) {
        let mut bench = Bench::new(PROTOCOL);
        bench.says(Flow::Request, &opening());
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
            prop_assert!(taken <= 1000 && decoder.size() <= 64 * 1024);
        }
    }
}
