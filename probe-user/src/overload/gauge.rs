// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the governor shares with those who meet the levels: they report them here, and see here on which rung the
//! ladder stands.

use std::sync::{
    Arc,
    atomic::{AtomicU8, AtomicU64, Ordering},
};

use super::{ladder::LadderOptions, pressure::Pressure, rung::Rung};
use crate::flow::ExpiryOptions;

/// Of the table, exported early in one harvest at most.
const EARLY_SHARE: u64 = 8;
/// Early exports go down to this part of the table's low mark: at the mark itself the calm would not begin.
const EARLY_GOAL: f64 = 0.95;

#[derive(Debug)]
struct Shared {
    /// The highest ring, table and queue since they were taken: bits of floats that are not negative, which are in the
    /// order of the floats.
    peaks: [AtomicU64; 3],
    rung: AtomicU8,
    options: LadderOptions,
}

/// See the module. Any number of threads may use it.
#[derive(Clone, Debug)]
pub struct Gauge(Arc<Shared>);

impl Gauge {
    pub(super) fn new(options: LadderOptions) -> Self {
        Self(Arc::new(Shared { peaks: Default::default(), rung: AtomicU8::new(0), options }))
    }

    /// Notes levels: rings and queues fill and empty within milliseconds, so the highest counts.
    #[inline]
    pub fn note(&self, pressure: &Pressure) {
        let levels = [pressure.ring, pressure.table, pressure.queue];
        for (peak, level) in self.0.peaks.iter().zip(levels) {
            // Written only when it is higher, which is seldom.
            if level > f64::from_bits(peak.load(Ordering::Relaxed)) {
                peak.fetch_max(level.to_bits(), Ordering::Relaxed);
            }
        }
    }

    /// Whether the governor is to judge at once.
    #[inline]
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        f64::from_bits(self.0.peaks[0].load(Ordering::Relaxed)) >= self.0.options.urgent_ring
    }

    pub(super) fn take_peaks(&self) -> Pressure {
        let [ring, table, queue] =
            [0, 1, 2].map(|i| f64::from_bits(self.0.peaks[i].swap(0, Ordering::Relaxed)));
        Pressure { ring, table, queue }
    }

    pub(super) fn set_rung(&self, rung: Rung) {
        self.0.rung.store(rung.number(), Ordering::Relaxed);
    }

    /// Where the ladder stands.
    #[inline]
    #[must_use]
    pub fn rung(&self) -> Rung {
        Rung::of_number(self.0.rung.load(Ordering::Relaxed))
    }

    /// When flows end on this rung, where `configured` is what was asked for.
    #[must_use]
    pub fn expiry(&self, configured: ExpiryOptions) -> ExpiryOptions {
        ExpiryOptions { idle: self.rung().idle(configured.idle), ..configured }
    }

    /// How many flows to export early now, of `live` flows in a table for `capacity`: down to below the low mark,
    /// a share of the table at a time, and no more than `room` records, lest they be lost in the queue.
    #[must_use]
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a mark is a ratio; flows are far below 2^52"
    )]
    pub fn early_exports(&self, live: u64, capacity: u64, room: u64) -> u64 {
        if !self.rung().exports_early() {
            return 0;
        }
        let goal = (capacity as f64 * self.0.options.low.table * EARLY_GOAL) as u64;
        live.saturating_sub(goal).min((capacity / EARLY_SHARE).max(1)).min(room)
    }
}
