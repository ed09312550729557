// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where the IP packet begins, by link type (draft-ietf-opsawg-pcaplinktype).

use probe_common::Outcome;
use probe_common::parse::{Handler, PacketBytes, ParsedPacket, parse, parse_and, parse_ether_type, parse_ip};

/// Link type of an interface in a capture file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LinkType(pub u16);

impl LinkType {
    /// BSD loopback: an address family of 4 octets in the byte order of the machine that captured.
    pub const NULL: Self = Self(0);
    /// Ethernet.
    pub const ETHERNET: Self = Self(1);
    /// PPP, with or without HDLC framing.
    pub const PPP: Self = Self(9);
    /// IP without a link header.
    pub const RAW: Self = Self(101);
    /// `OpenBSD` loopback: an address family of 4 octets in network byte order.
    pub const LOOP: Self = Self(108);
    /// Linux "any" interface.
    pub const LINUX_SLL: Self = Self(113);
    /// IPv4 without a link header.
    pub const IPV4: Self = Self(228);
    /// IPv6 without a link header.
    pub const IPV6: Self = Self(229);
    /// Linux "any" interface, version 2.
    pub const LINUX_SLL2: Self = Self(276);

    /// Parses a packet of this link type and handles it, or says that the link type is not supported. For Ethernet the
    /// handler is inlined where the packet is parsed.
    #[inline(always)]
    #[must_use]
    pub fn parse_and<H: Handler>(
        self,
        bytes: &impl PacketBytes,
        handler: H,
    ) -> Option<Result<H::Output, Outcome>> {
        if self == Self::ETHERNET {
            return Some(parse_and(bytes, handler));
        }
        self.parse_other(bytes).map(|parsed| parsed.and_then(|packet| handler.handle(packet)))
    }

    /// As [`Self::parse_and`], handing the packet back.
    #[must_use]
    pub fn parse(self, bytes: &impl PacketBytes) -> Option<Result<ParsedPacket, Outcome>> {
        if self == Self::ETHERNET { Some(parse(bytes)) } else { self.parse_other(bytes) }
    }

    #[inline(never)]
    fn parse_other(self, bytes: &impl PacketBytes) -> Option<Result<ParsedPacket, Outcome>> {
        Some(match self {
            // 12 and 14 are what DLT_RAW is on BSD systems; files with these numbers exist.
            Self::RAW | Self(12 | 14) => parse_ip(bytes, 0),
            Self::IPV4 => parse_ether_type(bytes, IPV4, 0),
            Self::IPV6 => parse_ether_type(bytes, IPV6, 0),
            Self::NULL | Self::LOOP => parse_loopback(bytes),
            Self::LINUX_SLL => parse_with_type(bytes, 14, 16),
            Self::LINUX_SLL2 => parse_with_type(bytes, 0, 20),
            Self::PPP => parse_ppp(bytes),
            _ => return None,
        })
    }
}

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// A link header of `length` octets with an Ethernet type at `place`.
fn parse_with_type(bytes: &impl PacketBytes, place: usize, length: usize) -> Result<ParsedPacket, Outcome> {
    let ether_type: &[u8; 2] = bytes.header(place).ok_or(Outcome::Truncated)?;
    parse_ether_type(bytes, u16::from_be_bytes(*ether_type), length)
}

/// The number of the address family IPv6 is 10, 24, 28 or 30, as the system chose; IPv4 is 2 everywhere.
fn parse_loopback(bytes: &impl PacketBytes) -> Result<ParsedPacket, Outcome> {
    let family: &[u8; 4] = bytes.header(0).ok_or(Outcome::Truncated)?;
    match u32::from_le_bytes(*family).min(u32::from_be_bytes(*family)) {
        2 => parse_ether_type(bytes, IPV4, 4),
        10 | 24 | 28 | 30 => parse_ether_type(bytes, IPV6, 4),
        _ => Err(Outcome::NotIp),
    }
}

/// RFC 1661 section 2; address and control (RFC 1662 section 3.1) may be there or not.
fn parse_ppp(bytes: &impl PacketBytes) -> Result<ParsedPacket, Outcome> {
    let first: &[u8; 2] = bytes.header(0).ok_or(Outcome::Truncated)?;
    let place = if *first == [0xff, 0x03] { 2 } else { 0 };
    let protocol: &[u8; 2] = bytes.header(place).ok_or(Outcome::Truncated)?;
    match u16::from_be_bytes(*protocol) {
        0x0021 => parse_ether_type(bytes, IPV4, place + 2),
        0x0057 => parse_ether_type(bytes, IPV6, place + 2),
        _ => Err(Outcome::NotIp),
    }
}
