// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The two halves of every CPU's cache: flips which one is active, then reads and frees the quiet one.

use std::sync::Arc;

use probe_common::{Detail, DetailSet, Set};

use super::{ControlMap, KernelError, SharedArray, Sizing, SlotSink};

/// Reader of the caches. The order of calls is `flip`, a [`super::Barrier`], then `drain` until it says
/// that the quiet half is empty.
pub struct CacheReader {
    cache: SharedArray<Set>,
    /// Same index as in `cache`; `None` where details are off.
    details: Option<SharedArray<DetailSet>>,
    control: Arc<ControlMap>,
    sizing: Sizing,
    active: u32,
    /// Next set of the quiet halves to read, counted over all CPUs.
    next: usize,
}

impl CacheReader {
    pub(super) fn new(
        cache: SharedArray<Set>,
        details: Option<SharedArray<DetailSet>>,
        control: Arc<ControlMap>,
        sizing: Sizing,
    ) -> Self {
        Self { cache, details, control, sizing, active: 0, next: 0 }
    }

    /// Whether slots have details.
    #[must_use]
    pub fn has_details(&self) -> bool {
        self.details.is_some()
    }

    /// See [`ControlMap::set_flow_sampling`].
    ///
    /// # Errors
    /// When the kernel refuses; then the old interval holds.
    pub fn set_flow_sampling(&self, interval: u32) -> Result<(), KernelError> {
        self.control.set_flow_sampling(interval)
    }

    /// The epoch (0 or 1) that packets count in from now on.
    #[must_use]
    pub fn active(&self) -> u32 {
        self.active
    }

    /// Makes the other half active. Programs that run now may still write the old one: wait for them.
    ///
    /// # Errors
    /// When the kernel refuses; then the same half stays active.
    pub fn flip(&mut self) -> Result<(), KernelError> {
        self.control.set_epoch(self.active ^ 1)?;
        self.active ^= 1;
        self.next = 0;
        Ok(())
    }

    /// Appends the slots of the next `sets` sets of the quiet half to `out` and frees them; returns whether
    /// there are more sets.
    pub fn drain(&mut self, sets: usize, out: &mut impl SlotSink) -> bool {
        let per_half = 1usize << self.sizing.set_bits;
        let all = per_half * self.sizing.cpus as usize;
        let quiet = (self.active ^ 1) as usize;
        let end = (self.next + sets).min(all);
        for position in self.next..end {
            let (cpu, set) = (position / per_half, position % per_half);
            let index = (cpu * 2 + quiet) * per_half + set;
            let value = self.cache.read(index);
            let mut used = false;
            let details = self.details.as_ref();
            for (way, slot) in value.slots.iter().enumerate().filter(|(_, slot)| slot.packets != 0) {
                let detail = || details.map_or(Detail::UNKNOWN, |details| details.read(index).details[way]);
                out.put(*slot, detail);
                used = true;
            }
            if used {
                self.cache.write(index, Set::default());
                if let Some(details) = details {
                    details.write(index, DetailSet::default());
                }
            }
        }
        self.next = end;
        end < all
    }
}
