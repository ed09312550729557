// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One flow as octets in network order: every value at a place of its own, as wide as any format has it.
//!
//! Templates say which pieces of the image go to the wire (plan.rs). Numbers are right-aligned, so a
//! format with a shorter field takes the last octets of the place; an IPv4 address is the end of its
//! mapped form. The places are in the order of the default template, so that few pieces make a record.

use probe_common::IpVersion;

use crate::flow::FlowRecord;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// TCP flags are 12 bits; the upper four of element 6 must be zero.
const TCP_FLAGS: u16 = 0x0fff;

/// What the places are filled with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    pub(super) record: &'a FlowRecord,
    /// What stands for the ingress and the egress interface; 0 where it is not known.
    pub(super) interfaces: [u32; 2],
    /// Milliseconds: Unix time or uptime.
    pub(super) start: u64,
    pub(super) end: u64,
    /// One packet of so many.
    pub(super) sampling: u32,
    /// Whether the destination port of ICMP is type * 256 + code, as in version 5; else it is 0, and type
    /// and code stand in a field of their own.
    pub(super) icmp_port: bool,
}

/// Octets of an image.
pub(super) const LEN: usize = {
    let (mut sum, mut place) = (0, 0);
    while place < SIZES.len() {
        sum += SIZES[place];
        place += 1;
    }
    sum
};

/// The octets.
pub(super) type Image = [u8; LEN];

macro_rules! places {
    (
        |$facts:ident, $record:ident, $key:ident, $icmp:ident|
        always { $($name:ident[$size:literal] = $value:expr,)* }
        details { $($more:ident[$more_size:literal] = $more_value:expr,)* }
    ) => {
        /// Where a value lies.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(super) enum Place { $($name,)* $($more,)* }

        const SIZES: &[usize] = &[$($size,)* $($more_size,)*];

        /// Fills the places of what every flow has.
        #[inline]
        pub(super) fn fill(image: &mut Image, $facts: &Facts<'_>) {
            let $record = $facts.record;
            let $key = &$record.key;
            let $icmp = match $key.ip_version() {
                IpVersion::V4 => $key.protocol() == ICMP,
                IpVersion::V6 => $key.protocol() == ICMPV6,
            };
            $(put::<{ Place::$name.at() }, $size>(image, $value);)*
        }

        /// Fills the places of what flows have only if it was asked for.
        #[inline]
        pub(super) fn fill_details(image: &mut Image, $record: &FlowRecord) {
            $(put::<{ Place::$more.at() }, $more_size>(image, $more_value);)*
        }

        impl Place {
            /// Whether [`fill_details`] fills it.
            pub(super) const fn is_detail(self) -> bool {
                matches!(self, $(Self::$more)|*)
            }
        }
    };
}

places! {
    |facts, record, key, icmp|
    always {
        Source[16] = address(key.words()[0], key.words()[1]),
        Destination[16] = address(key.words()[2], key.words()[3]),
        SourcePort[2] = if icmp { [0; 2] } else { key.source_port().to_be_bytes() },
        DestinationPort[2] =
            if icmp && !facts.icmp_port { [0; 2] } else { key.destination_port().to_be_bytes() },
        Protocol[1] = [key.protocol()],
        Tos[1] = [key.tos()],
        TcpFlags[2] = (record.tcp_flags & TCP_FLAGS).to_be_bytes(),
        IcmpTypeCode[2] = if icmp { key.destination_port().to_be_bytes() } else { [0; 2] },
        Ingress[4] = facts.interfaces[0].to_be_bytes(),
        Egress[4] = facts.interfaces[1].to_be_bytes(),
        // Two elements name the outer VLAN: collectors know one of them.
        Vlan[2] = key.vlan().to_be_bytes(),
        Dot1qVlan[2] = key.vlan().to_be_bytes(),
        EndReason[1] = [record.end_reason as u8],
        // flowDirection: on which way through the interface the packets were seen.
        Direction[1] = [key.direction() as u8],
        Packets[8] = record.packets.to_be_bytes(),
        Octets[8] = record.octets.to_be_bytes(),
        Start[8] = facts.start.to_be_bytes(),
        End[8] = facts.end.to_be_bytes(),
        CustomerVlan[2] = key.customer_vlan().to_be_bytes(),
        IpVersion[1] = match key.ip_version() { IpVersion::V4 => [4], IpVersion::V6 => [6] },
        // biflowDirection: 1, the forward direction is that of who began.
        BiflowDirection[1] = [1],
        SamplingInterval[4] = facts.sampling.to_be_bytes(),
        // For what a passive probe does not know: next hop, AS numbers, prefix lengths.
        Unknown[16] = [0; 16],
    }
    details {
        SourceMac[6] = record.detail.source_mac,
        DestinationMac[6] = record.detail.destination_mac,
        MinTtl[1] = [record.detail.min_ttl],
        MaxTtl[1] = [record.detail.max_ttl],
        MinLength[8] = u64::from(record.detail.min_length).to_be_bytes(),
        MaxLength[8] = u64::from(record.detail.max_length).to_be_bytes(),
        FragmentFlags[1] = [record.detail.fragment_flags],
        FlowLabel[4] = record.detail.flow_label.to_be_bytes(),
    }
}

impl Place {
    /// Offset in the image.
    pub(super) const fn at(self) -> usize {
        let (mut sum, mut place) = (0, 0);
        while place < self as usize {
            sum += SIZES[place];
            place += 1;
        }
        sum
    }

    /// Offset behind it.
    pub(super) const fn end(self) -> usize {
        self.at() + SIZES[self as usize]
    }
}

/// The two words of an address in the key, which has them in network order in memory.
#[inline(always)]
fn address(first: u64, second: u64) -> [u8; 16] {
    let mut octets = [0; 16];
    octets[..8].copy_from_slice(&first.to_ne_bytes());
    octets[8..].copy_from_slice(&second.to_ne_bytes());
    octets
}

#[inline(always)]
fn put<const AT: usize, const N: usize>(image: &mut Image, value: [u8; N]) {
    image[AT..AT + N].copy_from_slice(&value);
}
