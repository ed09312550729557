// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the harvester does about an overload: it tells the governor how full everything is and follows its rung.
//! Without a governor nothing here costs or changes anything.

use super::{Harvester, swap::Swap};
use crate::{
    flow::{Moment, SamplingNow, Timestamp},
    kernel::KernelError,
    overload::{OverloadStatus, Pressure},
};

/// Flows exported early between two looks at the rings.
const EVICT: usize = 2048;
/// Parts of eight of the queue that flows which are over may fill; the rest is for those that make room.
const QUEUE_PART: usize = 7;

impl Harvester {
    /// The interval of the flow sampling in force, for whoever tells it to collectors.
    #[must_use]
    pub fn sampling_now(&self) -> SamplingNow {
        self.sampling.clone()
    }

    /// Notes how full a ring is, before it is drained.
    #[inline]
    pub(super) fn note_ring(&mut self, ring: usize) {
        if let Some(governor) = &mut self.governor {
            governor.note(&Pressure { ring: self.rings[ring].fill_ratio(), ..Pressure::default() });
        }
    }

    /// Notes how full the queue is; climbs at once when a ring is nearly full.
    pub(super) fn note_queue(&mut self, now: Timestamp) -> Result<(), KernelError> {
        let Some(governor) = &mut self.governor else { return Ok(()) };
        governor.note(&Pressure { queue: ratio(self.outlet.fill()), ..Pressure::default() });
        if governor.is_urgent() { self.judge(now) } else { Ok(()) }
    }

    /// Whether the queue has room for flows that are over. Those that have to wait stay due: a timeout that was
    /// shortened ends very many at once, and none of them may be lost by that.
    pub(super) fn may_expire(&self) -> bool {
        let (length, capacity) = self.outlet.fill();
        self.governor.is_none() || length < capacity / 8 * QUEUE_PART
    }

    /// Lets the governor judge, and does what it says. What the kernel is told counts for packets from now on, so
    /// flows that were begun before are told with what was metered of them.
    pub(super) fn judge(&mut self, now: Timestamp) -> Result<(), KernelError> {
        let Some(governor) = &mut self.governor else { return Ok(()) };
        let live = usize::try_from(self.table.live().flows).unwrap_or(usize::MAX);
        governor.note(&Pressure { table: ratio((live, self.table.capacity())), ..Pressure::default() });
        if let Some(change) = governor.judge(now) {
            self.table.set_options(governor.expiry(self.configured));
            let interval = change.to.sampling_interval();
            if interval != self.sampling.interval() {
                self.control.set_flow_sampling(interval)?;
                self.sampling.set(interval);
            }
        }
        Ok(())
    }

    /// What follows when all flows that are over have left the table: some leave before their time.
    pub(super) fn relieve(&self) -> Swap {
        let Some(governor) = &self.governor else { return Swap::Relieving { flows: 0 } };
        let (length, capacity) = self.outlet.fill();
        let room = (capacity / 8 * QUEUE_PART).saturating_sub(length) as u64;
        let flows = governor.early_exports(self.table.live().flows, self.table.capacity() as u64, room);
        Swap::Relieving { flows: usize::try_from(flows).unwrap_or(usize::MAX) }
    }

    /// Exports some of these early; returns how many are left.
    pub(super) fn evict(&mut self, flows: usize, moment: Moment) -> usize {
        let evicted = self.table.evict_oldest(flows.min(EVICT), moment, self.outlet.pending());
        if evicted == 0 { 0 } else { flows - evicted }
    }

    /// For the report.
    pub(super) fn overload_status(&self) -> OverloadStatus {
        self.governor.as_ref().map(|governor| governor.status()).unwrap_or_default()
    }
}

#[allow(clippy::cast_precision_loss, reason = "a ratio")]
fn ratio((length, capacity): (usize, usize)) -> f64 {
    length as f64 / capacity as f64
}
