// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What all parts counted, as telemetry wants it.

use std::sync::{
    Arc, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use super::interfaces::SharedStatus;
use crate::{
    export::{DropReason, ErrorReason, ExportStats, NotRepresentable, NotSelected},
    flow::Moment,
    harvest::{HarvestReport, SharedReport},
    net,
    telemetry::{
        AfXdpLedger, CollectorLedger, FlowLedger, Ledger, OctetLedger, PacketLedger, Reasons, Snapshot,
        ledger::NicLedger,
        metrics::{self, HistogramCounters, NIC_COUNTERS, PacketsOctets},
        process::ProcessStatus,
    },
};
use probe_common::Note;

/// Reads the shared counts of all parts; keeps none of its own.
#[derive(Clone)]
pub(super) struct Observer {
    /// The harvester's.
    pub harvest: SharedReport,
    /// How long its swaps took.
    pub durations: Arc<HistogramCounters>,
    /// The exporter's.
    pub export: Arc<ExportStats>,
    /// The interfaces'.
    pub interfaces: SharedStatus,
    /// Losses of the interfaces when the probe began.
    pub drops_before: Vec<(String, [u64; NIC_COUNTERS.len()])>,
    /// Most records between harvester and exporter.
    pub queue_capacity: u64,
    /// When the probe began.
    pub started: Moment,
    /// When its configuration was last read without fault, Unix time in nanoseconds.
    pub configured: Arc<AtomicU64>,
}

/// Counters of frames lost before XDP.
#[must_use]
pub(super) fn nic_drops(interface: &str) -> [u64; NIC_COUNTERS.len()] {
    let drops = net::drops(interface);
    NIC_COUNTERS.map(|name| drops.iter().find(|(counter, _)| *counter == name).map_or(0, |(_, count)| *count))
}

impl Observer {
    fn interfaces(&self) -> Vec<metrics::Interface> {
        let status = self.interfaces.lock().unwrap_or_else(PoisonError::into_inner).clone();
        status
            .into_iter()
            .map(|status| metrics::Interface {
                nic_dropped: self.dropped_since(&status.name),
                name: status.name,
                up: status.up,
                modes: status.mode.into_iter().collect(),
            })
            .collect()
    }

    /// Losses of an interface since the probe began; an interface that was made anew counts from zero.
    fn dropped_since(&self, interface: &str) -> [u64; NIC_COUNTERS.len()] {
        let before = self.drops_before.iter().find(|(name, _)| name == interface).map(|(_, drops)| *drops);
        let mut drops = nic_drops(interface);
        for (count, before) in drops.iter_mut().zip(before.unwrap_or_default()) {
            *count = count.checked_sub(before).unwrap_or(*count);
        }
        drops
    }

    /// What is scraped.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a time in seconds for people")]
    pub(super) fn snapshot(&self) -> Snapshot {
        let report = self.harvest.read();
        let started = self.started.wall.unix_ns(self.started.now) as f64 / 1e9;
        Snapshot {
            started_seconds: started,
            configured_seconds: self.configured.load(Ordering::Relaxed) as f64 / 1e9,
            interfaces: self.interfaces(),
            cpus: cpus(&report),
            queue_full: PacketsOctets {
                packets: report.queue_full.packets,
                octets: report.queue_full.octets,
            },
            exported: PacketsOctets { packets: report.exported.packets, octets: report.exported.octets },
            live: PacketsOctets { packets: report.live.packets, octets: report.live.octets },
            flows: metrics::Flows {
                live: report.live.flows,
                capacity: report.capacity,
                created: report.created,
                expired: report.expired,
            },
            overload: metrics::Overload {
                rung: report.overload.rung.number(),
                ups: report.overload.ups,
                downs: report.overload.downs,
                flow_sampling: report.flow_sampling,
            },
            harvests: self.durations.read(),
            export_queue_length: self.export.queue_length.get(),
            export_queue_capacity: self.queue_capacity,
            collectors: self.collectors(),
            ledger_imbalance_packets: packets(&report).imbalance() + report.imbalance.packets.unsigned_abs(),
            process: ProcessStatus::read(),
            ..Snapshot::default()
        }
    }

    fn collectors(&self) -> Vec<metrics::Collector> {
        self.export
            .collectors
            .iter()
            .map(|stats| metrics::Collector {
                url: stats.url.clone(),
                not_selected: reasons(&NotSelected::ALL, NotSelected::name, |i| stats.not_selected[i].get()),
                paired: stats.paired.get(),
                records: stats.records.get(),
                datagrams: stats.datagrams.get(),
                dropped: reasons(&DropReason::ALL, DropReason::name, |i| stats.dropped[i].get()),
                not_representable: reasons(&NotRepresentable::ALL, NotRepresentable::name, |i| {
                    stats.not_representable[i].get()
                }),
                errors: reasons(&ErrorReason::ALL, ErrorReason::name, |i| stats.errors[i].get()),
                waiting_records: stats.waiting.get() + stats.held.get(),
                sequence: stats.sequence.get(),
            })
            .collect()
    }

    /// The ledger. Exact at any time, for it is made of one report; the collectors' part is exact when the
    /// exporter rests, and at the end.
    #[must_use]
    pub(super) fn ledger(&self) -> Ledger {
        let report = self.harvest.read();
        let kernel = report.kernel();
        Ledger {
            packets: packets(&report),
            octets: OctetLedger {
                received: kernel.received_octets,
                metered: kernel.metered_octets,
                metered_by_af_xdp: 0,
                exported: report.exported.octets,
                live: report.live.octets,
                lost: Reasons::lost(kernel.lost_octets, report.queue_full.octets),
            },
            flows: FlowLedger {
                created: report.created,
                live: report.live.flows,
                expired: Reasons::expired(&report.expired),
            },
            collectors: self
                .collectors()
                .into_iter()
                .zip(&self.export.collectors)
                .map(|(collector, stats)| CollectorLedger {
                    url: collector.url,
                    not_selected: collector.not_selected,
                    paired: collector.paired,
                    offered: stats.offered.get(),
                    records: collector.records,
                    datagrams: collector.datagrams,
                    dropped: collector.dropped,
                    not_representable: collector.not_representable,
                })
                .collect(),
            noted: reasons(&Note::ALL, Note::name, |i| kernel.notes[i]),
            nic: self
                .interfaces()
                .into_iter()
                .map(|interface| NicLedger {
                    dropped: reasons(&NIC_COUNTERS, |name| name, |i| interface.nic_dropped[i]),
                    interface: interface.name,
                })
                .collect(),
        }
    }
}

/// Where the packets of a report went.
fn packets(report: &HarvestReport) -> PacketLedger {
    let kernel = report.kernel();
    PacketLedger {
        received: kernel.received_packets,
        metered: kernel.metered_packets,
        unmetered: Reasons::unmetered(&kernel.outcomes),
        steered: kernel.steered_packets,
        af_xdp: AfXdpLedger::default(),
        exported: report.exported.packets,
        live: report.live.packets,
        lost: Reasons::lost(kernel.lost_packets, report.queue_full.packets),
    }
}

fn cpus(report: &HarvestReport) -> Vec<metrics::Cpu> {
    let fill = report.spill_fill.iter();
    (0u32..)
        .zip(report.cpus.iter().zip(fill))
        .map(|(cpu, (counters, fill))| metrics::Cpu {
            cpu,
            counters: *counters,
            spill_ring_fill_ratio: *fill,
        })
        .collect()
}

fn reasons<T: Copy>(all: &[T], name: impl Fn(T) -> &'static str, count: impl Fn(usize) -> u64) -> Reasons {
    let counts: Vec<(&'static str, u64)> =
        all.iter().enumerate().map(|(i, reason)| (name(*reason), count(i))).collect();
    Reasons::new(&counts)
}
