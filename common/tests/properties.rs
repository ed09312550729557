// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What holds for any packet: the parser never panics, agrees with an independent one (etherparse), and
//! is not misled by padding, options or a cut.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use etherparse::{
    Ethernet2Header, IpAuthHeader, IpFragOffset, IpNumber, Ipv4Header, Ipv6Extensions, Ipv6FragmentHeader,
    Ipv6Header, Ipv6RawExtHeader, LinkExtSlice, LinkSlice, NetSlice, SingleVlanHeader, SlicedPacket,
    TransportSlice, VlanId,
};
use probe_common::parse::{Fragment, ParsedPacket, SliceBytes, parse, parse_ip};
use probe_common::{Detail, FlowKey, HashSeed, IpVersion, KEY_BASE_MASK, Note};
use proptest::collection::vec;
use proptest::prelude::*;

/// A valid packet, before it is written.
#[derive(Clone, Debug)]
struct Case {
    macs: ([u8; 6], [u8; 6]),
    ttl: u8,
    flow_label: u32,
    dont_fragment: bool,
    vlans: Vec<u16>,
    ip: Ip,
    tos: u8,
    transport: Transport,
    payload: Vec<u8>,
    padding: usize,
}

#[derive(Clone, Debug)]
enum Ip {
    V4 { source: [u8; 4], destination: [u8; 4], option_words: usize, fragment: Option<(u16, bool)> },
    V6 { source: [u8; 16], destination: [u8; 16], extensions: Vec<Extension>, fragment: Option<(u16, bool)> },
}

/// The IPv6 extension headers other than the fragment header, in a form that etherparse writes.
#[derive(Clone, Copy, Debug)]
enum Extension {
    Raw(IpNumber, usize),
    Authentication(usize),
}

#[derive(Clone, Debug)]
enum Transport {
    Tcp { ports: (u16, u16), flags: u16, option_words: u16 },
    Udp { ports: (u16, u16) },
    Sctp { ports: (u16, u16) },
    Icmp { kind: u8, code: u8 },
    Other { protocol: u8 },
}

impl Transport {
    fn protocol(&self, version: IpVersion) -> u8 {
        match (self, version) {
            (Self::Tcp { .. }, _) => 6,
            (Self::Udp { .. }, _) => 17,
            (Self::Sctp { .. }, _) => 132,
            (Self::Icmp { .. }, IpVersion::V4) => 1,
            (Self::Icmp { .. }, IpVersion::V6) => 58,
            (Self::Other { protocol }, _) => *protocol,
        }
    }

    /// Ports as the key has them, and TCP flags.
    fn expected(&self) -> (u16, u16, u16) {
        match *self {
            Self::Tcp { ports, flags, .. } => (ports.0, ports.1, flags),
            Self::Udp { ports } | Self::Sctp { ports } => (ports.0, ports.1, 0),
            Self::Icmp { kind, code } => (0, u16::from(kind) << 8 | u16::from(code), 0),
            Self::Other { .. } => (0, 0, 0),
        }
    }

    /// Octets of its header, where segmentation offload knows the protocol.
    fn header_octets(&self) -> u32 {
        match *self {
            Self::Tcp { option_words, .. } => 20 + u32::from(option_words) * 4,
            Self::Udp { .. } => 8,
            Self::Sctp { .. } => 12,
            Self::Icmp { .. } | Self::Other { .. } => 0,
        }
    }

    fn write(&self, payload: &[u8]) -> Vec<u8> {
        let mut octets = match *self {
            Self::Tcp { ports, flags, option_words } => {
                let mut header = vec![0; 20 + usize::from(option_words) * 4];
                header[..2].copy_from_slice(&ports.0.to_be_bytes());
                header[2..4].copy_from_slice(&ports.1.to_be_bytes());
                header[12..14].copy_from_slice(&((5 + option_words) << 12 | flags).to_be_bytes());
                header
            }
            Self::Udp { ports } => {
                let length = u16::try_from(8 + payload.len()).unwrap();
                [ports.0, ports.1, length, 0].into_iter().flat_map(u16::to_be_bytes).collect()
            }
            Self::Sctp { ports } => {
                [ports.0, ports.1, 0, 1, 2, 3].into_iter().flat_map(u16::to_be_bytes).collect()
            }
            Self::Icmp { kind, code } => vec![kind, code, 0, 0, 0, 0, 0, 0],
            Self::Other { .. } => Vec::new(),
        };
        octets.extend_from_slice(payload);
        octets
    }
}

