// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One step of a harvester: drain → merge → expire → enqueue, of its range of the sets of all caches. Who owns it calls
//! `step` in a loop on a pinned core; nothing here reads a clock or waits, but for the end in `finish`.

use super::{Cycle, Outlet, Part, batch::Batch, cycle::Harvest, swap::Swap};
use crate::{
    flow::{EndReason, ExpiryOptions, FlowTable, Flush, Moment, Timestamp, Totals},
    meter::Turn,
    overload::{Gauge, Rung},
    slots::{Bank, CacheReader, SpillReader},
};

/// Records taken from one ring before the next ring has its turn: 64 KiB, half of L2 stays for flows.
const RING_BATCH: usize = 1024;
/// Sets read from the quiet halves between two looks at the rings.
const SETS: usize = 256;
/// Flows looked at for expiry between two looks at the rings.
const EXPIRE: usize = 2048;

/// What others ask of a harvester.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// Export all flows that were seen on this interface (it is gone or down).
    FlushInterface(u32),
    /// Follow other timeouts from now on.
    SetExpiry(ExpiryOptions),
}

/// A flush that was asked for. It is ready when an epoch has ended that was flipped since: only then is all merged that
/// had been counted for the interface.
struct PendingFlush {
    interface: u32,
    /// When it was asked for; nothing once it is ready.
    asked: Option<Timestamp>,
    flush: Flush,
}

/// Whether a step found anything to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Activity {
    /// Call again at once.
    Busy,
    /// Rest for a moment.
    Idle,
}

/// See the module.
pub struct Harvester {
    number: usize,
    cycle: Cycle,
    pub(super) rings: Vec<SpillReader>,
    caches: Vec<CacheReader>,
    /// The cache that is being read.
    cache: usize,
    pub(super) table: FlowTable,
    pub(super) outlet: Outlet,
    /// Timeouts as asked for; those of the table are shorter under overload.
    pub(super) configured: ExpiryOptions,
    /// What the governor is told, if there is one.
    pub(super) gauge: Option<Gauge>,
    /// The rung that the table follows.
    pub(super) rung: Rung,
    /// How full the fullest ring was found since somebody asked, 0 to 1.
    pub(super) fullest: f64,
    batch: Batch,
    swap: Swap,
    /// The last turn whose quiet half was merged.
    done: Turn,
    /// What was merged of each epoch (even, odd).
    merged: [Totals; 2],
    /// Interfaces whose flows are to be exported.
    flush: Vec<PendingFlush>,
    part: Part,
}

impl Harvester {
    /// Harvester number `number` of `cycle`: the reader of that range of the banks.
    #[must_use]
    pub fn new(number: usize, banks: &[Bank], cycle: Cycle, table: FlowTable, outlet: Outlet) -> Self {
        let range = u32::try_from(number).unwrap_or(u32::MAX);
        let details = banks.iter().any(Bank::has_details);
        let mut harvester = Self {
            number,
            cycle,
            rings: banks.iter().flat_map(|bank| bank.spill_readers(range)).collect(),
            caches: banks.iter().map(|bank| bank.cache_reader(range)).collect(),
            cache: 0,
            configured: table.options(),
            table,
            outlet,
            gauge: None,
            rung: Rung::NORMAL,
            fullest: 0.0,
            batch: Batch::new(details, RING_BATCH.max(SETS * probe_common::WAYS)),
            swap: Swap::Resting,
            done: Turn::default(),
            merged: [Totals::default(); 2],
            flush: Vec::new(),
            part: Part::default(),
        };
        harvester.count_part();
        harvester.cycle.publish(number, &harvester.part);
        harvester
    }

    /// Tells `gauge` how full everything is, and follows its rung.
    #[must_use]
    pub fn gauged_by(mut self, gauge: Option<Gauge>) -> Self {
        self.gauge = gauge;
        self
    }

    /// Does what `command` asks, as soon as all that was counted until now has been merged.
    pub fn command(&mut self, command: Command, moment: Moment) {
        match command {
            Command::FlushInterface(index) => {
                if self.flush.iter().all(|known| known.asked.is_none() || known.interface != index) {
                    let flush = Flush::interface(index, EndReason::Forced);
                    self.flush.push(PendingFlush { interface: index, asked: Some(moment.now), flush });
                }
                self.cycle.hurry();
            }
            Command::SetExpiry(options) => {
                self.configured = options;
                let governed = self.gauge.as_ref().map(|gauge| gauge.expiry(options));
                self.table.set_options(governed.unwrap_or(options));
            }
        }
    }

    /// One turn.
    pub fn step(&mut self, moment: Moment) -> Activity {
        let drained = self.drain_rings(moment);
        let advanced = self.advance(moment);
        self.outlet.push();
        self.note_queue();
        if drained || advanced { Activity::Busy } else { Activity::Idle }
    }

    /// How full the fullest ring was found since the last call, 0 to 1: whether its owner rested for too long.
    pub fn take_fullest(&mut self) -> f64 {
        std::mem::take(&mut self.fullest)
    }

    /// Records that each ring holds.
    #[must_use]
    pub fn ring_records(&self) -> usize {
        self.rings.iter().map(SpillReader::records).min().unwrap_or(0)
    }

