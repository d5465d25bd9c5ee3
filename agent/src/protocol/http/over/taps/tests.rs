//! Taps: how many there are, and what they see.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// A tap that counts how often its weight is asked, which is how often it was shown bytes.
#[derive(Debug)]
struct Weighed(Arc<AtomicUsize>, usize);

impl Tap for Weighed {
    fn read(&mut self, _flow: Flow, bytes: &[u8]) -> Look {
        self.1 += bytes.len();
        Look::More
    }

    fn weight(&self) -> usize {
        self.0.fetch_add(1, Ordering::Relaxed);
        self.1
    }
}

#[test]
fn what_all_weigh_is_known_without_asking_each() {
    let asked = Arc::new(AtomicUsize::new(0));
    let stats = Stats::default();
    let mut taps = Taps::new(true, "http2", Pairing::Number);
    let tapped = |weight| {
        let mut candidate = Candidate::new(Box::new(Weighed(Arc::clone(&asked), weight)));
        candidate.request.left = u64::MAX;
        let mut tapped = Box::<Tapped>::default();
        tapped.taps.push(candidate);
        tapped
    };
    let sum = |taps: &Taps| -> usize { taps.open.values().map(|tapped| tapped.weight()).sum() };
    for number in 0..200 {
        taps.insert(number, tapped(number as usize), &stats);
    }
    assert_eq!(taps.weight(), sum(&taps));
    let mut bench = Bench::new(http1::PROTOCOL);
    let _ = bench.send(Flow::Request, b"GET ");
    let [stream, _] = &mut bench.streams;
    let (out, stats) = (&mut bench.out, &bench.stats);
    let mut feed = Feed { stream, out, stats };
    let before = (taps.weight(), asked.swap(0, Ordering::Relaxed));
    assert_eq!(taps.pass(Flow::Request, 150, 4, &mut feed), 0);
    let after = taps.weight();
    assert!(asked.load(Ordering::Relaxed) < 4, "{asked:?}");
    assert_eq!(after, before.0 + 4);
    // Whatever becomes of them.
    taps.insert(150, tapped(7), stats);
    taps.forget(151);
    taps.forget_before(140);
    taps.lose_all(Flow::Request);
    taps.end((Flow::Response, 160), Mark::default(), &mut Vec::new());
    assert_eq!((taps.open.len(), taps.weight()), (58, sum(&taps)));
    taps.forget_before(u64::MAX);
    assert_eq!(taps.weight(), 0);
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
