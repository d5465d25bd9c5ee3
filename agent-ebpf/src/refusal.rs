//! Addresses that segments with options do not get to, as somebody on the way throws them away.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;

use crate::maps::REFUSALS;

/// What an address did not take.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Refusal {
    /// When the first was, nanoseconds.
    since: u64,
    /// How many were.
    times: u64,
}

/// Requests that did not get there, after which no option is sent there,
const MANY: u64 = 4;
/// for so long, nanoseconds.
const WHILE: u64 = 600_000_000_000;

/// Whether an address takes none, as far as was seen of late.
#[inline(always)]
pub fn is_known(remote: [u32; 4]) -> bool {
    // SAFETY: no arguments, and plain numbers, read once.
    let (now, refusal) = unsafe { (bpf_ktime_get_ns(), REFUSALS.get(remote)) };
    refusal.is_some_and(|it| it.times >= MANY && now.wrapping_sub(it.since) < WHILE)
}

/// One more did not get there.
#[inline(always)]
pub fn note(remote: [u32; 4]) {
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let mut refusal = Refusal {
        since: now,
        times: 0,
    };
    // SAFETY: plain numbers, read once.
    if let Some(before) = unsafe { REFUSALS.get(remote) }
        && now.wrapping_sub(before.since) < WHILE
    {
        refusal = *before;
    }
    refusal.times += 1;
    let _ = REFUSALS.insert(remote, refusal, 0);
}
