// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads and frees the quiet halves of a range of sets, of every row's cache.

use probe_common::{Detail, DetailSet, Set};

use super::{Bank, SlotSink};

/// Reader of a range. Once the writers have left a half, `begin` with it, then `drain` until it says that it is empty.
pub struct CacheReader {
    bank: Bank,
    range: usize,
    quiet: usize,
    /// Next set to read, counted over all rows.
    next: usize,
}

impl CacheReader {
    pub(super) fn new(bank: Bank, range: u32) -> Self {
        Self { bank, range: range as usize, quiet: 1, next: 0 }
    }

    /// Whether slots have details.
    #[must_use]
    pub fn has_details(&self) -> bool {
        self.bank.has_details()
    }

    /// Reads the halves of this epoch (0 or 1) next, which nobody writes now.
    pub fn begin(&mut self, quiet: u32) {
        self.quiet = (quiet & 1) as usize;
        self.next = 0;
    }

    /// Appends the slots of the next `sets` sets to `out` and frees them; returns whether there are more sets.
    pub fn drain(&mut self, sets: usize, out: &mut impl SlotSink) -> bool {
        let sizing = self.bank.sizing;
        let per_range = 1usize << (sizing.set_bits - sizing.range_bits);
        let all = per_range * sizing.rows as usize;
        let end = (self.next + sets).min(all);
        for position in self.next..end {
            let (row, set) = (position / per_range, position % per_range);
            let index = ((row * 2 + self.quiet) << sizing.set_bits) + self.range * per_range + set;
            let value = self.bank.cache.read(index);
            let mut used = false;
            let details = self.bank.details.as_ref();
            for (way, slot) in value.slots.iter().enumerate().filter(|(_, slot)| slot.packets != 0) {
                let detail = || details.map_or(Detail::UNKNOWN, |details| details.read(index).details[way]);
                out.put(*slot, detail);
                used = true;
            }
            if used {
                self.bank.cache.write(index, Set::default());
                if let Some(details) = details {
                    details.write(index, DetailSet::default());
                }
            }
        }
        self.next = end;
        end < all
    }
}
