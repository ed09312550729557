// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the decoders of v9 and IPFIX have in common: records as elements by their IANA numbers.

use std::{collections::BTreeMap, net::IpAddr};

use probe_lab::FlowId;

use super::seen::Seen;

/// Elements that the tests look at, with their IANA names.
pub(crate) const ELEMENTS: &[(u16, &str)] = &[
    (1, "octetDeltaCount"),
    (2, "packetDeltaCount"),
    (4, "protocolIdentifier"),
    (5, "ipClassOfService"),
    (6, "tcpControlBits"),
    (7, "sourceTransportPort"),
    (8, "sourceIPv4Address"),
    (10, "ingressInterface"),
    (11, "destinationTransportPort"),
    (12, "destinationIPv4Address"),
    (14, "egressInterface"),
    (21, "flowEndSysUpTime"),
    (22, "flowStartSysUpTime"),
    (27, "sourceIPv6Address"),
    (28, "destinationIPv6Address"),
    (32, "icmpTypeCodeIPv4"),
    (34, "samplingInterval"),
    (36, "flowActiveTimeout"),
    (37, "flowIdleTimeout"),
    (40, "exportedOctetTotalCount"),
    (41, "exportedMessageTotalCount"),
    (42, "exportedFlowRecordTotalCount"),
    (48, "samplerId"),
    (49, "samplerMode"),
    (50, "samplerRandomInterval"),
    (58, "vlanId"),
    (61, "flowDirection"),
    (82, "interfaceName"),
    (83, "interfaceDescription"),
    (136, "flowEndReason"),
    (139, "icmpTypeCodeIPv6"),
    (144, "exportingProcessId"),
    (149, "observationDomainId"),
    (152, "flowStartMilliseconds"),
    (153, "flowEndMilliseconds"),
    (163, "observedFlowTotalCount"),
    (164, "ignoredPacketTotalCount"),
    (165, "ignoredOctetTotalCount"),
    (166, "notSentFlowTotalCount"),
    (167, "notSentPacketTotalCount"),
    (168, "notSentOctetTotalCount"),
    (243, "dot1qVlanId"),
    (245, "dot1qCustomerVlanId"),
    (302, "selectorId"),
    (304, "selectorAlgorithm"),
    (305, "samplingPacketInterval"),
    (306, "samplingPacketSpace"),
    (309, "samplingSize"),
    (310, "samplingPopulation"),
    (311, "samplingProbability"),
];

/// One value.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Element {
    /// Any unsigned number, and times in milliseconds.
    Number(u64),
    /// An address.
    Address(IpAddr),
    /// Text, or what is none of the above.
    Text(String),
}

impl Element {
    /// A number of as many octets as there are, if it fits; text otherwise.
    pub(crate) fn of_octets(octets: &[u8]) -> Self {
        if octets.len() <= 8 {
            return Self::Number(octets.iter().fold(0, |number, octet| number << 8 | u64::from(*octet)));
        }
        Self::Text(String::from_utf8_lossy(octets).trim_end_matches('\0').to_owned())
    }

    /// A number or an address as programs print them, text otherwise.
    pub(crate) fn of_text(text: &str) -> Self {
        let hexadecimal = text.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
        if let Some(number) = hexadecimal.or_else(|| text.parse().ok()) {
            return Self::Number(number);
        }
        text.parse().map_or_else(|_| Self::Text(text.to_owned()), Self::Address)
    }
}

/// One record.
#[derive(Clone, PartialEq, Default, Debug)]
pub(crate) struct Fields(pub(crate) BTreeMap<u16, Element>);

/// Records in the order of their arrival.
#[derive(Clone, PartialEq, Default, Debug)]
pub(crate) struct Decoded {
    /// Flows.
    pub(crate) flows: Vec<Seen>,
    /// Options records.
    pub(crate) options: Vec<Fields>,
}

impl Fields {
    /// A number that may be absent.
    pub(crate) fn number(&self, id: u16) -> Option<u64> {
        match self.0.get(&id)? {
            Element::Number(number) => Some(*number),
            other => panic!("element {id} is no number but {other:?} in {self:?}"),
        }
    }

