//! How much of a call is copied whatever the budget: apart from the programs, so that it can be tested.

/// Bytes that are copied of every call,
pub const ALWAYS: u32 = 1024;
/// past so many of them behind a turn's budget,
pub const HEADS: u32 = 1024 * ALWAYS;
/// and of long ones behind that,
pub const IN_BULK: u32 = 64;
/// which are no shorter than this.
pub const LONG: u32 = 4096;

/// Bytes to copy at least of a call of `length` bytes (less than 2³¹), where `left` (less than 2³¹) of a
/// turn's budget and of [`HEADS`] are left. Without a branch, which verifiers would walk twice behind it.
#[inline(always)]
pub const fn least(left: u32, length: u32) -> u32 {
    // The highest bit is set where nothing is left, and where the call is long.
    let bulk = (left.wrapping_sub(1) & (LONG - 1).wrapping_sub(length)) >> 31;
    ALWAYS - bulk * (ALWAYS - IN_BULK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_calls_behind_all_budgets_are_bulk() {
        const MOST: u32 = (1 << 24) + HEADS;
        for (left, length, expected) in [
            (0, LONG, IN_BULK),
            (0, i32::MAX as u32, IN_BULK),
            (0, LONG - 1, ALWAYS),
            (0, 0, ALWAYS),
            (1, LONG, ALWAYS),
            (MOST, LONG, ALWAYS),
            (MOST, i32::MAX as u32, ALWAYS),
        ] {
            assert_eq!(least(left, length), expected, "{left} {length}");
        }
    }
}
