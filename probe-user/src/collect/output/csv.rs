// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Flows as comma-separated values: fixed columns, an empty cell for what is not known.

use std::io::{self, Write};

use super::super::received::Received;
use crate::element::{ElementId, Value, name};

/// Elements by column; new ones go to the end, so that columns keep their places.
const COLUMNS: [u16; 36] = [
    8, 12, 7, 11, 4, 5, 10, 14, 2, 1, 6, 152, 153, 32, 16, 17, 9, 13, 15, // as NetFlow v5 has them
    27, 28, 139, 29, 30, 62, 58, 59, 245, 56, 80, 136, 61, 60, 31, 86, 85,
];

pub(super) fn write_header(out: &mut impl Write) -> io::Result<()> {
    for id in COLUMNS {
        write!(out, "{},", name(ElementId::iana(id)))?;
    }
    writeln!(out, "exporter,version,domain")
}

/// A row. No value needs quotes: texts have no column.
pub(super) fn write(out: &mut impl Write, record: &Received) -> io::Result<()> {
    for id in COLUMNS {
        match record.get(ElementId::iana(id)) {
            Some(Value::Unsigned(number)) => write!(out, "{number},")?,
            Some(Value::Ipv4(address)) => write!(out, "{address},")?,
            Some(Value::Ipv6(address)) => write!(out, "{address},")?,
            Some(Value::Time(ns)) => write!(out, "{},", ns / 1_000_000)?,
            Some(Value::Mac([a, b, c, d, e, f])) => {
                write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x},")?;
            }
            // Of an unusual length, which is no value of these elements.
            _ => write!(out, ",")?,
        }
    }
    let exporter = record.exporter.map(|address| address.to_string()).unwrap_or_default();
    writeln!(out, "{exporter},{},{}", record.version, record.domain)
}

#[cfg(test)]
mod tests {
    use super::super::super::received::RecordKind;
    use super::*;

    #[test]
    fn a_row_has_a_cell_under_every_name() {
        let iana = ElementId::iana;
        let record = Received {
            exporter: Some(([192, 0, 2, 7], 2055).into()),
            version: 10,
            domain: 3,
            template: 256,
            exported_ns: 0,
            kind: RecordKind::Flow,
            elements: vec![
                (iana(8), Value::Ipv4([192, 0, 2, 1].into())),
                (iana(28), Value::Ipv6("2001:db8::1".parse().unwrap())),
                (iana(80), Value::Mac([2, 0, 0, 0, 0, 1])),
                (iana(152), Value::Time(1_700_000_000_123_000_000)),
                (iana(1), Value::Unsigned(840)),
                (iana(82), Value::String("a,b".into())),
            ],
        };
        let mut out = Vec::new();
        write_header(&mut out).unwrap();
        write(&mut out, &record).unwrap();
        let text = String::from_utf8(out).unwrap();
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
        assert_eq!(rows[0].len(), rows[1].len());
        assert_eq!(rows[0][..3], ["sourceIPv4Address", "destinationIPv4Address", "sourceTransportPort"]);
        let cell = |name| rows[1][rows[0].iter().position(|column| *column == name).unwrap()];
        for (name, value) in [
            ("sourceIPv4Address", "192.0.2.1"),
            ("destinationIPv4Address", ""),
            ("destinationIPv6Address", "2001:db8::1"),
            ("octetDeltaCount", "840"),
            ("flowStartMilliseconds", "1700000000123"),
            ("destinationMacAddress", "02:00:00:00:00:01"),
            ("icmpTypeCodeIPv4", ""),
            ("exporter", "192.0.2.7:2055"),
            ("domain", "3"),
        ] {
            assert_eq!(cell(name), value, "{name}");
        }
    }
}
