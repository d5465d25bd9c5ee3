//! Taps: how many there are, and what they see.

use super::*;
use crate::event::Hole;
use crate::protocol::bench::Bench;
use crate::protocol::http1;

const ASK: &[u8] = b"POST /g HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n\
                     Content-Length: 17\r\n\r\n{\"query\":\"{ a }\"}";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
                        Content-Length: 11\r\n\r\n{\"data\":{}}";

fn revised(bench: &mut Bench) -> usize {
    bench.count(|part| matches!(part, Part::Revise(_)))
}

#[test]
fn only_so_many_are_looked_at() {
    let mut bench = Bench::new(http1::PROTOCOL);
    for _ in 0..1000 {
        bench.ask(ASK);
    }
    assert_eq!(
        bench.stats.protocol_taps_forgotten.get(),
        1000 - MAX_TAPS as u64
    );
    let weight = bench.parser.weight();
    assert!(weight < 256 * 1024, "{weight}");
    for _ in 0..1000 {
        bench.answer(ANSWER);
    }
    assert_eq!(revised(&mut bench), MAX_TAPS);
    assert_eq!(bench.parser.weight(), 0);
}

#[test]
fn many_exchanges() {
    let mut bench = Bench::new(http1::PROTOCOL);
    for _ in 0..20_000 {
        bench.ask(ASK);
        bench.answer(ANSWER);
        assert_eq!(revised(&mut bench), 1);
    }
    assert_eq!(bench.parser.weight(), 0);
}

#[test]
fn behind_a_hole_nothing_is_counted() {
    let counted = |hole: u32| {
        let mut bench = Bench::new(http1::PROTOCOL);
        bench.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        bench.answer(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 39\r\n\r\n",
        );
        let bytes = b"data: one\n\ndata: two\n\n";
        let _ = bench.send_part(Flow::Response, bytes, hole, Hole::Budget);
        bench.answer(&b"data: a\n\ndata: b\n"[hole as usize..]);
        bench.count(|part| matches!(part, Part::Trailers(_)))
    };
    assert_eq!((counted(0), counted(5)), (1, 0));
}

#[test]
fn they_can_be_switched_off() {
    let head = |name: &str| (name == "content-type").then_some(&b"application/json"[..]);
    let head = Head::new(("POST", "/"), None, &head);
    let on = |enabled| {
        Taps::new(enabled, "http1", Pairing::Order)
            .of(&head)
            .is_some()
    };
    assert!(on(true) && !on(false));
}

#[test]
fn ordinary_requests_have_none() {
    let head = |name: &str| match name {
        "content-type" => Some(&b"application/x-www-form-urlencoded"[..]),
        _ => None,
    };
    for (method, target) in [("GET", "/a?b=c"), ("POST", "/v1/responses")] {
        let head = Head::new((method, target), None, &head);
        assert!(Tapped::of(&head).is_none());
    }
}
