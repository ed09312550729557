// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Files of `probe collect --write`: what was offered is in them, read back by programs we did not write.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::BufReader,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use netflow_parser::{
    NetflowPacket, NetflowParser,
    variable_versions::{
        field_value::{DataNumber, FieldValue},
        ipfix::FlowSetBody,
    },
};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::Signal,
};
use parquet::{
    file::reader::{FileReader, SerializedFileReader},
    record::{Field, Row},
};
use probe_lab::{Process, clock::wait_until, require_root};
use probe_user::{
    collect::{
        IpfixFileReader, Received, RecordKind,
        decode::Source,
        write::{FormatTotals, RecordWriter, Unwritten, WriteFormat, WriteOptions},
    },
    element::{ElementId, Value},
};
use serde_json::Value as Json;

const PROBE: &str = env!("CARGO_BIN_EXE_probe");
const SOON: Duration = Duration::from_secs(30);
const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3600 * SECOND;
/// 2026-11-21 05:00:00 UTC.
const FIVE: u64 = 1_795_237_200 * SECOND;

/// Template ids of flows of IPv4 and IPv6.
const IDS: [u16; 2] = [256, 257];
const IDS_SWAPPED: [u16; 2] = [257, 256];

/// Flows, packets, octets.
type Sums = (u64, u64, u64);

fn add(sums: &mut Sums, (flows, packets, octets): Sums) {
    *sums = (sums.0 + flows, sums.1 + packets, sums.2 + octets);
}

/// A flow of the test; everything in it follows from its number.
#[derive(Clone, Copy)]
struct Flow {
    number: u32,
    end_ns: u64,
}

impl Flow {
    /// So many, ending one after the other from 05:10 to 07:10.
    fn many(count: u32) -> Vec<Self> {
        let step = 2 * HOUR / u64::from(count);
        (0..count).map(|number| Self { number, end_ns: FIVE + HOUR / 6 + u64::from(number) * step }).collect()
    }

    fn is_ipv6(self) -> bool {
        self.number % 3 == 1
    }

    fn packets(self) -> u64 {
        u64::from(self.number % 1000) + 1
    }

    fn octets(self) -> u64 {
        self.packets() * 40 + (u64::from(self.number) << 20)
    }

    fn end_ms(self) -> u64 {
        self.end_ns / 1_000_000
    }

    fn sums(self) -> Sums {
        (1, self.packets(), self.octets())
    }

