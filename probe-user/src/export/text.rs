// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A flow as people and scripts read it: one line of text, or one JSON object with the IANA names.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use probe_common::{Direction, FlowKey, IpVersion};
use serde::Serialize;

use super::detail_json::{DetailJson, known};
use crate::flow::FlowRecord;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const ICMPV6: u8 = 58;

/// A flow as a JSON object. Absent means not known.
#[derive(Serialize, Default, Clone, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct FlowJson {
    /// Source, IPv4.
    #[serde(rename = "sourceIPv4Address", skip_serializing_if = "Option::is_none")]
    pub source_ipv4: Option<Ipv4Addr>,
    /// Source, IPv6.
    #[serde(rename = "sourceIPv6Address", skip_serializing_if = "Option::is_none")]
    pub source_ipv6: Option<Ipv6Addr>,
    /// Destination, IPv4.
    #[serde(rename = "destinationIPv4Address", skip_serializing_if = "Option::is_none")]
    pub destination_ipv4: Option<Ipv4Addr>,
    /// Destination, IPv6.
    #[serde(rename = "destinationIPv6Address", skip_serializing_if = "Option::is_none")]
    pub destination_ipv6: Option<Ipv6Addr>,
    /// 0 where the protocol has no ports.
    pub source_transport_port: u16,
    /// Likewise.
    pub destination_transport_port: u16,
    /// IP protocol.
    pub protocol_identifier: u8,
    /// Type of service or traffic class.
    pub ip_class_of_service: u8,
    /// ifIndex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress_interface: Option<u32>,
    /// ifIndex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_interface: Option<u32>,
    /// On which way through the interface the packets were seen: 0 coming in, 1 going out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow_direction: Option<u8>,
    /// Packets.
    pub packet_delta_count: u64,
    /// Octets of the IP packets.
    pub octet_delta_count: u64,
    /// TCP flags.
    pub tcp_control_bits: u16,
    /// First packet, Unix time.
    pub flow_start_milliseconds: u64,
    /// Last packet, Unix time.
    pub flow_end_milliseconds: u64,
    /// IANA element 136.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow_end_reason: Option<u8>,
    /// Type * 256 + code.
    #[serde(rename = "icmpTypeCodeIPv4", skip_serializing_if = "Option::is_none")]
    pub icmp_type_code_ipv4: Option<u16>,
    /// Type * 256 + code.
    #[serde(rename = "icmpTypeCodeIPv6", skip_serializing_if = "Option::is_none")]
    pub icmp_type_code_ipv6: Option<u16>,
    /// Outer VLAN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan_id: Option<u16>,
    /// Inner VLAN.
    #[serde(rename = "dot1qCustomerVlanId", skip_serializing_if = "Option::is_none")]
    pub customer_vlan_id: Option<u16>,
    /// MAC addresses, TTLs, lengths, ….
    #[serde(flatten)]
    pub detail: DetailJson,
    /// AS number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bgp_source_as_number: Option<u32>,
    /// AS number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bgp_destination_as_number: Option<u32>,
    /// Prefix length.
    #[serde(rename = "sourceIPv4PrefixLength", skip_serializing_if = "Option::is_none")]
    pub source_prefix_length: Option<u8>,
    /// Prefix length.
    #[serde(rename = "destinationIPv4PrefixLength", skip_serializing_if = "Option::is_none")]
    pub destination_prefix_length: Option<u8>,
    /// Next hop.
    #[serde(rename = "ipNextHopIPv4Address", skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<Ipv4Addr>,
}

