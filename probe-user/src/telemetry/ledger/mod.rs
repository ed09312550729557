// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The ledger: where every packet went, and whether the sums agree.
//!
//! ```text
//! received                    = metered + unmetered{reason} + steered
//! steered                     = metered_by_af_xdp + unmetered_by_af_xdp{reason} + af_xdp_drop{reason}
//! metered + metered_by_af_xdp = exported + live + lost{reason}              packets and octets
//! offered                     = records + dropped{reason} + not_representable{reason}    for each collector
//! ```
//!
//! Steered are the packets that the kernel program hands to an AF_XDP socket for the probe's user space to meter: those that
//! it cannot meter by itself, or all of an interface with `--engine af_xdp`. What a packet socket
//! (`--engine af_packet`) gets is received, metered and unmetered like what the kernel program meters.

mod file;
#[cfg(test)]
mod tests;
mod text;

use std::{io, path::Path};

use probe_common::Outcome;
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{error::ProbeError, flow::EndReason};

/// Reason of packets lost because a CPU's spill ring was full.
pub const SPILL_RING_FULL: &str = "spill_ring_full";
/// Reason of packets lost because the queue to the exporter was full.
pub const QUEUE_FULL: &str = "queue_full";
/// Reason of steered packets for which the AF_XDP socket had no free frame, or that fit in none (`rx_dropped` of
/// `struct xdp_statistics`, include/uapi/linux/if_xdp.h).
pub const RX_DROPPED: &str = "rx_dropped";
/// Reason of steered packets that found the AF_XDP socket's receive ring full (`rx_ring_full` there).
pub const RX_RING_FULL: &str = "rx_ring_full";
/// Reason of packets of a capture file whose link type is not read.
pub const UNSUPPORTED_LINK_TYPE: &str = "unsupported_link_type";

/// Counts by reason, in a fixed order; as JSON an object. A reason stands there also at zero.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Reasons(Vec<(&'static str, u64)>);

impl Reasons {
    /// Counts as given.
    #[must_use]
    pub fn new(counts: &[(&'static str, u64)]) -> Self {
        let mut reasons = Self::default();
        counts.iter().for_each(|(reason, count)| reasons.add(reason, *count));
        reasons
    }

    /// Why packets were not metered, in the order of [`Outcome::ALL`].
    #[must_use]
    pub fn unmetered(counts: &[u64; Outcome::ALL.len()]) -> Self {
        Self(Outcome::ALL.iter().zip(counts).map(|(outcome, count)| (outcome.name(), *count)).collect())
    }

    /// What was lost after it was metered.
    #[must_use]
    pub fn lost(spill_ring_full: u64, queue_full: u64) -> Self {
        Self(vec![(SPILL_RING_FULL, spill_ring_full), (QUEUE_FULL, queue_full)])
    }

    /// What an AF_XDP socket did not take.
    #[must_use]
    pub fn af_xdp_drop(rx_dropped: u64, rx_ring_full: u64) -> Self {
        Self(vec![(RX_DROPPED, rx_dropped), (RX_RING_FULL, rx_ring_full)])
    }

    /// Why flows ended, in the order of [`EndReason::ALL`].
    #[must_use]
    pub fn expired(counts: &[u64; EndReason::ALL.len()]) -> Self {
        Self(EndReason::ALL.iter().zip(counts).map(|(reason, count)| (reason.name(), *count)).collect())
    }

    /// Adds to a reason, which is added to the list if it is new.
    pub fn add(&mut self, reason: &'static str, count: u64) {
        match self.0.iter_mut().find(|(name, _)| *name == reason) {
            Some((_, sum)) => *sum += count,
            None => self.0.push((reason, count)),
        }
    }

    /// The count of a reason.
    #[must_use]
    pub fn get(&self, reason: &str) -> u64 {
        self.iter().find(|(name, _)| *name == reason).map_or(0, |(_, count)| count)
    }

    /// All reasons together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.iter().map(|(_, count)| count).sum()
    }

    /// Reasons and counts in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.iter().copied()
    }
}

impl Serialize for Reasons {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (reason, count) in self.iter() {
            map.serialize_entry(reason, &count)?;
        }
        map.end()
    }
}

/// Packets, by what became of them.
#[derive(Serialize, Clone, Default, PartialEq, Eq, Debug)]
pub struct PacketLedger {
    /// Entered the probe.
    pub received: u64,
    /// Counted in a flow by the kernel program, or from a packet socket.
    pub metered: u64,
    /// Not counted in a flow.
    pub unmetered: Reasons,
    /// Handed to AF_XDP sockets.
    pub steered: u64,
    /// What became of those.
    #[serde(flatten)]
    pub af_xdp: AfXdpLedger,
    /// In records that reached the exporter.
    pub exported: u64,
    /// In flows that have not been exported.
    pub live: u64,
    /// Metered, and lost before the exporter.
    pub lost: Reasons,
}

/// Steered packets, by what became of them.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub struct AfXdpLedger {
    /// Counted in a flow.
    #[serde(rename = "metered_by_af_xdp")]
    pub metered: u64,
    /// Not counted in a flow.
    #[serde(rename = "unmetered_by_af_xdp")]
    pub unmetered: Reasons,
    /// Lost between the kernel program and the probe.
    #[serde(rename = "af_xdp_drop")]
    pub dropped: Reasons,
}