    /// Fields as they stand in a record, in the order of its template.
    fn elements(self) -> Vec<(ElementId, Value)> {
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

    fn received(self, exporter: SocketAddr) -> Received {
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
fn width(id: u16) -> u16 {
    match id {
        4 | 52 => 1,
        7 | 11 | 58 | 243 => 2,
        8 | 10 | 12 => 4,
        56 => 6,
        27 | 28 => 16,
        _ => 8,
    }
}

fn ipfix(domain: u32, sequence: u32, export_s: u32, sets: &[(u16, Vec<u8>)]) -> Vec<u8> {
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

fn template(id: u16, flow: Flow) -> Vec<u8> {
    let elements = flow.elements();
    let mut octets = [id.to_be_bytes(), u16::try_from(elements.len()).unwrap().to_be_bytes()].concat();
    for (element, _) in &elements {
        octets.extend(element.id.to_be_bytes());
        octets.extend(width(element.id).to_be_bytes());
    }
    octets
}

fn data(flow: Flow) -> Vec<u8> {
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
fn messages(flows: &[Flow], domain: u32, [ipv4, ipv6]: [u16; 2]) -> Vec<(u64, Vec<u8>, Vec<Flow>)> {
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

fn exporter(host: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], 4739))
}

/// Of datagrams.
fn source(host: u8) -> Source {
    Source { exporter: Some(exporter(host)), stream: 0 }
}

fn options(directory: &Path, rotate: u64, formats: &[WriteFormat]) -> WriteOptions {
    let (directory, rotate) = (directory.to_owned(), Duration::from_secs(rotate));
    WriteOptions { directory, rotate, formats: formats.to_vec() }
}

/// Writes flows in all formats, a file each half hour.
fn write_all(directory: &Path, flows: &[Flow]) -> (usize, probe_user::collect::write::WriteTotals) {
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

/// All files below a directory, sorted, as paths relative to it.
fn files(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(next) = directories.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                found.push(path.strip_prefix(directory).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

fn with_extension(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let suffix = format!(".{extension}");
    files(directory).iter().filter(|name| name.ends_with(&suffix)).map(|name| directory.join(name)).collect()
}

fn json_sums(path: &Path) -> Sums {
    let mut sums = Sums::default();
    for line in fs::read_to_string(path).unwrap().lines() {
        let flow: Json = serde_json::from_str(line).unwrap();
        let number = |name: &str| flow[name].as_u64().unwrap();
        add(&mut sums, (1, number("packetDeltaCount"), number("octetDeltaCount")));
    }
    sums
}

fn parquet_rows(path: &Path) -> Vec<Row> {
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    reader.get_row_iter(None).unwrap().map(Result::unwrap).collect()
}

fn field<'a>(row: &'a Row, name: &str) -> &'a Field {
    row.get_column_iter().find(|(column, _)| *column == name).unwrap().1
}

fn parquet_sums(path: &Path) -> Sums {
    let mut sums = Sums::default();
    for row in parquet_rows(path) {
        let number = |name| match field(&row, name) {
            Field::Long(number) => u64::try_from(*number).unwrap(),
            other => panic!("{name}: {other:?}"),
        };
        add(&mut sums, (1, number("packetDeltaCount"), number("octetDeltaCount")));
    }
    sums
}

/// Messages of a file.
fn read_messages(path: &Path) -> Vec<Vec<u8>> {
    let mut reader = IpfixFileReader::new(BufReader::new(File::open(path).unwrap()));
    let mut messages = Vec::new();
    while let Some(message) = reader.next_message() {
        messages.push(message.unwrap().to_vec());
    }
    messages
}

/// By `netflow_parser`, which knows nothing before.
fn ipfix_sums(path: &Path) -> Sums {
    let mut sums = Sums::default();
    let mut parser = NetflowParser::default();
    for message in read_messages(path) {
        for packet in parser.parse_bytes(&message).packets {
            let NetflowPacket::IPFix(packet) = packet else { panic!("{packet:?}") };
            for set in packet.flowsets {
                match set.body {
                    FlowSetBody::Data(data) => data.fields.iter().for_each(|record| {
                        let number = |name: &str| {
                            let found = record.iter().find(|(field, _)| format!("{field:?}").contains(name));
                            match found.unwrap().1 {
                                FieldValue::DataNumber(DataNumber::U64(number)) => number,
                                ref other => panic!("{name}: {other:?}"),
                            }
                        };
                        add(&mut sums, (1, number("PacketDeltaCount"), number("OctetDeltaCount")));
                    }),
                    FlowSetBody::NoTemplate(info) => panic!("{}: {info:?}", path.display()),
                    _ => {}
                }
            }
        }
    }
    sums
}

fn expected(flows: &[Flow]) -> Sums {
    let mut sums = Sums::default();
    for flow in flows {
        add(&mut sums, flow.sums());
    }
    sums
}

fn total(paths: &[PathBuf], read: impl Fn(&Path) -> Sums) -> Sums {
    let mut sums = Sums::default();
    for path in paths {
        add(&mut sums, read(path));
    }
    sums
}

/// Sums by the hour in which the flows ended, as `date=…/hour=…`.
fn by_hour(flows: &[Flow]) -> BTreeMap<String, Sums> {
    let mut hours = BTreeMap::new();
    for flow in flows {
        let hour = 5 + (flow.end_ns - FIVE) / HOUR;
        add(hours.entry(format!("date=2026-11-21/hour={hour:02}")).or_default(), flow.sums());
    }
    hours
}

#[test]
fn every_format_holds_every_flow() {
    let directory = tempfile::tempdir().unwrap();
    let flows = Flow::many(5000);
    let (messages, totals) = write_all(directory.path(), &flows);
    let all = expected(&flows);
    assert_eq!(all.0, 5000);

    // Half hours from 05:00 to 07:00; the one of Parquet that a full hour ends has flows of one hour only.
    let stems = ["T050000Z", "T053000Z", "T060000Z", "T063000Z", "T070000Z"];
    let json = with_extension(directory.path(), "json");
    let ipfix = with_extension(directory.path(), "ipfix");
    let parquet = with_extension(directory.path(), "parquet");
    for (files, extension) in [(&json, "json"), (&ipfix, "ipfix")] {
        let expected: Vec<PathBuf> = stems
            .iter()
            .map(|stem| directory.path().join(format!("flows-20261121{stem}.{extension}")))
            .collect();
        assert_eq!(*files, expected);
    }
    assert_eq!(total(&json, json_sums), all);
    assert_eq!(total(&ipfix, ipfix_sums), all);
    assert_eq!(total(&parquet, parquet_sums), all);
    for (hour, sums) in by_hour(&flows) {
        let files = with_extension(&directory.path().join(&hour), "parquet");
        assert_eq!(total(&files, parquet_sums), sums, "{hour}");
    }
    let written = |files: &[PathBuf], written: usize| FormatTotals {
        files: files.len() as u64,
        written: written as u64,
        unwritten: [0; 5],
    };
    assert_eq!(*totals.of(WriteFormat::Json), written(&json, flows.len()));
    assert_eq!(*totals.of(WriteFormat::Ipfix), written(&ipfix, messages));
    assert_eq!(*totals.of(WriteFormat::Parquet), written(&parquet, flows.len()));
    // Nothing else is left.
    assert_eq!(files(directory.path()).len(), json.len() + ipfix.len() + parquet.len());
}

#[test]
fn a_parquet_row_has_each_element_in_its_column_and_the_rest_as_json() {
    let directory = tempfile::tempdir().unwrap();
    let iana = ElementId::iana;
    let flow = Flow { number: 3, end_ns: FIVE };
    let mut record = flow.received(exporter(1));
    record.elements.extend([
        // Converted already, so in no other form.
        (iana(21), Value::Unsigned(12_345)),
        (iana(22), Value::Unsigned(12_000)),
        // Twice, with different values; out of range; of another type; of an enterprise.
        (iana(8), Value::Ipv4(Ipv4Addr::new(10, 0, 0, 1))),
        (iana(5), Value::Unsigned(256)),
        (iana(136), Value::Octets(vec![1, 2])),
        (iana(85), Value::Unsigned(u64::MAX)),
        (iana(82), Value::String("eth \"0\" é".into())),
        (ElementId::reverse(2), Value::Unsigned(9)),
        (ElementId { enterprise: 6876, id: 890 }, Value::Unsigned(3)),
    ]);
    let mut huge = Flow { number: 1, end_ns: FIVE }.received("[2001:db8::9]:4739".parse().unwrap());
    for (id, value) in &mut huge.elements {
        if *id == iana(1) {
            *value = Value::Unsigned(u64::MAX);
        }
    }
    let mut writer =
        RecordWriter::open(options(directory.path(), 300, &[WriteFormat::Parquet]), FIVE).unwrap();
    writer.record(&record, FIVE);
    writer.record(&huge, FIVE);
    assert_eq!(writer.finish(FIVE).of(WriteFormat::Parquet).written, 2);

    let rows = parquet_rows(&with_extension(directory.path(), "parquet")[0]);
    let text = |text: &str| Field::Str(text.into());
    for (name, expected) in [
        ("exporterIPv4Address", text("192.0.2.1")),
        ("exporterIPv6Address", Field::Null),
        ("exporterTransportPort", Field::UShort(4739)),
        ("observationDomainId", Field::UInt(7)),
        ("exportProtocolVersion", Field::UByte(10)),
        ("flowStartMilliseconds", Field::TimestampMillis(i64::try_from(flow.end_ms()).unwrap() - 1500)),
        ("flowEndMilliseconds", Field::TimestampMillis(i64::try_from(flow.end_ms()).unwrap())),
        ("sourceIPv4Address", text("192.0.2.3")),
        ("sourceIPv6Address", Field::Null),
        ("destinationIPv4Address", text("198.51.100.0")),
        ("sourceTransportPort", Field::UShort(40_003)),
        ("protocolIdentifier", Field::UByte(6)),
        ("ipClassOfService", Field::Null),
        ("ingressInterface", Field::UInt(4_000_000_000)),
        ("packetDeltaCount", Field::Long(4)),
        ("octetDeltaCount", Field::Long(i64::try_from(flow.octets()).unwrap())),
        ("flowEndReason", Field::Null),
        ("vlanId", Field::UShort(100)),
        ("sourceMacAddress", text("02:00:00:00:00:ab")),
        ("layer2SegmentId", Field::Long(0x2a2a)),
        ("ipNextHopIPv4Address", Field::Null),
    ] {
        assert_eq!(*field(&rows[0], name), expected, "{name}");
    }
    let other = |row: &Row| match field(row, "other") {
        Field::Str(text) => serde_json::from_str::<Json>(text).unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        other(&rows[0]),
        serde_json::json!({
            "minimumTTL": 64,
            "sourceIPv4Address": "10.0.0.1",
            "ipClassOfService": 256,
            "flowEndReason": "0102",
            "octetTotalCount": u64::MAX,
            "interfaceName": "eth \"0\" é",
            "reversePacketDeltaCount": 9,
            "ingressInterfaceAttr": 3,
        })
    );
    assert_eq!(*field(&rows[1], "octetDeltaCount"), Field::Null);
    assert_eq!(*field(&rows[1], "exporterIPv6Address"), text("2001:db8::9"));
    assert_eq!(*field(&rows[1], "sourceIPv6Address"), text("2001:db8::c000:201"));
    assert_eq!(other(&rows[1]), serde_json::json!({"minimumTTL": 64, "octetDeltaCount": u64::MAX}));
}

#[test]
fn a_parquet_file_has_row_groups_of_bounded_size_with_statistics() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer =
        RecordWriter::open(options(directory.path(), 86_400, &[WriteFormat::Parquet]), FIVE).unwrap();
    for flow in (0..70_000).map(|number| Flow { number, end_ns: FIVE }) {
        writer.record(&flow.received(exporter(1)), FIVE);
    }
    assert_eq!(writer.finish(FIVE).of(WriteFormat::Parquet).files, 1);
    let path = &with_extension(directory.path(), "parquet")[0];
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    let groups = reader.metadata().row_groups();
    assert_eq!(groups.iter().map(|group| group.num_rows()).collect::<Vec<_>>(), [65_536, 70_000 - 65_536]);
    for column in groups.iter().flat_map(|group| group.columns()) {
        let statistics = column.statistics().unwrap();
        assert!(statistics.null_count_opt().is_some(), "{}", column.column_path());
        let name = column.column_path().string();
        if name == "octetDeltaCount" {
            assert!(statistics.min_bytes_opt().is_some() && statistics.max_bytes_opt().is_some());
        }
        if name == "sourceIPv4Address" {
            assert!(column.dictionary_page_offset().is_some(), "repeated addresses are stored once");
        }
    }
}

#[test]
fn flows_of_any_time_leave_few_files_and_none_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer =
        RecordWriter::open(options(directory.path(), 86_400, &[WriteFormat::Parquet]), FIVE).unwrap();
    // 1970, last year, three hours ago, … three hours ahead, the end of time, in turn.
    let times = [1, FIVE - 365 * 24 * HOUR, u64::MAX]
        .into_iter()
        .chain((0..=6).map(|hour| FIVE + HOUR / 2 - 3 * HOUR + hour * HOUR));
    let flows: Vec<Flow> = times
        .cycle()
        .take(1000)
        .enumerate()
        .map(|(n, end_ns)| Flow { number: u32::try_from(n).unwrap(), end_ns: end_ns.max(2 * SECOND) })
        .collect();
    for flow in &flows {
        writer.record(&flow.received(exporter(1)), FIVE + HOUR / 2);
    }
    let mut without_end = flows[0].received(exporter(1));
    without_end.elements.retain(|(id, _)| *id != ElementId::iana(153));
    writer.record(&without_end, FIVE + HOUR / 2);
    // The same day, but later: what is open for the past is closed.
    for hour in 1..20 {
        writer.record(
            &Flow { number: 0, end_ns: FIVE + hour * HOUR }.received(exporter(1)),
            FIVE + hour * HOUR,
        );
    }
    let totals = writer.finish(FIVE + 20 * HOUR);
    assert_eq!(totals.of(WriteFormat::Parquet).written, 1001 + 19);
    let found = files(directory.path());
    assert_eq!(found.len(), 3 + 19, "{found:#?}");
    assert!(found[0].starts_with("date=2026-11-21/hour=03/"), "{found:#?}");
    let paths = with_extension(directory.path(), "parquet");
    assert_eq!(paths.iter().map(|path| parquet_rows(path).len()).sum::<usize>(), 1001 + 19);
}

#[test]
fn options_and_other_versions_are_counted_and_not_mixed_in() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = RecordWriter::open(options(directory.path(), 300, &WriteFormat::ALL), FIVE).unwrap();
    let mut record = Flow { number: 0, end_ns: FIVE }.received(exporter(1));
    record.kind = RecordKind::Options;
    writer.record(&record, FIVE);
    for message in [&[0, 5, 0, 1][..], &[0, 9, 0, 1], &[0, 10, 0, 200], &[1]] {
        writer.message(source(1), message, FIVE);
    }
    let totals = writer.finish(FIVE);
    let count = |format, reason: Unwritten| totals.of(format).unwritten[reason as usize];
    assert_eq!(count(WriteFormat::Json, Unwritten::Options), 1);
    assert_eq!(count(WriteFormat::Parquet, Unwritten::Options), 1);
    assert_eq!(count(WriteFormat::Ipfix, Unwritten::NotIpfix), 2);
    assert_eq!(count(WriteFormat::Ipfix, Unwritten::Malformed), 2);
    assert_eq!(files(directory.path()), [""; 0], "nothing to write is no file");
}

#[test]
fn exporters_of_one_domain_id_do_not_share_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = RecordWriter::open(options(directory.path(), 300, &[WriteFormat::Ipfix]), FIVE).unwrap();
    // The first two have the same ids of templates with different meanings, the third is of another domain.
    let flows: Vec<Flow> = Flow::many(60).iter().map(|flow| Flow { end_ns: FIVE, ..*flow }).collect();
    let senders = [(1, 7, IDS), (2, 7, IDS_SWAPPED), (3, 8, IDS)]
        .map(|(host, domain, ids)| (source(host), messages(&flows, domain, ids)));
    for index in 0..senders[0].1.len() {
        for (from, messages) in &senders {
            writer.message(*from, &messages[index].1, FIVE);
        }
    }
    assert_eq!(writer.finish(FIVE).of(WriteFormat::Ipfix).files, 2);
    let paths = with_extension(directory.path(), "ipfix");
    let names: Vec<&str> = paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["flows-20261121T050000Z-2.ipfix", "flows-20261121T050000Z.ipfix"]);
    let one = expected(&flows);
    assert_eq!([ipfix_sums(&paths[0]), ipfix_sums(&paths[1])], [one, (2 * one.0, 2 * one.1, 2 * one.2)]);
}

