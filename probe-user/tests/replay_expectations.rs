// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Flows that other projects expect of their captures, where they mean the same.
//!
//! Both tools fold the two directions into one flow; here each direction is compared for itself, summed
//! over all flows of a key, since timeouts and plugins cut flows differently.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod replay_support;

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use probe_common::{KEY_BASE_MASK, KEY_VLAN_MASK};
use replay_support::{corpus, files, options, replay};
use serde_json::Value;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// One direction: addresses, ports (0 for ICMP), protocol, VLAN where it is compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Direction {
    source: IpAddr,
    destination: IpAddr,
    ports: (u16, u16),
    protocol: u8,
    vlan: u16,
}

impl Direction {
    fn back(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            ports: (self.ports.1, self.ports.0),
            ..self
        }
    }
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Sum {
    packets: u64,
    octets: u64,
    tcp_flags: u16,
}

/// First and last packet of both directions, in microseconds.
type Span = (u64, u64);

fn widen(span: &mut Span, (first, last): Span) {
    *span = (span.0.min(first), span.1.max(last));
}

#[derive(Default)]
struct Flows {
    sums: BTreeMap<Direction, Sum>,
    spans: BTreeMap<Direction, Span>,
}

impl Flows {
    fn add(&mut self, direction: Direction, sum: Sum) {
        if sum.packets > 0 {
            let total = self.sums.entry(direction).or_default();
            total.packets += sum.packets;
            total.octets += sum.octets;
            total.tcp_flags |= sum.tcp_flags;
        }
    }

    fn add_span(&mut self, direction: Direction, span: Span) {
        widen(self.spans.entry(direction.min(direction.back())).or_insert((u64::MAX, 0)), span);
    }
}

fn ours(path: &Path, with_vlan: bool) -> Flows {
    let mut options = options();
    options.key_mask = if with_vlan { KEY_BASE_MASK | KEY_VLAN_MASK } else { KEY_BASE_MASK };
    let replayed = replay(path, options);
    assert!(replayed.fault.is_none(), "{:?}", replayed.fault);
    let mut flows = Flows::default();
    for record in replayed.records {
        let key = record.key;
        let has_ports = !matches!(key.protocol(), ICMP | ICMPV6);
        let direction = Direction {
            source: key.source(),
            destination: key.destination(),
            ports: if has_ports { (key.source_port(), key.destination_port()) } else { (0, 0) },
            protocol: key.protocol(),
            vlan: if with_vlan { key.vlan() } else { 0 },
        };
        // Others know the eight flags of RFC 3168.
        let tcp_flags = record.tcp_flags & 0xff;
        flows.add(direction, Sum { packets: record.packets, octets: record.octets, tcp_flags });
        flows.add_span(direction, (record.start_ns / 1000, record.end_ns / 1000));
    }
    flows
}

/// `2016-10-28T17:07:52.625696` (UTC) in microseconds of Unix time.
fn unix_us(text: &str) -> u64 {
    let number = |range: std::ops::Range<usize>| text[range].parse::<u64>().unwrap();
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    // Days since 1970 by counting from March, so that a leap day ends the year.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    let seconds = days * 86_400 + number(11..13) * 3600 + number(14..16) * 60 + number(17..19);
    seconds * 1_000_000 + number(20..26)
}

/// The flows in an output file of ipfixprobe: lines of comma-separated values, sorted, and so the header
/// (`uint64 BYTES,…`) stands anywhere.
fn ipfixprobe(path: &Path) -> Flows {
    let text = fs::read_to_string(path).unwrap();
    let is_header = |line: &&str| line.contains("ipaddr DST_IP");
    let header = text.lines().find(is_header).unwrap();
    let names: Vec<_> = header.split(',').map(|column| column.split_once(' ').unwrap().1).collect();
    let mut flows = Flows::default();
    for line in text.lines().filter(|line| !is_header(line)) {
        let values: Vec<_> = line.split(',').collect();
        let field = |name: &str| values[names.iter().position(|known| *known == name).unwrap()];
        let number = |name: &str| field(name).parse::<u64>().unwrap();
        let small = |name: &str| field(name).parse::<u16>().unwrap();
        let direction = Direction {
            source: field("SRC_IP").parse().unwrap(),
            destination: field("DST_IP").parse().unwrap(),
            ports: (small("SRC_PORT"), small("DST_PORT")),
            protocol: field("PROTOCOL").parse().unwrap(),
            vlan: if names.contains(&"VLAN_ID") { small("VLAN_ID") } else { 0 },
        };
        let (packets, octets) = (number("PACKETS"), number("BYTES"));
        flows.add(direction, Sum { packets, octets, tcp_flags: small("TCP_FLAGS") });
        let (packets, octets) = (number("PACKETS_REV"), number("BYTES_REV"));
        flows.add(direction.back(), Sum { packets, octets, tcp_flags: small("TCP_FLAGS_REV") });
        flows.add_span(direction, (unix_us(field("TIME_FIRST")), unix_us(field("TIME_LAST"))));
    }
    flows
}

/// Output and capture, and whether every flow of the capture is in the output. Plugins that know one
/// protocol leave the others out.
///
/// Not compared: `netbios` and `ssadetector` (their outputs are of other captures than those here),
/// `nettisa` (leaves out single packets), `basicplus` and `passivedns` (octets and packets are no part of
/// them, or of some flows alone).
const IPFIXPROBE: [(&str, &str, bool); 19] = [
    ("basic", "mixed", true),
    ("bstats", "bstats", false),
    ("dns", "dns", true),
    ("dnssd", "dnssd", true),
    ("http", "http", true),
    ("idpcontent", "idpcontent", true),
    ("mqtt", "mqtt", true),
    ("ntp", "ntp", true),
    ("ovpn", "ovpn", false),
    ("phists", "mixed", true),
    ("pstats", "mixed", true),
    ("quic", "quic_initial-sample", true),
    ("rtsp", "rtsp", true),
    ("sip", "sip", false),
    ("smtp", "smtp", false),
    ("ssdp", "ssdp", true),
    ("tls", "tls", false),
    ("vlan", "vlan", true),
    ("wg", "wg", true),
];

