//! HTTP/1 by hand, so that what is sent in one write is known, and every byte that comes is kept.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::body;

/// A socket that never blocks, as event loops have them, and a caller that waits for it.
pub struct Waiting(TcpStream);

impl Waiting {
    /// Connects without blocking.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        let begun = rustix::net::connect(&socket, &address);
        let socket = Self(TcpStream::from(socket));
        match begun {
            Ok(()) => {}
            Err(rustix::io::Errno::INPROGRESS) => {
                socket.until(PollFlags::OUT)?;
                if let Some(error) = socket.0.take_error()? {
                    return Err(error).context("connect");
                }
            }
            Err(error) => bail!("connect: {error}"),
        }
        Ok(socket)
    }

    fn until(&self, event: PollFlags) -> io::Result<()> {
        let end = Instant::now() + PATIENCE;
        let slice = Timespec::try_from(Duration::from_secs(1)).map_err(io::Error::other)?;
        loop {
            let mut fds = [PollFd::from_borrowed_fd(self.0.as_fd(), event)];
            if poll(&mut fds, Some(&slice))? > 0 {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}

impl Read for Waiting {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.until(PollFlags::IN)?;
                }
                done => return done,
            }
        }
    }
}

impl Write for Waiting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.until(PollFlags::OUT)?;
                }
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Both ways of a connection.
pub trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

/// One end of a connection, and what came on it and is not read yet.
pub struct Link {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    from: usize,
}

impl Link {
    /// Of a stream that nothing was read of.
    pub fn new(stream: impl Stream + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            buffer: Vec::new(),
            from: 0,
        }
    }

    /// By a socket that never blocks.
    pub fn open(address: SocketAddr) -> Result<Self> {
        Ok(Self::new(Waiting::connect(address)?))
    }

    /// By one that does.
    pub fn open_blocking(address: SocketAddr) -> Result<Self> {
        Ok(Self::new(TcpStream::connect(address)?))
    }

    /// Sends in one write, and in more only if that did not take all.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("send")?;
        self.stream.flush().context("send")
    }

    /// Sends a body.
    pub fn pour(&mut self, size: u64) -> Result<()> {
        let mut at = 0;
        while at < size {
            let piece = body::piece(at, (size - at).min(MOST));
            self.send(piece)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.from..]
    }

    /// Reads more; false at the end.
    fn more(&mut self) -> Result<bool> {
        if self.from > 0 {
            self.buffer.drain(..self.from);
            self.from = 0;
        }
        let old = self.buffer.len();
        self.buffer.resize(old + (256 << 10), 0);
        let read = self.stream.read(&mut self.buffer[old..]);
        let count = *read.as_ref().unwrap_or(&0);
        self.buffer.truncate(old + count);
        read.context("read")?;
        Ok(count > 0)
    }

    /// So many of what comes next.
    pub fn exactly(&mut self, count: usize) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        self.take(count as u64, &mut |bytes| all.extend_from_slice(bytes))?;
        Ok(all)
    }

    /// The same, as it comes.
    pub fn take(&mut self, mut count: u64, see: &mut dyn FnMut(&[u8])) -> Result<()> {
        while count > 0 {
            if self.rest().is_empty() && !self.more()? {
                bail!("ended {count} bytes early");
            }
            let now = self.rest().len().min(usize::try_from(count)?);
            see(&self.rest()[..now]);
            self.from += now;
            count -= now as u64;
        }
        Ok(())
    }

    /// All up to and with `mark`; nothing at the end of the stream.
    pub fn until(&mut self, mark: &[u8]) -> Result<Option<Vec<u8>>> {
        loop {
            let found = self
                .rest()
                .windows(mark.len())
                .position(|window| window == mark);
            if let Some(at) = found {
                return self.exactly(at + mark.len()).map(Some);
            }
            ensure!(self.rest().len() < 1 << 20, "1 MiB without {mark:?}");
            if !self.more()? {
                ensure!(self.rest().is_empty(), "ended in the midst of a line");
                return Ok(None);
            }
        }
    }

    /// A message's head, up to its blank line.
    pub fn head(&mut self) -> Result<Option<String>> {
        let head = self.until(b"\r\n\r\n")?;
        Ok(head.map(|head| String::from_utf8_lossy(&head).into_owned()))
    }

    /// A message's body: to `raw` as it is on the wire, to `data` without what chunks it.
    pub fn body(
        &mut self,
        head: &str,
        raw: &mut dyn FnMut(&[u8]),
        data: &mut dyn FnMut(&[u8]),
    ) -> Result<()> {
        if field(head, "transfer-encoding").is_none() {
            let length = field(head, "content-length").map_or(Ok(0), str::parse)?;
            return self.take(length, &mut |bytes| {
                raw(bytes);
                data(bytes);
            });
        }
        loop {
            let line = self.until(b"\r\n")?.context("ended before a chunk")?;
            raw(&line);
            let line = String::from_utf8_lossy(&line);
            let size = u64::from_str_radix(line.trim(), 16).with_context(|| format!("{line:?}"))?;
            self.take(size, &mut |bytes| {
                raw(bytes);
                data(bytes);
            })?;
            if size > 0 {
                raw(&self.exactly(2)?);
                continue;
            }
            // Trailers, and the blank line.
            loop {
                let line = self.until(b"\r\n")?.context("ended in trailers")?;
                raw(&line);
                if line == b"\r\n" {
                    return Ok(());
                }
            }
        }
    }
}

/// A header's value.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let found = lines.find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.trim())
}

/// The longest that nothing comes before it is called a failure.
const PATIENCE: Duration = Duration::from_secs(60);
/// Sent by one write, of large bodies.
const MOST: u64 = 1 << 20;
