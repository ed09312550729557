// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The flow key, as six 64-bit words so that hashing and comparing need neither padding nor casts.
//!
//! ```text
//! word  bits 0-15        16-31               32-47         48-63
//! 0, 1  source address, network byte order in memory (IPv4 as ::ffff:a.b.c.d, RFC 4291 section 2.5.5.2)
//! 2, 3  destination address, likewise
//! 4     interface (31 bits), bit 31: egress    source port   destination port
//! 5     outer VLAN       inner VLAN          proto | ToS   zero in a key, TCP flags in a slot
//! ```
//!
//! Bit 15 of word 5 is set for IPv6: an IPv6 packet may carry mapped addresses, and must still not be
//! taken for IPv4. VLAN ids have 12 bits, 0 means no tag (or a priority tag, which names no VLAN).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Words of a key.
pub const KEY_WORDS: usize = 6;

/// Bits of word 5 that always belong to the key: IP version, protocol, type of service.
pub const KEY_BASE_MASK: u64 = IPV6_BIT | 0x0000_ffff_0000_0000;
/// Bits of word 5 that belong to the key when the outer VLAN is asked for.
pub const KEY_VLAN_MASK: u64 = 0x0fff;
/// Bits of word 5 that belong to the key when the inner VLAN is asked for.
pub const KEY_CUSTOMER_VLAN_MASK: u64 = 0x0fff << 16;

pub(crate) const KEY_TOS_MASK: u64 = 0xff << 40;
const IPV6_BIT: u64 = 1 << 15;
/// Bit of word 4. An ifIndex is positive as a C int (`dev_new_index` in net/core/dev.c), so this bit is free.
const EGRESS_BIT: u64 = 1 << 31;
const FLAGS_SHIFT: u32 = 48;

/// IP version of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IpVersion {
    /// IPv4 (RFC 791).
    V4,
    /// IPv6 (RFC 8200).
    V6,
}

/// On which way through an interface a packet was seen; the values are those of IANA element 61, flowDirection.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Direction {
    /// It came in.
    #[default]
    Ingress = 0,
    /// It went out.
    Egress = 1,
}

/// What makes two packets one flow. See the module documentation for the layout.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct FlowKey {
    pub(crate) words: [u64; KEY_WORDS],
}

const _: () = assert!(size_of::<FlowKey>() == 48, "a key is six words");

/// An IPv4 address (network byte order, as in the packet) as the two words of its mapped form.
#[inline(always)]
fn mapped(address: [u8; 4]) -> (u64, u64) {
    // As one 32-bit number: put together from octets, the compiler would load each by itself.
    let address = u32::from_ne_bytes(address) as u64;
    let word =
        if cfg!(target_endian = "little") { address << 32 | 0xffff_0000 } else { 0xffff_0000_0000 | address };
    (0, word)
}

impl FlowKey {
    /// A key for IPv4; ports, VLANs and the interface are zero.
    #[inline(always)]
    #[must_use]
    pub fn ipv4(source: [u8; 4], destination: [u8; 4], protocol: u8, tos: u8) -> Self {
        let (s0, s1) = mapped(source);
        let (d0, d1) = mapped(destination);
        Self { words: [s0, s1, d0, d1, 0, (protocol as u64) << 32 | (tos as u64) << 40] }
    }

    /// A key for IPv6 from the 32 address octets of its header; ports, VLANs and the interface are zero.
    #[inline(always)]
    #[must_use]
    pub fn ipv6(source: [u64; 2], destination: [u64; 2], protocol: u8, tos: u8) -> Self {
        Self {
            words: [
                source[0],
                source[1],
                destination[0],
                destination[1],
                0,
                (protocol as u64) << 32 | (tos as u64) << 40 | IPV6_BIT,
            ],
        }
    }

    /// Sets the transport ports (host byte order).
    #[inline(always)]
    pub fn set_ports(&mut self, source: u16, destination: u16) {
        self.words[4] = self.words[4] & 0xffff_ffff | (source as u64) << 32 | (destination as u64) << 48;
    }

    /// Sets the interface (ifIndex) that the packets came in on.
    #[inline(always)]
    pub fn set_ingress_interface(&mut self, index: u32) {
        self.set_interface(index, Direction::Ingress);
    }

    /// Sets the interface (ifIndex) on which the packets were seen, and their direction through it.
    #[inline(always)]
    pub fn set_interface(&mut self, index: u32, direction: Direction) {
        let egress = match direction {
            Direction::Ingress => 0,
            Direction::Egress => EGRESS_BIT,
        };
        self.words[4] = self.words[4] & !0xffff_ffff | index as u64 & !EGRESS_BIT | egress;
    }

    /// Sets the VLAN ids; only their low 12 bits count.
    #[inline(always)]
    pub fn set_vlans(&mut self, outer: u16, inner: u16) {
        self.words[5] = self.words[5] & !(KEY_VLAN_MASK | KEY_CUSTOMER_VLAN_MASK)
            | (outer as u64) & 0xfff
            | ((inner as u64) & 0xfff) << 16;
    }

