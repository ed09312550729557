// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Ethernet II and its VLAN tags.

use super::{PacketBytes, ParsedPacket};
use crate::Outcome;

/// VLAN tags the kernel program follows (802.1ad: a service tag and a customer tag).
pub const MAX_VLAN_TAGS: usize = 2;

pub(super) const IPV4: u16 = 0x0800;
pub(super) const IPV6: u16 = 0x86dd;

const HEADER: usize = 14;
const TAG: usize = 4;

/// Where the network layer begins.
pub(super) struct Network<'a> {
    pub(super) ether_type: u16,
    pub(super) offset: usize,
    vlan: u16,
    customer_vlan: u16,
    /// Destination and source, where there is an Ethernet header.
    macs: Option<&'a [u8; 12]>,
}

impl Network<'_> {
    /// Puts back a tag that the NIC took off and left beside the frame: it was the outermost.
    #[inline(always)]
    pub(super) fn restore_tag(&mut self, vlan: u16) {
        self.customer_vlan = self.vlan;
        self.vlan = vlan;
    }

    /// Adds to a packet what the link layer knows of it.
    #[inline(always)]
    pub(super) fn complete(&self, packet: &mut ParsedPacket) {
        packet.key.set_vlans(self.vlan, self.customer_vlan);
        if let Some(macs) = self.macs {
            packet.detail.set_macs(macs);
        }
    }
}

/// Types from here on are types; below it, the field is a length and LLC follows (IEEE 802.3-2018 section 3.2.6).
pub(super) const FIRST_TYPE: u16 = 0x0600;

/// IEEE 802.1Q-2018 section 9.5 (0x8100, 0x88a8), and the tag that came before the standard (0x9100).
#[inline(always)]
fn is_tag(ether_type: u16) -> bool {
    matches!(ether_type, 0x8100 | 0x88a8 | 0x9100)
}

/// Reads the Ethernet header and the tags behind it.
#[inline(always)]
pub(super) fn parse<B: PacketBytes>(bytes: &B) -> Result<Network<'_>, Outcome> {
    let header: &[u8; HEADER] = bytes.header(0).ok_or(Outcome::Truncated)?;
    follow_tags(bytes, u16::from_be_bytes([header[12], header[13]]), HEADER, header.first_chunk())
}

/// Steps over the tags that begin at `offset`, if `ether_type` says that there are any.
#[inline(always)]
pub(super) fn follow_tags<'a, B: PacketBytes>(
    bytes: &'a B,
    ether_type: u16,
    offset: usize,
    macs: Option<&'a [u8; 12]>,
) -> Result<Network<'a>, Outcome> {
    let mut network = Network { ether_type, offset, vlan: 0, customer_vlan: 0, macs };
    if is_tag(network.ether_type) {
        network.vlan = tag(bytes, &mut network)?;
        if is_tag(network.ether_type) {
            network.customer_vlan = tag(bytes, &mut network)?;
            for _ in MAX_VLAN_TAGS..B::VLAN_TAGS {
                if is_tag(network.ether_type) {
                    tag(bytes, &mut network)?;
                }
            }
            if is_tag(network.ether_type) {
                return Err(Outcome::TooDeep);
            }
        }
    }
    Ok(network)
}

/// Steps over one tag and returns its VLAN id.
#[inline(always)]
fn tag<B: PacketBytes>(bytes: &B, network: &mut Network<'_>) -> Result<u16, Outcome> {
    let tag: &[u8; TAG] = bytes.header(network.offset).ok_or(Outcome::Truncated)?;
    network.offset += TAG;
    network.ether_type = u16::from_be_bytes([tag[2], tag[3]]);
    Ok(u16::from_be_bytes([tag[0], tag[1]]) & 0xfff)
}
