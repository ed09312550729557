// SPDX-License-Identifier: Apache-2.0 OR MIT
//! packet → flow key. The one parser: XDP, AF_XDP, capture files, tests and fuzzing all call it.
//!
//! Every loop is bounded and every offset stays small, so that the kernel's verifier accepts it; nothing
//! allocates, nothing panics.

mod bytes;
mod ethernet;
mod fragment;
mod ipv4;
mod ipv6;
mod transport;

pub use bytes::{DeepBytes, PacketBytes, SliceBytes};
pub use ethernet::MAX_VLAN_TAGS;
pub use fragment::Fragment;
pub use ipv6::MAX_EXTENSION_HEADERS;

use crate::{Detail, FlowKey, Note, Outcome};

/// What the parser read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ParsedPacket {
    /// The flow key; the ingress interface is 0 and left to the caller.
    pub key: FlowKey,
    /// Octets of the IP packet, headers included.
    pub octets: u32,
    /// Octets of the IP header, its options or extension headers, and of the header behind: TCP's with its options, 12
    /// for SCTP, 8 for UDP and what is laid out like it. What each segment of a buffer that stands for several has; only
    /// of TCP, UDP and SCTP there are such buffers, so of ICMP, ESP, IPv4's AH and others nothing is added. Of a later
    /// fragment, a chain that is too deep or TCP flags that were cut, what was read.
    pub header_octets: u32,
    /// TCP flags, 12 bits (RFC 9293 section 3.1); 0 for other protocols.
    pub tcp_flags: u16,
    /// Whether it is a fragment, and which.
    pub fragment: Fragment,
    /// What was special about it.
    pub note: Option<Note>,
    /// What its headers say beside; the MAC addresses where the link has them. A handler that does not look
    /// at it, and is inlined, does not pay for it.
    pub detail: Detail,
}

impl ParsedPacket {
    /// Packets and octets (of IP packets) that a buffer stands for which segmentation offload will cut into, or has
    /// put together from, segments of `segment_octets` of payload (`gso_size` of the kernel; 0: it stands for one
    /// packet). `segments` is their number where it is known, else 0.
    #[inline(always)]
    #[must_use]
    pub fn segments(&self, segment_octets: u32, segments: u32) -> (u32, u32) {
        if segment_octets == 0 {
            return (1, self.octets);
        }
        let payload = self.octets.saturating_sub(self.header_octets);
        let segments = match segments {
            0 => payload.div_ceil(segment_octets).max(1),
            known => known,
        };
        // Lengths that a packet claims may be anything.
        let repeated = (segments - 1).saturating_mul(self.header_octets);
        (segments, self.octets.saturating_add(repeated))
    }
}

/// What is done with a packet that was parsed.
pub trait Handler {
    /// What comes of it.
    type Output;

    /// Does it.
    ///
    /// # Errors
    /// Why the packet is not metered after all.
    fn handle(self, packet: ParsedPacket) -> Result<Self::Output, Outcome>;
}

/// Hands the packet back.
struct Return;

impl Handler for Return {
    type Output = ParsedPacket;

    #[inline(always)]
    fn handle(self, packet: ParsedPacket) -> Result<ParsedPacket, Outcome> {
        Ok(packet)
    }
}

/// Parses an Ethernet frame.
///
/// # Errors
/// The reason why the packet cannot be metered.
#[inline(always)]
pub fn parse<B: PacketBytes>(bytes: &B) -> Result<ParsedPacket, Outcome> {
    parse_and(bytes, Return)
}

/// Parses an Ethernet frame and handles the packet.
///
/// For the kernel program: the handler, if it is always inlined, is compiled once for IPv4 and once for
/// IPv6, where the compiler knows which words of the key are constant and keeps the others in registers
/// (BPF has ten).
///
/// # Errors
/// The reason why the packet cannot be metered, or the handler's.
#[inline(always)]
pub fn parse_and<B: PacketBytes, H: Handler>(bytes: &B, handler: H) -> Result<H::Output, Outcome> {
    network(bytes, ethernet::parse(bytes)?, handler)
}

/// As [`parse_and`], of a frame whose outermost VLAN tag the NIC or the kernel has taken off: its id, where there
/// was one (a tag control word of which only the low 12 bits count).
///
/// # Errors
/// As [`parse_and`].
#[inline(always)]
pub fn parse_untagged_and<B: PacketBytes, H: Handler>(
    bytes: &B,
    stripped_tag: Option<u16>,
    handler: H,
) -> Result<H::Output, Outcome> {
    let mut link = ethernet::parse(bytes)?;
    if let Some(tag) = stripped_tag {
        link.restore_tag(tag & 0xfff);
    }
    network(bytes, link, handler)
}

/// As [`parse_untagged_and`], handing the packet back.
///
/// # Errors
/// As [`parse`].
#[inline(always)]
pub fn parse_untagged<B: PacketBytes>(bytes: &B, stripped_tag: Option<u16>) -> Result<ParsedPacket, Outcome> {
    parse_untagged_and(bytes, stripped_tag, Return)
}

/// Parses what follows a link header other than Ethernet that names its content by an Ethernet type
/// (capture files of link type `LINUX_SLL`, tunnels).
///
/// # Errors
/// The reason why the packet cannot be metered.
#[inline(always)]
pub fn parse_ether_type<B: PacketBytes>(
    bytes: &B,
    ether_type: u16,
    offset: usize,
) -> Result<ParsedPacket, Outcome> {
    network(bytes, ethernet::follow_tags(bytes, ether_type, offset, None)?, Return)
}

#[inline(always)]
fn network<B: PacketBytes, H: Handler>(
    bytes: &B,
    network: ethernet::Network<'_>,
    handler: H,
) -> Result<H::Output, Outcome> {
    match network.ether_type {
        ethernet::IPV4 => {
            let mut packet = ipv4::parse(bytes, network.offset)?;
            network.complete(&mut packet);
            handler.handle(packet)
        }
        ethernet::IPV6 => {
            let mut packet = ipv6::parse(bytes, network.offset)?;
            network.complete(&mut packet);
            handler.handle(packet)
        }
        // No type, but the length of an LLC frame.
        ..ethernet::FIRST_TYPE => Err(Outcome::Llc),
        _ => Err(Outcome::NotIp),
    }
}

/// Parses an IP packet without a link header (capture files of link type `RAW`, tunnels).
///
/// # Errors
/// The reason why the packet cannot be metered.
#[inline(always)]
pub fn parse_ip<B: PacketBytes>(bytes: &B, offset: usize) -> Result<ParsedPacket, Outcome> {
    let first: &[u8; 1] = bytes.header(offset).ok_or(Outcome::Truncated)?;
    match first[0] >> 4 {
        4 => ipv4::parse(bytes, offset),
        6 => ipv6::parse(bytes, offset),
        _ => Err(Outcome::NotIp),
    }
}