impl From<&FlowRecord> for FlowJson {
    fn from(record: &FlowRecord) -> Self {
        let FlowRecord { key, packets, octets, start_ns, end_ns, tcp_flags, end_reason, detail } = record;
        let mut json = Self {
            source_transport_port: key.source_port(),
            destination_transport_port: key.destination_port(),
            protocol_identifier: key.protocol(),
            ip_class_of_service: key.tos(),
            ingress_interface: known(key.ingress_interface()),
            egress_interface: known(key.egress_interface()),
            flow_direction: direction(key).map(|direction| direction as u8),
            packet_delta_count: *packets,
            octet_delta_count: *octets,
            tcp_control_bits: *tcp_flags,
            flow_start_milliseconds: start_ns / 1_000_000,
            flow_end_milliseconds: end_ns / 1_000_000,
            flow_end_reason: Some(*end_reason as u8),
            vlan_id: known(key.vlan()),
            customer_vlan_id: known(key.customer_vlan()),
            detail: detail.into(),
            ..Self::default()
        };
        match key.source() {
            IpAddr::V4(address) => json.source_ipv4 = Some(address),
            IpAddr::V6(address) => json.source_ipv6 = Some(address),
        }
        match key.destination() {
            IpAddr::V4(address) => json.destination_ipv4 = Some(address),
            IpAddr::V6(address) => json.destination_ipv6 = Some(address),
        }
        json.move_icmp(key.ip_version());
        json
    }
}

impl FlowJson {
    /// Moves type and code of ICMP from the port to their own element.
    fn move_icmp(&mut self, version: IpVersion) {
        let element = match (version, self.protocol_identifier) {
            (IpVersion::V4, ICMP) => &mut self.icmp_type_code_ipv4,
            (IpVersion::V6, ICMPV6) => &mut self.icmp_type_code_ipv6,
            _ => return,
        };
        *element = Some(std::mem::take(&mut self.destination_transport_port));
        self.source_transport_port = 0;
    }
}

/// A flow as a line of text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TextFlow {
    /// Source address and port.
    pub source: (IpAddr, u16),
    /// Destination address and port, or ICMP type * 256 + code.
    pub destination: (IpAddr, u16),
    /// IP protocol.
    pub protocol: u8,
    /// On which way through its interface it was seen, where that is known.
    pub direction: Option<Direction>,
    /// Type of service.
    pub tos: u8,
    /// TCP flags.
    pub tcp_flags: u16,
    /// Packets.
    pub packets: u64,
    /// Octets.
    pub octets: u64,
    /// Unix time.
    pub start_ms: u64,
    /// Unix time.
    pub end_ms: u64,
}

impl From<&FlowRecord> for TextFlow {
    fn from(record: &FlowRecord) -> Self {
        let key = &record.key;
        Self {
            source: (key.source(), key.source_port()),
            destination: (key.destination(), key.destination_port()),
            protocol: key.protocol(),
            direction: direction(key),
            tos: key.tos(),
            tcp_flags: record.tcp_flags,
            packets: record.packets,
            octets: record.octets,
            start_ms: record.start_ns / 1_000_000,
            end_ms: record.end_ns / 1_000_000,
        }
    }
}

impl TextFlow {
    /// Writes the line that stands above all others.
    pub fn write_header(out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "{:<23} {:>9}  {:<6} {:<3} {:>21} -> {:<21} {:<8} {:>4} {:>10} {:>14}",
            "Start (UTC)",
            "Duration",
            "Proto",
            "Dir",
            "Source",
            "Destination",
            "Flags",
            "ToS",
            "Packets",
            "Octets",
        )
    }

    /// Writes the line.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        write_utc(out, self.start_ms)?;
        let duration = self.end_ms.saturating_sub(self.start_ms);
        let protocol = match protocol_name(self.protocol) {
            Some(name) => name.to_owned(),
            None => self.protocol.to_string(),
        };
        let icmp = self.protocol == ICMP && self.source.0.is_ipv4()
            || self.protocol == ICMPV6 && self.source.0.is_ipv6();
        let source = endpoint(self.source.0, &self.source.1.to_string());
        let destination = if icmp {
            endpoint(
                self.destination.0,
                &format!("{}.{}", self.destination.1 >> 8, self.destination.1 & 0xff),
            )
        } else {
            endpoint(self.destination.0, &self.destination.1.to_string())
        };
        let flags = if self.protocol == TCP { flag_letters(self.tcp_flags) } else { "........".into() };
        let direction = match self.direction {
            None => "",
            Some(Direction::Ingress) => "in",
            Some(Direction::Egress) => "out",
        };
        writeln!(
            out,
            " {:>5}.{:03}  {protocol:<6} {direction:<3} {source:>21} -> {destination:<21} {flags} {:>4} {:>10} {:>14}",
            duration / 1000,
            duration % 1000,
            self.tos,
            self.packets,
            self.octets,
        )
    }
}

