// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One step of the harvester: drain → merge → expire → enqueue. Who owns it calls `step` in a loop on a
//! pinned core; nothing here reads a clock or waits, but for the end in `finish`.

use std::{sync::Arc, time::Duration};

use probe_common::Counters;

use super::{HarvestReport, Imbalance, Outlet, SharedReport, batch::Batch, swap::Swap};
use crate::{
    flow::{EndReason, ExpiryOptions, FlowTable, Flush, Moment, SamplingNow, Totals},
    kernel::{BarrierThread, ControlMap, KernelError},
    overload::Governor,
    slots::{Bank, CacheReader, CounterReader, SpillReader},
    telemetry::metrics::HistogramCounters,
};

/// Records taken from one ring before the next ring has its turn: 64 KiB, half of L2 stays for flows.
const RING_BATCH: usize = 1024;
/// Sets read from the quiet half between two looks at the rings.
const SETS: usize = 256;
/// Flows looked at for expiry between two looks at the rings.
const EXPIRE: usize = 2048;
/// A barrier that takes longer than this at the end means that the kernel is stuck.
const BARRIER_LIMIT: Duration = Duration::from_secs(2);

/// How to harvest.
#[derive(Clone, Debug)]
pub struct HarvestOptions {
    /// Time from one swap to the next.
    pub interval: Duration,
    /// Where the time from each flip to the end of its harvest is counted.
    pub durations: Arc<HistogramCounters>,
}

/// What others ask of the harvester.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// Export all flows that came in on this interface (it is gone or down).
    FlushInterface(u32),
    /// Follow other timeouts from now on.
    SetExpiry(ExpiryOptions),
}

/// A flush that was asked for. It is ready when an epoch has ended since: only then is all merged that the
/// kernel had counted for the interface.
struct PendingFlush {
    interface: u32,
    ready: bool,
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
    options: HarvestOptions,
    pub(super) rings: Vec<SpillReader>,
    cache: CacheReader,
    pub(super) control: Arc<ControlMap>,
    /// The epoch that is written now.
    active: u32,
    counters: CounterReader,
    barrier: BarrierThread,
    pub(super) table: FlowTable,
    pub(super) outlet: Outlet,
    /// Timeouts as asked for; those of the table are shorter under overload.
    pub(super) configured: ExpiryOptions,
    /// Decides what to do about an overload, if anything is to be done.
    pub(super) governor: Option<Governor>,
    pub(super) sampling: SamplingNow,
    batch: Batch,
    swap: Swap,
    /// When the epoch was flipped last: once that epoch is merged, no packet of an earlier time is missing, so
    /// this is the time by which flows may be judged idle.
    flipped: Moment,
    /// What was merged of each epoch (even, odd).
    merged: [Totals; 2],
    /// The same when that epoch was last quiet and complete.
    complete: [Totals; 2],
    /// The kernel's counters of each CPU and epoch at that time.
    frozen: Vec<[Counters; 2]>,
    imbalance: [Imbalance; 2],
    /// Interfaces whose flows are to be exported after the next swap.
    flush: Vec<PendingFlush>,
    report: HarvestReport,
    shared: SharedReport,
}

impl Harvester {
    /// A harvester of a bank. `start` is now.
    #[must_use]
    pub fn new(
        options: HarvestOptions,
        bank: &Bank,
        control: Arc<ControlMap>,
        barrier: BarrierThread,
        table: FlowTable,
        outlet: Outlet,
        start: Moment,
    ) -> Self {
        let (spill, cache, counters) = (bank.spill_readers(0), bank.cache_reader(0), bank.counter_reader());
        let cpus = counters.rows();
        let batch = Batch::new(cache.has_details(), RING_BATCH.max(SETS * probe_common::WAYS));
        let mut harvester = Self {
            options,
            rings: spill,
            cache,
            control,
            active: 0,
            counters,
            barrier,
            configured: table.options(),
            table,
            outlet,
            governor: None,
            sampling: SamplingNow::default(),
            batch,
            swap: Swap::Resting,
            flipped: start,
            merged: [Totals::default(); 2],
            complete: [Totals::default(); 2],
            frozen: vec![[Counters::default(); 2]; cpus],
            imbalance: [Imbalance::default(); 2],
            flush: Vec::new(),
            report: HarvestReport::default(),
            shared: SharedReport::default(),
        };
        harvester.publish();
        harvester
    }

