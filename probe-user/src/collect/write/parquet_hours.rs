// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Parquet files by the hour in which flows ended: `date=2026-11-21/hour=05/flows-….parquet`.
//!
//! By the end, because that is when a record is made: an interval's records fall into its own hour and,
//! around the full hour, the one before. By the start, every long flow would make one more small file in an
//! hour of the past.
//!
//! Clocks of exporters may be wrong. So only the present hour, the next one and the two before are taken
//! from a record; one that ended at any other time, or does not say when, goes to the present hour. That
//! bounds the open files. The times in the record stay as they are.

use super::Unwritten;
use super::parquet_file::{Limits, ParquetFile};
use super::rotation::{Hour, Interval};
use super::shelf::Shelf;
use crate::collect::{Received, RecordKind};
use crate::element::{ElementId, Value};

const FLOW_END: ElementId = ElementId::iana(153);
/// How many hours ago a flow may have ended: the active timeout, and a record that was held up.
const HOURS_BEFORE: u64 = 2;
const HOURS_AFTER: u64 = 1;

/// See the module.
pub(super) struct ParquetHours {
    shelf: Shelf,
    files: Vec<(Hour, ParquetFile)>,
    limits: Limits,
}

impl ParquetHours {
    pub(super) fn new(shelf: Shelf) -> Self {
        Self { shelf, files: Vec::new(), limits: Limits::default() }
    }

    pub(super) fn write(&mut self, record: &Received, now_ns: u64) {
        if record.kind == RecordKind::Options {
            self.shelf.count(Unwritten::Options, 1);
            return;
        }
        if !self.shelf.admits(now_ns, 1) {
            return;
        }
        let hour = hour(record, now_ns);
        let index = match self.files.iter().position(|(open, _)| *open == hour) {
            Some(index) => index,
            None => {
                self.close_out_of_reach(now_ns);
                let file = self.shelf.open(&hour.partition());
                match file.map_err(Into::into).and_then(|part| ParquetFile::new(part, self.limits)) {
                    Ok(file) => self.files.push((hour, file)),
                    Err(error) => return self.shelf.failed(now_ns, 1, &error),
                }
                self.files.len() - 1
            }
        };
        if let Err(error) = self.files[index].1.append(record) {
            // Without its footer the whole file is of no use.
            let (_, file) = self.files.swap_remove(index);
            self.shelf.failed(now_ns, file.records(), &error);
        } else if self.files[index].1.is_full() {
            let (_, file) = self.files.swap_remove(index);
            self.finish(file, now_ns);
        }
    }

    /// Closes files of hours that no record can go to any more, when the interval is longer than that.
    fn close_out_of_reach(&mut self, now_ns: u64) {
        while let Some(index) = self.files.iter().position(|(hour, _)| !is_near(*hour, now_ns)) {
            let (_, file) = self.files.swap_remove(index);
            self.finish(file, now_ns);
        }
    }

    fn finish(&mut self, file: ParquetFile, now_ns: u64) {
        let records = file.records();
        match file.finish() {
            Ok((part, records)) => self.shelf.close(part, records),
            Err(error) => self.shelf.failed(now_ns, records, &error),
        }
    }

    pub(super) fn turn(&mut self, interval: Interval, now_ns: u64) {
        for (_, file) in std::mem::take(&mut self.files) {
            self.finish(file, now_ns);
        }
        self.shelf.turn(interval);
    }
}

/// The hour that a record goes to.
fn hour(record: &Received, now_ns: u64) -> Hour {
    match record.get(FLOW_END) {
        Some(Value::Time(ns)) if is_near(Hour::of(*ns), now_ns) => Hour::of(*ns),
        _ => Hour::of(now_ns),
    }
}

fn is_near(hour: Hour, now_ns: u64) -> bool {
    let now = Hour::of(now_ns).0;
    (now.saturating_sub(HOURS_BEFORE)..=now + HOURS_AFTER).contains(&hour.0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::collect::write::WriteFormat;
    use crate::collect::write::closer::{Closer, SharedTotals};

    #[test]
    fn a_file_has_so_many_row_groups_and_then_comes_another() {
        let directory = tempfile::tempdir().unwrap();
        let totals = SharedTotals::default();
        let closer = Arc::new(Closer::start(totals.clone()).unwrap());
        let interval = Interval::around(0, Duration::from_secs(300));
        let shelf =
            Shelf::new(WriteFormat::Parquet, directory.path().to_owned(), interval, closer, totals.clone());
        let mut hours = ParquetHours::new(shelf);
        hours.limits = Limits { rows: 10, text: 1000, groups: 3 };
        let mut record = Received {
            exporter: None,
            version: 10,
            domain: 0,
            template: 256,
            exported_ns: 0,
            kind: RecordKind::Flow,
            elements: Vec::new(),
        };
        for _ in 0..100 {
            hours.write(&record, 0);
        }
        // Text counts as well: each of these is a row group.
        record.elements.push((ElementId::iana(82), Value::String("x".repeat(1000))));
        for _ in 0..20 {
            hours.write(&record, 0);
        }
        hours.turn(interval, 0);
        drop(hours);
        let totals = totals.lock().formats[WriteFormat::Parquet as usize];
        // 3 of 30 rows; 10 rows and 2; 6 of 3 rows; 0 left.
        assert_eq!((totals.files, totals.written), (3 + 1 + 6, 120));
    }
}
