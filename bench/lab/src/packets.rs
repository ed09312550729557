// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Single frames, valid down to their checksums.

use std::net::IpAddr;

use crate::{FlowId, Flows, Sums};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
/// The extension header of IPv6 fragments.
const FRAGMENT_HEADER: u8 = 44;

/// What the IP packet carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// RFC 768.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// RFC 9293, without options.
    Tcp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// The eight flags, FIN lowest.
        flags: u8,
        /// Sequence number.
        sequence: u32,
        /// Acknowledgement number.
        acknowledgement: u32,
    },
    /// RFC 792 or RFC 4443, by the IP version.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// Rest of the header: identifier and sequence number of an echo.
        rest: u32,
    },
    /// Any other protocol: the payload alone.
    Other(u8),
}

impl Transport {
    /// Protocol number over IPv4; ICMPv6 has its own.
    #[must_use]
    pub fn protocol(&self) -> u8 {
        match self {
            Self::Udp { .. } => UDP,
            Self::Tcp { .. } => TCP,
            Self::Icmp { .. } => ICMP,
            Self::Other(protocol) => *protocol,
        }
    }

    /// Destination port as flow records carry it: type × 256 + code for ICMP.
    #[must_use]
    pub fn destination_port(&self) -> u16 {
        match *self {
            Self::Udp { destination, .. } | Self::Tcp { destination, .. } => destination,
            Self::Icmp { kind, code, .. } => u16::from_be_bytes([kind, code]),
            Self::Other(_) => 0,
        }
    }

    fn source_port(&self) -> u16 {
        match *self {
            Self::Udp { source, .. } | Self::Tcp { source, .. } => source,
            Self::Icmp { .. } | Self::Other(_) => 0,
        }
    }

    fn header(&self) -> Vec<u8> {
        match *self {
            Self::Udp { source, destination } => {
                let mut header = ports(source, destination);
                header.extend([0; 4]);
                header
            }
            Self::Tcp { source, destination, flags, sequence, acknowledgement } => {
                let mut header = ports(source, destination);
                header.extend(sequence.to_be_bytes());
                header.extend(acknowledgement.to_be_bytes());
                // Data offset 5, window 65535, no checksum yet, no urgent data.
                header.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
                header
            }
            Self::Icmp { kind, code, rest } => {
                let mut header = vec![kind, code, 0, 0];
                header.extend(rest.to_be_bytes());
                header
            }
            Self::Other(_) => Vec::new(),
        }
    }

    /// Where the checksum lies.
    fn checksum_at(&self) -> Option<usize> {
        match self {
            Self::Udp { .. } => Some(6),
            Self::Tcp { .. } => Some(16),
            Self::Icmp { .. } => Some(2),
            Self::Other(_) => None,
        }
    }
}

fn ports(source: u16, destination: u16) -> Vec<u8> {
    [source.to_be_bytes(), destination.to_be_bytes()].concat()
}

/// A packet to be made into a frame.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Source address; its version is the packet's.
    pub source: IpAddr,
    /// Destination address, of the same version.
    pub destination: IpAddr,
    /// What it carries.
    pub transport: Transport,
    /// What that carries.
    pub payload: Vec<u8>,
    /// Type of service or traffic class.
    pub tos: u8,
    /// VLAN ids, outermost first; the outer of two is an 802.1ad tag.
    pub vlans: Vec<u16>,
}

impl Packet {
    /// A packet without payload, tags, or type of service.
    #[must_use]
    pub fn new(source: IpAddr, destination: IpAddr, transport: Transport) -> Self {
        Self { source, destination, transport, payload: Vec::new(), tos: 0, vlans: Vec::new() }
    }

    /// The flow it belongs to.
    #[must_use]
    pub fn id(&self) -> FlowId {
        FlowId {
            source: self.source,
            destination: self.destination,
            source_port: self.transport.source_port(),
            destination_port: self.transport.destination_port(),
            protocol: self.protocol(),
            tos: self.tos,
        }
    }

    /// Length of the IP packet.
    #[must_use]
    pub fn ip_length(&self) -> usize {
        let header = if self.source.is_ipv4() { 20 } else { 40 };
        header + self.transport.header().len() + self.payload.len()
    }

