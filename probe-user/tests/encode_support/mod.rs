// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Encoders as the exporter uses them, flows of every kind, and what collectors should read of them.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

pub(crate) mod decoders;

use std::net::IpAddr;
use std::time::Duration;

use probe_common::{Detail, Direction, FlowKey};
use probe_user::export::encode::{Encoder, EncoderSettings, ExportFlow, Now, Told, encoder};
use probe_user::export::{CollectorUrl, Cursor, DatagramRing, ExporterOptions, StreamSettings};
use probe_user::flow::{EndReason, FlowRecord, Timestamp};
use proptest::prelude::*;

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1000 * MS;
pub(crate) const DAY: u64 = 86_400 * SECOND;
/// Some day in 2026.
pub(crate) const UNIX: u64 = 1_780_000_000 * SECOND;
/// Last nanosecond that all formats can tell.
const LAST: u64 = ((1 << 32) - 1) * SECOND;

/// Settings of a collector whose messages may have so many octets.
pub(crate) fn settings(url: &str, octets: usize) -> EncoderSettings {
    let url: CollectorUrl = url.parse().unwrap();
    StreamSettings::new(&ExporterOptions::default(), &url, 0, octets).encoder
}

/// An encoder and the messages that come of it.
pub(crate) struct Line {
    pub(crate) encoder: Box<dyn Encoder>,
    ring: DatagramRing,
    cursor: Cursor,
    /// Flow records in the messages so far.
    pub(crate) records: u64,
}

impl Line {
    pub(crate) fn new(settings: &EncoderSettings, offset: u32) -> Self {
        let ring = DatagramRing::new(1 << 14, settings.largest_message());
        let mut encoder = encoder(settings, offset);
        encoder.set_interfaces(&[3 + offset]);
        Self { encoder, ring, cursor: Cursor::default(), records: 0 }
    }

    pub(crate) fn encode(&mut self, record: &FlowRecord, now: Now) {
        self.pair(record, None, now);
    }

    pub(crate) fn pair(&mut self, forward: &FlowRecord, reverse: Option<&FlowRecord>, now: Now) {
        self.encoder.encode(&ExportFlow { forward, reverse }, now, &mut self.ring).unwrap();
    }

    pub(crate) fn seal(&mut self, now: Now) {
        self.encoder.seal(now, &mut self.ring);
    }

    pub(crate) fn tick(&mut self, told: &Told, now: Now) {
        self.encoder.tick(told, now, &mut self.ring);
    }

    /// Messages since the last call.
    pub(crate) fn take(&mut self) -> Vec<Vec<u8>> {
        assert_eq!(self.ring.catch_up(&mut self.cursor), 0, "the ring is large enough");
        let mut messages = Vec::new();
        while let Some(run) = self.ring.run(&self.cursor, 1) {
            messages.extend(run.iter().map(<[u8]>::to_vec));
            self.records += self.ring.advance(&mut self.cursor, 1);
        }
        messages
    }
}

/// Both clocks, so many nanoseconds after the start.
pub(crate) fn now(unix_ns: u64, after: u64) -> Now {
    Now { unix_ns, at: Timestamp(1 + after) }
}

/// A flow, and what the host's clock says when it is exported.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Export {
    pub(crate) record: FlowRecord,
    pub(crate) now: u64,
}

fn times() -> impl Strategy<Value = (u64, u64, u64)> {
    // Around the wraps of 31 and 32 bits of milliseconds since anything, and anywhere in between.
    let wrap = prop_oneof![Just(1u64 << 31), Just(1 << 32), Just(0)];
    let base = prop_oneof![Just(0u64), Just(1_700_000_000 * SECOND), 0..LAST - 200 * DAY];
    let start = (base, wrap, -3_000i64..3_000).prop_map(|(base, wrap, around)| {
        (base + wrap * MS).saturating_add_signed(around * 1_000_000 + 123_456)
    });
    let duration = prop_oneof![0..400 * SECOND, 0..2 * MS, 0..20 * DAY];
    let lag = prop_oneof![0..20 * SECOND, Just(0u64), 0..60 * DAY].prop_map(u64::cast_signed);
    let step_back = prop_oneof![4 => Just(0i64), 1 => 0..(30 * DAY).cast_signed()];
    (start, duration, lag, step_back).prop_map(|(start, duration, lag, back)| {
        let end = (start + duration).min(LAST);
        (start.min(end), end, end.saturating_add_signed(lag - back).min(LAST))
    })
}

