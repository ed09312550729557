// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The clocks of the benches.

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

/// Measures the CPU time of the calling thread: what a step costs, even when others use the CPU too.
#[derive(Clone, Copy, Debug)]
pub struct CpuStopwatch(Duration);

impl CpuStopwatch {
    /// Starts now.
    pub fn start() -> nix::Result<Self> {
        Ok(Self(cpu_time()?))
    }

    /// CPU time since the start.
    pub fn elapsed(&self) -> nix::Result<Duration> {
        Ok(cpu_time()?.saturating_sub(self.0))
    }
}

fn cpu_time() -> nix::Result<Duration> {
    Ok(nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

/// Figures of one kind. Their median is not moved by what else the machine does now and then.
#[derive(Clone, Default, Debug)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds one.
    pub fn add(&mut self, sample: f64) {
        self.0.push(sample);
    }

    /// The one in the middle; 0 when there is none.
    #[must_use]
    pub fn median(&mut self) -> f64 {
        self.0.sort_by(f64::total_cmp);
        self.0.get(self.0.len() / 2).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::Samples;

    #[test]
    fn the_median_ignores_an_outlier() {
        let mut samples = Samples::default();
        assert_eq!(samples.median(), 0.0);
        for sample in [3.0, 1e9, 1.0, 2.0, 4.0] {
            samples.add(sample);
        }
        assert_eq!(samples.median(), 3.0);
    }
}
