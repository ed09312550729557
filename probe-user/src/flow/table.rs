// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The live flows: slots are merged in, records come out. Memory is fixed when the table is made.
//!
//! ```text
//! slot ─hash→ tag ─index→ id ─slab→ flow        wheel: ids by deadline
//! ```
//!
//! Merging works on 32 items at a time, so that the cache misses of a batch overlap: hash all and fetch
//! the index, probe the index and fetch the flows, then compare whole keys and count.
//!
//! The caller's part: `now` never runs ahead of what was merged. Whoever reads caches every second calls
//! [`FlowTable::expire`] with the time at which that reading began, else a flow could be taken for idle
//! while its packets wait to be read.

use probe_common::{Detail, FlowKey, HashSeed};

use super::{
    details::Details,
    expiry::{Expiry, ExpiryOptions},
    index::Index,
    live_flow::{Flow, FlowId, Seen},
    memory::{self, Residence},
    metered::Metered,
    options::{TableError, TableOptions},
    record::{EndReason, FlowRecord},
    slab::Slab,
    time::{Moment, Timestamp},
    wheel::Wheel,
};

/// Items in flight: enough to cover a miss, few enough that what was fetched is still there.
const BATCH: usize = 32;

/// Flows that an eviction may find to have gone on since they were armed. Each is then armed again,
/// which its packets have paid for; the bound is for the one packet that would pay for all at once.
const EVICTION_REARMS: usize = 256;
/// Flows near their active timeout that an eviction passes over.
const EVICTION_PASSES: usize = 4;

/// What is in the table, or has passed through it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Totals {
    /// Flows.
    pub flows: u64,
    /// Their packets.
    pub packets: u64,
    /// Their octets.
    pub octets: u64,
}

/// An order to export flows that are not over, carried out in steps by [`FlowTable::flush`].
#[derive(Clone, Copy, Debug)]
pub struct Flush {
    interface: Option<u32>,
    reason: EndReason,
    next: FlowId,
}

impl Flush {
    /// Every flow.
    #[must_use]
    pub fn all(reason: EndReason) -> Self {
        Self { interface: None, reason, next: 0 }
    }

    /// The flows seen on one interface (ifIndex).
    #[must_use]
    pub fn interface(index: u32, reason: EndReason) -> Self {
        Self { interface: Some(index), reason, next: 0 }
    }

    fn takes(&self, flow: &Flow) -> bool {
        flow.packets != 0 && self.interface.is_none_or(|index| flow.key().interface() == index)
    }
}

/// Live flows, in a fixed amount of memory.
pub struct FlowTable {
    index: Index,
    slab: Slab,
    details: Details,
    wheel: Wheel,
    expiry: Expiry,
    key_mask: u64,
    seed: HashSeed,
    capacity: u32,
    live_packets: u64,
    live_octets: u64,
    created: u64,
    expired: [u64; EndReason::ALL.len()],
}

impl FlowTable {
    /// The most flows that a table can hold.
    pub const MOST_FLOWS: u32 = 1 << 30;

    /// Octets of memory that a table for `capacity` flows takes, with their details or without.
    #[must_use]
    pub fn memory_octets(capacity: u32, details: bool) -> u64 {
        let details = Details::octets(capacity, details);
        let parts = [Index::octets(capacity), Slab::octets(capacity), Wheel::octets(capacity), details];
        parts.iter().map(|&octets| octets as u64).sum()
    }

    /// Makes an empty table; all its memory is resident afterwards. `start` is the time from which the
    /// timers run.
    pub fn new(options: TableOptions, start: Timestamp) -> Result<Self, TableError> {
        Self::with_memory(options, start, Residence::FromTheStart)
    }

    /// The same, but memory becomes resident as flows come: for a file, which can wait for it, and which
    /// seldom has as many flows as there is room for.
    pub fn on_demand(options: TableOptions, start: Timestamp) -> Result<Self, TableError> {
        Self::with_memory(options, start, Residence::AsUsed)
    }

