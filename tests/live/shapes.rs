//! Odd shapes of HTTP/1, one case each: every byte and pause is the test's own.

use anyhow::{Result, ensure};
use spantap_tests::agent::Capture;
use spantap_tests::known::{Size, number};
use spantap_tests::span::{Kind, Span};
use spantap_tests::{Case, Stage};

use crate::duo::Duo;

type Shape = fn(&mut Stage, Duo) -> Result<()>;

/// All of them, on both capture paths.
pub fn cases() -> Vec<Case> {
    let shapes: [(&str, Shape); 20] = [
        ("pipelining", pipelining),
        ("split-heads", split_heads),
        ("every-byte", every_byte),
        ("head-of-60-KiB", large_head),
        ("100-continue", hundred_continue),
        ("103-early-hints", early_hints),
        ("early-413", early_refusal),
        ("without-bodies", without_bodies),
        ("chunks-and-trailers", trailers),
        ("bare-lf-and-folds", lenient),
        ("http-1.0", version_10),
        ("absolute-form", absolute),
        ("unknown-method", unknown_method),
        ("slow-response", slow),
        ("interleaved", interleaved),
        ("resync", leading_lines),
        ("connect", connect),
        ("upgrade", upgrade),
        ("asterisk", asterisk),
        ("not-http", not_http),
    ];
    let mut cases = Vec::new();
    for (name, shape) in shapes.into_iter().chain(crate::broken::SHAPES) {
        for capture in [Capture::Socket, Capture::Syscall] {
            cases.push(Case::new(
                format!("shapes::{name}::{}", capture.name()),
                move |stage| {
                    let duo = Duo::start(stage, capture)?;
                    shape(stage, duo)
                },
            ));
        }
    }
    cases.push(Case::new("shapes::ipv6", |stage| {
        let mut duo = Duo::with(stage, "[::1]:0", |setup| setup)?;
        let ends = duo.connect_at(&format!("[::1]:{}", duo.port))?;
        duo.plain(ends, &path())?;
        let spans = duo.judge(stage)?;
        for span in &spans {
            let peer = span.text("network.peer.address");
            stage.check(peer.as_deref() == Some("::1"), || format!("peer {peer:?}"));
        }
        Ok(())
    }));
    cases
}

/// A path no other request has.
pub fn path() -> String {
    format!("/shape/{}", number())
}

/// A response with that much of a body.
pub fn ok(size: usize) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n{}",
        "y".repeat(size)
    )
}

fn pipelining(stage: &mut Stage, mut duo: Duo) -> Result<()> {
    let ends = duo.connect()?;
    let paths: Vec<String> = (0..6).map(|_| path()).collect();
    let all: String = paths.iter().map(|path| duo.head("GET", path, "")).collect();
    duo.client.send(ends.0, &all)?;
    duo.server.take(ends.1, all.len() as u64)?;
    let answers: String = (0..6).map(|size| ok(size * 10)).collect();
    duo.server.send(ends.1, &answers)?;
    for (at, path) in paths.iter().enumerate() {
        duo.client.read(ends.0, "GET")?;
        duo.know("GET", path, Some(200)).received = Size::Exact(at as u64 * 10);
    }
    duo.judge(stage).map(drop)
}

fn split_heads(stage: &mut Stage, mut duo: Duo) -> Result<()> {
    let ends = duo.connect()?;
    let cuts: [&[usize]; 6] = [&[1], &[3, 1], &[5, 20, 1], &[16], &[40, 2], &[70, 1, 1]];
    for cut in cuts {
        let target = path();
        let head = duo.head("POST", &target, "Content-Length: 9\r\n");
        duo.client
            .send_split(ends.0, &format!("{head}some body"), cut, 8)?;
        duo.server.take(ends.1, head.len() as u64 + 9)?;
        duo.server.send_split(ends.1, &ok(30), cut, 8)?;
        duo.client.read(ends.0, "POST")?;
        let one = duo.know("POST", &target, Some(200));
        (one.sent, one.received) = (Size::Exact(9), Size::Exact(30));
    }
    duo.judge(stage).map(drop)
}

