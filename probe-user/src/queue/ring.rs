// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A bounded ring of `Copy` items with one producer and one or more consumers, each of which gets every item, in batches.
//!
//! ```text
//!           heads[1]      heads[0]    tail
//!            v             v           v
//!  | free | full | full | full | full | free |     position & mask = cell
//! ```
//!
//! A head counts the items that its consumer has taken, `tail` items put in; all only grow (and wrap with `usize`). A consumer
//! alone writes its head, the producer alone writes `tail`, each on its own cache line. Each side keeps a
//! copy of the other's cursor and reads the real one only when the copy says full (or empty), so that a
//! batch costs at most one transfer of a cache line in either direction. A cell is free when the consumer
//! that is furthest behind has read it.
//!
//! A full ring takes less than it was offered and says how much; whoever calls counts the rest. So an item is
//! there for all consumers, or for none.
//!
//! JUSTIFICATION for `unsafe`: the cells are shared between threads without a lock; no safe type
//! of the standard library allows that for items larger than a word.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::primitive::{Arc, AtomicUsize, Ordering, UnsafeCell};

/// Its own pair of cache lines: x86 prefetches lines in pairs.
#[repr(align(128))]
struct Padded<T>(T);

struct Ring<T> {
    /// Items taken, by each consumer; written by that consumer.
    heads: Box<[Padded<AtomicUsize>]>,
    /// Items put in; written by the producer.
    tail: Padded<AtomicUsize>,
    /// A power of two of them.
    cells: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

// SAFETY: a cell between any head and `tail` is only read, and by consumers alone; every other one is written by
// the producer alone; the cursors hand cells over with release and acquire. Consumers copy items out of a cell
// that others may be reading as well, which `T: Copy` allows (`queue` is the only way to a ring); the copies are
// used in the consumer's thread, hence `T: Send`.
unsafe impl<T: Copy + Send> Sync for Ring<T> {}
// SAFETY: the ring owns its items; nothing in it is bound to a thread.
unsafe impl<T: Send> Send for Ring<T> {}

impl<T> Ring<T> {
    fn new(capacity: usize, consumers: usize) -> Arc<Self> {
        let cells = (0..capacity.max(1).next_power_of_two()).map(|_| UnsafeCell::new(MaybeUninit::uninit()));
        Arc::new(Self {
            heads: (0..consumers).map(|_| Padded(AtomicUsize::new(0))).collect(),
            tail: Padded(AtomicUsize::new(0)),
            cells: cells.collect(),
        })
    }

    /// The cells of `count` items from `position` on: up to the end of the ring, then from its start.
    fn segments(&self, position: usize, count: usize) -> (Range<usize>, Range<usize>) {
        let start = position & (self.cells.len() - 1);
        let first = count.min(self.cells.len() - start);
        (start..start + first, 0..count - first)
    }

    /// Items that this consumer has not taken.
    fn len_for(&self, consumer: usize) -> usize {
        // Head first: if both move meanwhile, the result is too large rather than negative.
        let head = self.heads[consumer].0.load(Ordering::Acquire);
        let tail = self.tail.0.load(Ordering::Acquire);
        tail.wrapping_sub(head).min(self.cells.len())
    }
}

/// The writing end.
pub struct Producer<T> {
    ring: Arc<Ring<T>>,
    tail: usize,
    /// The head that was furthest behind when all were last read.
    seen_head: usize,
}

/// A reading end.
pub struct Consumer<T> {
    ring: Arc<Ring<T>>,
    number: usize,
    head: usize,
    seen_tail: usize,
}

/// A ring of at least `capacity` items (rounded up to a power of two), for one consumer.
#[must_use]
pub fn ring<T: Copy + Send>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    let ring = Ring::new(capacity, 1);
    (Producer::of(&ring), Consumer::of(&ring, 0))
}

/// A ring of at least `capacity` items (rounded up to a power of two), for so many consumers. Where there is none,
/// every item is let go at once.
#[must_use]
pub fn broadcast<T: Copy + Send>(capacity: usize, consumers: usize) -> (Producer<T>, Vec<Consumer<T>>) {
    let ring = Ring::new(capacity, consumers);
    (Producer::of(&ring), (0..consumers).map(|number| Consumer::of(&ring, number)).collect())
}

impl<T: Copy + Send> Producer<T> {
    fn of(ring: &Arc<Ring<T>>) -> Self {
        Self { ring: Arc::clone(ring), tail: 0, seen_head: 0 }
    }

    /// Puts in the first items of `items`, as many as there is room for, and returns how many.
    pub fn push_slice(&mut self, items: &[T]) -> usize {
        let capacity = self.capacity();
        if capacity - self.tail.wrapping_sub(self.seen_head) < items.len() {
            self.seen_head = self.furthest_behind();
        }
        let count = items.len().min(capacity - self.tail.wrapping_sub(self.seen_head));
        if count == 0 {
            return 0;
        }
        let (first, second) = self.ring.segments(self.tail, count);
        let (cells, items) = (&self.ring.cells, items.iter());
        for (cell, item) in cells[first].iter().chain(&cells[second]).zip(items) {
            cell.with_mut(|cell| {
                // SAFETY: the pointer is that of a live cell, and the cell is free: it lies outside
                // head..tail of every consumer, as `seen_head` never runs ahead of any head.
                unsafe { cell.write(MaybeUninit::new(*item)) }
            });
        }
        self.tail = self.tail.wrapping_add(count);
        self.ring.tail.0.store(self.tail, Ordering::Release);
        count
    }

    fn furthest_behind(&self) -> usize {
        let heads = self.ring.heads.iter().map(|head| head.0.load(Ordering::Acquire));
        heads.max_by_key(|head| self.tail.wrapping_sub(*head)).unwrap_or(self.tail)
    }

    /// Items that some consumer has not taken; they may be taking some just now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tail.wrapping_sub(self.furthest_behind())
    }

    /// Whether the ring is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Most items that the ring holds.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.ring.cells.len()
    }
}

impl<T: Copy + Send> Consumer<T> {
    fn of(ring: &Arc<Ring<T>>, number: usize) -> Self {
        Self { ring: Arc::clone(ring), number, head: 0, seen_tail: 0 }
    }

    /// Appends at most `limit` items to `out`, oldest first, and returns how many.
    pub fn pop_into(&mut self, out: &mut Vec<T>, limit: usize) -> usize {
        if self.seen_tail.wrapping_sub(self.head) < limit {
            self.seen_tail = self.ring.tail.0.load(Ordering::Acquire);
        }
        let count = limit.min(self.seen_tail.wrapping_sub(self.head));
        if count == 0 {
            return 0;
        }
        let (first, second) = self.ring.segments(self.head, count);
        for cells in [&self.ring.cells[first], &self.ring.cells[second]] {
            out.extend(cells.iter().map(|cell| {
                cell.with(|cell| {
                    // SAFETY: the cell lies in head..tail, so the producer has written it (acquired
                    // with `tail`) and leaves it alone until this head has passed; `T` is `Copy`.
                    unsafe { cell.cast::<T>().read() }
                })
            }));
        }
        self.head = self.head.wrapping_add(count);
        self.ring.heads[self.number].0.store(self.head, Ordering::Release);
        count
    }

    /// Items that it has not taken; the producer may be putting in more just now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ring.len_for(self.number)
    }

    /// Whether the ring is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Most items that the ring holds.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.ring.cells.len()
    }
}
