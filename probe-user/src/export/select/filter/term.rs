// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One test of a record, and its canonical text.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use probe_common::{Direction, IpVersion};

use crate::{duration::format_duration, flow::FlowRecord};

/// Ways through an interface; the first spelling of each is the canonical one.
pub(super) const WAYS: [(&str, Direction); 4] = [
    ("in", Direction::Ingress),
    ("out", Direction::Egress),
    ("ingress", Direction::Ingress),
    ("egress", Direction::Egress),
];
/// Protocols with names, and those whose first four octets are ports.
pub(super) const PROTOCOLS: [(&str, u8); 10] = [
    ("icmp", 1),
    ("igmp", 2),
    ("tcp", TCP),
    ("udp", 17),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmp6", 58),
    ("ospf", 89),
    ("sctp", 132),
];
/// TCP, UDP, DCCP, SCTP, UDP-Lite: for others the key holds an ICMP type, or nothing.
const WITH_PORTS: [u8; 5] = [TCP, 17, 33, 132, 136];
const TCP: u8 = 6;

/// TCP flags: letter, name, bit.
pub(super) const FLAGS: [(char, &str, u16); 9] = [
    ('F', "FIN", 0x001),
    ('S', "SYN", 0x002),
    ('R', "RST", 0x004),
    ('P', "PSH", 0x008),
    ('A', "ACK", 0x010),
    ('U', "URG", 0x020),
    ('E', "ECE", 0x040),
    ('C', "CWR", 0x080),
    ('N', "NS", 0x100),
];

/// Of which end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Either,
    Source,
    Destination,
}

/// Addresses that share a prefix, as the words of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Network {
    version: IpVersion,
    /// Bits of the prefix, of 32 or 128.
    length: u8,
    mask: [u64; 2],
    value: [u64; 2],
}

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Quantity {
    Packets,
    Octets,
    /// Nanoseconds.
    Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Comparison {
    Greater,
    AtLeast,
    Less,
    AtMost,
    Equal,
    Different,
}

/// One test.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Term {
    Anything,
    Version(IpVersion),
    Network(Side, Network),
    /// From the first to the last.
    Ports(Side, u16, u16),
    Protocol(u8),
    Vlan(u16),
    /// On which way through it; nothing: either.
    Interface(Option<Direction>, u32),
    /// On which way through their interface the packets were seen.
    Direction(Direction),
    Tos(u8),
    /// Of the bits of `mask`, exactly those of `set` were seen; TCP only.
    Flags {
        set: u16,
        mask: u16,
    },
    Quantity(Quantity, Comparison, u64),
}

impl Network {
    /// The network of an address; `None` if the prefix is longer than the address.
    pub(super) fn new(address: IpAddr, length: u8) -> Option<Self> {
        let (version, octets, bits) = match address {
            IpAddr::V4(address) => (IpVersion::V4, address.to_ipv6_mapped(), 32u8),
            IpAddr::V6(address) => (IpVersion::V6, address, 128),
        };
        let free = u32::from(bits.checked_sub(length)?);
        let mask = words((u128::MAX.checked_shl(free).unwrap_or(0)).to_be_bytes());
        let [high, low] = words(octets.octets());
        Some(Self { version, length, mask, value: [high & mask[0], low & mask[1]] })
    }

    /// The network of one address alone.
    pub(super) fn host(address: IpAddr) -> Option<Self> {
        Self::new(address, if address.is_ipv4() { 32 } else { 128 })
    }

    #[inline]
    fn holds(&self, high: u64, low: u64) -> bool {
        (high & self.mask[0]) ^ self.value[0] | (low & self.mask[1]) ^ self.value[1] == 0
    }
}

/// A key's words hold addresses in network byte order in memory.
fn words(octets: [u8; 16]) -> [u64; 2] {
    let (mut high, mut low) = ([0; 8], [0; 8]);
    high.copy_from_slice(&octets[..8]);
    low.copy_from_slice(&octets[8..]);
    [u64::from_ne_bytes(high), u64::from_ne_bytes(low)]
}

impl Side {
    #[inline]
    fn holds(self, source: impl FnOnce() -> bool, destination: impl FnOnce() -> bool) -> bool {
        match self {
            Self::Either => source() || destination(),
            Self::Source => source(),
            Self::Destination => destination(),
        }
    }
}

