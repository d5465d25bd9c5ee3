//! The kernel's monotonic time as Unix time. The offset between the two is looked at a few times a
//! second, so that a clock that is set does not leave spans behind; what began before that keeps
//! the offset it began with.

use std::sync::{Mutex, PoisonError};

use super::Nanos;

/// Maps CLOCK_MONOTONIC to Unix time.
#[derive(Debug, Default)]
pub struct Clock {
    /// The last offsets, each with the moment it was first seen; the newest first.
    offsets: Mutex<[Offset; KEPT]>,
}

/// How far Unix time is ahead of CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug, Default)]
pub struct Offset {
    since: Nanos,
    ahead: i64,
}

impl Clock {
    /// Takes in a pair of readings made at the same moment, both in nanoseconds. What differs by
    /// less than the clock was set by is the readings' own error, and changes nothing.
    pub fn set(&self, monotonic: Nanos, unix: u64) {
        let ahead = unix.wrapping_sub(monotonic).cast_signed();
        let mut offsets = self.offsets.lock().unwrap_or_else(PoisonError::into_inner);
        let [newest, ..] = &mut *offsets;
        let first = newest.ahead == 0;
        if !first && newest.ahead.abs_diff(ahead) < STEP {
            return;
        }
        offsets.rotate_right(1);
        let [newest, ..] = &mut *offsets;
        *newest = Offset {
            since: if first { 0 } else { monotonic },
            ahead,
        };
    }

    /// The offset for everything that has to do with what began at `begin`: one for a trace, so
    /// that no child begins before its parent and no duration changes.
    pub fn at(&self, begin: Nanos) -> Offset {
        let offsets = self.offsets.lock().unwrap_or_else(PoisonError::into_inner);
        let known = offsets.iter().filter(|offset| offset.ahead != 0);
        let mut oldest = Offset::default();
        for offset in known {
            oldest = *offset;
            if offset.since <= begin {
                break;
            }
        }
        oldest
    }
}

impl Offset {
    /// Unix time in nanoseconds of a monotonic reading.
    pub fn unix(self, monotonic: Nanos) -> u64 {
        monotonic.wrapping_add_signed(self.ahead)
    }
}

/// Offsets remembered: so often a clock may be set while a trace is under way.
const KEPT: usize = 8;
/// Less than this is no setting of a clock, nanoseconds.
const STEP: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const THEN: u64 = 1_700_000_000_000_000_000;

    #[test]
    fn maps_and_keeps_durations() {
        let clock = Clock::default();
        clock.set(1_000, THEN);
        assert_eq!(clock.at(1_500).unix(1_500), THEN + 500);
        assert_eq!(clock.at(500).unix(500), THEN - 500);
    }

    #[test]
    fn what_began_before_a_clock_was_set_keeps_its_offset() {
        let (clock, second) = (Clock::default(), 1_000_000_000);
        clock.set(10 * second, THEN);
        let before = clock.at(11 * second);
        // Back by an hour.
        clock.set(20 * second, THEN - 3600 * second);
        // A parent that began before and a child of it that began after: one offset.
        let begin = clock.at(19 * second);
        assert_eq!(begin.unix(0), before.unix(0));
        assert_eq!(
            clock.at(20 * second).unix(20 * second),
            THEN - 3600 * second
        );
        // Readings are never the same twice.
        clock.set(21 * second, THEN - 3599 * second + 700);
        assert_eq!(
            clock.at(22 * second).unix(20 * second),
            THEN - 3600 * second
        );
    }
}
