//! Records on their way to user space: the ring of their connection, no wake-up unless the reader
//! sleeps, every refusal counted.

use agent_ebpf::abi::Counter;
use aya_ebpf::bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::generated::bpf_ringbuf_output;
use core::ffi::c_void;

use crate::maps::{RING_0, RING_1, RING_2, RING_3, STATISTICS, WAKE, global};

/// Adds to a counter of this CPU.
#[inline(always)]
pub fn count(counter: Counter, n: u64) {
    if let Some(slot) = STATISTICS.get_ptr_mut(counter as u32) {
        // SAFETY: a slot of this CPU, valid for the program's run.
        unsafe { *slot += n };
    }
}

/// Sends `length` bytes at `record` to the ring of `connection`; `urgent` wakes its reader.
/// False where the ring is full; that is counted here.
///
/// # Safety
/// `record` must point at `length` readable bytes, as the verifier checks.
#[inline(always)]
pub unsafe fn send(connection: u64, record: *const c_void, length: u64, urgent: bool) -> bool {
    let shard = shard(connection);
    let mut flags = BPF_RB_NO_WAKEUP as u64;
    if let Some(wake) = WAKE.get_ptr_mut(shard) {
        // SAFETY: an array slot. A lost race costs one wake-up or one drain interval.
        unsafe {
            if *wake != 0 || urgent {
                *wake = 0;
                flags = BPF_RB_FORCE_WAKEUP as u64;
            }
        }
    }
    // SAFETY: the caller's promise; the map pointers are relocated by the loader.
    let refused = unsafe {
        match shard {
            0 => output(&RING_0, record, length, flags),
            1 => output(&RING_1, record, length, flags),
            2 => output(&RING_2, record, length, flags),
            _ => output(&RING_3, record, length, flags),
        }
    };
    if refused {
        count(Counter::RingFull, 1);
    }
    !refused
}

/// The ring of a connection. Its low bits are a counter, of which the two ends of a local connection take
/// turns: they are mixed (Knuth, The Art of Computer Programming, 6.4), else all clients' ends had one ring.
#[inline(always)]
fn shard(connection: u64) -> u32 {
    (connection.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32 & (global!(SHARDS) - 1) & 3
}

#[inline(always)]
unsafe fn output<M>(ring: &'static M, record: *const c_void, length: u64, flags: u64) -> bool {
    let ring = core::ptr::from_ref(ring).cast_mut().cast();
    // SAFETY: see `send`.
    unsafe { bpf_ringbuf_output(ring, record.cast_mut(), length, flags) != 0 }
}