/// Packets of a capture file went through no interface of this host.
fn direction(key: &FlowKey) -> Option<Direction> {
    (key.interface() != 0).then(|| key.direction())
}

fn endpoint(address: IpAddr, port: &str) -> String {
    match address {
        IpAddr::V4(address) => format!("{address}:{port}"),
        IpAddr::V6(address) => format!("[{address}]:{port}"),
    }
}

/// The eight flags of RFC 9293, high bit first: CWR ECE URG ACK PSH RST SYN FIN.
fn flag_letters(flags: u16) -> String {
    "CEUAPRSF"
        .chars()
        .enumerate()
        .map(|(n, letter)| if flags >> (7 - n) & 1 == 1 { letter } else { '.' })
        .collect()
}

fn protocol_name(protocol: u8) -> Option<&'static str> {
    Some(match protocol {
        1 => "ICMP",
        2 => "IGMP",
        4 => "IPIP",
        6 => "TCP",
        17 => "UDP",
        41 => "IPv6",
        47 => "GRE",
        50 => "ESP",
        51 => "AH",
        58 => "ICMP6",
        88 => "EIGRP",
        89 => "OSPF",
        103 => "PIM",
        112 => "VRRP",
        132 => "SCTP",
        136 => "UDPL",
        _ => return None,
    })
}

/// What files of flows that begin at a Unix time are called, without what tells their kind:
/// `flows-20261121T051500Z`, in UTC.
#[must_use]
pub fn file_stem(unix_ns: u64) -> String {
    let mut text = Vec::new();
    // A vector takes everything, and it is ASCII.
    write_utc(&mut text, unix_ns / 1_000_000).ok();
    let text = String::from_utf8(text).unwrap_or_default();
    let (seconds, _) = text.split_once('.').unwrap_or((&text, ""));
    format!("flows-{}Z", seconds.replace(['-', ':'], "").replace(' ', "T"))
}

/// Writes a Unix time as `2026-11-20 23:43:25.123`, in UTC.
pub fn write_utc(out: &mut impl Write, unix_ms: u64) -> io::Result<()> {
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    // Days since 0000-03-01 in the proleptic Gregorian calendar, in eras of 400 years: the leap day is the
    // last day of such a year.
    let day = days + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = 400 * era + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    write!(out, "{year:04}-{month:02}-{day_of_month:02} {hour:02}:{minute:02}:{second:02}.{:03}", ms % 1000)
}

#[cfg(test)]
mod tests {
    use probe_common::Detail;

    use super::*;
    use crate::flow::EndReason;