    fn with_memory(
        options: TableOptions,
        start: Timestamp,
        residence: Residence,
    ) -> Result<Self, TableError> {
        let TableOptions { capacity: flows, idle, active, tcp_end, spread, key_mask, details, seed } =
            options;
        let capacity = u32::try_from(flows)
            .ok()
            .filter(|capacity| (1..=Self::MOST_FLOWS).contains(capacity))
            .ok_or(TableError::Capacity { asked: flows, most: Self::MOST_FLOWS })?;
        let needed = Self::memory_octets(capacity, details);
        if let Some(available) = memory::available().filter(|&available| available < needed) {
            return Err(TableError::Scarce { flows, needed, available });
        }
        let refused = |source| TableError::Refused { flows, needed, source };
        Ok(Self {
            index: Index::new(capacity, residence).map_err(refused)?,
            slab: Slab::new(capacity, residence).map_err(refused)?,
            details: Details::new(capacity, details, residence).map_err(refused)?,
            wheel: Wheel::new(capacity, start, residence).map_err(refused)?,
            expiry: Expiry::new(ExpiryOptions { idle, active, tcp_end, spread }, seed, key_mask),
            key_mask,
            seed,
            capacity,
            live_packets: 0,
            live_octets: 0,
            created: 0,
            expired: [0; EndReason::ALL.len()],
        })
    }

    /// Most flows at a time.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// What is in the table now.
    #[must_use]
    pub fn live(&self) -> Totals {
        Totals { flows: self.slab.live().into(), packets: self.live_packets, octets: self.live_octets }
    }

    /// Flows created since the start.
    #[must_use]
    pub fn created(&self) -> u64 {
        self.created
    }

    /// Flows exported for this reason since the start.
    #[must_use]
    pub fn expired(&self, reason: EndReason) -> u64 {
        self.expired[reason as usize - 1]
    }

    /// Whether flows keep details.
    #[must_use]
    pub fn keeps_details(&self) -> bool {
        self.details.are_kept()
    }

    /// Which bits of key word 5 make flows differ.
    #[must_use]
    pub fn key_mask(&self) -> u64 {
        self.key_mask
    }

    /// The seed of its hash.
    #[must_use]
    pub fn seed(&self) -> HashSeed {
        self.seed
    }

    /// The hash by which an engine in user space samples flows before they come here.
    #[must_use]
    pub fn sampling_hash(&self, key: &FlowKey) -> u32 {
        self.seed.sampling(self.seed.hash(key, self.key_mask))
    }

    /// The options that may change.
    #[must_use]
    pub fn options(&self) -> ExpiryOptions {
        self.expiry.options
    }

    /// Changes them. Live flows follow the new ones from the next step of the timer on.
    pub fn set_options(&mut self, options: ExpiryOptions) {
        if options != self.expiry.options {
            self.expiry = Expiry::new(options, self.seed, self.key_mask);
            self.wheel.look_at_all();
        }
    }

    /// Counts what was metered. Flows that this shows to be over, or that have to make room, come out as
    /// records: one an item at most.
    pub fn merge<M: Metered>(&mut self, batch: &[M], moment: Moment, out: &mut Vec<FlowRecord>) {
        self.expiry.follow(moment);
        for items in batch.chunks(BATCH) {
            let mut tags = [0; BATCH];
            for (tag, item) in tags.iter_mut().zip(items) {
                *tag = self.tag(&item.key());
                self.index.prefetch(*tag);
            }
            let mut guesses = [FlowId::MAX; BATCH];
            let mut unknown = 0;
            for (guess, &tag) in guesses.iter_mut().zip(&tags[..items.len()]) {
                *guess = self.index.guess(tag);
                self.slab.prefetch(*guess);
                // Known when this is compiled: slots without details do not ask.
                if items[0].detail().is_some() {
                    self.details.prefetch(*guess);
                }
                if *guess == FlowId::MAX {
                    unknown += 1;
                    self.index.prefetch_overflow(tag);
                }
            }
            if unknown > self.slab.room() {
                self.fetch_oldest(unknown - self.slab.room());
            }
            for ((item, &tag), &guess) in items.iter().zip(&tags).zip(&guesses) {
                self.merge_one(item, tag, guess, moment, out);
            }
        }
    }

    /// Exports flows that are over at `moment.now`, looking at `budget` flows at most (one at least).
    /// Returns whether more are due.
    pub fn expire(&mut self, moment: Moment, budget: usize, out: &mut Vec<FlowRecord>) -> bool {
        self.expiry.follow(moment);
        let mut left = budget.max(1);
        let mut ids = [0; BATCH];
        while left > 0 {
            let taken = self.wheel.due(moment.now, &mut ids[..BATCH.min(left)]);
            if taken == 0 {
                return false;
            }
            left -= taken;
            let ids = &ids[..taken];
            let tags = self.fetch(ids);
            for (&id, &tag) in ids.iter().zip(&tags) {
                let deadline = self.expiry.deadline(&self.slab[id]);
                if moment.now >= deadline.at {
                    self.export(id, tag, deadline.reason, moment, out);
                } else {
                    self.wheel.disarm(id);
                    self.wheel.arm(id, deadline.at);
                }
            }
        }
        self.wheel.is_due(moment.now)
    }

