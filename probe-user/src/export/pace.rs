// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How fast a collector's backlog leaves: a token bucket over datagrams.
//!
//! With `pps=N` the rate is N. By default it follows the backlog: what waits now leaves within about
//! 200 ms, so that a burst of expiring flows does not overrun the collector's receive buffer, and the rate
//! stays up until nothing waits. That never limits the throughput: while the queues before the exporter
//! fill up, the default holds nothing back.

use std::time::Duration;

use crate::flow::Timestamp;

const AUTO_WINDOW: Duration = Duration::from_millis(200);
const AUTO_MIN_PER_SECOND: u64 = 1000;
/// How much a step that comes late may make up for, as parts of a second.
const FIXED_DEPTH: u64 = 20;
const AUTO_DEPTH: u64 = 5;
/// Credit of one datagram: with rates per second, time in nanoseconds is the unit.
const DATAGRAM: u128 = 1_000_000_000;

/// The rate asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rate {
    /// As the backlog needs.
    Auto,
    /// Datagrams a second.
    Fixed(u32),
    /// As fast as they are taken: connections and files hold back by themselves.
    Free,
}

/// What else weighs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Urgency {
    /// Nothing.
    Normal,
    /// The queues fill up.
    Pressure,
    /// Everything must be gone by then; a fixed rate is exceeded if it must be.
    Flush {
        /// When.
        deadline: Timestamp,
    },
}

/// The bucket.
#[derive(Debug)]
pub struct Pacer {
    rate: Rate,
    auto_per_second: u64,
    credit: u128,
    refilled: Option<Timestamp>,
}

impl Pacer {
    /// A bucket with room for one datagram.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { rate, auto_per_second: AUTO_MIN_PER_SECOND, credit: DATAGRAM, refilled: None }
    }

    /// Whether the rate was asked for.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        matches!(self.rate, Rate::Fixed(_))
    }

    /// How many datagrams may leave now; `backlog` is how many wait, here or before the encoder.
    pub fn allowance(&mut self, now: Timestamp, backlog: u64, urgency: Urgency) -> u64 {
        let elapsed = self.refilled.map_or(Duration::ZERO, |before| now.since(before));
        self.refilled = Some(now);
        let (mut per_second, depth) = match self.rate {
            Rate::Free => return u64::MAX,
            Rate::Fixed(per_second) => (u64::from(per_second), u64::from(per_second) / FIXED_DEPTH),
            Rate::Auto => {
                if urgency == Urgency::Pressure {
                    return u64::MAX;
                }
                let needed = rate_for(backlog, AUTO_WINDOW).max(AUTO_MIN_PER_SECOND);
                self.auto_per_second =
                    if backlog == 0 { AUTO_MIN_PER_SECOND } else { self.auto_per_second.max(needed) };
                (self.auto_per_second, self.auto_per_second / AUTO_DEPTH)
            }
        };
        if let Urgency::Flush { deadline } = urgency {
            if now >= deadline {
                return u64::MAX;
            }
            // Half of the time, so that a stumble of the machine does not cost records.
            per_second = per_second.max(rate_for(backlog, deadline.since(now) / 2));
        }
        let depth = u128::from(depth.max(1)) * DATAGRAM;
        let earned = elapsed.as_nanos().saturating_mul(u128::from(per_second));
        let most = if matches!(urgency, Urgency::Flush { .. }) { u128::MAX } else { depth };
        self.credit = self.credit.saturating_add(earned).min(most);
        u64::try_from(self.credit / DATAGRAM).unwrap_or(u64::MAX)
    }

    /// Takes the credit of `datagrams` that left (or were given up).
    pub fn spend(&mut self, datagrams: u64) {
        self.credit = self.credit.saturating_sub(u128::from(datagrams) * DATAGRAM);
    }
}

fn rate_for(backlog: u64, within: Duration) -> u64 {
    let nanoseconds = within.as_nanos().max(1);
    u64::try_from((u128::from(backlog) * DATAGRAM).div_ceil(nanoseconds)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `backlog` in steps of a millisecond; returns what left in each.
    fn drain(pacer: &mut Pacer, mut backlog: u64, urgency: Urgency, steps: u64) -> Vec<u64> {
        (0..steps)
            .map(|step| {
                let now = Timestamp(0) + Duration::from_millis(step);
                let count = pacer.allowance(now, backlog, urgency).min(backlog);
                pacer.spend(count);
                backlog -= count;
                count
            })
            .collect()
    }

    #[test]
    fn a_fixed_rate_holds_in_every_second() {
        let sent = drain(&mut Pacer::new(Rate::Fixed(500)), u64::MAX / 2, Urgency::Normal, 5000);
        for second in sent.windows(1000) {
            let count: u64 = second.iter().sum();
            assert!((499..=501).contains(&count), "{count}");
        }
        let sent = drain(&mut Pacer::new(Rate::Fixed(3)), 1000, Urgency::Pressure, 3000);
        assert_eq!(sent.iter().sum::<u64>(), 9);
    }

    #[test]
    fn a_late_step_does_not_make_a_burst() {
        let mut pacer = Pacer::new(Rate::Fixed(1000));
        pacer.allowance(Timestamp(0), 10_000, Urgency::Normal);
        assert_eq!(pacer.allowance(Timestamp(0) + Duration::from_secs(10), 10_000, Urgency::Normal), 50);
    }

    #[test]
    fn by_default_a_burst_is_spread_over_a_fifth_of_a_second() {
        let sent = drain(&mut Pacer::new(Rate::Auto), 20_000, Urgency::Normal, 202);
        assert_eq!(sent.iter().sum::<u64>(), 20_000);
        assert!(*sent.iter().max().unwrap() <= 101, "no step sends much more than its share");
    }

    #[test]
    fn by_default_pressure_lifts_the_limit() {
        assert_eq!(Pacer::new(Rate::Auto).allowance(Timestamp(0), 1_000_000, Urgency::Pressure), u64::MAX);
    }

    #[test]
    fn a_flush_ends_in_time_even_at_a_low_fixed_rate() {
        let deadline = Timestamp(0) + Duration::from_millis(3500);
        let sent = drain(&mut Pacer::new(Rate::Fixed(10)), 10_000, Urgency::Flush { deadline }, 3500);
        assert_eq!(sent.iter().sum::<u64>(), 10_000);
        assert!(*sent.iter().max().unwrap() < 100, "and does not burst");
    }
}