    /// Sets the protocol; used when extension headers come before it.
    #[inline(always)]
    pub fn set_protocol(&mut self, protocol: u8) {
        self.words[5] = self.words[5] & !(0xff << 32) | (protocol as u64) << 32;
    }

    /// The key of the opposite direction: addresses and ports swapped.
    #[inline(always)]
    #[must_use]
    pub fn reversed(&self) -> Self {
        let [s0, s1, d0, d1, w4, w5] = self.words;
        let ports = (w4 >> 32 & 0xffff) << 48 | w4 >> 48 << 32;
        Self { words: [d0, d1, s0, s1, w4 & 0xffff_ffff | ports, w5] }
    }

    /// The raw words.
    #[inline(always)]
    #[must_use]
    pub fn words(&self) -> &[u64; KEY_WORDS] {
        &self.words
    }

    /// The key of `words`; bits 48-63 of the last word (the TCP flags of a slot) are dropped.
    #[inline(always)]
    #[must_use]
    pub fn from_words(mut words: [u64; KEY_WORDS]) -> Self {
        words[5] &= (1 << FLAGS_SHIFT) - 1;
        Self { words }
    }

    /// Whether both keys name one flow; `mask` says which bits of word 5 count.
    #[inline(always)]
    #[must_use]
    pub fn matches(&self, other: &Self, mask: u64) -> bool {
        let difference = (self.words[0] ^ other.words[0])
            | (self.words[1] ^ other.words[1])
            | (self.words[2] ^ other.words[2])
            | (self.words[3] ^ other.words[3])
            | (self.words[4] ^ other.words[4])
            | ((self.words[5] ^ other.words[5]) & mask);
        difference == 0
    }

    /// IP version of the flow.
    #[inline(always)]
    #[must_use]
    pub fn ip_version(&self) -> IpVersion {
        if self.words[5] & IPV6_BIT == 0 { IpVersion::V4 } else { IpVersion::V6 }
    }

    /// Source address.
    #[must_use]
    pub fn source(&self) -> IpAddr {
        self.address(0)
    }

    /// Destination address.
    #[must_use]
    pub fn destination(&self) -> IpAddr {
        self.address(2)
    }

    fn address(&self, word: usize) -> IpAddr {
        let mut octets = [0; 16];
        octets[..8].copy_from_slice(&self.words[word].to_ne_bytes());
        octets[8..].copy_from_slice(&self.words[word + 1].to_ne_bytes());
        match self.ip_version() {
            IpVersion::V4 => Ipv4Addr::new(octets[12], octets[13], octets[14], octets[15]).into(),
            IpVersion::V6 => Ipv6Addr::from(octets).into(),
        }
    }

    /// Source port, 0 where the protocol has none.
    #[inline(always)]
    #[must_use]
    pub fn source_port(&self) -> u16 {
        (self.words[4] >> 32) as u16
    }

    /// Destination port; type × 256 + code for ICMP and ICMPv6; 0 where the protocol has none.
    #[inline(always)]
    #[must_use]
    pub fn destination_port(&self) -> u16 {
        (self.words[4] >> 48) as u16
    }

    /// ifIndex of the interface on which the packets were seen, whatever their direction.
    #[inline(always)]
    #[must_use]
    pub fn interface(&self) -> u32 {
        (self.words[4] & !EGRESS_BIT) as u32
    }

    /// The direction of the packets through [`Self::interface`].
    #[inline(always)]
    #[must_use]
    pub fn direction(&self) -> Direction {
        if self.words[4] & EGRESS_BIT == 0 { Direction::Ingress } else { Direction::Egress }
    }

    /// ifIndex of the interface the packets came in on; 0 where they were seen going out.
    #[inline(always)]
    #[must_use]
    pub fn ingress_interface(&self) -> u32 {
        match self.direction() {
            Direction::Ingress => self.interface(),
            Direction::Egress => 0,
        }
    }

    /// ifIndex of the interface the packets went out on; 0 where they were seen coming in.
    #[inline(always)]
    #[must_use]
    pub fn egress_interface(&self) -> u32 {
        match self.direction() {
            Direction::Ingress => 0,
            Direction::Egress => self.interface(),
        }
    }

    /// Outer VLAN id, 0 for none.
    #[inline(always)]
    #[must_use]
    pub fn vlan(&self) -> u16 {
        (self.words[5] & 0xfff) as u16
    }

    /// Inner VLAN id of a frame with two tags, 0 for none.
    #[inline(always)]
    #[must_use]
    pub fn customer_vlan(&self) -> u16 {
        (self.words[5] >> 16 & 0xfff) as u16
    }

    /// IP protocol number (after IPv6 extension headers).
    #[inline(always)]
    #[must_use]
    pub fn protocol(&self) -> u8 {
        (self.words[5] >> 32) as u8
    }

    /// IPv4 type of service or IPv6 traffic class.
    #[inline(always)]
    #[must_use]
    pub fn tos(&self) -> u8 {
        (self.words[5] >> 40) as u8
    }
}
