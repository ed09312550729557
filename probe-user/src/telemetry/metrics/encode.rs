// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The families of metrics: name, type, help and samples of each, in the order of a packet's path.

use std::time::Duration;

use probe_common::{Counters, NOTES, Note, Outcome};

use super::{Collector, Cpu, HARVEST_BOUNDS, Histogram, MODES, NIC_COUNTERS, Snapshot};
use crate::{
    flow::EndReason,
    telemetry::{
        ledger::{QUEUE_FULL, Reasons, SPILL_RING_FULL},
        prometheus::{Encoder, Kind},
    },
};

impl Snapshot {
    /// The text of a scrape.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut to = Encoder::new();
        self.encode_start(&mut to);
        self.encode_packets(&mut to);
        self.encode_af_xdp(&mut to);
        self.encode_af_packet(&mut to);
        self.encode_fragments(&mut to);
        self.encode_losses(&mut to);
        self.encode_interfaces(&mut to);
        self.encode_flows(&mut to);
        self.encode_overload(&mut to);
        self.encode_harvests(&mut to);
        self.encode_harvesters(&mut to);
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
        for cpu in self.by_cpu() {
            for (outcome, count) in Outcome::ALL.iter().zip(cpu.counters.outcomes) {
                to.sample(&[("cpu", &cpu.cpu.to_string()), ("reason", outcome.name())], count);
            }
        }
        to.family(
            "flowprobe_noted_packets_total",
            Kind::Counter,
            "Packets counted in a flow that had something special about them",
        );
        let noted: [u64; NOTES] = std::array::from_fn(|i| {
            self.cpus.iter().map(|cpu| cpu.counters.notes[i]).sum::<u64>() + self.af_xdp_counters.notes[i]
        });
        for (note, count) in Note::ALL.iter().zip(noted) {
            to.sample(&[("note", note.name())], count);
        }
        let steered: u64 = self.cpus.iter().map(|cpu| cpu.counters.steered_packets).sum();
        to.family("flowprobe_steered_packets_total", Kind::Counter, "Packets handed to AF_XDP sockets")
            .sample(&[], steered);
    }

    fn per_cpu(&self, to: &mut Encoder, name: &str, help: &str, count: impl Fn(&Counters) -> u64) {
        to.family(name, Kind::Counter, help);
        for cpu in self.by_cpu() {
            to.sample(&[("cpu", &cpu.cpu.to_string())], count(&cpu.counters));
        }
    }

    /// One for each CPU: where several meter on one CPU, their counters together and the fuller ring.
    fn by_cpu(&self) -> Vec<Cpu> {
        let mut cpus: Vec<Cpu> = Vec::with_capacity(self.cpus.len());
        for cpu in &self.cpus {
            match cpus.iter_mut().find(|known| known.cpu == cpu.cpu) {
                None => cpus.push(*cpu),
                Some(known) => {
                    known.counters = known.counters.plus(&cpu.counters);
                    known.spill_ring_fill_ratio = known.spill_ring_fill_ratio.max(cpu.spill_ring_fill_ratio);
                }
            }
        }
        cpus
    }

    fn encode_losses(&self, to: &mut Encoder) {
        let sum = |count: fn(&Counters) -> u64| {
            self.cpus.iter().map(|cpu| count(&cpu.counters)).sum::<u64>() + count(&self.af_xdp_counters)
        };
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
        for cpu in self.by_cpu() {
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
            for mode in MODES {
                let used = interface.modes.contains(&mode);
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

    fn encode_overload(&self, to: &mut Encoder) {
        to.family(
            "flowprobe_overload_rung",
            Kind::Gauge,
            "What is done about an overload: 0 nothing, 1 shorter idle timeout, 2 early export, 3 and above flow sampling",
        )
        .sample(&[], u64::from(self.overload.rung));
        to.family("flowprobe_overload_steps_total", Kind::Counter, "Moves of the overload ladder")
            .sample(&[("direction", "up")], self.overload.ups)
            .sample(&[("direction", "down")], self.overload.downs);
        to.family(
            "flowprobe_flow_sampling_interval",
            Kind::Gauge,
            "One flow in this many is metered because of an overload, of those that --sampling leaves; 1 is every one",
        )
        .sample(&[], u64::from(self.overload.flow_sampling));
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
        to.family(
            "flowprobe_export_not_selected_records_total",
            Kind::Counter,
            "Records that are not for the collector, by why: its filter, its sampling, the policy",
        );
        self.per_collector(to, |to, collector, url| by_reason(to, url, &collector.not_selected));
        to.family(
            "flowprobe_export_paired_records_total",
            Kind::Counter,
            "Records that went into the record of the opposite direction",
        );
        self.per_collector(to, |to, collector, url| {
            to.sample(&[url], collector.paired);
        });
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
        to.family(
            "flowprobe_export_waiting_records",
            Kind::Gauge,
            "Records encoded and not yet sent, or waiting for the opposite direction",
        );
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
