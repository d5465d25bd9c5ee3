//! The HTTP/1 reader against hyper, on random dialogues.
//!
//! Why hyper: it is the most used HTTP/1 implementation in Rust, and what decides where messages
//! end (lengths, chunks, codings, 1xx, HEAD, keep-alive) is its own code; only the splitting of a
//! head into lines is httparse there too, and that part is compared with the generator, which knows
//! what it wrote. hyper plays each side over a pipe in memory: the server reads our requests, the
//! client our responses; both must see what the shard sees.

#[path = "wire/dialogue.rs"]
#[allow(
    dead_code,
    reason = "shared with the dialogue tests, which use more of it"
)]
mod dialogue;

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dialogue::play::{Seen, play};
use dialogue::{Random, Step, Way, in_portions};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// What was written, as the generator knows it.
#[derive(Clone, Debug, PartialEq)]
struct Written {
    method: String,
    path: String,
    body: usize,
    status: u16,
    answer: usize,
}

struct Generated {
    asks: Vec<Vec<u8>>,
    answers: Vec<Vec<u8>>,
    written: Vec<Written>,
}

const METHODS: [&str; 8] = [
    "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "PROPFIND",
];
const STATUSES: [u16; 9] = [200, 201, 204, 206, 301, 304, 404, 418, 500];

fn body(random: &mut Random, headers: &mut String, wire: &mut Vec<u8>) -> usize {
    let length = random.below(60);
    let bytes: Vec<u8> = (0..length)
        .map(|_| b"GET / HTP.1\r\n0:"[random.below(15)])
        .collect();
    if random.below(2) == 0 {
        *headers += &format!("Content-Length: {length}\r\n");
        wire.extend(bytes);
    } else {
        *headers += "Transfer-Encoding: chunked\r\n";
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (chunk, more) = rest.split_at(1 + random.below(rest.len()));
            let extension = ["", ";a=b", ";x"][random.below(3)];
            wire.extend(format!("{:x}{extension}\r\n", chunk.len()).bytes());
            wire.extend(chunk);
            wire.extend(b"\r\n");
            rest = more;
        }
        wire.extend(b"0\r\n");
        if random.below(4) == 0 {
            wire.extend(b"X-Trailer: t\r\n");
        }
        wire.extend(b"\r\n");
    }
    length
}

fn headers(random: &mut Random) -> String {
    let mut text = String::new();
    for n in 0..random.below(5) {
        let blank = ["", " ", "\t", "   "][random.below(4)];
        text += &format!("X-{n}:{blank}v{blank}\r\n");
    }
    text
}

