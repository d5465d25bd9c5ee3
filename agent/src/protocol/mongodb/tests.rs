//! The dialogue's own corners, with messages made here; whole dialogues are in `tests/wire/mongodb`.

use proptest::prelude::*;

use super::bson::kind;
use super::*;
use crate::event::Hole;
use crate::protocol::bench::Bench;
use crate::protocol::{Fault, Message, Part, Request, Value};

/// An element.
fn element(kind: u8, name: &str, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(name.as_bytes());
    bytes.push(0);
    bytes.extend(value);
    bytes
}

fn words(name: &str, text: &str) -> Vec<u8> {
    let mut value = (text.len() as u32 + 1).to_le_bytes().to_vec();
    value.extend(text.as_bytes());
    value.push(0);
    element(kind::STRING, name, &value)
}

fn number(name: &str, number: i32) -> Vec<u8> {
    element(kind::INT32, name, &number.to_le_bytes())
}

/// A document of these elements, or an array.
fn document(elements: &[Vec<u8>]) -> Vec<u8> {
    let inside = elements.concat();
    let mut bytes = (inside.len() as u32 + 5).to_le_bytes().to_vec();
    bytes.extend(inside);
    bytes.push(0);
    bytes
}

fn message(id: i32, to: i32, flags: u32, sections: &[u8]) -> Vec<u8> {
    let mut bytes = (sections.len() as u32 + 20).to_le_bytes().to_vec();
    bytes.extend(id.to_le_bytes());
    bytes.extend(to.to_le_bytes());
    bytes.extend(code::MSG.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes.extend(sections);
    bytes
}

fn plain(document: &[u8]) -> Vec<u8> {
    [&[0], document].concat()
}

fn sequence(name: &str, documents: &[Vec<u8>]) -> Vec<u8> {
    let inside = [name.as_bytes(), &[0], &documents.concat()].concat();
    let size = inside.len() as u32 + 4;
    [&[1], &size.to_le_bytes()[..], &inside].concat()
}

fn find(id: i32) -> Vec<u8> {
    let command = document(&[words("find", "orders"), words("$db", "shop")]);
    message(id, 0, 0, &plain(&command))
}

fn fine(to: i32) -> Vec<u8> {
    message(900, to, 0, &plain(&document(&[number("ok", 1)])))
}

/// An answer with a cursor, then what is behind it.
fn cursor(to: i32, size: usize, behind: &[Vec<u8>]) -> Vec<u8> {
    let value = element(
        0x05,
        "x",
        &[&(size as u32).to_le_bytes()[..], &[0], &vec![7; size]].concat(),
    );
    let mut elements = vec![element(kind::DOCUMENT, "cursor", &document(&[value]))];
    elements.extend_from_slice(behind);
    message(900, to, 0, &plain(&document(&elements)))
}

/// A connection on which one thing was asked and answered.
fn begun() -> Bench {
    let mut bench = Bench::new(PROTOCOL);
    bench.ask(&find(1));
    bench.answer(&fine(1));
    bench.out.clear();
    bench
}

fn facts(request: &Request) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::Str(text) => text.to_string(),
        Value::Int(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let attributes = request.attributes.iter();
    attributes.skip(1).map(|a| text(&a.value)).collect()
}

fn faults(out: &[Message]) -> Vec<(Flow, &Fault)> {
    out.iter()
        .filter_map(|m| match &m.part {
            Part::Fault(fault) => Some((m.flow, fault)),
            _ => None,
        })
        .collect()
}

fn is_finish(part: &Part) -> bool {
    matches!(part, Part::Finish(_))
}

#[test]
fn halves_are_told_apart() {
    let query = b"\x38\0\0\0\x01\0\0\0\0\0\0\0\xd4\x07\0\0\0\0\0\0admin.$cmd\0\0\0\0\0\xff\xff\xff\xff\x0f\0\0\0\x10hello\0";
    let reply = b"\x38\0\0\0\x01\0\0\0\x02\0\0\0\x01\0\0\0\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x14\0\0\0\x08helloOk\0";
    let packed = b"\x40\0\0\0\x01\0\0\0\0\0\0\0\xdc\x07\0\0\xdd\x07\0\0\x30\0\0\0\x02";
    let zero = message(9, 0, 0, &plain(&document(&[element(8, "helloOk", &[1])])));
    for (bytes, verdict) in [
        (&find(1)[..], Verdict::Is(Flow::Request)),
        (&fine(1), Verdict::Likely(Flow::Response)),
        (query, Verdict::Is(Flow::Request)),
        (reply, Verdict::Likely(Flow::Response)),
        (packed, Verdict::Likely(Flow::Request)),
        (&zero, Verdict::Likely(Flow::Response)),
    ] {
        assert_eq!(PROTOCOL.sniff(bytes), verdict, "{bytes:?}");
        let settled = (0..bytes.len()).find(|at| PROTOCOL.sniff(&bytes[..*at]) != Verdict::More);
        let settled = settled.unwrap_or(bytes.len());
        assert!(settled > 16, "{settled} {bytes:?}");
        for at in settled..bytes.len() {
            assert_eq!(PROTOCOL.sniff(&bytes[..at]), verdict, "{at} {bytes:?}");
        }
    }
}

#[test]
fn what_is_none_is_refused() {
    let of = |sections: &[u8], flags| message(1, 0, flags, sections);
    let long = {
        let mut bytes = find(1);
        bytes[0..4].copy_from_slice(&48_000_001_u32.to_le_bytes());
        bytes
    };
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00\x00\x00\x00\x00",
        b"\x4a\0\0\0\x0a8.0.36\0\x08\0\0\0abcdefgh",
        b"\0\0\0\x08\x04\xd2\x16\x2f",
        b"AMQP\x00\x00\x09\x01",
        &long,
        // Unknown flags and sections, a document longer than its message, a name that none is.
        &of(&plain(&document(&[number("ping", 1)])), 4),
        &of(b"\x03\x05\0\0\0\0", 0),
        &of(b"\0\xff\0\0\0\x10ping\0", 0),
        &of(&plain(&document(&[number("\u{e9}", 1)])), 0),
        &of(&plain(&document(&[])), 0),
    ] {
        assert_eq!(PROTOCOL.sniff(bytes), Verdict::Not, "{bytes:?}");
    }
}