/// An exporter that starts anew in the middle of a file and uses its ids for other templates.
fn write_restart(directory: &Path) -> (PathBuf, Sums) {
    let mut writer = RecordWriter::open(options(directory, 300, &[WriteFormat::Ipfix]), FIVE).unwrap();
    let flows: Vec<Flow> = Flow::many(60).iter().map(|flow| Flow { end_ns: FIVE, ..*flow }).collect();
    for ids in [IDS, IDS_SWAPPED] {
        for (_, message, _) in messages(&flows, 7, ids) {
            writer.message(source(1), &message, FIVE);
        }
    }
    assert_eq!(writer.finish(FIVE).of(WriteFormat::Ipfix).files, 1);
    let (flows, packets, octets) = expected(&flows);
    (with_extension(directory, "ipfix").remove(0), (2 * flows, 2 * packets, 2 * octets))
}

#[test]
fn templates_that_change_their_meaning_are_withdrawn_first() {
    let directory = tempfile::tempdir().unwrap();
    let (path, sums) = write_restart(directory.path());
    assert_eq!(ipfix_sums(&path), sums);
    let withdrawal = [0, 2, 0, 12, 1, 1, 0, 0, 1, 0, 0, 0];
    let withdrawals: Vec<Vec<u8>> =
        read_messages(&path).into_iter().filter(|message| message[16..] == withdrawal).collect();
    assert_eq!(withdrawals.len(), 1, "one message before the one with the new templates");
}

