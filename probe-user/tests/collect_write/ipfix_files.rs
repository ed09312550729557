// SPDX-License-Identifier: Apache-2.0 OR MIT
//! RFC 5655: templates, several exporters, and reading such files.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use probe_user::collect::{
    decode::Source,
    write::{RecordWriter, WriteFormat},
};
use serde_json::Value as Json;

use crate::{
    PROBE,
    flow::{
        FIVE, Flow, IDS, IDS_SWAPPED, Sums, add, expected, exporter, messages, options, source, write_all,
    },
    readers::{files, ipfix_sums, json_sums, parquet_sums, read_messages, total, with_extension},
};

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
pub(crate) fn write_restart(directory: &Path) -> (PathBuf, Sums) {
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
    let output = command
        .env("PROBE_FORMAT", "json")
        .arg("collect")
        .args(more)
        .arg("--read")
        .args(paths)
        .output()
        .unwrap();
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
    let more = [&more[..], &["--format", "none"]].concat();
    let (shown, said, status) = read(&paths, &more);
    assert_eq!((shown, status), (Sums::default(), Some(0)), "{said}");
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
