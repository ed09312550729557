// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From the hash of a key to the place of its flow.
//!
//! Open addressing with linear probing and backward-shift deletion. An entry is one word: the tag (32
//! bits of the hash) above the id plus one; 0 is empty. Where an entry belongs follows from its tag
//! alone, so probing and deleting never touch the slab. At capacity the load is 0.8.

use std::io;

use super::{memory::Mapping, prefetch::prefetch, slab::FlowId};

pub(super) struct Index {
    entries: Mapping<u64>,
}

#[inline(always)]
fn pack(tag: u32, id: FlowId) -> u64 {
    u64::from(tag) << 32 | (u64::from(id) + 1)
}

#[inline(always)]
fn tag_of(entry: u64) -> u32 {
    let [a, b, c, d, ..] = entry.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// The id of an entry that is not empty.
#[inline(always)]
fn id_of(entry: u64) -> FlowId {
    let [.., a, b, c, d] = entry.to_be_bytes();
    u32::from_be_bytes([a, b, c, d]).wrapping_sub(1)
}

impl Index {
    fn length(capacity: u32) -> usize {
        // Always at least one empty entry, so that every probe ends.
        let capacity = capacity as usize;
        capacity + capacity / 4 + 1
    }

    pub(super) fn octets(capacity: u32) -> usize {
        Mapping::<u64>::octets(Self::length(capacity))
    }

    pub(super) fn new(capacity: u32) -> io::Result<Self> {
        Ok(Self { entries: Mapping::new(Self::length(capacity))? })
    }

    /// Where the probe for a tag begins: the tag scaled to the length, which keeps the order of tags.
    #[inline(always)]
    fn home(&self, tag: u32) -> usize {
        // The product is below length × 2^32, and the length fits in 32 bits.
        ((u64::from(tag) * self.entries.len() as u64) >> 32) as usize
    }

    #[inline(always)]
    fn after(&self, position: usize) -> usize {
        if position + 1 == self.entries.len() { 0 } else { position + 1 }
    }

    /// Steps of probing from `from` to `to`.
    #[inline(always)]
    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.entries.len() - from }
    }

    #[inline(always)]
    pub(super) fn prefetch(&self, tag: u32) {
        prefetch(&self.entries, self.home(tag));
    }

    /// The first id in probing order that has this tag and satisfies `is_wanted`.
    #[inline(always)]
    pub(super) fn find(&self, tag: u32, mut is_wanted: impl FnMut(FlowId) -> bool) -> Option<FlowId> {
        let mut position = self.home(tag);
        loop {
            let entry = self.entries[position];
            if entry == 0 {
                return None;
            }
            if tag_of(entry) == tag && is_wanted(id_of(entry)) {
                return Some(id_of(entry));
            }
            position = self.after(position);
        }
    }

    /// Adds an entry. The slab bounds how many there are: one fewer than there are places here.
    pub(super) fn insert(&mut self, tag: u32, id: FlowId) {
        let mut position = self.home(tag);
        while self.entries[position] != 0 {
            position = self.after(position);
        }
        self.entries[position] = pack(tag, id);
    }

    /// Removes the entry of a flow; false if it was not there.
    pub(super) fn remove(&mut self, tag: u32, id: FlowId) -> bool {
        let wanted = pack(tag, id);
        let mut hole = self.home(tag);
        while self.entries[hole] != wanted {
            if self.entries[hole] == 0 {
                return false;
            }
            hole = self.after(hole);
        }
        let mut position = hole;
        loop {
            position = self.after(position);
            let entry = self.entries[position];
            if entry == 0 {
                break;
            }
            // An entry may fill the hole unless that would put it before its home.
            let home = self.home(tag_of(entry));
            if self.distance(home, position) >= self.distance(hole, position) {
                self.entries[hole] = entry;
                hole = position;
            }
        }
        self.entries[hole] = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few distinct tags at both ends of the range make long clusters that wrap round.
        #[test]
        fn an_index_agrees_with_a_map(
            steps in prop::collection::vec((any::<bool>(), 0u32..24, prop_oneof![0u32..4, u32::MAX - 4..=u32::MAX, any::<u32>()]), 1..400)
        ) {
            let mut index = Index::new(24).unwrap();
            let mut model: HashMap<FlowId, u32> = HashMap::new();
            for (insert, id, tag) in steps {
                if insert {
                    if model.contains_key(&id) {
                        continue;
                    }
                    index.insert(tag, id);
                    model.insert(id, tag);
                } else if let Some(tag) = model.remove(&id) {
                    prop_assert!(index.remove(tag, id));
                    prop_assert!(!index.remove(tag, id));
                }
                for (&id, &tag) in &model {
                    prop_assert_eq!(index.find(tag, |found| found == id), Some(id));
                }
                prop_assert_eq!(index.entries.iter().filter(|&&entry| entry != 0).count(), model.len());
            }
        }
    }
}
