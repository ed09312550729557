// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Records as lines for people: flows aligned, everything else by name.

use std::io::{self, Write};
use std::net::IpAddr;

use probe_common::Direction;

use super::super::received::{Received, RecordKind};
use crate::element::{ElementId, Value, name};
use crate::export::{TextFlow, write_utc};

const MILLISECOND: u64 = 1_000_000;
/// Entries of a list that are shown.
const MAX_ENTRIES: usize = 16;

pub(super) fn write(out: &mut impl Write, record: &Received) -> io::Result<()> {
    if record.kind == RecordKind::Flow
        && let Some(flow) = flow(record)
    {
        return flow.write(out);
    }
    // Options, and flows of another layer: what they say stands behind the time they were exported.
    write_utc(out, record.exported_ns / MILLISECOND)?;
    let what = if record.kind == RecordKind::Options { "options" } else { "flow" };
    write!(out, "  {what} of domain {}, template {}:", record.domain, record.template)?;
    write_elements(out, &record.elements)?;
    writeln!(out)
}

/// The line of a flow between IP addresses.
fn flow(record: &Received) -> Option<TextFlow> {
    let value = |id| record.get(ElementId::iana(id));
    let number = |id| value(id).and_then(Value::unsigned);
    let address = |id| match value(id)? {
        Value::Ipv4(address) => Some(IpAddr::V4(*address)),
        Value::Ipv6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    };
    let small = |id| number(id).and_then(|number| u8::try_from(number).ok()).unwrap_or(0);
    let port = |id| number(id).and_then(|number| u16::try_from(number).ok());
    // Type and code of ICMP together, apart, or in the destination port.
    let pair = |kind, code| Some(u16::from(value(kind).map(|_| small(kind))?) << 8 | u16::from(small(code)));
    let icmp = || port(32).or_else(|| port(139)).or_else(|| pair(176, 177)).or_else(|| pair(178, 179));
    let protocol = small(4);
    let destination_port = if matches!(protocol, 1 | 58) { icmp() } else { None };
    // The time of an event, of a record that tells of one (element 323).
    let time = |id| value(id).and_then(Value::time);
    let start = time(152).or_else(|| time(323)).unwrap_or(record.exported_ns);
    Some(TextFlow {
        source: (address(8).or_else(|| address(27))?, port(7).unwrap_or(0)),
        destination: (
            address(12).or_else(|| address(28))?,
            destination_port.or_else(|| port(11)).unwrap_or(0),
        ),
        protocol,
        direction: match number(61) {
            Some(0) => Some(Direction::Ingress),
            Some(1) => Some(Direction::Egress),
            _ => None,
        },
        tos: small(5),
        tcp_flags: port(6).unwrap_or(0),
        packets: record.packets(),
        octets: record.octets(),
        start_ms: start / MILLISECOND,
        end_ms: time(153).unwrap_or(start) / MILLISECOND,
    })
}

fn write_elements(out: &mut impl Write, elements: &[(ElementId, Value)]) -> io::Result<()> {
    for (id, value) in elements {
        write!(out, " {}=", name(*id))?;
        match value {
            Value::Unsigned(number) => write!(out, "{number}")?,
            Value::Signed(number) => write!(out, "{number}")?,
            Value::Float(number) => write!(out, "{number}")?,
            Value::Boolean(truth) => write!(out, "{truth}")?,
            Value::Ipv4(address) => write!(out, "{address}")?,
            Value::Ipv6(address) => write!(out, "{address}")?,
            Value::Mac([a, b, c, d, e, f]) => write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")?,
            Value::Time(ns) => write_utc(out, ns / MILLISECOND)?,
            // Quoted, with control characters escaped: a terminal obeys some of them.
            Value::String(text) => write!(out, "{text:?}")?,
            Value::Octets(octets) => {
                for octet in octets {
                    write!(out, "{octet:02x}")?;
                }
            }
            Value::List(entries) => {
                write!(out, "[")?;
                for entry in entries.iter().take(MAX_ENTRIES) {
                    write_elements(out, entry)?;
                    write!(out, ";")?;
                }
                if entries.len() > MAX_ENTRIES {
                    write!(out, " {} more", entries.len() - MAX_ENTRIES)?;
                }
                write!(out, "]")?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: RecordKind, elements: Vec<(ElementId, Value)>) -> String {
        let exported_ns = 1_709_251_205_000_000_000;
        let record =
            Received { exporter: None, version: 10, domain: 7, template: 300, exported_ns, kind, elements };
        let mut out = Vec::new();
        write(&mut out, &record).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn flows_are_aligned_and_icmp_shows_its_type() {
        let iana = ElementId::iana;
        let v6 = |last: u16| Value::Ipv6(format!("2001:db8::{last}").parse().unwrap());
        let mut elements = vec![
            (iana(27), v6(1)),
            (iana(28), v6(2)),
            (iana(4), Value::Unsigned(58)),
            (iana(139), Value::Unsigned(0x8000)),
            (iana(86), Value::Unsigned(3)),
            (iana(85), Value::Unsigned(312)),
            (iana(152), Value::Time(1_709_251_200_123_000_000)),
            (iana(153), Value::Time(1_709_251_201_124_000_000)),
        ];
        let text = line(RecordKind::Flow, elements.clone());
        assert!(text.starts_with("2024-03-01 00:00:00.123     1.001  ICMP6"), "{text}");
        assert!(text.contains("[2001:db8::1]:0 -> [2001:db8::2]:128.0"), "{text}");
        assert_eq!(text.split_whitespace().rev().take(2).collect::<Vec<_>>(), ["312", "3"]);
        elements.truncate(1);
        let text = line(RecordKind::Flow, elements);
        assert_eq!(
            text,
            "2024-03-01 00:00:05.000  flow of domain 7, template 300: sourceIPv6Address=2001:db8::1\n"
        );
    }

    #[test]
    fn options_are_shown_by_name_and_obey_nobody() {
        let elements = vec![
            (ElementId { enterprise: ElementId::V9_SCOPE, id: 2 }, Value::Unsigned(3)),
            (ElementId::iana(82), Value::String("\x1b[2Jeth0".into())),
        ];
        assert_eq!(
            line(RecordKind::Options, elements),
            "2024-03-01 00:00:05.000  options of domain 7, template 300: scopeInterface=3 interfaceName=\"\\u{1b}[2Jeth0\"\n"
        );
    }
}
