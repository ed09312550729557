// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What telemetry gets to see of the harvester: a copy made once for each swap, when all counts agree.

use std::sync::{Arc, Mutex, PoisonError};

use probe_common::Counters;

use crate::{
    flow::{EndReason, Totals},
    overload::OverloadStatus,
};

/// Difference between what the kernel says it metered in an epoch and what reached the flow table or was
/// counted as lost. Anything but zero is a fault of the probe.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Imbalance {
    /// Packets.
    pub packets: i64,
    /// Octets.
    pub octets: i64,
}

/// The harvester's counts at the end of a swap.
#[derive(Clone, Default, Debug)]
pub struct HarvestReport {
    /// Swaps done.
    pub swaps: u64,
    /// The kernel's counters of each CPU, up to the last flip.
    pub cpus: Vec<Counters>,
    /// How full each CPU's spill ring is, 0 to 1.
    pub spill_fill: Vec<f64>,
    /// Packets and octets of the epoch that has begun since, merged already: they were received and
    /// metered too, though `cpus` does not say so yet.
    pub ahead: Totals,
    /// Flows in the table.
    pub live: Totals,
    /// Most flows in the table.
    pub capacity: u64,
    /// Flows created since the start.
    pub created: u64,
    /// Flows expired since the start, in the order of [`EndReason::ALL`].
    pub expired: [u64; EndReason::ALL.len()],
    /// What went into the queue to the exporter.
    pub exported: Totals,
    /// What found the queue full.
    pub queue_full: Totals,
    /// Where the overload ladder stands.
    pub overload: OverloadStatus,
    /// N of "one flow in N is metered" because of an overload; 1 when every flow is.
    pub flow_sampling: u32,
    /// Kernel against user space.
    pub imbalance: Imbalance,
}

impl HarvestReport {
    /// The kernel's counters over all CPUs, and what is ahead of them.
    #[must_use]
    pub fn kernel(&self) -> Counters {
        let mut sum = self.cpus.iter().fold(Counters::default(), |sum, cpu| sum.plus(cpu));
        sum.received_packets += self.ahead.packets;
        sum.metered_packets += self.ahead.packets;
        sum.metered_octets += self.ahead.octets;
        sum
    }
}

/// A report that one thread writes and others read.
#[derive(Clone, Default, Debug)]
pub struct SharedReport(Arc<Mutex<HarvestReport>>);

impl SharedReport {
    /// The latest report.
    #[must_use]
    pub fn read(&self) -> HarvestReport {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn write(&self, report: &HarvestReport) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone_from(report);
    }
}