impl Term {
    #[inline]
    pub(super) fn holds(&self, record: &FlowRecord) -> bool {
        let key = &record.key;
        match *self {
            Self::Anything => true,
            Self::Version(version) => key.ip_version() == version,
            Self::Network(side, ref network) => {
                let [s0, s1, d0, d1, ..] = *key.words();
                key.ip_version() == network.version
                    && side.holds(|| network.holds(s0, s1), || network.holds(d0, d1))
            }
            Self::Ports(side, first, last) => {
                let ports = first..=last;
                WITH_PORTS.contains(&key.protocol())
                    && side.holds(
                        || ports.contains(&key.source_port()),
                        || ports.contains(&key.destination_port()),
                    )
            }
            Self::Protocol(protocol) => key.protocol() == protocol,
            Self::Vlan(vlan) => key.vlan() == vlan,
            Self::Interface(way, interface) => {
                key.interface() == interface && way.is_none_or(|way| key.direction() == way)
            }
            Self::Direction(direction) => key.direction() == direction,
            Self::Tos(tos) => key.tos() == tos,
            Self::Flags { set, mask } => key.protocol() == TCP && record.tcp_flags & mask == set,
            Self::Quantity(quantity, comparison, value) => comparison.holds(quantity.of(record), value),
        }
    }
}

impl Quantity {
    pub(super) const NAMES: [(&str, Self); 4] = [
        ("packets", Self::Packets),
        ("octets", Self::Octets),
        ("bytes", Self::Octets),
        ("duration", Self::Duration),
    ];

    #[inline]
    fn of(self, record: &FlowRecord) -> u64 {
        match self {
            Self::Packets => record.packets,
            Self::Octets => record.octets,
            Self::Duration => record.end_ns.saturating_sub(record.start_ns),
        }
    }
}

impl Comparison {
    /// The first spelling of each is the canonical one.
    pub(super) const NAMES: [(&str, Self); 7] = [
        (">", Self::Greater),
        (">=", Self::AtLeast),
        ("<", Self::Less),
        ("<=", Self::AtMost),
        ("=", Self::Equal),
        ("==", Self::Equal),
        ("!=", Self::Different),
    ];

    #[inline]
    fn holds(self, left: u64, right: u64) -> bool {
        match self {
            Self::Greater => left > right,
            Self::AtLeast => left >= right,
            Self::Less => left < right,
            Self::AtMost => left <= right,
            Self::Equal => left == right,
            Self::Different => left != right,
        }
    }
}

/// The first name of a value in a table of names.
fn name<T: PartialEq>(names: &[(&'static str, T)], value: &T) -> &'static str {
    names.iter().find(|(_, known)| known == value).map_or("", |(name, _)| name)
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Either => "",
            Self::Source => "src ",
            Self::Destination => "dst ",
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b] = self.value.map(u64::to_ne_bytes);
        let mut octets = [0; 16];
        octets[..8].copy_from_slice(&a);
        octets[8..].copy_from_slice(&b);
        let address = Ipv6Addr::from(octets);
        let (address, bits) = match self.version {
            IpVersion::V6 => (address.into(), 128),
            // The prefix of a mapped address is within the mask.
            IpVersion::V4 => {
                let [.., a, b, c, d] = octets;
                (IpAddr::from([a, b, c, d]), 32)
            }
        };
        if self.length == bits {
            write!(f, "host {address}")
        } else {
            write!(f, "net {address}/{}", self.length)
        }
    }
}

struct FlagLetters(u16);

impl fmt::Display for FlagLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0");
        }
        FLAGS.iter().filter(|(.., bit)| self.0 & bit != 0).try_for_each(|(letter, ..)| write!(f, "{letter}"))
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Anything => f.write_str("any"),
            Self::Version(IpVersion::V4) => f.write_str("ip"),
            Self::Version(IpVersion::V6) => f.write_str("ip6"),
            Self::Network(side, network) => write!(f, "{side}{network}"),
            Self::Ports(side, first, last) if first == last => write!(f, "{side}port {first}"),
            Self::Ports(side, first, last) => write!(f, "{side}port {first}-{last}"),
            Self::Protocol(number) => match name(&PROTOCOLS, &number) {
                "" => write!(f, "proto {number}"),
                name => write!(f, "proto {name}"),
            },
            Self::Vlan(vlan) => write!(f, "vlan {vlan}"),
            Self::Interface(None, interface) => write!(f, "if {interface}"),
            Self::Interface(Some(way), interface) => write!(f, "{} if {interface}", name(&WAYS, &way)),
            Self::Direction(direction) => write!(f, "dir {}", name(&WAYS, &direction)),
            Self::Tos(tos) => write!(f, "tos {tos}"),
            Self::Flags { set, mask } if set == mask => write!(f, "flags {}", FlagLetters(set)),
            Self::Flags { set, mask } => write!(f, "flags {}/{}", FlagLetters(set), FlagLetters(mask)),
            Self::Quantity(quantity, comparison, value) => {
                let sign = name(&Comparison::NAMES, &comparison);
                write!(f, "{} {sign} ", name(&Quantity::NAMES, &quantity))?;
                match quantity {
                    Quantity::Duration => f.write_str(&format_duration(Duration::from_nanos(value))),
                    _ => write!(f, "{value}"),
                }
            }
        }
    }
}
