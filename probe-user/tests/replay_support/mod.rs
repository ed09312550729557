// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Replays files within the test's process, and finds the corpora.
#![allow(dead_code, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use probe_common::{HashSeed, KEY_BASE_MASK};
use probe_user::capture::{CaptureError, CaptureReader, Replay, ReplayCounts, Step};
use probe_user::flow::{FlowRecord, FlowTable, Spread, TableOptions, Timestamp};
use probe_user::harvest::Outlet;
use probe_user::queue;

/// What came of a file.
pub(crate) struct Replayed {
    pub(crate) records: Vec<FlowRecord>,
    pub(crate) counts: ReplayCounts,
    pub(crate) created: u64,
    pub(crate) fault: Option<CaptureError>,
}

pub(crate) fn options() -> TableOptions {
    TableOptions {
        capacity: 20_000,
        idle: Duration::from_secs(15),
        active: Duration::from_secs(300),
        tcp_end: true,
        spread: Spread::default(),
        key_mask: KEY_BASE_MASK,
        details: false,
        seed: HashSeed::from_random([3; 56]),
    }
}

/// Replays a file to its end. A step reads a packet at least, or expires flows: a replay that needs more
/// steps than the file has octets does not get on.
pub(crate) fn replay(path: &Path, options: TableOptions) -> Replayed {
    let table = FlowTable::on_demand(options, Timestamp::default()).unwrap();
    let (producer, mut consumer) = queue::ring(1 << 12);
    let mut replay = Replay::new(table, Outlet::new(producer));
    let (mut records, mut fault) = (Vec::new(), None);
    let mut left = 100_000 + fs::metadata(path).unwrap().len();
    match CaptureReader::open(path) {
        Ok(reader) => replay.open(reader),
        Err(error) => fault = Some(error),
    }
    let mut reading = fault.is_none();
    loop {
        let step = if reading { replay.step() } else { replay.flush() };
        while consumer.pop_into(&mut records, 1024) > 0 {}
        match step {
            Step::Busy | Step::Waiting => {}
            Step::Ended if !reading => break,
            Step::Ended => reading = false,
            Step::Fault(error) => {
                fault = Some(error);
                reading = false;
            }
        }
        left -= 1;
        assert!(left > 0, "{} does not get on", path.display());
    }
    assert_eq!((replay.live().flows, replay.live().packets, replay.live().octets), (0, 0, 0));
    Replayed { records, counts: replay.counts(), created: replay.table().created(), fault }
}

/// A folder of the corpora, or `None` where there are no corpora. They are no part of the repository
/// (`CONTRIBUTING.md`), so a test that finds none says so and ends.
pub(crate) fn corpus(name: &str) -> Option<PathBuf> {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpora");
    if corpora.is_dir() {
        let folder = corpora.join(name);
        assert!(folder.is_dir(), "{} is missing from the corpora", folder.display());
        return Some(folder);
    }
    // Not through the macro, whose output the test harness keeps to itself.
    let note = format!("NOTE: no corpora in {}: nothing was compared\n", corpora.display());
    std::io::stderr().write_all(note.as_bytes()).unwrap();
    None
}

/// Every file below a folder with one of these extensions, sorted.
pub(crate) fn files(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| extensions.iter().any(|known| end == *known)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
