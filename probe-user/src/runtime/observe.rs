// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What all parts counted, as telemetry wants it.

use std::sync::{
    Arc, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use super::{
    account::Account,
    interfaces::SharedStatus,
    workers::{Tidings, WorkerKind},
};
use crate::{
    control::InterfaceState,
    export::{DropReason, ErrorReason, ExportReport, NotRepresentable, NotSelected},
    flow::Moment,
    harvest::{HarvestReport, Part, RowsReport, SharedReport},
    meter::SourceReport,
    net,
    telemetry::{
        CollectorLedger, FlowLedger, Ledger, Reasons, Snapshot,
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
    /// What the workers tell.
    pub workers: Tidings,
    /// How long its swaps took.
    pub durations: Arc<HistogramCounters>,
    /// The exporters'.
    pub export: ExportReport,
    /// The interfaces'.
    pub interfaces: SharedStatus,
    /// Losses of the interfaces when the probe began.
    pub drops_before: Vec<(String, [u64; NIC_COUNTERS.len()])>,
    /// Most records between harvesters and exporters.
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
                nic_dropped: self.dropped_since(&status.info.name),
                up: status.info.state == InterfaceState::Up && status.info.engine.is_some(),
                name: status.info.name,
                modes: status.modes,
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
        let account = Account::new(self.harvest.read(), &self.workers);
        let report = account.report();
        let started = self.started.wall.unix_ns(self.started.now) as f64 / 1e9;
        Snapshot {
            started_seconds: started,
            configured_seconds: self.configured.load(Ordering::Relaxed) as f64 / 1e9,
            interfaces: self.interfaces(),
            cpus: self.cpus(report),
            af_xdp: self.af_xdp_sockets(),
            af_xdp_counters: *account.af_xdp(),
            af_packet: self.packet_sockets(),
            fragments: self.fragments(),
            harvesters: harvesters(report),
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
            export_queue_length: self.export.queue_length(),
            export_queue_capacity: self.queue_capacity,
            collectors: self.collectors(),
            ledger_imbalance_packets: account.packets().imbalance() + report.imbalance.packets.unsigned_abs(),
            process: ProcessStatus::read(),
        }
    }

    fn cpus(&self, report: &HarvestReport) -> Vec<metrics::Cpu> {
        let counts = self.workers.counts();
        let kernel = (0..report.cpus.counters.len()).map(|cpu| row(cpu, &report.cpus));
        let packet_workers = (0..report.workers.counters.len())
            .filter(|number| counts.kind(*number) == WorkerKind::AfPacket)
            .map(|number| row(number, &report.workers));
        kernel.chain(packet_workers).collect()
    }

    fn name_of(&self, interface: u32) -> String {
        let status = self.interfaces.lock().unwrap_or_else(PoisonError::into_inner);
        let known = status.iter().find(|status| status.info.index == interface);
        known.map_or_else(|| interface.to_string(), |status| status.info.name.clone())
    }

    fn sources(&self, kind: WorkerKind) -> Vec<SourceReport> {
        let reports = self.workers.reports(kind).into_iter();
        let mut sources: Vec<SourceReport> = reports.flat_map(|report| report.sources).collect();
        sources.sort_by_key(|source| (source.interface, source.status.queue));
        sources
    }

    fn af_xdp_sockets(&self) -> Vec<metrics::AfXdpSocket> {
        let socket = |source: SourceReport| metrics::AfXdpSocket {
            interface: self.name_of(source.interface),
            queue: source.status.queue,
            zero_copy: source.status.mode == "zero_copy",
            received: source.frames,
            rx_dropped: source.drops.rx_dropped,
            rx_ring_full: source.drops.rx_ring_full,
            fill_ring_empty: source.drops.rx_fill_ring_empty_descs,
            invalid_descriptors: source.drops.rx_invalid_descs,
        };
        self.sources(WorkerKind::AfXdp).into_iter().map(socket).collect()
    }

    fn packet_sockets(&self) -> Vec<metrics::PacketSocket> {
        let socket = |source: SourceReport| metrics::PacketSocket {
            interface: self.name_of(source.interface),
            queue: source.status.queue,
            received: source.frames,
            dropped: source.drops.tp_drops,
            freezes: source.drops.tp_freezes,
        };
        self.sources(WorkerKind::AfPacket).into_iter().map(socket).collect()
    }

    fn fragments(&self) -> metrics::Fragments {
        let counts = self.workers.fragments(WorkerKind::AfXdp);
        let counts = counts.plus(&self.workers.fragments(WorkerKind::AfPacket));
        metrics::Fragments {
            joined: counts.joined,
            given_up: Reasons::new(&[
                ("no_first_in_time", counts.no_first_in_time),
                ("no_room", counts.no_room),
            ]),
            held: counts.held,
            known: self.workers.fragments_known(),
        }
    }

    fn collectors(&self) -> Vec<metrics::Collector> {
        self.export
            .collectors()
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
    /// exporters rest, and at the end.
    #[must_use]
    pub(super) fn ledger(&self) -> Ledger {
        let account = Account::new(self.harvest.read(), &self.workers);
        let (report, notes) = (account.report(), account.all().notes);
        Ledger {
            packets: account.packets(),
            octets: account.octets(),
            flows: FlowLedger {
                created: report.created,
                live: report.live.flows,
                expired: Reasons::expired(&report.expired),
            },
            collectors: self
                .collectors()
                .into_iter()
                .zip(self.export.collectors())
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
            noted: reasons(&Note::ALL, Note::name, |i| notes[i]),
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

fn row(cpu: usize, rows: &RowsReport) -> metrics::Cpu {
    metrics::Cpu {
        cpu: u32::try_from(cpu).unwrap_or(u32::MAX),
        counters: rows.counters.get(cpu).copied().unwrap_or_default(),
        spill_ring_fill_ratio: rows.spill_fill.get(cpu).copied().unwrap_or_default(),
    }
}

fn harvesters(report: &HarvestReport) -> Vec<metrics::Harvester> {
    let of = |part: &Part| metrics::Harvester {
        live: part.live.flows,
        capacity: part.capacity,
        created: part.created,
        queue_length: part.queue_length,
        swaps: report.swaps,
    };
    report.parts.iter().map(of).collect()
}

fn reasons<T: Copy>(all: &[T], name: impl Fn(T) -> &'static str, count: impl Fn(usize) -> u64) -> Reasons {
    let counts: Vec<(&'static str, u64)> =
        all.iter().enumerate().map(|(i, reason)| (name(*reason), count(i))).collect();
    Reasons::new(&counts)
}