    /// Exports the flows that have been quiet for longest, `flows` of them at most, as if the table were full.
    /// Returns how many.
    pub fn evict_oldest(&mut self, flows: usize, moment: Moment, out: &mut Vec<FlowRecord>) -> usize {
        self.expiry.follow(moment);
        let goal = flows.min(self.slab.live() as usize);
        for done in 0..goal {
            if done % BATCH == 0 {
                self.fetch_oldest(goal - done);
            }
            self.evict(moment, out);
        }
        goal
    }

    /// Carries out a step of `flush`, looking at `budget` places at most (one at least). Returns whether
    /// there are more; call it again until there are none. Every flow that was live when the flush was
    /// made has left the table then; flows created meanwhile may or may not have.
    pub fn flush(
        &mut self,
        flush: &mut Flush,
        moment: Moment,
        budget: usize,
        out: &mut Vec<FlowRecord>,
    ) -> bool {
        let places = u32::try_from(budget.max(1)).unwrap_or(u32::MAX);
        let end = flush.next.saturating_add(places).min(self.slab.used());
        let mut ids = [0; BATCH];
        while flush.next < end {
            let mut taken = 0;
            while flush.next < end && taken < BATCH {
                if flush.takes(&self.slab[flush.next]) {
                    ids[taken] = flush.next;
                    taken += 1;
                }
                flush.next += 1;
            }
            let tags = self.fetch(&ids[..taken]);
            for (&id, &tag) in ids[..taken].iter().zip(&tags) {
                self.export(id, tag, flush.reason, moment, out);
            }
        }
        flush.next < self.slab.used() && self.slab.live() > 0
    }

