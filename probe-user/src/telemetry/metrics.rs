// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is scraped: a snapshot of plain numbers, and its text.
//!
//! A series stands there from the start, at zero: alerts on a rate need the sample before the first event.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use probe_common::{Counters, NOTES, Note, Outcome};

use super::{
    ledger::{QUEUE_FULL, Reasons, SPILL_RING_FULL},
    process::ProcessStatus,
    prometheus::{Encoder, Kind},
};
use crate::flow::EndReason;

/// Upper bounds of the buckets of a harvest's duration, in nanoseconds.
const HARVEST_BOUNDS: [u64; 7] =
    [1_000_000, 5_000_000, 10_000_000, 50_000_000, 100_000_000, 500_000_000, 1_000_000_000];

/// Names of the counters in [`Interface::nic_dropped`], as under `/sys/class/net/*/statistics`.
pub const NIC_COUNTERS: [&str; 4] = ["rx_dropped", "rx_missed_errors", "rx_over_errors", "rx_fifo_errors"];

/// Everything that is scraped.
#[derive(Clone, Default, Debug)]
pub struct Snapshot {
    /// When the probe started, Unix time in seconds.
    pub started_seconds: f64,
    /// When its configuration was last read without fault, Unix time in seconds.
    pub configured_seconds: f64,
    /// Interfaces.
    pub interfaces: Vec<Interface>,
    /// CPUs that meter.
    pub cpus: Vec<Cpu>,
    /// Packets handed to another engine.
    pub steered_packets: u64,
    /// Packets and octets lost because the queue to the exporter was full.
    pub queue_full: PacketsOctets,
    /// Packets and octets in records that reached the exporter.
    pub exported: PacketsOctets,
    /// Packets and octets of flows not yet exported.
    pub live: PacketsOctets,
    /// The flow table.
    pub flows: Flows,
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
    /// `native` or `generic`; nothing while not attached.
    pub xdp_mode: Option<&'static str>,
    /// Counters of [`NIC_COUNTERS`].
    pub nic_dropped: [u64; NIC_COUNTERS.len()],
}

/// One CPU that meters.
#[derive(Clone, Copy, Default, Debug)]
pub struct Cpu {
    /// Its number.
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

/// One collector. Reasons stand here also at zero.
#[derive(Clone, Default, Debug)]
pub struct Collector {
    /// Its canonical URL.
    pub url: String,
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

impl Snapshot {
    /// The text of a scrape.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut to = Encoder::new();
        self.encode_start(&mut to);
        self.encode_packets(&mut to);
        self.encode_losses(&mut to);
        self.encode_interfaces(&mut to);
        self.encode_flows(&mut to);
        self.encode_harvests(&mut to);
        self.encode_export(&mut to);
        self.encode_collectors(&mut to);
        self.process.encode(&mut to);
        to.finish()
    }

    fn encode_start(&self, to: &mut Encoder) {
        to.family("flowprobe_build_info", Kind::Gauge, "Version of the probe; the value is always 1")
            .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1_u64);
        to.family("flowprobe_start_time_seconds", Kind::Gauge, "When the probe started, Unix time")
            .sample(&[], self.started_seconds);
        to.family(
            "flowprobe_config_last_reload_success_timestamp_seconds",
            Kind::Gauge,
            "When the configuration was last read without fault, Unix time",
        )
        .sample(&[], self.configured_seconds);
    }

