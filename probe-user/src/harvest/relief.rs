// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a harvester does about an overload: it tells the governor's gauge how full everything is and follows the rung.
//! Without a gauge nothing here costs or changes anything.

use super::Harvester;
use crate::{flow::Moment, overload::Pressure};

/// Flows exported early between two looks at the rings.
const EVICT: usize = 2048;
/// Parts of eight of the queue that flows which are over may fill; the rest is for those that make room.
const QUEUE_PART: usize = 7;

impl Harvester {
    /// Notes how full a ring is, before it is drained; also for the owner, who may have rested for too long.
    #[inline]
    pub(super) fn note_ring(&mut self, ring: usize) {
        let fill = self.rings[ring].fill_ratio();
        self.fullest = self.fullest.max(fill);
        if let Some(gauge) = &self.gauge {
            gauge.note(&Pressure { ring: fill, ..Pressure::default() });
        }
    }

    /// Notes how full the queue is, and follows the rung if it has moved.
    pub(super) fn note_queue(&mut self) {
        let Some(gauge) = &self.gauge else { return };
        gauge.note(&Pressure { queue: ratio(self.outlet.fill()), ..Pressure::default() });
        if gauge.rung() != self.rung {
            self.rung = gauge.rung();
            self.table.set_options(gauge.expiry(self.configured));
        }
    }

    /// Notes how full the table is, after flows that are over have left it.
    pub(super) fn note_table(&self) {
        let Some(gauge) = &self.gauge else { return };
        let live = usize::try_from(self.table.live().flows).unwrap_or(usize::MAX);
        gauge.note(&Pressure { table: ratio((live, self.table.capacity())), ..Pressure::default() });
    }

    /// Whether the queue has room for flows that are over. Those that have to wait stay due: a timeout that was
    /// shortened ends very many at once, and none of them may be lost by that.
    pub(super) fn may_expire(&self) -> bool {
        let (length, capacity) = self.outlet.fill();
        self.gauge.is_none() || length < capacity / 8 * QUEUE_PART
    }

    /// How many flows leave before their time, when all that are over have left the table.
    pub(super) fn relief(&self) -> usize {
        let Some(gauge) = &self.gauge else { return 0 };
        let (length, capacity) = self.outlet.fill();
        let room = (capacity / 8 * QUEUE_PART).saturating_sub(length) as u64;
        let flows = gauge.early_exports(self.table.live().flows, self.table.capacity() as u64, room);
        usize::try_from(flows).unwrap_or(usize::MAX)
    }

    /// Exports some of these early; returns how many are left.
    pub(super) fn evict(&mut self, flows: usize, moment: Moment) -> usize {
        let evicted = self.table.evict_oldest(flows.min(EVICT), moment, self.outlet.pending());
        if evicted == 0 { 0 } else { flows - evicted }
    }
}

#[allow(clippy::cast_precision_loss, reason = "a ratio")]
fn ratio((length, capacity): (usize, usize)) -> f64 {
    length as f64 / capacity as f64
}
