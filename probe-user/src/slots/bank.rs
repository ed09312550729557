// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The arrays of several writers, mapped.

use std::{io, sync::Arc};

use probe_common::{Counters, Detail, DetailSet, RingCursor, Set, Slot};

use super::{CacheReader, CacheRules, CounterReader, SharedArray, Sizing, SlotWriter, SpillReader};

/// Memory of all rows. Cloning it gives another handle to the same memory.
#[derive(Clone, Debug)]
pub struct Bank {
    pub(crate) sizing: Sizing,
    /// Index ((row × 2 + epoch) << set bits) + set.
    pub(crate) cache: Arc<SharedArray<Set>>,
    /// Same index; `None` where details are off.
    pub(crate) details: Option<Arc<SharedArray<DetailSet>>>,
    /// Index ring × records + position, where ring is (row << range bits) + range.
    pub(crate) spill: Arc<SharedArray<Slot>>,
    /// Same index; `None` where details are off.
    pub(crate) spilled_details: Option<Arc<SharedArray<Detail>>>,
    /// Index ring.
    pub(crate) cursor: Arc<SharedArray<RingCursor>>,
    /// Index row × 2 + epoch.
    pub(crate) counters: Arc<SharedArray<Counters>>,
}

impl Bank {
    /// Memory of our own for writers in user space; `sizing.rows` of them.
    ///
    /// # Errors
    /// When the kernel gives no memory.
    pub fn in_memory(sizing: Sizing) -> io::Result<Self> {
        fn array<T: aya::Pod>(entries: u32) -> io::Result<Arc<SharedArray<T>>> {
            SharedArray::anonymous(entries as usize).map(Arc::new)
        }
        let (mut details, mut spilled_details) = (None, None);
        if sizing.details {
            details = Some(array(sizing.sets_in_all())?);
            spilled_details = Some(array(sizing.records_in_all())?);
        }
        Ok(Self {
            sizing,
            cache: array(sizing.sets_in_all())?,
            details,
            spill: array(sizing.records_in_all())?,
            spilled_details,
            cursor: array(sizing.rings_in_all())?,
            counters: array(sizing.rows * 2)?,
        })
    }

    /// How large everything is.
    #[must_use]
    pub fn sizing(&self) -> &Sizing {
        &self.sizing
    }

    /// Whether slots have details.
    #[must_use]
    pub fn has_details(&self) -> bool {
        self.details.is_some()
    }

    /// The reading ends of the rings of a range, one for each row. There may be one reader of a range.
    #[must_use]
    pub fn spill_readers(&self, range: u32) -> Vec<SpillReader> {
        let rows = 0..self.sizing.rows;
        rows.map(|row| SpillReader::new(self.clone(), self.sizing.ring(row, range) as usize)).collect()
    }

    /// The reading end of a range of the caches of all rows. There may be one reader of a range.
    #[must_use]
    pub fn cache_reader(&self, range: u32) -> CacheReader {
        CacheReader::new(self.clone(), range)
    }

    /// The counters of all rows.
    #[must_use]
    pub fn counter_reader(&self) -> CounterReader {
        CounterReader::new(Arc::clone(&self.counters), self.sizing.rows as usize)
    }

    /// The writing end of a row. There may be one writer of a row, and none of the kernel's.
    #[must_use]
    pub fn slot_writer(&self, row: u32, rules: CacheRules) -> SlotWriter {
        SlotWriter::new(self.clone(), row, rules)
    }
}
