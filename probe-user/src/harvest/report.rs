// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What telemetry gets to see of harvesters and writers: a copy made once for each swap, when all counts agree.

use std::sync::{Arc, Mutex, PoisonError};

use probe_common::Counters;

use super::Part;
use crate::{
    flow::{EndReason, Totals},
    overload::OverloadStatus,
};

/// Difference between what the writers say they metered in an epoch and what reached a flow table or was
/// counted as lost. Anything but zero is a fault of the probe.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Imbalance {
    /// Packets.
    pub packets: i64,
    /// Octets.
    pub octets: i64,
}

/// Writers of one bank, at the end of a swap.
#[derive(Clone, Default, Debug)]
pub struct RowsReport {
    /// Counters of each row, up to the last flip.
    pub counters: Vec<Counters>,
    /// How full the fullest ring of each row is, 0 to 1.
    pub spill_fill: Vec<f64>,
}

/// All counts at the end of a swap.
#[derive(Clone, Default, Debug)]
pub struct HarvestReport {
    /// Swaps done.
    pub swaps: u64,
    /// The kernel's CPUs; none where no kernel program runs.
    pub cpus: RowsReport,
    /// The workers in user space.
    pub workers: RowsReport,
    /// Packets and octets of the epoch that has begun since, merged already: they were received and
    /// metered too, though the counters do not say so yet.
    pub ahead: Totals,
    /// Flows in the tables.
    pub live: Totals,
    /// Most flows in the tables.
    pub capacity: u64,
    /// Flows created since the start.
    pub created: u64,
    /// Flows expired since the start, in the order of [`EndReason::ALL`].
    pub expired: [u64; EndReason::ALL.len()],
    /// What went into the queues to the exporter.
    pub exported: Totals,
    /// What found its queue full.
    pub queue_full: Totals,
    /// Where the overload ladder stands.
    pub overload: OverloadStatus,
    /// N of "one flow in N is metered" because of an overload; 1 when every flow is.
    pub flow_sampling: u32,
    /// The harvesters, one by one.
    pub parts: Vec<Part>,
    /// Writers against readers.
    pub imbalance: Imbalance,
}

impl HarvestReport {
    /// The kernel's counters over all CPUs.
    #[must_use]
    pub fn kernel(&self) -> Counters {
        self.cpus.counters.iter().fold(Counters::default(), |sum, row| sum.plus(row))
    }

    /// The counters of all writers, and what is ahead of them.
    #[must_use]
    pub fn writers(&self) -> Counters {
        let mut sum = self.workers.counters.iter().fold(self.kernel(), |sum, row| sum.plus(row));
        sum.received_packets += self.ahead.packets;
        sum.metered_packets += self.ahead.packets;
        sum.metered_octets += self.ahead.octets;
        sum
    }

    /// Takes over what the harvesters have counted.
    pub(super) fn sum_up(&mut self, parts: Vec<Part>) {
        let totals = |of: fn(&Part) -> Totals| {
            parts.iter().map(of).fold(Totals::default(), |sum, part| Totals {
                flows: sum.flows + part.flows,
                packets: sum.packets + part.packets,
                octets: sum.octets + part.octets,
            })
        };
        let count = |of: fn(&Part) -> u64| parts.iter().map(of).sum::<u64>();
        self.ahead = totals(|part| part.ahead);
        self.live = totals(|part| part.live);
        self.exported = totals(|part| part.exported);
        self.queue_full = totals(|part| part.queue_full);
        self.capacity = count(|part| part.capacity);
        self.created = count(|part| part.created);
        self.expired = std::array::from_fn(|i| parts.iter().map(|part| part.expired[i]).sum());
        let rings = self.cpus.counters.len();
        let fullest = |row: usize| {
            parts.iter().filter_map(|part| part.spill_fill.get(row).copied()).fold(0.0, f64::max)
        };
        self.cpus.spill_fill = (0..rings).map(fullest).collect();
        self.workers.spill_fill = (rings..rings + self.workers.counters.len()).map(fullest).collect();
        self.parts = parts;
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
