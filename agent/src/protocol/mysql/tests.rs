//! The dialogue's own corners; whole dialogues are in `tests/wire/mysql`.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::event::Hole;
use crate::protocol::bench::Bench;
use crate::protocol::{Fault, Message, Part};

fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_le_bytes().to_vec();
    out[3] = sequence;
    out.extend(payload);
    out
}

fn query(text: &str) -> Vec<u8> {
    packet(0, &[b"\x03", text.as_bytes()].concat())
}

const OK: &[u8] = b"\x07\0\0\x01\0\0\0\x02\0\0\0";

/// One column, its definition, and what ends definitions.
fn columns() -> Vec<u8> {
    let definition = b"\x03def\0\0\0\x011\0\x0c?\0\x01\0\0\0\x03\x81\0\0\0\0";
    [
        packet(1, b"\x01"),
        packet(2, definition),
        packet(3, b"\xfe\0\0\x02\0"),
    ]
    .concat()
}

#[test]
fn a_command_of_many_packets_is_one() {
    let mut bench = Bench::new(PROTOCOL);
    let mut begin = b"\xff\xff\xff\0\x03INSERT INTO t VALUES ('".to_vec();
    begin.resize(64 * 1024, b'x');
    let left = 0x00ff_ffff + 4 - begin.len() as u32;
    assert_eq!(
        bench.send_part(Flow::Request, &begin, left, Hole::Budget),
        Status::Stay
    );
    bench.ask(&packet(1, b"')"));
    bench.answer(b"\x07\0\0\x02\0\0\0\x02\0\0\0");
    assert_eq!(bench.requests().len(), 1);
    assert_eq!(bench.requests()[0].operation, "INSERT t");
    assert_eq!(bench.responses().len(), 1);
    bench.ask(&query("SELECT 1"));
    assert_eq!(bench.requests().len(), 2);
}

#[test]
fn a_file_of_many_packets_holds_no_command() {
    let mut bench = Bench::new(PROTOCOL);
    bench.ask(&query("LOAD DATA LOCAL INFILE 'a' INTO TABLE t"));
    bench.answer(&packet(1, b"\xfba"));
    let mut sequence = 2u8;
    for _ in 0..600 {
        bench.ask(&packet(sequence, b"\x03SELECT 1"));
        sequence = sequence.wrapping_add(1);
    }
    bench.ask(&packet(sequence, b""));
    bench.answer(&packet(sequence.wrapping_add(1), &OK[4..]));
    assert_eq!((bench.requests().len(), bench.responses().len()), (1, 1));
    bench.ask(&query("SELECT 1"));
    bench.answer(OK);
    assert_eq!((bench.requests().len(), bench.responses().len()), (2, 2));
}

#[test]
fn rows_that_were_not_copied_are_counted() {
    let mut bench = Bench::new(PROTOCOL);
    bench.ask(&query("SELECT a FROM t"));
    bench.answer(&columns());
    for sequence in 4..104 {
        let row = b"\xe8\x03\0\x04\xfc\xe5\x03";
        let row = [&row[..3], &[sequence], &row[4..]].concat();
        let missing = 1000 + 4 - row.len() as u32;
        assert_eq!(
            bench.send_part(Flow::Response, &row, missing, Hole::Budget),
            Status::Stay
        );
    }
    bench.answer(&packet(104, b"\xfe\0\0\x02\0"));
    let rows = crate::protocol::Attribute::int("db.response.returned_rows", 100);
    assert_eq!(bench.responses()[0].attributes, [rows]);
}

#[test]
fn an_error_ends_rows() {
    let mut bench = Bench::new(PROTOCOL);
    bench.ask(&query("SELECT a FROM t"));
    bench.answer(&columns());
    bench.answer(&packet(4, b"\x011"));
    // How far a long command has come, then what went wrong.
    bench.answer(&packet(5, b"\xff\xff\xff\x01\x01\0\0\0\x02at"));
    bench.answer(&packet(
        6,
        b"\xff\x25\x05#70100Query execution was interrupted",
    ));
    assert_eq!(bench.responses()[0].client_error, Some("1317".into()));
}

/// A query whose rows were copied in part, up to a call that ends like the last one of them.
fn rows_in_part() -> Bench {
    let mut bench = Bench::new(PROTOCOL);
    bench.ask(&query("SELECT 1"));
    bench.answer(OK);
    bench.ask(&query("SELECT a FROM t"));
    bench.answer(&columns());
    let row = b"\x00\x10\0\x04\xfc\xfd\x0f";
    let _ = bench.send_part(Flow::Response, row, 70_000, Hole::Budget);
    bench.out.clear();
    bench.answer(&[b"a blob", &packet(9, b"\xfe\0\0\x02\0")[..]].concat());
    bench.time += 1000;
    bench
}

#[test]
fn a_blob_that_reads_like_the_end_of_rows_is_none() {
    let mut bench = rows_in_part();
    assert_eq!(bench.responses().len(), 0);
    let error = packet(6, b"\xff\x25\x05#70100Query execution was interrupted");
    bench.answer(&error);
    assert_eq!(bench.responses().len(), 0);
    bench.ask(&query("SELECT 2"));
    let end = |m: &&Message| {
        m.flow == Flow::Response && matches!(m.part, Part::Finish(finish) if !finish.exact)
    };
    assert_eq!(bench.out.iter().find(end).map(|m| m.at.time), Some(1001));
    let missing = |part: &Part| matches!(part, Part::Fault(Fault::Missing { .. }));
    assert_eq!(bench.count(missing), 1);
    bench.answer(OK);
    assert_eq!(bench.responses().len(), 1);
}