#[test]
fn the_budget_takes_nothing_that_is_needed() {
    let mut bench = begun();
    // 100 KiB of documents behind a command, half of them not copied.
    let command = document(&[words("insert", "orders"), words("$db", "shop")]);
    let documents = vec![document(&[words("note", &"x".repeat(1000))]); 100];
    let sections = [plain(&command), sequence("documents", &documents)].concat();
    let bytes = message(2, 0, 0, &sections);
    let half = bytes.len() / 2;
    let missing = (bytes.len() - half) as u32;
    let status = bench.send_part(Flow::Request, &bytes[..half], missing, Hole::Budget);
    assert_eq!(status, Status::Stay);
    bench.answer(&fine(2));
    // An answer whose end is not copied.
    bench.ask(&find(4));
    let bytes = cursor(4, 100_000, &[number("ok", 1), words("$clusterTime", "")]);
    let missing = (bytes.len() - 70_000) as u32;
    let status = bench.send_part(Flow::Response, &bytes[..70_000], missing, Hole::Budget);
    assert_eq!(status, Status::Stay);
    bench.ask(&find(3));
    bench.answer(&fine(3));
    assert_eq!(faults(&bench.out), []);
    let requests = bench.requests();
    assert_eq!(facts(requests[0]), ["shop", "insert", "orders"]);
    assert_eq!(facts(requests[1]), ["shop", "find", "orders"]);
    assert_eq!(requests.len(), 3);
    let responses = bench.responses();
    assert!(responses.iter().all(|r| r.client_error.is_none()));
    assert_eq!(bench.count(is_finish), 6);
    // The same of what writes says nothing about that.
    let command = document(&[number("bulkWrite", 1), words("$db", "admin")]);
    bench.ask(&message(5, 0, 0, &plain(&command)));
    let bytes = cursor(5, 100_000, &[number("nErrors", 1), number("ok", 1)]);
    let missing = (bytes.len() - 70_000) as u32;
    let status = bench.send_part(Flow::Response, &bytes[..70_000], missing, Hole::Budget);
    assert_eq!(status, Status::Stay);
    assert_eq!(faults(&bench.out), [(Flow::Response, &Fault::Partial)]);
}

#[test]
fn what_lies_in_a_hole_is_said_to_be_unknown() {
    let mut bench = begun();
    // The database is behind a document of 70 kB.
    let value = document(&[words("note", &"x".repeat(70_000))]);
    let elements = [
        words("insert", "orders"),
        element(
            kind::ARRAY,
            "documents",
            &document(&[element(3, "0", &value)]),
        ),
        words("$db", "shop"),
    ];
    let bytes = message(2, 0, 0, &plain(&document(&elements)));
    let missing = (bytes.len() - 65_536) as u32;
    let status = bench.send_part(Flow::Request, &bytes[..65_536], missing, Hole::Budget);
    assert_eq!(status, Status::Stay);
    // Whether it went well is behind what says nothing about it.
    let elements = [words("note", &"x".repeat(70_000)), number("ok", 1)];
    let bytes = message(900, 2, 0, &plain(&document(&elements)));
    let status = bench.send_part(Flow::Response, &bytes[..65_536], missing, Hole::Budget);
    assert_eq!(status, Status::Stay);
    assert_eq!(facts(bench.requests()[0]), ["insert", "orders"]);
    assert_eq!(
        faults(&bench.out),
        [
            (Flow::Request, &Fault::Partial),
            (Flow::Response, &Fault::Partial)
        ]
    );
    assert_eq!(bench.stats.protocol_partial.get(), 2);
}

