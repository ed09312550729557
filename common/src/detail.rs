// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a flow is told with beside its key and its counts, where a collector asks for it.

/// Properties of a flow's packets. 24 octets, no padding; all zero when nothing is known.
///
/// The MAC addresses and the flow label are those of the first packet; the rest spans all packets.
#[repr(C)]
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
