// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Metrics of what meters in user space: AF_XDP sockets, packet sockets, fragments, harvesters.
//!
//! A series of a socket is there from the moment the socket is; counters of a socket that was made anew go on, whoever fills
//! this in adds them up.

use probe_common::Outcome;

use super::Snapshot;
use crate::telemetry::{
    ledger::{RX_DROPPED, RX_RING_FULL, Reasons},
    prometheus::{Encoder, Kind},
};

/// Whether an AF_XDP socket shares its memory with the driver, values of the label `mode`.
const SOCKET_MODES: [(&str, bool); 2] = [("zero_copy", true), ("copy", false)];

/// One AF_XDP socket.
#[derive(Clone, Default, Debug)]
pub struct AfXdpSocket {
    /// Its interface.
    pub interface: String,
    /// Its receive queue.
    pub queue: u32,
    /// Whether the driver writes into the socket's memory; else the kernel copies.
    pub zero_copy: bool,
    /// Packets that the probe read from it.
    pub received: u64,
    /// `rx_dropped` of the kernel's `struct xdp_statistics`: steered packets for which there was no free frame, or that
    /// fit in none.
    pub rx_dropped: u64,
    /// `rx_ring_full` there: steered packets that found the receive ring full.
    pub rx_ring_full: u64,
    /// `rx_fill_ring_empty_descs` there: how often the kernel wanted a frame and there was none.
    pub fill_ring_empty: u64,
    /// `rx_invalid_descs` there: frames that the kernel refused. Anything but 0 is a fault of the probe.
    pub invalid_descriptors: u64,
}

/// One packet socket.
#[derive(Clone, Default, Debug)]
pub struct PacketSocket {
    /// Its interface.
    pub interface: String,
    /// Its place among the sockets of the interface, which share the packets by a hash or by CPU.
    pub queue: u32,
    /// Packets that the probe read from it.
    pub received: u64,
    /// `tp_drops` of the kernel's `struct tpacket_stats_v3`: packets that found its ring full.
    pub dropped: u64,
    /// `tp_freeze_q_cnt` there: how often its ring was full.
    pub freezes: u64,
}

/// The cache of first fragments.
#[derive(Clone, Default, Debug)]
pub struct Fragments {
    /// Later fragments that got the ports of their first one.
    pub joined: u64,
    /// Later fragments that were metered without ports, by why the first one was not found.
    pub given_up: Reasons,
    /// Later fragments that wait for their first one.
    pub held: u64,
    /// First fragments that are remembered.
    pub known: u64,
}

/// One harvester.
#[derive(Clone, Copy, Default, Debug)]
pub struct Harvester {
    /// Flows in its part of the table.
    pub live: u64,
    /// Flows that fit.
    pub capacity: u64,
    /// Flows that began.
    pub created: u64,
    /// Records in its queue to the exporter.
    pub queue_length: u64,
    /// Swaps done.
    pub swaps: u64,
}

impl Snapshot {
    pub(super) fn encode_af_xdp(&self, to: &mut Encoder) {
        self.per_socket(
            to,
            "flowprobe_af_xdp_received_packets_total",
            "Steered packets that the probe read from the AF_XDP socket",
            |socket| socket.received,
        );
        // Not for each queue: a worker counts those of several.
        let metered = &self.af_xdp_counters;
        to.family(
            "flowprobe_af_xdp_metered_packets_total",
            Kind::Counter,
            "Steered packets counted in a flow",
        )
        .sample(&[], metered.metered_packets);
        to.family(
            "flowprobe_af_xdp_metered_octets_total",
            Kind::Counter,
            "Octets of the steered IP packets counted in a flow",
        )
        .sample(&[], metered.metered_octets);
        to.family(
            "flowprobe_af_xdp_unmetered_packets_total",
            Kind::Counter,
            "Steered packets not counted in a flow, by why",
        );
        for (at, outcome) in Outcome::ALL.iter().enumerate() {
            to.sample(&[("reason", outcome.name())], metered.outcomes[at]);
        }
        to.family(
            "flowprobe_af_xdp_dropped_packets_total",
            Kind::Counter,
            "Steered packets lost before the probe read them, by why",
        );
        for socket in &self.af_xdp {
            for (reason, count) in [(RX_DROPPED, socket.rx_dropped), (RX_RING_FULL, socket.rx_ring_full)] {
                to.sample(
                    &[socket.interface(), ("queue", &socket.queue.to_string()), ("reason", reason)],
                    count,
                );
            }
        }
        self.per_socket(
            to,
            "flowprobe_af_xdp_fill_ring_empty_total",
            "How often the kernel found no free frame for the AF_XDP socket",
            |socket| socket.fill_ring_empty,
        );
        self.per_socket(
            to,
            "flowprobe_af_xdp_invalid_descriptors_total",
            "Frames that the kernel refused; anything but 0 is a bug",
            |socket| socket.invalid_descriptors,
        );
        to.family(
            "flowprobe_af_xdp_mode_info",
            Kind::Gauge,
            "Whether the driver writes into the memory of the AF_XDP socket or the kernel copies; 1 for the mode in use",
        );
        for socket in &self.af_xdp {
            for (mode, zero_copy) in SOCKET_MODES {
                let labels = [socket.interface(), ("queue", &socket.queue.to_string()), ("mode", mode)];
                to.sample(&labels, socket.zero_copy == zero_copy);
            }
        }
    }