#[test]
fn an_exporter_that_connects_again_goes_on_in_the_same_file() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = RecordWriter::open(options(directory.path(), 300, &[WriteFormat::Ipfix]), FIVE).unwrap();
    let flows: Vec<Flow> = Flow::many(30).iter().map(|flow| Flow { end_ns: FIVE, ..*flow }).collect();
    // More connections than files are kept open, the templates of each with other meanings than before.
    for stream in 1..=200 {
        let from = Source { exporter: Some(exporter(1)), stream };
        for (_, message, _) in messages(&flows, 7, if stream % 2 == 0 { IDS } else { IDS_SWAPPED }) {
            writer.message(from, &message, FIVE);
        }
        writer.forget(stream);
    }
    let totals = *writer.finish(FIVE).of(WriteFormat::Ipfix);
    assert_eq!((totals.files, totals.unwritten), (1, [0; 5]));
    let (count, packets, octets) = expected(&flows);
    let paths = with_extension(directory.path(), "ipfix");
    assert_eq!(total(&paths, ipfix_sums), (200 * count, 200 * packets, 200 * octets));
}

/// Sums, standard error and exit status of `probe collect --read`.
fn read(paths: &[&Path], more: &[&str]) -> (Sums, String, Option<i32>) {
    let mut command = Command::new(PROBE);
    let output =
        command.args(["collect", "--format", "json"]).args(more).arg("--read").args(paths).output().unwrap();
    let mut sums = Sums::default();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let flow: Json = serde_json::from_str(line).unwrap();
        let number = |name: &str| flow[name].as_u64().unwrap();
        add(&mut sums, (1, number("packetDeltaCount"), number("octetDeltaCount")));
    }
    (sums, String::from_utf8(output.stderr).unwrap(), output.status.code())
}