    fn utc(unix_ms: u64) -> String {
        let mut out = Vec::new();
        write_utc(&mut out, unix_ms).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn calendar() {
        // Checked with date(1).
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_709_251_199, "2024-02-29 23:59:59"),
            (1_709_251_200, "2024-03-01 00:00:00"),
            (4_107_542_400, "2100-03-01 00:00:00"),
            (1_798_761_599, "2026-12-31 23:59:59"),
        ] {
            assert_eq!(utc(seconds * 1000 + 7), format!("{expected}.007"));
        }
        utc(u64::MAX);
    }

    fn record(key: FlowKey, tcp_flags: u16) -> FlowRecord {
        FlowRecord {
            key,
            packets: 10,
            octets: 1500,
            start_ns: 1_709_251_200_123_999_999,
            end_ns: 1_709_251_201_124_000_000,
            tcp_flags,
            end_reason: EndReason::Idle,
            detail: Detail::UNKNOWN,
        }
    }

    #[test]
    fn json_has_the_iana_names_and_leaves_out_what_is_not_known() {
        let mut key = FlowKey::ipv4([192, 0, 2, 1], [198, 51, 100, 2], TCP, 8);
        key.set_ports(40000, 443);
        key.set_ingress_interface(3);
        key.set_vlans(100, 0);
        let json = serde_json::to_string(&FlowJson::from(&record(key, 0x11b))).unwrap();
        assert_eq!(
            json,
            r#"{"sourceIPv4Address":"192.0.2.1","destinationIPv4Address":"198.51.100.2","#.to_owned()
                + r#""sourceTransportPort":40000,"destinationTransportPort":443,"protocolIdentifier":6,"#
                + r#""ipClassOfService":8,"ingressInterface":3,"flowDirection":0,"packetDeltaCount":10,"#
                + r#""octetDeltaCount":1500,"#
                + r#""tcpControlBits":283,"flowStartMilliseconds":1709251200123,"#
                + r#""flowEndMilliseconds":1709251201124,"flowEndReason":1,"vlanId":100}"#
        );
    }

    #[test]
    fn what_goes_out_names_the_interface_that_it_left_by() {
        let mut key = FlowKey::ipv4([192, 0, 2, 1], [198, 51, 100, 2], TCP, 8);
        key.set_interface(3, Direction::Egress);
        let told = |key| {
            let json = FlowJson::from(&record(key, 0));
            (json.ingress_interface, json.egress_interface, json.flow_direction)
        };
        assert_eq!(told(key), (None, Some(3), Some(1)));
        key.set_interface(0, Direction::Ingress);
        assert_eq!(told(key), (None, None, None), "a capture file");
    }

    #[test]
    fn icmp_has_type_and_code_and_no_ports() {
        let mut key = FlowKey::ipv6([0; 2], [0; 2], ICMPV6, 0);
        key.set_ports(0, 0x8000);
        let json = FlowJson::from(&record(key, 0));
        assert_eq!(json.icmp_type_code_ipv6, Some(0x8000));
        assert_eq!(json.destination_transport_port, 0);
        // ICMP over IPv6 is a protocol that nobody speaks, not ICMPv6.
        let json = FlowJson::from(&record(FlowKey::ipv6([0; 2], [0; 2], ICMP, 0), 0));
        assert_eq!((json.icmp_type_code_ipv4, json.icmp_type_code_ipv6), (None, None));
    }

    #[test]
    fn text_lines_stand_under_their_header() {
        let mut tcp = FlowKey::ipv4([192, 0, 2, 1], [198, 51, 100, 2], TCP, 8);
        tcp.set_ports(40000, 443);
        tcp.set_interface(3, Direction::Egress);
        let mut icmp = FlowKey::ipv4([192, 0, 2, 1], [198, 51, 100, 2], ICMP, 0);
        icmp.set_ports(0, 0x0301);
        let mut out = Vec::new();
        TextFlow::write_header(&mut out).unwrap();
        for record in [record(tcp, 0x1b), record(icmp, 0)] {
            TextFlow::from(&record).write(&mut out).unwrap();
        }
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..2],
            [
                "Start (UTC)              Duration  Proto  Dir                Source -> Destination           Flags     \
                 ToS    Packets         Octets",
                "2024-03-01 00:00:00.123     1.001  TCP    out       192.0.2.1:40000 -> 198.51.100.2:443      ...AP.SF    \
                 8         10           1500"
            ]
        );
        assert!(lines[2].contains("198.51.100.2:3.1 "), "{}", lines[2]);
    }
}
