// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Files of JSON lines: one object a flow, as `--format json` shows them, and who sent it.

use std::fmt::Display;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;

use super::Unwritten;
use super::appender::Appender;
use super::rotation::Interval;
use super::shelf::Shelf;
use crate::collect::{Received, RecordKind, write_json};
use crate::element::ElementId;

/// See the module.
pub(super) struct JsonLines {
    shelf: Shelf,
    file: Option<Appender>,
}

impl JsonLines {
    pub(super) fn new(shelf: Shelf) -> Self {
        Self { shelf, file: None }
    }

    pub(super) fn write(&mut self, record: &Received, now_ns: u64) {
        if record.kind == RecordKind::Options {
            self.shelf.count(Unwritten::Options, 1);
            return;
        }
        if !self.shelf.admits(now_ns, 1) {
            return;
        }
        let file = match self.file.take() {
            Some(file) => Ok(file),
            None => self.shelf.open(Path::new("")).map(Appender::new),
        };
        match file {
            Ok(mut file) => match file.append(1, |buffer| write_line(record, buffer)) {
                Ok(()) => self.file = Some(file),
                Err(error) => self.shelf.abandon(file, now_ns, &error),
            },
            Err(error) => self.shelf.failed(now_ns, 1, &error),
        }
    }

    pub(super) fn turn(&mut self, interval: Interval, now_ns: u64) {
        if let Some(file) = self.file.take() {
            self.shelf.finish(file, now_ns);
        }
        self.shelf.turn(interval);
    }
}

/// Elements of IANA that say who sent a record; a record may say so itself, and then that stands.
const EXPORTER_IPV4: ElementId = ElementId::iana(130);
const EXPORTER_IPV6: ElementId = ElementId::iana(131);
const EXPORTER_PORT: ElementId = ElementId::iana(217);
const DOMAIN: ElementId = ElementId::iana(149);

/// Appends a record as an object and a line feed.
fn write_line(record: &Received, out: &mut Vec<u8>) {
    let begin = out.len();
    // A vector takes everything.
    write_json(out, record).ok();
    out.pop();
    let mut add = |id: ElementId, name: &str, value: &dyn Display| {
        if record.get(id).is_none() {
            let separator = if out.len() > begin + 1 { "," } else { "" };
            write!(out, "{separator}\"{name}\":{value}").ok();
        }
    };
    if let Some(exporter) = record.exporter {
        let address = format!("\"{}\"", exporter.ip());
        match exporter.ip() {
            IpAddr::V4(_) => add(EXPORTER_IPV4, "exporterIPv4Address", &address),
            IpAddr::V6(_) => add(EXPORTER_IPV6, "exporterIPv6Address", &address),
        }
        add(EXPORTER_PORT, "exporterTransportPort", &exporter.port());
    }
    add(DOMAIN, "observationDomainId", &record.domain);
    out.extend(b"}\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::Value;

    fn line(exporter: Option<&str>, elements: Vec<(ElementId, Value)>) -> String {
        let record = Received {
            exporter: exporter.map(|exporter| exporter.parse().unwrap()),
            version: 10,
            domain: 7,
            template: 256,
            exported_ns: 0,
            kind: RecordKind::Flow,
            elements,
        };
        let mut out = Vec::new();
        write_line(&record, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_says_who_sent_it_unless_the_record_does() {
        let packets = (ElementId::iana(2), Value::Unsigned(1));
        assert_eq!(
            line(Some("192.0.2.1:2055"), vec![packets.clone()]),
            r#"{"packetDeltaCount":1,"exporterIPv4Address":"192.0.2.1","exporterTransportPort":2055,"#
                .to_owned()
                + "\"observationDomainId\":7}\n"
        );
        assert_eq!(
            line(Some("[2001:db8::1]:2055"), vec![packets.clone(), (DOMAIN, Value::Unsigned(9))]),
            r#"{"packetDeltaCount":1,"observationDomainId":9,"exporterIPv6Address":"2001:db8::1","#
                .to_owned()
                + "\"exporterTransportPort\":2055}\n"
        );
        assert_eq!(line(None, vec![]), "{\"observationDomainId\":7}\n");
    }
}
