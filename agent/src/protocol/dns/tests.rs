//! The corners of DNS; whole dialogues are in `tests/wire/dns`.

use super::message::{name_at, push_label};
use super::*;

/// `example.com`, of type A.
const QUESTION: &[u8] = b"\x07example\x03com\0\0\x01\0\x01";

fn message(flags: u16, counts: [u8; 4], rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34];
    bytes.extend(flags.to_be_bytes());
    counts.iter().for_each(|n| bytes.extend([0, *n]));
    bytes.extend(rest);
    bytes
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).expect("short").to_be_bytes();
    [&length, message].concat()
}

#[test]
fn questions_and_answers_are_told_apart() {
    let asks = message(0x0100, [1, 0, 0, 0], QUESTION);
    let record = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x5d\xb8\xd8\x22";
    let answers = message(0x8180, [1, 1, 0, 0], &[QUESTION, record].concat());
    for (bytes, verdict) in [
        (framed(&asks), Verdict::Is(Flow::Request)),
        (framed(&answers), Verdict::Is(Flow::Response)),
        // A byte more than its records make.
        (framed(&[&asks[..], b"\0"].concat()), Verdict::Not),
        // mDNS has no number.
        (framed(&[&[0, 0], &asks[2..]].concat()), Verdict::Not),
        // A question that answers.
        (
            framed(&message(0x0100, [1, 1, 0, 0], &[QUESTION, record].concat())),
            Verdict::Not,
        ),
        // An update (RFC 2136).
        (
            framed(&message(0x2800, [1, 0, 0, 0], QUESTION)),
            Verdict::Not,
        ),
        (b"GET / HTTP/1.1\r\n".to_vec(), Verdict::Not),
        (b"\0".to_vec(), Verdict::More),
        (framed(&asks)[..20].to_vec(), Verdict::More),
    ] {
        assert_eq!(Dns.sniff(&bytes), verdict, "{bytes:?}");
    }
    let said = read(&answers).expect("an answer");
    assert_eq!(said.answers, ["93.184.216.34"]);
}

#[test]
fn names_are_written_as_in_zone_files() {
    let mut text = String::new();
    push_label(&mut text, b"a.b\\c");
    push_label(&mut text, b"\x07\xff");
    assert_eq!(text, "a\\.b\\\\c.\\007\\255");
}

#[test]
fn pointers_end() {
    // The name at 0 points to itself.
    assert_eq!(name_at(b"\xc0\0", 0), None);
    assert_eq!(name_at(b"\x01a\xc0\0", 0), None);
    assert_eq!(name_at(b"\x01a\0\x01b\xc0\0", 3).as_deref(), Some("b.a"));
    assert_eq!(name_at(b"\x01a", 0), None);
    assert_eq!(name_at(b"", 7), None);
}

#[test]
fn codes_of_more_than_four_bits() {
    // OPT (RFC 6891) with an upper code of 1: BADVERS, 16.
    let opt = b"\0\0\x29\x10\0\x01\0\0\0\0\0";
    let answers = message(0x8180, [1, 0, 0, 1], &[QUESTION, opt].concat());
    let response = read(&answers).expect("an answer").response();
    assert_eq!(response.client_error.as_deref(), Some("16"));
    assert_eq!(response.server_error, None);
}
