//! Over real sockets of this machine.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use super::*;

struct Patient(AtomicBool);

impl Health for Patient {
    fn alive(&self) -> Verdict {
        Ok("alive".into())
    }

    fn ready(&self) -> Verdict {
        match self.0.load(Ordering::Relaxed) {
            true => Ok("ready".into()),
            false => Err("not ready: no room".into()),
        }
    }
}

fn served() -> (SocketAddr, Arc<Stats>, Arc<Patient>) {
    let listener = listen(([127, 0, 0, 1], 0).into()).expect("a port");
    let address = listener.local_addr().expect("it has one");
    let (stats, patient) = (Arc::default(), Arc::new(Patient(AtomicBool::new(true))));
    let health = Arc::clone(&patient);
    start(listener, health, &stats, &Handle::current()).expect("it starts");
    (address, stats, patient)
}

/// All that comes back, until the connection is closed.
async fn send(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    // It may have answered and gone before it has all.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn get(address: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    send(address, request.as_bytes()).await
}

#[tokio::test]
async fn each_path_says_what_it_is_for() {
    let (address, _, patient) = served();
    for (path, status, body) in [
        ("/healthz", "200 OK", "\r\n\r\nalive\n"),
        ("/readyz?verbose", "200 OK", "\r\n\r\nready\n"),
        ("/metrics", "200 OK", "\nspantap_ready 1\n"),
        ("/", "404 Not Found", "/metrics  "),
        ("/healthz/", "404 Not Found", "/readyz  "),
    ] {
        let answer = get(address, path).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{answer}"
        );
        assert!(answer.contains(body), "{path}: {answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
    }
    patient.0.store(false, Ordering::Relaxed);
    let answer = get(address, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nnot ready: no room\n"), "{answer}");
    let metrics = get(address, "/metrics").await;
    assert!(metrics.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    assert!(metrics.contains("\nspantap_ready 0\n"));
}

#[tokio::test]
async fn only_questions_are_answered() {
    let (address, ..) = served();
    let head = send(address, b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(
        head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    assert!(head.contains("content-length: 6\r\n"), "{head}");
    for request in ["POST /healthz", "DELETE /", "OPTIONS *"] {
        let request = format!("{request} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
        let answer = send(address, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 405 "), "{request}: {answer}");
        assert!(answer.contains("allow: GET, HEAD\r\n"), "{answer}");
    }
    // What a probe in HTTP/1.0 sends, and two requests of which one is answered.
    let old = send(address, b"GET /healthz HTTP/1.0\r\n\r\n").await;
    assert!(old.contains(" 200 OK\r\n"), "{old}");
    let two = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2);
    let answer = send(address, two.as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 1, "{answer}");
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    let (address, stats, _) = served();
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000));
    let fat = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(100_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(1000));
    let requests: [&[u8]; 6] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        long.as_bytes(),
        fat.as_bytes(),
        many.as_bytes(),
    ];
    for bytes in requests {
        let answer = send(address, bytes).await;
        // Where more was sent than is read, the kernel resets.
        let refused = answer.starts_with("HTTP/1.1 4") || answer.is_empty();
        assert!(refused, "{answer}");
    }
    assert!(get(address, "/healthz").await.contains(" 200 OK"));
    assert_eq!(stats.serve_cut.get(), 0);
}

#[tokio::test]
async fn those_who_only_connect_keep_nobody_out() {
    let (address, stats, _) = served();
    let mut idle = Vec::new();
    for _ in 0..3 * CONNECTIONS {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let _ = stream.write_all(b"GET /healthz HTT").await;
        idle.push(stream);
    }
    let began = Instant::now();
    assert!(get(address, "/healthz").await.contains(" 200 OK"));
    assert!(began.elapsed() < LONGEST / 2);
    let most = 2 * CONNECTIONS as u64 + 1;
    assert!(
        (most - 1..=most).contains(&stats.serve_cut.get()),
        "{stats:?}"
    );
    // The first of them was ended, the last waits for the rest of its request.
    let (mut first, mut last) = (idle.remove(0), idle.pop().expect("there are more"));
    assert!(!matches!(first.read(&mut [0; 16]).await, Ok(1..)));
    last.write_all(b"P/1.1\r\nHost: x\r\n\r\n")
        .await
        .expect("it is open");
    let mut answer = String::new();
    last.read_to_string(&mut answer).await.expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_waited_for_for_long() {
    let (client, server) = pair().await;
    let asked = Asked {
        health: Arc::new(Patient(AtomicBool::new(true))),
        stats: Arc::default(),
    };
    let stats = Arc::clone(&asked.stats);
    let began = Instant::now();
    converse(server, Arc::new(asked)).await;
    assert!(began.elapsed() >= LONGEST);
    assert_eq!(stats.serve_cut.get(), 1);
    drop(client);
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it has one");
    let client = TcpStream::connect(address).await.expect("it listens");
    let (server, _) = listener.accept().await.expect("it has come");
    (client, server)
}

#[test]
fn a_port_in_use_is_a_fault_of_the_configuration() {
    let taken = listen(([127, 0, 0, 1], 0).into()).expect("a port");
    let address = taken.local_addr().expect("it has one");
    let why = listen(address).expect_err("it is taken");
    assert!(why.downcast_ref::<config::Error>().is_some());
    let text = why.to_string();
    for part in ["serve.listen", &address.to_string(), "in use"] {
        assert!(text.contains(part), "{text}");
    }
}
