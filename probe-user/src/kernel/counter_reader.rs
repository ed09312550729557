// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel's counters.

use probe_common::Counters;

use super::SharedArray;

/// Reader of every CPU's counters.
pub struct CounterReader {
    counters: SharedArray<Counters>,
    cpus: usize,
}

impl CounterReader {
    pub(super) fn new(counters: SharedArray<Counters>, cpus: usize) -> Self {
        Self { counters, cpus }
    }

    /// Number of CPUs.
    #[must_use]
    pub fn cpus(&self) -> usize {
        self.cpus
    }

    /// One CPU's counters of one epoch (0 or 1). They stand still while that epoch is quiet.
    #[must_use]
    pub fn of(&self, cpu: usize, epoch: u32) -> Counters {
        self.counters.read(cpu * 2 + (epoch & 1) as usize)
    }

    /// Counters of one epoch over all CPUs.
    #[must_use]
    pub fn of_epoch(&self, epoch: u32) -> Counters {
        (0..self.cpus).fold(Counters::default(), |sum, cpu| sum.plus(&self.of(cpu, epoch)))
    }
}
