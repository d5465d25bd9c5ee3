//! The system calls that the standard library has none for.

use std::fs::File;
use std::io::{self, Write as _};
use std::mem::zeroed;
use std::net::TcpStream;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::ptr::null_mut;

use anyhow::{Context as _, Result};

fn done(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// An error by its number's name, as what it is called differs.
pub fn failure(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => "EAGAIN".into(),
        Some(libc::EPIPE) => "EPIPE".into(),
        Some(libc::ECONNRESET) => "ECONNRESET".into(),
        Some(libc::ECONNREFUSED) => "ECONNREFUSED".into(),
        _ => format!("{error}"),
    }
}

/// send.
pub fn send(socket: &TcpStream, bytes: &[u8], flags: i32) -> Result<usize> {
    let (fd, at) = (socket.as_raw_fd(), bytes.as_ptr().cast());
    // SAFETY: the buffer is borrowed for the call; of a zero-copy send it outlives the completion, which
    // is waited for.
    done(unsafe { libc::send(fd, at, bytes.len(), flags) }).context("send")
}

/// recv.
pub fn receive(socket: &TcpStream, into: &mut [u8], flags: i32) -> Result<usize> {
    let (fd, at) = (socket.as_raw_fd(), into.as_mut_ptr().cast());
    // SAFETY: the buffer is ours and as long as said.
    done(unsafe { libc::recv(fd, at, into.len(), flags) }).context("recv")
}

/// setsockopt of an integer.
pub fn option(socket: &TcpStream, level: i32, name: i32, value: i32) -> Result<()> {
    set(socket, level, name, &value)
}

/// Closing sends a reset.
pub fn linger(socket: &TcpStream) -> Result<()> {
    let value = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    set(socket, libc::SOL_SOCKET, libc::SO_LINGER, &value)
}

fn set<T>(socket: &TcpStream, level: i32, name: i32, value: &T) -> Result<()> {
    let size = libc::socklen_t::try_from(size_of::<T>())?;
    let at = (&raw const *value).cast();
    // SAFETY: the value is borrowed for the call and as long as said.
    let set = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, at, size) };
    done(set as isize).context("setsockopt").map(drop)
}

/// An ioctl that tells a number.
pub fn number_of(socket: &TcpStream, request: libc::Ioctl) -> Result<usize> {
    let mut number: i32 = 0;
    // SAFETY: these write an int.
    let told = unsafe { libc::ioctl(socket.as_raw_fd(), request, &raw mut number) };
    done(told as isize).context("ioctl")?;
    Ok(usize::try_from(number)?)
}

/// Whether poll says one of these events within so many milliseconds.
pub fn ready(socket: &TcpStream, events: i16, limit: i32) -> Result<bool> {
    let mut poll = libc::pollfd {
        fd: socket.as_raw_fd(),
        events,
        revents: 0,
    };
    // SAFETY: one descriptor, ours.
    done(unsafe { libc::poll(&raw mut poll, 1, limit) } as isize)?;
    Ok(poll.revents & events == events)
}

/// How many zero-copy sends were completed, once as many were or a second has passed
/// (Documentation/networking/msg_zerocopy.rst: each notice is of a range of sends).
pub fn completions(socket: &TcpStream, sends: usize) -> Result<usize> {
    let mut count = 0;
    let end = std::time::Instant::now() + std::time::Duration::from_secs(1);
    while count < sends && std::time::Instant::now() < end {
        if !ready(socket, libc::POLLERR, 100)? {
            continue;
        }
        let mut control = [0_u64; 32];
        // SAFETY: a structure of integers and pointers, for which zero is none.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        let fd = socket.as_raw_fd();
        // SAFETY: the control buffer is ours and as long as said; there is no other.
        let got = unsafe {
            libc::recvmsg(
                fd,
                &raw mut message,
                libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT,
            )
        };
        if done(got).is_err() {
            continue;
        }
        // SAFETY: the kernel has filled in the message.
        let mut at = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
        while !at.is_null() {
            // SAFETY: the header lies within the control buffer; what an error queue has is this structure.
            let notice: libc::sock_extended_err =
                unsafe { std::ptr::read_unaligned(libc::CMSG_DATA(at).cast()) };
            if notice.ee_origin == ZERO_COPY {
                count += (notice.ee_data - notice.ee_info + 1) as usize;
            }
            // SAFETY: as above.
            at = unsafe { libc::CMSG_NXTHDR(&raw const message, at) };
        }
    }
    Ok(count)
}