#[test]
fn files_are_read_like_what_is_received() {
    let directory = tempfile::tempdir().unwrap();
    let flows = Flow::many(3000);
    write_all(directory.path(), &flows);
    let paths = with_extension(directory.path(), "ipfix");
    let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    let (sums, said, status) = read(&paths, &[]);
    assert_eq!((sums, status), (expected(&flows), Some(0)), "{said}");
    assert!(said.contains("flows 3000, ") && said.contains("not decoded 0;"), "{said}");
    assert!(!said.contains("in part not decoded"), "{said}");
    // A file in which an exporter started anew.
    let restart = tempfile::tempdir().unwrap();
    let (path, sums) = write_restart(restart.path());
    let (found, said, _) = read(&[&path], &[]);
    assert_eq!(found, sums, "{said}");
    assert!(!said.contains("in part not decoded"), "{said}");

    // From IPFIX to the other formats, by the time of the messages.
    let copy = tempfile::tempdir().unwrap();
    let to = copy.path().to_str().unwrap();
    let more = ["--write", to, "--rotate", "30m", "--write-format", "json,parquet,ipfix"];
    let (_, said, status) = read(&paths, &more);
    assert_eq!(status, Some(0), "{said}");
    assert_eq!(files(copy.path()), files(directory.path()));
    assert_eq!(total(&with_extension(copy.path(), "parquet"), parquet_sums), expected(&flows));
    assert_eq!(total(&with_extension(copy.path(), "json"), json_sums), expected(&flows));
    for path in paths {
        let name = path.file_name().unwrap();
        assert_eq!(ipfix_sums(&copy.path().join(name)), ipfix_sums(path), "{name:?}");
    }
}