impl Default for AfXdpLedger {
    /// Nothing was steered; all reasons are there.
    fn default() -> Self {
        Self {
            metered: 0,
            unmetered: Reasons::unmetered(&[0; Outcome::ALL.len()]),
            dropped: Reasons::af_xdp_drop(0, 0),
        }
    }
}

impl PacketLedger {
    /// Packets missing from, or too many in, the sums. Zero, or something is wrong.
    #[must_use]
    pub fn imbalance(&self) -> u64 {
        let AfXdpLedger { metered, unmetered, dropped } = &self.af_xdp;
        self.received.abs_diff(self.metered + self.unmetered.total() + self.steered)
            + self.steered.abs_diff(metered + unmetered.total() + dropped.total())
            + (self.metered + metered).abs_diff(self.exported + self.live + self.lost.total())
    }
}

/// Octets of the metered packets, by what became of them.
#[derive(Serialize, Clone, Default, PartialEq, Eq, Debug)]
pub struct OctetLedger {
    /// Octets of all frames received, Ethernet header included: not the sum of anything else here.
    pub received: u64,
    /// Octets of IP packets counted in a flow by the kernel program, or from a packet socket.
    pub metered: u64,
    /// Octets of steered IP packets counted in a flow.
    pub metered_by_af_xdp: u64,
    /// In records that reached the exporter.
    pub exported: u64,
    /// In flows that have not been exported.
    pub live: u64,
    /// Metered, and lost before the exporter.
    pub lost: Reasons,
}

/// Flows.
#[derive(Serialize, Clone, Default, PartialEq, Eq, Debug)]
pub struct FlowLedger {
    /// Flows that began.
    pub created: u64,
    /// Flows in the table.
    pub live: u64,
    /// Flows that ended, by why.
    pub expired: Reasons,
}

/// Records, by what one collector got of them.
#[derive(Serialize, Clone, Default, PartialEq, Eq, Debug)]
pub struct CollectorLedger {
    /// The collector.
    pub url: String,
    /// Flow records that are not for it, by why; they are in no sum of its own.
    pub not_selected: Reasons,
    /// Flow records that went into the record of the opposite direction.
    pub paired: u64,
    /// Records meant for it.
    pub offered: u64,
    /// Records in datagrams that the kernel took.
    pub records: u64,
    /// Datagrams that the kernel took.
    pub datagrams: u64,
    /// Records not sent.
    pub dropped: Reasons,
    /// Records that its format cannot express.
    pub not_representable: Reasons,
}

impl CollectorLedger {
    fn imbalance(&self) -> u64 {
        self.offered.abs_diff(self.records + self.dropped.total() + self.not_representable.total())
    }
}

/// What an interface lost before the probe saw it.
#[derive(Serialize, Clone, Default, PartialEq, Eq, Debug)]
pub struct NicLedger {
    /// The interface.
    pub interface: String,
    /// Its counters since the start of the probe.
    pub dropped: Reasons,
}

/// Where every packet went.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Ledger {
    /// Packets.
    pub packets: PacketLedger,
    /// Octets.
    pub octets: OctetLedger,
    /// Flows.
    pub flows: FlowLedger,
    /// One for each collector.
    pub collectors: Vec<CollectorLedger>,
    /// Metered packets with something special about them; they are in `packets.metered`.
    pub noted: Reasons,
    /// Losses before the probe, one for each interface; they are in no sum.
    pub nic: Vec<NicLedger>,
}

impl Ledger {
    /// Packets missing from, or too many in, the sums over packets. Zero, or something is wrong.
    #[must_use]
    pub fn imbalance_packets(&self) -> u64 {
        self.packets.imbalance()
    }

    /// Octets missing from, or too many in, the sum over metered octets.
    #[must_use]
    pub fn imbalance_octets(&self) -> u64 {
        let octets = &self.octets;
        let metered = octets.metered.saturating_add(octets.metered_by_af_xdp);
        metered.abs_diff(octets.exported + octets.live + octets.lost.total())
    }

    /// Records missing from, or too many in, the sums of the collectors.
    #[must_use]
    pub fn imbalance_records(&self) -> u64 {
        self.collectors.iter().map(CollectorLedger::imbalance).sum()
    }

    /// Whether every sum agrees.
    #[must_use]
    pub fn balanced(&self) -> bool {
        self.imbalance_packets() == 0 && self.imbalance_octets() == 0 && self.imbalance_records() == 0
    }

    /// Writes the ledger as one line of JSON to a file, which changes in one step; `-` is standard output.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), ProbeError> {
        let failed = |error: io::Error| {
            ProbeError::run(format!("cannot write the ledger to {}", path.display()))
                .because(error)
                .hint("name a file in a directory that the probe may write to")
        };
        let json = serde_json::to_string(self).map_err(|error| failed(error.into()))? + "\n";
        file::write(path, json.as_bytes()).map_err(failed)
    }
}

impl Serialize for Ledger {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("packets", &self.packets)?;
        map.serialize_entry("octets", &self.octets)?;
        map.serialize_entry("flows", &self.flows)?;
        map.serialize_entry("collectors", &self.collectors)?;
        map.serialize_entry("noted", &self.noted)?;
        map.serialize_entry("nic", &self.nic)?;
        map.serialize_entry("balanced", &self.balanced())?;
        map.end()
    }
}
