// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A map that knows which of its entries was used longest ago.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// See the module. Its owner decides when something has to go.
#[derive(Debug)]
pub(super) struct Lru<K, V> {
    entries: HashMap<K, (u64, V)>,
    /// Keys by last use.
    order: BTreeMap<u64, K>,
    uses: u64,
}

impl<K, V> Default for Lru<K, V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), order: BTreeMap::new(), uses: 0 }
    }
}

impl<K: Copy + Eq + Hash, V> Lru<K, V> {
    /// The entry, used now.
    pub(super) fn get(&mut self, key: K) -> Option<&mut V> {
        let (used, value) = self.entries.get_mut(&key)?;
        if *used != self.uses {
            self.order.remove(used);
            self.uses += 1;
            *used = self.uses;
            self.order.insert(self.uses, key);
        }
        Some(value)
    }

    /// Puts an entry, used now; gives the one it replaces.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let old = self.remove(key);
        self.uses += 1;
        self.entries.insert(key, (self.uses, value));
        self.order.insert(self.uses, key);
        old
    }

    pub(super) fn remove(&mut self, key: K) -> Option<V> {
        let (used, value) = self.entries.remove(&key)?;
        self.order.remove(&used);
        Some(value)
    }

    /// Takes out what was used longest ago.
    pub(super) fn pop_oldest(&mut self) -> Option<(K, V)> {
        let (_, key) = self.order.pop_first()?;
        let (_, value) = self.entries.remove(&key)?;
        Some((key, value))
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.order.values().filter_map(|key| Some((key, &self.entries.get(key)?.1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let mut lru = Lru::default();
        for key in 0..4 {
            assert_eq!(lru.insert(key, key * 10), None);
        }
        assert_eq!(lru.get(0).copied(), Some(0));
        assert_eq!(lru.get(0).copied(), Some(0), "again, when it is the youngest already");
        assert_eq!(lru.insert(1, 11), Some(10));
        assert_eq!(lru.remove(3), Some(30));
        assert_eq!(lru.get(3), None);
        assert_eq!((lru.remove(3), lru.len()), (None, 3));
        assert_eq!(lru.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [2, 0, 1]);
        let order: Vec<_> = std::iter::from_fn(|| lru.pop_oldest()).collect();
        assert_eq!(order, [(2, 20), (0, 0), (1, 11)]);
        assert_eq!((lru.len(), lru.order.len()), (0, 0));
    }
}
