// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The writers' counters.

use std::sync::Arc;

use probe_common::Counters;

use super::SharedArray;

/// Reader of every row's counters.
pub struct CounterReader {
    counters: Arc<SharedArray<Counters>>,
    rows: usize,
}

impl CounterReader {
    pub(super) fn new(counters: Arc<SharedArray<Counters>>, rows: usize) -> Self {
        Self { counters, rows }
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// One row's counters of one epoch (0 or 1). They stand still while that epoch is quiet.
    #[must_use]
    pub fn of(&self, row: usize, epoch: u32) -> Counters {
        self.counters.read(row * 2 + (epoch & 1) as usize)
    }

    /// Counters of one epoch over all rows.
    #[must_use]
    pub fn of_epoch(&self, epoch: u32) -> Counters {
        (0..self.rows).fold(Counters::default(), |sum, row| sum.plus(&self.of(row, epoch)))
    }
}
