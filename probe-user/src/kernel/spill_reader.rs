// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Drains one CPU's spill ring.

use std::{
    mem::offset_of,
    sync::{Arc, atomic::Ordering},
};

use probe_common::{Detail, RingCursor, Slot};

use super::{SharedArray, SlotSink};

/// The consumer of one ring. There is one for each CPU, and only it moves the tail.
pub struct SpillReader {
    spill: Arc<SharedArray<Slot>>,
    /// Same index as in `spill`; `None` where details are off.
    details: Option<Arc<SharedArray<Detail>>>,
    cursor: Arc<SharedArray<RingCursor>>,
    cpu: usize,
    records: usize,
    tail: u64,
}

impl SpillReader {
    pub(super) fn new(
        spill: Arc<SharedArray<Slot>>,
        details: Option<Arc<SharedArray<Detail>>>,
        cursor: Arc<SharedArray<RingCursor>>,
        cpu: usize,
        records: usize,
    ) -> Self {
        Self { spill, details, cursor, cpu, records, tail: 0 }
    }

    /// Records that the kernel has published since the program was loaded.
    #[must_use]
    pub fn head(&self) -> u64 {
        // Acquire: what lies before the head was written before it.
        self.cursor.word64(self.cpu, offset_of!(RingCursor, head)).load(Ordering::Acquire)
    }

    /// Records taken since the program was loaded.
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
        let base = self.cpu * self.records;
        let mask = self.records - 1;
        let from = usize::try_from(self.tail).unwrap_or(0);
        let index = |step: usize| base + (from.wrapping_add(step) & mask);
        let details = self.details.as_ref();
        let detail = |step| details.map_or(Detail::UNKNOWN, |details| details.read(index(step)));
        out.put_many(count, |step| self.spill.read(index(step)), detail);
        self.tail += count as u64;
        // Release: the records were copied before the kernel may write over them.
        self.cursor.word64(self.cpu, offset_of!(RingCursor, tail)).store(self.tail, Ordering::Release);
        count
    }
}
