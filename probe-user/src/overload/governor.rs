// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The ladder with its readings. Harvesters report levels to its [`Gauge`] as they meet them, and do what the rung says;
//! its owner asks once for each swap, and at once when a ring is nearly full.

use std::sync::mpsc::Sender;

use super::{
    gauge::Gauge,
    ladder::{Change, Ladder},
    rung::Rung,
};
use crate::flow::Timestamp;

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
    gauge: Gauge,
    status: OverloadStatus,
    /// Where moves are told, to be logged: whoever meters must not wait for a log.
    changes: Sender<Change>,
}

impl Governor {
    /// A governor that tells its moves to `changes`.
    #[must_use]
    pub fn new(ladder: Ladder, changes: Sender<Change>) -> Self {
        Self { gauge: Gauge::new(*ladder.options()), ladder, status: OverloadStatus::default(), changes }
    }

    /// Where levels are reported, and the rung is seen.
    #[must_use]
    pub fn gauge(&self) -> Gauge {
        self.gauge.clone()
    }

    /// Whether to ask at once.
    #[inline]
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.gauge.is_urgent()
    }

    /// Judges all levels noted since the last time; returns the move, if there is one.
    pub fn judge(&mut self, now: Timestamp) -> Option<Change> {
        let change = self.ladder.step(now, self.gauge.take_peaks())?;
        self.status.rung = change.to;
        self.gauge.set_rung(change.to);
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
}
