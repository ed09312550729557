// SPDX-License-Identifier: Apache-2.0 OR MIT
//! When flows reach their active timeout, so that those that began together do not all leave together.
//!
//! ```text
//! plain      first ───────────── active − jitter·h ─→ end          h: 0 to 1, of the flow's keyed hash
//! aligned    first ─→ end        end = grid point + jitter·h, the first one after `first`
//!                                grid points: multiples of the active timeout in Unix time
//! ```
//!
//! Both keep a record within the active timeout, and a flow's `h` never changes, so an aligned flow that goes
//! on has records that meet without a gap.
//!
//! The question is asked for every slot, so there is a quick answer that is never too late:
//! [`ActiveTimer::soonest`]. Only near it the exact one is worked out, with the hash.

use std::time::Duration;

use super::time::{Moment, Timestamp, WallOffset};

/// The most of the active timeout that jitter may take, in percent.
pub const MOST_JITTER: u8 = 50;

/// The two clocks are read one after the other, and Unix time is slewed: the grid follows only when it is off
/// by more than this, which is about a step of the kernel's time of packets.
const TOLERANCE_NS: u64 = 10_000_000;

/// How active timeouts are spread. The default is not at all.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Spread {
    /// Share of the active timeout over which its deadlines lie, in percent; at most [`MOST_JITTER`].
    pub jitter: u8,
    /// Whether records of flows that go on end at multiples of the active timeout in Unix time.
    pub align: bool,
}

/// The active timeout with its spread, in nanoseconds.
#[derive(Clone, Copy)]
pub(super) struct ActiveTimer {
    timeout_ns: u64,
    /// Deadlines lie within this.
    jitter_ns: u64,
    /// So long after its first packet no flow is over; 0 when aligned.
    least_ns: u64,
    align: bool,
    /// What the grid is reckoned with.
    wall: WallOffset,
    /// The grid point that is past, in Unix time.
    grid: u64,
    /// A flow that began from here on is over at `next` at the earliest.
    settled: Timestamp,
    /// The grid point to come.
    next: Timestamp,
}

impl ActiveTimer {
    pub(super) fn new(timeout: Duration, spread: Spread) -> Self {
        let timeout_ns = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        let jitter_ns = timeout_ns / 100 * u64::from(spread.jitter.min(MOST_JITTER));
        Self {
            // A grid needs a distance.
            timeout_ns: timeout_ns.max(u64::from(spread.align)),
            jitter_ns,
            least_ns: if spread.align { 0 } else { timeout_ns - jitter_ns },
            align: spread.align,
            wall: WallOffset::default(),
            grid: 0,
            settled: Timestamp(u64::MAX),
            next: Timestamp(0),
        }
    }

    /// Learns what time it is; to be called before flows are judged. Unix time may step: deadlines follow when
    /// their flows are looked at next.
    #[inline(always)]
    pub(super) fn follow(&mut self, moment: Moment) {
        if self.align && (moment.now >= self.next || moment.wall.0.abs_diff(self.wall.0) > TOLERANCE_NS) {
            self.set_grid(moment);
        }
    }

    #[cold]
    fn set_grid(&mut self, moment: Moment) {
        self.wall = moment.wall;
        let now = moment.wall.unix_ns(moment.now);
        self.grid = now - now % self.timeout_ns;
        self.settled = self.source(self.grid.saturating_add(self.jitter_ns));
        self.next = self.source(self.grid.saturating_add(self.timeout_ns));
    }

    /// A flow that began at `first` is not over before this.
    #[inline(always)]
    pub(super) fn soonest(&self, first: Timestamp) -> Timestamp {
        let aligned = if first >= self.settled { self.next } else { Timestamp(0) };
        Timestamp(first.0.saturating_add(self.least_ns)).max(aligned)
    }

    /// When a flow is over that began at `first`; `hash` is that of its key.
    pub(super) fn deadline(&self, first: Timestamp, hash: u32) -> Timestamp {
        let scaled = (u128::from(self.jitter_ns) * u128::from(hash)) >> 32;
        // Below the jitter, which is 64 bits wide.
        let jitter = u64::try_from(scaled).unwrap_or(self.jitter_ns);
        if !self.align {
            return Timestamp(first.0.saturating_add(self.timeout_ns - jitter));
        }
        let first = self.wall.unix_ns(first);
        // Most began after the grid point that is past; to divide is slow.
        let grid = if first.wrapping_sub(self.grid) < self.timeout_ns {
            self.grid
        } else {
            first - first % self.timeout_ns
        };
        let end = grid.saturating_add(jitter);
        self.source(if end > first { end } else { end.saturating_add(self.timeout_ns) })
    }

