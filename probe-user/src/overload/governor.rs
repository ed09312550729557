// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The ladder with its readings, and what follows from it for the flow table. Its owner reports levels as it meets
//! them, asks once for each harvest (and at once when a ring is nearly full), and does what the rung says.

use std::sync::mpsc::Sender;

use super::{
    ladder::{Change, Ladder},
    pressure::Pressure,
    rung::Rung,
};
use crate::flow::{ExpiryOptions, Timestamp};

/// Of the table, exported early in one harvest at most.
const EARLY_SHARE: u64 = 8;
/// Early exports go down to this part of the table's low mark: at the mark itself the calm would not begin.
const EARLY_GOAL: f64 = 0.95;

/// What telemetry gets to see.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct OverloadStatus {
    /// Where the ladder stands.
    pub rung: Rung,
    /// Moves up since the start.
    pub ups: u64,
    /// Moves down since the start.
    pub downs: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Governor {
    ladder: Ladder,
    /// The highest levels since it was last asked.
    peak: Pressure,
    status: OverloadStatus,
    /// Where moves are told, to be logged: whoever meters must not wait for a log.
    changes: Sender<Change>,
}

impl Governor {
    /// A governor that tells its moves to `changes`.
    #[must_use]
    pub fn new(ladder: Ladder, changes: Sender<Change>) -> Self {
        Self { ladder, peak: Pressure::default(), status: OverloadStatus::default(), changes }
    }

    /// Notes levels between two questions: rings and queue fill and empty within milliseconds.
    #[inline]
    pub fn note(&mut self, pressure: &Pressure) {
        self.peak.raise(pressure);
    }

    /// Whether to ask at once.
    #[inline]
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.peak.ring >= self.ladder.options().urgent_ring
    }

    /// Judges all levels noted since the last time; returns the move, if there is one.
    pub fn judge(&mut self, now: Timestamp) -> Option<Change> {
        let change = self.ladder.step(now, std::mem::take(&mut self.peak))?;
        self.status.rung = change.to;
        if change.is_up() {
            self.status.ups += 1;
        } else {
            self.status.downs += 1;
        }
        // Without a listener there is no log; the metrics tell all the same.
        self.changes.send(change).ok();
        Some(change)
    }

    /// What there is to tell.
    #[must_use]
    pub fn status(&self) -> OverloadStatus {
        self.status
    }

    /// When flows end on this rung, where `configured` is what was asked for.
    #[must_use]
    pub fn expiry(&self, configured: ExpiryOptions) -> ExpiryOptions {
        ExpiryOptions { idle: self.status.rung.idle(configured.idle), ..configured }
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
        if !self.status.rung.exports_early() {
            return 0;
        }
        let goal = (capacity as f64 * self.ladder.options().low.table * EARLY_GOAL) as u64;
        live.saturating_sub(goal).min((capacity / EARLY_SHARE).max(1)).min(room)
    }
}
