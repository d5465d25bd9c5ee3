//! The ways bytes move. Each is named by the call it makes; partial moves are gone on with by the
//! same call. Bodies are `x` over and over.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::mem::zeroed;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::ptr::null_mut;

use anyhow::{Result, bail};

use io_uring::{IoUring, opcode, types};

/// Which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// read, write.
    Plain,
    /// readv, writev with up to this many buffers.
    Vector(usize),
    /// recvmsg, sendmsg with three buffers.
    Message,
    /// recvmmsg, sendmmsg with four messages.
    Messages,
    /// recvfrom, sendto.
    To,
    /// recv with MSG_PEEK before each recv; send.
    Peek,
    /// Bodies by sendfile.
    Sendfile,
    /// Bodies by splice, in and out.
    Splice,
    /// Everything by io_uring.
    Uring,
    /// Bodies by io_uring.
    UringBody,
    /// Received by io_uring, on the way out of other calls.
    UringAside,
    /// recv with MSG_PEEK, then thrown away with MSG_TRUNC; send.
    Discard,
    /// Non-blocking, with a small send buffer, so that most writes are partial.
    Nonblocking,
    /// Written to by a copy of the descriptor.
    Dup,
    /// Head and body from two threads, read by a third.
    Threads,
}

impl Form {
    /// From its name.
    pub fn parse(word: &str) -> Result<Self> {
        Ok(match word {
            "rw" => Form::Plain,
            "msg" => Form::Message,
            "mmsg" => Form::Messages,
            "sendto" => Form::To,
            "peek" => Form::Peek,
            "sendfile" => Form::Sendfile,
            "splice" => Form::Splice,
            "uring" => Form::Uring,
            "uring-body" => Form::UringBody,
            "uring-aside" => Form::UringAside,
            "discard" => Form::Discard,
            "nonblocking" => Form::Nonblocking,
            "dup" => Form::Dup,
            "threads" => Form::Threads,
            _ => match word
                .strip_prefix("vec-")
                .and_then(|count| count.parse().ok())
            {
                Some(count) => Form::Vector(count),
                None => bail!("{word}: no such form"),
            },
        })
    }
}

/// A socket and the way its bytes move.
pub struct Mover {
    form: Form,
    socket: OwnedFd,
    ring: Option<IoUring>,
    /// Of one call after the other, with what the last one left in it.
    batch: Vec<libc::mmsghdr>,
}

impl Mover {
    /// Prepares the socket.
    pub fn new(form: Form, socket: OwnedFd) -> Result<Self> {
        let ring = match form {
            Form::Uring | Form::UringBody => Some(IoUring::new(8)?),
            Form::UringAside => Some(IoUring::builder().setup_coop_taskrun().build(8)?),
            _ => None,
        };
        if form == Form::Nonblocking {
            rustix::net::sockopt::set_socket_send_buffer_size(&socket, 4096)?;
            rustix::io::ioctl_fionbio(&socket, true)?;
        }
        Ok(Self {
            form,
            socket,
            ring,
            batch: Vec::new(),
        })
    }

