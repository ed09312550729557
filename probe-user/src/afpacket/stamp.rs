// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Unix time of the kernel → time of the probe.
//!
//! The kernel stamps frames with Unix time, which an administrator or NTP may set while a frame waits in the ring. What
//! cannot be is therefore corrected: a frame did not come after now, nor long before the ring was last seen empty.

use std::time::Duration;

use crate::flow::{Moment, Timestamp};

/// How far the clock of a NIC may be off and still be Unix time: one that runs in TAI is 37 s ahead, one that nobody
/// sets began with the driver.
const CLOCK_ERROR_NS: u64 = 1_000_000_000;

/// Where stamps of one source may lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamps {
    /// How long a frame may wait in the kernel although the ring looks empty.
    hidden: Duration,
    earliest: Timestamp,
}

impl Stamps {
    /// Of a source that is made now.
    pub(super) fn new(now: Timestamp, hidden: Duration) -> Self {
        Self { hidden, earliest: now }
    }

    /// All frames have been taken now, but those that the kernel has not handed over yet.
    pub(super) fn emptied(&mut self, now: Timestamp) {
        let hidden = u64::try_from(self.hidden.as_nanos()).unwrap_or(u64::MAX);
        self.earliest = self.earliest.max(Timestamp(now.0.saturating_sub(hidden)));
    }

    /// When a frame came that the kernel stamped so.
    #[inline]
    pub(super) fn of_kernel(&self, unix_ns: u64, moment: Moment) -> Timestamp {
        Timestamp(monotonic(unix_ns, moment)).max(self.earliest).min(moment.now)
    }

    /// When a frame came that the NIC stamped so, or None: this is not Unix time.
    pub(super) fn of_hardware(&self, unix_ns: u64, moment: Moment) -> Option<Timestamp> {
        let at = monotonic(unix_ns, moment);
        let plausible = self.earliest.0.saturating_sub(CLOCK_ERROR_NS)..=moment.now.0 + CLOCK_ERROR_NS;
        plausible.contains(&at).then(|| self.of_kernel(unix_ns, moment))
    }
}

#[inline]
fn monotonic(unix_ns: u64, moment: Moment) -> u64 {
    unix_ns.saturating_add_signed(moment.wall.0.saturating_neg())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::WallOffset;

    const SECOND: u64 = 1_000_000_000;
    const WALL: i64 = 1_700_000_000_000_000_000;
    const HIDDEN: Duration = Duration::from_millis(40);

    fn moment(now: u64) -> Moment {
        Moment { now: Timestamp(now), wall: WallOffset(WALL) }
    }

    fn unix(at: u64) -> u64 {
        at.saturating_add_signed(WALL)
    }

    #[test]
    fn a_stamp_is_converted_exactly() {
        let mut stamps = Stamps::new(Timestamp(5 * SECOND), HIDDEN);
        stamps.emptied(Timestamp(6 * SECOND));
        let at = 6 * SECOND + 123;
        assert_eq!(stamps.of_kernel(unix(at), moment(7 * SECOND)), Timestamp(at));
        // As long in the kernel as a block may be open.
        let at = 6 * SECOND - 30_000_000;
        assert_eq!(stamps.of_kernel(unix(at), moment(7 * SECOND)), Timestamp(at));
        assert_eq!(stamps.of_hardware(unix(at), moment(7 * SECOND)), Some(Timestamp(at)));
    }

    #[test]
    fn a_clock_that_is_set_moves_no_frame_far() {
        let mut stamps = Stamps::new(Timestamp(SECOND), HIDDEN);
        stamps.emptied(Timestamp(100 * SECOND));
        let now = moment(101 * SECOND);
        for step in [-3600, -1, 1, 3600] {
            let stamp = unix(100 * SECOND + SECOND / 2).saturating_add_signed(step * SECOND.cast_signed());
            let at = stamps.of_kernel(stamp, now);
            assert!(at <= now.now && at >= Timestamp(100 * SECOND - 40_000_000), "{step} s: {at:?}");
        }
        assert_eq!(stamps.of_kernel(0, now), Timestamp(100 * SECOND - 40_000_000));
        assert_eq!(stamps.of_kernel(u64::MAX, now), now.now);
    }

    #[test]
    fn a_nic_that_does_not_count_unix_time_is_not_believed() {
        let stamps = Stamps::new(Timestamp(100 * SECOND), HIDDEN);
        let now = moment(100 * SECOND + 5);
        assert_eq!(stamps.of_hardware(unix(137 * SECOND), now), None);
        assert_eq!(stamps.of_hardware(17 * SECOND, now), None);
        // A little ahead: not in the future all the same.
        assert_eq!(stamps.of_hardware(unix(100 * SECOND + 900), now), Some(now.now));
    }

    #[test]
    fn an_offset_of_any_size_is_taken() {
        let stamps = Stamps::new(Timestamp(0), HIDDEN);
        for wall in [i64::MIN, -1, 0, i64::MAX] {
            let moment = Moment { now: Timestamp(9), wall: WallOffset(wall) };
            assert!(stamps.of_kernel(u64::MAX, moment) <= Timestamp(9));
            assert!(stamps.of_kernel(0, moment) <= Timestamp(9));
        }
    }
}
