//! What dialogues do not show: first bytes of others, the way to TLS, many messages, limits.

use super::*;
use crate::protocol::Verdict::{Is, Likely, More, Not};
use crate::protocol::bench::Bench;
use crate::stats::Stats;

#[test]
fn first_bytes() {
    for (bytes, verdict) in [
        (&b"\0\0\0\x08\x04\xd2\x16\x2f"[..], Is(Flow::Request)),
        (
            b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02",
            Is(Flow::Request),
        ),
        (b"\0\0\0\x17\0\x03\0\0user\0app\0\0", Is(Flow::Request)),
        (b"\0\0\0\x17\0\x03", More),
        // Kafka's Metadata, version 0.
        (b"\0\0\0\x17\0\x03\0\0\0\0\0\x01\0\x03abc", Not),
        (b"Q\0\0\0\x0dSELECT 1\0", Likely(Flow::Request)),
        (b"Q\0\0\0\x0dSELECT 1x", Not),
        (b"Z\0\0\0\x05I", Likely(Flow::Response)),
        (b"Z\0\0\0\x05X", Not),
        (b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I", Likely(Flow::Response)),
        (b"C\0\0\0\x0bSone_1\0\0\0\0\0\x04", Not),
        (b"C\0\0\0\x09Sone\0S\0\0\0\x04", Likely(Flow::Request)),
        (b"GET / HTTP/1.1\r\n", Not),
        (b"PRI * HTTP/2.0\r\n", Not),
        (b"\x16\x03\x01\x02\0\x01", Not),
        (b"*1\r\n$4\r\nPING\r\n", Not),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Not),
        (b"", More),
    ] {
        assert_eq!(PROTOCOL.sniff(bytes), verdict, "{bytes:?}");
    }
}

#[test]
fn tls_follows_where_the_server_agrees() {
    let mut bench = Bench::new(PROTOCOL);
    bench.ask(b"\0\0\0\x08\x04\xd2\x16\x2f");
    assert_eq!(bench.send(Flow::Response, b"S"), Status::Leave);
    let (protocol, _) = bench.parser.successor().expect("a successor");
    assert_eq!(protocol.name(), "tls");
    assert_eq!(bench.requests().len(), 0);
}

#[test]
fn a_million_messages() {
    let mut bench = Bench::new(PROTOCOL);
    let asks = b"Q\0\0\0\x05\0".repeat(1000);
    let answers = b"I\0\0\0\x04Z\0\0\0\x05I".repeat(1000);
    for _ in 0..500 {
        bench.ask(&asks);
        bench.answer(&answers);
        assert_eq!(bench.requests().len(), 1000);
        assert_eq!(bench.parser.weight(), 0);
        bench.out.clear();
    }
}

#[test]
fn what_is_remembered_has_a_limit() {
    let (mut names, stats) = (Names::default(), Stats::default());
    for number in 0..10_000 {
        let name = format!("{number:0200}");
        let statement = Statement::Named(name.clone());
        let held = Held::new(statement, &Total::default());
        names.insert(name.as_bytes(), held, &stats);
        assert!(names.weight() <= 64 << 10);
    }
    assert!(names.get(format!("{:0200}", 9_999).as_bytes()).is_some());
    assert!(names.get(format!("{:0200}", 0).as_bytes()).is_none());
    // Each time but the first few one was forgotten for it.
    assert!(stats.protocol_entries_forgotten.get() > 9_000);
}

#[test]
fn a_pipeline_without_end_is_not_followed() {
    let mut bench = Bench::new(PROTOCOL);
    for _ in 0..20 {
        let executes = b"E\0\0\0\x09\0\0\0\0\0".repeat(1000);
        bench.ask(&executes);
    }
    assert_eq!(bench.requests().len(), 20_000);
    assert!(bench.parser.weight() < 1 << 20);
}

#[test]
fn statements_that_wait_are_weighed_and_bounded() {
    let mut bench = Bench::new(PROTOCOL);
    bench.ask(b"\0\0\0\x12\0\x03\0\0user\0ann\0\0");
    bench.answer(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I");
    let text = format!("\0SELECT 1 FROM {}\0\0\0", "x".repeat(30_000));
    let parse = [
        b"P",
        &(text.len() as u32 + 4).to_be_bytes()[..],
        text.as_bytes(),
    ]
    .concat();
    for _ in 0..4096 {
        bench.ask(&parse);
        assert!(
            bench.parser.weight() < 768 << 10,
            "{}",
            bench.parser.weight()
        );
    }
    assert!(bench.parser.weight() > 128 << 10);
}
