// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every format holds what was offered, and counts what it does not hold.

use std::path::PathBuf;

use probe_user::collect::{
    RecordKind,
    write::{FormatTotals, RecordWriter, Unwritten, WriteFormat},
};

use crate::{
    flow::{FIVE, Flow, by_hour, expected, exporter, options, source, write_all},
    readers::{files, ipfix_sums, json_sums, parquet_sums, total, with_extension},
};

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
