// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The clock of the benches.

use std::time::{Duration, Instant};

/// Measures from where it was started.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "a bench measures real time; nothing in the probe does")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Nanoseconds since the start, divided by `items` (at least one).
    #[must_use]
    pub fn ns_per(&self, items: u64) -> f64 {
        self.elapsed().as_secs_f64() * 1e9 / items.max(1) as f64
    }
}
