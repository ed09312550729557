// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The columns of a Parquet file: which elements they hold, and in which type.
//!
//! The types are those that DuckDB, Spark and ClickHouse read without being told: addresses are text, times
//! are timestamps in UTC, numbers of up to 32 bits are unsigned. Counters are signed 64-bit numbers, because
//! Spark makes a decimal of unsigned ones; one of 2^63 or more goes to the column `other` instead.

use crate::element::{ElementId, Value};

/// How a column is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Unsigned8,
    Unsigned16,
    Unsigned32,
    /// A counter, of 63 bits.
    Count,
    /// The VNI of VXLAN or NVGRE alone, without the octet that tells which of them (IANA on element 351).
    Segment,
    /// Unix time in milliseconds, UTC.
    Milliseconds,
    Ipv4,
    Ipv6,
    Mac,
    /// Octets, in hexadecimal.
    Hex,
    /// Text that is not an element's.
    Text,
}

impl Kind {
    /// Physical and logical type, in Parquet's notation.
    fn parquet(self) -> (&'static str, &'static str) {
        match self {
            Self::Unsigned8 => ("INT32", "INTEGER(8,false)"),
            Self::Unsigned16 => ("INT32", "INTEGER(16,false)"),
            Self::Unsigned32 => ("INT32", "INTEGER(32,false)"),
            Self::Count | Self::Segment => ("INT64", "INTEGER(64,true)"),
            Self::Milliseconds => ("INT64", "TIMESTAMP(MILLIS,true)"),
            Self::Ipv4 | Self::Ipv6 | Self::Mac | Self::Hex | Self::Text => ("BYTE_ARRAY", "STRING"),
        }
    }

    /// The number to store, if the value is one that the column can hold.
    pub(super) fn number(self, value: &Value) -> Option<i64> {
        match (self, value) {
            (Self::Unsigned8, Value::Unsigned(number)) => u8::try_from(*number).ok().map(i64::from),
            (Self::Unsigned16, Value::Unsigned(number)) => u16::try_from(*number).ok().map(i64::from),
            (Self::Unsigned32, Value::Unsigned(number)) => u32::try_from(*number).ok().map(i64::from),
            (Self::Count, Value::Unsigned(number)) => i64::try_from(*number).ok(),
            (Self::Segment, Value::Unsigned(number)) if matches!(number >> 56, 1 | 2) => {
                i64::try_from(*number & 0xff_ffff).ok()
            }
            (Self::Segment, Value::Unsigned(number)) => i64::try_from(*number).ok(),
            (Self::Milliseconds, Value::Time(ns)) => i64::try_from(*ns / 1_000_000).ok(),
            _ => None,
        }
    }

    /// Whether the value is one that this column stores as text.
    pub(super) fn is_text(self, value: &Value) -> bool {
        matches!(
            (self, value),
            (Self::Ipv4, Value::Ipv4(_))
                | (Self::Ipv6, Value::Ipv6(_))
                | (Self::Mac, Value::Mac(_))
                | (Self::Hex, Value::Octets(_))
        )
    }

    /// Whether it is stored in 32 bits.
    pub(super) fn is_int32(self) -> bool {
        self.parquet().0 == "INT32"
    }

    pub(super) fn is_stored_as_text(self) -> bool {
        self.parquet().0 == "BYTE_ARRAY"
    }
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// IANA elements that it takes; the first of a record that fits. None: not from an element.
    elements: &'static [u16],
}

const fn column(name: &'static str, kind: Kind, elements: &'static [u16]) -> Column {
    Column { name, kind, elements }
}

