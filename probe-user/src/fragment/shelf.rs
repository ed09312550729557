// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Items that are held, in chains: the fragments of one datagram, in the order in which they came. The room is fixed
//! and shared by all chains.

/// No place.
const NONE: u32 = u32::MAX;

/// The items of one datagram; at least one, until it is taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    first: u32,
    last: u32,
}

struct Place<I> {
    item: Option<I>,
    /// The next of its chain; of a free place, the next free one.
    next: u32,
}

/// See the module.
pub(super) struct Shelf<I> {
    places: Vec<Place<I>>,
    capacity: usize,
    used: usize,
    free: u32,
}

impl<I> Shelf<I> {
    /// An empty one with room for `capacity` items, at least 1.
    pub(super) fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(1, NONE as usize);
        Self { places: Vec::with_capacity(capacity), capacity, used: 0, free: NONE }
    }

    /// Octets that one of this capacity takes.
    pub(super) fn memory_octets(capacity: usize) -> usize {
        capacity * size_of::<Place<I>>()
    }

    pub(super) fn len(&self) -> usize {
        self.used
    }

    pub(super) fn is_full(&self) -> bool {
        self.used == self.capacity
    }

    fn put(&mut self, item: I) -> u32 {
        debug_assert!(!self.is_full(), "no room for another item");
        self.used += 1;
        let (place, item) = (self.free, Place { item: Some(item), next: NONE });
        match self.places.get_mut(place as usize) {
            Some(free) => {
                self.free = free.next;
                *free = item;
                place
            }
            None => {
                self.places.push(item);
                u32::try_from(self.places.len() - 1).unwrap_or(NONE)
            }
        }
    }

    /// Begins a chain; there must be room.
    pub(super) fn begin(&mut self, item: I) -> Chain {
        let first = self.put(item);
        Chain { first, last: first }
    }

    /// Adds to a chain; there must be room.
    pub(super) fn append(&mut self, chain: &mut Chain, item: I) {
        let place = self.put(item);
        self.places[chain.last as usize].next = place;
        chain.last = place;
    }

    /// Hands out a whole chain, which ends with that; returns how many items it had.
    pub(super) fn take(&mut self, chain: Chain, mut each: impl FnMut(I)) -> u64 {
        let (mut count, mut at) = (0, chain.first);
        while let Some(place) = self.places.get_mut(at as usize) {
            let next = std::mem::replace(&mut place.next, self.free);
            if let Some(item) = place.item.take() {
                each(item);
                count += 1;
                self.used -= 1;
            }
            self.free = at;
            at = next;
        }
        count
    }
}