#[test]
fn what_is_lost_behind_what_is_known_does_no_harm() {
    let mut bench = begun();
    let elements = [
        words("find", "orders"),
        words("$db", "shop"),
        words("comment", &"x".repeat(70_000)),
        number("limit", 1),
    ];
    let bytes = message(2, 0, 0, &plain(&document(&elements)));
    let missing = (bytes.len() - 65_536) as u32;
    let status = bench.send_part(Flow::Request, &bytes[..65_536], missing, Hole::Budget);
    assert_eq!(status, Status::Stay);
    assert_eq!(facts(bench.requests()[0]), ["shop", "find", "orders"]);
    assert_eq!(faults(&bench.out), []);
}

#[test]
fn statements_that_were_not_all_seen_are_not_counted() {
    let mut bench = begun();
    let command = document(&[words("update", "orders"), words("$db", "shop")]);
    let statements = vec![document(&[words("q", &"x".repeat(1000))]); 100];
    let sections = [plain(&command), sequence("updates", &statements)].concat();
    let bytes = message(2, 0, 0, &sections);
    let missing = (bytes.len() - 65_000) as u32;
    let status = bench.send_part(Flow::Request, &bytes[..65_000], missing, Hole::Budget);
    assert_eq!(status, Status::Stay);
    assert_eq!(facts(bench.requests()[0]), ["shop", "update", "orders"]);
    assert_eq!(faults(&bench.out), [(Flow::Request, &Fault::Partial)]);
}

#[test]
fn errors_have_their_codes() {
    let error = |code| document(&[number("index", 0), number("code", code)]);
    let array = |code| {
        let inside = [element(3, "0", &error(code)), element(3, "1", &error(1))];
        element(kind::ARRAY, "writeErrors", &document(&inside))
    };
    let concern = element(kind::DOCUMENT, "writeConcernError", &error(64));
    for (elements, code) in [
        (vec![number("ok", 0), number("code", 43)], Some("43")),
        (vec![number("ok", 0)], Some("_OTHER")),
        (vec![element(8, "ok", &[0])], Some("_OTHER")),
        (vec![array(11_000), number("ok", 1)], Some("11000")),
        (
            vec![array(11_000), concern.clone(), number("ok", 1)],
            Some("11000"),
        ),
        (vec![concern, number("ok", 1)], Some("64")),
        (vec![number("nErrors", 2), number("ok", 1)], Some("_OTHER")),
        (vec![number("nErrors", 0), number("ok", 1)], None),
        (vec![words("code", "none"), number("ok", 1)], None),
    ] {
        let mut bench = begun();
        bench.ask(&find(2));
        bench.answer(&message(900, 2, 0, &plain(&document(&elements))));
        let error = bench.responses()[0].client_error.as_deref();
        assert_eq!(error, code, "{elements:?}");
    }
}

#[test]
fn a_command_that_there_is_not_names_no_span() {
    for (name, want) in [
        ("x1234", ("mongodb", "shop")),
        ("dbStats", ("dbStats", "shop dbStats")),
    ] {
        let mut bench = begun();
        let asked = document(&[number(name, 1), words("$db", "shop")]);
        bench.ask(&message(2, 0, 0, &plain(&asked)));
        let request = bench.requests()[0];
        let told = facts(request).join(" ");
        assert_eq!((request.operation.as_ref(), told.as_str()), want);
    }
}

#[test]
fn housekeeping_makes_no_exchange() {
    for name in [
        "hello",
        "isMaster",
        "ping",
        "saslStart",
        "saslContinue",
        "endSessions",
    ] {
        let mut bench = begun();
        let command = document(&[number(name, 1), words("$db", "admin")]);
        bench.ask(&message(2, 0, 0, &plain(&command)));
        bench.answer(&fine(2));
        assert!(bench.out.is_empty(), "{name}: {:?}", bench.out);
    }
}

#[test]
fn names_of_users_are_no_collections() {
    for name in [
        "createUser",
        "dropUser",
        "updateUser",
        "grantRolesToUser",
        "createRole",
    ] {
        let mut bench = begun();
        let command = document(&[words(name, "somebody"), words("pwd", "secret")]);
        bench.ask(&message(2, 0, 0, &plain(&command)));
        assert_eq!(facts(bench.requests()[0]), [name]);
    }
}

#[test]
fn numbers_may_come_again() {
    let mut bench = begun();
    for _ in 0..3 {
        bench.ask(&find(1));
        bench.answer(&fine(1));
    }
    let numbers: std::collections::BTreeSet<_> = bench
        .out
        .iter()
        .map(|m| format!("{:?}", m.pairing))
        .collect();
    assert_eq!(numbers.len(), 3);
    assert_eq!(bench.count(is_finish), 6);
}

