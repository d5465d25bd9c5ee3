//! The two clocks, read together.

use crate::event::Nanos;

/// CLOCK_MONOTONIC in nanoseconds, the kernel side's bpf_ktime_get_ns.
pub fn monotonic() -> Nanos {
    read(libc::CLOCK_MONOTONIC)
}

/// Both clocks at nearly one moment: (monotonic, Unix), nanoseconds. The tightest of a few tries.
pub fn pair() -> (Nanos, u64) {
    let tries = (0..5).map(|_| {
        let before = monotonic();
        let unix = read(libc::CLOCK_REALTIME);
        let after = monotonic();
        (after - before, before + (after - before) / 2, unix)
    });
    let best = tries.min_by_key(|&(width, ..)| width);
    best.map_or((0, 0), |(_, monotonic, unix)| (monotonic, unix))
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes only `now`; both clocks exist on every Linux.
    unsafe { libc::clock_gettime(clock, &mut now) };
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}