    fn encode_packets(&self, to: &mut Encoder) {
        self.per_cpu(to, "flowprobe_received_packets_total", "Packets that entered the probe", |c| {
            c.received_packets
        });
        self.per_cpu(
            to,
            "flowprobe_received_octets_total",
            "Octets of the frames that entered the probe, Ethernet header included",
            |c| c.received_octets,
        );
        self.per_cpu(to, "flowprobe_metered_packets_total", "Packets counted in a flow", |c| {
            c.metered_packets
        });
        self.per_cpu(
            to,
            "flowprobe_metered_octets_total",
            "Octets of the IP packets counted in a flow",
            |c| c.metered_octets,
        );
        to.family(
            "flowprobe_unmetered_packets_total",
            Kind::Counter,
            "Packets not counted in a flow, by why",
        );
        for cpu in &self.cpus {
            for (outcome, count) in Outcome::ALL.iter().zip(cpu.counters.outcomes) {
                to.sample(&[("cpu", &cpu.cpu.to_string()), ("reason", outcome.name())], count);
            }
        }
        to.family(
            "flowprobe_noted_packets_total",
            Kind::Counter,
            "Packets counted in a flow without their ports, by why",
        );
        let noted: [u64; NOTES] =
            std::array::from_fn(|i| self.cpus.iter().map(|cpu| cpu.counters.notes[i]).sum());
        for (note, count) in Note::ALL.iter().zip(noted) {
            to.sample(&[("note", note.name())], count);
        }
        to.family("flowprobe_steered_packets_total", Kind::Counter, "Packets handed to another engine")
            .sample(&[], self.steered_packets);
    }

    fn per_cpu(&self, to: &mut Encoder, name: &str, help: &str, count: impl Fn(&Counters) -> u64) {
        to.family(name, Kind::Counter, help);
        for cpu in &self.cpus {
            to.sample(&[("cpu", &cpu.cpu.to_string())], count(&cpu.counters));
        }
    }

    fn encode_losses(&self, to: &mut Encoder) {
        let sum = |count: fn(&Counters) -> u64| self.cpus.iter().map(|cpu| count(&cpu.counters)).sum::<u64>();
        to.family("flowprobe_lost_packets_total", Kind::Counter, "Packets metered and then lost, by why")
            .sample(&[("reason", SPILL_RING_FULL)], sum(|c| c.lost_packets))
            .sample(&[("reason", QUEUE_FULL)], self.queue_full.packets);
        to.family("flowprobe_lost_octets_total", Kind::Counter, "Octets metered and then lost, by why")
            .sample(&[("reason", SPILL_RING_FULL)], sum(|c| c.lost_octets))
            .sample(&[("reason", QUEUE_FULL)], self.queue_full.octets);
        self.per_cpu(to, "flowprobe_spilled_records_total", "Slots evicted to the spill ring", |c| {
            c.spilled_records
        });
        to.family("flowprobe_spill_ring_fill_ratio", Kind::Gauge, "How full the spill ring is, 0 to 1");
        for cpu in &self.cpus {
            to.sample(&[("cpu", &cpu.cpu.to_string())], cpu.spill_ring_fill_ratio);
        }
        to.family(
            "flowprobe_ledger_imbalance_packets",
            Kind::Gauge,
            "Packets that the ledger cannot account for; anything but 0 is a bug",
        )
        .sample(&[], self.ledger_imbalance_packets);
    }

    fn encode_interfaces(&self, to: &mut Encoder) {
        to.family("flowprobe_interface_up", Kind::Gauge, "Whether the interface is there, up and metered");
        for interface in &self.interfaces {
            to.sample(&[("interface", &interface.name)], interface.up);
        }
        to.family(
            "flowprobe_xdp_mode_info",
            Kind::Gauge,
            "How the interface is attached; 1 for the mode in use",
        );
        for interface in &self.interfaces {
            for mode in ["native", "generic"] {
                let used = interface.xdp_mode == Some(mode);
                to.sample(&[("interface", &interface.name), ("mode", mode)], used);
            }
        }
        to.family(
            "flowprobe_nic_dropped_packets_total",
            Kind::Counter,
            "Packets lost in the NIC, its driver or the kernel before the probe, by counter of the interface",
        );
        for interface in &self.interfaces {
            for (counter, count) in NIC_COUNTERS.iter().zip(interface.nic_dropped) {
                to.sample(&[("interface", &interface.name), ("counter", counter)], count);
            }
        }
    }

