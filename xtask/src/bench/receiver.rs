//! Where the agent's spans go while it is measured: OTLP over HTTP, read and counted, not kept.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// A receiver on a free port of loopback, for as long as this process lives.
pub struct Receiver {
    port: u16,
    spans: Arc<AtomicU64>,
}

impl Receiver {
    /// Starts it.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("bind a receiver")?;
        let port = listener.local_addr()?.port();
        let spans = Arc::new(AtomicU64::new(0));
        let shared = Arc::clone(&spans);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let spans = Arc::clone(&shared);
                // What is not OTLP ends its connection; the spans are missed then.
                thread::spawn(move || serve(stream, &spans).ok());
            }
        });
        Ok(Self { port, spans })
    }

    /// For OTEL_EXPORTER_OTLP_ENDPOINT.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Spans so far.
    pub fn spans(&self) -> u64 {
        self.spans.load(Ordering::Acquire)
    }

    /// Waits for more spans than `before`; None after `limit`.
    pub fn more(&self, before: u64, limit: Duration) -> Option<Instant> {
        let start = Instant::now();
        while self.spans() <= before {
            if start.elapsed() > limit {
                return None;
            }
            thread::sleep(Duration::from_micros(500));
        }
        Some(Instant::now())
    }
}

fn serve(stream: TcpStream, counter: &AtomicU64) -> Result<()> {
    let mut answers = stream.try_clone()?;
    let mut stream = BufReader::with_capacity(64 * 1024, stream);
    let mut body = Vec::new();
    loop {
        let mut length = 0;
        let mut line = String::new();
        loop {
            line.clear();
            if stream.read_line(&mut line)? == 0 {
                return Ok(());
            }
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().context("Content-Length")?;
                }
                _ if line.trim_end().is_empty() => break,
                _ => {}
            }
        }
        body.resize(length, 0);
        stream.read_exact(&mut body)?;
        counter.fetch_add(spans(&body), Ordering::AcqRel);
        answers.write_all(&ANSWER)?;
    }
}

/// All spans were taken.
const ANSWER: [u8; 76] =
    *b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";

/// Spans of an ExportTraceServiceRequest: resource_spans (1) → scope_spans (2) → spans (2).
fn spans(request: &[u8]) -> u64 {
    let scopes = parts(request, 1).flat_map(|resource| parts(resource, 2));
    scopes.map(|scope| parts(scope, 2).count() as u64).sum()
}

/// The length-delimited fields of this number; the rest of a malformed message is left out.
fn parts(mut message: &[u8], number: u64) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        loop {
            let key = varint(&mut message)?;
            let size = match key & 7 {
                0 => {
                    varint(&mut message)?;
                    0
                }
                1 => 8,
                2 => usize::try_from(varint(&mut message)?).ok()?,
                5 => 4,
                _ => return None,
            };
            let (part, rest) = message.split_at_checked(size)?;
            message = rest;
            if key == number << 3 | 2 {
                return Some(part);
            }
        }
    })
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut field = vec![number << 3 | 2, content.len() as u8];
        field.extend(content);
        field
    }

    #[test]
    fn spans_are_counted() {
        // A span with a varint field and a fixed one before its name.
        let span = field(
            2,
            &[
                0x30, 0x81, 0x01, 0x39, 1, 2, 3, 4, 5, 6, 7, 8, 0x2a, 1, b'a',
            ],
        );
        let scope = field(2, &[field(1, b""), span.clone(), span].concat());
        let one = field(1, &[field(1, b"resource"), scope.clone(), scope].concat());
        assert_eq!(spans(&[one.clone(), one].concat()), 8);
        assert_eq!(spans(b""), 0);
        assert_eq!(spans(b"\xff\xff"), 0);
    }

    #[test]
    fn requests_are_answered_and_counted() {
        let receiver = Receiver::start().expect("a port");
        let mut stream = TcpStream::connect(("127.0.0.1", receiver.port)).expect("it listens");
        let body = field(1, &field(2, &field(2, b"")));
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        for _ in 0..2 {
            stream
                .write_all(&[head.as_bytes(), &body].concat())
                .expect("sent");
            let mut answer = [0; ANSWER.len()];
            stream.read_exact(&mut answer).expect("answered");
            assert_eq!(answer, ANSWER);
        }
        assert!(receiver.more(1, Duration::from_secs(5)).is_some());
        assert_eq!(receiver.spans(), 2);
    }
}
