// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Slots on their way from a bank to the flow table, with their details where these are kept.

use probe_common::{DetailedSlot, Slot};

use crate::{
    flow::{FlowRecord, FlowTable, Moment, Totals},
    slots::{CacheReader, SpillReader},
};

/// Slots that were read and not yet merged.
pub(super) enum Batch {
    Plain(Vec<Slot>),
    Detailed(Vec<DetailedSlot>),
}

impl Batch {
    /// An empty batch with room for `slots`.
    pub(super) fn new(details: bool, slots: usize) -> Self {
        if details {
            Self::Detailed(Vec::with_capacity(slots))
        } else {
            Self::Plain(Vec::with_capacity(slots))
        }
    }

    pub(super) fn clear(&mut self) {
        match self {
            Self::Plain(slots) => slots.clear(),
            Self::Detailed(slots) => slots.clear(),
        }
    }

    /// See [`SpillReader::drain`].
    pub(super) fn drain_ring(&mut self, ring: &mut SpillReader, limit: usize) -> usize {
        match self {
            Self::Plain(slots) => ring.drain(limit, slots),
            Self::Detailed(slots) => ring.drain(limit, slots),
        }
    }

    /// See [`CacheReader::drain`].
    pub(super) fn drain_cache(&mut self, cache: &mut CacheReader, sets: usize) -> bool {
        match self {
            Self::Plain(slots) => cache.drain(sets, slots),
            Self::Detailed(slots) => cache.drain(sets, slots),
        }
    }

    /// Merges all of it, and adds it to what was merged of its epochs (even, odd).
    pub(super) fn merge(
        &self,
        merged: &mut [Totals; 2],
        table: &mut FlowTable,
        moment: Moment,
        out: &mut Vec<FlowRecord>,
    ) {
        match self {
            Self::Plain(slots) => {
                count(merged, slots.iter());
                table.merge(slots, moment, out);
            }
            Self::Detailed(slots) => {
                count(merged, slots.iter().map(|detailed| &detailed.slot));
                table.merge(slots, moment, out);
            }
        }
    }
}

#[inline(always)]
fn count<'a>(merged: &mut [Totals; 2], slots: impl Iterator<Item = &'a Slot>) {
    for slot in slots {
        let merged = &mut merged[slot.epoch() as usize & 1];
        merged.packets += u64::from(slot.packets);
        merged.octets += u64::from(slot.octets);
    }
}
