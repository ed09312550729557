// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where every packet went, put together from what the kernel's programs, the workers and the harvesters say.
//!
//! All of it is from the same swap, but for two things that run ahead of it: what harvesters have merged since, and what
//! workers have taken out of their AF_XDP sockets since the kernel's counters stood still. Both were received by then, and
//! are added to what was received.

use probe_common::Counters;

use super::workers::{Tidings, WorkerKind};
use crate::{
    harvest::{HarvestReport, RowsReport},
    meter::SourceDrops,
    telemetry::{AfXdpLedger, OctetLedger, PacketLedger, Reasons},
};

/// See the module.
pub(super) struct Account {
    report: HarvestReport,
    /// What the kernel's programs and the workers of packet sockets have counted.
    direct: Counters,
    /// What the workers of AF_XDP sockets have counted.
    af_xdp: Counters,
    af_xdp_drops: SourceDrops,
    /// Steered fragments that wait for their first, at most.
    held: u64,
}

impl Account {
    /// Of these counts.
    pub(super) fn new(report: HarvestReport, workers: &Tidings) -> Self {
        let rows = |kind| {
            let of_kind = |row: &usize| workers.counts().kind(*row) == kind;
            let RowsReport { counters, .. } = &report.workers;
            (0..counters.len()).filter(of_kind).fold(Counters::default(), |sum, row| sum.plus(&counters[row]))
        };
        let mut direct = report.kernel().plus(&rows(WorkerKind::AfPacket));
        direct.received_packets += report.ahead.packets;
        direct.metered_packets += report.ahead.packets;
        direct.metered_octets += report.ahead.octets;
        let af_xdp = rows(WorkerKind::AfXdp);
        let af_xdp_drops = workers.drops(WorkerKind::AfXdp);
        let held = workers.fragments(WorkerKind::AfXdp).held;
        Self { report, direct, af_xdp, af_xdp_drops, held }
    }

    /// The report it is made of.
    pub(super) fn report(&self) -> &HarvestReport {
        &self.report
    }

    /// What the workers of AF_XDP sockets have counted.
    pub(super) fn af_xdp(&self) -> &Counters {
        &self.af_xdp
    }

    /// All writers together.
    pub(super) fn all(&self) -> Counters {
        self.direct.plus(&self.af_xdp)
    }

    /// Packets, by what became of them.
    pub(super) fn packets(&self) -> PacketLedger {
        let (direct, report) = (&self.direct, &self.report);
        let taken = self.af_xdp.metered_packets
            + self.af_xdp.unmetered_packets()
            + self.af_xdp_drops.rx_dropped
            + self.af_xdp_drops.rx_ring_full;
        let steered = settled(direct.steered_packets, taken, self.held);
        PacketLedger {
            received: (direct.received_packets + steered).saturating_sub(direct.steered_packets),
            metered: direct.metered_packets,
            unmetered: Reasons::unmetered(&direct.outcomes),
            steered,
            af_xdp: AfXdpLedger {
                metered: self.af_xdp.metered_packets,
                unmetered: Reasons::unmetered(&self.af_xdp.outcomes),
                dropped: Reasons::af_xdp_drop(self.af_xdp_drops.rx_dropped, self.af_xdp_drops.rx_ring_full),
            },
            exported: report.exported.packets,
            live: report.live.packets,
            lost: Reasons::lost(self.all().lost_packets, report.queue_full.packets),
        }
    }

    /// Octets, by what became of them.
    pub(super) fn octets(&self) -> OctetLedger {
        let report = &self.report;
        OctetLedger {
            received: self.direct.received_octets,
            metered: self.direct.metered_octets,
            metered_by_af_xdp: self.af_xdp.metered_octets,
            exported: report.exported.octets,
            live: report.live.octets,
            lost: Reasons::lost(self.all().lost_octets, report.queue_full.octets),
        }
    }
}

/// Packets steered as of the moment of `taken`, what workers have accounted for: the kernel's number, unless the workers
/// are ahead of it, or hold fragments back that are not accounted for yet. Any other difference stays to be seen.
fn settled(steered: u64, taken: u64, held: u64) -> u64 {
    if taken >= steered || steered - taken <= held { taken } else { steered }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_not_explained_away() {
        assert_eq!(settled(10, 10, 0), 10);
        assert_eq!(settled(10, 14, 0), 14, "the workers are ahead");
        assert_eq!(settled(10, 7, 3), 7, "three fragments are held back");
        assert_eq!(settled(10, 7, 2), 10, "one packet is missing");
    }
}
