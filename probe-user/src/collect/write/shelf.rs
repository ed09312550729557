// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where the files of one format are made and go, and what happens when that fails.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::appender::Appender;
use super::closer::{Closer, Complete, SharedTotals};
use super::part_file::PartFile;
use super::rotation::Interval;
use super::{Unwritten, WriteFormat};
use crate::flow::Timestamp;
use crate::throttle::Throttle;

/// After a failure, nothing is tried until the next interval or for this long, whichever is less: a full disk
/// is not asked again for every record, and a day's interval is not lost.
const HOLD_NS: u64 = 60_000_000_000;
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct Shelf {
    format: WriteFormat,
    base: PathBuf,
    pub(super) interval: Interval,
    closer: Arc<Closer>,
    totals: SharedTotals,
    held_until_ns: u64,
    complaint: Throttle,
}

impl Shelf {
    pub(super) fn new(
        format: WriteFormat,
        base: PathBuf,
        interval: Interval,
        closer: Arc<Closer>,
        totals: SharedTotals,
    ) -> Self {
        let complaint = Throttle::new(COMPLAIN_EVERY);
        Self { format, base, interval, closer, totals, held_until_ns: 0, complaint }
    }

    /// Whether to try; otherwise `lost` records are counted.
    pub(super) fn admits(&self, now_ns: u64, lost: u64) -> bool {
        let held = now_ns < self.held_until_ns;
        if held {
            self.count(Unwritten::WriteError, lost);
        }
        !held
    }

    /// Makes a file of the present interval.
    pub(super) fn open(&self, partition: &Path) -> io::Result<PartFile> {
        PartFile::create(&self.base, partition, self.interval.stem(), self.format.extension())
    }

    /// Hands over a complete file.
    pub(super) fn close(&self, part: PartFile, records: u64) {
        self.closer.close(Complete { part, format: self.format, records });
    }

    /// Ends a file: writes what is buffered and hands it over.
    pub(super) fn finish(&mut self, mut appender: Appender, now_ns: u64) {
        match appender.flush() {
            Ok(()) => {
                let (part, records, _) = appender.into_parts();
                self.close(part, records);
            }
            Err(error) => self.abandon(appender, now_ns, &error),
        }
    }

    /// Ends a file that could not be written to: what is in it stays, what is not is counted.
    pub(super) fn abandon(&mut self, appender: Appender, now_ns: u64, error: &io::Error) {
        let (part, records, lost) = appender.into_parts();
        if records > 0 {
            self.close(part, records);
        }
        self.failed(now_ns, lost, error);
    }

    /// Counts what is in no file.
    pub(super) fn count(&self, reason: Unwritten, count: u64) {
        if count > 0 {
            self.totals.lock().of_mut(self.format).count(reason, count);
        }
    }

    /// Takes note that writing failed and cost `lost` records.
    pub(super) fn failed(&mut self, now_ns: u64, lost: u64, error: &dyn Display) {
        self.count(Unwritten::WriteError, lost);
        self.held_until_ns = self.interval.end_ns.min(now_ns.saturating_add(HOLD_NS));
        if let Some(suppressed) = self.complaint.admit(Timestamp(now_ns)) {
            let pause = self.held_until_ns.saturating_sub(now_ns).div_ceil(1_000_000_000);
            tracing::error!(
                "writing {} files in {} failed: {error}; what comes in the next {pause} s is counted as \
                 write_error, then it is tried again: check that the disk has room and the directory is there \
                 (said {suppressed} times more since the last time)",
                self.format,
                self.base.display()
            );
        }
    }

    /// Begins another interval, with a new attempt.
    pub(super) fn turn(&mut self, interval: Interval) {
        self.interval = interval;
        self.held_until_ns = 0;
    }
}