fn generate(random: &mut Random) -> Generated {
    let mut generated = Generated {
        asks: Vec::new(),
        answers: Vec::new(),
        written: Vec::new(),
    };
    for n in 0..1 + random.below(6) {
        let method = METHODS[random.below(METHODS.len())].to_owned();
        let path = format!("/{n}?q={}", random.below(1000));
        let (mut fields, mut wire) = (headers(random), Vec::new());
        let sent = match random.below(3) {
            0 => 0,
            _ => body(random, &mut fields, &mut wire),
        };
        let mut ask = format!("{method} {path} HTTP/1.1\r\nHost: h\r\n{fields}\r\n").into_bytes();
        ask.extend(wire);
        generated.asks.push(ask);

        let status = STATUSES[random.below(STATUSES.len())];
        let (mut fields, mut wire) = (headers(random), Vec::new());
        let mut answer = Vec::new();
        for _ in 0..random.below(6) / 4 {
            answer.extend(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        }
        let empty = method == "HEAD" || status == 204 || status == 304;
        let mut length = body(random, &mut fields, &mut wire);
        if empty {
            wire.clear();
            length = 0;
            if status == 204 {
                fields.clear();
            }
        }
        answer.extend(format!("HTTP/1.1 {status} Reason\r\n{fields}\r\n").into_bytes());
        answer.extend(wire);
        generated.answers.push(answer);
        generated.written.push(Written {
            method,
            path,
            body: sent,
            status,
            answer: length,
        });
    }
    generated
}

/// What the shard sees.
fn ours(steps: &[Step]) -> Vec<Written> {
    play(steps).iter().map(of).collect()
}

fn of(seen: &Seen) -> Written {
    assert_eq!(seen.outcome, "complete");
    let (path, query) = (
        seen.path().expect("a path"),
        seen.query().unwrap_or_default(),
    );
    Written {
        method: seen.method(),
        path: format!("{path}?{query}"),
        body: seen.request_body().expect("a request's end"),
        status: seen
            .status
            .as_deref()
            .expect("a status")
            .parse()
            .expect("a number"),
        answer: seen.response_body().expect("a response's end"),
    }
}

/// What hyper's server reads: method, path, body.
async fn server(wire: Vec<u8>) -> Vec<(String, String, usize)> {
    let (mut ours, theirs) = tokio::io::duplex(1 << 20);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let service = service_fn(move |request: Request<Incoming>| {
        let log = Arc::clone(&log);
        async move {
            let (head, body) = request.into_parts();
            let length = body
                .collect()
                .await
                .map_or(usize::MAX, |b| b.to_bytes().len());
            let path = head.uri.to_string();
            log.lock()
                .expect("no panic")
                .push((head.method.to_string(), path, length));
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    ours.write_all(&wire).await.expect("room");
    ours.shutdown().await.expect("a pipe");
    let mut builder = hyper::server::conn::http1::Builder::new();
    let builder = builder.half_close(true).pipeline_flush(true);
    let connection = builder.serve_connection(TokioIo::new(theirs), service);
    let mut sink = Vec::new();
    let (_, read) = tokio::join!(connection, ours.read_to_end(&mut sink));
    read.expect("a pipe");
    let seen = seen.lock().expect("no panic");
    seen.clone()
}

/// What hyper's client reads of the answers to requests of these methods: status, body.
async fn client(written: &[Written], answers: &[Vec<u8>]) -> Vec<(u16, usize)> {
    let (mut ours, theirs) = tokio::io::duplex(1 << 20);
    let io = TokioIo::new(theirs);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io)
        .await
        .expect("a pipe");
    let driver = tokio::spawn(connection);
    let mut seen = Vec::new();
    for (written, answer) in written.iter().zip(answers) {
        sender.ready().await.expect("kept alive");
        let request = Request::builder()
            .method(Method::from_bytes(written.method.as_bytes()).expect("a method"))
            .uri("/")
            .header("host", "h")
            .body(Empty::<Bytes>::new())
            .expect("a request");
        let reply = async {
            let mut buffer = vec![0; 4096];
            let n = ours.read(&mut buffer).await.expect("a pipe");
            assert!(buffer[..n].ends_with(b"\r\n\r\n"));
            ours.write_all(answer).await.expect("room");
        };
        let (response, ()) = tokio::join!(sender.send_request(request), reply);
        let response = response.expect("an answer");
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a body");
        seen.push((status, body.to_bytes().len()));
    }
    drop(sender);
    drop(ours);
    let _ = driver.await;
    seen
}

#[tokio::test]
async fn hyper_reads_the_same() {
    let mut random = Random(20_261_121);
    for round in 0..400 {
        let Generated {
            asks,
            answers,
            written,
        } = generate(&mut random);
        let pairs = asks.iter().zip(&answers);
        let turns: Vec<Step> = pairs
            .flat_map(|(ask, answer)| {
                [
                    Step::new(Way::Ask, ask.clone()),
                    Step::new(Way::Answer, answer.clone()),
                ]
            })
            .collect();
        let pipelined = [
            Step::new(Way::Ask, asks.concat()),
            Step::new(Way::Answer, answers.concat()),
        ];
        assert_eq!(ours(&turns), written, "round {round}, in turns");
        assert_eq!(ours(&pipelined), written, "round {round}, pipelined");
        let portions = in_portions(&turns, 1 + random.below(20));
        assert_eq!(ours(&portions), written, "round {round}, in portions");

        let limit = Duration::from_secs(20);
        let theirs = tokio::time::timeout(limit, server(asks.concat()))
            .await
            .expect("an end");
        let requests: Vec<_> = written
            .iter()
            .map(|w| (w.method.clone(), w.path.clone(), w.body))
            .collect();
        assert_eq!(theirs, requests, "round {round}, hyper's server");
        let theirs = tokio::time::timeout(limit, client(&written, &answers))
            .await
            .expect("an end");
        let responses: Vec<_> = written.iter().map(|w| (w.status, w.answer)).collect();
        assert_eq!(theirs, responses, "round {round}, hyper's client");
    }
}

/// Requests with one or two bytes changed: where hyper goes on, the shard reads the same requests,
/// unless it said that readers may disagree.
#[tokio::test]
async fn hyper_reads_the_same_of_what_is_nearly_right() {
    let mut random = Random(42);
    let mut compared = 0;
    for round in 0..1500 {
        let Generated { asks, .. } = generate(&mut random);
        let mut steps = vec![Step::new(Way::Ask, asks.concat())];
        for _ in 0..=random.below(2) {
            dialogue::rot(&mut steps, &mut random);
        }
        let wire = steps[0].bytes().to_vec();
        let ours = play(&steps);
        let limit = Duration::from_secs(20);
        let theirs = tokio::time::timeout(limit, server(wire.clone()))
            .await
            .expect("an end");
        for (ours, (method, path, body)) in ours.iter().zip(&theirs) {
            let Some(length) = ours.request_body() else {
                break;
            };
            if ours.is_faulty() || *body == usize::MAX {
                break;
            }
            let original = ours.method();
            let text = String::from_utf8_lossy(&wire);
            assert_eq!(&original, method, "round {round}: {text:?}");
            assert_eq!(length, *body, "round {round}: {text:?}");
            let path = path.split('?').next().unwrap_or_default();
            assert_eq!(
                ours.path().as_deref(),
                Some(path),
                "round {round}: {text:?}"
            );
            compared += 1;
        }
    }
    assert!(compared > 1000, "{compared}");
}