impl Case {
    fn version(&self) -> IpVersion {
        match self.ip {
            Ip::V4 { .. } => IpVersion::V4,
            Ip::V6 { .. } => IpVersion::V6,
        }
    }

    fn fragment(&self) -> Option<(u16, bool)> {
        match self.ip {
            Ip::V4 { fragment, .. } | Ip::V6 { fragment, .. } => fragment,
        }
    }

    /// Octets of IP and transport headers; a later fragment has none of the latter.
    fn header_octets(&self) -> u32 {
        let ip = match &self.ip {
            Ip::V4 { option_words, .. } => 20 + option_words * 4,
            Ip::V6 { extensions, fragment, .. } => 40 + self.chain(extensions, *fragment).1.len(),
        };
        let is_later = self.fragment().is_some_and(|(offset, _)| offset != 0);
        u32::try_from(ip).unwrap() + if is_later { 0 } else { self.transport.header_octets() }
    }

    fn write(&self) -> Vec<u8> {
        let ip_type = if self.version() == IpVersion::V4 { 0x0800 } else { 0x86dd };
        let mut types: Vec<u16> = self.vlans.iter().map(|_| 0x8100).collect();
        if types.len() == 2 {
            types[0] = 0x88a8;
        }
        types.push(ip_type);
        let link = Ethernet2Header {
            source: self.macs.0,
            destination: self.macs.1,
            ether_type: etherparse::EtherType(types[0]),
        };
        let mut frame = link.to_bytes().to_vec();
        for (vlan, next) in self.vlans.iter().zip(&types[1..]) {
            let tag = SingleVlanHeader {
                vlan_id: VlanId::try_new(*vlan).unwrap(),
                ether_type: etherparse::EtherType(*next),
                ..Default::default()
            };
            frame.extend_from_slice(&tag.to_bytes());
        }
        let transport = self.transport.write(&self.payload);
        match &self.ip {
            Ip::V4 { source, destination, option_words, fragment } => {
                let mut header = Ipv4Header {
                    dscp: (self.tos >> 2).try_into().unwrap(),
                    ecn: (self.tos & 3).try_into().unwrap(),
                    protocol: IpNumber(self.transport.protocol(IpVersion::V4)),
                    time_to_live: self.ttl,
                    dont_fragment: self.dont_fragment,
                    source: *source,
                    destination: *destination,
                    options: vec![1; option_words * 4].as_slice().try_into().unwrap(),
                    ..Default::default()
                };
                header.set_payload_len(transport.len()).unwrap();
                if let Some((offset, more)) = fragment {
                    header.fragment_offset = IpFragOffset::try_new(*offset).unwrap();
                    header.more_fragments = *more;
                    header.identification = 0x1234;
                }
                header.header_checksum = header.calc_header_checksum();
                frame.extend_from_slice(&header.to_bytes());
            }
            Ip::V6 { source, destination, extensions, fragment } => {
                let (first, chain) = self.chain(extensions, *fragment);
                let header = Ipv6Header {
                    traffic_class: self.tos,
                    payload_length: u16::try_from(chain.len() + transport.len()).unwrap(),
                    next_header: IpNumber(first),
                    hop_limit: self.ttl,
                    flow_label: self.flow_label.try_into().unwrap(),
                    source: *source,
                    destination: *destination,
                };
                frame.extend_from_slice(&header.to_bytes());
                frame.extend_from_slice(&chain);
            }
        }
        frame.extend_from_slice(&transport);
        frame.resize(frame.len() + self.padding, 0xff);
        frame
    }

