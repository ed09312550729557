// SPDX-License-Identifier: Apache-2.0 OR MIT
//! When a file ends and how it is called: the grid of the wall clock, and Unix time in names.

use std::path::PathBuf;
use std::time::Duration;

use crate::export::{file_stem, write_utc};

const NS_PER_MS: u64 = 1_000_000;
const NS_PER_HOUR: u64 = 3_600_000_000_000;

/// The stretch of time that a file is for. Unix time, nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Interval {
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
}

impl Interval {
    /// The one of the grid that `now_ns` lies in. The grid begins at the Unix epoch, so 5 minutes are those
    /// of the hour.
    pub(super) fn around(now_ns: u64, length: Duration) -> Self {
        let length = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX).max(1);
        let start_ns = now_ns - now_ns % length;
        Self { start_ns, end_ns: start_ns.saturating_add(length) }
    }

    /// Whether a time lies in it; also false when the clock was set back.
    pub(super) fn contains(self, now_ns: u64) -> bool {
        (self.start_ns..self.end_ns).contains(&now_ns)
    }

    /// `flows-20261121T051500Z`, after its start.
    pub(super) fn stem(self) -> String {
        file_stem(self.start_ns)
    }
}

/// An hour since the Unix epoch, UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Hour(pub(super) u64);

impl Hour {
    pub(super) fn of(unix_ns: u64) -> Self {
        Self(unix_ns / NS_PER_HOUR)
    }

    /// `date=2026-11-21/hour=05`: what Hive, Spark, DuckDB and ClickHouse read as two more columns.
    pub(super) fn partition(self) -> PathBuf {
        let text = utc(self.0.saturating_mul(NS_PER_HOUR));
        let (date, time) = text.split_once(' ').unwrap_or((&text, ""));
        PathBuf::from(format!("date={date}")).join(format!("hour={}", time.get(..2).unwrap_or("00")))
    }
}

/// `2026-11-20 23:43:25.123`
fn utc(unix_ns: u64) -> String {
    let mut text = Vec::new();
    // A vector takes everything, and it is ASCII.
    write_utc(&mut text, unix_ns / NS_PER_MS).ok();
    String::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21 05:17:42 UTC, by date(1).
    const NOW: u64 = 1_795_238_262_000_000_000;

    #[test]
    fn names_follow_the_grid_of_the_wall_clock() {
        for (length, stem) in [
            (Duration::from_secs(1), "flows-20261121T051742Z"),
            (Duration::from_secs(300), "flows-20261121T051500Z"),
            (Duration::from_secs(3600), "flows-20261121T050000Z"),
            (Duration::from_secs(86_400), "flows-20261121T000000Z"),
        ] {
            let interval = Interval::around(NOW, length);
            assert_eq!(interval.stem(), stem);
            assert!(interval.contains(NOW) && !interval.contains(interval.end_ns));
            assert!(!interval.contains(interval.start_ns - 1), "a clock that was set back");
            assert_eq!(Interval::around(interval.end_ns, length).start_ns, interval.end_ns);
        }
    }

    #[test]
    fn partitions_are_hours_of_a_day() {
        assert_eq!(Hour::of(NOW).partition(), PathBuf::from("date=2026-11-21/hour=05"));
        assert_eq!(Hour::of(0).partition(), PathBuf::from("date=1970-01-01/hour=00"));
        Hour::of(u64::MAX).partition();
        Interval::around(u64::MAX, Duration::MAX).stem();
    }
}
