// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How large the kernel's maps are, within the memory the operator allows.

use probe_common::{Counters, Detail, DetailSet, RingCursor, SamplerState, Set, Slot, WAYS};

use super::KernelError;

/// Sizes of the maps, each per CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizing {
    /// CPUs with a cache and a ring.
    pub cpus: u32,
    /// log2 of the sets in one half of a cache.
    pub set_bits: u32,
    /// Records of a spill ring, a power of two.
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
    /// Sizes for `cpus` CPUs, without details; slots and records are rounded up to powers of two.
    #[must_use]
    pub fn new(cpus: u32, cache_slots: u32, spill_records: u32) -> Self {
        let sets = (cache_slots / WAYS_IN_A_SET).clamp(1 << MIN_SET_BITS, 1 << 24).next_power_of_two();
        Self {
            cpus: cpus.max(1),
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

    /// Octets of kernel memory that the maps take.
    #[must_use]
    pub fn octets(&self) -> u64 {
        let sets = 1u64 << self.set_bits;
        let (mut set, mut record) = (size_of::<Set>() as u64, size_of::<Slot>() as u64);
        if self.details {
            set += size_of::<DetailSet>() as u64;
            record += size_of::<Detail>() as u64;
        }
        let per_cpu = 2 * sets * set
            + u64::from(self.spill_records) * record
            + (size_of::<RingCursor>() + size_of::<SamplerState>()) as u64
            + 2 * size_of::<Counters>() as u64;
        u64::from(self.cpus) * per_cpu
    }

    /// The same, halved until it fits `octets`: first the rings, then the caches.
    #[must_use]
    pub fn within(mut self, octets: u64) -> Option<Self> {
        while self.octets() > octets {
            if self.spill_records > MIN_SPILL_RECORDS {
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
        (self.cpus * 2) << self.set_bits
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
        self.cpus * self.spill_records
    }
}

/// Number of possible CPUs; CPU numbers are below it.
///
/// # Errors
/// When /sys cannot be read.
pub fn possible_cpus() -> Result<u32, KernelError> {
    let count = aya::util::nr_cpus().map_err(|(_, error)| KernelError::Call {
        attempted: "reading /sys/devices/system/cpu/possible",
        error,
    })?;
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
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
    fn odd_numbers_become_powers_of_two() {
        let sizing = Sizing::new(0, 5000, 1000);
        assert_eq!((sizing.cpus, sizing.set_bits, sizing.spill_records), (1, 12, 1024));
    }
}
