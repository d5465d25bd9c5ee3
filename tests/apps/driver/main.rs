//! A peer that does what it is told, byte by byte: reads one JSON command per line and answers
//! each with one JSON line. Client and server alike, on blocking sockets, one thread: the order of
//! its calls is the order of the commands. The typed side is `spantap_tests::driver`.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

fn main() -> Result<()> {
    let mut peer = Peer::default();
    say(&json!("ready"))?;
    for line in io::stdin().lock().lines() {
        let command: Vec<Value> = serde_json::from_str(&line?)?;
        let answer = match peer.obey(&command) {
            Ok(answer) => answer,
            Err(error) => json!({ "error": format!("{error:#}") }),
        };
        say(&answer)?;
    }
    Ok(())
}

fn say(answer: &Value) -> Result<()> {
    let mut out = io::stdout().lock();
    match answer {
        Value::String(text) => writeln!(out, "{text}")?,
        other => writeln!(out, "{other}")?,
    }
    Ok(out.flush()?)
}

#[derive(Default)]
struct Peer {
    listeners: BTreeMap<u64, TcpListener>,
    links: BTreeMap<u64, Link>,
    next: u64,
}

/// A connection and what was read of it beyond the last message.
struct Link {
    stream: TcpStream,
    rest: Vec<u8>,
}

impl Peer {
    fn obey(&mut self, command: &[Value]) -> Result<Value> {
        let word = command.first().and_then(Value::as_str).context("no word")?;
        let id = command.get(1).and_then(Value::as_u64).unwrap_or_default();
        let text = command.get(2).and_then(Value::as_str).unwrap_or_default();
        let count = command.get(2).and_then(Value::as_u64).unwrap_or_default();
        match word {
            "open" => self.open(text),
            "listen" => self.listen(text),
            "accept" => self.accept(id),
            "pause" => {
                std::thread::sleep(Duration::from_millis(id));
                Ok(json!({}))
            }
            "close" => {
                self.links.remove(&id).context("no such connection")?;
                Ok(json!({}))
            }
            _ => self.link(id)?.obey(word, text, count),
        }
    }

    fn link(&mut self, id: u64) -> Result<&mut Link> {
        self.links.get_mut(&id).context("no such connection")
    }

    fn open(&mut self, address: &str) -> Result<Value> {
        let address: SocketAddr = address.parse()?;
        let stream = TcpStream::connect(address).with_context(|| format!("connect {address}"))?;
        self.adopt(stream)
    }

    fn listen(&mut self, address: &str) -> Result<Value> {
        let listener = TcpListener::bind(address)?;
        let port = listener.local_addr()?.port();
        self.next += 1;
        self.listeners.insert(self.next, listener);
        Ok(json!({ "id": self.next, "port": port }))
    }

    fn accept(&mut self, id: u64) -> Result<Value> {
        let listener = self.listeners.get(&id).context("no such listener")?;
        let (stream, _) = listener.accept()?;
        self.adopt(stream)
    }

    fn adopt(&mut self, stream: TcpStream) -> Result<Value> {
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.set_nodelay(true)?;
        let port = stream.local_addr()?.port();
        self.next += 1;
        let rest = Vec::new();
        self.links.insert(self.next, Link { stream, rest });
        Ok(json!({ "id": self.next, "port": port }))
    }
}