#[test]
fn a_file_that_cannot_be_read_on_is_named_with_the_place() {
    let directory = tempfile::tempdir().unwrap();
    let flows = Flow::many(300);
    write_all(directory.path(), &flows);
    let whole = &with_extension(directory.path(), "ipfix")[0];
    let octets = fs::read(whole).unwrap();
    let (cut, garbage, missing) =
        (directory.path().join("cut"), directory.path().join("garbage"), directory.path().join("missing"));
    fs::write(&cut, &octets[..octets.len() - 1]).unwrap();
    fs::write(&garbage, b"{\"packetDeltaCount\":1}").unwrap();
    let last = read_messages(whole).pop().unwrap().len();

    let (sums, said, status) = read(&[&cut], &[]);
    let (all, ..) = read(&[whole], &[]);
    assert!(sums.0 > 0 && sums.0 < all.0, "what was before was read");
    assert_eq!(status, Some(1));
    let place = format!(
        "the file ends within the message at octet {}, of which {} octets",
        octets.len() - last,
        last - 1
    );
    assert!(said.contains("cannot read ") && said.contains(&place), "{said}");

    // One bad file does not keep the others from being read.
    let (sums, said, status) = read(&[&garbage, &missing, whole], &[]);
    assert_eq!((sums, status), (all, Some(1)));
    assert!(said.contains("at octet 0 stands 0x7b22") && said.contains("No such file"), "{said}");
    let (.., status) = read(&[whole], &["--listen", "udp://127.0.0.1:0"]);
    assert_eq!(status, Some(2), "either listen or read");
}

/// A datagram of NetFlow v5 with one flow.
fn netflow_v5(packets: u32, octets: u32, unix_s: u32, sequence: u32) -> Vec<u8> {
    let mut datagram = vec![0, 5, 0, 1];
    for word in [600_000, unix_s, 0, sequence, 0] {
        datagram.extend(u32::to_be_bytes(word));
    }
    datagram.extend([192, 0, 2, 1, 198, 51, 100, 2, 0, 0, 0, 0, 0, 3, 0, 4]);
    for word in [packets, octets, 599_000, 600_000] {
        datagram.extend(u32::to_be_bytes(word));
    }
    datagram.extend([0x9c, 0x40, 1, 187, 0, 0x1b, 6, 0, 0, 0, 0, 0, 24, 0, 0, 0]);
    datagram
}

/// A running `probe collect --write`, and its address.
fn collect(directory: &Path, formats: &str, rotate: &str) -> (Process, SocketAddr) {
    let directory = directory.to_str().unwrap();
    let args = ["collect", "--listen", "udp://127.0.0.1:0", "--write", directory, "--rotate", rotate];
    let args = [&args[..], &["--write-format", formats, "--log-level", "info"]].concat();
    let mut process = Process::start(None, PROBE, &args).unwrap();
    process.wait_for_message("listening on udp://", SOON).unwrap();
    let said = process.stderr();
    let address = said.split("listening on udp://").nth(1).unwrap().split_whitespace().next().unwrap();
    (process, address.parse().unwrap())
}

/// Seconds of now; the probe's own clock decides about its files.
fn unix_s() -> u32 {
    let now = probe_user::runtime::now();
    u32::try_from(now.wall.unix_ns(now.now) / SECOND).unwrap()
}