    /// The IPv6 extension headers and the number of the first one.
    fn chain(&self, extensions: &[Extension], fragment: Option<(u16, bool)>) -> (u8, Vec<u8>) {
        let mut next = self.transport.protocol(IpVersion::V6);
        let mut headers = Vec::new();
        if let Some((offset, more)) = fragment {
            let offset = IpFragOffset::try_new(offset).unwrap();
            headers
                .push(Ipv6FragmentHeader::new(IpNumber(next), offset, more, 0xfedc_ba98).to_bytes().to_vec());
            next = 44;
        }
        for extension in extensions.iter().rev() {
            match *extension {
                Extension::Raw(number, words) => {
                    let content = vec![0; 6 + words * 8];
                    let header = Ipv6RawExtHeader::new_raw(IpNumber(next), &content).unwrap();
                    headers.push(header.to_bytes().to_vec());
                    next = number.0;
                }
                Extension::Authentication(words) => {
                    let header = IpAuthHeader::new(IpNumber(next), 1, 2, &vec![0; words * 4]).unwrap();
                    headers.push(header.to_bytes().to_vec());
                    next = 51;
                }
            }
        }
        (next, headers.into_iter().rev().flatten().collect())
    }
}

fn fragment() -> impl Strategy<Value = Option<(u16, bool)>> {
    prop_oneof![3 => Just(None), 1 => (prop_oneof![Just(0), 1u16..0x1fff], any::<bool>()).prop_map(Some)]
}

fn ip() -> impl Strategy<Value = Ip> {
    let v4 = (any::<[u8; 4]>(), any::<[u8; 4]>(), 0..=10usize, fragment()).prop_map(
        |(source, destination, option_words, fragment)| Ip::V4 {
            source,
            destination,
            option_words,
            fragment,
        },
    );
    // The order that RFC 8200 section 4.1 recommends, which is the one that etherparse accepts.
    let extensions =
        (any::<[bool; 3]>(), [0..4usize, 0..4, 0..4], 0..8usize).prop_map(|(present, words, icv)| {
            let raw = [IpNumber(0), IpNumber(60), IpNumber(43)].into_iter().zip(words).zip(present);
            let mut chain: Vec<_> = raw
                .filter(|(_, present)| *present)
                .map(|((kind, words), _)| Extension::Raw(kind, words))
                .collect();
            if icv > 3 {
                chain.push(Extension::Authentication(icv - 3));
            }
            chain
        });
    let v6 = (any::<[u8; 16]>(), any::<[u8; 16]>(), extensions, fragment()).prop_map(
        |(source, destination, extensions, fragment)| Ip::V6 { source, destination, extensions, fragment },
    );
    prop_oneof![v4, v6]
}

