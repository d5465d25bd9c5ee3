//! Load: wrk, h2load and a gRPC client, which saturate, and a client of our own that keeps a pace.
//!
//! The paced client is an open loop: each request has its moment, whatever became of the one before
//! it, and its latency counts from that moment, so that a stall is seen by every request that was
//! due meanwhile (what wrk leaves out). Its own lateness is in the figures, with and without agent.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::shell;

/// As many HTTP/1.1 requests as go, one at a time on each connection, in requests.
pub fn wrk(url: &str, connections: u32, seconds: u32) -> Result<f64> {
    let mut command = Command::new("wrk");
    command
        .args(["-t", "1", "-c", &connections.to_string()])
        .args(["-d", &format!("{seconds}s"), url]);
    requests(&shell::read(&mut command)?)
}

/// As many HTTP/2 requests as go, on [`CHANNELS`] connections, in requests.
pub fn h2load(url: &str, at_once: u32, seconds: u32) -> Result<f64> {
    let mut command = Command::new("h2load");
    command
        .args(["-t", "1", "-c", &CHANNELS.to_string()])
        .args(["-m", &(at_once / CHANNELS).max(1).to_string()])
        .args(["-D", &seconds.to_string(), url]);
    succeeded(&shell::read(&mut command)?)
}

/// As many unary calls as go, on [`CHANNELS`] connections, in calls. With an authority the
/// connections are TLS.
pub fn calls(
    program: &Path,
    port: u16,
    authority: Option<&Path>,
    at_once: u32,
    seconds: u32,
) -> Result<f64> {
    let mut command = Command::new(program);
    let numbers = [seconds, CHANNELS, (at_once / CHANNELS).max(1)];
    command.args(["load", &port.to_string()]);
    command
        .args(numbers.map(|number| number.to_string()))
        .args(authority);
    let said = shell::read(&mut command)?;
    let count: f64 = said.trim().parse().context("calls")?;
    match count > 0.0 {
        true => Ok(count),
        false => bail!("no call was answered"),
    }
}

/// Connections of the loads that put several requests on one.
pub const CHANNELS: u32 = 4;

/// `requests: 9 total, 9 started, 9 done, 9 succeeded, 0 failed, 0 errored, 0 timeout`
fn succeeded(said: &str) -> Result<f64> {
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("requests: "));
    let line = line.with_context(|| format!("h2load made no request: {said}"))?;
    let count = |what: &str| {
        let part = line.split(", ").find_map(|part| part.strip_suffix(what));
        part.and_then(|number| number.trim().parse::<f64>().ok())
    };
    match (count("succeeded"), count("failed"), count("errored")) {
        (Some(number), Some(0.0), Some(0.0)) if number > 0.0 => Ok(number),
        _ => bail!("h2load: {line}"),
    }
}

fn requests(said: &str) -> Result<f64> {
    for line in said.lines().map(str::trim) {
        if let Some((number, _)) = line.split_once(" requests in ") {
            let number: f64 = number.parse().context("requests")?;
            if number > 0.0 {
                return Ok(number);
            }
        } else if line.starts_with("Non-2xx") || line.starts_with("Socket errors") {
            bail!("wrk: {line}");
        }
    }
    bail!("wrk made no request: {said}")
}

/// What a paced load saw.
#[derive(Clone, Debug, Default)]
pub struct Paced {
    /// Latencies, microseconds, in order.
    latencies: Vec<f64>,
}

impl Paced {
    /// Requests made.
    pub fn count(&self) -> f64 {
        self.latencies.len() as f64
    }

    /// A latency, milliseconds: that of this share of the requests, or less.
    pub fn quantile(&self, share: f64) -> f64 {
        let at = (self.count() * share).ceil() as usize;
        let value = self.latencies.get(at.saturating_sub(1));
        value.map_or(f64::NAN, |micros| micros / 1000.0)
    }
}

/// A load at a pace.
#[derive(Clone, Copy)]
pub struct Pace<'a> {
    /// Whom to ask.
    pub address: SocketAddr,
    /// For what.
    pub path: &'a str,
    /// Requests per second, of all connections together.
    pub rate: f64,
    /// Connections, a thread each.
    pub connections: u32,
}

