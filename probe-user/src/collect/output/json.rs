// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A record as a JSON object: names as registered, values as JSON has them.
//!
//! Addresses are strings, MAC addresses "02:00:…", times numbers of the unit in their name, octets
//! hexadecimal, lists arrays of objects. Of a layer2SegmentId only the segment is shown, without the octet
//! that says of which kind it is. An element that comes more than once is an array. An options record
//! begins with `recordKind`, `exporter`, `domain` and `template`.

use std::io::{self, Write};

use super::super::received::{Received, RecordKind};
use crate::element::{DataType, ElementId, Value, lookup, name};

const LAYER2_SEGMENT: ElementId = ElementId::iana(351);
/// Kinds of layer2SegmentId: VXLAN and NVGRE, whose identifiers have 24 bits.
const SEGMENT_KINDS: [u64; 2] = [1, 2];

/// Writes the object, without a line end.
///
/// # Errors
/// When writing fails.
pub fn write_json(out: &mut impl Write, record: &Received) -> io::Result<()> {
    if record.kind == RecordKind::Flow {
        return write_object(out, &record.elements, "{");
    }
    let exporter = record.exporter.map_or_else(|| "null".to_owned(), |address| format!("\"{address}\""));
    let head = format!(
        "{{\"recordKind\":\"options\",\"exporter\":{exporter},\"domain\":{},\"template\":{}",
        record.domain, record.template
    );
    write_object(out, &record.elements, &head)
}

/// Writes elements as an object, without a line end.
pub(in super::super) fn write_elements(
    out: &mut impl Write,
    elements: &[(ElementId, Value)],
) -> io::Result<()> {
    write_object(out, elements, "{")
}

/// Writes elements as an object that begins with `head`.
fn write_object(out: &mut impl Write, elements: &[(ElementId, Value)], head: &str) -> io::Result<()> {
    out.write_all(head.as_bytes())?;
    let mut separator = if head.len() > 1 { "," } else { "" };
    for (at, (id, value)) in elements.iter().enumerate() {
        if elements[..at].iter().any(|(earlier, _)| earlier == id) {
            continue;
        }
        write!(out, "{separator}\"{}\":", name(*id))?;
        separator = ",";
        let others = || elements[at + 1..].iter().filter(|(other, _)| other == id);
        if others().next().is_none() {
            write_value(out, *id, value)?;
            continue;
        }
        out.write_all(b"[")?;
        write_value(out, *id, value)?;
        for (_, value) in others() {
            out.write_all(b",")?;
            write_value(out, *id, value)?;
        }
        out.write_all(b"]")?;
    }
    out.write_all(b"}")
}

fn write_value(out: &mut impl Write, id: ElementId, value: &Value) -> io::Result<()> {
    match value {
        Value::Unsigned(number) if id == LAYER2_SEGMENT && SEGMENT_KINDS.contains(&(number >> 56)) => {
            write!(out, "{}", number & 0xff_ffff)
        }
        Value::Unsigned(number) => write!(out, "{number}"),
        Value::Signed(number) => write!(out, "{number}"),
        Value::Float(number) => Ok(serde_json::to_writer(out, number)?),
        Value::Boolean(truth) => write!(out, "{truth}"),
        Value::Mac([a, b, c, d, e, f]) => {
            write!(out, "\"{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}\"")
        }
        Value::Ipv4(address) => write!(out, "\"{address}\""),
        Value::Ipv6(address) => write!(out, "\"{address}\""),
        Value::Time(ns) => write!(out, "{}", ns / unit(id)),
        Value::String(text) => Ok(serde_json::to_writer(out, text)?),
        Value::Octets(octets) => {
            out.write_all(b"\"")?;
            for octet in octets {
                write!(out, "{octet:02x}")?;
            }
            out.write_all(b"\"")
        }
        Value::List(entries) => {
            out.write_all(b"[")?;
            for (at, entry) in entries.iter().enumerate() {
                if at > 0 {
                    out.write_all(b",")?;
                }
                write_object(out, entry, "{")?;
            }
            out.write_all(b"]")
        }
    }
}

/// Nanoseconds of the unit in which an element tells time.
fn unit(id: ElementId) -> u64 {
    match lookup(id).map(|element| element.data_type) {
        Some(DataType::DateTimeSeconds) => 1_000_000_000,
        Some(DataType::DateTimeMicroseconds) => 1000,
        Some(DataType::DateTimeNanoseconds) => 1,
        _ => 1_000_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(kind: RecordKind, elements: Vec<(ElementId, Value)>) -> String {
        let exporter = Some(([192, 0, 2, 1], 2055).into());
        let record =
            Received { exporter, version: 10, domain: 7, template: 256, exported_ns: 0, kind, elements };
        let mut out = Vec::new();
        write_json(&mut out, &record).unwrap();
        let text = String::from_utf8(out).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
        text
    }

    #[test]
    fn every_kind_of_value() {
        let iana = ElementId::iana;
        let time = Value::Time(1_700_000_000_123_456_789);
        let list = vec![vec![(iana(460), Value::String("a\"b\n".into()))], vec![]];
        let elements = vec![
            (iana(8), Value::Ipv4([192, 0, 2, 1].into())),
            (iana(27), Value::Ipv6("2001:db8::1".parse().unwrap())),
            (iana(56), Value::Mac([2, 0, 0, 0, 0, 0xff])),
            (iana(1), Value::Unsigned(u64::MAX)),
            (iana(434), Value::Signed(-5)),
            (iana(311), Value::Float(0.5)),
            (iana(276), Value::Boolean(true)),
            (iana(150), time.clone()),
            (iana(152), time.clone()),
            (iana(154), time.clone()),
            (iana(156), time),
            (iana(70), Value::Octets(vec![0, 0x13, 0xff])),
            (iana(351), Value::Unsigned(0x0100_0000_0000_1234)),
            (iana(291), Value::List(list)),
            (iana(1), Value::Unsigned(2)),
            (ElementId { enterprise: 9, id: 5 }, Value::Float(f64::NAN)),
        ];
        let expected = concat!(
            r#"{"sourceIPv4Address":"192.0.2.1","sourceIPv6Address":"2001:db8::1","#,
            r#""sourceMacAddress":"02:00:00:00:00:ff","octetDeltaCount":[18446744073709551615,2],"#,
            r#""mibObjectValueInteger":-5,"samplingProbability":0.5,"dataRecordsReliability":true,"#,
            r#""flowStartSeconds":1700000000,"flowStartMilliseconds":1700000000123,"#,
            r#""flowStartMicroseconds":1700000000123456,"flowStartNanoseconds":1700000000123456789,"#,
            r#""mplsTopLabelStackSection":"0013ff","layer2SegmentId":4660,"#,
            r#""basicList":[{"httpRequestHost":"a\"b\n"},{}],"enterprise9id5":null}"#
        );
        assert_eq!(json(RecordKind::Flow, elements), expected);
        assert_eq!(json(RecordKind::Flow, vec![]), "{}");
    }

    #[test]
    fn options_say_whose_they_are() {
        let elements = vec![(ElementId::iana(34), Value::Unsigned(100))];
        assert_eq!(
            json(RecordKind::Options, elements),
            r#"{"recordKind":"options","exporter":"192.0.2.1:2055","domain":7,"template":256,"samplingInterval":100}"#
        );
    }
}
