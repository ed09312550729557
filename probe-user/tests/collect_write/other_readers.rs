// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Programs that read the files as they are: ipfixDump, DuckDB, Spark.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value as Json;

use crate::{
    flow::{Flow, Sums, add, by_hour, expected, write_all},
    ipfix_files::write_restart,
    readers::{total, with_extension},
};

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
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/collect_write/totals.py");
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
