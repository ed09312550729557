// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Longer and longer waits between attempts, a little different for each of us.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// Waits that double from `first` to `most`.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
    random: u64,
}

impl Backoff {
    pub(super) fn new(first: Duration, most: Duration) -> Self {
        // Odd, so that the generator below never rests at zero.
        Self { first, most, next: first, random: RandomState::new().build_hasher().finish() | 1 }
    }

    /// The next wait: three to four quarters of what is due, so that probes that lost a collector at one time do not
    /// come back at one time.
    pub(super) fn wait(&mut self) -> Duration {
        let due = self.next;
        self.next = (due * 2).min(self.most);
        // Marsaglia, "Xorshift RNGs", 2003.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let part = u32::try_from(self.random >> 48).unwrap_or(0);
        due * 3 / 4 + due / 4 * part / (1 << 16)
    }

    /// The last attempt went well.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_most_and_begin_anew_after_success() {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        for due in [500u64, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000] {
            let wait = backoff.wait().as_millis();
            assert!((u128::from(due) * 3 / 4..=u128::from(due)).contains(&wait), "{due}: {wait}");
        }
        backoff.reset();
        assert!(backoff.wait() <= Duration::from_millis(500));
    }

    #[test]
    fn two_do_not_wait_alike() {
        let waits = || Backoff::new(Duration::from_secs(1000), Duration::from_secs(1000)).wait();
        assert!((0..8).any(|_| waits() != waits()));
    }
}