fn transport() -> impl Strategy<Value = Transport> {
    prop_oneof![
        (any::<(u16, u16)>(), 0..0x1000u16, 0..=10u16)
            .prop_map(|(ports, flags, option_words)| Transport::Tcp { ports, flags, option_words }),
        any::<(u16, u16)>().prop_map(|ports| Transport::Udp { ports }),
        any::<(u16, u16)>().prop_map(|ports| Transport::Sctp { ports }),
        any::<(u8, u8)>().prop_map(|(kind, code)| Transport::Icmp { kind, code }),
        // Neither a transport with ports nor an extension header (of IPv6, or AH, which etherparse
        // follows in IPv4 too), nor IGMP, of which etherparse also reads the content.
        proptest::sample::select(vec![4u8, 47, 50, 89, 103, 112, 200])
            .prop_map(|protocol| Transport::Other { protocol }),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    // 26 octets of payload: the shortest header and the padding never come into it by accident.
    let link = (any::<([u8; 6], [u8; 6])>(), vec(0..0x1000u16, 0..=2), 0..40usize);
    let header = (ip(), any::<u8>(), any::<u8>(), 0..1u32 << 20, any::<bool>());
    (link, header, transport(), vec(any::<u8>(), 8..64)).prop_map(
        |((macs, vlans, padding), (ip, tos, ttl, flow_label, dont_fragment), transport, payload)| Case {
            macs,
            ttl,
            flow_label,
            dont_fragment,
            vlans,
            ip,
            tos,
            transport,
            payload,
            padding,
        },
    )
}

/// What etherparse reads from a frame, in our terms.
fn independent(frame: &[u8]) -> ParsedPacket {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let (mut key, octets, header_octets, fragment, mut detail) = match sliced.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            let tos = header.dcp().value() << 2 | header.ecn().value();
            let key = FlowKey::ipv4(header.source(), header.destination(), header.protocol().0, tos);
            let detail = Detail {
                min_ttl: header.ttl(),
                fragment_flags: u8::from(header.dont_fragment()) << 6
                    | u8::from(header.more_fragments()) << 5,
                ..Detail::UNKNOWN
            };
            let offset = header.fragments_offset().value();
            let fragment = place(header.identification().into(), offset, header.more_fragments());
            (key, u32::from(header.total_len()), header.slice().len(), fragment, detail)
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            let words = |address: [u8; 16]| {
                let (halves, _) = address.as_chunks::<8>();
                [u64::from_ne_bytes(halves[0]), u64::from_ne_bytes(halves[1])]
            };
            let (extensions, _, behind) = Ipv6Extensions::from_slice(
                header.next_header(),
                &frame[frame.len() - remaining(frame, ip)..],
            )
            .unwrap();
            let fragment = extensions.fragment.as_ref().map_or(Fragment::NONE, |header| {
                place(header.identification, header.fragment_offset.value(), header.more_fragments)
            });
            let headers = 40 + remaining(frame, ip) - behind.len();
            let detail = Detail {
                min_ttl: header.hop_limit(),
                flow_label: header.flow_label().value(),
                fragment_flags: u8::from(fragment.more) << 5,
                ..Detail::UNKNOWN
            };
            let key = FlowKey::ipv6(
                words(header.source()),
                words(header.destination()),
                ip.payload().ip_number.0,
                header.traffic_class(),
            );
            (key, u32::from(header.payload_length()) + 40, headers, fragment, detail)
        }
        NetSlice::Arp(_) => unreachable!("no case is ARP"),
    };
    let mut vlans = sliced.link_exts.iter().map(|tag| match tag {
        LinkExtSlice::Vlan(tag) => tag.vlan_identifier().value(),
        LinkExtSlice::Macsec(_) => unreachable!("no case is MACsec"),
    });
    key.set_vlans(vlans.next().unwrap_or(0), vlans.next().unwrap_or(0));
    if let Some(LinkSlice::Ethernet2(ethernet)) = &sliced.link {
        (detail.source_mac, detail.destination_mac) = (ethernet.source(), ethernet.destination());
    }
    detail.min_length = u16::try_from(octets).unwrap_or(u16::MAX);
    (detail.max_length, detail.max_ttl) = (detail.min_length, detail.min_ttl);
    detail.known = Detail::IP | Detail::MAC;
    let mut packet = ParsedPacket {
        key,
        octets,
        header_octets: u32::try_from(header_octets).unwrap(),
        tcp_flags: 0,
        fragment,
        note: None,
        detail,
    };
    if fragment.offset != 0 {
        packet.note = Some(Note::LaterFragment);
        return packet;
    }
    match sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            packet.key.set_ports(tcp.source_port(), tcp.destination_port());
            packet.tcp_flags = u16::from_be_bytes([tcp.slice()[12], tcp.slice()[13]]) & 0xfff;
            packet.header_octets += u32::try_from(tcp.header_slice().len()).unwrap();
        }
        Some(TransportSlice::Udp(udp)) => {
            packet.key.set_ports(udp.source_port(), udp.destination_port());
            packet.header_octets += 8;
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            packet.key.set_ports(0, u16::from(icmp.type_u8()) << 8 | u16::from(icmp.code_u8()));
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            packet.key.set_ports(0, u16::from(icmp.type_u8()) << 8 | u16::from(icmp.code_u8()));
        }
        Some(TransportSlice::Igmp(_)) | None => {}
    }
    packet
}

/// A fragment; one that is the whole datagram (RFC 6946) is none.
fn place(identification: u32, offset: u16, more: bool) -> Fragment {
    match (offset, more) {
        (0, false) => Fragment::NONE,
        _ => Fragment { identification, offset, more },
    }
}

