// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a flow is told with beside its key and its counts, where a collector asks for it.

use crate::{Slot, WAYS};

/// Properties of a flow's packets. 24 octets, no padding; all zero when nothing is known.
///
/// The MAC addresses and the flow label are those of the first packet; the rest spans all packets.
// Aligned to the words in which the kernel program copies it.
#[repr(C, align(8))]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Detail {
    /// `sourceMacAddress`, as on the wire.
    pub source_mac: [u8; 6],
    /// `destinationMacAddress`, as on the wire.
    pub destination_mac: [u8; 6],
    /// `flowLabelIPv6`: 20 bits, host byte order; 0 for IPv4.
    pub flow_label: u32,
    /// `minimumIpTotalLength` in octets; 65535 also for longer packets.
    pub min_length: u16,
    /// `maximumIpTotalLength` in octets; 65535 also for longer packets.
    pub max_length: u16,
    /// `minimumTTL`: IPv4 time to live or IPv6 hop limit.
    pub min_ttl: u8,
    /// `maximumTTL`.
    pub max_ttl: u8,
    /// `fragmentFlags`: the bits of all packets, as IANA element 197 has them (don't fragment 0x40, more
    /// fragments 0x20).
    pub fragment_flags: u8,
    /// [`Detail::IP`] and [`Detail::MAC`]: which of the above are known.
    pub known: u8,
}

const _: () = assert!(size_of::<Detail>() == 24, "no padding");

impl Detail {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self {
        source_mac: [0; 6],
        destination_mac: [0; 6],
        flow_label: 0,
        min_length: 0,
        max_length: 0,
        min_ttl: 0,
        max_ttl: 0,
        fragment_flags: 0,
        known: 0,
    };
    /// Bit of `known`: lengths, TTLs, flow label and fragment flags.
    pub const IP: u8 = 1;
    /// Bit of `known`: both MAC addresses.
    pub const MAC: u8 = 2;
    /// Bit of `fragment_flags`: don't fragment (RFC 791 section 3.1). IPv6 has none.
    pub const DONT_FRAGMENT: u8 = 0x40;
    /// Bit of `fragment_flags`: more fragments (RFC 791 section 3.1, RFC 8200 section 4.5).
    pub const MORE_FRAGMENTS: u8 = 0x20;

    /// What the IP header of one packet says. `length` in octets, headers included.
    #[inline(always)]
    #[must_use]
    pub fn of_ip(length: u32, ttl: u8, flow_label: u32, fragment_flags: u8) -> Self {
        let length = if length > u16::MAX as u32 { u16::MAX } else { length as u16 };
        Self {
            flow_label,
            min_length: length,
            max_length: length,
            min_ttl: ttl,
            max_ttl: ttl,
            fragment_flags,
            known: Self::IP,
            ..Self::UNKNOWN
        }
    }

    /// Adds the addresses of an Ethernet header: the destination comes first on the wire.
    #[inline(always)]
    pub fn set_macs(&mut self, addresses: &[u8; 12]) {
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5] = *addresses;
        self.destination_mac = [d0, d1, d2, d3, d4, d5];
        self.source_mac = [s0, s1, s2, s3, s4, s5];
        self.known |= Self::MAC;
    }

    /// Adds what came later: lengths, TTLs and fragment flags widen; MAC addresses and flow label stay, unless
    /// they were not known.
    #[inline(always)]
    pub fn add_later(&mut self, later: &Self) {
        if later.knows_mac() && !self.knows_mac() {
            self.source_mac = later.source_mac;
            self.destination_mac = later.destination_mac;
        }
        if later.knows_ip() {
            if self.knows_ip() {
                self.min_length = self.min_length.min(later.min_length);
                self.max_length = self.max_length.max(later.max_length);
                self.min_ttl = self.min_ttl.min(later.min_ttl);
                self.max_ttl = self.max_ttl.max(later.max_ttl);
                self.fragment_flags |= later.fragment_flags;
            } else {
                let (source_mac, destination_mac) = (self.source_mac, self.destination_mac);
                let known = self.known;
                *self = Self { source_mac, destination_mac, known, ..*later };
            }
        }
        self.known |= later.known;
    }

    /// Adds what came earlier, or was merged late: the MAC addresses and the flow label become its own.
    #[inline(always)]
    pub fn add_earlier(&mut self, earlier: &Self) {
        let mut sum = *earlier;
        sum.add_later(self);
        *self = sum;
    }

    /// Whether lengths, TTLs, flow label and fragment flags are known.
    #[inline(always)]
    #[must_use]
    pub fn knows_ip(&self) -> bool {
        self.known & Self::IP != 0
    }

    /// Whether the MAC addresses are known.
    #[inline(always)]
    #[must_use]
    pub fn knows_mac(&self) -> bool {
        self.known & Self::MAC != 0
    }
}

/// The details of one set of the micro-flow cache, one for each of its slots. One cache line, which is touched
/// only where details are asked for.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct DetailSet {
    /// What is valid is that of a slot which is not free.
    pub details: [Detail; WAYS],
    reserved: [u64; 2],
}

const _: () = assert!(size_of::<DetailSet>() == 64, "one cache line");

/// A slot with its details, as it leaves the kernel where details are asked for.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct DetailedSlot {
    /// The slot.
    pub slot: Slot,
    /// Its details.
    pub detail: Detail,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(length: u32, ttl: u8, flow_label: u32, fragment_flags: u8, mac: u8) -> Detail {
        let mut detail = Detail::of_ip(length, ttl, flow_label, fragment_flags);
        detail.set_macs(&[mac; 12]);
        detail
    }

    #[test]
    fn what_comes_later_widens_and_what_came_earlier_names() {
        let mut detail = packet(100, 64, 7, Detail::DONT_FRAGMENT, 1);
        detail.add_later(&packet(70_000, 60, 9, Detail::MORE_FRAGMENTS, 2));
        let expected = Detail {
            source_mac: [1; 6],
            destination_mac: [1; 6],
            flow_label: 7,
            min_length: 100,
            max_length: 65_535,
            min_ttl: 60,
            max_ttl: 64,
            fragment_flags: 0x60,
            known: Detail::IP | Detail::MAC,
        };
        assert_eq!(detail, expected);
        detail.add_earlier(&packet(40, 255, 3, 0, 5));
        let earlier = Detail {
            source_mac: [5; 6],
            destination_mac: [5; 6],
            flow_label: 3,
            min_length: 40,
            max_ttl: 255,
            ..expected
        };
        assert_eq!(detail, earlier);
    }

    #[test]
    fn what_is_not_known_does_not_narrow() {
        let known = packet(100, 64, 7, 0, 1);
        for (one, other) in [(known, Detail::UNKNOWN), (Detail::UNKNOWN, known)] {
            let (mut later, mut earlier) = (one, one);
            later.add_later(&other);
            earlier.add_earlier(&other);
            assert_eq!((later, earlier), (known, known));
        }
        let mut without_mac = Detail::of_ip(50, 1, 0, 0);
        without_mac.add_later(&known);
        assert_eq!(
            (without_mac.source_mac, without_mac.min_length, without_mac.max_length),
            ([1; 6], 50, 100)
        );
    }
}
