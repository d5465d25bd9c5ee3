//! What the tests do with sockets, and std has not.

use std::io::{self, ErrorKind, Read as _};
use std::mem;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::ptr;

use anyhow::{Context as _, Result, bail, ensure};

use super::PATIENCE;

/// A socket whose calls do not wait: only such are let in.
pub(super) fn socket() -> Result<TcpStream> {
    let flags = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no addresses; the descriptor is new.
    let socket = unsafe { TcpStream::from_raw_fd(done(libc::socket(libc::AF_INET, flags, 0))?) };
    Ok(socket)
}

pub(super) fn connect(socket: &TcpStream, to: SocketAddr) -> Result<()> {
    let SocketAddr::V4(to) = to else {
        bail!("{to} is no address of IPv4");
    };
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: to.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from(*to.ip()).to_be(),
        },
        sin_zero: [0; 8],
    };
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address is as long as is told.
    let begun = unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length) };
    match done(begun) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Waits until a socket is ready.
pub(super) fn wait(socket: &TcpStream, events: i16) -> Result<()> {
    let mut waited = libc::pollfd {
        fd: socket.as_raw_fd(),
        events,
        revents: 0,
    };
    let patience = i32::try_from(PATIENCE.as_millis())?;
    // SAFETY: one entry.
    let ready = unsafe { done(libc::poll(&raw mut waited, 1, patience))? };
    ensure!(ready == 1, "nothing came");
    Ok(())
}

/// Reads just these bytes.
pub(super) fn expect(socket: &mut TcpStream, bytes: &[u8]) -> Result<()> {
    let mut read = vec![0; bytes.len()];
    let mut had = 0;
    while let Some(room) = read.get_mut(had..).filter(|room| !room.is_empty()) {
        match socket.read(room) {
            Ok(0) => bail!("it ended after {had} of {} bytes", bytes.len()),
            Ok(count) => had += count,
            Err(error) => {
                return Err(error).with_context(|| format!("{had} of {} bytes came", bytes.len()));
            }
        }
    }
    let other = read.iter().zip(bytes).position(|(read, byte)| read != byte);
    match other {
        Some(at) => bail!("byte {at} of {} is another", bytes.len()),
        None => Ok(()),
    }
}

pub(super) fn expect_end(socket: &mut TcpStream) -> Result<()> {
    let more = socket.read(&mut [0; 1])?;
    ensure!(more == 0, "more bytes came");
    Ok(())
}

/// FIONREAD.
pub(super) fn readable(socket: &TcpStream) -> Result<i32> {
    let mut count = 0;
    // SAFETY: room for the number.
    unsafe {
        done(libc::ioctl(
            socket.as_raw_fd(),
            libc::FIONREAD,
            &raw mut count,
        ))?
    };
    Ok(count)
}

/// Sends that were completed since, the first and the last (Documentation/networking/msg_zerocopy.rst).
pub(super) fn completion(socket: &TcpStream) -> Result<Option<(u32, u32)>> {
    let mut control = [0u64; 16];
    // SAFETY: plain numbers and null pointers.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_control = control.as_mut_ptr().cast();
    // 128, in a number whose size is the C library's choice.
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: the control buffer is as long as is told, and is read as far as it was filled.
    unsafe {
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        match done(libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) as i32) {
            Err(none) if none.kind() == ErrorKind::WouldBlock => return Ok(None),
            done => done?,
        };
        let first = libc::CMSG_FIRSTHDR(&raw const message);
        ensure!(!first.is_null(), "a completion says nothing");
        let told = libc::CMSG_DATA(first).cast::<libc::sock_extended_err>();
        let told = told.read_unaligned();
        Ok(Some((told.ee_info, told.ee_data)))
    }
}

pub(super) fn option<T: Default>(socket: &TcpStream, level: i32, name: i32) -> Result<T> {
    let mut value = T::default();
    let mut length = size_of::<T>() as libc::socklen_t;
    let fd = socket.as_raw_fd();
    // SAFETY: room for as many bytes as are told.
    unsafe {
        let to = (&raw mut value).cast();
        done(libc::getsockopt(fd, level, name, to, &raw mut length))?;
    }
    Ok(value)
}

pub(super) fn set(socket: &TcpStream, level: i32, name: i32, value: i32) -> Result<()> {
    set_to(socket, level, name, &value)
}

pub(super) fn set_to<T>(socket: &TcpStream, level: i32, name: i32, value: &T) -> Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    let (fd, value) = (socket.as_raw_fd(), ptr::from_ref(value).cast());
    // SAFETY: as many bytes as are told.
    unsafe { done(libc::setsockopt(fd, level, name, value, length))? };
    Ok(())
}

pub(super) fn done(result: i32) -> io::Result<i32> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}
