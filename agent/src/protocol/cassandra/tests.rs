//! Requests and answers put together by the specification, and losses.

use std::time::{Duration, Instant};

use super::frame::opcode as op;
use super::*;
use crate::event::Hole;
use crate::protocol::bench::Bench;
use crate::protocol::{ALL, Value};

fn frame(version: u8, flags: u8, stream: i16, opcode: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![version, flags];
    frame.extend(stream.to_be_bytes());
    frame.push(opcode);
    frame.extend((body.len() as u32).to_be_bytes());
    frame.extend(body);
    frame
}

/// A frame of version 4 from the one who asks.
fn ask(stream: i16, opcode: u8, body: &[u8]) -> Vec<u8> {
    frame(4, 0, stream, opcode, body)
}

fn answer(stream: i16, opcode: u8, body: &[u8]) -> Vec<u8> {
    frame(0x84, 0, stream, opcode, body)
}

fn long(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_be_bytes(), text.as_bytes()].concat()
}

fn short(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

/// QUERY at consistency ONE, without anything else.
fn query(stream: i16, text: &str) -> Vec<u8> {
    ask(stream, op::QUERY, &[&long(text)[..], &[0, 1, 0]].concat())
}

fn execute(stream: i16, id: &[u8]) -> Vec<u8> {
    ask(stream, op::EXECUTE, &[&short(id)[..], &[0, 6, 0]].concat())
}

fn kind(kind: u32) -> [u8; 4] {
    kind.to_be_bytes()
}

fn void(stream: i16) -> Vec<u8> {
    answer(stream, op::RESULT, &kind(1))
}

fn prepared(stream: i16, id: &[u8]) -> Vec<u8> {
    answer(stream, op::RESULT, &[&kind(4)[..], &short(id)].concat())
}

fn bench() -> Bench {
    Bench::new(PROTOCOL)
}

fn attribute(attributes: &[crate::protocol::Attribute], key: &str) -> Option<String> {
    let found = attributes.iter().find(|a| a.key == key)?;
    Some(match &found.value {
        Value::Str(text) => text.to_string(),
        Value::Int(number) => number.to_string(),
        other => format!("{other:?}"),
    })
}

fn names(bench: &Bench) -> Vec<String> {
    let requests = bench.requests();
    requests.iter().map(|r| r.operation.to_string()).collect()
}

fn is_partial(part: &Part) -> bool {
    *part == Part::Fault(crate::protocol::Fault::Partial)
}

fn is_abandon(part: &Part) -> bool {
    *part == Part::Abandon
}

#[test]
fn housekeeping_is_no_exchange() {
    let mut bench = bench();
    let options = short(b"CQL_VERSION");
    let startup = [&[0, 1][..], &options, &short(b"3.0.0")].concat();
    bench.ask(&ask(0, op::OPTIONS, b""));
    bench.answer(&answer(
        0,
        op::SUPPORTED,
        &[&[0, 1][..], &short(b"COMPRESSION"), &[0, 0]].concat(),
    ));
    bench.ask(&ask(0, op::STARTUP, &startup));
    let class = short(b"org.apache.cassandra.auth.PasswordAuthenticator");
    bench.answer(&answer(0, op::AUTHENTICATE, &class));
    bench.ask(&ask(0, op::AUTH_RESPONSE, &long("\0cassandra\0secret")));
    bench.answer(&answer(0, op::AUTH_SUCCESS, &[255; 4]));
    let events = [&[0, 1][..], &short(b"SCHEMA_CHANGE")].concat();
    bench.ask(&ask(1, op::REGISTER, &events));
    bench.answer(&answer(1, op::READY, b""));
    bench.answer(&answer(-1, op::EVENT, &short(b"SCHEMA_CHANGE")));
    assert!(bench.out.is_empty(), "{:?}", bench.out);
    assert_eq!(bench.stats.exchange_unasked.get(), 0);
    assert!(!format!("{:?}", bench.parser).contains("secret"));
}

#[test]
fn answers_come_in_any_order() {
    let mut bench = bench();
    bench.ask(&[query(1, "SELECT a FROM t"), query(2, "UPDATE u SET a = 7")].concat());
    let mut error = answer(1, op::ERROR, &[&[0, 0, 0x11, 0][..], &[0, 0]].concat());
    let mut answers = void(2);
    answers.append(&mut error);
    bench.answer(&answers);
    assert_eq!(names(&bench), ["SELECT t", "UPDATE u"]);
    let update = bench.requests()[1].clone();
    assert_eq!(
        attribute(&update.attributes, "db.query.text").as_deref(),
        Some("UPDATE u SET a = ?")
    );
    assert_eq!(
        attribute(&update.attributes, "cassandra.consistency.level").as_deref(),
        Some("one")
    );
    let responses = bench.responses();
    assert_eq!(responses[0].client_error, None);
    assert_eq!(responses[1].client_error.as_deref(), Some("0x1100"));
}

#[test]
fn a_statement_is_known_by_its_id() {
    let mut bench = bench();
    let text = "INSERT INTO shop.items (id) VALUES (?)";
    bench.ask(&ask(1, op::PREPARE, &long(text)));
    bench.answer(&prepared(1, b"id"));
    bench.ask(&[execute(2, b"id"), execute(3, b"other")].concat());
    assert_eq!(
        names(&bench),
        ["PREPARE INSERT shop.items", "INSERT shop.items", "EXECUTE"]
    );
    let request = bench.requests()[1];
    assert_eq!(
        attribute(&request.attributes, "db.query.text").as_deref(),
        Some(text)
    );
    assert_eq!(bench.count(is_partial), 1);
    assert!(bench.parser.weight() > 0);
}

#[test]
fn a_batch_says_what_its_statements_have_in_common() {
    let batch = |statements: &[Vec<u8>]| {
        let mut body = vec![1];
        body.extend((statements.len() as u16).to_be_bytes());
        body.extend(statements.concat());
        body.extend([0, 4, 0]);
        ask(5, op::BATCH, &body)
    };
    let by_text = |text: &str| [&[0][..], &long(text), &[0, 0]].concat();
    let by_id = |id: &[u8]| {
        let value = [0, 1, 0, 0, 0, 1, 9];
        [&[1][..], &short(id), &value].concat()
    };
    for (statements, name, size, text) in [
        (
            vec![by_id(b"known"), by_text("INSERT INTO t (a) VALUES (1)")],
            "BATCH INSERT t",
            Some("2"),
            Some("INSERT INTO t (a) VALUES (?)"),
        ),
        (
            vec![by_text("DELETE FROM t WHERE a = 1"), by_id(b"known")],
            "BATCH DELETE t; INSERT t",
            Some("2"),
            Some("DELETE FROM t WHERE a = ?; INSERT INTO t (a) VALUES (?)"),
        ),
        (
            vec![by_id(b"known")],
            "INSERT t",
            None,
            Some("INSERT INTO t (a) VALUES (?)"),
        ),
        (
            vec![by_id(b"known"), by_id(b"other")],
            "BATCH",
            Some("2"),
            None,
        ),
        (vec![], "BATCH", None, None),
    ] {
        let mut bench = bench();
        let insert = "INSERT INTO t (a) VALUES (?)";
        bench.ask(&ask(1, op::PREPARE, &long(insert)));
        bench.answer(&prepared(1, b"known"));
        bench.ask(&batch(&statements));
        let request = bench.requests()[1].clone();
        assert_eq!(request.operation, name);
        let of = |key| attribute(&request.attributes, key);
        assert_eq!(of("db.operation.batch.size").as_deref(), size);
        assert_eq!(of("db.query.text").as_deref(), text);
        assert_eq!(of("cassandra.consistency.level").as_deref(), Some("quorum"));
        assert_eq!(
            bench.count(is_partial),
            usize::from(name == "BATCH" && text.is_none() && size.is_some())
        );
    }
}

#[test]
fn the_keyspace_is_known_once_it_is_used() {
    let mut bench = bench();
    let used = answer(1, op::RESULT, &[&kind(3)[..], &short(b"shop")].concat());
    bench.ask(&[query(1, "USE shop"), query(2, "SELECT a FROM t")].concat());
    bench.answer(&[used, void(2)].concat());
    bench.ask(&query(3, "SELECT a FROM t"));
    let spaces: Vec<_> = bench
        .requests()
        .iter()
        .map(|r| attribute(&r.attributes, "db.namespace"))
        .collect();
    assert_eq!(spaces, [None, None, Some("shop".into())]);
}

#[test]
fn rows_are_counted_behind_what_they_have_in_common() {
    // Without a table for all: a map of texts to lists of a type of users, and a tuple.
    let own = [short(b"ks"), short(b"t")].concat();
    let mut body = kind(2).to_vec();
    body.extend([0, 0, 0, 2, 0, 0, 0, 2]);
    body.extend(long("paging state"));
    body.extend(
        [
            &own[..],
            &short(b"m"),
            &[0, 0x21, 0, 0x0d, 0, 0x20, 0, 0x30],
        ]
        .concat(),
    );
    body.extend([&own[..], &[0, 1], &short(b"field"), &[0, 9]].concat());
    body.extend([&own[..], &short(b"p"), &[0, 0x31, 0, 1, 0, 0]].concat());
    body.extend(short(b"some.Class"));
    body.extend([0, 0, 0, 42]);
    let mut bench = bench();
    bench.ask(&query(1, "SELECT * FROM t"));
    bench.answer(&answer(1, op::RESULT, &body));
    let response = bench.responses()[0];
    let rows = attribute(&response.attributes, "db.response.returned_rows");
    assert_eq!(rows.as_deref(), Some("42"));
    // Types within types end somewhere.
    let mut deep = [&kind(2)[..], &[0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    deep.extend([0, 0x20].repeat(20_000));
    bench.ask(&query(2, "SELECT * FROM t"));
    bench.answer(&answer(2, op::RESULT, &deep));
    assert_eq!(bench.responses()[1].attributes, []);
}

#[test]
fn warnings_and_traces_come_first() {
    let mut bench = bench();
    bench.ask(&frame(
        4,
        2,
        1,
        op::QUERY,
        &[&long("USE k")[..], &[0, 1, 0]].concat(),
    ));
    let mut body = vec![7; 16];
    body.extend([&[0, 1][..], &short(b"a warning"), &[0, 1]].concat());
    body.extend([short(b"key"), long("value")].concat());
    body.extend([&kind(3)[..], &short(b"k")].concat());
    bench.answer(&frame(0x84, 14, 1, op::RESULT, &body));
    bench.ask(&query(1, "SELECT a FROM t"));
    let request = bench.requests()[1];
    assert_eq!(
        attribute(&request.attributes, "db.namespace").as_deref(),
        Some("k")
    );
}

#[test]
fn what_cannot_be_unpacked_is_said() {
    let mut bench = bench();
    let startup = [
        &[0, 2][..],
        &short(b"CQL_VERSION"),
        &short(b"3.0.0"),
        &short(b"COMPRESSION"),
        &short(b"snappy"),
    ];
    bench.ask(&ask(0, op::STARTUP, &startup.concat()));
    bench.answer(&answer(0, op::READY, b""));
    bench.ask(&frame(4, 1, 1, op::QUERY, b"whatever it is"));
    bench.answer(&frame(0x84, 1, 1, op::ERROR, b"whatever it is"));
    assert_eq!(names(&bench), ["cassandra"]);
    let error = bench.responses()[0].client_error.clone();
    assert_eq!(error.as_deref(), Some("_OTHER"));
    assert_eq!(bench.stats.protocol_compressed.get(), 2);
    assert_eq!(bench.count(is_partial), 1);
}

#[test]
fn a_hole_costs_what_it_may_hold() {
    let mut bench = bench();
    bench.ask(&[query(1, "SELECT a FROM t"), query(2, "SELECT a FROM u")].concat());
    // The answer to one of them passes unseen, as does what is asked then.
    bench.answer(&void(1));
    let (asks, answers) = (Flow::Request, Flow::Response);
    let stay = Status::Stay;
    assert_eq!(bench.send_part(answers, &[], 13, Hole::Lost), stay);
    assert_eq!(bench.send_part(asks, &[], 30, Hole::Lost), stay);
    bench.out.clear();
    bench.answer(&void(2));
    assert!(bench.responses().is_empty());
    assert_eq!(bench.count(is_abandon), 1);
    // A number that is used again had its answer.
    bench.ask(&query(3, "SELECT a FROM t"));
    assert_eq!(bench.send_part(answers, &[], 13, Hole::Lost), stay);
    bench.ask(&query(3, "SELECT a FROM u"));
    assert_eq!(bench.count(is_abandon), 1);
    bench.answer(&void(3));
    assert_eq!(bench.responses().len(), 1);
}

#[test]
fn what_is_long_is_told_before_it_is_over() {
    let mut bench = bench();
    let text = format!("INSERT INTO t (a) VALUES ('{}')", "x".repeat(200_000));
    let whole = query(1, &text);
    let (seen, unseen) = whole.split_at(64 << 10);
    let (flow, hole) = (Flow::Request, Hole::Budget);
    let status = bench.send_part(flow, seen, unseen.len() as u32, hole);
    assert_eq!(status, Status::Stay);
    bench.answer(&void(1));
    assert_eq!(names(&bench), ["INSERT t"]);
    assert_eq!(bench.responses().len(), 1);
    assert_eq!(bench.count(is_partial), 0);
}

/// Frames in plain segments, one or as many as it takes.
fn segments(frames: &[u8]) -> Vec<u8> {
    let alone = frames.len() <= MAX_PAYLOAD as usize;
    let mut wire = Vec::new();
    for payload in frames.chunks(MAX_PAYLOAD as usize) {
        let bits = payload.len() as u32 | u32::from(alone) << 17;
        let head = &bits.to_le_bytes()[..3];
        let sum = segment::crc24(head).to_le_bytes();
        wire.extend([head, &sum[..3], payload, b"sum!"].concat());
    }
    wire
}

fn query_v5(stream: i16, text: &str) -> Vec<u8> {
    let body = [&long(text)[..], &[0, 1, 0, 0, 0, 0]].concat();
    frame(5, 0, stream, op::QUERY, &body)
}

fn void_v5(stream: i16) -> Vec<u8> {
    frame(0x85, 0, stream, op::RESULT, &kind(1))
}

fn is_whole(part: &Part) -> bool {
    matches!(part, Part::Finish(finish) if finish.exact && finish.body > 300_000)
}

#[test]
fn a_frame_goes_on_in_further_segments() {
    let text = format!("INSERT INTO t (a) VALUES ('{}')", "x".repeat(400_000));
    let wire = segments(&query_v5(1, &text));
    let next = segments(
        &[
            query_v5(2, "SELECT a FROM t"),
            query_v5(3, "SELECT a FROM u"),
        ]
        .concat(),
    );
    // In small pieces, all of it or only what the copy budget lets through.
    for piece in [1000, 64 << 10] {
        for seen in [usize::MAX, 70_000] {
            let mut bench = bench();
            let mut at = 0_usize;
            for part in wire.chunks(piece) {
                let there = part.len().min(seen.saturating_sub(at));
                let (bytes, missing) = part.split_at(there);
                let hole = Hole::Budget;
                let status = bench.send_part(Flow::Request, bytes, missing.len() as u32, hole);
                assert_eq!(status, Status::Stay);
                at += part.len();
            }
            bench.ask(&next);
            bench.answer(&segments(&[void_v5(3), void_v5(1)].concat()));
            bench.answer(&segments(&void_v5(2)));
            assert_eq!(names(&bench), ["INSERT t", "SELECT t", "SELECT u"]);
            assert_eq!(bench.responses().len(), 3);
            assert_eq!(bench.stats.protocol_malformed.get(), 0);
            assert_eq!(bench.stats.protocol_resynced.get(), 0);
            assert_eq!(bench.count(is_whole), 1);
        }
    }
}

#[test]
fn behind_a_hole_in_a_segment_the_next_is_found() {
    let mut bench = bench();
    let one = segments(&query_v5(1, "SELECT a FROM t"));
    bench.ask(&one);
    bench.answer(&segments(&void_v5(1)));
    let two = segments(
        &[
            query_v5(2, "SELECT a FROM t"),
            query_v5(3, "SELECT a FROM u"),
        ]
        .concat(),
    );
    // The second frame's head is not there.
    let (seen, unseen) = two.split_at(one.len());
    let flow = Flow::Request;
    let status = bench.send_part(flow, seen, unseen.len() as u32, Hole::Fault);
    assert_eq!(status, Status::Stay);
    bench.ask(&segments(&query_v5(4, "SELECT a FROM v")));
    bench.answer(&segments(&[void_v5(4), void_v5(3), void_v5(2)].concat()));
    assert_eq!(names(&bench), ["SELECT t", "SELECT t", "SELECT v"]);
    assert_eq!(bench.responses().len(), 3);
    assert_eq!(bench.stats.exchange_unasked.get(), 1);
    assert_eq!(bench.stats.protocol_resynced.get(), 0);
}

#[test]
fn a_million_of_them() {
    let begun = Instant::now();
    let mut bench = bench();
    bench.ask(&ask(1, op::PREPARE, &long("SELECT a FROM t WHERE k = ?")));
    bench.answer(&prepared(1, b"a million"));
    let asks = execute(1, b"a million");
    for _ in 0..50_000 {
        bench.ask(&asks);
        bench.answer(&void(1));
        bench.out.clear();
    }
    let pushed = answer(-1, op::EVENT, &short(b"STATUS_CHANGE")).repeat(1000);
    for _ in 0..900 {
        bench.answer(&pushed);
    }
    assert!(bench.out.is_empty());
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn others_are_not_taken_for_it() {
    for first in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
        b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00",
        b"\x05\x01\x00",
        b"\x05\x00\x00\x00\x03SELECT 1",
        b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00",
    ] {
        assert_eq!(
            PROTOCOL.sniff(first),
            match first {
                b"\x05\x01\x00" => Verdict::More,
                _ => Verdict::Not,
            }
        );
    }
    // And it is nobody else's.
    for message in [ask(0, op::OPTIONS, b""), query(1, "SELECT a FROM t")] {
        for protocol in ALL {
            let verdict = protocol.sniff(&message);
            let likely = matches!(verdict, Verdict::Is(_) | Verdict::Likely(Flow::Request));
            assert_eq!(likely, protocol.name() == NAME, "{}", protocol.name());
        }
    }
}