pub(crate) fn counters() -> impl Strategy<Value = u64> {
    let edge = u64::from(u32::MAX);
    prop_oneof![4 => 1u64..10_000, 1 => edge - 2..edge + 3, 1 => 1..edge * 9, 1 => Just(1 << 38)]
}

fn detail() -> impl Strategy<Value = Detail> {
    let macs = any::<([u8; 6], [u8; 6])>();
    let rest = (0u32..1 << 20, any::<(u16, u16, u8, u8)>(), prop_oneof![Just(0u8), Just(0x40), Just(0x60)]);
    (macs, rest).prop_map(
        |((source_mac, destination_mac), (flow_label, (min_length, max_length, min_ttl, max_ttl), flags))| {
            Detail {
                source_mac,
                destination_mac,
                flow_label,
                min_length,
                max_length,
                min_ttl,
                max_ttl,
                fragment_flags: flags,
                known: Detail::IP | Detail::MAC,
            }
        },
    )
}

fn key() -> impl Strategy<Value = FlowKey> {
    let words = any::<([u8; 8], [u8; 8], [u8; 8], [u8; 8])>();
    let protocol = prop_oneof![Just(1u8), Just(58), Just(6), Just(17), any::<u8>()];
    let way = prop_oneof![Just(Direction::Ingress), Just(Direction::Egress)];
    let rest = (any::<(u16, u16, u8)>(), (0u32..200_000, way), 0u16..4096, 0u16..4096);
    (any::<bool>(), words, protocol, rest).prop_map(|(v6, (a, b, c, d), protocol, rest)| {
        let ((source_port, destination_port, tos), (interface, way), outer, inner) = rest;
        let word = u64::from_ne_bytes;
        let mut key = if v6 {
            FlowKey::ipv6([word(a), word(b)], [word(c), word(d)], protocol, tos)
        } else {
            FlowKey::ipv4([a[0], a[1], a[2], a[3]], [b[0], b[1], b[2], b[3]], protocol, tos)
        };
        let icmp = is_icmp(&key);
        key.set_ports(if icmp { 0 } else { source_port }, destination_port);
        key.set_interface(interface, way);
        key.set_vlans(outer, inner);
        key
    })
}

pub(crate) fn is_icmp(key: &FlowKey) -> bool {
    key.protocol() == if key.source().is_ipv4() { 1 } else { 58 }
}

/// Flows of both IP versions and of any time.
pub(crate) fn export() -> impl Strategy<Value = Export> {
    let reason = prop::sample::select(EndReason::ALL.to_vec());
    (key(), times(), counters(), counters(), 0u16..0x1000, reason, detail()).prop_map(
        |(key, (start_ns, end_ns, now), packets, octets, tcp_flags, end_reason, detail)| Export {
            record: FlowRecord { key, packets, octets, start_ns, end_ns, tcp_flags, end_reason, detail },
            now,
        },
    )
}

pub(crate) fn number(octets: &[u8]) -> u128 {
    octets.iter().fold(0, |number, octet| number << 8 | u128::from(*octet))
}

