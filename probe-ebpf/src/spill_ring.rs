// SPDX-License-Identifier: Apache-2.0 OR MIT
//! evicted slot → the ring of its range of sets on this CPU. Single producer (this CPU), single consumer (the harvester).

use probe_common::{Detail, KernelSettings, Slot, Spill};

use crate::{
    maps::{CURSOR, SPILL, SPILL_DETAIL},
    place::Place,
};

/// The rings of this CPU.
pub(crate) struct Rings<'a> {
    pub(crate) settings: &'a KernelSettings,
    pub(crate) place: &'a Place,
    /// The set of the cache that spills.
    pub(crate) set: u32,
}

impl Spill for Rings<'_> {
    /// Appends a slot, with its details where they are kept; when the ring is full, counts what is lost with it.
    #[inline(always)]
    fn spill(&mut self, slot: &Slot, detail: Option<&Detail>) {
        spill(self.settings, self.place, self.set, slot, detail);
    }
}

#[inline(always)]
fn spill(settings: &KernelSettings, place: &Place, set: u32, slot: &Slot, detail: Option<&Detail>) {
    if push(settings, place, set, slot, detail).is_some() {
        place.counters().spilled_records += 1;
    } else {
        let counters = place.counters();
        counters.lost_records += 1;
        counters.lost_packets += slot.packets as u64;
        counters.lost_octets += slot.octets as u64;
    }
}

#[inline(always)]
fn push(
    settings: &KernelSettings,
    place: &Place,
    set: u32,
    slot: &Slot,
    detail: Option<&Detail>,
) -> Option<()> {
    // The high bits of the set are those of its range.
    let ring = (place.cpu << settings.range_bits) + (set >> (settings.set_bits - settings.range_bits));
    let cursor = CURSOR.get_ptr_mut(ring)?;
    // SAFETY: a value of an array lives as long as the map; head and seen_tail are written by this CPU
    // alone.
    let head = unsafe { (*cursor).head };
    // SAFETY: as above.
    let mut seen_tail = unsafe { (*cursor).seen_tail };
    if head - seen_tail > settings.ring_mask as u64 {
        // SAFETY: user space writes the word as a whole; volatile so that it is read anew.
        seen_tail = unsafe { core::ptr::read_volatile(&raw const (*cursor).tail) };
        // SAFETY: as for head.
        unsafe { (*cursor).seen_tail = seen_tail };
        if head - seen_tail > settings.ring_mask as u64 {
            return None;
        }
    }
    let records = settings.ring_mask + 1;
    let position = ring * records + (head as u32 & settings.ring_mask);
    let record = SPILL.get_ptr_mut(position)?;
    // SAFETY: user space reads a record only between tail and head, and this one lies at head.
    unsafe { *record = *slot };
    if let Some(detail) = detail {
        let record = SPILL_DETAIL.get_ptr_mut(position)?;
        copy_detail(detail, record);
    }
    publish(settings, cursor, head + 1);
    Some(())
}

/// Copies word by word. For a plain copy the compiler calls a loop over octets, and over a call kernel 6.1 forgets which
/// numbers its verifier need not remember: it then takes ten times as long, or gives up.
#[inline(always)]
fn copy_detail(from: &Detail, to: *mut Detail) {
    let (from, to) = ((&raw const *from).cast::<u64>(), to.cast::<u64>());
    for word in 0..size_of::<Detail>() / size_of::<u64>() {
        // SAFETY: a word of a `Detail`, which is aligned to words.
        let value = unsafe { core::ptr::read_volatile(from.wrapping_add(word)) };
        // SAFETY: as above; the caller's record lies at the ring's head, so user space does not read it.
        unsafe { core::ptr::write_volatile(to.wrapping_add(word), value) };
    }
}

/// Moves the head on, after the record is written.
#[inline(always)]
fn publish(settings: &KernelSettings, cursor: *mut probe_common::RingCursor, head: u64) {
    // SAFETY: the cursor is this CPU's value of an array.
    let at = unsafe { &raw mut (*cursor).head };
    if settings.publish_by_atomic != 0 {
        // The fetching form is a full barrier (Documentation/bpf/standardization/instruction-set.rst and
        // the kernel's atomic rules: value-returning read-modify-writes are ordered).
        // SAFETY: as above; the word is 8-aligned.
        unsafe { fetch_add_one(at) };
    } else {
        // x86 does not reorder stores (Intel SDM volume 3, section 9.2.2), and the compiler does not move
        // the record's stores behind this one.
        core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::Release);
        // SAFETY: as above.
        unsafe { core::ptr::write_volatile(at, head) };
    }
}

/// A BPF atomic with fetch. `core::sync::atomic` has none on this target.
#[inline(always)]
unsafe fn fetch_add_one(at: *mut u64) -> u64 {
    use core::intrinsics::{AtomicOrdering, atomic_xadd};
    // SAFETY: the caller's pointer is valid and aligned. The result goes through black_box so that the
    // compiler cannot choose the form without fetch, which orders nothing.
    core::hint::black_box(unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(at, 1) })
}