#[test]
fn what_was_asked_before_is_given_up() {
    let mut bench = begun();
    bench.ask(&[find(2), find(3)].concat());
    bench.answer(&fine(3));
    assert_eq!(bench.count(|part| matches!(part, Part::Abandon)), 1);
    bench.answer(&fine(2));
    assert_eq!(bench.stats.exchange_unasked.get(), 1);
}

#[test]
fn who_never_answers_is_not_held() {
    let mut bench = begun();
    for id in 0..5000 {
        bench.ask(&find(id));
    }
    assert!(bench.parser.weight() < 64 * 1024);
    assert_eq!(bench.count(|part| matches!(part, Part::Abandon)), 3976);
}

#[test]
fn older_messages_are_counted() {
    let mut bench = begun();
    let old = |code: u32, body: &[u8]| {
        let mut bytes = (body.len() as u32 + 16).to_le_bytes().to_vec();
        bytes.extend(b"\x05\0\0\0\0\0\0\0");
        bytes.extend(code.to_le_bytes());
        bytes.extend(body);
        bytes
    };
    let query = [b"\0\0\0\0shop.orders\0\0\0\0\0\0\0\0\0", &document(&[])[..]].concat();
    bench.ask(&old(code::QUERY, &query));
    bench.ask(&old(2002, b"\0\0\0\0shop.orders\0\x05\0\0\0\0"));
    bench.ask(&find(6));
    assert_eq!(bench.stats.protocol_unreadable.get(), 2);
    assert_eq!(bench.requests().len(), 1);
}

#[test]
fn many_messages() {
    let mut bench = begun();
    let asks: Vec<u8> = (0..1000).flat_map(find).collect();
    let answers: Vec<u8> = (0..1000).flat_map(fine).collect();
    let mut ended = 0;
    for _ in 0..200 {
        bench.ask(&asks);
        bench.answer(&answers);
        ended += bench.count(is_finish);
    }
    assert_eq!(ended, 400_000);
}

#[test]
fn a_million_statements() {
    let mut bench = begun();
    let command = document(&[words("delete", "orders"), words("$db", "shop")]);
    let statements = vec![document(&[]); 1_000_000];
    let sections = [plain(&command), sequence("deletes", &statements)].concat();
    for part in message(2, 0, 0, &sections).chunks(1 << 17) {
        bench.ask(part);
    }
    let facts = facts(bench.requests()[0]);
    assert_eq!(facts, ["shop", "delete", "orders", "1000000"]);
}

proptest! {
    /// Wherever a command's bytes are cut, and whatever else is in it, it says the same.
    #[test]
    fn a_command_is_read_whatever_is_in_it(
        others in prop::collection::vec((0_u8..8, "[a-z]{1,9}", prop::collection::vec(any::<u8>(), 0..40)), 0..9),
        at in any::<prop::sample::Index>(),
        database in any::<prop::sample::Index>(),
        portion in 1_usize..64,
    ) {
        let mut elements: Vec<_> = others.iter().map(|(kind, name, value)| {
            let length = (value.len() as u32).to_le_bytes();
            match kind {
                0 => number(name, 7),
                1 => words(name, "text"),
                2 => element(5, name, &[&length[..], &[0], value].concat()),
                3 => element(kind::ARRAY, name, &document(&[number("0", 1), words("1", "x")])),
                4 => element(11, name, b"a.*\0i\0"),
                5 => element(7, name, b"123456789012"),
                6 => element(0x13, name, b"1234567890123456"),
                _ => element(10, name, b""),
            }
        }).collect();
        elements.insert(database.index(elements.len() + 1), words("$db", "shop"));
        elements.insert(0, words("find", "orders"));
        let bytes = message(2, 0, 0, &plain(&document(&elements)));
        let mut bench = begun();
        let (first, rest) = bytes.split_at(at.index(bytes.len()));
        bench.ask(first);
        for part in rest.chunks(portion) {
            bench.ask(part);
        }
        prop_assert_eq!(facts(bench.requests()[0]), ["shop", "find", "orders"]);
        prop_assert_eq!(bench.count(is_finish), 1);
    }
}

#[test]
fn an_answer_from_before_its_question_is_another_ones() {
    let mut bench = Bench::new(PROTOCOL);
    bench.time = 10;
    bench.ask(&find(1));
    // Kept until it was known whose it is: who counts from one each time has used the number before.
    bench.time = 5;
    bench.answer(&fine(1));
    assert!(bench.responses().is_empty());
    bench.time = 20;
    bench.answer(&fine(1));
    assert_eq!(bench.responses().len(), 1);
}