#[test]
fn a_terminated_collector_closes_its_files() {
    let directory = tempfile::tempdir().unwrap();
    let (mut process, address) = collect(directory.path(), "json,parquet,ipfix", "1h");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut sums = Sums::default();
    for sequence in 0..100 {
        let (packets, octets) = (sequence + 1, 1000 * sequence + 40);
        socket.send_to(&netflow_v5(packets, octets, unix_s(), sequence), address).unwrap();
        add(&mut sums, (1, packets.into(), octets.into()));
    }
    let flow = Flow { number: 0, end_ns: u64::from(unix_s()) * SECOND };
    for (_, message, _) in messages(&[flow], 7, IDS) {
        socket.send_to(&message, address).unwrap();
    }
    add(&mut sums, flow.sums());
    // A line above them, and one for each.
    assert!(wait_until(SOON, || process.stdout().lines().count() == 102), "{}", process.stdout());
    assert!(files(directory.path()).iter().all(|name| name.ends_with(".tmp")), "nothing is complete yet");
    assert!(process.terminate(SOON).unwrap().success(), "{}", process.stderr());

    let found = files(directory.path());
    assert!(found.iter().all(|name| !name.ends_with(".tmp")), "{found:?}");
    let json = with_extension(directory.path(), "json");
    let parquet = with_extension(directory.path(), "parquet");
    assert_eq!((total(&json, json_sums), total(&parquet, parquet_sums)), (sums, sums));
    assert_eq!(total(&with_extension(directory.path(), "ipfix"), ipfix_sums), flow.sums());
    let said = process.stderr();
    for line in [
        "written as json: files ",
        "records 101, not written 0\n",
        "messages 2, not written 100, not_ipfix 100\n",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
}

#[test]
fn a_killed_collector_leaves_complete_files_and_the_next_one_clears_up() {
    let directory = tempfile::tempdir().unwrap();
    let (mut process, address) = collect(directory.path(), "json,parquet,ipfix", "1s");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut sequence = 0;
    let is_temporary = |name: &String| name.ends_with(".tmp");
    // Until each format has a complete file and another one is being written.
    let ready = wait_until(SOON, || {
        socket.send_to(&netflow_v5(1, 40, unix_s(), sequence), address).unwrap();
        let flow = Flow { number: 0, end_ns: u64::from(unix_s()) * SECOND };
        for (_, message, _) in messages(&[flow], 7, IDS) {
            socket.send_to(&message, address).unwrap();
        }
        sequence += 1;
        let found = files(directory.path());
        ["json", "parquet", "ipfix"].iter().all(|format| {
            found.iter().any(|name| name.ends_with(&format!(".{format}")))
                && found.iter().any(|name| is_temporary(name) && name.contains(&format!(".{format}.")))
        })
    });
    process.signal(Signal::SIGKILL).unwrap();
    process.wait(SOON).unwrap();
    assert!(ready, "{:?}\n{}", files(directory.path()), process.stderr());

    let complete: Vec<String> =
        files(directory.path()).into_iter().filter(|name| !is_temporary(name)).collect();
    let flows =
        |extension, read: fn(&Path) -> Sums| total(&with_extension(directory.path(), extension), read).0;
    // Every name that does not say otherwise is a whole file.
    for (extension, read) in
        [("json", json_sums as fn(&Path) -> Sums), ("parquet", parquet_sums), ("ipfix", ipfix_sums)]
    {
        assert!(flows(extension, read) > 0, "{extension}");
    }
    let left = files(directory.path()).iter().filter(|name| is_temporary(name)).count();
    assert!(left >= 1, "the kill came while files were open");

    let (mut process, _) = collect(directory.path(), "json", "1s");
    assert_eq!(files(directory.path()), complete, "complete files stay, others are gone");
    assert!(process.stderr().contains(&format!("removed {left} incomplete files")), "{}", process.stderr());
    assert!(process.terminate(SOON).unwrap().success());
}

#[test]
fn a_directory_that_cannot_be_written_in_ends_it_at_once() {
    let output = Command::new(PROBE)
        .args(["collect", "--listen", "udp://127.0.0.1:0", "--write", "/proc/flows"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("cannot write files in /proc/flows"), "{said}");
    for (args, reason) in [
        (&["--rotate", "1500ms"][..], "whole seconds"),
        (&["--rotate", "2d"], "1s to 1d"),
        (&["--write-format", "csv"], "possible values: json, ipfix, parquet"),
    ] {
        let output = Command::new(PROBE).arg("collect").args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(reason), "{args:?}: {said}");
    }
}

/// A small file system, gone afterwards.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(size: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        mount(Some("tmpfs"), directory.path(), Some("tmpfs"), MsFlags::empty(), Some(size)).unwrap();
        Self(directory)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Nothing better to do if it fails than to let the test say what it has to say.
        umount2(self.0.path(), MntFlags::MNT_DETACH).ok();
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn a_full_disk_costs_what_is_counted_and_nothing_once_it_has_room() {
    require_root();
    let flows: Vec<Flow> = (0..70_000).map(|number| Flow { number, end_ns: FIVE }).collect();
    // A Parquet file is written a row group at a time, so that less than one has to be too much.
    for (format, size, read, keeps) in [
        (WriteFormat::Json, "size=1m", json_sums as fn(&Path) -> Sums, true),
        (WriteFormat::Ipfix, "size=1m", ipfix_sums, true),
        (WriteFormat::Parquet, "size=256k", parquet_sums, false),
    ] {
        let disk = SmallDisk::new(size);
        let directory = disk.0.path();
        let mut writer = RecordWriter::open(options(directory, 300, &[format]), FIVE).unwrap();
        let offer = |writer: &mut RecordWriter, flows: &[Flow], now_ns: u64| {
            let messages = messages(flows, 7, IDS);
            for (_, message, flows) in &messages {
                writer.message(source(1), message, now_ns);
                for flow in flows {
                    writer.record(&flow.received(exporter(1)), now_ns);
                }
            }
            if format == WriteFormat::Ipfix { messages.len() as u64 } else { flows.len() as u64 }
        };
        let offered = offer(&mut writer, &flows, FIVE);
        // The next interval, after somebody has made room.
        let later = FIVE + 300 * SECOND;
        writer.step(later);
        let done = |writer: &RecordWriter| {
            let totals = *writer.totals().of(format);
            totals.written + totals.unwritten[Unwritten::WriteError as usize] == offered
        };
        assert!(
            wait_until(SOON, || done(&writer)),
            "{format}: {:?} of {offered}",
            writer.totals().of(format)
        );
        let first = *writer.totals().of(format);
        assert!(first.unwritten[Unwritten::WriteError as usize] > 0, "{format} had room for all");
        assert_eq!((first.files, first.written > 0), (u64::from(keeps), keeps), "{format}");
        let kept = with_extension(directory, format.extension());
        assert!(total(&kept, read).0 > 0 || !keeps, "what is there can be read");
        for path in kept {
            fs::remove_file(path).unwrap();
        }
        let again = offer(&mut writer, &flows[..100], later);
        let totals = *writer.finish(later).of(format);
        assert_eq!((totals.files, totals.written), (first.files + 1, first.written + again), "{format}");
        assert_eq!(total(&with_extension(directory, format.extension()), read), expected(&flows[..100]));
        assert_eq!(files(directory).len(), 1, "{:?}", files(directory));
    }
}

#[test]
#[ignore = "needs the tools of `deploy/setup.sh --test`: run `make test`"]
fn ipfix_dump_reads_each_file_alone() {
    let directory = tempfile::tempdir().unwrap();
    let flows = Flow::many(3000);
    write_all(directory.path(), &flows);
    let quietly = |path: &Path| {
        let (sums, said) = dumped_sums(path);
        assert_eq!(said, "", "{}", path.display());
        sums
    };
    assert_eq!(total(&with_extension(directory.path(), "ipfix"), quietly), expected(&flows));
    let restart = tempfile::tempdir().unwrap();
    let (path, sums) = write_restart(restart.path());
    let (found, said) = dumped_sums(&path);
    assert_eq!(found, sums);
    // The exporter did start anew, and nothing else is wrong with the file.
    assert_eq!((said.matches("WARNING").count(), said.matches("out of sequence").count()), (1, 1), "{said}");
}

/// By `ipfixDump` of libfixbuf, with what it has to complain about.
fn dumped_sums(path: &Path) -> (Sums, String) {
    let output = Command::new("ipfixDump").arg("--data").arg("--in").arg(path).output();
    let output =
        output.expect("ipfixDump is not installed (package libfixbuf-tools); `make test` installs it");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{}: {said}", path.display());
    let mut sums = Sums::default();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let Some((name, value)) = line.split_once(" : ") else { continue };
        let number = || value.trim().parse().unwrap();
        match name.split_whitespace().last() {
            Some("packetDeltaCount") => add(&mut sums, (1, number(), 0)),
            Some("octetDeltaCount") => add(&mut sums, (0, 0, number())),
            _ => {}
        }
    }
    (sums, said)
}

