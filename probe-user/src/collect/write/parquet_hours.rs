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
use super::parquet_file::ParquetFile;
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
}

impl ParquetHours {
    pub(super) fn new(shelf: Shelf) -> Self {
        Self { shelf, files: Vec::new() }
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
                match file.map_err(Into::into).and_then(ParquetFile::new) {
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
