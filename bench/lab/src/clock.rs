// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The lab's clock: how long processes take, and how long to wait for them.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(10);

/// A running stopwatch.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[expect(clippy::disallowed_methods, reason = "the lab waits for real processes; this is its one clock")]
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Looks at `condition` until it holds (true) or `timeout` has passed (false).
pub fn wait_until(timeout: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let watch = Stopwatch::start();
    loop {
        if condition() {
            return true;
        }
        if watch.elapsed() >= timeout {
            return false;
        }
        sleep(POLL);
    }
}
