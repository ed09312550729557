// SPDX-License-Identifier: Apache-2.0 OR MIT
//! When to tell again what was told before: every so often, at once when asked to, and not all at once.

use std::time::Duration;

use crate::flow::Timestamp;

/// The first round of a domain comes so much after that of the domain before.
const FIRST_STEP: Duration = Duration::from_millis(10);

/// See the module.
#[derive(Debug)]
pub(super) struct Schedule {
    every: Duration,
    /// The first interval is that much shorter, and differs from one schedule to the next, so that they
    /// do not come together for ever after.
    stagger: Duration,
    first: Duration,
    due: Option<Timestamp>,
    /// The next round is the first, or was asked for: all schedules come together.
    together: bool,
    asked: bool,
}

impl Schedule {
    /// The `number`th of many; `domain` counts those that begin together.
    pub(super) fn new(every: Duration, number: u32, domain: u32) -> Self {
        // Multiples of the golden ratio lie evenly between 0 and 1, however many there are.
        let share = f64::from(number.wrapping_mul(0x9e37_79b9)) / f64::from(u32::MAX);
        let stagger = every.mul_f64(share / 2.0);
        Self { every, stagger, first: FIRST_STEP * domain, due: None, together: true, asked: false }
    }

    pub(super) fn ask(&mut self) {
        (self.asked, self.together) = (true, true);
    }

    #[inline]
    pub(super) fn is_due(&mut self, now: Timestamp) -> bool {
        self.asked || now >= *self.due.get_or_insert(now + self.first)
    }

    /// It was done. Where all came together they part again.
    pub(super) fn done(&mut self, now: Timestamp) {
        let wait = if self.together { self.every.saturating_sub(self.stagger) } else { self.every };
        (self.asked, self.together) = (false, false);
        self.due = Some(now + wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_of_many_domains_part_and_keep_their_pace() {
        let every = Duration::from_secs(60);
        let mut schedules: Vec<_> = (0..64).map(|n| Schedule::new(every, n, n)).collect();
        let mut rounds = vec![Vec::new(); 64];
        for ms in 0..600_000u64 {
            let now = Timestamp(1_000_000_000 + ms * 1_000_000);
            let mut burst = 0;
            for (schedule, rounds) in schedules.iter_mut().zip(&mut rounds) {
                if schedule.is_due(now) {
                    schedule.done(now);
                    rounds.push(ms);
                    burst += 1;
                }
            }
            assert!(burst <= 1, "{burst} at {ms} ms");
        }
        for round in rounds {
            assert!((10..=11).contains(&round.len()), "{round:?}");
            assert!(round.windows(2).all(|pair| pair[1] - pair[0] <= 60_000), "{round:?}");
        }
    }
}
