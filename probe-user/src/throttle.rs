// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A brake for lines of the log that a packet or a datagram can trigger.

use std::time::Duration;

use crate::flow::Timestamp;

/// Lets a message through at once, then at most once in an interval, and counts what it held back.
#[derive(Clone, Debug)]
pub struct Throttle {
    interval: Duration,
    last: Option<Timestamp>,
    suppressed: u64,
}

impl Throttle {
    /// A throttle that has let nothing through yet.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self { interval, last: None, suppressed: 0 }
    }

    /// Whether to say it now: `Some` with how often it was held back since it was last said.
    pub fn admit(&mut self, now: Timestamp) -> Option<u64> {
        if self.last.is_some_and(|last| now.since(last) < self.interval) {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_it_at_once_and_then_once_an_interval_with_the_number_held_back() {
        let mut throttle = Throttle::new(Duration::from_secs(60));
        let at = |seconds: u64| Timestamp(seconds * 1_000_000_000);
        assert_eq!(throttle.admit(at(5)), Some(0));
        assert_eq!(throttle.admit(at(5)), None);
        assert_eq!(throttle.admit(at(64)), None);
        assert_eq!(throttle.admit(at(65)), Some(2));
        assert_eq!(throttle.admit(at(124)), None);
        assert_eq!(throttle.admit(at(1000)), Some(1));
    }

    #[test]
    fn survives_a_clock_that_runs_backwards() {
        let mut throttle = Throttle::new(Duration::from_secs(1));
        assert_eq!(throttle.admit(Timestamp(5_000_000_000)), Some(0));
        assert_eq!(throttle.admit(Timestamp(0)), None);
        assert_eq!(throttle.admit(Timestamp(6_000_000_000)), Some(1));
    }

    #[test]
    fn speaks_at_once_and_then_once_a_minute() {
        let mut complaint = Throttle::new(Duration::from_secs(60));
        let at = |seconds| Timestamp(0) + Duration::from_secs(seconds);
        assert_eq!(complaint.admit(at(5)), Some(0));
        assert_eq!(complaint.admit(at(6)), None);
        assert_eq!(complaint.admit(at(64)), None);
        assert_eq!(complaint.admit(at(65)), Some(2));
        assert_eq!(complaint.admit(at(66)), None);
    }
}
