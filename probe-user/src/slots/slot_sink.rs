// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where slots go that are read: with their details or without. Details are read only for
//! those who take them.

use probe_common::{Detail, DetailedSlot, Slot};

/// Takes slots.
pub trait SlotSink {
    /// Takes one slot.
    fn put(&mut self, slot: Slot, detail: impl FnOnce() -> Detail);

    /// Takes `count` slots, each by its number.
    fn put_many(&mut self, count: usize, slot: impl Fn(usize) -> Slot, detail: impl Fn(usize) -> Detail);
}

impl SlotSink for Vec<Slot> {
    #[inline(always)]
    fn put(&mut self, slot: Slot, _detail: impl FnOnce() -> Detail) {
        self.push(slot);
    }

    #[inline(always)]
    fn put_many(&mut self, count: usize, slot: impl Fn(usize) -> Slot, _detail: impl Fn(usize) -> Detail) {
        self.extend((0..count).map(slot));
    }
}

impl SlotSink for Vec<DetailedSlot> {
    #[inline(always)]
    fn put(&mut self, slot: Slot, detail: impl FnOnce() -> Detail) {
        self.push(DetailedSlot { slot, detail: detail() });
    }

    #[inline(always)]
    fn put_many(&mut self, count: usize, slot: impl Fn(usize) -> Slot, detail: impl Fn(usize) -> Detail) {
        self.extend((0..count).map(|number| DetailedSlot { slot: slot(number), detail: detail(number) }));
    }
}
