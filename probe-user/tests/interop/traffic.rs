// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What crosses the interface, and what the probe says of it.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use probe_lab::{
    FlowId, Sums,
    conversations::Hosts,
    flows_of,
    packets::{Packet, Transport},
};
use serde_json::Value;

use super::{
    seen::Seen,
    tool::{address, narrow, number},
};

/// Flows of every kind over IPv4; `batch` sets those of several calls apart.
pub(crate) fn ipv4(batch: u8) -> Vec<Packet> {
    let mut packets = Vec::new();
    for host in 1..=15u8 {
        let client = Ipv4Addr::new(192, 0, batch, host);
        let server = Ipv4Addr::new(198, 51, 100, host % 5);
        let hosts = Hosts::new(client, server).with_tos(if host % 3 == 0 { 0xb8 } else { 0 });
        let port = 40_000 + u16::from(host);
        packets.extend(hosts.download(port, 443, 700 * usize::from(host)));
        packets.extend(hosts.query(port, 53, 30 + usize::from(host), 200));
        packets.extend(hosts.ping(u16::from(host) % 4 + 1));
        // GRE and ESP have no ports.
        for protocol in [47, 50] {
            let other = Packet::new(client.into(), server.into(), Transport::Other(protocol));
            packets.push(Packet { payload: vec![0; 60], ..other });
        }
    }
    packets
}

/// Flows of every kind over IPv6.
pub(crate) fn ipv6(batch: u16) -> Vec<Packet> {
    let mut packets = Vec::new();
    for host in 1..=15u16 {
        let client = Ipv6Addr::new(0x2001, 0xdb8, batch, 0, 0, 0, 0, host);
        let server = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 1, 2, 3, 4, host % 5);
        let hosts = Hosts::new(client, server).with_tos(if host % 3 == 0 { 0x48 } else { 0 });
        packets.extend(hosts.download(40_000 + host, 443, 300 * usize::from(host)));
        packets.extend(hosts.query(40_000 + host, 53, 31, 300));
        packets.extend(hosts.ping(host % 3 + 1));
    }
    packets
}

/// Flows of both versions in VLANs, some below a service tag.
pub(crate) fn vlans() -> Vec<Packet> {
    let mut packets = Vec::new();
    for vlan in [1, 7, 100, 4094] {
        let port = 50_000 + vlan;
        let four = Hosts::new(Ipv4Addr::new(203, 0, 113, 1), Ipv4Addr::new(203, 0, 113, 2));
        packets.extend(four.clone().in_vlan(vlan).download(port, 80, 3000));
        packets.extend(four.in_vlan(200).in_vlan(vlan).query(port, 5060, 100, 400));
        let six = Hosts::new("2001:db8:1::1".parse::<Ipv6Addr>().unwrap(), Ipv6Addr::LOCALHOST);
        packets.extend(six.in_vlan(vlan).query(port, 53, 50, 400));
    }
    packets
}

/// What a probe that prints JSON said of the records that it exported.
pub(crate) fn printed(output: &str) -> Vec<Seen> {
    output
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| printed_record(&serde_json::from_str(line).unwrap()))
        .collect()
}

fn printed_record(record: &Value) -> Seen {
    let version = if record.get("sourceIPv4Address").is_some() { "IPv4" } else { "IPv6" };
    let type_code = record.get("icmpTypeCodeIPv4").or_else(|| record.get("icmpTypeCodeIPv6"));
    let port = number(record, "destinationTransportPort");
    Seen {
        flow: FlowId {
            source: address(record, &format!("source{version}Address")),
            destination: address(record, &format!("destination{version}Address")),
            source_port: narrow(number(record, "sourceTransportPort")),
            destination_port: narrow(type_code.map_or(port, |code| code.as_u64().unwrap())),
            protocol: narrow(number(record, "protocolIdentifier")),
            tos: narrow(number(record, "ipClassOfService")),
        },
        vlan: narrow(record.get("vlanId").map_or(0, |vlan| vlan.as_u64().unwrap())),
        packets: number(record, "packetDeltaCount"),
        octets: number(record, "octetDeltaCount"),
        tcp_flags: number(record, "tcpControlBits").to_be_bytes()[7],
        // Packets of a capture file came over none.
        interface: narrow(record.get("ingressInterface").map_or(0, |index| index.as_u64().unwrap())),
        start_ms: number(record, "flowStartMilliseconds"),
        end_ms: number(record, "flowEndMilliseconds"),
    }
}

/// The records must tell exactly of these packets, which crossed the interface between two times (Unix time
/// in milliseconds).
pub(crate) fn assert_true(records: &[Seen], packets: &[Packet], interface: u32, from_ms: u64, until_ms: u64) {
    // The probe's clock ticks with the kernel's jiffies.
    const TICK_MS: u64 = 20;
    let mut flows: BTreeMap<FlowId, Sums> = BTreeMap::new();
    for record in records {
        *flows.entry(record.flow).or_default() += record.sums();
    }
    assert_eq!(probe_lab::difference(&flows_of(packets), &flows), None, "the probe's own records");
    let mut truth: BTreeMap<FlowId, (u8, u16)> = BTreeMap::new();
    for packet in packets {
        let vlan = packet.vlans.first().copied().unwrap_or(0);
        let (flags, _) = truth.entry(packet.id()).or_insert((0, vlan));
        if let Transport::Tcp { flags: more, .. } = packet.transport {
            *flags |= more;
        }
    }
    for record in records {
        let (flags, vlan) = truth[&record.flow];
        assert_eq!((record.tcp_flags, record.vlan, record.interface), (flags, vlan, interface), "{record}");
        assert!(
            from_ms.saturating_sub(TICK_MS) <= record.start_ms
                && record.start_ms <= record.end_ms
                && record.end_ms <= until_ms + TICK_MS,
            "{record} is not within {from_ms} to {until_ms}"
        );
    }
}

/// Now, in Unix time.
pub(crate) fn now_ms() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_REALTIME).unwrap();
    u64::try_from(now.tv_sec()).unwrap() * 1000 + u64::try_from(now.tv_nsec()).unwrap() / 1_000_000
}