    /// The frame: Ethernet, tags, IP, transport, payload.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        self.link(&self.network(&self.segment(), None))
    }

    /// The packet as fragments with at most `size` octets (a multiple of 8) of payload each.
    #[must_use]
    pub fn fragments(&self, size: usize) -> Vec<Vec<u8>> {
        let segment = self.segment();
        let size = size.max(8) & !7;
        let count = segment.len().div_ceil(size);
        segment
            .chunks(size)
            .enumerate()
            .map(|(index, part)| self.link(&self.network(part, Some((index * size, index + 1 < count)))))
            .collect()
    }

    /// Transport header and payload, with the checksum over the pseudo-header.
    fn segment(&self) -> Vec<u8> {
        let mut segment = self.transport.header();
        segment.extend(&self.payload);
        let length = segment.len();
        if matches!(self.transport, Transport::Udp { .. }) {
            put(&mut segment, 4, length);
        }
        if let Some(at) = self.transport.checksum_at() {
            let mut covered = Vec::new();
            match (self.source, self.destination, self.protocol()) {
                (IpAddr::V4(_), IpAddr::V4(_), ICMP) => {}
                (IpAddr::V4(source), IpAddr::V4(destination), protocol) => {
                    covered.extend(source.octets());
                    covered.extend(destination.octets());
                    covered.extend([0, protocol]);
                    covered.extend(low16(length).to_be_bytes());
                }
                (source, destination, protocol) => {
                    covered.extend(v6(source));
                    covered.extend(v6(destination));
                    covered.extend([0, 0]);
                    covered.extend(low16(length).to_be_bytes());
                    covered.extend([0, 0, 0, protocol]);
                }
            }
            covered.extend(&segment);
            let sum = checksum(&covered);
            // A UDP checksum of zero would mean that there is none (RFC 768).
            let sum = if sum == 0 && at == 6 { 0xffff } else { sum };
            segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        segment
    }

    fn protocol(&self) -> u8 {
        match (self.transport, self.source) {
            (Transport::Icmp { .. }, IpAddr::V6(_)) => ICMPV6,
            (transport, _) => transport.protocol(),
        }
    }

    /// The IP packet around `data`; `fragment` is its offset and whether more follow.
    fn network(&self, data: &[u8], fragment: Option<(usize, bool)>) -> Vec<u8> {
        let mut packet;
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let (offset, more) = fragment.unwrap_or((0, false));
                let field = low16(offset / 8) | u16::from(more) << 13;
                packet = vec![0x45, self.tos, 0, 0, 0x12, 0x34, 0, 0, 64, self.protocol(), 0, 0];
                packet.extend(source.octets());
                packet.extend(destination.octets());
                put(&mut packet, 2, 20 + data.len());
                put(&mut packet, 6, usize::from(field));
                let sum = checksum(&packet);
                put(&mut packet, 10, usize::from(sum));
            }
            (source, destination) => {
                let next = if fragment.is_some() { FRAGMENT_HEADER } else { self.protocol() };
                packet = vec![0x60 | self.tos >> 4, self.tos << 4, 0, 0, 0, 0, next, 64];
                packet.extend(v6(source));
                packet.extend(v6(destination));
                if let Some((offset, more)) = fragment {
                    // RFC 8200 section 4.5: the offset in units of 8 octets, left of three bits.
                    packet.extend([self.protocol(), 0, 0, 0, 0, 0, 0x12, 0x34]);
                    put(&mut packet, 42, offset | usize::from(more));
                }
                let length = packet.len() - 40 + data.len();
                put(&mut packet, 4, length);
            }
        }
        packet.extend(data);
        packet
    }

    fn link(&self, packet: &[u8]) -> Vec<u8> {
        // Locally administered addresses; the interfaces of the lab are not asked for theirs.
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        for (index, vlan) in self.vlans.iter().enumerate() {
            let is_service_tag = index == 0 && self.vlans.len() > 1;
            frame.extend(if is_service_tag { [0x88, 0xa8] } else { [0x81, 0x00] });
            frame.extend((vlan & 0xfff).to_be_bytes());
        }
        frame.extend(if self.source.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] });
        frame.extend(packet);
        frame
    }
}

/// Packets and octets of every flow among `packets`.
#[must_use]
pub fn flows_of(packets: &[Packet]) -> Flows {
    let mut flows = Flows::new();
    for packet in packets {
        let octets = u64::try_from(packet.ip_length()).unwrap_or(u64::MAX);
        *flows.entry(packet.id()).or_default() += Sums { packets: 1, octets };
    }
    flows
}

fn v6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn low16(value: usize) -> u16 {
    u16::try_from(value & 0xffff).unwrap_or(u16::MAX)
}

fn put(octets: &mut [u8], at: usize, value: usize) {
    octets[at..at + 2].copy_from_slice(&low16(value).to_be_bytes());
}

/// The Internet checksum (RFC 1071).
fn checksum(octets: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in octets.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !low16(usize::try_from(sum).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_checksum_makes_the_sum_zero() {
        let packet = Packet {
            payload: b"odd".to_vec(),
            ..Packet::new(
                Ipv4Addr::new(10, 0, 0, 1).into(),
                Ipv4Addr::new(10, 0, 0, 2).into(),
                Transport::Udp { source: 1, destination: 2 },
            )
        };
        let frame = packet.frame();
        assert_eq!(frame.len(), 14 + packet.ip_length());
        assert_eq!(checksum(&frame[14..34]), 0, "IPv4 header");
        let mut covered = frame[26..34].to_vec();
        covered.extend([0, 17, 0, 11]);
        covered.extend(&frame[34..]);
        assert_eq!(checksum(&covered), 0, "UDP");
    }

    #[test]
    fn fragments_carry_the_whole_segment() {
        let mut packet = Packet::new(
            Ipv4Addr::new(10, 0, 0, 1).into(),
            Ipv4Addr::new(10, 0, 0, 2).into(),
            Transport::Udp { source: 1, destination: 2 },
        );
        packet.payload = vec![7; 100];
        let whole = packet.frame();
        let parts = packet.fragments(48);
        assert_eq!(parts.len(), 3);
        let joined: Vec<u8> = parts.iter().flat_map(|part| part[34..].to_vec()).collect();
        assert_eq!(joined, whole[34..]);
    }
}
