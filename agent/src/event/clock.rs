//! The kernel's monotonic time as Unix time. The offset is taken anew once a second, so that a
//! clock that is set does not leave spans behind; it never moves a duration.

use std::sync::atomic::{AtomicI64, Ordering};

use super::Nanos;

/// Maps CLOCK_MONOTONIC to Unix time.
#[derive(Debug, Default)]
pub struct Clock {
    offset: AtomicI64,
}

impl Clock {
    /// Takes in a pair of readings made at the same moment, both in nanoseconds.
    pub fn set(&self, monotonic: Nanos, unix: u64) {
        self.offset.store(
            unix.wrapping_sub(monotonic).cast_signed(),
            Ordering::Relaxed,
        );
    }

    /// Unix time in nanoseconds of a monotonic reading.
    pub fn unix(&self, monotonic: Nanos) -> u64 {
        monotonic.wrapping_add_signed(self.offset.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_and_keeps_durations() {
        let clock = Clock::default();
        clock.set(1_000, 1_700_000_000_000_000_000);
        assert_eq!(clock.unix(1_500), 1_700_000_000_000_000_500);
        assert_eq!(clock.unix(500), 1_699_999_999_999_999_500);
    }
}
