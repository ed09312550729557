// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The table of fields: what v9 and IPFIX records may tell of a flow. A new field is one row here, and a
//! place in image.rs if its value is new.
//!
//! Names, numbers and lengths are those of IANA's registry of IPFIX information elements; version 9 has
//! the same numbers (below 128 by RFC 3954 section 8, above by common use) save where the row says otherwise.

use probe_common::IpVersion;

use super::image::Place;

/// One field.
#[derive(Debug)]
pub(super) struct Field {
    /// IANA's name; with the number of octets behind it where there is a longer form too.
    pub(super) name: &'static str,
    /// IANA's number.
    pub(super) id: u16,
    /// Octets in IPFIX.
    pub(super) len: u16,
    /// Type and octets in version 9.
    pub(super) v9: (u16, u16),
    /// The flows that have it; none: all.
    pub(super) version: Option<IpVersion>,
    /// Where its value lies.
    pub(super) place: Place,
    /// The named sets that it belongs to, a bit each.
    pub(super) presets: u8,
}

/// Named sets of fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Preset {
    Default,
    Minimal,
    L2,
    Full,
    V5,
}

impl Preset {
    pub(super) const ALL: [Self; 5] = [Self::Default, Self::Minimal, Self::L2, Self::Full, Self::V5];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Minimal => "minimal",
            Self::L2 => "l2",
            Self::Full => "full",
            Self::V5 => "v5",
        }
    }

    pub(super) const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// What nfdump, pmacct, goflow2 and Akvorado all read, and needs no details.
const DEFAULT: u8 = Preset::Default.bit() | L2;
/// With what is below IP.
const L2: u8 = Preset::L2.bit() | FULL;
/// All that the probe knows of a flow.
const FULL: u8 = Preset::Full.bit();
/// What NetFlow v5 tells, zeros and all.
const V5: u8 = Preset::V5.bit();
/// Whose packets, how many and when.
const EVERY: u8 = Preset::Minimal.bit() | DEFAULT | V5;
/// Only by name.
const ASKED: u8 = 0;

const fn field(id: u16, name: &'static str, len: u16, place: Place, presets: u8) -> Field {
    Field { name, id, len, v9: (id, len), version: None, place, presets }
}

impl Field {
    const fn v9(self, id: u16, len: u16) -> Self {
        Self { v9: (id, len), ..self }
    }

    const fn ipv4(self) -> Self {
        Self { version: Some(IpVersion::V4), ..self }
    }

    const fn ipv6(self) -> Self {
        Self { version: Some(IpVersion::V6), ..self }
    }
}