fn every_byte(stage: &mut Stage, mut duo: Duo) -> Result<()> {
    let ends = duo.connect()?;
    let target = path();
    let head = duo.head("GET", &target, "Accept: */*\r\n");
    duo.client
        .send_split(ends.0, &head, &vec![1; head.len()], 1)?;
    duo.server.until(ends.1, "\r\n\r\n")?;
    let answer = ok(3);
    duo.server
        .send_split(ends.1, &answer, &vec![1; answer.len()], 1)?;
    duo.client.read(ends.0, "GET")?;
    duo.know("GET", &target, Some(200)).received = Size::Exact(3);
    duo.judge(stage).map(drop)
}

fn large_head(stage: &mut Stage, mut duo: Duo) -> Result<()> {
    let ends = duo.connect()?;
    let big = format!("X-Big: {}\r\n", "z".repeat(60 << 10));
    for cuts in [&[][..], &[30_000, 20_000], &[100, 8192, 16_384]] {
        let target = path();
        let head = duo.head("GET", &target, &big);
        duo.client.send_split(ends.0, &head, cuts, 5)?;
        duo.server.until(ends.1, "\r\n\r\n")?;
        duo.server.send(
            ends.1,
            &format!("HTTP/1.1 200 OK\r\n{big}Content-Length: 2\r\n\r\nyy"),
        )?;
        duo.client.read(ends.0, "GET")?;
        duo.know("GET", &target, Some(200)).received = Size::Exact(2);
    }
    duo.judge(stage).map(drop)
}