/// Packets, octets, TCP flags, first and last packet to the microsecond.
#[test]
fn ipfixprobe_expects_the_same_flows() {
    let Some(folder) = corpus("ipfixprobe") else { return };
    let folder = folder.join("tests/functional");
    let (mut directions, mut spans) = (0, 0);
    for (output, capture, complete) in IPFIXPROBE {
        let theirs = ipfixprobe(&folder.join("outputs").join(output));
        let ours = ours(&folder.join("inputs").join(capture).with_extension("pcap"), output == "vlan");
        for (direction, sum) in &theirs.sums {
            assert_eq!(ours.sums.get(direction), Some(sum), "{output}: {direction:?}");
        }
        for (direction, span) in &theirs.spans {
            assert_eq!(ours.spans.get(direction), Some(span), "{output}: {direction:?}");
        }
        if complete {
            assert_eq!(ours.sums.len(), theirs.sums.len(), "{output}: flows that they do not have");
        }
        directions += theirs.sums.len();
        spans += theirs.spans.len();
    }
    println!("{directions} directions, {spans} flows of ipfixprobe compared");
    assert!(directions >= 286 && spans >= 212, "only {directions} directions and {spans} flows compared");
}

/// Captures of Arkime that mean something else, and why.
const ARKIME_OTHERWISE: [(&str, &str); 20] = [
    ("6-4-gre-ppp-udp-4-dns", "inside of a tunnel"),
    ("80211http", "IEEE 802.11"),
    ("gre-erspan", "inside of a tunnel"),
    ("gre-erspan-vxlan", "inside of a tunnel"),
    ("gre-sample", "inside of a tunnel"),
    ("gtp-iphone", "inside of a tunnel"),
    ("gtp-u", "inside of a tunnel"),
    ("icmp-frame-relay", "frame relay"),
    ("igmp", "one session for all groups"),
    ("ipv6-gtp6", "inside of a tunnel"),
    ("ipv6-in-ipv4", "inside of a tunnel"),
    ("nflog", "netfilter log"),
    ("pim", "one session for both directions"),
    ("pppoe", "inside of PPPoE"),
    ("single-packets", "takes a SYN-ACK for the way back of a connection not seen"),
    ("socks5-http-302-frag", "counts a datagram, not its fragments"),
    ("tcpdump-geneve", "inside of a tunnel"),
    ("vxlan", "inside of a tunnel"),
    ("wireshark-dhcp", "puts a broadcast and its answer into one session"),
    ("wireshark-dhcpv6", "puts a multicast and its answer into one session"),
];

/// The sessions of a test file, or `None` when one of them is not of IP. Arkime counts the octets of frames.
fn arkime(path: &Path) -> Option<Flows> {
    let test: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let mut flows = Flows::default();
    for session in test["sessions3"].as_array()? {
        let body = &session["body"];
        let side = |side: &str| {
            let side = &body[side];
            let sum =
                Sum { packets: side["packets"].as_u64()?, octets: side["bytes"].as_u64()?, tcp_flags: 0 };
            let port = side["port"].as_u64().unwrap_or(0);
            Some((side["ip"].as_str()?.parse::<IpAddr>().ok()?, u16::try_from(port).ok()?, sum))
        };
        let ((source, from, there), (destination, to, back)) = (side("source")?, side("destination")?);
        let protocol = u8::try_from(body["ipProtocol"].as_u64()?).ok()?;
        let ports = if matches!(protocol, ICMP | ICMPV6) { (0, 0) } else { (from, to) };
        let direction = Direction { source, destination, ports, protocol, vlan: 0 };
        flows.add(direction, there);
        flows.add(direction.back(), back);
    }
    (!flows.sums.is_empty()).then_some(flows)
}

/// Packets of both directions in every file but those above; octets where frames have no padding, which is
/// when they are those of the packets and 14 for each Ethernet header.
#[test]
fn arkime_expects_the_same_packets() {
    let Some(folder) = corpus("arkime") else { return };
    let (mut compared, mut directions, mut same_octets) = (0, 0, 0);
    for test in files(&folder, &["test"]) {
        let name = test.file_stem().unwrap().to_str().unwrap();
        if ARKIME_OTHERWISE.iter().any(|(other, _)| *other == name) {
            continue;
        }
        let capture =
            ["pcap", "pcapng"].map(|end| test.with_extension(end)).into_iter().find(|path| path.is_file());
        let (Some(capture), Some(theirs)) = (capture, arkime(&test)) else { continue };
        let ours = ours(&capture, false);
        let packets = |flows: &Flows| -> Vec<_> {
            flows.sums.iter().map(|(direction, sum)| (*direction, sum.packets)).collect()
        };
        assert_eq!(packets(&ours), packets(&theirs), "{name}");
        compared += 1;
        for (ours, theirs) in ours.sums.values().zip(theirs.sums.values()) {
            directions += 1;
            same_octets += usize::from(ours.octets + 14 * ours.packets == theirs.octets);
        }
    }
    println!("{compared} captures of Arkime, {directions} directions, {same_octets} with the same octets");
    assert!(compared >= 167, "only {compared} captures compared");
    assert!(same_octets >= 588, "only {same_octets} of {directions} directions have the same octets");
}