/// All of them, in the order of the templates.
pub(super) static FIELDS: [Field; 41] = [
    field(8, "sourceIPv4Address", 4, Place::Source, EVERY).ipv4(),
    field(27, "sourceIPv6Address", 16, Place::Source, EVERY).ipv6(),
    field(12, "destinationIPv4Address", 4, Place::Destination, EVERY).ipv4(),
    field(28, "destinationIPv6Address", 16, Place::Destination, EVERY).ipv6(),
    field(7, "sourceTransportPort", 2, Place::SourcePort, EVERY),
    field(11, "destinationTransportPort", 2, Place::DestinationPort, EVERY),
    field(4, "protocolIdentifier", 1, Place::Protocol, EVERY),
    field(5, "ipClassOfService", 1, Place::Tos, DEFAULT | V5),
    // The eight flags of RFC 793 and 3168, in one octet: pmacct up to 1.7.7 reads flags in no other form. All of them
    // where asked for; version 9 has no more than eight.
    field(6, "tcpControlBits/1", 1, Place::TcpFlags, Preset::Default.bit() | V5),
    field(6, "tcpControlBits", 2, Place::TcpFlags, L2).v9(6, 1),
    field(32, "icmpTypeCodeIPv4", 2, Place::IcmpTypeCode, DEFAULT).ipv4(),
    // ICMP_TYPE of version 9 is for both: nfdump 1.7.1 shows type and code of ICMPv6 from it alone.
    field(139, "icmpTypeCodeIPv6", 2, Place::IcmpTypeCode, DEFAULT).ipv6().v9(32, 2),
    field(10, "ingressInterface", 4, Place::Ingress, DEFAULT | V5),
    field(14, "egressInterface", 4, Place::Egress, DEFAULT | V5),
    // nfdump reads 58 alone, others 243 alone.
    field(58, "vlanId", 2, Place::Vlan, DEFAULT),
    field(243, "dot1qVlanId", 2, Place::Dot1qVlan, DEFAULT),
    field(136, "flowEndReason", 1, Place::EndReason, DEFAULT),
    field(61, "flowDirection", 1, Place::Direction, DEFAULT),
    // pmacct takes counters of 4 or 8 octets only.
    field(2, "packetDeltaCount", 8, Place::Packets, EVERY),
    field(1, "octetDeltaCount", 8, Place::Octets, EVERY),
    // nfdump 1.7.1 reads no other times in IPFIX; version 9 counts from the boot (FIRST_SWITCHED,
    // LAST_SWITCHED).
    field(152, "flowStartMilliseconds", 8, Place::Start, EVERY).v9(22, 4),
    field(153, "flowEndMilliseconds", 8, Place::End, EVERY).v9(21, 4),
    field(245, "dot1qCustomerVlanId", 2, Place::CustomerVlan, L2),
    field(56, "sourceMacAddress", 6, Place::SourceMac, L2),
    field(80, "destinationMacAddress", 6, Place::DestinationMac, L2),
    field(60, "ipVersion", 1, Place::IpVersion, FULL),
    field(52, "minimumTTL", 1, Place::MinTtl, FULL),
    field(53, "maximumTTL", 1, Place::MaxTtl, FULL),
    field(25, "minimumIpTotalLength", 8, Place::MinLength, FULL).v9(25, 2),
    field(26, "maximumIpTotalLength", 8, Place::MaxLength, FULL).v9(26, 2),
    field(197, "fragmentFlags", 1, Place::FragmentFlags, FULL),
    field(31, "flowLabelIPv6", 4, Place::FlowLabel, FULL).ipv6().v9(31, 3),
    // Deprecated, but some collectors look for it in each record; others read it in options.
    field(34, "samplingInterval", 4, Place::SamplingInterval, ASKED),
    // Unknown to a passive probe, sent as 0.
    field(15, "ipNextHopIPv4Address", 4, Place::Unknown, V5).ipv4(),
    field(62, "ipNextHopIPv6Address", 16, Place::Unknown, V5).ipv6(),
    field(16, "bgpSourceAsNumber", 4, Place::Unknown, V5),
    field(17, "bgpDestinationAsNumber", 4, Place::Unknown, V5),
    field(9, "sourceIPv4PrefixLength", 1, Place::Unknown, V5).ipv4(),
    field(29, "sourceIPv6PrefixLength", 1, Place::Unknown, V5).ipv6(),
    field(13, "destinationIPv4PrefixLength", 1, Place::Unknown, V5).ipv4(),
    field(30, "destinationIPv6PrefixLength", 1, Place::Unknown, V5).ipv6(),
];

// A set of fields is a word of bits.
const _: () = assert!(FIELDS.len() <= 64);

/// The fields that a record of both directions tells of the reverse one (RFC 5103), if the forward one has
/// them. The first two are always there.
pub(super) const REVERSE_COUNTERS: [u16; 2] = [2, 1];
/// The others, where all of the reverse is told.
pub(super) const REVERSE_MORE: [u16; 5] = [6, 152, 153, 136, 5];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::{ElementId, lookup};

    #[test]
    fn every_field_is_in_the_registry_of_elements() {
        for field in &FIELDS {
            let element = lookup(ElementId::iana(field.id)).map(|element| element.name);
            // Without the octets of the short form.
            let name = field.name.split('/').next();
            assert_eq!(element, name, "{}", field.id);
        }
    }

    #[test]
    fn every_field_fits_its_place_and_has_a_name_and_number_of_its_own() {
        for (index, field) in FIELDS.iter().enumerate() {
            let room = field.place.end() - field.place.at();
            assert!(usize::from(field.len.max(field.v9.1)) <= room, "{}", field.name);
            for other in &FIELDS[..index] {
                assert_ne!(other.name, field.name);
                let shorter = other.id == field.id && other.len < field.len;
                let apart =
                    other.version.is_some() && field.version.is_some_and(|v| Some(v) != other.version);
                assert!(shorter || other.id != field.id, "{}", field.name);
                assert!(shorter || apart || other.v9.0 != field.v9.0, "{}", field.name);
            }
        }
    }
}