/// A file in memory.
pub fn file(bytes: &[u8]) -> Result<File> {
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(c"harm".as_ptr(), libc::MFD_CLOEXEC) };
    done(fd as isize).context("memfd_create")?;
    // SAFETY: the descriptor is new and nobody else's.
    let mut file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    file.write_all(bytes)?;
    Ok(file)
}

/// sendfile of all.
pub fn send_file(from: &File, to: &TcpStream, size: u64) -> Result<()> {
    let mut offset = 0;
    while (offset as u64) < size {
        let left = usize::try_from(size)? - usize::try_from(offset)?;
        // SAFETY: the offset is ours.
        let sent =
            unsafe { libc::sendfile(to.as_raw_fd(), from.as_raw_fd(), &raw mut offset, left) };
        done(sent).context("sendfile")?;
    }
    Ok(())
}

/// splice from a socket, by a pipe, to a file; how much.
pub fn splice_to_file(from: &TcpStream, to: &File, size: u64) -> Result<u64> {
    let (reader, writer) = io::pipe()?;
    let mut moved = 0;
    while moved < size {
        let count = splice(from.as_raw_fd(), writer.as_raw_fd(), size - moved)?;
        if count == 0 {
            break;
        }
        let mut left = count;
        while left > 0 {
            left -= splice(reader.as_raw_fd(), to.as_raw_fd(), left)?;
        }
        moved += count;
    }
    Ok(moved)
}

/// splice from a file, by a pipe, to a socket.
pub fn splice_from_file(mut from: &File, to: &TcpStream, size: u64) -> Result<()> {
    let (reader, writer) = io::pipe()?;
    io::Seek::rewind(&mut from)?;
    let mut left = size;
    while left > 0 {
        let mut count = splice(from.as_raw_fd(), writer.as_raw_fd(), left)?;
        left -= count;
        while count > 0 {
            count -= splice(reader.as_raw_fd(), to.as_raw_fd(), count)?;
        }
    }
    Ok(())
}

fn splice(from: RawFd, to: RawFd, most: u64) -> Result<u64> {
    let most = usize::try_from(most)?.min(64 << 10);
    // SAFETY: no offsets are passed.
    let moved = unsafe { libc::splice(from, null_mut(), to, null_mut(), most, 0) };
    Ok(done(moved).context("splice")? as u64)
}

/// An epoll that has one socket, edge-triggered.
pub struct Edges(OwnedFd);

impl Edges {
    /// For what can be read.
    pub fn of(socket: &TcpStream) -> Result<Self> {
        // SAFETY: no pointers.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        done(fd as isize).context("epoll_create1")?;
        // SAFETY: the descriptor is new and nobody else's.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        let events = (libc::EPOLLIN | libc::EPOLLET) as u32;
        let mut event = libc::epoll_event { events, u64: 0 };
        let (socket, at) = (socket.as_fd().as_raw_fd(), &raw mut event);
        // SAFETY: the event is borrowed for the call.
        let added = unsafe { libc::epoll_ctl(fd, libc::EPOLL_CTL_ADD, socket, at) };
        done(added as isize).context("epoll_ctl")?;
        Ok(Self(epoll))
    }

    /// How many events there are within so many milliseconds.
    pub fn wait(&self, limit: i32) -> Result<usize> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 4];
        // SAFETY: room for four events, ours.
        let count = unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), 4, limit) };
        done(count as isize).context("epoll_wait")
    }
}

/// An interface whose packets are what this file is read and written by (Documentation/networking/tuntap.rst).
pub fn tun(name: &str) -> Result<File> {
    let file = File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .context("/dev/net/tun")?;
    // SAFETY: a structure of integers and bytes.
    let mut request: libc::ifreq = unsafe { zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(15)) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes an ifreq, which outlives the call.
    let made = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    done(made as isize).with_context(|| format!("TUNSETIFF {name}"))?;
    Ok(file)
}

/// SO_EE_ORIGIN_ZEROCOPY (include/uapi/linux/errqueue.h).
const ZERO_COPY: u8 = 5;
