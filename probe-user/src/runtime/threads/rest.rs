// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How long a loop that found nothing to do rests: twice as long each time, up to a limit. An idle probe costs what its
//! threads take to wake up, so the limits are as long as what is behind can wait.

use std::time::Duration;

/// See the module.
pub(super) struct Rest {
    shortest: Duration,
    longest: Duration,
    next: Duration,
}

impl Rest {
    /// Begins with `shortest`.
    pub(super) fn new(shortest: Duration, longest: Duration) -> Self {
        Self { shortest, longest: longest.max(shortest), next: shortest }
    }

    /// There was something to do: the next rest is the shortest.
    pub(super) fn shorten(&mut self) {
        self.next = self.shortest;
    }

    /// How long to rest now.
    pub(super) fn take(&mut self) -> Duration {
        let now = self.next;
        self.next = (now * 2).min(self.longest);
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_to_its_limit_and_begins_anew() {
        let milliseconds = |rest: &mut Rest| (0..4).map(|_| rest.take().as_millis()).collect::<Vec<_>>();
        let mut rest = Rest::new(Duration::from_millis(1), Duration::from_millis(5));
        assert_eq!(milliseconds(&mut rest), [1, 2, 4, 5]);
        rest.shorten();
        assert_eq!(milliseconds(&mut rest), [1, 2, 4, 5]);
        let mut never_below = Rest::new(Duration::from_millis(3), Duration::from_millis(1));
        assert_eq!(milliseconds(&mut never_below), [3; 4]);
    }
}