#[test]
fn rows_end_once_nothing_more_came() {
    for confirm in [
        (|bench| bench.ask(&query("SELECT 2"))) as fn(&mut Bench),
        Bench::quiet,
    ] {
        let mut bench = rows_in_part();
        assert!(bench.out.iter().any(|m| m.part == Part::Detach));
        confirm(&mut bench);
        let end = |m: &&Message| m.flow == Flow::Response && matches!(m.part, Part::Finish(_));
        assert_eq!(bench.out.iter().find(end).map(|m| m.at.time), Some(1));
        let fault = |m: &Message| m.flow == Flow::Response && matches!(m.part, Part::Fault(_));
        assert!(!bench.out.iter().any(fault), "{:?}", bench.out);
    }
}

#[test]
fn a_cursor_has_no_rows_until_they_are_fetched() {
    let mut bench = Bench::new(PROTOCOL);
    bench.ask(&packet(0, b"\x16SELECT a FROM t"));
    bench.answer(b"\x0c\0\0\x01\0\x07\0\0\0\0\0\0\0\0\0\0");
    bench.ask(&packet(0, b"\x17\x07\0\0\0\x01\x01\0\0\0"));
    let mut head = columns();
    let status = head.len() - 2;
    head[status] = 0x42;
    bench.answer(&head);
    bench.ask(&packet(0, b"\x1c\x07\0\0\0\x02\0\0\0"));
    bench.answer(&[packet(1, b"\0\0\x01a"), packet(2, b"\xfe\0\0\x82\0")].concat());
    let names: Vec<_> = bench
        .requests()
        .iter()
        .map(|r| r.operation.clone())
        .collect();
    assert_eq!(names, ["PREPARE SELECT t", "SELECT t", "FETCH SELECT t"]);
    assert_eq!(bench.responses().len(), 3);
}

#[test]
fn many_small_packets_take_little_time() {
    let begun = Instant::now();
    let mut bench = Bench::new(PROTOCOL);
    let ask = packet(0, b"\x0e").repeat(1000);
    let answer = OK.repeat(1000);
    for _ in 0..300 {
        bench.ask(&ask);
        bench.answer(&answer);
        bench.out.clear();
    }
    bench.ask(&query("SELECT a FROM t"));
    bench.answer(&columns());
    for sequence in (4..=255).chain(0..=255).cycle().take(300_000) {
        bench.answer(&[1, 0, 0, sequence, 0xfb]);
    }
    assert!(bench.parser.weight() < 1024);
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn compressed_connections_are_left_and_counted() {
    let mut bench = Bench::new(PROTOCOL);
    let mut login = b"\xac\xa2\xbf\0\0\0\0\x01!".to_vec();
    login.extend([0; 23]);
    login.extend(b"app\0\x01x\0");
    assert_eq!(bench.send(Flow::Request, &packet(1, &login)), Status::Leave);
    assert_eq!(bench.stats.protocol_compressed.get(), 1);
}

/// What others' messages begin with.
#[test]
fn other_protocols_are_refused() {
    let others: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        b"Q\0\0\0\x0eSELECT 1\0",
        b"P\0\0\0\x16\0SELECT 1\0\0\0",
        b"\0\0\0\x08\x04\xd2\x16\x2f",
        b"\0\0\0\x54\0\x03\0\0user\0app\0database\0shop\0\0",
        b"*1\r\n$4\r\nPING\r\n",
        b"+PONG\r\n",
        b"AMQP\0\0\x09\x01",
        b"\x01\0\0\0\0\0\x12\0\x0a\0\x0b\0\0\0\0\0\x05\0\x03foo\xce",
        b"\0\0\0\x1c\0\x12\0\x03\0\0\0\x01\0\x06client\0\0\0\0\0\0\0\0",
        b"\x10\x14\0\x04MQTT\x04\x02\0\x3c\0\x08clientid",
        b"INFO {\"server_id\":\"a\"}\r\n",
        b"\x3a\0\0\0\x01\0\0\0\0\0\0\0\xdd\x07\0\0\0\0\0\0\0\x25\0\0\0",
        b"\x04\0\0\0\x07\0\0\0\x0bSELECT 1",
    ];
    for bytes in others {
        for sniff in [sniff::begins, sniff::amid] {
            let verdict = sniff(bytes);
            assert_eq!(verdict, Verdict::Not, "{}", bytes.escape_ascii());
        }
    }
}

proptest! {
    /// However an answer is cut, it says the same.
    #[test]
    fn cuts_change_nothing(at in 0usize..60) {
        let mut bench = Bench::new(PROTOCOL);
        bench.ask(&query("SELECT 1"));
        let answer = [columns(), packet(4, b"\x011"), packet(5, b"\xfe\0\0\x02\0")].concat();
        let (a, b) = answer.split_at(at.min(answer.len()));
        bench.answer(a);
        bench.answer(b);
        prop_assert_eq!(bench.responses()[0].attributes.len(), 1);
        prop_assert_eq!(bench.out.len(), 5);
    }
}