    /// Receives once; 0 at the end.
    pub fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let fd = self.socket.as_raw_fd();
        match self.form {
            Form::Vector(count) => readv(fd, into, count),
            Form::Message => recvmsg(fd, into, 3),
            Form::Messages => recvmmsg(fd, into, &mut self.batch),
            Form::To => recvfrom(fd, into, 0),
            Form::Peek => {
                let some = into.len().min(100);
                recvfrom(fd, &mut into[..some], libc::MSG_PEEK)?;
                recvfrom(fd, into, 0)
            }
            Form::Discard => {
                let some = recvfrom(fd, into, libc::MSG_PEEK)?;
                recvfrom(fd, &mut decoy(some), libc::MSG_TRUNC)
            }
            Form::Uring => self.ring_receive(into),
            Form::UringAside => self.ring_receive_aside(into),
            _ => again(fd, libc::POLLIN, || read(fd, into)),
        }
    }

    /// Reads up to that many bytes to nowhere, by the forms that can; the others read none.
    pub fn discard(&mut self, count: usize) -> io::Result<usize> {
        if self.form != Form::Splice {
            return Ok(0);
        }
        let (out, into) = pipe()?;
        let fd = self.socket.as_raw_fd();
        let moved = splice(fd, into.as_raw_fd(), count.min(32 << 10))?;
        let mut left = moved;
        let mut block = vec![0; 32 << 10];
        while left > 0 {
            left -= read(out.as_raw_fd(), &mut block[..left])?;
        }
        Ok(moved)
    }

    /// Sends a head and that much of a body.
    pub fn send(&mut self, head: &[u8], body: usize) -> io::Result<()> {
        let fd = self.socket.as_raw_fd();
        let all = || [head, &b"x".repeat(body)].concat();
        match self.form {
            Form::Vector(count) => parts(&all(), |rest| writev(fd, rest, count)),
            Form::Message => parts(&all(), |rest| sendmsg(fd, rest)),
            Form::Messages => {
                let batch = &mut self.batch;
                parts(&all(), |rest| sendmmsg(fd, rest, batch))
            }
            Form::To | Form::Peek | Form::Discard | Form::UringAside => {
                parts(&all(), |rest| sendto(fd, rest))
            }
            Form::Sendfile => {
                parts(head, |rest| write(fd, rest))?;
                sendfile(fd, body)
            }
            Form::Splice => {
                parts(head, |rest| write(fd, rest))?;
                splice_body(fd, body)
            }
            Form::Uring => parts(&all(), |rest| self.ring_send(rest)),
            Form::UringBody => {
                parts(head, |rest| write(fd, rest))?;
                parts(&b"x".repeat(body), |rest| self.ring_send(rest))
            }
            Form::Dup => {
                let copy = self.socket.try_clone()?;
                parts(&all(), |rest| write(copy.as_raw_fd(), rest))
            }
            Form::Threads => threads(fd, head, body),
            Form::Plain | Form::Nonblocking => {
                parts(&all(), |rest| again(fd, libc::POLLOUT, || write(fd, rest)))
            }
        }
    }

    fn ring_receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = u32::try_from(into.len()).unwrap_or(u32::MAX);
        let entry = opcode::Recv::new(
            types::Fd(self.socket.as_raw_fd()),
            into.as_mut_ptr(),
            length,
        );
        self.submit(&entry.build())
    }

    /// Leaves the receive to the kernel, which does it on the way out of whatever call comes next:
    /// of a file, or of the same socket with nothing to take.
    fn ring_receive_aside(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let fd = self.socket.as_raw_fd();
        let length = u32::try_from(into.len()).unwrap_or(u32::MAX);
        let entry = opcode::Recv::new(types::Fd(fd), into.as_mut_ptr(), length).build();
        let Some(ring) = self.ring.as_mut() else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        // SAFETY: the buffer is borrowed by the caller until its completion is taken below.
        unsafe { ring.submission().push(&entry) }.map_err(io::Error::other)?;
        ring.submit()?;
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let mut lure = decoy(4096);
        for turn in 0u64.. {
            if let Some(done) = ring.completion().next() {
                let done = done.result();
                return usize::try_from(done).map_err(|_| io::Error::from_raw_os_error(-done));
            }
            // None of these moves a byte in or out of the lure.
            match turn % 3 {
                0 => read(null.as_raw_fd(), &mut lure)?,
                1 => write(null.as_raw_fd(), &lure)?,
                _ => recvfrom(fd, &mut lure[..0], libc::MSG_DONTWAIT).unwrap_or(0),
            };
            if turn > 1000 {
                std::thread::sleep(std::time::Duration::from_micros(100));
            }
        }
        unreachable!("the loop ends with a completion")
    }

    fn ring_send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(types::Fd(self.socket.as_raw_fd()), bytes.as_ptr(), length);
        self.submit(&entry.build())
    }

    fn submit(&mut self, entry: &io_uring::squeue::Entry) -> io::Result<usize> {
        let Some(ring) = self.ring.as_mut() else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        // SAFETY: the entry's buffer is borrowed by the caller until its completion is taken below.
        unsafe { ring.submission().push(entry) }.map_err(io::Error::other)?;
        ring.submit_and_wait(1)?;
        let done = ring
            .completion()
            .next()
            .map_or(-libc::EIO, |done| done.result());
        usize::try_from(done).map_err(|_| io::Error::from_raw_os_error(-done))
    }
}

/// Sends all of it, however much each call takes.
fn parts(bytes: &[u8], mut send: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        rest = &rest[send(rest)?..];
    }
    Ok(())
}

