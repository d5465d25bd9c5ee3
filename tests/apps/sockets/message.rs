//! Just enough HTTP/1 to know where a message ends.

use anyhow::{Context as _, Result, ensure};

use crate::form::Mover;

/// A connection and what was read of it beyond the last message.
pub struct Link {
    mover: Mover,
    rest: Vec<u8>,
}

/// A request's head, or a response's.
#[derive(Debug, Default)]
pub struct Head {
    /// Method of a request.
    pub method: String,
    /// Target of a request.
    pub path: String,
    /// Status of a response.
    pub status: u16,
    /// Body's length.
    pub length: usize,
    /// Whether it asks to close.
    pub close: bool,
}

impl Link {
    /// Nothing read yet.
    pub fn new(mover: Mover) -> Self {
        let rest = Vec::new();
        Self { mover, rest }
    }

    /// Sends a head and that much of a body.
    pub fn send(&mut self, head: &[u8], body: usize) -> Result<()> {
        self.mover.send(head, body).context("send")
    }

    /// The next head; None where the connection ends between messages.
    pub fn head(&mut self) -> Result<Option<Head>> {
        loop {
            if let Some(at) = self.rest.windows(4).position(|w| w == b"\r\n\r\n") {
                let text: Vec<u8> = self.rest.drain(..at + 4).collect();
                return Ok(Some(parse(&String::from_utf8_lossy(&text))?));
            }
            if !self.more()? {
                ensure!(self.rest.is_empty(), "the peer closed in a head");
                return Ok(None);
            }
        }
    }

    /// Reads the body to that head.
    pub fn body(&mut self, head: &Head) -> Result<usize> {
        let mut left = head.length;
        loop {
            let now = left.min(self.rest.len());
            self.rest.drain(..now);
            left -= now;
            if left == 0 {
                return Ok(head.length);
            }
            left -= self.mover.discard(left)?;
            if left > 0 {
                ensure!(self.more()?, "the peer closed in a body");
            }
        }
    }

    fn more(&mut self) -> Result<bool> {
        let mut block = vec![0; 64 << 10];
        let count = self.mover.receive(&mut block).context("receive")?;
        self.rest.extend_from_slice(&block[..count]);
        Ok(count > 0)
    }
}

fn parse(text: &str) -> Result<Head> {
    let mut lines = text.lines();
    let first = lines.next().context("no first line")?;
    let words: Vec<&str> = first.split(' ').collect();
    let mut head = Head::default();
    match words[..] {
        [version, status, ..] if version.starts_with("HTTP/") => head.status = status.parse()?,
        [method, path, _] => (head.method, head.path) = (method.into(), path.into()),
        _ => anyhow::bail!("no HTTP: {first:?}"),
    }
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        match name.to_ascii_lowercase().as_str() {
            "content-length" => head.length = value.parse()?,
            "connection" => head.close = value == "close",
            _ => {}
        }
    }
    Ok(head)
}
