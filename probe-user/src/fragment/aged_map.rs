// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A map of datagrams with room for a fixed number, in the order in which they were put in. Every operation takes the
//! same time, however full it is.

use hashbrown::HashTable;
use probe_common::HashSeed;

use super::datagram::Datagram;
use crate::flow::Timestamp;

/// No entry.
const NONE: u32 = u32::MAX;

struct Entry<V> {
    datagram: Datagram,
    hash: u64,
    at: Timestamp,
    value: V,
    /// Neighbours in the order of age; of a free entry, `younger` is the next free one.
    older: u32,
    younger: u32,
}

/// See the module.
pub(super) struct AgedMap<V> {
    seed: HashSeed,
    index: HashTable<u32>,
    entries: Vec<Entry<V>>,
    capacity: usize,
    free: u32,
    oldest: u32,
    youngest: u32,
}

impl<V: Copy> AgedMap<V> {
    /// An empty map; `capacity` at least 1. `seed` keeps anybody from choosing identifications that collide.
    pub(super) fn new(capacity: usize, seed: HashSeed) -> Self {
        let capacity = capacity.clamp(1, NONE as usize);
        Self {
            seed,
            index: HashTable::with_capacity(capacity),
            entries: Vec::with_capacity(capacity),
            capacity,
            free: NONE,
            oldest: NONE,
            youngest: NONE,
        }
    }

    /// Octets that a map of this capacity takes: entries, and an index that is at most seven eighths full, with an octet
    /// of its own for each place.
    pub(super) fn memory_octets(capacity: usize) -> usize {
        let index = (capacity * 8).div_ceil(7).next_power_of_two() * (size_of::<u32>() + 1);
        capacity * size_of::<Entry<V>>() + index
    }

    pub(super) fn is_full(&self) -> bool {
        self.index.len() == self.capacity
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    fn hash(&self, datagram: &Datagram) -> u64 {
        // Its high bits are the good ones, and the table looks at the low ones first.
        self.seed.hash(datagram.key(), u64::MAX).rotate_left(32)
    }

    /// What was put in for a datagram, and when.
    pub(super) fn get(&mut self, datagram: &Datagram) -> Option<(&mut V, Timestamp)> {
        let (hash, entries) = (self.hash(datagram), &self.entries);
        let place = *self.index.find(hash, |place| entries[*place as usize].datagram == *datagram)?;
        let entry = &mut self.entries[place as usize];
        Some((&mut entry.value, entry.at))
    }

    /// When the oldest entry was put in.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.entries.get(self.oldest as usize).map(|entry| entry.at)
    }

    /// Takes the oldest entry out.
    pub(super) fn pop_oldest(&mut self) -> Option<V> {
        let datagram = self.entries.get(self.oldest as usize)?.datagram;
        self.remove(&datagram)
    }

    /// Puts in a datagram that is not there, as the youngest; there must be room.
    pub(super) fn insert(&mut self, datagram: Datagram, value: V, at: Timestamp) {
        debug_assert!(!self.is_full(), "no room for another datagram");
        let hash = self.hash(&datagram);
        let entry = Entry { datagram, hash, at, value, older: self.youngest, younger: NONE };
        let place = self.free;
        let place = match self.entries.get_mut(place as usize) {
            Some(free) => {
                self.free = free.younger;
                *free = entry;
                place
            }
            None => {
                self.entries.push(entry);
                u32::try_from(self.entries.len() - 1).unwrap_or(NONE)
            }
        };
        match self.entries.get_mut(self.youngest as usize) {
            Some(before) => before.younger = place,
            None => self.oldest = place,
        }
        self.youngest = place;
        let entries = &self.entries;
        self.index.insert_unique(hash, place, |place| entries[*place as usize].hash);
    }

    /// Takes a datagram out.
    pub(super) fn remove(&mut self, datagram: &Datagram) -> Option<V> {
        let (hash, entries) = (self.hash(datagram), &self.entries);
        let found = self.index.find_entry(hash, |place| entries[*place as usize].datagram == *datagram);
        let (place, _) = found.ok()?.remove();
        let Entry { older, younger, value, .. } = self.entries[place as usize];
        match self.entries.get_mut(older as usize) {
            Some(before) => before.younger = younger,
            None => self.oldest = younger,
        }
        match self.entries.get_mut(younger as usize) {
            Some(behind) => behind.older = older,
            None => self.youngest = older,
        }
        self.entries[place as usize].younger = self.free;
        self.free = place;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_memory_is_what_is_said() {
        for capacity in [4096, 7000, 16_384] {
            let map = AgedMap::<u64>::new(capacity, HashSeed::from_random([9; 56]));
            let entries = map.entries.capacity() * size_of::<Entry<u64>>();
            let (taken, said) =
                (entries + map.index.allocation_size(), AgedMap::<u64>::memory_octets(capacity));
            assert!(said.abs_diff(taken) <= 64, "{capacity}: {taken} octets are taken, {said} are said");
        }
    }
}
