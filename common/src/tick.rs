// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Time as a slot keeps it.

/// Time in units of 2^14 ns (16 µs) of `CLOCK_MONOTONIC`, modulo 2^32 units (19.5 hours).
///
/// The kernel program derives it from jiffies, whose own step is 1/HZ (1 to 10 ms); a shift is all it
/// takes to store it. A slot reaches user space within seconds, so the wrap is never ambiguous.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Tick(u32);

const SHIFT: u32 = 14;

impl Tick {
    /// The tick of a time in nanoseconds.
    #[inline(always)]
    #[must_use]
    pub fn from_ns(ns: u64) -> Self {
        Self((ns >> SHIFT) as u32)
    }

    /// The time in nanoseconds (start of the tick), as the last one not after `now_ns` + half the range.
    #[inline(always)]
    #[must_use]
    pub fn to_ns(self, now_ns: u64) -> u64 {
        let now = now_ns >> SHIFT;
        // How far back, as a signed distance: a slot may be a little younger than `now`.
        let back = i64::from((now as u32).wrapping_sub(self.0) as i32);
        now.saturating_add_signed(-back) << SHIFT
    }

    /// Whether this tick comes before `other` (within half the range).
    #[inline(always)]
    #[must_use]
    pub fn is_before(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_unambiguous_across_its_wrap() {
        let wrap = 1u64 << 46;
        for ns in [0, 1 << 14, wrap - (1 << 14), wrap, wrap + (5 << 14)] {
            for ahead in [0, 1 << 14, 60_000_000_000] {
                assert_eq!(Tick::from_ns(ns).to_ns(ns + ahead), ns);
            }
        }
        assert_eq!(Tick::from_ns(wrap + (1 << 14)).to_ns(wrap - (1 << 14)), wrap + (1 << 14));
    }
}
