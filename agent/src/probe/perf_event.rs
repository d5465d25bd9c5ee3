//! A uprobe as a perf event that is never enabled. Its program runs all the same: that a place is
//! probed, and in whose memory, hangs on the event being open (trace_uprobe.c, uprobe_perf_open and
//! __uprobe_perf_func). An enabled event of a process would be taken off and put on a CPU by the
//! scheduler at every switch to and from its threads, and a program with OpenSSL has over twenty.

use std::ffi::CString;
use std::fs;
use std::io::{Error, Result};
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// struct perf_event_attr as far as its version 1 goes (include/uapi/linux/perf_event.h).
#[repr(C)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sampling: [u64; 3],
    flags: u64,
    wakeup: u32,
    breakpoint: u32,
    path: u64,
    offset: u64,
}

const SIZE: usize = size_of::<Attributes>();
const _: () = assert!(SIZE == 72);
/// `flags`: it begins disabled, and nothing here enables it.
const DISABLED: u64 = 1;

/// Has a program run wherever a process passes this offset of a file, or whoever does.
///
/// # Errors
/// What the kernel says: the file or the process is gone, or a right is missing.
pub fn uprobe(
    path: &Path,
    offset: u64,
    process: Option<NonZeroU32>,
    program: BorrowedFd<'_>,
) -> Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attributes = Attributes {
        kind: kind()?,
        size: SIZE as u32,
        config: 0,
        sampling: [0; 3],
        flags: DISABLED,
        wakeup: 0,
        breakpoint: 0,
        path: path.as_ptr() as u64,
        offset,
    };
    // A process on any CPU; all processes on one, which the program does not mind.
    let (process, cpu) = match process {
        Some(process) => (process.get().cast_signed(), -1),
        None => (-1, 0),
    };
    // SAFETY: attributes and path live until the call returns; the kernel copies both.
    let opened = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            process,
            cpu,
            -1,
            CLOSE_ON_EXEC,
        )
    };
    let event = match i32::try_from(opened) {
        // SAFETY: the call made this descriptor, and nobody else knows it.
        Ok(opened) if opened >= 0 => unsafe { OwnedFd::from_raw_fd(opened) },
        _ => return Err(Error::last_os_error()),
    };
    // SAFETY: the argument is a number.
    match unsafe { libc::ioctl(event.as_raw_fd(), SET_BPF, program.as_raw_fd()) } {
        0 => Ok(event),
        _ => Err(Error::last_os_error()),
    }
}

/// PERF_FLAG_FD_CLOEXEC.
const CLOSE_ON_EXEC: libc::c_ulong = 8;
/// PERF_EVENT_IOC_SET_BPF: `_IOW('$', 8, __u32)`.
const SET_BPF: libc::Ioctl = 0x4004_2408;

/// The number of the kernel's perf unit for uprobes.
fn kind() -> Result<u32> {
    let text = fs::read_to_string("/sys/bus/event_source/devices/uprobe/type")?;
    text.trim().parse().map_err(Error::other)
}