/// Calls again once the socket is ready.
fn again(fd: RawFd, events: i16, mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut poll = libc::pollfd {
                    fd,
                    events,
                    revents: 0,
                };
                // SAFETY: one pollfd, alive for the call.
                done(unsafe { libc::poll(&raw mut poll, 1, -1) } as isize)?;
            }
            other => return other,
        }
    }
}

fn threads(fd: RawFd, head: &[u8], body: usize) -> io::Result<()> {
    std::thread::scope(|scope| {
        let first = scope.spawn(|| parts(head, |rest| write(fd, rest)));
        first
            .join()
            .map_err(|_| io::Error::other("a thread panicked"))??;
        let second = scope.spawn(|| parts(&b"x".repeat(body), |rest| write(fd, rest)));
        second
            .join()
            .map_err(|_| io::Error::other("a thread panicked"))?
    })
}

/// A buffer that the bytes of a connection never are in, and that looks as if they were.
fn decoy(size: usize) -> Vec<u8> {
    let mut bytes = b"GET /decoy HTTP/1.1\r\nHost: decoy\r\n\r\n".to_vec();
    bytes.resize(size.max(bytes.len()), b'x');
    bytes
}

fn done(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn read(fd: RawFd, into: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is ours and as long as said.
    done(unsafe { libc::read(fd, into.as_mut_ptr().cast(), into.len()) })
}

fn write(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the buffer is borrowed for the call and as long as said.
    done(unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) })
}

fn recvfrom(fd: RawFd, into: &mut [u8], flags: i32) -> io::Result<usize> {
    let at = into.as_mut_ptr().cast();
    // SAFETY: the buffer is ours and as long as said; no address is asked for.
    done(unsafe { libc::recvfrom(fd, at, into.len(), flags, null_mut(), null_mut()) })
}

fn sendto(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    let at = bytes.as_ptr().cast();
    // SAFETY: the buffer is borrowed for the call; a connected socket needs no address.
    done(unsafe { libc::sendto(fd, at, bytes.len(), 0, std::ptr::null(), 0) })
}

/// A buffer as up to `count` equal pieces. The kernel writes through them only where the caller's
/// buffer was mutable.
fn pieces(at: *mut u8, length: usize, count: usize) -> Vec<libc::iovec> {
    let size = length.div_ceil(count.max(1)).max(1);
    (0..length)
        .step_by(size)
        .map(|offset| libc::iovec {
            // SAFETY: the offset is within the buffer.
            iov_base: unsafe { at.add(offset) }.cast(),
            iov_len: size.min(length - offset),
        })
        .collect()
}

fn readv(fd: RawFd, into: &mut [u8], count: usize) -> io::Result<usize> {
    let list = pieces(into.as_mut_ptr(), into.len(), count);
    // SAFETY: the pieces lie within a buffer that is ours.
    done(unsafe { libc::readv(fd, list.as_ptr(), i32::try_from(list.len()).unwrap_or(0)) })
}

fn writev(fd: RawFd, bytes: &[u8], count: usize) -> io::Result<usize> {
    let list = pieces(bytes.as_ptr().cast_mut(), bytes.len(), count);
    // SAFETY: the pieces lie within a borrowed buffer, which writev only reads.
    done(unsafe { libc::writev(fd, list.as_ptr(), i32::try_from(list.len()).unwrap_or(0)) })
}

fn header(list: &mut [libc::iovec]) -> libc::msghdr {
    // SAFETY: all zero is a msghdr without address and control.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_iov = list.as_mut_ptr();
    header.msg_iovlen = list.len();
    header
}

fn recvmsg(fd: RawFd, into: &mut [u8], count: usize) -> io::Result<usize> {
    let mut list = pieces(into.as_mut_ptr(), into.len(), count);
    let mut header = header(&mut list);
    // SAFETY: header and pieces live for the call, within a buffer that is ours.
    done(unsafe { libc::recvmsg(fd, &raw mut header, 0) })
}

fn sendmsg(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    let mut list = pieces(bytes.as_ptr().cast_mut(), bytes.len(), 3);
    let header = header(&mut list);
    // SAFETY: header and pieces live for the call, within a buffer that sendmsg only reads.
    done(unsafe { libc::sendmsg(fd, &raw const header, 0) })
}