    fn encode_flows(&self, to: &mut Encoder) {
        to.family("flowprobe_flows_live", Kind::Gauge, "Flows in the table").sample(&[], self.flows.live);
        to.family("flowprobe_flow_table_capacity", Kind::Gauge, "Flows that fit into the table")
            .sample(&[], self.flows.capacity);
        to.family("flowprobe_flows_created_total", Kind::Counter, "Flows that began")
            .sample(&[], self.flows.created);
        to.family(
            "flowprobe_flows_expired_total",
            Kind::Counter,
            "Flows that ended, by why (the words of IANA element 136)",
        );
        for (reason, count) in EndReason::ALL.iter().zip(self.flows.expired) {
            to.sample(&[("reason", reason.name())], count);
        }
        to.family("flowprobe_live_packets", Kind::Gauge, "Packets of flows not yet exported")
            .sample(&[], self.live.packets);
        to.family("flowprobe_live_octets", Kind::Gauge, "Octets of flows not yet exported")
            .sample(&[], self.live.octets);
    }

    fn encode_harvests(&self, to: &mut Encoder) {
        let Histogram { buckets, beyond, sum_ns } = self.harvests;
        let count = buckets.iter().sum::<u64>() + beyond;
        let bounds = HARVEST_BOUNDS.map(|ns| Duration::from_nanos(ns).as_secs_f64());
        let buckets: Vec<_> = bounds.into_iter().zip(buckets).collect();
        to.family(
            "flowprobe_harvest_duration_seconds",
            Kind::Histogram,
            "How long it took to read and merge what the kernel had metered",
        )
        .histogram(&buckets, count, Duration::from_nanos(sum_ns).as_secs_f64());
    }

    fn encode_export(&self, to: &mut Encoder) {
        to.family(
            "flowprobe_exported_packets_total",
            Kind::Counter,
            "Packets in records that reached the exporter",
        )
        .sample(&[], self.exported.packets);
        to.family(
            "flowprobe_exported_octets_total",
            Kind::Counter,
            "Octets in records that reached the exporter",
        )
        .sample(&[], self.exported.octets);
        to.family("flowprobe_export_queue_length", Kind::Gauge, "Records between harvester and exporter")
            .sample(&[], self.export_queue_length);
        to.family(
            "flowprobe_export_queue_capacity",
            Kind::Gauge,
            "Records that fit between harvester and exporter",
        )
        .sample(&[], self.export_queue_capacity);
    }

    fn encode_collectors(&self, to: &mut Encoder) {
        to.family("flowprobe_export_records_total", Kind::Counter, "Records sent");
        self.per_collector(to, |to, collector, url| {
            to.sample(&[url], collector.records);
        });
        to.family("flowprobe_export_datagrams_total", Kind::Counter, "Datagrams sent");
        self.per_collector(to, |to, collector, url| {
            to.sample(&[url], collector.datagrams);
        });
        to.family("flowprobe_export_dropped_records_total", Kind::Counter, "Records not sent, by why");
        self.per_collector(to, |to, collector, url| by_reason(to, url, &collector.dropped));
        to.family(
            "flowprobe_export_not_representable_records_total",
            Kind::Counter,
            "Records that the collector's format cannot express, by why",
        );
        self.per_collector(to, |to, collector, url| by_reason(to, url, &collector.not_representable));
        to.family("flowprobe_export_errors_total", Kind::Counter, "Failed attempts to send, by why");
        self.per_collector(to, |to, collector, url| by_reason(to, url, &collector.errors));
        to.family("flowprobe_export_waiting_records", Kind::Gauge, "Records encoded and not yet sent");
        self.per_collector(to, |to, collector, url| {
            to.sample(&[url], collector.waiting_records);
        });
        to.family(
            "flowprobe_export_sequence",
            Kind::Gauge,
            "Flow sequence number in the next datagram, summed over the interfaces",
        );
        self.per_collector(to, |to, collector, url| {
            to.sample(&[url], collector.sequence);
        });
    }

    fn per_collector<'a>(
        &'a self,
        to: &mut Encoder,
        sample: impl Fn(&mut Encoder, &'a Collector, (&'static str, &'a str)),
    ) {
        for collector in &self.collectors {
            sample(to, collector, ("collector", &collector.url));
        }
    }
}

fn by_reason(to: &mut Encoder, url: (&str, &str), reasons: &Reasons) {
    for (reason, count) in reasons.iter() {
        to.sample(&[url, ("reason", reason)], count);
    }
}