    /// The live flows as records with reason `Forced`, to look at; they stay.
    pub fn snapshot(&self, moment: Moment) -> impl Iterator<Item = FlowRecord> + '_ {
        (0..self.slab.used())
            .map(|id| (id, &self.slab[id]))
            .filter(|(_, flow)| flow.packets != 0)
            .map(move |(id, flow)| flow.record(self.details.of(id), EndReason::Forced, moment))
    }

    #[inline(always)]
    fn tag(&self, key: &FlowKey) -> u32 {
        let [a, b, c, d, ..] = self.seed.hash(key, self.key_mask).to_be_bytes();
        // 0 is no tag.
        u32::from_be_bytes([a, b, c, d]).max(1)
    }

    #[inline(always)]
    fn merge_one<M: Metered>(
        &mut self,
        item: &M,
        tag: u32,
        guess: FlowId,
        moment: Moment,
        out: &mut Vec<FlowRecord>,
    ) {
        let packets = item.packets();
        if packets == 0 {
            return;
        }
        let key = item.key();
        let (first, last) = (item.first(moment.now), item.last(moment.now));
        let seen = Seen {
            packets,
            octets: item.octets(),
            first,
            last: first.max(last),
            tcp_flags: item.tcp_flags(),
        };
        self.live_packets += seen.packets;
        self.live_octets += seen.octets;
        // The guess may be another flow with the same tag, or have left since; then the index is asked.
        // Nothing but the whole key decides.
        let is_it = |id| self.slab.get(id).is_some_and(|flow| flow.is_for(&key, self.key_mask));
        let id = if is_it(guess) {
            guess
        } else {
            match self.index.find(tag, is_it) {
                Some(id) => id,
                None => return self.create(&key, &seen, item.detail(), tag, moment, out),
            }
        };
        let flow = &mut self.slab[id];
        if let Some(reason) = self.expiry.reason_before(flow, &seen) {
            self.restart(id, &key, &seen, reason, moment, out);
            return self.details.begin(id, item.detail());
        }
        let had_ended = self.expiry.has_ended(flow);
        let starts_earlier = seen.first < flow.first;
        flow.add(&seen);
        if let Some(detail) = item.detail() {
            self.details.add(id, detail, starts_earlier);
        }
        // Packets only put a deadline off, which the wheel finds out in time; these bring it nearer.
        if starts_earlier || self.expiry.has_ended(flow) != had_ended {
            self.rearm(id);
        }
    }

    #[cold]
    fn rearm(&mut self, id: FlowId) {
        let deadline = self.expiry.deadline(&self.slab[id]);
        self.wheel.disarm(id);
        self.wheel.arm(id, deadline.at);
    }

    fn create(
        &mut self,
        key: &FlowKey,
        seen: &Seen,
        detail: Option<&Detail>,
        tag: u32,
        moment: Moment,
        out: &mut Vec<FlowRecord>,
    ) {
        let flow = Flow::new(key, seen);
        let place = self.slab.insert(flow).or_else(|| {
            self.evict(moment, out);
            self.slab.insert(flow)
        });
        if let Some(id) = place {
            self.index.insert(tag, id);
            self.details.begin(id, detail);
            self.wheel.arm(id, self.expiry.deadline(&flow).at);
            self.created += 1;
        }
    }

    /// Ends a flow and begins its successor in the same place.
    #[cold]
    fn restart(
        &mut self,
        id: FlowId,
        key: &FlowKey,
        seen: &Seen,
        reason: EndReason,
        moment: Moment,
        out: &mut Vec<FlowRecord>,
    ) {
        self.note_export(id, reason, moment, out);
        self.slab[id] = Flow::new(key, seen);
        self.created += 1;
        self.rearm(id);
    }

    /// Exports the flow that has been quiet for longest, as far as the wheel knows: to a step of it
    /// (134 ms) among flows whose idle timeout comes before their active one. A flow that would be
    /// exported soon because of its active timeout may go before a quieter one.
    fn evict(&mut self, moment: Moment, out: &mut Vec<FlowRecord>) {
        let mut oldest: Option<(Timestamp, FlowId)> = None;
        let (mut rearms, mut passes) = (0, 0);
        while let Some((step, id)) = self.wheel.earliest() {
            let flow = &self.slab[id];
            let deadline = self.expiry.deadline(flow);
            if oldest.is_none_or(|(last, _)| flow.last < last) {
                oldest = Some((flow.last, id));
            }
            if self.wheel.belongs_after(step, deadline.at) {
                rearms += 1;
            } else if deadline.reason == EndReason::Active {
                passes += 1;
            } else {
                // In its place, and there because it is quiet: nobody has been quiet for longer.
                oldest = Some((flow.last, id));
                break;
            }
            if rearms == EVICTION_REARMS || passes == EVICTION_PASSES {
                break;
            }
            // At the end of the list it belongs to, so that the next one comes to the front.
            self.wheel.disarm(id);
            self.wheel.arm(id, deadline.at);
        }
        if let Some((_, id)) = oldest {
            let tag = self.tag(&self.slab[id].key());
            self.export(id, tag, EndReason::LackOfResources, moment, out);
        }
    }

    /// Fetches the flows that are likely to make room for this many new ones.
    #[cold]
    fn fetch_oldest(&self, flows: usize) {
        let mut ids = [0; BATCH];
        let taken = self.wheel.peek(&mut ids[..flows.min(BATCH)]);
        self.fetch(&ids[..taken]);
    }

    /// Fetches flows and their index entries; returns their tags.
    fn fetch(&self, ids: &[FlowId]) -> [u32; BATCH] {
        for &id in ids {
            self.slab.prefetch(id);
            self.details.prefetch(id);
        }
        let mut tags = [0; BATCH];
        for (tag, &id) in tags.iter_mut().zip(ids) {
            *tag = self.tag(&self.slab[id].key());
            self.index.prefetch(*tag);
        }
        for &tag in &tags[..ids.len()] {
            self.index.prefetch_overflow(tag);
        }
        tags
    }

    /// Takes a flow out of the table.
    fn export(&mut self, id: FlowId, tag: u32, reason: EndReason, moment: Moment, out: &mut Vec<FlowRecord>) {
        self.note_export(id, reason, moment, out);
        self.wheel.disarm(id);
        let indexed = self.index.remove(tag, id);
        debug_assert!(indexed, "every live flow is in the index");
        self.slab.remove(id);
    }

    fn note_export(&mut self, id: FlowId, reason: EndReason, moment: Moment, out: &mut Vec<FlowRecord>) {
        let flow = &self.slab[id];
        self.live_packets -= flow.packets;
        self.live_octets -= flow.octets;
        self.expired[reason as usize - 1] += 1;
        out.push(flow.record(self.details.of(id), reason, moment));
    }
}