/// Up to four messages of two pieces each, in the array of the call before; its lengths stay.
fn fill(batch: &mut Vec<libc::mmsghdr>, at: *mut u8, length: usize) -> Vec<Vec<libc::iovec>> {
    let quarters = pieces(at, length, 4);
    let mut lists: Vec<Vec<libc::iovec>> = quarters
        .iter()
        .map(|quarter| pieces(quarter.iov_base.cast(), quarter.iov_len, 2))
        .collect();
    batch.reserve_exact(4 - batch.len().min(4));
    let lengths: Vec<u32> = batch.iter().map(|message| message.msg_len).collect();
    batch.clear();
    let lengths = lengths.into_iter().chain(std::iter::repeat(0));
    batch.extend(
        lists
            .iter_mut()
            .zip(lengths)
            .map(|(list, msg_len)| libc::mmsghdr {
                msg_hdr: header(list),
                msg_len,
            }),
    );
    lists
}

/// What the first so many messages moved; they are whole but for the last.
fn moved(headers: &[libc::mmsghdr], count: usize) -> usize {
    headers
        .iter()
        .take(count)
        .map(|header| header.msg_len as usize)
        .sum()
}

/// Receives one or more messages. A stream fills each but the last, so the bytes are together
/// only if they are read one message at a time: the buffer is given as one piece per message and
/// a short message ends the list.
fn recvmmsg(fd: RawFd, into: &mut [u8], headers: &mut Vec<libc::mmsghdr>) -> io::Result<usize> {
    let _lists = fill(headers, into.as_mut_ptr(), into.len().min(4096));
    let most = u32::try_from(headers.len()).unwrap_or(0);
    let flags = libc::MSG_WAITFORONE;
    // SAFETY: headers and pieces live for the call, within a buffer that is ours.
    let count = unsafe { libc::recvmmsg(fd, headers.as_mut_ptr(), most, flags, null_mut()) };
    let count = done(count as isize)?;
    // Close the gaps that short messages left.
    let quarter = into.len().min(4096).div_ceil(4);
    let mut end = 0;
    for (at, header) in headers.iter().take(count).enumerate() {
        let length = header.msg_len as usize;
        into.copy_within(at * quarter..at * quarter + length, end);
        end += length;
    }
    Ok(end)
}

fn sendmmsg(fd: RawFd, bytes: &[u8], headers: &mut Vec<libc::mmsghdr>) -> io::Result<usize> {
    let _lists = fill(headers, bytes.as_ptr().cast_mut(), bytes.len());
    let most = u32::try_from(headers.len()).unwrap_or(0);
    // SAFETY: headers and pieces live for the call, within a buffer that sendmmsg only reads.
    let count = unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), most, 0) };
    Ok(moved(headers, done(count as isize)?))
}

/// A file of that many `x`, at its start.
fn file(size: usize) -> io::Result<File> {
    // SAFETY: the name is a C string; the descriptor is new and owned by the file made of it.
    let fd = unsafe { libc::memfd_create(c"body".as_ptr(), libc::MFD_CLOEXEC) };
    done(fd as isize)?;
    // SAFETY: as above.
    let mut file = unsafe { File::from_raw_fd(fd) };
    file.write_all(&b"x".repeat(size))?;
    file.rewind()?;
    Ok(file)
}

fn sendfile(fd: RawFd, mut size: usize) -> io::Result<()> {
    let file = file(size)?;
    while size > 0 {
        // SAFETY: two open descriptors, and no offset to write to.
        let moved = unsafe { libc::sendfile(fd, file.as_raw_fd(), null_mut(), size) };
        size -= done(moved)?;
    }
    Ok(())
}

fn splice_body(fd: RawFd, mut size: usize) -> io::Result<()> {
    let file = file(size)?;
    let (out, into) = pipe()?;
    while size > 0 {
        let mut inside = splice(file.as_raw_fd(), into.as_raw_fd(), size.min(32 << 10))?;
        size -= inside;
        while inside > 0 {
            inside -= splice(out.as_raw_fd(), fd, inside)?;
        }
    }
    Ok(())
}

fn splice(from: RawFd, to: RawFd, count: usize) -> io::Result<usize> {
    // SAFETY: open descriptors, and no offsets.
    done(unsafe { libc::splice(from, null_mut(), to, null_mut(), count, 0) })
}

/// Reading end, writing end.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (out, into) = io::pipe()?;
    Ok((out.into(), into.into()))
}