/// All columns. The first are about the message, the last is everything without a column.
pub(super) const COLUMNS: [Column; 37] = [
    column("exporterIPv4Address", Kind::Text, &[]),
    column("exporterIPv6Address", Kind::Text, &[]),
    column("exporterTransportPort", Kind::Unsigned16, &[]),
    column("observationDomainId", Kind::Unsigned32, &[]),
    column("exportProtocolVersion", Kind::Unsigned8, &[]),
    column("flowStartMilliseconds", Kind::Milliseconds, &[152]),
    column("flowEndMilliseconds", Kind::Milliseconds, &[153]),
    column("sourceIPv4Address", Kind::Ipv4, &[8]),
    column("sourceIPv6Address", Kind::Ipv6, &[27]),
    column("destinationIPv4Address", Kind::Ipv4, &[12]),
    column("destinationIPv6Address", Kind::Ipv6, &[28]),
    column("sourceTransportPort", Kind::Unsigned16, &[7]),
    column("destinationTransportPort", Kind::Unsigned16, &[11]),
    column("protocolIdentifier", Kind::Unsigned8, &[4]),
    column("ipClassOfService", Kind::Unsigned8, &[5]),
    column("ingressInterface", Kind::Unsigned32, &[10]),
    column("egressInterface", Kind::Unsigned32, &[14]),
    column("packetDeltaCount", Kind::Count, &[2]),
    column("octetDeltaCount", Kind::Count, &[1]),
    column("tcpControlBits", Kind::Unsigned16, &[6]),
    column("flowEndReason", Kind::Unsigned8, &[136]),
    column("icmpTypeCodeIPv4", Kind::Unsigned16, &[32]),
    column("icmpTypeCodeIPv6", Kind::Unsigned16, &[139]),
    // Exporters send one or both of these, for collectors that know one of them.
    column("vlanId", Kind::Unsigned16, &[58, 243]),
    column("dot1qCustomerVlanId", Kind::Unsigned16, &[245]),
    column("sourceMacAddress", Kind::Mac, &[56]),
    column("destinationMacAddress", Kind::Mac, &[80]),
    column("mplsTopLabelStackSection", Kind::Hex, &[70]),
    column("layer2SegmentId", Kind::Segment, &[351]),
    column("bgpSourceAsNumber", Kind::Unsigned32, &[16]),
    column("bgpDestinationAsNumber", Kind::Unsigned32, &[17]),
    column("sourceIPv4PrefixLength", Kind::Unsigned8, &[9]),
    column("destinationIPv4PrefixLength", Kind::Unsigned8, &[13]),
    column("sourceIPv6PrefixLength", Kind::Unsigned8, &[29]),
    column("destinationIPv6PrefixLength", Kind::Unsigned8, &[30]),
    column("ipNextHopIPv4Address", Kind::Ipv4, &[15]),
    column("other", Kind::Text, &[]),
];

/// Places of the columns that are not an element's.
pub(super) const EXPORTER_IPV4: usize = 0;
pub(super) const EXPORTER_IPV6: usize = 1;
pub(super) const EXPORTER_PORT: usize = 2;
pub(super) const DOMAIN: usize = 3;
pub(super) const PROTOCOL_VERSION: usize = 4;
pub(super) const START: usize = 5;
pub(super) const END: usize = 6;
pub(super) const OTHER: usize = COLUMNS.len() - 1;

/// Numbers of elements that can have a column are smaller.
const ELEMENTS: usize = 352;
const NO_COLUMN: u8 = u8::MAX;

/// Column of each element.
const BY_ELEMENT: [u8; ELEMENTS] = {
    let mut columns = [NO_COLUMN; ELEMENTS];
    let (mut place, mut index) = (0, 0);
    while index < COLUMNS.len() {
        let mut n = 0;
        while n < COLUMNS[index].elements.len() {
            columns[COLUMNS[index].elements[n] as usize] = place;
            n += 1;
        }
        place += 1;
        index += 1;
    }
    columns
};

/// The column that an element goes to.
pub(super) fn place(id: ElementId) -> Option<usize> {
    let place = *BY_ELEMENT.get(usize::from(id.id)).filter(|_| id.enterprise == 0)?;
    (place != NO_COLUMN).then_some(usize::from(place))
}

/// The schema, as text.
pub(super) fn schema() -> String {
    let fields: String = COLUMNS
        .iter()
        .map(|column| {
            let (physical, logical) = column.kind.parquet();
            format!("OPTIONAL {physical} {} ({logical}); ", column.name)
        })
        .collect();
    format!("message flows {{ {fields}}}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::name;

    #[test]
    fn columns_have_the_names_of_their_first_elements() {
        for (at, column) in COLUMNS.iter().enumerate() {
            if let Some(first) = column.elements.first() {
                assert_eq!(name(ElementId::iana(*first)), column.name);
            }
            for element in column.elements {
                assert_eq!(place(ElementId::iana(*element)), Some(at), "{}", column.name);
            }
        }
        assert_eq!(place(ElementId::reverse(1)), None);
        assert_eq!(place(ElementId::iana(u16::MAX)), None);
        for (at, name) in [
            (EXPORTER_IPV4, "exporterIPv4Address"),
            (EXPORTER_IPV6, "exporterIPv6Address"),
            (EXPORTER_PORT, "exporterTransportPort"),
            (DOMAIN, "observationDomainId"),
            (PROTOCOL_VERSION, "exportProtocolVersion"),
            (START, "flowStartMilliseconds"),
            (END, "flowEndMilliseconds"),
            (OTHER, "other"),
        ] {
            assert_eq!(COLUMNS[at].name, name);
        }
    }
}
