// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The places of the flows: one (its id) for each, which does not change while it lives. Free places form
//! a list through their first word.

use std::{
    io,
    ops::{Index, IndexMut},
};

use crate::prefetch::prefetch;

use super::{
    live_flow::{Flow, FlowId},
    memory::{Mapping, Residence},
};

/// All places.
pub(super) struct Slab {
    flows: Mapping<Flow>,
    /// One more than the id of the first free place that was used before; 0 for none.
    free: u64,
    /// Places from here on were never used.
    fresh: FlowId,
    live: u32,
}

impl Slab {
    pub(super) fn octets(capacity: u32) -> usize {
        Mapping::<Flow>::octets(capacity as usize)
    }

    pub(super) fn new(capacity: u32, residence: Residence) -> io::Result<Self> {
        Ok(Self { flows: Mapping::new(capacity as usize, residence)?, free: 0, fresh: 0, live: 0 })
    }

    /// Puts a flow into a free place; `None` when there is none.
    pub(super) fn insert(&mut self, flow: Flow) -> Option<FlowId> {
        debug_assert!(flow.packets != 0, "a flow without packets would look free");
        let id = match u32::try_from(self.free.checked_sub(1).unwrap_or(u64::MAX)) {
            Ok(id) => {
                self.free = self.flows[id as usize].words[0];
                // The next new flow is likely to follow soon.
                if let Some(next) = self.free.checked_sub(1).and_then(|next| usize::try_from(next).ok()) {
                    prefetch(&self.flows, next);
                }
                id
            }
            Err(_) if (self.fresh as usize) < self.flows.len() => {
                self.fresh += 1;
                self.fresh - 1
            }
            Err(_) => return None,
        };
        self.flows[id as usize] = flow;
        self.live += 1;
        Some(id)
    }

    /// Frees the place of a live flow.
    pub(super) fn remove(&mut self, id: FlowId) {
        let flow = &mut self.flows[id as usize];
        debug_assert!(flow.packets != 0, "only a live flow is removed");
        flow.packets = 0;
        flow.words[0] = self.free;
        self.free = u64::from(id) + 1;
        self.live -= 1;
    }

    /// Places that were ever used: no id beyond holds a flow.
    pub(super) fn used(&self) -> FlowId {
        self.fresh
    }

    pub(super) fn live(&self) -> u32 {
        self.live
    }

    /// Free places.
    pub(super) fn room(&self) -> usize {
        self.flows.len() - self.live as usize
    }

    /// What lies at a place, if there is such a place.
    #[inline(always)]
    pub(super) fn get(&self, id: FlowId) -> Option<&Flow> {
        self.flows.get(id as usize)
    }

    #[inline(always)]
    pub(super) fn prefetch(&self, id: FlowId) {
        prefetch(&self.flows, id as usize);
    }
}

impl Index<FlowId> for Slab {
    type Output = Flow;

    #[inline(always)]
    fn index(&self, id: FlowId) -> &Flow {
        &self.flows[id as usize]
    }
}

impl IndexMut<FlowId> for Slab {
    #[inline(always)]
    fn index_mut(&mut self, id: FlowId) -> &mut Flow {
        &mut self.flows[id as usize]
    }
}

#[cfg(test)]
mod tests {
    use probe_common::FlowKey;

    use super::*;
    use crate::flow::{Timestamp, live_flow::Seen};

    fn flow(packets: u64) -> Flow {
        let seen = Seen { packets, octets: 1, first: Timestamp(1), last: Timestamp(2), tcp_flags: 0xffff };
        Flow::new(&FlowKey::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 6, 0), &seen)
    }

    #[test]
    fn places_are_used_up_freed_and_used_again() {
        let mut slab = Slab::new(3, Residence::FromTheStart).unwrap();
        let ids: Vec<_> = (1..=3).map(|packets| slab.insert(flow(packets)).unwrap()).collect();
        assert_eq!(ids, [0, 1, 2]);
        assert_eq!(slab.insert(flow(4)), None);
        slab.remove(0);
        slab.remove(2);
        assert_eq!(slab.live(), 1);
        assert_eq!(slab.insert(flow(5)), Some(2));
        assert_eq!(slab.insert(flow(6)), Some(0));
        assert_eq!(slab.insert(flow(7)), None);
        assert_eq!([slab[0].packets, slab[1].packets, slab[2].packets], [6, 2, 5]);
    }

    #[test]
    fn tcp_flags_do_not_disturb_the_key() {
        let mut flow = flow(1);
        assert_eq!(flow.tcp_flags(), 0xfff);
        assert_eq!(flow.key(), FlowKey::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 6, 0));
        flow.packets = 0;
        assert!(!flow.is_for(&flow.key(), probe_common::KEY_BASE_MASK), "a free place is no flow");
    }
}
