//! The dialogue's own corners; whole dialogues are in `tests/wire/fastcgi`.

use proptest::prelude::*;

use super::*;
use crate::event::Hole;
use crate::protocol::bench::Bench;
use crate::protocol::{Fault, Message, Part, Request, Value};

fn record(kind: u8, id: u16, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![1, kind];
    bytes.extend(id.to_be_bytes());
    bytes.extend((content.len() as u16).to_be_bytes());
    let padding = content.len().wrapping_neg() % 8;
    bytes.extend([padding as u8, 0]);
    bytes.extend(content);
    bytes.resize(bytes.len() + padding, 0);
    bytes
}

fn begin(id: u16, role: u8) -> Vec<u8> {
    record(kind::BEGIN, id, &[0, role, 1, 0, 0, 0, 0, 0])
}

fn params(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in pairs {
        bytes.push(name.len() as u8);
        match value.len() {
            short @ ..128 => bytes.push(short as u8),
            long => bytes.extend((long as u32 | 1 << 31).to_be_bytes()),
        }
        bytes.extend(name.bytes().chain(value.bytes()));
    }
    bytes
}

/// A whole GET.
fn get(id: u16, path: &str) -> Vec<u8> {
    let pairs = params(&[("REQUEST_METHOD", "GET"), ("REQUEST_URI", path)]);
    [
        begin(id, 1),
        record(kind::PARAMS, id, &pairs),
        record(kind::PARAMS, id, b""),
        record(kind::STDIN, id, b""),
    ]
    .concat()
}

fn end(id: u16, app: u32, status: u8) -> Vec<u8> {
    let mut content = app.to_be_bytes().to_vec();
    // What is reserved is whatever was there.
    content.extend([status, b'x', b'y', b'z']);
    record(kind::END, id, &content)
}

fn answer(id: u16, text: &str) -> Vec<u8> {
    [record(kind::STDOUT, id, text.as_bytes()), end(id, 0, 0)].concat()
}

fn text(request: &Request, key: &str) -> String {
    let found = request.attributes.iter().find(|a| a.key == key);
    match found.map(|a| &a.value) {
        Some(Value::Str(text)) => text.to_string(),
        Some(Value::Int(number)) => number.to_string(),
        None => "-".into(),
        other => format!("{other:?}"),
    }
}

/// What was found, a word each; numbers are those of the exchanges.
fn told(message: &Message) -> String {
    let crate::protocol::Pairing::Order(number) = message.pairing else {
        panic!("paired by number")
    };
    let what = match &message.part {
        Part::Request(request, _) => {
            format!("{} {}", request.operation, text(request, "url.path"))
        }
        Part::Response(response) | Part::Trailers(response) => {
            let status = response.attributes.first().map(|a| &a.value);
            let error = response.client_error.as_deref().unwrap_or("-");
            match (status, &message.part) {
                (Some(Value::Int(status)), Part::Response(_)) => format!("answers {status}"),
                (_, Part::Response(_)) => format!("answers {error}"),
                _ => format!("trails {:?} {error}", response.attributes),
            }
        }
        Part::Finish(finish) => format!("{:?} ends {}", message.flow, finish.body),
        Part::Fault(fault) => format!("{fault:?}"),
        other => format!("{other:?}"),
    };
    format!("{number} {what}")
}

fn all_told(bench: &mut Bench) -> Vec<String> {
    let told = bench.out.iter().map(told).collect();
    bench.out.clear();
    told
}

#[test]
fn many_at_once_are_told_apart() {
    let mut bench = Bench::new(PROTOCOL);
    bench.ask(&[get(1, "/a"), get(2, "/b")].concat());
    let mixed = [
        record(kind::STDOUT, 2, b"Status: 404 No\r\n"),
        record(kind::STDOUT, 1, b"A: b\n\nfive!"),
        record(kind::STDOUT, 2, b"\r\nno"),
        end(2, 0, 0),
        record(kind::STDOUT, 1, b"more"),
        record(kind::STDOUT, 1, b""),
        end(1, 0, 0),
    ];
    bench.answer(&mixed.concat());
    assert_eq!(
        all_told(&mut bench),
        [
            "0 GET /a",
            "0 Request ends 0",
            "1 GET /b",
            "1 Request ends 0",
            "0 answers 200",
            "1 answers 404",
            "1 Response ends 2",
            "0 Response ends 9",
        ]
    );
}

