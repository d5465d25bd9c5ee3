//! Where heads end, how they are recognised, and how much work that is.

use super::*;

#[test]
fn ends() {
    for (bytes, end) in [
        ("GET / HTTP/1.1\r\n\r\n", Some(18)),
        ("GET / HTTP/1.1\n\nx", Some(16)),
        ("GET / HTTP/1.1\r\n\n", Some(17)),
        ("GET / HTTP/1.1\n\r\n", Some(17)),
        ("GET / HTTP/1.1\r\n\r", None),
        ("GET / HTTP/1.1\r\nA: b\r\n", None),
        ("", None),
    ] {
        assert_eq!(Scan::default().find(bytes.as_bytes()), end, "{bytes:?}");
    }
}

#[test]
fn a_head_that_comes_byte_by_byte_is_scanned_once() {
    let mut head = b"GET / HTTP/1.1\r\n".to_vec();
    while head.len() < MAX_HEAD - 40 {
        head.extend(b"X-Name: some value\r\n");
    }
    head.extend(b"\r\n");
    let mut scan = Scan::default();
    for end in 0..head.len() {
        assert_eq!(scan.find(&head[..end]), None);
    }
    assert_eq!(scan.find(&head), Some(head.len()));
    // Each byte once, each call once, each line end up to three times.
    assert!(scan.work < 4 * head.len(), "{}", scan.work);
}

#[test]
fn recognises() {
    use Flow::{Request, Response};
    for (bytes, verdict) in [
        ("", Verdict::More),
        ("G", Verdict::More),
        ("GET", Verdict::More),
        ("GET / HTTP/1.", Verdict::More),
        ("GET / HTTP/1.1\r\n", Verdict::Is(Request)),
        ("\r\nGET / HTTP/1.0\n", Verdict::Is(Request)),
        ("M-SEARCH * HTTP/1.1\r\n", Verdict::Is(Request)),
        ("PRI * HTTP/2.0\r\n", Verdict::Not),
        ("OPTIONS rtsp://h RTSP/1.0\r\n", Verdict::Not),
        ("EHLO mail.example\r\n", Verdict::Not),
        ("GET key\r\n", Verdict::Not),
        ("GET  HTTP/1.1\r\n", Verdict::Not),
        ("*1\r\n$4\r\nPING\r\n", Verdict::Not),
        ("\x16\x03\x01", Verdict::Not),
        ("H", Verdict::More),
        ("HTTP/1.1", Verdict::More),
        ("HTTP/1.1 20", Verdict::More),
        ("HTTP/1.1 200", Verdict::More),
        ("HTTP/1.1 200 ", Verdict::Is(Response)),
        ("HTTP/1.0 404\r\n", Verdict::Is(Response)),
        ("HTTP/2 200 ", Verdict::Not),
        ("HTTP/1.1 20x", Verdict::Not),
        ("SSH-2.0-OpenSSH_9.2\r\n", Verdict::Not),
        ("220 smtp ready\r\n", Verdict::Not),
    ] {
        assert_eq!(sniff(bytes.as_bytes()), verdict, "{bytes:?}");
    }
    let long = format!("GET /{}", "x".repeat(2 * LOOK));
    assert_eq!(sniff(long.as_bytes()), Verdict::Is(Request));
    assert_eq!(sniff(&[b'A'; 40]), Verdict::Not);
}

#[test]
fn many_headers_are_read() {
    let lines = 10_000;
    let head = format!("GET / HTTP/1.1\r\n{}\r\n", "A:b\r\n".repeat(lines));
    let mut scan = Scan::default();
    assert_eq!(scan.find(head.as_bytes()), Some(head.len()));
    let read = request(head.as_bytes(), scan.lines, |head| head.headers.len());
    assert_eq!(read, Ok(lines));
}

#[test]
fn control_characters_cost_their_line() {
    for (head, names, mended) in [
        ("GET / HTTP/1.1\r\nA: \0\r\nB: x\r\n\r\n", &["B"][..], true),
        ("GET / HTTP/1.1\r\nA: x\0y\r\nB: x\r\n\r\n", &["B"], true),
        ("GET / HTTP/1.1\r\nA\0: x\r\nB: x\r\n\r\n", &["B"], true),
        ("GET / HTTP/1.1\r\nA: x\ry\r\nB: x\r\n\r\n", &["B"], true),
        ("GET / HTTP/1.1\r\nA: x\x01y\r\nB: x\r\n\r\n", &["B"], false),
        (
            "GET / HTTP/1.1\r\nA: x\ty\r\nB: x\r\n\r\n",
            &["A", "B"],
            false,
        ),
    ] {
        let lines = head.matches('\n').count() - 1;
        let read = request(head.as_bytes(), lines, |head| {
            let names: Vec<_> = head.headers.iter().map(|h| h.name.to_owned()).collect();
            (names, head.mended)
        });
        let (read, was_mended) = read.expect(head);
        assert_eq!(
            (&read[..], was_mended),
            (
                &names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()[..],
                mended
            ),
            "{head:?}"
        );
    }
    let head = b"HTTP/1.1 503 \x1b[31mNo\0\r\nA: \0\r\n\r\n";
    let code = response(head, 2, |head| match head.first {
        First::Response { code } => Some((code, head.mended)),
        First::Request { .. } => None,
    });
    assert_eq!(code, Ok(Some((503, true))));
}

#[test]
fn unfolds() {
    let head = b"GET / HTTP/1.1\r\nA: b\r\n c\n\td\r\n\r\n";
    let mut scan = Scan::default();
    scan.find(head);
    let plain = scan.unfold(head);
    assert_eq!(&*plain, b"GET / HTTP/1.1\r\nA: b   c \td\r\n\r\n");
}
