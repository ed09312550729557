// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How large a bank is, within the memory the operator allows.

use probe_common::{Counters, Detail, DetailSet, RingCursor, SamplerState, Set, Slot, WAYS};

/// Sizes of a bank, each for one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizing {
    /// Writers with a cache and rings: CPUs, or workers.
    pub rows: u32,
    /// log2 of the sets in one half of a cache.
    pub set_bits: u32,
    /// log2 of the ranges into which the sets are divided; each has a ring.
    pub range_bits: u32,
    /// Records of one spill ring, a power of two.
    pub spill_records: u32,
    /// Whether each slot has details.
    pub details: bool,
}

/// Fewer would make every packet a miss.
const MIN_SET_BITS: u32 = 6;
const MIN_SPILL_RECORDS: u32 = 1024;
const WAYS_IN_A_SET: u32 = 2;
const _: () = assert!(WAYS_IN_A_SET as usize == WAYS);

impl Sizing {
    /// Sizes for `rows` writers, without details and in one range; slots and records are rounded up to powers of two.
    #[must_use]
    pub fn new(rows: u32, cache_slots: u32, spill_records: u32) -> Self {
        let sets = (cache_slots / WAYS_IN_A_SET).clamp(1 << MIN_SET_BITS, 1 << 24).next_power_of_two();
        Self {
            rows: rows.max(1),
            range_bits: 0,
            set_bits: sets.trailing_zeros(),
            spill_records: spill_records.clamp(1, 1 << 26).next_power_of_two(),
            details: false,
        }
    }

    /// The same with details, or without.
    #[must_use]
    pub fn with_details(self, details: bool) -> Self {
        Self { details, ..self }
    }

    /// The same for another number of writers.
    #[must_use]
    pub fn with_rows(self, rows: u32) -> Self {
        Self { rows: rows.max(1), ..self }
    }

    /// The same in so many ranges (rounded up to a power of two), whose rings share the records.
    #[must_use]
    pub fn with_ranges(self, ranges: u32) -> Self {
        let range_bits = ranges.max(1).next_power_of_two().trailing_zeros();
        let records = self.spill_records << self.range_bits;
        Self { range_bits, spill_records: (records >> range_bits).max(1), ..self }
    }

    /// Number of a ring.
    #[inline]
    #[must_use]
    pub fn ring(&self, row: u32, range: u32) -> u32 {
        (row << self.range_bits) + range
    }

    /// Number of rings.
    #[must_use]
    pub fn rings_in_all(&self) -> u32 {
        self.rows << self.range_bits
    }

    /// Octets that it takes.
    #[must_use]
    pub fn octets(&self) -> u64 {
        let sets = 1u64 << self.set_bits;
        let (mut set, mut record) = (size_of::<Set>() as u64, size_of::<Slot>() as u64);
        if self.details {
            set += size_of::<DetailSet>() as u64;
            record += size_of::<Detail>() as u64;
        }
        let ring = u64::from(self.spill_records) * record + size_of::<RingCursor>() as u64;
        let per_row = 2 * sets * set
            + (ring << self.range_bits)
            + size_of::<SamplerState>() as u64
            + 2 * size_of::<Counters>() as u64;
        u64::from(self.rows) * per_row
    }

    /// The same, halved until it fits `octets`: first the rings, then the caches.
    #[must_use]
    pub fn within(mut self, octets: u64) -> Option<Self> {
        while self.octets() > octets {
            if self.spill_records << self.range_bits > MIN_SPILL_RECORDS && self.spill_records > 1 {
                self.spill_records /= 2;
            } else if self.set_bits > MIN_SET_BITS {
                self.set_bits -= 1;
            } else {
                return None;
            }
        }
        Some(self)
    }

    /// Entries of the cache map.
    #[must_use]
    pub fn sets_in_all(&self) -> u32 {
        (self.rows * 2) << self.set_bits
    }

    /// Entries of the map of details: 1 where there are none, since a map cannot be empty.
    #[must_use]
    pub fn detail_sets_in_all(&self) -> u32 {
        if self.details { self.sets_in_all() } else { 1 }
    }

    /// Entries of the map of spilled details: 1 where there are none.
    #[must_use]
    pub fn detail_records_in_all(&self) -> u32 {
        if self.details { self.records_in_all() } else { 1 }
    }

    /// Entries of the spill map.
    #[must_use]
    pub fn records_in_all(&self) -> u32 {
        self.rings_in_all() * self.spill_records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_shrink_before_caches() {
        let wanted = Sizing::new(4, 16384, 262_144);
        assert_eq!((wanted.set_bits, wanted.spill_records), (13, 262_144));
        assert_eq!(wanted.within(u64::MAX), Some(wanted));
        let smaller = wanted.within(wanted.octets() / 2).unwrap();
        assert_eq!(smaller.set_bits, 13);
        assert!(smaller.spill_records < 262_144 && smaller.octets() <= wanted.octets() / 2);
        let smallest = wanted.within(1 << 20).unwrap();
        assert!(smallest.set_bits < 13 && smallest.octets() <= 1 << 20);
        assert_eq!(wanted.within(1000), None);
    }

    #[test]
    fn details_take_room() {
        let plain = Sizing::new(2, 4096, 1024);
        let detailed = plain.with_details(true);
        // Both halves of a cache of 2048 sets, and a ring, on each CPU.
        assert_eq!(detailed.octets() - plain.octets(), 2 * (2 * 2048 * 64 + 1024 * 24));
        assert_eq!((plain.detail_sets_in_all(), plain.detail_records_in_all()), (1, 1));
        assert_eq!(detailed.detail_sets_in_all(), detailed.sets_in_all());
        assert_eq!(detailed.detail_records_in_all(), detailed.records_in_all());
        let smaller = detailed.within(plain.octets()).unwrap();
        assert!(smaller.details && smaller.octets() <= plain.octets());
    }

    #[test]
    fn ranges_share_the_records() {
        let whole = Sizing::new(2, 4096, 1024);
        let four = whole.with_ranges(4);
        assert_eq!((four.range_bits, four.spill_records, four.rings_in_all()), (2, 256, 8));
        assert_eq!(four.records_in_all(), whole.records_in_all());
        assert_eq!((four.ring(0, 3), four.ring(1, 0)), (3, 4));
        assert_eq!(four.with_ranges(1), whole);
        assert_eq!(whole.with_ranges(3).range_bits, 2);
    }

    #[test]
    fn odd_numbers_become_powers_of_two() {
        let sizing = Sizing::new(0, 5000, 1000);
        assert_eq!((sizing.rows, sizing.set_bits, sizing.spill_records), (1, 12, 1024));
    }
}
