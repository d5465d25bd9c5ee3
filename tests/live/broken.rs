//! Shapes that end badly: connections reset or closed in mid-message, requests without an answer,
//! and heads made to be read two ways.

use anyhow::Result;
use spantap_tests::Stage;
use spantap_tests::driver::Connection;
use spantap_tests::known::Size;
use spantap_tests::span::{Kind, Span};

use crate::duo::Duo;
use crate::shapes::{ok, path};

/// All of them.
pub const SHAPES: [(&str, fn(&mut Stage, Duo) -> Result<()>); 8] = [
    ("reset-in-response", reset),
    ("closed-in-response", closed),
    ("no-response", silent),
    ("client-gives-up", gives_up),
    ("closed-in-request", half_request),
    ("two-lengths", two_lengths),
    ("length-and-chunked", both_framings),
    ("garbage-after-response", garbage),
];

/// A connection with a request that has come, and its target.
fn asked(duo: &mut Duo) -> Result<((Connection, Connection), String)> {
    let ends = duo.connect()?;
    let target = path();
    let head = duo.head("GET", &target, "");
    duo.client.send(ends.0, &head)?;
    duo.server.until(ends.1, "\r\n\r\n")?;
    Ok((ends, target))
}

/// Of its target and status the client has an error, and the server this one.
fn unfinished(
    stage: &mut Stage,
    mut duo: Duo,
    (target, status): (&str, Option<u16>),
    error: &str,
) -> Result<()> {
    let one = duo.know("GET", target, status);
    one.received = Size::Unknown;
    one.errors = [Some("*".into()), Some(error.into())];
    duo.judge(stage).map(drop)
}

fn reset(stage: &mut Stage, mut duo: Duo) -> Result<()> {
    let (ends, target) = asked(&mut duo)?;
    duo.server.send(
        ends.1,
        "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this",
    )?;
    duo.client.until(ends.0, "only this")?;
    duo.server.reset(ends.1)?;
    duo.client.eof(ends.0)?;
    duo.client.close(ends.0)?;
    unfinished(stage, duo, (&target, Some(200)), "?")
}

fn closed(stage: &mut Stage, mut duo: Duo) -> Result<()> {
    let (ends, target) = asked(&mut duo)?;
    duo.server.send(
        ends.1,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nonly this",
    )?;
    duo.server.close(ends.1)?;
    duo.client.eof(ends.0)?;
    duo.client.close(ends.0)?;
    unfinished(stage, duo, (&target, Some(200)), "?")
}

/// The server reads the request and closes.
fn silent(stage: &mut Stage, mut duo: Duo) -> Result<()> {
    let (ends, target) = asked(&mut duo)?;
    duo.server.close(ends.1)?;
    duo.client.eof(ends.0)?;
    duo.client.close(ends.0)?;
    unfinished(stage, duo, (&target, None), "*")
}

/// The client closes before the response.
fn gives_up(stage: &mut Stage, mut duo: Duo) -> Result<()> {
    let (ends, target) = asked(&mut duo)?;
    duo.client.reset(ends.0)?;
    duo.server.eof(ends.1)?;
    duo.server.close(ends.1)?;
    unfinished(stage, duo, (&target, None), "*")
}

/// A request whose body stops short: answered 400, the connection closed.
fn half_request(stage: &mut Stage, mut duo: Duo) -> Result<()> {
    let ends = duo.connect()?;
    let target = path();
    let head = duo.head("POST", &target, "Content-Length: 100\r\n");
    duo.client.send(ends.0, &format!("{head}ten bytes."))?;
    duo.client.shut(ends.0)?;
    duo.server.eof(ends.1)?;
    duo.server.send(
        ends.1,
        "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    )?;
    duo.client.read(ends.0, "POST")?;
    duo.client.close(ends.0)?;
    duo.server.close(ends.1)?;
    let one = duo.know("POST", &target, Some(400));
    (one.sent, one.received) = (Size::Unknown, Size::Exact(0));
    one.errors[1] = Some("?".into());
    duo.judge(stage).map(drop)
}

/// Two lengths that differ: one request or two, depending on who reads.
fn two_lengths(stage: &mut Stage, duo: Duo) -> Result<()> {
    let lines = format!("Content-Length: 0\r\nContent-Length: {}\r\n", INNER.len());
    smuggle(stage, duo, &lines, "")
}

/// A length and chunks: the same.
fn both_framings(stage: &mut Stage, duo: Duo) -> Result<()> {
    let length = INNER.len() + 5;
    let lines = format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n");
    smuggle(stage, duo, &lines, "0\r\n\r\n")
}

/// Hidden in a body, for those who see a body.
const INNER: &str = "GET /smuggled HTTP/1.1\r\nHost: example.test\r\n\r\n";

fn smuggle(stage: &mut Stage, mut duo: Duo, lines: &str, before: &str) -> Result<()> {
    let ends = duo.connect()?;
    let target = path();
    let head = duo.head("POST", &target, lines);
    let all = format!("{head}{before}{INNER}");
    duo.client.send(ends.0, &all)?;
    duo.server.take(ends.1, all.len() as u64)?;
    duo.server.send(ends.1, &ok(2))?;
    duo.client.read(ends.0, "POST")?;
    duo.server.close(ends.1)?;
    duo.client.close(ends.0)?;
    let spans = duo.receive(stage, 2)?;
    for kind in [Kind::Client, Kind::Server] {
        let mine: Vec<&Span> = spans.iter().filter(|span| span.kind == kind).collect();
        stage.check(mine.len() == 1, || {
            format!("{} {kind:?} spans, want 1", mine.len())
        });
        for span in mine {
            stage.check(span.target() == target, || {
                format!("a span for {}", span.target())
            });
            let flagged =
                span.attributes.keys().any(|key| crate::is_flag(key)) || !span.events.is_empty();
            stage.check(flagged, || format!("not flagged: {}", span.line()));
        }
    }
    Ok(())
}

/// Bytes that are no response, then the end; the next connection is not touched by it.
fn garbage(stage: &mut Stage, mut duo: Duo) -> Result<()> {
    let ends = duo.connect()?;
    duo.plain(ends, &path())?;
    duo.server
        .send(ends.1, &"\u{1}\u{2}nonsense\r\n".repeat(50))?;
    duo.server.close(ends.1)?;
    duo.client.eof(ends.0)?;
    duo.client.close(ends.0)?;
    let ends = duo.connect()?;
    duo.plain(ends, &path())?;
    duo.judge(stage).map(drop)
}
