// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From the hash of a key to the place of its flow.
//!
//! Open addressing in buckets of one cache line: eight tags (32 bits of the hash each, never 0) and eight ids. A bucket is searched without a branch that depends on what is in it; one
//! that is full overflows into the next. Where an entry belongs follows from its tag alone, so probing
//! and deleting never touch the slab. At capacity the load is 2/3: then one bucket in ten overflows, which is
//! what a miss costs a second line for.
//!
//! Invariant: between the home of an entry and where it lies, every bucket is full. Deleting keeps it by
//! bringing an overflowed entry back, so nothing ever needs rebuilding.

use std::io;

use crate::prefetch::prefetch;

use super::{
    bucket::{Bucket, EMPTY, WAYS},
    live_flow::FlowId,
    memory::{Mapping, Residence},
};

pub(super) struct Index {
    buckets: Mapping<Bucket>,
}

/// Which bucket, and which way in it.
type Position = (usize, usize);

impl Index {
    fn length(capacity: u32) -> usize {
        // Always more room than flows, so that every probe meets a bucket that is not full.
        let capacity = capacity as usize;
        (capacity + capacity / 2) / WAYS + 1
    }

    pub(super) fn octets(capacity: u32) -> usize {
        Mapping::<Bucket>::octets(Self::length(capacity))
    }

    pub(super) fn new(capacity: u32, residence: Residence) -> io::Result<Self> {
        Ok(Self { buckets: Mapping::new(Self::length(capacity), residence)? })
    }

    /// The bucket where the probe for a tag begins.
    #[inline(always)]
    fn home(&self, tag: u32) -> usize {
        // The product is below length × 2^32, and the length fits in 32 bits.
        ((u64::from(tag) * self.buckets.len() as u64) >> 32) as usize
    }

    #[inline(always)]
    fn after(&self, bucket: usize) -> usize {
        if bucket + 1 == self.buckets.len() { 0 } else { bucket + 1 }
    }

    /// Buckets from `from` to `to`, in the order of probing.
    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.buckets.len() - from }
    }

    #[inline(always)]
    pub(super) fn prefetch(&self, tag: u32) {
        prefetch(&self.buckets, self.home(tag));
    }

    /// Fetches where a probe goes on, once the home is there and if it is full.
    #[inline(always)]
    pub(super) fn prefetch_overflow(&self, tag: u32) {
        let home = self.home(tag);
        if self.buckets[home].empty().is_none() {
            prefetch(&self.buckets, self.after(home));
        }
    }

    /// An id that is likely the one of this tag; `FlowId::MAX` when none is at hand. A guess, made
    /// without waiting for anything but the home bucket.
    #[inline(always)]
    pub(super) fn guess(&self, tag: u32) -> FlowId {
        let bucket = &self.buckets[self.home(tag)];
        let ways = bucket.with_tag(tag);
        // Without a match this looks at way 0 and keeps nothing of it.
        let id = bucket.ids[ways.trailing_zeros() as usize % WAYS];
        if ways == 0 { FlowId::MAX } else { id }
    }

    /// The first id in probing order that has this tag and satisfies `is_wanted`.
    pub(super) fn find(&self, tag: u32, is_wanted: impl FnMut(FlowId) -> bool) -> Option<FlowId> {
        self.locate(tag, is_wanted).map(|(bucket, way)| self.buckets[bucket].ids[way])
    }

    /// Adds an entry. The slab bounds how many there are.
    pub(super) fn insert(&mut self, tag: u32, id: FlowId) {
        let mut at = self.home(tag);
        let way = loop {
            match self.buckets[at].empty() {
                Some(way) => break way,
                None => at = self.after(at),
            }
        };
        self.put((at, way), tag, id);
    }

    /// Removes the entry of a flow; false if it was not there.
    pub(super) fn remove(&mut self, tag: u32, id: FlowId) -> bool {
        let Some(mut hole) = self.locate(tag, |found| found == id) else {
            return false;
        };
        let mut was_full = self.buckets[hole.0].empty().is_none();
        self.put(hole, EMPTY, 0);
        // While buckets are full, one behind may hold an entry that belongs here, or before.
        let mut at = hole.0;
        while was_full {
            at = self.after(at);
            was_full = self.buckets[at].empty().is_none();
            let overflowed = (0..WAYS).find(|&way| {
                let bucket = &self.buckets[at];
                bucket.tags[way] != EMPTY
                    && self.distance(self.home(bucket.tags[way]), at) >= self.distance(hole.0, at)
            });
            if let Some(way) = overflowed {
                let Bucket { tags, ids } = &self.buckets[at];
                let (tag, id) = (tags[way], ids[way]);
                self.put(hole, tag, id);
                hole = (at, way);
                self.put(hole, EMPTY, 0);
            }
        }
        true
    }

    #[inline(always)]
    fn locate(&self, tag: u32, mut is_wanted: impl FnMut(FlowId) -> bool) -> Option<Position> {
        let mut at = self.home(tag);
        loop {
            let bucket = &self.buckets[at];
            let mut ways = bucket.with_tag(tag);
            while ways != 0 {
                let way = ways.trailing_zeros() as usize;
                if is_wanted(bucket.ids[way]) {
                    return Some((at, way));
                }
                ways &= ways - 1;
            }
            if bucket.empty().is_some() {
                return None;
            }
            at = self.after(at);
        }
    }

    #[inline(always)]
    fn put(&mut self, (bucket, way): Position, tag: u32, id: u32) {
        let Bucket { tags, ids } = &mut self.buckets[bucket];
        tags[way] = tag;
        ids[way] = id;
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
            steps in prop::collection::vec((any::<bool>(), 0u32..60, prop_oneof![1u32..5, u32::MAX - 4..=u32::MAX, 1u32..]), 1..600)
        ) {
            let mut index = Index::new(60, Residence::FromTheStart).unwrap();
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
                let entries = index.buckets.iter().flat_map(|bucket| bucket.tags).filter(|&tag| tag != EMPTY);
                prop_assert_eq!(entries.count(), model.len());
            }
        }
    }
}
