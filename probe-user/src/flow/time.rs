// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Time inside the probe.

use std::time::Duration;

/// Nanoseconds in the time base of the source of packets: `CLOCK_MONOTONIC` for live traffic, Unix time
/// for capture files. [`WallOffset`] turns one into Unix time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Time since `earlier`, zero if that lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Unix time minus source time, in nanoseconds; zero for capture files.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct WallOffset(pub i64);

impl WallOffset {
    /// Unix time in nanoseconds.
    #[must_use]
    pub fn unix_ns(self, time: Timestamp) -> u64 {
        time.0.saturating_add_signed(self.0)
    }
}

/// A reading of both clocks.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Moment {
    /// Now, in the time base of the source.
    pub now: Timestamp,
    /// How that becomes Unix time.
    pub wall: WallOffset,
}