/// What `totals.py` says of a directory.
fn ask(engine: &str, directory: &Path) -> Json {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"), PathBuf::from);
    let python = cache.join("flowprobe/test-tools/bin/python");
    assert!(python.exists(), "{} is not there; `deploy/setup.sh --test` makes it", python.display());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/collect_write_support/totals.py");
    let output = Command::new(python).arg(script).arg(engine).arg(directory).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// DuckDB or Spark finds what was written, in columns of these types.
fn check_with(engine: &str, types: &[(&str, &str)]) {
    let directory = tempfile::tempdir().unwrap();
    let flows = Flow::many(6000);
    write_all(directory.path(), &flows);
    let result = ask(engine, directory.path());
    assert_eq!(result["totals"], serde_json::json!(expected(&flows)), "{engine}");
    let hours: Vec<Json> = by_hour(&flows)
        .into_iter()
        .map(|(partition, (flows, packets, octets))| {
            let hour: u64 = partition.rsplit('=').next().unwrap().parse().unwrap();
            serde_json::json!(["2026-11-21", hour, flows, packets, octets])
        })
        .collect();
    assert_eq!(result["hours"], Json::Array(hours), "{engine}");
    assert_eq!(result["misplaced"], 0, "{engine}");
    let largest = flows.iter().max_by_key(|flow| flow.octets()).unwrap();
    assert!(!largest.is_ipv6());
    let row = &result["sample"][0];
    assert_eq!(result["sample"].as_array().unwrap().len(), 1);
    assert_eq!(row[0], "192.0.2.111");
    assert_eq!(row[1], Json::Null);
    assert!(row[2].as_str().unwrap().starts_with("2026-11-21 07:09:58"), "{row}");
    let numbers = [4_000_000_000, 40_000 + u64::from(largest.number), 100];
    assert_eq!(row.as_array().unwrap()[3..6], numbers.map(Json::from));
    assert_eq!(row[6], "02:00:00:00:00:ab");
    assert_eq!((&row[7], &row[8], &row[9]), (&0x2a2a.into(), &"{\"minimumTTL\":64}".into(), &10.into()));
    for (column, expected) in types {
        assert_eq!(result["types"][column], *expected, "{engine}: {column}");
    }
}

#[test]
#[ignore = "needs the tools of `deploy/setup.sh --test`: run `make test`"]
fn duckdb_reads_the_directory_as_it_is() {
    check_with(
        "duckdb",
        &[
            ("flowEndMilliseconds", "TIMESTAMP WITH TIME ZONE"),
            ("sourceIPv4Address", "VARCHAR"),
            ("octetDeltaCount", "BIGINT"),
            ("ingressInterface", "UINTEGER"),
            ("sourceTransportPort", "USMALLINT"),
            ("date", "DATE"),
        ],
    );
}

#[test]
#[ignore = "needs the tools of `deploy/setup.sh --test`: run `make test`"]
fn spark_reads_the_directory_as_it_is() {
    check_with(
        "spark",
        &[
            ("flowEndMilliseconds", "timestamp"),
            ("sourceIPv4Address", "string"),
            ("octetDeltaCount", "bigint"),
            ("ingressInterface", "bigint"),
            ("sourceTransportPort", "int"),
            ("date", "date"),
            ("hour", "int"),
        ],
    );
}
