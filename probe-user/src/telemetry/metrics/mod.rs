// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is scraped: a snapshot of plain numbers, and its text.
//!
//! A series stands there from the start, at zero: alerts on a rate need the sample before the first event.

mod encode;
mod engines;

pub use engines::{AfXdpSocket, Fragments, Harvester, PacketSocket};

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use probe_common::Counters;

use super::{ledger::Reasons, process::ProcessStatus};
use crate::flow::EndReason;

/// Upper bounds of the buckets of a harvest's duration, in nanoseconds.
const HARVEST_BOUNDS: [u64; 7] =
    [1_000_000, 5_000_000, 10_000_000, 50_000_000, 100_000_000, 500_000_000, 1_000_000_000];

/// Names of the counters in [`Interface::nic_dropped`], as under `/sys/class/net/*/statistics`.
pub const NIC_COUNTERS: [&str; 4] = ["rx_dropped", "rx_missed_errors", "rx_over_errors", "rx_fifo_errors"];

/// Ways in which an interface is attached, values of the label `mode`: XDP in the driver or in the kernel's general path; for
/// what goes out tcx or a clsact filter; all packets through AF_XDP sockets without or with a copy; packet sockets.
pub const MODES: [&str; 7] =
    ["native", "generic", "tcx", "clsact", "af_xdp_zero_copy", "af_xdp_copy", "af_packet"];

/// Everything that is scraped.
#[derive(Clone, Default, Debug)]
pub struct Snapshot {
    /// When the probe started, Unix time in seconds.
    pub started_seconds: f64,
    /// When its configuration was last read without fault, Unix time in seconds.
    pub configured_seconds: f64,
    /// Interfaces.
    pub interfaces: Vec<Interface>,
    /// CPUs on which the kernel program meters; and workers of packet sockets, by their number.
    pub cpus: Vec<Cpu>,
    /// AF_XDP sockets: steered packets that they got.
    pub af_xdp: Vec<AfXdpSocket>,
    /// What became of the packets that those got.
    pub af_xdp_counters: Counters,
    /// Packet sockets of `--engine af_packet`.
    pub af_packet: Vec<PacketSocket>,
    /// Fragments that user space joins to their first one.
    pub fragments: Fragments,
    /// Harvesters, each with its part of the flow table.
    pub harvesters: Vec<Harvester>,
    /// Packets and octets lost because the queue to the exporter was full.
    pub queue_full: PacketsOctets,
    /// Packets and octets in records that reached the exporter.
    pub exported: PacketsOctets,
    /// Packets and octets of flows not yet exported.
    pub live: PacketsOctets,
    /// The flow table.
    pub flows: Flows,
    /// What is done about an overload.
    pub overload: Overload,
    /// How long harvests took.
    pub harvests: Histogram,
    /// Records between harvester and exporter, and how many fit.
    pub export_queue_length: u64,
    /// How many fit.
    pub export_queue_capacity: u64,
    /// Collectors.
    pub collectors: Vec<Collector>,
    /// [`super::Ledger::imbalance_packets`].
    pub ledger_imbalance_packets: u64,
    /// The process.
    pub process: ProcessStatus,
}

/// A number of packets and their octets.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct PacketsOctets {
    /// Packets.
    pub packets: u64,
    /// Octets.
    pub octets: u64,
}

/// One interface.
#[derive(Clone, Default, Debug)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Whether it is there, up, and metered.
    pub up: bool,
    /// How it is attached, of [`MODES`]; one for what comes in and one for what goes out, where both are metered.
    pub modes: Vec<&'static str>,
    /// Counters of [`NIC_COUNTERS`].
    pub nic_dropped: [u64; NIC_COUNTERS.len()],
}

/// One CPU that meters.
#[derive(Clone, Copy, Default, Debug)]
pub struct Cpu {
    /// Its number; of a packet socket's worker, the worker's.
    pub cpu: u32,
    /// Its counters, of both epochs together.
    pub counters: Counters,
    /// How full its spill ring is, 0 to 1.
    pub spill_ring_fill_ratio: f64,
}

/// The flow table.
#[derive(Clone, Copy, Default, Debug)]
pub struct Flows {
    /// Flows in it.
    pub live: u64,
    /// Flows that fit.
    pub capacity: u64,
    /// Flows that began.
    pub created: u64,
    /// Flows that ended, in the order of [`EndReason::ALL`].
    pub expired: [u64; EndReason::ALL.len()],
}

/// The overload ladder.
#[derive(Clone, Copy, Debug)]
pub struct Overload {
    /// The rung it stands on; 0 is normal.
    pub rung: u8,
    /// Moves up.
    pub ups: u64,
    /// Moves down.
    pub downs: u64,
    /// N of "one flow in N is metered" because of it.
    pub flow_sampling: u32,
}

impl Default for Overload {
    fn default() -> Self {
        Self { rung: 0, ups: 0, downs: 0, flow_sampling: 1 }
    }
}

/// One collector. Reasons stand here also at zero.
#[derive(Clone, Default, Debug)]
pub struct Collector {
    /// Its canonical URL.
    pub url: String,
    /// Flow records that are not for it.
    pub not_selected: Reasons,
    /// Flow records that went into the record of the opposite direction.
    pub paired: u64,
    /// Records sent.
    pub records: u64,
    /// Datagrams sent.
    pub datagrams: u64,
    /// Records not sent.
    pub dropped: Reasons,
    /// Records that its format cannot express.
    pub not_representable: Reasons,
    /// Failed attempts to send.
    pub errors: Reasons,
    /// Records encoded and not yet sent.
    pub waiting_records: u64,
    /// Flow sequence number of its streams (one for each interface), summed.
    pub sequence: u64,
}

/// Durations by bucket, as they were when read.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Histogram {
    buckets: [u64; HARVEST_BOUNDS.len()],
    beyond: u64,
    sum_ns: u64,
}

/// Durations by bucket: one writer, any number of readers.
#[derive(Default, Debug)]
pub struct HistogramCounters {
    buckets: [AtomicU64; HARVEST_BOUNDS.len()],
    beyond: AtomicU64,
    sum_ns: AtomicU64,
}

impl HistogramCounters {
    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = HARVEST_BOUNDS.iter().position(|bound| ns <= *bound);
        bucket.map_or(&self.beyond, |i| &self.buckets[i]).fetch_add(1, Relaxed);
        self.sum_ns.fetch_add(ns, Relaxed);
    }

    /// The counts now.
    #[must_use]
    pub fn read(&self) -> Histogram {
        Histogram {
            buckets: std::array::from_fn(|i| self.buckets[i].load(Relaxed)),
            beyond: self.beyond.load(Relaxed),
            sum_ns: self.sum_ns.load(Relaxed),
        }
    }
}
