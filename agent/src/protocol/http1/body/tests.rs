//! Framing by head, and chunk sizes.

use super::super::head;
use super::*;

fn framing(headers: &str) -> (Framing, Option<&'static str>) {
    let text = format!("POST / HTTP/1.1\r\n{headers}\r\n");
    let lines = text.lines().count() - 1;
    let frame = head::request(text.as_bytes(), lines, |head| of_request(&head)).expect("a head");
    (frame.framing, frame.suspicion)
}

fn answer(headers: &str) -> (Framing, Option<&'static str>) {
    let text = format!("HTTP/1.1 200 OK\r\n{headers}\r\n");
    let frame = head::response(text.as_bytes(), 10, |head| of_response(&head, 200, false));
    let frame = frame.expect("a head");
    (frame.framing, frame.suspicion)
}

#[test]
fn of_requests() {
    use Framing::{Chunked, Doubtful, Length};
    for (headers, expected) in [
        ("", Length(0)),
        ("Content-Length: 7\r\n", Length(7)),
        ("Content-Length: 7\r\nContent-Length: 7\r\n", Length(7)),
        ("Content-Length: 007, 7\r\n", Length(7)),
        (
            "Transfer-Encoding: gzip\r\nTransfer-Encoding: CHUNKED\r\n",
            Chunked,
        ),
        ("Content-Length: 7\r\nContent-Length: 8\r\n", Doubtful),
        ("Content-Length: 7,8\r\n", Doubtful),
        ("Content-Length: -1\r\n", Doubtful),
        ("Content-Length: 0x10\r\n", Doubtful),
        ("Content-Length: 1 2\r\n", Doubtful),
        ("Content-Length:\r\n", Doubtful),
        ("Content-Length: 99999999999999999999\r\n", Doubtful),
        ("Transfer-Encoding: chunked, chunked\r\n", Doubtful),
        ("Transfer-Encoding: identity\r\n", Doubtful),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
            Doubtful,
        ),
        (
            "Transfer-Encoding:\x0bchunked\r\nContent-Length: 1\r\n",
            Doubtful,
        ),
    ] {
        let (framing, suspicion) = framing(headers);
        assert_eq!(framing, expected, "{headers:?}");
        assert_eq!(suspicion.is_some(), expected == Doubtful, "{headers:?}");
    }
}

#[test]
fn of_responses() {
    use Framing::{Chunked, Close, Doubtful, Length};
    for (headers, expected, suspicious) in [
        ("", Close, false),
        ("Content-Length: 7\r\n", Length(7), false),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 7\r\n",
            Chunked,
            true,
        ),
        ("Transfer-Encoding: gzip\r\n", Close, false),
        ("Content-Length: 7\r\nContent-Length: 9\r\n", Doubtful, true),
    ] {
        let (framing, suspicion) = answer(headers);
        assert_eq!(
            (framing, suspicion.is_some()),
            (expected, suspicious),
            "{headers:?}"
        );
    }
}

#[test]
fn chunk_sizes() {
    for (line, size) in [
        (&b"0"[..], Some(0)),
        (b"00Ff\r", Some(255)),
        (b"5 ; a=b\r", Some(5)),
        (b"5;a=\"x y\"", Some(5)),
        (b"", None),
        (b";", None),
        (b"5x", None),
        (b"-5", None),
        (b"0x5", None),
        (b"ffffffffffffffffff", None),
    ] {
        assert_eq!(chunk_size(line), size, "{line:?}");
    }
}