    /// Lets `governor` act when more comes than can be taken. Without one, what is too much is counted as lost.
    #[must_use]
    pub fn governed_by(mut self, governor: Option<Governor>) -> Self {
        self.governor = governor;
        self
    }

    /// Where the counts can be read from.
    #[must_use]
    pub fn shared_report(&self) -> SharedReport {
        self.shared.clone()
    }

    /// Does what `command` asks, as soon as all that the kernel holds now has been merged.
    pub fn command(&mut self, command: Command) {
        match command {
            Command::FlushInterface(index) => {
                if self.flush.iter().all(|known| known.ready || known.interface != index) {
                    let flush = Flush::interface(index, EndReason::Forced);
                    self.flush.push(PendingFlush { interface: index, ready: false, flush });
                }
            }
            Command::SetExpiry(options) => {
                self.configured = options;
                let governed = self.governor.as_ref().map(|governor| governor.expiry(options));
                self.table.set_options(governed.unwrap_or(options));
            }
        }
    }

    /// One turn.
    ///
    /// # Errors
    /// When the kernel fails to wait for running programs: without that, reading would lose counts.
    pub fn step(&mut self, moment: Moment) -> Result<Activity, KernelError> {
        let drained = self.drain_rings(moment);
        let swapped = self.advance(moment)?;
        self.outlet.push();
        self.note_queue(moment.now)?;
        Ok(if drained || swapped { Activity::Busy } else { Activity::Idle })
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

    /// Moves the swap on; returns whether there was anything to do.
    fn advance(&mut self, moment: Moment) -> Result<bool, KernelError> {
        let swap = std::mem::replace(&mut self.swap, Swap::Resting);
        let (next, busy) = match swap {
            Swap::Resting => {
                let since = moment.now.since(self.flipped.now);
                if since < self.options.interval && self.flush.is_empty() {
                    (Swap::Resting, false)
                } else {
                    self.flip(moment)?;
                    (Swap::Waiting, true)
                }
            }
            Swap::Waiting if self.barrier.is_done()? => {
                (Swap::Reading { heads: self.rings.iter().map(SpillReader::head).collect() }, true)
            }
            Swap::Waiting => (Swap::Waiting, false),
            Swap::Reading { heads } => {
                if self.read_quiet(moment) {
                    (Swap::Reading { heads }, true)
                } else {
                    (Swap::CatchingUp { heads }, true)
                }
            }
            Swap::CatchingUp { heads } => {
                if self.rings.iter().zip(&heads).all(|(ring, head)| ring.tail() >= *head) {
                    self.freeze();
                    (Swap::Expiring, true)
                } else {
                    (Swap::CatchingUp { heads }, true)
                }
            }
            Swap::Expiring => {
                if self.expire(moment) {
                    (Swap::Expiring, true)
                } else {
                    self.judge(self.flipped.now)?;
                    (self.relieve(), true)
                }
            }
            Swap::Relieving { flows } => {
                if flows > 0 {
                    (Swap::Relieving { flows: self.evict(flows, moment) }, true)
                } else {
                    self.options.durations.observe(moment.now.since(self.flipped.now));
                    self.report.swaps += 1;
                    self.outlet.push();
                    self.publish();
                    (Swap::Resting, true)
                }
            }
        };
        self.swap = next;
        Ok(busy)
    }

    fn flip(&mut self, moment: Moment) -> Result<(), KernelError> {
        self.flipped = moment;
        for pending in &mut self.flush {
            pending.ready = true;
        }
        self.control.set_epoch(self.active ^ 1)?;
        self.active ^= 1;
        self.cache.begin(self.active ^ 1);
        self.barrier.request()
    }

    /// Reads some sets of the quiet half; returns whether there are more.
    fn read_quiet(&mut self, moment: Moment) -> bool {
        self.batch.clear();
        let more = self.batch.drain_cache(&mut self.cache, SETS);
        self.merge(moment);
        more
    }

    /// All of the epoch that ended is merged: its kernel counters stand still, so they can be compared.
    fn freeze(&mut self) {
        let quiet = (self.active ^ 1) as usize;
        self.complete[quiet] = self.merged[quiet];
        let mut sum = Counters::default();
        for (cpu, frozen) in self.frozen.iter_mut().enumerate() {
            frozen[quiet] = self.counters.of(cpu, self.active ^ 1);
            sum = sum.plus(&frozen[quiet]);
        }
        let difference = |kernel: u64, user: u64| kernel.wrapping_sub(user).cast_signed();
        let merged = self.complete[quiet];
        // Counts only grow, so the latest difference of each epoch holds all earlier ones.
        self.imbalance[quiet] = Imbalance {
            packets: difference(sum.metered_packets, merged.packets + sum.lost_packets)
                + difference(sum.received_packets, sum.metered_packets + sum.unmetered_packets()),
            octets: difference(sum.metered_octets, merged.octets + sum.lost_octets),
        };
        let [even, odd] = self.imbalance;
        self.report.imbalance =
            Imbalance { packets: even.packets + odd.packets, octets: even.octets + odd.octets };
    }

    /// Exports some of the flows that are over; returns whether there are more.
    fn expire(&mut self, moment: Moment) -> bool {
        // Judged by the time of the flip: what came later may not be merged yet.
        let judged = Moment { now: self.flipped.now, wall: moment.wall };
        if self.may_expire() && self.table.expire(judged, EXPIRE, self.outlet.pending()) {
            return true;
        }
        let Some(pending) = self.flush.first_mut().filter(|pending| pending.ready) else { return false };
        if !self.table.flush(&mut pending.flush, moment, EXPIRE, self.outlet.pending()) {
            self.flush.remove(0);
        }
        self.flush.first().is_some_and(|pending| pending.ready)
    }

    /// The end: merges all that the kernel holds, then exports every flow, waiting for room in the queue
    /// as long as `more_time` allows. To be called when the program is detached.
    ///
    /// # Errors
    /// When the kernel fails to wait for running programs.
    pub fn finish(
        &mut self,
        mut clock: impl FnMut() -> Moment,
        mut wait_for_room: impl FnMut() -> bool,
    ) -> Result<(), KernelError> {
        if self.swap == Swap::Waiting {
            self.barrier.finish(BARRIER_LIMIT)?;
        }
        // Twice, so that both halves have been quiet once: the one that is quiet now may be half read.
        for half in 0..2 {
            if half == 1 {
                self.flip(clock())?;
            } else {
                self.barrier.request()?;
            }
            self.barrier.finish(BARRIER_LIMIT)?;
            while self.drain_rings(clock()) {}
            while self.read_quiet(clock()) {}
            self.freeze();
        }
        // The half that was quiet first was complete then; what was merged since belongs to the other.
        self.swap = Swap::Resting;
        let mut all = Flush::all(EndReason::Forced);
        while self.table.flush(&mut all, clock(), EXPIRE, self.outlet.pending()) {
            while !self.outlet.push_or_keep() {
                if !wait_for_room() {
                    self.outlet.push();
                }
            }
        }
        while !self.outlet.push_or_keep() {
            if !wait_for_room() {
                self.outlet.push();
            }
        }
        self.publish();
        Ok(())
    }

    fn publish(&mut self) {
        let overload = self.overload_status();
        let report = &mut self.report;
        report.cpus = self.frozen.iter().map(|[even, odd]| even.plus(odd)).collect();
        report.spill_fill = self.rings.iter().map(SpillReader::fill_ratio).collect();
        let ahead = |part: fn(&Totals) -> u64| {
            (0..2).map(|epoch| part(&self.merged[epoch]) - part(&self.complete[epoch])).sum()
        };
        report.ahead = Totals {
            flows: 0,
            packets: ahead(|totals| totals.packets),
            octets: ahead(|totals| totals.octets),
        };
        report.overload = overload;
        report.flow_sampling = self.sampling.interval();
        report.live = self.table.live();
        report.capacity = self.table.capacity() as u64;
        report.created = self.table.created();
        report.expired = EndReason::ALL.map(|reason| self.table.expired(reason));
        report.exported = self.outlet.exported();
        report.queue_full = self.outlet.lost();
        self.shared.write(report);
    }
}
