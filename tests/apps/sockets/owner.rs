//! Who uses an accepted connection: the process itself, a child made by fork, a worker it is
//! passed to over a unix socket, or the program that this process becomes by exec.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, IntoRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::form::Form;

/// Who it is.
pub enum Owner {
    /// This process, a thread for each connection.
    Own,
    /// A child made after accept.
    Fork,
    /// A worker made before, at the other end of this socket.
    Pass(UnixStream),
    /// What this process becomes.
    Exec,
}

impl Owner {
    /// Tells owner and form apart: `fork`, `pass` and `exec` use read and write.
    pub fn parse(word: &str) -> Result<(Self, Form)> {
        Ok(match word {
            "fork" => (Owner::Fork, Form::Plain),
            "pass" => (Owner::Pass(worker()?), Form::Plain),
            "exec" => (Owner::Exec, Form::Plain),
            form => (Owner::Own, Form::parse(form)?),
        })
    }

    /// Has a connection answered.
    pub fn take(&self, socket: OwnedFd, form: Form) -> Result<()> {
        match self {
            Owner::Own => {
                std::thread::spawn(move || crate::answer(socket, form));
                Ok(())
            }
            Owner::Fork => child(|| crate::answer(socket, form)),
            Owner::Pass(worker) => pass(worker, &socket),
            Owner::Exec => child(|| become_another(&socket)),
        }
    }
}

/// What the program does that a process became by exec: it goes on with an open connection.
pub fn inherit(form: &str, fd: i32) -> Result<()> {
    // SAFETY: the descriptor was left open for this process by the one it was before (`exec`), and
    // nothing else here knows its number.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    crate::answer(socket, Form::parse(form)?)
}

/// Runs something in a child, which then ends.
fn child(what: impl FnOnce() -> Result<()>) -> Result<()> {
    // SAFETY: this process has one thread wherever children are made, so the child may go on as
    // if nothing had happened.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()).context("fork"),
        // SAFETY: ends the child at once, as a forked child should: the parent's buffers are not its.
        0 => unsafe { libc::_exit(i32::from(what().is_err())) },
        _ => Ok(()),
    }
}

fn become_another(socket: &OwnedFd) -> Result<()> {
    let copy = socket.try_clone()?.into_raw_fd();
    // SAFETY: fcntl on a descriptor that was just made, without pointers.
    if unsafe { libc::fcntl(copy, libc::F_SETFD, 0) } == -1 {
        return Err(io::Error::last_os_error()).context("keep the descriptor over exec");
    }
    let error = Command::new(std::env::current_exe()?)
        .args(["inherit", "rw", &copy.to_string()])
        .exec();
    Err(error).context("exec")
}

fn worker() -> Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    child(|| {
        while let Some(socket) = passed(&theirs)? {
            crate::answer(socket, Form::Plain)?;
        }
        Ok(())
    })?;
    Ok(ours)
}

fn pass(worker: &UnixStream, socket: &OwnedFd) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let sockets = [socket.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&sockets));
    sendmsg(
        worker,
        &[IoSlice::new(b"1")],
        &mut control,
        SendFlags::empty(),
    )?;
    Ok(())
}

fn passed(from: &UnixStream) -> Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::empty();
    recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)?;
    let _ = from.as_raw_fd();
    Ok(control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
        _ => None,
    }))
}
