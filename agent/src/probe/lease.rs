//! A lease on a file: whoever opens it for writing, or truncates it, waits until the lease is let go of
//! (fcntl(2), F_SETLEASE; at most /proc/sys/fs/lease-break-time, 45 s). A probe in a file for all that will
//! map it needs one: the kernel puts its breakpoints where they were asked for, whatever is there by then.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

/// A lease; dropped, it is gone.
#[derive(Debug)]
pub struct Lease(File);

impl Lease {
    /// Takes one on a file that is open for reading.
    ///
    /// # Errors
    /// Where somebody writes to it, it is another's and CAP_LEASE is missing, or its file system has no
    /// leases.
    pub fn take(file: File) -> io::Result<Self> {
        let fd = file.as_raw_fd();
        // SAFETY: no addresses. Whoever waits is announced by a signal that nobody minds, in place of
        // SIGIO, which ends a process.
        unsafe {
            done(libc::fcntl(fd, F_SETSIG, libc::SIGURG))?;
            done(libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK))?;
        }
        Ok(Self(file))
    }

    /// Whether somebody waits for its end.
    pub fn is_in_the_way(&self) -> bool {
        // SAFETY: no addresses. While somebody waits, this says what it will be (fs/locks.c,
        // `target_leasetype`).
        let kind = unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_GETLEASE) };
        kind != libc::F_RDLCK
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // SAFETY: no addresses. Where it fails it ends with the descriptor.
        unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) };
    }
}

/// include/uapi/asm-generic/fcntl.h
const F_SETSIG: libc::c_int = 10;

fn done(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};
    use std::{fs, thread};

    use super::*;

    #[test]
    fn a_writer_waits_for_its_end() {
        let path = std::env::temp_dir().join(format!("spantap-lease-{}", std::process::id()));
        fs::write(&path, "old").expect("written");
        let lease = Lease::take(File::open(&path).expect("open")).expect("leased");
        assert!(!lease.is_in_the_way());
        assert_eq!(fs::read(&path).expect("read"), b"old");
        let writer = {
            let path = path.clone();
            thread::spawn(move || fs::write(path, "new"))
        };
        let begun = Instant::now();
        while !lease.is_in_the_way() && begun.elapsed() < Duration::from_secs(10) {
            thread::yield_now();
        }
        assert!(lease.is_in_the_way());
        assert_eq!(fs::read(&path).expect("read"), b"old");
        drop(lease);
        writer.join().expect("no panic").expect("written");
        assert_eq!(fs::read(&path).expect("read"), b"new");
        fs::remove_file(path).expect("removed");
    }

    #[test]
    fn a_file_that_is_written_has_none() {
        let path = std::env::temp_dir().join(format!("spantap-no-lease-{}", std::process::id()));
        let _writes = File::create(&path).expect("created");
        assert!(Lease::take(File::open(&path).expect("open")).is_err());
        fs::remove_file(path).expect("removed");
    }
}