    /// Text that may be absent.
    pub(crate) fn text(&self, id: u16) -> Option<&str> {
        match self.0.get(&id)? {
            Element::Text(text) => Some(text),
            other => panic!("element {id} is no text but {other:?} in {self:?}"),
        }
    }

    fn narrow<T: TryFrom<u64>>(&self, id: u16) -> T {
        let number = self.number(id).unwrap_or_else(|| panic!("no element {id} in {self:?}"));
        T::try_from(number).unwrap_or_else(|_| panic!("element {id} is {number} in {self:?}"))
    }

    fn address(&self, ids: [u16; 2]) -> IpAddr {
        match ids.iter().find_map(|id| self.0.get(id)) {
            Some(Element::Address(address)) => *address,
            other => panic!("{other:?} for the elements {ids:?} in {self:?}"),
        }
    }

    /// The flow; `boot_ms` is when the uptime of its message was 0, in Unix time.
    pub(crate) fn seen(&self, boot_ms: Option<u64>) -> Seen {
        let time = |absolute: u16, uptime: u16| {
            let relative = || Some(boot_ms? + self.number(uptime)?);
            let time = self.number(absolute).or_else(relative);
            time.unwrap_or_else(|| panic!("neither element {absolute} nor {uptime} in {self:?}"))
        };
        let protocol = self.narrow(4);
        let type_code = self.number(32).or_else(|| self.number(139));
        let port: u16 = self.narrow(11);
        let destination_port = match (protocol, type_code) {
            (1 | 58, Some(type_code)) => {
                assert!(port == 0 || u64::from(port) == type_code, "type and code differ in {self:?}");
                u16::try_from(type_code).unwrap()
            }
            _ => port,
        };
        let vlan = self.number(58).or_else(|| self.number(243)).unwrap_or(0);
        if let Some(tag) = self.number(243) {
            assert_eq!(vlan, tag, "vlanId and dot1qVlanId differ in {self:?}");
        }
        Seen {
            flow: FlowId {
                source: self.address([8, 27]),
                destination: self.address([12, 28]),
                source_port: self.narrow(7),
                destination_port,
                protocol,
                tos: self.narrow(5),
            },
            vlan: u16::try_from(vlan).unwrap(),
            packets: self.narrow(2),
            octets: self.narrow(1),
            tcp_flags: self.narrow::<u16>(6).to_be_bytes()[1],
            interface: self.narrow(10),
            start_ms: time(152, 22),
            end_ms: time(153, 21),
        }
    }
}

/// Milliseconds since 1970 of a date and a time of day such as `03:05:17.001` (UTC).
pub(crate) fn unix_ms(year: i64, month: i64, day: i64, time: &str) -> u64 {
    // Days before a date of the proleptic Gregorian calendar, the year beginning in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let seconds = clock.split(':').fold(0, |sum, part| sum * 60 + part.parse::<i64>().unwrap());
    let milliseconds: i64 = format!("{fraction:0<3}")[..3].parse().unwrap();
    u64::try_from((days * 86_400 + seconds) * 1000 + milliseconds).unwrap()
}

/// The same of a text such as `2026-11-21 03:05:17.001` or with a T in it.
pub(crate) fn unix_ms_of(text: &str) -> u64 {
    let (date, time) = text.split_once([' ', 'T']).unwrap_or_else(|| panic!("no time: {text}"));
    let parts: Vec<i64> = date.split('-').map(|part| part.parse().unwrap()).collect();
    unix_ms(parts[0], parts[1], parts[2], time)
}

#[test]
fn times_as_programs_print_them() {
    assert_eq!(unix_ms_of("1970-01-01 00:00:00"), 0);
    assert_eq!(unix_ms_of("2024-02-29T00:00:00.123"), 1_709_164_800_123);
    assert_eq!(unix_ms_of("2026-11-21 03:05:17.001000"), 1_795_230_317_001);
    assert_eq!(unix_ms(2100, 3, 1, "23:59:59.9"), 4_107_628_799_900);
}
