// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is offered: flows of which everything follows from their number, as records and as messages.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use probe_user::{
    collect::{
        Received, RecordKind,
        decode::Source,
        write::{RecordWriter, WriteFormat, WriteOptions, WriteTotals},
    },
    element::{ElementId, Value},
};

pub(crate) const SECOND: u64 = 1_000_000_000;
pub(crate) const HOUR: u64 = 3600 * SECOND;
/// 2026-11-21 05:00:00 UTC.
pub(crate) const FIVE: u64 = 1_795_237_200 * SECOND;

/// Template ids of flows of IPv4 and IPv6.
pub(crate) const IDS: [u16; 2] = [256, 257];
pub(crate) const IDS_SWAPPED: [u16; 2] = [257, 256];

/// Flows, packets, octets.
pub(crate) type Sums = (u64, u64, u64);

pub(crate) fn add(sums: &mut Sums, (flows, packets, octets): Sums) {
    *sums = (sums.0 + flows, sums.1 + packets, sums.2 + octets);
}

/// A flow of the test; everything in it follows from its number.
#[derive(Clone, Copy)]
pub(crate) struct Flow {
    pub(crate) number: u32,
    pub(crate) end_ns: u64,
}

impl Flow {
    /// So many, ending one after the other from 05:10 to 07:10.
    pub(crate) fn many(count: u32) -> Vec<Self> {
        let step = 2 * HOUR / u64::from(count);
        (0..count).map(|number| Self { number, end_ns: FIVE + HOUR / 6 + u64::from(number) * step }).collect()
    }

    pub(crate) fn is_ipv6(self) -> bool {
        self.number % 3 == 1
    }

    pub(crate) fn packets(self) -> u64 {
        u64::from(self.number % 1000) + 1
    }

    pub(crate) fn octets(self) -> u64 {
        self.packets() * 40 + (u64::from(self.number) << 20)
    }

    pub(crate) fn end_ms(self) -> u64 {
        self.end_ns / 1_000_000
    }

    pub(crate) fn sums(self) -> Sums {
        (1, self.packets(), self.octets())
    }

    /// Fields as they stand in a record, in the order of its template.
    pub(crate) fn elements(self) -> Vec<(ElementId, Value)> {
        let (source, destination) = (0xc000_0200 | self.number & 0xff, 0xc633_6400 | self.number >> 8 & 0xff);
        let iana = ElementId::iana;
        let [first, second] = if self.is_ipv6() {
            let address = |host: u32| Value::Ipv6(Ipv6Addr::from(0x2001_0db8 << 96 | u128::from(host)));
            [(iana(27), address(source)), (iana(28), address(destination))]
        } else {
            [
                (iana(8), Value::Ipv4(Ipv4Addr::from(source))),
                (iana(12), Value::Ipv4(Ipv4Addr::from(destination))),
            ]
        };
        vec![
            first,
            second,
            (iana(7), Value::Unsigned(40_000 + u64::from(self.number % 20_000))),
            (iana(11), Value::Unsigned(443)),
            (iana(4), Value::Unsigned(6)),
            (iana(10), Value::Unsigned(4_000_000_000)),
            (iana(2), Value::Unsigned(self.packets())),
            (iana(1), Value::Unsigned(self.octets())),
            (iana(152), Value::Time((self.end_ms() - 1500) * 1_000_000)),
            (iana(153), Value::Time(self.end_ms() * 1_000_000)),
            (iana(58), Value::Unsigned(100)),
            (iana(243), Value::Unsigned(100)),
            (iana(56), Value::Mac([2, 0, 0, 0, 0, 0xab])),
            (iana(351), Value::Unsigned(0x0100_0000_0000_2a2a)),
            (iana(52), Value::Unsigned(64)),
        ]
    }

    pub(crate) fn received(self, exporter: SocketAddr) -> Received {
        Received {
            exporter: Some(exporter),
            version: 10,
            domain: 7,
            template: if self.is_ipv6() { 257 } else { 256 },
            exported_ns: self.end_ns,
            kind: RecordKind::Flow,
            elements: self.elements(),
        }
    }
}

/// Octets of a field of the templates.
pub(crate) fn width(id: u16) -> u16 {
    match id {
        4 | 52 => 1,
        7 | 11 | 58 | 243 => 2,
        8 | 10 | 12 => 4,
        56 => 6,
        27 | 28 => 16,
        _ => 8,
    }
}