#[test]
fn what_an_application_says_at_the_end_is_told() {
    let mut bench = Bench::new(PROTOCOL);
    for (end, last) in [
        (end(1, 0, 2), "0 answers FCGI_OVERLOADED"),
        (end(1, 0, 3), "1 answers FCGI_UNKNOWN_ROLE"),
        (end(1, 0, 0), "2 answers -"),
    ] {
        bench.ask(&get(1, "/"));
        bench.answer(&end);
        assert!(all_told(&mut bench).iter().any(|told| told == last));
    }
    bench.ask(&get(1, "/"));
    let said = [
        record(kind::STDERR, 1, b"secret"),
        record(kind::STDOUT, 1, b"A: b\n\n"),
        end(1, 9, 0),
    ];
    bench.answer(&said.concat());
    let told = all_told(&mut bench).join(" ");
    assert!(told.contains(r#""spantap.fastcgi.stderr", value: Bool(true)"#));
    assert!(told.contains(r#""spantap.fastcgi.app_status", value: Int(9)"#));
    assert!(!told.contains("secret"));
}

#[test]
fn who_gives_up_says_so() {
    let mut bench = Bench::new(PROTOCOL);
    bench.ask(&get(1, "/"));
    bench.ask(&record(kind::ABORT, 1, b""));
    bench.answer(&end(1, 0, 0));
    let told = all_told(&mut bench);
    assert_eq!(
        told.last().expect("some"),
        "0 Reset(\"FCGI_ABORT_REQUEST\")"
    );
}

#[test]
fn roles_end_their_requests_differently() {
    for (role, records, size) in [
        (
            1,
            vec![record(kind::STDIN, 1, b"abc"), record(kind::STDIN, 1, b"")],
            3,
        ),
        (2, vec![], 0),
        (
            3,
            vec![
                record(kind::STDIN, 1, b"ab"),
                record(kind::STDIN, 1, b""),
                record(kind::DATA, 1, b"file"),
                record(kind::DATA, 1, b""),
            ],
            2,
        ),
    ] {
        let mut bench = Bench::new(PROTOCOL);
        bench.ask(&[begin(1, role), record(kind::PARAMS, 1, b"")].concat());
        bench.ask(&records.concat());
        let told = all_told(&mut bench);
        assert_eq!(told.last(), Some(&format!("0 Request ends {size}")));
    }
}

#[test]
fn parameters_are_read_across_records() {
    let long = format!("/{}", "y".repeat(300));
    let all = params(&[
        ("REQUEST_METHOD", "POST"),
        ("SCRIPT_NAME", &long),
        ("PATH_INFO", "/x"),
        ("QUERY_STRING", "a=1"),
        ("HTTPS", "on"),
        ("SERVER_NAME", "a.example"),
        ("SERVER_PORT", "8443"),
        ("REMOTE_ADDR", "::1"),
        ("REMOTE_PORT", "99"),
        ("HTTP_USER_AGENT", "me"),
        ("HTTP_TRACEPARENT", "00-1"),
    ]);
    for at in 0..all.len() {
        let (first, second) = all.split_at(at);
        let mut bench = Bench::new(PROTOCOL);
        bench.ask(&begin(1, 1));
        // An empty record would end them.
        for part in [first, second] {
            if !part.is_empty() {
                bench.ask(&record(kind::PARAMS, 1, part));
            }
        }
        bench.ask(&record(kind::PARAMS, 1, b""));
        let requests = bench.requests();
        let request = requests.first().expect("a request");
        for (key, value) in [
            ("http.request.method", "POST"),
            ("url.scheme", "https"),
            ("url.path", &format!("{long}/x")),
            ("url.query", "a=1"),
            ("server.address", "a.example"),
            ("server.port", "8443"),
            ("client.address", "::1"),
            ("client.port", "99"),
            ("user_agent.original", "me"),
            ("network.protocol.version", "1.0"),
        ] {
            assert_eq!(text(request, key), value, "{at}: {key}");
        }
        let carrier = request.carrier.as_deref().expect("a carrier");
        assert_eq!(carrier.traceparent.first().map(|t| &**t), Some("00-1"));
    }
}

#[test]
fn parameters_have_a_limit() {
    let mut bench = Bench::new(PROTOCOL);
    bench.ask(&begin(1, 1));
    let method = params(&[("REQUEST_METHOD", "GET"), ("X", &"x".repeat(60_000))]);
    for part in method.chunks(65_535) {
        bench.ask(&record(kind::PARAMS, 1, part));
    }
    bench.ask(&record(kind::PARAMS, 1, &[b'x'; 60_000]));
    assert!(bench.parser.weight() <= MAX_TEXTS);
    bench.ask(&record(kind::PARAMS, 1, b""));
    assert_eq!(bench.requests().len(), 1);
    assert_eq!(bench.requests()[0].operation, "GET");
    assert_eq!(bench.stats.protocol_head_too_long.get(), 1);
    assert_eq!(
        bench.count(|part| matches!(part, Part::Fault(Fault::Partial))),
        1
    );
    assert_eq!(bench.parser.weight(), 0);
}

#[test]
fn heads_say_how_it_went() {
    for (head, status) in [
        ("Status: 404 Not Found\n\n", "404"),
        ("Content-Type: text/plain\r\n\r\n", "200"),
        ("HTTP/1.1 503 No\r\n\r\n", "503"),
        ("Location: http://a/\n\n", "302"),
        ("Location: /there\n\n", "-"),
        ("Status: many\n\n", "-"),
        ("\n\n", "-"),
    ] {
        let mut bench = Bench::new(PROTOCOL);
        bench.ask(&get(1, "/"));
        bench.answer(&answer(1, head));
        let told = all_told(&mut bench);
        let want = format!("0 answers {status}");
        assert!(told.contains(&want), "{head:?}: {told:?}");
    }
}

#[test]
fn a_hole_in_a_body_does_no_harm() {
    let mut bench = Bench::new(PROTOCOL);
    bench.ask(&get(1, "/"));
    let head = [
        record(kind::STDOUT, 1, b"A: b\n\n"),
        vec![1, 6, 0, 1, 0xff, 0, 0, 0],
    ]
    .concat();
    assert_eq!(
        bench.send_part(Flow::Response, &head, 0xff00, Hole::Budget),
        Status::Stay
    );
    bench.answer(&end(1, 0, 0));
    let told = all_told(&mut bench);
    assert_eq!(told.last(), Some(&format!("0 Response ends {}", 0xff00)));
}

#[test]
fn of_two_with_one_identifier_neither_is_answered() {
    let mut bench = Bench::new(PROTOCOL);
    bench.ask(&get(1, "/a"));
    bench.ask(&get(1, "/b"));
    let told = all_told(&mut bench);
    assert_eq!(told.last().expect("some"), "0 Abandon");
    bench.answer(&answer(1, "A: b\n\n"));
    bench.ask(&get(1, "/c"));
    bench.answer(&answer(1, "A: b\n\n").repeat(2));
    let told = all_told(&mut bench);
    assert!(told.is_empty(), "{told:?}");
    // Each has ended.
    bench.ask(&get(1, "/d"));
    bench.answer(&answer(1, "A: b\n\n"));
    let told = all_told(&mut bench);
    assert!(
        told.last().expect("some").ends_with("Response ends 0"),
        "{told:?}"
    );
}

#[test]
fn an_identifier_used_again_behind_a_loss_ends_what_had_it() {
    let mut bench = Bench::new(PROTOCOL);
    bench.ask(&get(1, "/a"));
    bench.missed(Flow::Response);
    bench.ask(&get(1, "/b"));
    bench.answer(&answer(1, "A: b\n\n"));
    let told = all_told(&mut bench);
    assert!(told.contains(&"0 Abandon".to_owned()), "{told:?}");
    assert_eq!(told.last().expect("some"), "1 Response ends 0");
}

#[test]
fn only_its_own_beginnings_are_known() {
    let is = Verdict::Is(Flow::Request);
    assert_eq!(record::sniff(&begin(1, 1)), is);
    assert_eq!(record::sniff(&begin(0, 1)), Verdict::Not);
    assert_eq!(record::sniff(&begin(1, 4)), Verdict::Not);
    let values = record(kind::GET_VALUES, 0, &params(&[("FCGI_MAX_CONNS", "")]));
    assert_eq!(record::sniff(&values), is);
    for bytes in [&begin(1, 3)[..], &values] {
        for length in 0..13 {
            assert_eq!(record::sniff(&bytes[..length]), Verdict::More);
        }
    }
    assert_eq!(record::sniff(&answer(1, "A: b\n\n")), Verdict::Not);
}

#[test]
fn a_million_messages() {
    let mut bench = Bench::new(PROTOCOL);
    let asks: Vec<u8> = (1..=250).flat_map(|id| get(id, "/")).collect();
    let answers: Vec<u8> = (1..=250).flat_map(|id| answer(id, "A: b\n\n")).collect();
    let rounds = if cfg!(debug_assertions) { 100 } else { 4000 };
    let mut found = 0;
    for _ in 0..rounds {
        bench.ask(&asks);
        bench.answer(&answers);
        found += bench.count(|part| matches!(part, Part::Response(_)));
    }
    assert_eq!(found, rounds * 250);
    assert_eq!(bench.parser.weight(), 0);
}

#[test]
fn those_who_never_end_make_room() {
    let mut bench = Bench::new(PROTOCOL);
    for id in 1..4_000 {
        bench.ask(&get(id, "/"));
    }
    assert!(bench.parser.weight() < 256 * 1024);
    assert!(bench.stats.protocol_streams_forgotten.get() > 3_000);
    // The newest stay.
    bench.out.clear();
    bench.answer(&[answer(3_999, "A: b\r\n\r\n"), answer(3_900, "A: b\r\n\r\n")].concat());
    assert_eq!(bench.responses().len(), 2);
}

proptest! {
    #[test]
    fn portions_change_nothing(cuts in prop::collection::vec(1usize..40, 1..40)) {
        let asks = [get(1, "/a"), get(2, "/b")].concat();
        let answers = [answer(2, "Status: 500 x\n\nbody"), answer(1, "A: b\r\n\r\n")].concat();
        let mut whole = Bench::new(PROTOCOL);
        whole.ask(&asks);
        whole.answer(&answers);
        let mut parts = Bench::new(PROTOCOL);
        for (flow, mut bytes) in [(Flow::Request, &asks[..]), (Flow::Response, &answers)] {
            for cut in cuts.iter().cycle() {
                let (now, later) = bytes.split_at((*cut).min(bytes.len()));
                prop_assert_eq!(parts.send(flow, now), Status::Stay);
                bytes = later;
                if bytes.is_empty() {
                    break;
                }
            }
        }
        prop_assert_eq!(all_told(&mut whole), all_told(&mut parts));
    }
}