/// Octets of the frame from the first extension header on.
fn remaining(frame: &[u8], ip: &etherparse::Ipv6Slice<'_>) -> usize {
    let header = ip.header().slice().as_ptr() as usize - frame.as_ptr() as usize;
    frame.len() - header - 40
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn any_octets_are_parsed_without_a_panic(octets in vec(any::<u8>(), 0..200), longer in 0..100_000usize) {
        for bytes in [SliceBytes::new(&octets), SliceBytes::cut(&octets, longer)] {
            for packet in [parse(&bytes), parse_ip(&bytes, 0), parse_ip(&bytes, longer)].into_iter().flatten() {
                prop_assert!(packet.tcp_flags <= 0xfff);
            }
        }
    }

    /// Random octets seldom look like IP: here only some octets of a valid packet are changed.
    #[test]
    fn a_damaged_packet_is_parsed_without_a_panic(
        case in case(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut frame = case.write();
        for (place, octet) in damage {
            let place = place.index(frame.len());
            frame[place] = octet;
        }
        if let Ok(packet) = parse(&SliceBytes::new(&frame)) {
            prop_assert!(packet.octets <= 0xffff + 40);
            prop_assert!(packet.tcp_flags <= 0xfff);
        }
    }

    #[test]
    fn a_packet_is_read_as_it_was_written(case in case()) {
        let packet = parse(&SliceBytes::new(&case.write())).unwrap();
        let mut ports = case.transport.expected();
        let later = case.fragment().is_some_and(|(offset, _)| offset != 0);
        if later {
            ports = (0, 0, 0);
        }
        let key = packet.key;
        prop_assert_eq!((key.source_port(), key.destination_port(), packet.tcp_flags), ports);
        prop_assert_eq!(packet.note, later.then_some(Note::LaterFragment));
        prop_assert_eq!(packet.header_octets, case.header_octets());
        let identification = if case.version() == IpVersion::V4 { 0x1234 } else { 0xfedc_ba98 };
        let place = case.fragment().filter(|place| *place != (0, false));
        let fragment = place.map_or(Fragment::NONE, |(offset, more)| Fragment { identification, offset, more });
        prop_assert_eq!(packet.fragment, fragment);
        prop_assert_eq!(key.protocol(), case.transport.protocol(case.version()));
        prop_assert_eq!(key.tos(), case.tos);
        prop_assert_eq!(key.ip_version(), case.version());
        prop_assert_eq!(key.vlan(), case.vlans.first().copied().unwrap_or(0));
        prop_assert_eq!(key.customer_vlan(), case.vlans.get(1).copied().unwrap_or(0));
        let is_v4 = case.version() == IpVersion::V4;
        let more = case.fragment().is_some_and(|(_, more)| more);
        let length = u16::try_from(packet.octets).unwrap();
        let detail = Detail {
            source_mac: case.macs.0,
            destination_mac: case.macs.1,
            flow_label: if is_v4 { 0 } else { case.flow_label },
            min_length: length,
            max_length: length,
            min_ttl: case.ttl,
            max_ttl: case.ttl,
            fragment_flags: u8::from(is_v4 && case.dont_fragment) << 6 | u8::from(more) << 5,
            known: Detail::IP | Detail::MAC,
        };
        prop_assert_eq!(packet.detail, detail);
    }

    #[test]
    fn etherparse_reads_the_same(case in case()) {
        let frame = case.write();
        // etherparse wants time stamp messages to have their one length (RFC 792).
        prop_assume!(!matches!(case.transport, Transport::Icmp { kind: 13 | 14, .. }));
        let mut expected = independent(&frame);
        // etherparse knows no SCTP, and reads no transport of a first fragment.
        if expected.note.is_none()
            && (case.fragment().is_some() || matches!(case.transport, Transport::Sctp { .. }))
        {
            let (source, destination, flags) = case.transport.expected();
            expected.key.set_ports(source, destination);
            expected.tcp_flags = flags;
            expected.header_octets = case.header_octets();
        }
        prop_assert_eq!(parse(&SliceBytes::new(&frame)), Ok(expected));
    }

    #[test]
    fn padding_and_ipv4_options_do_not_change_the_key(case in case(), more in 1..50usize) {
        let plain = parse(&SliceBytes::new(&case.write())).unwrap();
        let mut padded = case.clone();
        padded.padding += more;
        prop_assert_eq!(parse(&SliceBytes::new(&padded.write())), Ok(plain));
        if let Ip::V4 { option_words, .. } = &mut padded.ip {
            *option_words = (*option_words + 1) % 11;
            let options = parse(&SliceBytes::new(&padded.write())).unwrap();
            prop_assert_eq!((options.key, options.tcp_flags), (plain.key, plain.tcp_flags));
        }
    }

    #[test]
    fn the_way_back_is_the_mirror_image(case in case()) {
        let mut back = case.clone();
        match &mut back.ip {
            Ip::V4 { source, destination, .. } => std::mem::swap(source, destination),
            Ip::V6 { source, destination, .. } => std::mem::swap(source, destination),
        }
        if let Transport::Tcp { ports, .. } | Transport::Udp { ports } | Transport::Sctp { ports } =
            &mut back.transport
        {
            *ports = (ports.1, ports.0);
        }
        let there = parse(&SliceBytes::new(&case.write())).unwrap();
        let back = parse(&SliceBytes::new(&back.write())).unwrap();
        prop_assert_eq!((there.key.source(), there.key.destination()), (back.key.destination(), back.key.source()));
        if !matches!(case.transport, Transport::Icmp { .. }) {
            let mut mirrored = back.key;
            mirrored.set_ports(back.key.destination_port(), back.key.source_port());
            prop_assert_eq!(mirrored.words()[4], there.key.words()[4]);
        }
        prop_assert_eq!(there.key.words()[5], back.key.words()[5]);
        prop_assert_eq!((there.octets, there.tcp_flags), (back.octets, back.tcp_flags));
    }

    #[test]
    fn a_cut_never_yields_another_key(case in case()) {
        let frame = case.write();
        let whole = parse(&SliceBytes::new(&frame)).unwrap();
        for length in 0..frame.len() {
            for cut in [SliceBytes::new(&frame[..length]), SliceBytes::cut(&frame[..length], frame.len())] {
                if let Ok(packet) = parse(&cut) {
                    prop_assert_eq!((packet.key, packet.octets), (whole.key, whole.octets), "cut at {}", length);
                    prop_assert_eq!(packet.detail, whole.detail, "cut at {}", length);
                    prop_assert!(packet.tcp_flags == whole.tcp_flags || packet.tcp_flags == 0);
                }
            }
        }
    }

    /// An IP packet without its Ethernet header gives the same, VLANs and MAC addresses apart.
    #[test]
    fn the_link_header_matters_for_vlans_and_macs_alone(case in case()) {
        let frame = case.write();
        let mut framed = parse(&SliceBytes::new(&frame)).unwrap();
        framed.key.set_vlans(0, 0);
        framed.detail = Detail { source_mac: [0; 6], destination_mac: [0; 6], known: Detail::IP, ..framed.detail };
        let offset = 14 + 4 * case.vlans.len();
        prop_assert_eq!(parse_ip(&SliceBytes::new(&frame), offset), Ok(framed));
        prop_assert_eq!(parse_ip(&SliceBytes::new(&frame[offset..]), 0), Ok(framed));
    }
}

proptest! {
    #[test]
    fn both_directions_of_a_conversation_share_a_hash(
        random: [u8; 56],
        addresses: ([u8; 4], [u8; 4]),
        ports: (u16, u16),
        tos: (u8, u8),
        interface: u32,
    ) {
        let seed = HashSeed::from_random(random);
        let key = |from: ([u8; 4], u16), to: ([u8; 4], u16), tos| {
            let mut key = FlowKey::ipv4(from.0, to.0, 6, tos);
            key.set_ports(from.1, to.1);
            key.set_ingress_interface(interface);
            key
        };
        let there = key((addresses.0, ports.0), (addresses.1, ports.1), tos.0);
        let back = key((addresses.1, ports.1), (addresses.0, ports.0), tos.0);
        prop_assert_eq!(there.reversed(), back);
        prop_assert_eq!(back.reversed(), there);
        let back = key((addresses.1, ports.1), (addresses.0, ports.0), tos.1);
        prop_assert_eq!(seed.conversation(&there, KEY_BASE_MASK), seed.conversation(&back, KEY_BASE_MASK));
    }
}