fn hundred_continue(stage: &mut Stage, mut duo: Duo) -> Result<()> {
    let ends = duo.connect()?;
    for _ in 0..2 {
        let target = path();
        let head = duo.head(
            "PUT",
            &target,
            "Content-Length: 5000\r\nExpect: 100-continue\r\n",
        );
        duo.client.send(ends.0, &head)?;
        duo.server.until(ends.1, "\r\n\r\n")?;
        duo.server.send(ends.1, "HTTP/1.1 100 Continue\r\n\r\n")?;
        duo.client.until(ends.0, "\r\n\r\n")?;
        duo.client.fill(ends.0, 5000)?;
        duo.server.take(ends.1, 5000)?;
        duo.server
            .send(ends.1, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")?;
        duo.client.read(ends.0, "PUT")?;
        let one = duo.know("PUT", &target, Some(201));
        (one.sent, one.received) = (Size::Exact(5000), Size::Exact(0));
    }
    duo.judge(stage).map(drop)
}

fn early_hints(stage: &mut Stage, mut duo: Duo) -> Result<()> {
    let ends = duo.connect()?;
    let target = path();
    let head = duo.head("GET", &target, "");
    duo.client.send(ends.0, &head)?;
    duo.server.until(ends.1, "\r\n\r\n")?;
    duo.server
        .send(ends.1, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")?;
    duo.server
        .send(ends.1, &format!("HTTP/1.1 102 Processing\r\n\r\n{}", ok(4)))?;
    let response = duo.client.read(ends.0, "GET")?;
    ensure!(
        response.interim == [103, 102],
        "interim {:?}",
        response.interim
    );
    duo.know("GET", &target, Some(200)).received = Size::Exact(4);
    duo.judge(stage).map(drop)
}

/// Refused before the body has come: the client goes on sending into a closing connection.
fn early_refusal(stage: &mut Stage, mut duo: Duo) -> Result<()> {
    let ends = duo.connect()?;
    let target = path();
    let head = duo.head("POST", &target, "Content-Length: 100000\r\n");
    duo.client.send(ends.0, &head)?;
    duo.client.fill(ends.0, 3000)?;
    duo.server.until(ends.1, "\r\n\r\n")?;
    let refusal =
        "HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nno!\n";
    duo.server.send(ends.1, refusal)?;
    duo.server.shut(ends.1)?;
    duo.client.read(ends.0, "POST")?;
    duo.client.close(ends.0)?;
    duo.server.eof(ends.1)?;
    duo.server.close(ends.1)?;
    let one = duo.know("POST", &target, Some(413));
    (one.sent, one.received) = (Size::Unknown, Size::Exact(4));
    duo.judge(stage).map(drop)
}

/// HEAD, 204 and 304 with lengths that no body follows, then a request that shows where we are.
fn without_bodies(stage: &mut Stage, mut duo: Duo) -> Result<()> {
    let ends = duo.connect()?;
    for (method, status) in [("HEAD", 200), ("GET", 304), ("GET", 204), ("HEAD", 404)] {
        let target = path();
        let head = duo.head(method, &target, "");
        duo.client.send(ends.0, &head)?;
        duo.server.until(ends.1, "\r\n\r\n")?;
        let length = if status == 204 {
            ""
        } else {
            "Content-Length: 512\r\n"
        };
        duo.server
            .send(ends.1, &format!("HTTP/1.1 {status} Word\r\n{length}\r\n"))?;
        duo.client.read(ends.0, method)?;
        duo.know(method, &target, Some(status)).received = Size::Exact(0);
    }
    duo.plain(ends, &path())?;
    duo.judge(stage).map(drop)
}

fn trailers(stage: &mut Stage, mut duo: Duo) -> Result<()> {
    let ends = duo.connect()?;
    let target = path();
    let body = "5;name=value\r\nhello\r\n1F \r\n0123456789012345678901234567890\r\n0;end\r\nX-Sum: 1\r\nX-Two: 2\r\n\r\n";
    let head = duo.head(
        "POST",
        &target,
        "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n",
    );
    duo.client.send_split(
        ends.0,
        &format!("{head}{body}"),
        &[head.len() + 1, 3, 9, 7],
        4,
    )?;
    duo.server.take(ends.1, (head.len() + body.len()) as u64)?;
    let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    duo.server.send_split(ends.1, &answer, &[50, 3, 9, 7], 4)?;
    duo.client.read(ends.0, "POST")?;
    let one = duo.know("POST", &target, Some(200));
    let size = Size::Framed(36, body.len() as u64);
    (one.sent, one.received) = (size, size);
    duo.plain(ends, &path())?;
    duo.judge(stage).map(drop)
}

/// Folded lines and bare line feeds, as lenient peers take them.
fn lenient(stage: &mut Stage, mut duo: Duo) -> Result<()> {
    let ends = duo.connect()?;
    let (first, second) = (path(), path());
    let head = duo.head("GET", &first, "X-Fold: one\r\n two\r\n\tthree\r\n");
    duo.client.send(ends.0, &head)?;
    duo.server.until(ends.1, "\r\n\r\n")?;
    duo.server.send(
        ends.1,
        "HTTP/1.1 200 OK\r\nX-Fold: one\r\n two\r\nContent-Length: 2\r\n\r\nyy",
    )?;
    duo.client.read(ends.0, "GET")?;
    duo.know("GET", &first, Some(200)).received = Size::Exact(2);
    let head = format!("GET {second} HTTP/1.1\nHost: 127.0.0.1:{}\n\n", duo.port);
    duo.client.send(ends.0, &head)?;
    duo.server.until(ends.1, "\n\n")?;
    duo.server
        .send(ends.1, "HTTP/1.1 200 OK\nContent-Length: 3\n\nyyy")?;
    duo.client.until(ends.0, "\n\nyyy")?;
    duo.know("GET", &second, Some(200)).received = Size::Exact(3);
    duo.judge(stage).map(drop)
}

/// A response that ends with the connection, then kept connections by request.
fn version_10(stage: &mut Stage, mut duo: Duo) -> Result<()> {
    let ends = duo.connect()?;
    let target = path();
    let host = format!("Host: 127.0.0.1:{}", duo.port);
    duo.client
        .send(ends.0, &format!("GET {target} HTTP/1.0\r\n{host}\r\n\r\n"))?;
    duo.server.until(ends.1, "\r\n\r\n")?;
    duo.server
        .send(ends.1, "HTTP/1.0 200 OK\r\n\r\nuntil the end")?;
    duo.server.close(ends.1)?;
    duo.client.read(ends.0, "GET")?;
    duo.client.close(ends.0)?;
    let one = duo.know("GET", &target, Some(200));
    (one.version, one.received) = ("1.0", Size::Exact(13));
    let ends = duo.connect()?;
    for _ in 0..2 {
        let target = path();
        let head = format!("GET {target} HTTP/1.0\r\n{host}\r\nConnection: keep-alive\r\n\r\n");
        duo.client.send(ends.0, &head)?;
        duo.server.until(ends.1, "\r\n\r\n")?;
        duo.server.send(
            ends.1,
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\ny",
        )?;
        duo.client.read(ends.0, "GET")?;
        let one = duo.know("GET", &target, Some(200));
        (one.version, one.received) = ("1.0", Size::Exact(1));
    }
    duo.judge(stage).map(drop)
}

fn absolute(stage: &mut Stage, mut duo: Duo) -> Result<()> {
    let ends = duo.connect()?;
    let target = path();
    let head = format!("GET http://example.test{target} HTTP/1.1\r\nHost: example.test\r\n\r\n");
    duo.client.send(ends.0, &head)?;
    duo.server.until(ends.1, "\r\n\r\n")?;
    duo.server.send(ends.1, &ok(4))?;
    duo.client.read(ends.0, "GET")?;
    let one = duo.know("GET", &target, Some(200));
    (one.elsewhere, one.received) = (true, Size::Exact(4));
    let spans = duo.judge(stage)?;
    for span in &spans {
        let address = span.text("server.address");
        stage.check(address.as_deref() == Some("example.test"), || {
            format!("server.address {address:?}: {}", span.line())
        });
    }
    Ok(())
}

fn unknown_method(stage: &mut Stage, mut duo: Duo) -> Result<()> {
    let ends = duo.connect()?;
    for method in ["BREW", "PROPFIND", "get"] {
        let target = path();
        let head = duo.head(method, &target, "");
        duo.client.send(ends.0, &head)?;
        duo.server.until(ends.1, "\r\n\r\n")?;
        duo.server.send(ends.1, &ok(4))?;
        duo.client.read(ends.0, method)?;
        duo.know(method, &target, Some(200)).received = Size::Exact(4);
    }
    duo.judge(stage).map(drop)
}

fn slow(stage: &mut Stage, mut duo: Duo) -> Result<()> {
    let ends = duo.connect()?;
    let target = path();
    let head = duo.head("GET", &target, "");
    duo.client.send(ends.0, &head)?;
    duo.server.until(ends.1, "\r\n\r\n")?;
    duo.server.pause(150)?;
    duo.server
        .send(ends.1, "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nfour")?;
    duo.server.pause(150)?;
    duo.server.send(ends.1, "four")?;
    duo.client.read(ends.0, "GET")?;
    let one = duo.know("GET", &target, Some(200));
    (one.least, one.received) = (std::time::Duration::from_millis(298), Size::Exact(8));
    duo.judge(stage).map(drop)
}

/// Two connections whose requests and responses alternate.
fn interleaved(stage: &mut Stage, mut duo: Duo) -> Result<()> {
    let (one, two) = (duo.connect()?, duo.connect()?);
    let (first, second) = (path(), path());
    let heads = [duo.head("GET", &first, ""), duo.head("GET", &second, "")];
    duo.client.send(one.0, &heads[0][..10])?;
    duo.client.send(two.0, &heads[1])?;
    duo.client.send(one.0, &heads[0][10..])?;
    duo.server.until(two.1, "\r\n\r\n")?;
    duo.server.until(one.1, "\r\n\r\n")?;
    duo.server.send(one.1, &ok(100)[..60])?;
    duo.server.send(two.1, &ok(7))?;
    duo.client.read(two.0, "GET")?;
    duo.server.send(one.1, &ok(100)[60..])?;
    duo.client.read(one.0, "GET")?;
    duo.know("GET", &first, Some(200)).received = Size::Exact(100);
    duo.know("GET", &second, Some(200)).received = Size::Exact(7);
    duo.judge(stage).map(drop)
}

/// Empty lines between messages, which old clients send.
fn leading_lines(stage: &mut Stage, mut duo: Duo) -> Result<()> {
    let ends = duo.connect()?;
    duo.plain(ends, &path())?;
    duo.client.send(ends.0, "\r\n")?;
    duo.server.take(ends.1, 2)?;
    duo.plain(ends, &path())?;
    duo.judge(stage).map(drop)
}

/// Exactly these spans: one per side.
fn both(stage: &mut Stage, spans: &[Span], method: &str, status: i64) {
    for kind in [Kind::Client, Kind::Server] {
        let count = spans.iter().filter(|span| {
            span.kind == kind
                && span.text("http.request.method").as_deref() == Some(method)
                && span.int("http.response.status_code") == Some(status)
        });
        let count = count.count();
        stage.check(count == 1, || {
            format!("{count} {kind:?} spans {method} {status}")
        });
    }
    let lines: Vec<String> = spans.iter().map(Span::line).collect();
    stage.check(spans.len() == 2, || format!("spans: {lines:?}"));
}

/// What goes through a tunnel is nobody's request.
fn connect(stage: &mut Stage, mut duo: Duo) -> Result<()> {
    let ends = duo.connect()?;
    duo.client.send(
        ends.0,
        "CONNECT example.test:443 HTTP/1.1\r\nHost: example.test:443\r\n\r\n",
    )?;
    duo.server.until(ends.1, "\r\n\r\n")?;
    duo.server
        .send(ends.1, "HTTP/1.1 200 Connection established\r\n\r\n")?;
    duo.client.until(ends.0, "\r\n\r\n")?;
    tunnel(&mut duo, ends)?;
    let spans = duo.receive(stage, 2)?;
    both(stage, &spans, "CONNECT", 200);
    Ok(())
}

fn upgrade(stage: &mut Stage, mut duo: Duo) -> Result<()> {
    let ends = duo.connect()?;
    let target = path();
    let head = duo.head(
        "GET",
        &target,
        "Connection: Upgrade\r\nUpgrade: websocket\r\n",
    );
    duo.client.send(ends.0, &head)?;
    duo.server.until(ends.1, "\r\n\r\n")?;
    let answer =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    duo.server.send(ends.1, answer)?;
    duo.client.read(ends.0, "GET")?;
    tunnel(&mut duo, ends)?;
    let spans = duo.receive(stage, 2)?;
    both(stage, &spans, "GET", 101);
    Ok(())
}

/// Bytes that would be HTTP anywhere else.
fn tunnel(duo: &mut Duo, ends: (u64, u64)) -> Result<()> {
    let fake = duo.head("GET", "/inside", "");
    duo.client.send(ends.0, &fake)?;
    duo.server.until(ends.1, "\r\n\r\n")?;
    duo.server.send(ends.1, &ok(3))?;
    duo.client.read(ends.0, "GET").map(drop)
}

fn asterisk(stage: &mut Stage, mut duo: Duo) -> Result<()> {
    let ends = duo.connect()?;
    let head = duo.head("OPTIONS", "*", "");
    duo.client.send(ends.0, &head)?;
    duo.server.until(ends.1, "\r\n\r\n")?;
    duo.server
        .send(ends.1, "HTTP/1.1 204 No Content\r\nAllow: GET\r\n\r\n")?;
    duo.client.read(ends.0, "OPTIONS")?;
    let spans = duo.receive(stage, 2)?;
    both(stage, &spans, "OPTIONS", 204);
    Ok(())
}

/// Another protocol on the port makes no spans.
fn not_http(stage: &mut Stage, mut duo: Duo) -> Result<()> {
    let ends = duo.connect()?;
    for _ in 0..20 {
        duo.client.send(ends.0, "hail 7;")?;
        duo.server.until(ends.1, ";")?;
        duo.server.send(ends.1, "fine 7;")?;
        duo.client.until(ends.0, ";")?;
    }
    let spans = duo.receive(stage, 0)?;
    stage.check(spans.is_empty(), || format!("{} spans", spans.len()));
    Ok(())
}