fn address(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// What IANA's element should say of a flow, for a collector that is told times in Unix milliseconds.
/// `own_icmp`: type and code of ICMP stand in an element of their own only.
pub(crate) fn expected(id: u16, record: &FlowRecord, own_icmp: bool) -> u128 {
    let (key, detail) = (&record.key, &record.detail);
    let icmp = is_icmp(key);
    match id {
        1 => record.octets.into(),
        2 => record.packets.into(),
        4 => key.protocol().into(),
        5 => key.tos().into(),
        6 => record.tcp_flags.into(),
        7 => key.source_port().into(),
        8 | 27 => address(key.source()),
        10 => key.ingress_interface().into(),
        11 if icmp && own_icmp => 0,
        11 => key.destination_port().into(),
        12 | 28 => address(key.destination()),
        14 => key.egress_interface().into(),
        // Not known to a passive probe.
        9 | 13 | 15 | 16 | 17 | 29 | 30 | 62 => 0,
        25 => detail.min_length.into(),
        26 => detail.max_length.into(),
        31 => detail.flow_label.into(),
        32 | 139 if icmp => key.destination_port().into(),
        32 | 139 => 0,
        34 => 1,
        52 => detail.min_ttl.into(),
        53 => detail.max_ttl.into(),
        56 => number(&detail.source_mac),
        58 | 243 => key.vlan().into(),
        60 if key.source().is_ipv4() => 4,
        60 => 6,
        61 => key.direction() as u128,
        80 => number(&detail.destination_mac),
        136 => record.end_reason as u128,
        152 => (record.start_ns / MS).into(),
        153 => (record.end_ns / MS).into(),
        197 => detail.fragment_flags.into(),
        245 => key.customer_vlan().into(),
        _ => panic!("element {id} is not expected"),
    }
}

/// A plain TCP flow over interface 3 and VLAN 100.
pub(crate) fn plain() -> FlowRecord {
    let mut key = FlowKey::ipv4([192, 0, 2, 1], [198, 51, 100, 7], 6, 0xb8);
    key.set_ports(40_000, 443);
    key.set_ingress_interface(3);
    key.set_vlans(100, 20);
    FlowRecord {
        key,
        packets: 10,
        octets: 4_000,
        start_ns: UNIX - 20 * SECOND,
        end_ns: UNIX - 15 * SECOND + 123 * MS,
        tcp_flags: 0x01b,
        end_reason: EndReason::End,
        detail: Detail {
            source_mac: [2, 0, 0, 0, 0, 1],
            destination_mac: [2, 0, 0, 0, 0, 2],
            flow_label: 0,
            min_length: 40,
            max_length: 1500,
            min_ttl: 62,
            max_ttl: 64,
            fragment_flags: 0x40,
            known: Detail::IP | Detail::MAC,
        },
    }
}

/// The same over IPv6.
pub(crate) fn plain_v6() -> FlowRecord {
    let half = |text: [u8; 8]| u64::from_ne_bytes(text);
    let documentation = half([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0]);
    let host = |last| half([0, 0, 0, 0, 0, 0, 0, last]);
    let mut key = FlowKey::ipv6([documentation, host(1)], [documentation, host(2)], 17, 0);
    key.set_ports(5353, 53);
    key.set_ingress_interface(3);
    let detail = Detail { flow_label: 0x12345, ..plain().detail };
    FlowRecord { key, tcp_flags: 0, end_reason: EndReason::Idle, detail, ..plain() }
}

/// An echo request.
pub(crate) fn ping() -> FlowRecord {
    let mut key = FlowKey::ipv4([192, 0, 2, 1], [198, 51, 100, 7], 1, 0);
    key.set_ports(0, 8 << 8);
    key.set_ingress_interface(3);
    FlowRecord { key, tcp_flags: 0, end_reason: EndReason::Active, ..plain() }
}

/// What options tell in tests.
pub(crate) fn told() -> Told {
    use probe_user::export::encode::{InterfaceName, MeteringStatistics};
    Told {
        interfaces: vec![
            InterfaceName { index: 3, name: "eth1".into(), description: "mirror port".into() },
            InterfaceName { index: 4, name: "eth2".into(), description: String::new() },
        ],
        metering: MeteringStatistics {
            observed_flows: 1000,
            ignored_packets: 7,
            ignored_octets: 700,
            not_sent_flows: 3,
            not_sent_packets: 30,
            not_sent_octets: 3000,
        },
        idle_timeout: Duration::from_secs(15),
        active_timeout: Duration::from_secs(300),
        ..Told::default()
    }
}
