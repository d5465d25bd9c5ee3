//! The messages of one sendmmsg or recvmmsg, which the socket path sees one by one: which of them
//! this is. The registers say where the array is, the order says the rest.
//!
//! A call and the next one look alike when a program uses its array again, so the end of a call is
//! found as the kernel finds it (net/socket.c, `__sys_sendmmsg` and `do_recvmmsg`): after the last
//! message, after an error, after a send that was not whole. A receive with a time-out can end
//! after any message: what follows its first one has no known buffer, until something shows where
//! a call begins. Not seen is a call that ends at a message whose header cannot be read.

use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_user};
use core::ffi::c_void;

use crate::arch::{Arguments, NO_SYSCALL, call};
use crate::connection::{Call, Connection};
use crate::iovec::{IOVECS, iovec};
use crate::maps::{BATCHES, Scratch};
use crate::payload;

/// Where a thread is in a sendmmsg or recvmmsg.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Batch {
    connection: u64,
    array: u64,
    /// The message to come.
    index: u32,
    /// Length of the one before.
    length: u32,
    /// Whether the same call goes on with it, as far as is known.
    sure: u64,
}

/// struct mmsghdr: a struct msghdr, and the length of what was moved.
pub const SIZE: u64 = 64;
const LENGTH: u64 = 56;

/// Turns a call for several messages into one for the message that was just moved; into one without
/// a buffer where it is not known which that is.
#[inline(always)]
pub fn pick(connection: &mut Connection, arguments: &mut Arguments, now: &Call) {
    let (number, array, count) = (arguments.number, arguments.value[1], arguments.value[2]);
    if (number != call::SENDMMSG && number != call::RECVMMSG) || arguments.compat {
        return;
    }
    connection.batched = 1;
    let thread = now.pid_tgid as u32;
    let mut index = 0;
    let mut known = true;
    if let Some(batch) = BATCHES.get_ptr(thread) {
        // SAFETY: a map value of this thread, which is here.
        let batch = unsafe { &*batch };
        if batch.connection == connection.id
            && batch.array == array
            && u64::from(batch.index) < count
            && moved(array, batch.index.wrapping_sub(1)) == batch.length
        {
            index = batch.index;
            known = batch.sure != 0;
        }
    }
    let message = array.wrapping_add(u64::from(index) * SIZE);
    let whole = number == call::RECVMMSG || u64::from(now.length) >= room(message, now.way);
    if !whole || u64::from(index) + 1 >= count {
        let _ = BATCHES.remove(thread);
    } else {
        let timed = number == call::RECVMMSG && arguments.value[4] != 0;
        let batch = Batch {
            connection: connection.id,
            array,
            index: index + 1,
            length: now.length,
            sure: u64::from(known && !timed),
        };
        let _ = BATCHES.insert(thread, batch, 0);
    }
    arguments.value[1] = message;
    if !known {
        arguments.number = NO_SYSCALL;
    }
}

/// After a call that moved nothing: whatever comes next is another one's.
#[inline(always)]
pub fn forget(connection: &Connection, pid_tgid: u64) {
    if connection.batched != 0 {
        let _ = BATCHES.remove(pid_tgid as u32);
    }
}

/// What the kernel wrote of a message's length.
#[inline(always)]
pub fn moved(array: u64, index: u32) -> u32 {
    let at = array.wrapping_add(u64::from(index) * SIZE + LENGTH);
    let mut length = 0u32;
    // SAFETY: the helper checks the user address and writes only `length`.
    unsafe {
        let to = core::ptr::addr_of_mut!(length).cast();
        bpf_probe_read_user(to, 4, at as *const c_void)
    };
    length
}

/// Bytes that a message's iovecs hold.
#[inline(always)]
fn room(message: u64, way: u8) -> u64 {
    let Some(scratch) = payload::scratch(way.into()) else {
        return 0;
    };
    let Some([iovecs, count]) = payload::message(message) else {
        return 0;
    };
    scratch.walk.iovecs = iovecs;
    scratch.walk.passed = 0;
    let mut context = core::ptr::from_mut(scratch);
    let context = core::ptr::addr_of_mut!(context);
    // SAFETY: `add` takes what it is given here; the verifier checks its body.
    unsafe {
        let count = count.min(IOVECS) as u32;
        bpf_loop(count, add as *mut c_void, context.cast(), 0);
        (**context).walk.passed
    }
}

/// bpf_loop's callback.
extern "C" fn add(index: u32, context: *mut c_void) -> i64 {
    // SAFETY: the scratch pointer that `room` passed; it outlives the loop.
    let scratch = unsafe { &mut **context.cast::<*mut Scratch>() };
    let Some([_, length]) = iovec(scratch.walk.iovecs, index.into()) else {
        return 1;
    };
    scratch.walk.passed = scratch.walk.passed.wrapping_add(length);
    0
}
