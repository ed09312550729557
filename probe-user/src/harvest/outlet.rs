// SPDX-License-Identifier: Apache-2.0 OR MIT
//! records → queue to the exporter. What finds no room is counted with its packets and octets.

use crate::{
    flow::{FlowRecord, Totals},
    queue::Producer,
};

/// The producer's end of the queue, with its counts.
pub struct Outlet {
    queue: Producer<FlowRecord>,
    /// Records that were expired and not yet offered to the queue.
    pending: Vec<FlowRecord>,
    exported: Totals,
    lost: Totals,
}

impl Outlet {
    /// An outlet into `queue`.
    #[must_use]
    pub fn new(queue: Producer<FlowRecord>) -> Self {
        Self {
            queue,
            pending: Vec::with_capacity(8192),
            exported: Totals::default(),
            lost: Totals::default(),
        }
    }

    /// Where the flow table puts its records.
    pub fn pending(&mut self) -> &mut Vec<FlowRecord> {
        &mut self.pending
    }

    /// Offers the pending records to the queue; those that find no room are lost.
    pub fn push(&mut self) {
        let taken = self.queue.push_slice(&self.pending);
        let (exported, lost) = self.pending.split_at(taken);
        add(&mut self.exported, exported);
        add(&mut self.lost, lost);
        self.pending.clear();
    }

    /// Offers the pending records and keeps those that find no room; returns whether all did.
    pub fn push_or_keep(&mut self) -> bool {
        let taken = self.queue.push_slice(&self.pending);
        add(&mut self.exported, &self.pending[..taken]);
        self.pending.drain(..taken);
        self.pending.is_empty()
    }

    /// What went into the queue.
    #[must_use]
    pub fn exported(&self) -> Totals {
        self.exported
    }

    /// What found no room.
    #[must_use]
    pub fn lost(&self) -> Totals {
        self.lost
    }

    /// What was expired and has not been offered to the queue, or found no room and was kept.
    #[must_use]
    pub fn waiting(&self) -> Totals {
        let mut totals = Totals::default();
        add(&mut totals, &self.pending);
        totals
    }

    /// Records in the queue, and how many it holds.
    #[must_use]
    pub fn fill(&self) -> (usize, usize) {
        (self.queue.len(), self.queue.capacity())
    }
}

fn add(totals: &mut Totals, records: &[FlowRecord]) {
    totals.flows += records.len() as u64;
    for record in records {
        totals.packets += record.packets;
        totals.octets += record.octets;
    }
}
