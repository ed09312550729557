// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A packet as a source gives it.

use probe_common::Direction;

use crate::flow::Timestamp;

/// One Ethernet frame in the memory of its source, or a buffer that stands for several of one flow.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Its octets from the Ethernet header, as far as they are there and lie together; without FCS.
    pub octets: &'a [u8],
    /// Octets that it had on the wire; at least `octets.len()`.
    pub wire_length: usize,
    /// Tag control word of the outermost VLAN tag, where the NIC or the kernel took it off.
    pub stripped_tag: Option<u16>,
    /// ifIndex of the interface on which it was seen.
    pub interface: u32,
    /// On which way through that interface.
    pub direction: Direction,
    /// Octets of payload of each packet that the buffer stands for (`gso_size`); 0: it is one packet.
    pub segment_octets: u32,
    /// When it was seen, `CLOCK_MONOTONIC`.
    pub at: Timestamp,
}