impl Pace<'_> {
    /// Requests per second where none waits for its moment.
    pub fn most(&self, time: Duration) -> Result<f64> {
        let stop = AtomicBool::new(false);
        let begun = Instant::now();
        let made = thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(time);
                stop.store(true, Ordering::Relaxed);
            });
            self.run(Duration::MAX, &stop)
        })?;
        Ok(made.count() / begun.elapsed().as_secs_f64())
    }

    /// Keeps it for a time, or until `stop`.
    pub fn run(&self, time: Duration, stop: &AtomicBool) -> Result<Paced> {
        // Else a sleep ends 50 microseconds late; threads inherit it.
        fs::write("/proc/self/timerslack_ns", "1").ok();
        let start = Instant::now() + Duration::from_millis(20);
        let parts: Vec<Result<Vec<f64>>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..self.connections)
                .map(|own| scope.spawn(move || self.connection(own, start, time, stop)))
                .collect();
            let ended = threads.into_iter().map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(anyhow!("a client's thread panicked")))
            });
            ended.collect()
        });
        let mut latencies = Vec::new();
        for part in parts {
            latencies.extend(part?);
        }
        latencies.sort_by(f64::total_cmp);
        Ok(Paced { latencies })
    }

    fn connection(
        &self,
        own: u32,
        start: Instant,
        time: Duration,
        stop: &AtomicBool,
    ) -> Result<Vec<f64>> {
        let mut stream = TcpStream::connect(self.address).context("connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\n\r\n",
            self.path, self.address
        );
        let mut buffer = vec![0; 128 * 1024];
        let mut latencies = Vec::new();
        for turn in 0.. {
            let number = f64::from(own) + f64::from(turn) * f64::from(self.connections);
            let due = Duration::from_secs_f64(number / self.rate);
            if due >= time || stop.load(Ordering::Relaxed) {
                break;
            }
            let due = start + due;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            stream.write_all(request.as_bytes())?;
            response(&mut stream, &mut buffer)?;
            latencies.push(due.elapsed().as_secs_f64() * 1e6);
        }
        Ok(latencies)
    }
}

/// Reads one response, which must be a 200 with a Content-Length.
fn response(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<()> {
    let mut have = 0;
    let whole = loop {
        have += receive(stream, &mut buffer[have..])?;
        let end = buffer[..have]
            .windows(4)
            .position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            break end + 4 + body(&String::from_utf8_lossy(&buffer[..end]))?;
        }
    };
    let mut left = whole
        .checked_sub(have)
        .context("more than the response came")?;
    while left > 0 {
        let room = left.min(buffer.len());
        left -= receive(stream, &mut buffer[..room])?;
    }
    Ok(())
}

fn receive(stream: &mut TcpStream, room: &mut [u8]) -> Result<usize> {
    match stream.read(room).context("read a response")? {
        0 => bail!("the server closed, or its head has no end"),
        count => Ok(count),
    }
}

/// Length of the body that follows a head.
fn body(head: &str) -> Result<usize> {
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        bail!("the server answered {status}");
    }
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find_map(|(name, value)| {
            let ours = name.eq_ignore_ascii_case("content-length");
            ours.then(|| value.trim().parse().ok())?
        });
    length.with_context(|| format!("no Content-Length in {head}"))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn wrk_is_read() {
        assert_eq!(
            requests("  12345 requests in 5.00s, 9MB read\n").ok(),
            Some(12345.0)
        );
        assert!(requests("  Socket errors: connect 1\n").is_err());
        assert!(requests("").is_err());
    }

    #[test]
    fn h2load_is_read() {
        let line =
            "requests: 9 total, 12 started, 9 done, 9 succeeded, 0 failed, 0 errored, 0 timeout";
        assert_eq!(succeeded(&format!("x\n{line}\n")).ok(), Some(9.0));
        assert!(succeeded(&line.replace("0 failed", "1 failed")).is_err());
        assert!(succeeded("").is_err());
    }

    #[test]
    fn quantiles_are_of_all_requests() {
        let paced = Paced {
            latencies: (1..=100).map(|n| f64::from(n) * 1000.0).collect(),
        };
        assert_eq!(paced.quantile(0.5), 50.0);
        assert_eq!(paced.quantile(0.99), 99.0);
        assert!(Paced::default().quantile(0.5).is_nan());
    }

    /// A server that answers one connection, stalling once.
    fn stalling(listener: TcpListener) -> Result<()> {
        let (mut stream, _) = listener.accept()?;
        let mut buffer = [0; 1024];
        let mut count = 0;
        while stream.read(&mut buffer)? > 0 {
            count += 1;
            if count == 10 {
                thread::sleep(Duration::from_millis(100));
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")?;
        }
        Ok(())
    }

    #[test]
    fn a_stall_is_seen_by_all_that_were_due() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let pace = Pace {
            address: listener.local_addr().expect("an address"),
            path: "/",
            rate: 500.0,
            connections: 1,
        };
        let server = thread::spawn(|| stalling(listener));
        let paced = pace
            .run(Duration::from_millis(400), &AtomicBool::new(false))
            .expect("answers");
        assert!(server.join().is_ok_and(|ended| ended.is_ok()));
        assert_eq!(paced.count(), 200.0);
        // 50 requests were due in the stall: a fifth of all waited longer than 10 ms.
        assert!(paced.quantile(0.99) > 80.0);
        assert!(paced.quantile(0.85) > 10.0);
    }

    #[test]
    fn answers_that_cannot_be_right_are_errors() {
        assert_eq!(body("HTTP/1.1 200 OK\r\nContent-length: 7").ok(), Some(7));
        assert!(body("HTTP/1.1 404 Not Found\r\nContent-Length: 7").is_err());
        assert!(body("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked").is_err());
    }
}
