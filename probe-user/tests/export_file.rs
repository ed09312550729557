// SPDX-License-Identifier: Apache-2.0 OR MIT
//! IPFIX into files: whole, rotated on the clock, read back by ourselves and by ipfixDump, and honest when the disk
//! is full.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod export_support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use export_support::{Bench, MS, Session, all_dropped, dropped, errors, read_session};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use probe_lab::require_root;
use probe_user::export::{CollectorUrl, DropReason, ErrorReason, ExporterOptions, open};

const MINUTE: Duration = Duration::from_secs(60);

fn bench(folder: &Path, options: &str) -> Bench {
    let url = format!("ipfix+file://{}{options}", folder.display());
    Bench::new(
        &[url],
        ExporterOptions { interfaces: vec![(3, 0)], lossless: true, ..ExporterOptions::default() },
    )
}

/// Steps with the clock set forward.
fn skip(bench: &mut Bench, time: Duration) {
    bench.now = bench.now + time;
    (0..5).for_each(|_| {
        bench.step();
    });
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

fn read(path: &Path) -> Session {
    read_session(&fs::read(path).unwrap())
}

/// Data records that `ipfixDump` finds in a file.
fn dumped(path: &Path) -> u64 {
    let output = Command::new("ipfixDump").arg("--in").arg(path).arg("--stats").output();
    let output = output
        .unwrap_or_else(|error| panic!("ipfixDump is not installed (package libfixbuf-tools): {error}"));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let before = text.split(" Data Records").next().unwrap_or("");
    let number = before.rsplit(' ').next().and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("ipfixDump said: {text}"))
}

#[test]
fn files_are_rotated_on_the_clock_and_each_can_be_read_alone() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("made/for it");
    let mut bench = bench(&directory, "?rotate=5m&options=off");
    let mut expected = Vec::new();
    for round in 1..=4u32 {
        let before = bench.pushed();
        bench.push(1000 * round);
        skip(&mut bench, MS);
        skip(&mut bench, 2 * MINUTE);
        bench.push(10);
        bench.step();
        // The rest of the five minutes; the open message leaves before.
        skip(&mut bench, Duration::from_secs(1));
        expected.push(bench.pushed() - before);
        skip(&mut bench, 3 * MINUTE - Duration::from_secs(1));
    }
    bench.flush(MINUTE);
    let stats = bench.stats();
    let stats = &stats.collectors[0];
    assert_eq!((stats.records.get(), all_dropped(stats), stats.imbalance()), (bench.pushed(), 0, 0));
    let files = files(&directory);
    assert_eq!(name(&files[0]), "flows-20260528T202640Z.ipfix", "{files:?}");
    let sessions: Vec<_> = files.iter().map(|file| read(file)).collect();
    for session in &sessions {
        assert_eq!((session.first_sets[0], session.missing, session.rest), (2, 0, 0), "{session:?}");
    }
    assert_eq!(sessions.iter().map(|session| session.flows).collect::<Vec<_>>(), expected);
}

#[test]
#[ignore = "needs ipfixDump: run `make test`"]
fn ipfixdump_reads_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = bench(folder.path(), "?options=off");
    bench.push(3000);
    bench.step();
    bench.flush(MINUTE);
    let files = files(folder.path());
    assert_eq!(files.len(), 1);
    assert_eq!((read(&files[0]).flows, dumped(&files[0])), (3000, 3000));
}

#[test]
fn a_writer_that_died_leaves_a_file_that_the_next_one_makes_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut dead = bench(folder.path(), "?rotate=1h&options=off");
    dead.push(5000);
    skip(&mut dead, MS);
    skip(&mut dead, Duration::from_secs(1));
    let growing = &files(folder.path())[0];
    assert!(name(growing).ends_with(".ipfix.tmp"));
    // What a process that is killed leaves: the file as it is, and half of a message.
    let mut octets = fs::read(growing).unwrap();
    octets.extend_from_slice(&octets.clone()[..100]);
    let left = tempfile::tempdir().unwrap();
    let place = left.path().join(name(growing));
    fs::write(&place, octets).unwrap();
    let mut next = bench(left.path(), "?rotate=1h&options=off");
    next.push(10);
    next.flush(MINUTE);
    let flows: Vec<_> = files(left.path()).iter().map(|file| (read(file).flows, read(file).rest)).collect();
    assert_eq!(flows.len(), 2, "the same second, another name");
    assert_eq!(flows.iter().map(|(flows, _)| flows).sum::<u64>(), 5010);
    assert!(flows.iter().all(|(_, rest)| *rest == 0));
    // The one that lives is not touched.
    drop(bench(folder.path(), ""));
    assert!(growing.exists());
    dead.flush(MINUTE);
    assert_eq!(files(folder.path()).iter().map(|file| read(file).flows).sum::<u64>(), 5000);
}

#[test]
fn a_directory_that_cannot_be_written_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let url: CollectorUrl = format!("ipfix+file://{}/under", file.display()).parse().unwrap();
    let Err(error) = open(&url) else { panic!("a directory under a file") };
    let text = error.to_string();
    assert!(!error.is_usage() && text.contains("making ") && text.contains("must be writable"), "{text}");
}

/// A file system of its own that is full soon.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        mount(Some("tmpfs"), folder.path(), Some("tmpfs"), MsFlags::empty(), Some("size=256k")).unwrap();
        Self(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = umount2(self.0.path(), MntFlags::MNT_DETACH) {
            eprintln!("{} stays mounted: {error}", self.0.path().display());
        }
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn a_full_disk_costs_records_until_the_next_file_and_they_are_counted() {
    require_root();
    let disk = SmallDisk::new();
    let folder = disk.0.path();
    let mut bench = bench(folder, "?rotate=1m&options=off");
    for _ in 0..5 {
        bench.push(2000);
        skip(&mut bench, MS);
    }
    let stats = bench.stats();
    let stats = &stats.collectors[0];
    let lost = dropped(stats, DropReason::SendError);
    assert!(lost > 0 && errors(stats, ErrorReason::File) > 0, "{stats:?}");
    skip(&mut bench, Duration::from_secs(1));
    let written = files(folder);
    assert_eq!(
        written.iter().map(|file| read(file).flows).sum::<u64>(),
        stats.records.get(),
        "whole messages"
    );
    assert!(name(&written[0]).ends_with(".ipfix"), "the file has its name although it was cut short");
    // Somebody makes room; the next file is due.
    written.iter().for_each(|file| fs::remove_file(file).unwrap());
    let before = stats.records.get();
    bench.now = bench.now + MINUTE;
    bench.step();
    bench.push(100);
    bench.flush(MINUTE);
    assert_eq!(stats.records.get(), before + 100);
    assert_eq!(stats.imbalance(), 0);
    assert_eq!(files(folder).iter().map(|file| read(file).flows).sum::<u64>(), 100);
}
