// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Columns, row groups and partitions.

use std::{fs::File, net::Ipv4Addr};

use parquet::{
    file::reader::{FileReader, SerializedFileReader},
    record::{Field, Row},
};
use probe_user::{
    collect::write::{RecordWriter, WriteFormat},
    element::{ElementId, Value},
};
use serde_json::Value as Json;

use crate::{
    flow::{FIVE, Flow, HOUR, SECOND, exporter, options},
    readers::{field, files, parquet_rows, with_extension},
};

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