    /// Unix time in the time base of the source.
    fn source(&self, unix_ns: u64) -> Timestamp {
        Timestamp(unix_ns.saturating_sub_signed(self.wall.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn timer(timeout: u64, jitter: u8, align: bool, now: u64, wall: i64) -> ActiveTimer {
        let mut timer = ActiveTimer::new(Duration::from_nanos(timeout), Spread { jitter, align });
        timer.follow(Moment { now: Timestamp(now), wall: WallOffset(wall) });
        timer
    }

    #[test]
    fn without_a_spread_every_flow_has_the_whole_timeout() {
        let timer = timer(60 * SECOND, 0, false, 100 * SECOND, 0);
        for hash in [0, 1 << 31, u32::MAX] {
            assert_eq!(timer.deadline(Timestamp(7), hash), Timestamp(60 * SECOND + 7));
        }
        assert_eq!(timer.soonest(Timestamp(7)), Timestamp(60 * SECOND + 7));
    }

    #[test]
    fn jitter_takes_its_share_of_the_timeout_by_the_hash() {
        let timer = timer(100 * SECOND, 20, false, 0, 0);
        assert_eq!(timer.deadline(Timestamp(0), 0), Timestamp(100 * SECOND));
        assert_eq!(timer.deadline(Timestamp(0), 1 << 31), Timestamp(90 * SECOND));
        assert_eq!(timer.soonest(Timestamp(0)), Timestamp(80 * SECOND));
        assert!(timer.deadline(Timestamp(0), u32::MAX) > Timestamp(80 * SECOND));
    }

    #[test]
    fn aligned_records_end_on_the_grid_of_unix_time() {
        // The source's clock began 7 s after a multiple of a minute.
        let timer = timer(60 * SECOND, 0, true, 0, 607 * SECOND.cast_signed());
        assert_eq!(timer.deadline(Timestamp(0), 9), Timestamp(53 * SECOND));
        assert_eq!(timer.deadline(Timestamp(53 * SECOND - 1), 9), Timestamp(53 * SECOND));
        assert_eq!(timer.deadline(Timestamp(53 * SECOND), 9), Timestamp(113 * SECOND));
        assert_eq!(timer.soonest(Timestamp(SECOND)), Timestamp(53 * SECOND));
    }

    #[test]
    fn a_flow_that_begins_within_the_jitter_ends_at_its_own_point_of_it() {
        let timer = timer(100 * SECOND, 50, true, 1000 * SECOND, 0);
        let half = 1 << 31;
        assert_eq!(timer.deadline(Timestamp(1000 * SECOND), half), Timestamp(1025 * SECOND));
        assert_eq!(timer.deadline(Timestamp(1025 * SECOND), half), Timestamp(1125 * SECOND));
        assert_eq!(timer.deadline(Timestamp(980 * SECOND), half), Timestamp(1025 * SECOND));
    }

    #[test]
    fn the_grid_follows_a_step_of_unix_time_and_no_trembling_of_the_clocks() {
        let mut timer = timer(60 * SECOND, 0, true, 0, 600 * SECOND.cast_signed());
        let end = timer.deadline(Timestamp(SECOND), 0);
        let moment = |wall: u64| Moment { now: Timestamp(2 * SECOND), wall: WallOffset(wall.cast_signed()) };
        timer.follow(moment(600 * SECOND + 50_000));
        assert_eq!(timer.deadline(Timestamp(SECOND), 0), end);
        timer.follow(moment(610 * SECOND));
        assert_eq!(timer.deadline(Timestamp(SECOND), 0), Timestamp(50 * SECOND));
    }

    proptest! {
        #[test]
        fn no_record_exceeds_the_timeout_and_the_quick_answer_is_never_late(
            timeout in 1u64..1 << 50,
            jitter in 0u8..=MOST_JITTER,
            align: bool,
            now in 1u64 << 51..1 << 60,
            ago in 0u64..1 << 52,
            wall in 0i64..1 << 60,
            hash: u32,
        ) {
            let timer = timer(timeout, jitter, align, now, wall);
            let first = Timestamp(now.saturating_sub(ago));
            let end = timer.deadline(first, hash);
            prop_assert!(timer.soonest(first) <= end, "{:?} after {end:?}", timer.soonest(first));
            prop_assert!(end > first && end.0 - first.0 <= timeout);
            let share = timeout / 100 * u64::from(jitter);
            if align {
                let unix = end.0.strict_add_signed(wall);
                prop_assert!(unix % timeout <= share);
                // The next record begins where this one ended.
                prop_assert_eq!(timer.deadline(end, hash).0, end.0 + timeout);
            } else {
                prop_assert!(end.0 - first.0 >= timeout - share);
            }
        }

        #[test]
        fn times_at_their_limits_do_no_harm(
            timeout in prop_oneof![Just(0), Just(u64::MAX), any::<u64>()],
            align: bool,
            now: u64,
            first: u64,
            wall in prop_oneof![Just(i64::MIN), Just(i64::MAX), any::<i64>()],
            hash: u32,
        ) {
            let timer = timer(timeout, u8::MAX, align, now, wall);
            timer.deadline(Timestamp(first), hash);
            timer.soonest(Timestamp(first));
        }
    }
}