impl Link {
    fn obey(&mut self, word: &str, text: &str, count: u64) -> Result<Value> {
        match word {
            "send" => self.stream.write_all(text.as_bytes())?,
            "fill" => self.fill(count)?,
            "shut" => self.stream.shutdown(std::net::Shutdown::Write)?,
            "reset" => rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO))?,
            "take" => return self.take(count),
            "until" => return self.until(text),
            "eof" => return self.eof(),
            "read" => return self.response(text),
            other => bail!("{other}: no such command"),
        }
        Ok(json!({}))
    }

    fn fill(&mut self, mut count: u64) -> Result<()> {
        let block = [b'x'; 65536];
        while count > 0 {
            let size = count.min(block.len() as u64);
            self.stream.write_all(&block[..usize::try_from(size)?])?;
            count -= size;
        }
        Ok(())
    }

    /// Reads once more; false at the end.
    fn more(&mut self) -> Result<bool> {
        let mut block = [0; 65536];
        let count = self.stream.read(&mut block).context("read")?;
        self.rest.extend(&block[..count]);
        Ok(count > 0)
    }

    fn take(&mut self, count: u64) -> Result<Value> {
        let count = usize::try_from(count)?;
        while self.rest.len() < count {
            ensure!(
                self.more()?,
                "the peer closed after {} bytes",
                self.rest.len()
            );
        }
        self.rest.drain(..count);
        Ok(json!({ "bytes": count }))
    }

    /// Reads up to and with a marker, and tells what came.
    fn until(&mut self, marker: &str) -> Result<Value> {
        loop {
            if let Some(at) = find(&self.rest, marker.as_bytes()) {
                let taken: Vec<u8> = self.rest.drain(..at + marker.len()).collect();
                return Ok(json!({ "text": String::from_utf8_lossy(&taken) }));
            }
            ensure!(self.more()?, "the peer closed before {marker:?}");
        }
    }

    /// Reads to the end, whichever way it ends.
    fn eof(&mut self) -> Result<Value> {
        let how = loop {
            match self.more() {
                Ok(true) => {}
                Ok(false) => break "eof",
                Err(_) => break "error",
            }
        };
        let bytes = std::mem::take(&mut self.rest).len();
        Ok(json!({ "bytes": bytes, "how": how }))
    }

    /// Reads one final response to a request of that method, interim ones before it included.
    fn response(&mut self, method: &str) -> Result<Value> {
        let mut interim = Vec::new();
        loop {
            let head = self.head()?;
            let status: u16 = head.get(9..12).context("a short head")?.parse()?;
            if (100..200).contains(&status) && status != 101 {
                interim.push(status);
                continue;
            }
            let none = method == "HEAD" || matches!(status, 101 | 204 | 304);
            let (body, wire) = if none { (0, 0) } else { self.body(&head)? };
            let closes = header(&head, "connection")
                .is_some_and(|v| v.eq_ignore_ascii_case("close"))
                || (head.starts_with("HTTP/1.0") && header(&head, "connection").is_none());
            return Ok(
                json!({ "status": status, "body": body, "wire": wire, "close": closes,
                "interim": interim, "head": head }),
            );
        }
    }

    fn head(&mut self) -> Result<String> {
        let answer = self.until("\r\n\r\n")?;
        Ok(answer["text"].as_str().unwrap_or_default().to_string())
    }

    /// Reads a body as its head frames it: (without framing, with framing).
    fn body(&mut self, head: &str) -> Result<(u64, u64)> {
        if header(head, "transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            return self.chunks();
        }
        if let Some(length) = header(head, "content-length") {
            let length = length.parse()?;
            self.take(length)?;
            return Ok((length, length));
        }
        let bytes = self.eof()?["bytes"].as_u64().unwrap_or_default();
        Ok((bytes, bytes))
    }

    fn chunks(&mut self) -> Result<(u64, u64)> {
        let (mut body, mut wire) = (0, 0);
        loop {
            let line = self.until("\r\n")?;
            let line = line["text"].as_str().unwrap_or_default();
            let digits = line.split([';', '\r']).next().unwrap_or_default().trim();
            let size = u64::from_str_radix(digits, 16)?;
            wire += line.len() as u64;
            if size == 0 {
                break;
            }
            self.take(size + 2)?;
            body += size;
            wire += size + 2;
        }
        loop {
            let line = self.until("\r\n")?;
            let line = line["text"].as_str().unwrap_or_default();
            wire += line.len() as u64;
            if line == "\r\n" {
                return Ok((body, wire));
            }
        }
    }
}

fn find(bytes: &[u8], marker: &[u8]) -> Option<usize> {
    bytes
        .windows(marker.len())
        .position(|window| window == marker)
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}
