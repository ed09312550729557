// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Drains one spill ring.

use std::{mem::offset_of, sync::atomic::Ordering};

use probe_common::{Detail, RingCursor};

use super::{Bank, SlotSink};

/// The consumer of one ring; only it moves the tail.
pub struct SpillReader {
    bank: Bank,
    ring: usize,
    records: usize,
    tail: u64,
}

impl SpillReader {
    pub(super) fn new(bank: Bank, ring: usize) -> Self {
        let records = bank.sizing.spill_records as usize;
        Self { bank, ring, records, tail: 0 }
    }

    /// Records that the writer has published since the start.
    #[must_use]
    pub fn head(&self) -> u64 {
        // Acquire: what lies before the head was written before it.
        self.bank.cursor.word64(self.ring, offset_of!(RingCursor, head)).load(Ordering::Acquire)
    }

    /// Records that the ring holds.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records
    }

    /// Records taken since the start.
    #[must_use]
    pub fn tail(&self) -> u64 {
        self.tail
    }

    /// How full the ring is, 0 to 1.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a ratio for people")]
    pub fn fill_ratio(&self) -> f64 {
        self.head().wrapping_sub(self.tail) as f64 / self.records as f64
    }

    /// Appends up to `limit` records to `out`; returns how many.
    pub fn drain(&mut self, limit: usize, out: &mut impl SlotSink) -> usize {
        let waiting = usize::try_from(self.head().wrapping_sub(self.tail)).unwrap_or(usize::MAX);
        let count = waiting.min(limit).min(self.records);
        if count == 0 {
            return 0;
        }
        let base = self.ring * self.records;
        let mask = self.records - 1;
        let from = usize::try_from(self.tail).unwrap_or(0);
        let index = |step: usize| base + (from.wrapping_add(step) & mask);
        let (spill, details) = (&self.bank.spill, self.bank.spilled_details.as_ref());
        let detail = |step| details.map_or(Detail::UNKNOWN, |details| details.read(index(step)));
        out.put_many(count, |step| spill.read(index(step)), detail);
        self.tail += count as u64;
        // Release: the records were copied before the writer may write over them.
        self.bank.cursor.word64(self.ring, offset_of!(RingCursor, tail)).store(self.tail, Ordering::Release);
        count
    }
}
