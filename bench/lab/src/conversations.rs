// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Conversations as a mirror port sees them: the packets of both sides, in order.

use std::net::{IpAddr, Ipv4Addr};

use crate::packets::{Packet, Transport};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// Octets of a full segment's payload on a link with an MTU of 1500, behind an IPv6 header.
const SEGMENT: usize = 1440;

/// Two hosts, and the VLANs between them.
#[derive(Clone, Debug)]
pub struct Hosts {
    /// Who begins.
    pub client: IpAddr,
    /// Who answers.
    pub server: IpAddr,
    /// VLAN tags, outermost first.
    pub vlans: Vec<u16>,
    /// Type of service of everything they send.
    pub tos: u8,
}

impl Hosts {
    /// Two hosts without tags.
    #[must_use]
    pub fn new(client: impl Into<IpAddr>, server: impl Into<IpAddr>) -> Self {
        Self { client: client.into(), server: server.into(), vlans: Vec::new(), tos: 0 }
    }

    /// The same in a VLAN.
    #[must_use]
    pub fn in_vlan(mut self, vlan: u16) -> Self {
        self.vlans.push(vlan);
        self
    }

    /// The same with a type of service.
    #[must_use]
    pub fn with_tos(mut self, tos: u8) -> Self {
        self.tos = tos;
        self
    }

    fn request(&self, transport: Transport, payload: usize) -> Packet {
        self.packet(self.client, self.server, transport, payload)
    }

    fn response(&self, transport: Transport, payload: usize) -> Packet {
        self.packet(self.server, self.client, transport, payload)
    }

    fn packet(&self, source: IpAddr, destination: IpAddr, transport: Transport, payload: usize) -> Packet {
        Packet {
            payload: vec![0x2e; payload],
            tos: self.tos,
            vlans: self.vlans.clone(),
            ..Packet::new(source, destination, transport)
        }
    }

    /// A TCP connection from `port` to `service`: handshake, a request, `size` octets in answer,
    /// acknowledged every other segment, and a FIN from both sides.
    #[must_use]
    pub fn download(&self, port: u16, service: u16, size: usize) -> Vec<Packet> {
        let mut client = Side { source: port, destination: service, sequence: 1000 };
        let mut server = Side { source: service, destination: port, sequence: 9000 };
        let mut packets = vec![self.request(client.send(SYN, &server, 0), 0)];
        packets.push(self.response(server.send(SYN | ACK, &client, 0), 0));
        packets.push(self.request(client.send(ACK, &server, 0), 0));
        packets.push(self.request(client.send(PSH | ACK, &server, 120), 120));
        let mut left = size;
        let mut segments = 0;
        while left > 0 {
            let length = left.min(SEGMENT);
            left -= length;
            segments += 1;
            let flags = if left == 0 { PSH | ACK } else { ACK };
            packets.push(self.response(server.send(flags, &client, length), length));
            if segments % 2 == 0 || left == 0 {
                packets.push(self.request(client.send(ACK, &server, 0), 0));
            }
        }
        packets.push(self.response(server.send(FIN | ACK, &client, 0), 0));
        packets.push(self.request(client.send(FIN | ACK, &server, 0), 0));
        packets.push(self.response(server.send(ACK, &client, 0), 0));
        packets
    }

    /// A UDP datagram and its answer.
    #[must_use]
    pub fn query(&self, port: u16, service: u16, question: usize, answer: usize) -> Vec<Packet> {
        vec![
            self.request(Transport::Udp { source: port, destination: service }, question),
            self.response(Transport::Udp { source: service, destination: port }, answer),
        ]
    }

    /// `count` UDP datagrams one way.
    #[must_use]
    pub fn stream(&self, port: u16, service: u16, count: usize, size: usize) -> Vec<Packet> {
        vec![self.request(Transport::Udp { source: port, destination: service }, size); count]
    }

    /// `count` echo requests and their replies.
    #[must_use]
    pub fn ping(&self, count: u16) -> Vec<Packet> {
        let (request, reply) = if self.client.is_ipv4() { (8, 0) } else { (128, 129) };
        (1..=count)
            .flat_map(|sequence| {
                let rest = 0x1234_0000 | u32::from(sequence);
                [
                    self.request(Transport::Icmp { kind: request, code: 0, rest }, 56),
                    self.response(Transport::Icmp { kind: reply, code: 0, rest }, 56),
                ]
            })
            .collect()
    }
}

/// One side of a TCP connection.
struct Side {
    source: u16,
    destination: u16,
    sequence: u32,
}

impl Side {
    /// The next segment: acknowledges all that the other side has sent, and takes its place in the sequence.
    fn send(&mut self, flags: u8, other: &Self, payload: usize) -> Transport {
        let transport = Transport::Tcp {
            source: self.source,
            destination: self.destination,
            flags,
            sequence: self.sequence,
            acknowledgement: if flags & ACK == 0 { 0 } else { other.sequence },
        };
        // SYN and FIN take a place of their own (RFC 9293 section 3.4).
        let places = payload + usize::from(flags & (SYN | FIN) != 0);
        self.sequence = self.sequence.wrapping_add(u32::try_from(places).unwrap_or(0));
        transport
    }
}

/// An ARP request (RFC 826): a frame that carries no IP packet.
#[must_use]
pub fn arp_request(sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 1, 0x08, 0x06]);
    frame.extend([0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame.extend([2, 0, 0, 0, 0, 1]);
    frame.extend(sender.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

#[cfg(test)]
mod tests {
    use probe_common::parse::{self, SliceBytes};

    use super::*;
    use crate::flows_of;

    #[test]
    fn the_parser_reads_what_was_written() {
        let hosts =
            Hosts::new(Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)).in_vlan(7).with_tos(0xb8);
        let packets: Vec<Packet> =
            [hosts.download(1025, 80, 5000), hosts.query(1026, 53, 40, 200), hosts.ping(2)].concat();
        assert_eq!(flows_of(&packets).len(), 6);
        for packet in &packets {
            let frame = packet.frame();
            let parsed = parse::parse(&SliceBytes::new(&frame)).unwrap();
            assert_eq!(parsed.octets as usize, packet.ip_length());
            assert_eq!(parsed.key.source(), packet.source);
            assert_eq!(parsed.key.destination_port(), packet.transport.destination_port());
            assert_eq!((parsed.key.vlan(), parsed.key.tos()), (7, 0xb8));
        }
    }

    #[test]
    fn a_connection_acknowledges_every_octet() {
        let hosts = Hosts::new(Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let packets = hosts.download(1025, 80, 5000);
        let Transport::Tcp { flags, acknowledgement, .. } = packets[packets.len() - 2].transport else {
            panic!("not TCP")
        };
        // The server began at 9000; SYN, 5000 octets and FIN later.
        assert_eq!((flags, acknowledgement), (FIN | ACK, 9000 + 5002));
    }
}