    /// Takes a batch from every ring; returns whether there was anything.
    fn drain_rings(&mut self, moment: Moment) -> bool {
        let mut any = false;
        for ring in 0..self.rings.len() {
            self.batch.clear();
            self.note_ring(ring);
            if self.batch.drain_ring(&mut self.rings[ring], RING_BATCH) > 0 {
                any = true;
                self.merge(moment);
            }
        }
        any
    }

    fn merge(&mut self, moment: Moment) {
        self.batch.merge(&mut self.merged, &mut self.table, moment, self.outlet.pending());
    }

    /// Moves the harvest on; returns whether there was anything to do.
    fn advance(&mut self, moment: Moment) -> bool {
        let swap = std::mem::replace(&mut self.swap, Swap::Resting);
        self.swap = match swap {
            Swap::Resting => match self.cycle.begun_after(self.done) {
                Some(harvest) => self.begin(harvest),
                None => return false,
            },
            Swap::Reading { harvest, heads } if self.read_quiet(moment) => Swap::Reading { harvest, heads },
            Swap::Reading { harvest, heads } => Swap::CatchingUp { harvest, heads },
            Swap::CatchingUp { harvest, heads } => {
                if self.rings.iter().zip(&heads).all(|(ring, head)| ring.tail() >= *head) {
                    let quiet = (harvest.turn.epoch() ^ 1) as usize;
                    self.part.complete[quiet] = self.merged[quiet];
                    Swap::Expiring { harvest }
                } else {
                    Swap::CatchingUp { harvest, heads }
                }
            }
            Swap::Expiring { harvest } if self.expire(harvest, moment) => Swap::Expiring { harvest },
            Swap::Expiring { harvest } => {
                self.note_table();
                Swap::Relieving { harvest, flows: self.relief() }
            }
            Swap::Relieving { harvest, flows: 0 } => {
                self.outlet.push();
                self.count_part();
                self.done = harvest.turn;
                self.cycle.finish(self.number, self.done, &self.part);
                Swap::Resting
            }
            Swap::Relieving { harvest, flows } => {
                Swap::Relieving { harvest, flows: self.evict(flows, moment) }
            }
        };
        true
    }

    fn begin(&mut self, harvest: Harvest) -> Swap {
        for pending in &mut self.flush {
            pending.asked = pending.asked.filter(|asked| harvest.flipped.now < *asked);
        }
        for cache in &mut self.caches {
            cache.begin(harvest.turn.epoch() ^ 1);
        }
        self.cache = 0;
        Swap::Reading { harvest, heads: self.rings.iter().map(SpillReader::head).collect() }
    }

    /// Reads some sets of the quiet halves; returns whether there are more.
    fn read_quiet(&mut self, moment: Moment) -> bool {
        let Some(cache) = self.caches.get_mut(self.cache) else { return false };
        self.batch.clear();
        if !self.batch.drain_cache(cache, SETS) {
            self.cache += 1;
        }
        self.merge(moment);
        self.cache < self.caches.len()
    }

    /// Exports some of the flows that are over; returns whether there are more.
    fn expire(&mut self, harvest: Harvest, moment: Moment) -> bool {
        // Judged by the time of the flip: what came later may not be merged yet.
        let judged = Moment { now: harvest.flipped.now, wall: moment.wall };
        if self.may_expire() && self.table.expire(judged, EXPIRE, self.outlet.pending()) {
            return true;
        }
        let ready = |pending: &PendingFlush| pending.asked.is_none();
        let Some(at) = self.flush.iter().position(ready) else { return false };
        if !self.table.flush(&mut self.flush[at].flush, moment, EXPIRE, self.outlet.pending()) {
            self.flush.remove(at);
        }
        if self.flush.iter().any(|pending| pending.asked.is_some()) {
            self.cycle.hurry();
        }
        self.flush.iter().any(ready)
    }

    /// The end, when the swapper has finished: exports every flow, waiting for room in the queue as long as
    /// `more_time` allows.
    pub fn finish(&mut self, mut clock: impl FnMut() -> Moment, mut wait_for_room: impl FnMut() -> bool) {
        // A harvest that is under way is done, and whatever is left in the rings merged.
        while self.drain_rings(clock()) || self.advance(clock()) {}
        let mut all = Flush::all(EndReason::Forced);
        while self.table.flush(&mut all, clock(), EXPIRE, self.outlet.pending()) {
            self.push_all(&mut wait_for_room);
        }
        self.push_all(&mut wait_for_room);
        self.count_part();
        self.cycle.publish(self.number, &self.part);
    }

    fn push_all(&mut self, wait_for_room: &mut impl FnMut() -> bool) {
        while !self.outlet.push_or_keep() {
            if !wait_for_room() {
                self.outlet.push();
            }
        }
    }

    fn count_part(&mut self) {
        let part = &mut self.part;
        part.spill_fill = self.rings.iter().map(SpillReader::fill_ratio).collect();
        let ahead = |count: fn(&Totals) -> u64| {
            (0..2).map(|epoch| count(&self.merged[epoch]) - count(&part.complete[epoch])).sum()
        };
        part.ahead = Totals {
            flows: 0,
            packets: ahead(|totals| totals.packets),
            octets: ahead(|totals| totals.octets),
        };
        part.live = self.table.live();
        part.capacity = self.table.capacity() as u64;
        part.created = self.table.created();
        part.expired = EndReason::ALL.map(|reason| self.table.expired(reason));
        part.exported = self.outlet.exported();
        part.queue_length = self.outlet.fill().0 as u64;
        part.queue_full = self.outlet.lost();
    }
}