    fn per_socket(&self, to: &mut Encoder, name: &str, help: &str, count: impl Fn(&AfXdpSocket) -> u64) {
        to.family(name, Kind::Counter, help);
        for socket in &self.af_xdp {
            to.sample(&[socket.interface(), ("queue", &socket.queue.to_string())], count(socket));
        }
    }

    pub(super) fn encode_af_packet(&self, to: &mut Encoder) {
        let mut counter = |name, help, count: fn(&PacketSocket) -> u64| {
            to.family(name, Kind::Counter, help);
            for socket in &self.af_packet {
                let labels = [("interface", socket.interface.as_str()), ("queue", &socket.queue.to_string())];
                to.sample(&labels, count(socket));
            }
        };
        counter(
            "flowprobe_af_packet_received_packets_total",
            "Packets that the probe read from the packet socket",
            |socket| socket.received,
        );
        counter(
            "flowprobe_af_packet_drops_total",
            "Packets that found the packet socket full; they are received and unmetered, socket_full",
            |socket| socket.dropped,
        );
        counter("flowprobe_af_packet_freezes_total", "How often the packet socket was full", |socket| {
            socket.freezes
        });
    }

    pub(super) fn encode_fragments(&self, to: &mut Encoder) {
        let Fragments { joined, given_up, held, known } = &self.fragments;
        to.family(
            "flowprobe_fragments_joined_total",
            Kind::Counter,
            "Later fragments counted in the flow of their first one",
        )
        .sample(&[], *joined);
        to.family(
            "flowprobe_fragments_given_up_total",
            Kind::Counter,
            "Later fragments counted without ports because their first one was not found, by why",
        );
        for (reason, count) in given_up.iter() {
            to.sample(&[("reason", reason)], count);
        }
        to.family("flowprobe_fragments_held", Kind::Gauge, "Later fragments that wait for their first one")
            .sample(&[], *held);
        to.family("flowprobe_fragments_known", Kind::Gauge, "First fragments whose ports are remembered")
            .sample(&[], *known);
    }

    pub(super) fn encode_harvesters(&self, to: &mut Encoder) {
        let mut family = |name, kind, help, value: fn(&Harvester) -> u64| {
            to.family(name, kind, help);
            for (number, harvester) in self.harvesters.iter().enumerate() {
                to.sample(&[("harvester", &number.to_string())], value(harvester));
            }
        };
        family(
            "flowprobe_harvester_flows_live",
            Kind::Gauge,
            "Flows in the harvester's part of the table",
            |harvester| harvester.live,
        );
        family(
            "flowprobe_harvester_flow_table_capacity",
            Kind::Gauge,
            "Flows that fit into the harvester's part of the table",
            |harvester| harvester.capacity,
        );
        family(
            "flowprobe_harvester_flows_created_total",
            Kind::Counter,
            "Flows that began at the harvester",
            |harvester| harvester.created,
        );
        family(
            "flowprobe_harvester_queue_length",
            Kind::Gauge,
            "Records between the harvester and the exporter",
            |harvester| harvester.queue_length,
        );
        family(
            "flowprobe_harvester_swaps_total",
            Kind::Counter,
            "How often the harvester has emptied the caches",
            |harvester| harvester.swaps,
        );
    }
}

impl AfXdpSocket {
    fn interface(&self) -> (&'static str, &str) {
        ("interface", &self.interface)
    }
}
