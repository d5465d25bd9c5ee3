//! The dialogue's own corners; whole dialogues are in `tests/wire/mqtt`.

use proptest::prelude::*;

use super::*;
use crate::protocol::bench::Bench;

const CONNECT: &[u8] = b"\x10\x0d\x00\x04MQTT\x04\x02\x00<\x00\x01c";
const CONNACK: &[u8] = b"\x20\x02\x00\x00";

fn begun() -> Bench {
    let mut bench = Bench::new(PROTOCOL);
    assert_eq!(bench.send(Flow::Request, CONNECT), Status::Stay);
    assert_eq!(bench.send(Flow::Response, CONNACK), Status::Stay);
    bench
}

fn is_request(part: &Part) -> bool {
    matches!(part, Part::Request(..))
}

fn is_abandon(part: &Part) -> bool {
    matches!(part, Part::Abandon)
}

#[test]
fn many_small_packets_are_read_in_time() {
    let mut bench = begun();
    for _ in 0..1000 {
        let _ = bench.send(Flow::Request, &b"\xc0\x00".repeat(1000));
    }
    let mut requests = 0;
    for _ in 0..50 {
        let _ = bench.send(Flow::Request, &b"\x30\x04\x00\x01ax".repeat(1000));
        requests += bench.count(is_request);
    }
    assert_eq!(requests, 50_000);
    assert_eq!(bench.streams[0].held(), 0);
}

#[test]
fn what_waits_is_bounded() {
    let mut bench = begun();
    for n in 1..=2000u16 {
        let [high, low] = n.to_be_bytes();
        for flow in [Flow::Request, Flow::Response] {
            let _ = bench.send(flow, &[0x32, 6, 0, 1, b'a', high, low, b'x']);
        }
    }
    assert!(bench.parser.weight() < 128 * 1024);
    assert_eq!(bench.count(is_abandon), 2 * (2000 - 256));
    let forgotten = bench.stats.protocol_entries_forgotten.get();
    assert_eq!(forgotten, 2 * (2000 - 256));
}

#[test]
fn an_acknowledgement_that_is_told_too_early_leaves_nobody_waiting() {
    let mut bench = begun();
    let publish = b"\x32\x06\x00\x01a\x00\x01x";
    let _ = bench.send(Flow::Response, b"\x40\x02\x00\x01");
    let _ = bench.send(Flow::Request, &publish[..4]);
    let _ = bench.send(Flow::Request, &publish[4..]);
    assert_eq!(bench.count(is_abandon), 1);
    let _ = bench.send(Flow::Request, publish);
    assert_eq!(bench.count(is_abandon), 0);
}

#[test]
fn a_length_has_four_bytes() {
    let mut bench = begun();
    let _ = bench.send(Flow::Request, b"\x30\xff\xff\xff\x7f\x00\x01a");
    assert_eq!(bench.count(is_request), 1);
    let mut bench = begun();
    let _ = bench.send(Flow::Request, b"\x30\xff\xff\xff\xff\x01\x00\x01a");
    assert_eq!(bench.stats.protocol_malformed.get(), 1);
}

#[test]
fn who_asks_is_told_by_what_only_one_side_says() {
    for (bytes, expected) in [
        (&b"\xc0\x00"[..], Verdict::Likely(Flow::Request)),
        (b"\xd0\x00", Verdict::Likely(Flow::Response)),
        (b"\x90\x03\x00\x01\x00", Verdict::Likely(Flow::Response)),
        (
            b"\x82\x06\x00\x01\x00\x01a\x00",
            Verdict::Likely(Flow::Request),
        ),
        (b"\x40\x02\x00\x01", Verdict::Not),
        (b"\x40\x02\x00\x01\xc0\x00", Verdict::Likely(Flow::Request)),
        (b"\x30\x04\x00\x01ax", Verdict::Not),
        (b"\xc0\x00\x00", Verdict::Not),
        (
            b"012345678901234567890123456789012345678901234567890123456789",
            Verdict::Not,
        ),
    ] {
        assert_eq!(packet::sniff_amid(bytes), expected, "{bytes:?}");
    }
}

#[test]
fn the_version_is_told_by_what_cannot_be_read_both_ways() {
    for (kind, body, expected) in [
        (packet::SUBSCRIBE, &b"\x00\x01\x00\x03a/b\x01"[..], Some(4)),
        (packet::SUBSCRIBE, b"\x00\x01\x00\x00\x03a/b\x01", Some(5)),
        (packet::UNSUBSCRIBE, b"\x00\x01\x00\x03a/b", Some(4)),
        (packet::UNSUBACK, b"\x00\x01", Some(4)),
        (packet::UNSUBACK, b"\x00\x01\x00\x00", Some(5)),
        (packet::PUBACK, b"\x00\x01", None),
        (packet::PUBACK, b"\x00\x01\x10", Some(5)),
        (packet::SUBACK, b"\x00\x01\x00\x00", None),
    ] {
        assert_eq!(packet::version(kind, body), expected, "{kind} {body:?}");
    }
}

/// What dialogues are made of.
const FRAGMENTS: &[&[u8]] = &[
    CONNECT,
    CONNACK,
    b"\x30\x04\x00\x01ax",
    b"\x32\x06\x00\x01a\x00\x01x",
    b"\x34\x06\x00\x01a\x00\x02x",
    b"\x40\x02\x00\x01",
    b"\x50\x02\x00\x02",
    b"\x62\x02\x00\x02",
    b"\x70\x02\x00\x02",
    b"\xe0\x00",
    b"\x82\x06\x00\x01\x00\x01a\x00",
    b"\xff\xff",
];

proptest! {
    #[test]
    fn any_dialogue_ends(parts in prop::collection::vec((any::<bool>(), 0..FRAGMENTS.len(), any::<bool>()), 0..60)) {
        let mut bench = Bench::new(PROTOCOL);
        for (asks, fragment, cut) in parts {
            let flow = if asks { Flow::Request } else { Flow::Response };
            let bytes = FRAGMENTS[fragment];
            let bytes = if cut { &bytes[..bytes.len() / 2] } else { bytes };
            if bench.send(flow, bytes) != Status::Stay {
                break;
            }
        }
    }
}