pub(crate) fn ipfix(domain: u32, sequence: u32, export_s: u32, sets: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut octets = vec![0, 10, 0, 0];
    for word in [export_s, sequence, domain] {
        octets.extend(word.to_be_bytes());
    }
    for (id, body) in sets {
        octets.extend(id.to_be_bytes());
        octets.extend(u16::try_from(body.len() + 4).unwrap().to_be_bytes());
        octets.extend(body);
    }
    let length = u16::try_from(octets.len()).unwrap();
    octets[2..4].copy_from_slice(&length.to_be_bytes());
    octets
}

pub(crate) fn template(id: u16, flow: Flow) -> Vec<u8> {
    let elements = flow.elements();
    let mut octets = [id.to_be_bytes(), u16::try_from(elements.len()).unwrap().to_be_bytes()].concat();
    for (element, _) in &elements {
        octets.extend(element.id.to_be_bytes());
        octets.extend(width(element.id).to_be_bytes());
    }
    octets
}

pub(crate) fn data(flow: Flow) -> Vec<u8> {
    let mut octets = Vec::new();
    for (element, value) in flow.elements() {
        let number = match value {
            Value::Unsigned(number) => number,
            Value::Time(ns) => ns / 1_000_000,
            Value::Ipv4(address) => u32::from(address).into(),
            Value::Ipv6(address) => {
                octets.extend(address.octets());
                continue;
            }
            Value::Mac(address) => {
                octets.extend(address);
                continue;
            }
            other => panic!("{other:?}"),
        };
        octets.extend(&number.to_be_bytes()[8 - usize::from(width(element.id))..]);
    }
    octets
}

/// Flows as an exporter sends them: both templates once, those of IPv4 and IPv6 under these ids, then messages
/// of flows of one kind.
pub(crate) fn messages(
    flows: &[Flow],
    domain: u32,
    [ipv4, ipv6]: [u16; 2],
) -> Vec<(u64, Vec<u8>, Vec<Flow>)> {
    let start = flows[0];
    let templates =
        [template(ipv4, Flow { number: 0, ..start }), template(ipv6, Flow { number: 1, ..start })];
    let export_s = |ns: u64| u32::try_from(ns / SECOND).unwrap();
    let first = ipfix(domain, 0, export_s(start.end_ns), &[(2, templates.concat())]);
    let mut messages = vec![(start.end_ns, first, Vec::new())];
    let mut sequence = 0;
    for flows in flows.chunks(30) {
        for wanted in [false, true] {
            let flows: Vec<Flow> = flows.iter().copied().filter(|flow| flow.is_ipv6() == wanted).collect();
            let Some(last) = flows.last() else { continue };
            let body: Vec<u8> = flows.iter().flat_map(|flow| data(*flow)).collect();
            let id = if wanted { ipv6 } else { ipv4 };
            messages.push((
                last.end_ns,
                ipfix(domain, sequence, export_s(last.end_ns), &[(id, body)]),
                flows.clone(),
            ));
            sequence += u32::try_from(flows.len()).unwrap();
        }
    }
    messages
}

pub(crate) fn exporter(host: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], 4739))
}

/// Of datagrams.
pub(crate) fn source(host: u8) -> Source {
    Source { exporter: Some(exporter(host)), stream: 0 }
}

pub(crate) fn options(directory: &Path, rotate: u64, formats: &[WriteFormat]) -> WriteOptions {
    let (directory, rotate) = (directory.to_owned(), Duration::from_secs(rotate));
    WriteOptions { directory, rotate, formats: formats.to_vec() }
}

/// Writes flows in all formats, a file each half hour.
pub(crate) fn write_all(directory: &Path, flows: &[Flow]) -> (usize, WriteTotals) {
    let options = options(directory, 1800, &WriteFormat::ALL);
    let mut writer = RecordWriter::open(options, flows[0].end_ns).unwrap();
    let messages = messages(flows, 7, IDS);
    for (now_ns, message, flows) in &messages {
        writer.message(source(1), message, *now_ns);
        for flow in flows {
            writer.record(&flow.received(exporter(1)), *now_ns);
        }
    }
    let count = messages.len();
    (count, writer.finish(messages[count - 1].0))
}

pub(crate) fn expected(flows: &[Flow]) -> Sums {
    let mut sums = Sums::default();
    for flow in flows {
        add(&mut sums, flow.sums());
    }
    sums
}

/// Sums by the hour in which the flows ended, as `date=…/hour=…`.
pub(crate) fn by_hour(flows: &[Flow]) -> BTreeMap<String, Sums> {
    let mut hours = BTreeMap::new();
    for flow in flows {
        let hour = 5 + (flow.end_ns - FIVE) / HOUR;
        add(hours.entry(format!("date=2026-11-21/hour={hour:02}")).or_default(), flow.sums());
    }
    hours
}
