// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Makes the halves of all caches change places, again and again: flips the epoch, waits until nobody writes the quiet
//! halves any more, lets the harvesters read them, compares what they have read with what the writers say, and publishes
//! the result.
//!
//! Who owns it calls `step` in a loop on a thread of its own, because waiting for running programs takes some 10 ms.

use std::{sync::Arc, time::Duration};

use probe_common::Counters;

use super::{Activity, Cycle, HarvestReport, Imbalance, SharedReport, cycle::Harvest};
use crate::{
    bell::Bell,
    flow::{Moment, SamplingNow, Timestamp, Totals},
    kernel::{Barrier, ControlMap, KernelError},
    meter::{Turn, Turns},
    overload::Governor,
    slots::{Bank, CounterReader},
    telemetry::metrics::HistogramCounters,
};

/// Longest rest.
const REST: Duration = Duration::from_millis(100);
/// Longest rest where a governor may find that there is no time to lose: short against how long a ring lasts.
const URGENT: Duration = Duration::from_millis(2);

/// How to swap.
#[derive(Clone, Debug)]
pub struct SwapOptions {
    /// Time from one swap to the next.
    pub interval: Duration,
    /// Where the time from each flip to the end of its harvest is counted.
    pub durations: Arc<HistogramCounters>,
    /// Where the interval of the flow sampling in force is told: to workers, and to collectors.
    pub sampling: SamplingNow,
}

/// The programs in the kernel, as writers.
pub struct KernelWriters {
    /// Where they count.
    pub bank: Bank,
    /// What they are told.
    pub control: Arc<ControlMap>,
    /// What waits for those that run.
    pub barrier: Barrier,
}

/// The workers in user space, as writers.
pub struct WorkerWriters {
    /// Where they count.
    pub bank: Bank,
    /// What they are told, and what they have taken.
    pub turns: Turns,
}

/// Who counts packets.
#[derive(Default)]
pub struct Writers {
    /// In the kernel.
    pub kernel: Option<KernelWriters>,
    /// In user space.
    pub workers: Option<WorkerWriters>,
}

impl Writers {
    /// Their banks, in the order in which harvesters read them.
    #[must_use]
    pub fn banks(&self) -> Vec<Bank> {
        let kernel = self.kernel.iter().map(|kernel| kernel.bank.clone());
        kernel.chain(self.workers.iter().map(|workers| workers.bank.clone())).collect()
    }
}

/// Counters of one bank, as they stood when each epoch was last quiet.
struct Frozen {
    reader: CounterReader,
    rows: Vec<[Counters; 2]>,
}

impl Frozen {
    fn new(bank: &Bank) -> Self {
        let reader = bank.counter_reader();
        let rows = vec![[Counters::default(); 2]; reader.rows()];
        Self { reader, rows }
    }

    /// Reads the counters of an epoch that stands still; returns their sum.
    fn freeze(&mut self, epoch: u32) -> Counters {
        let mut sum = Counters::default();
        for (row, frozen) in self.rows.iter_mut().enumerate() {
            frozen[epoch as usize] = self.reader.of(row, epoch);
            sum = sum.plus(&frozen[epoch as usize]);
        }
        sum
    }

    fn report(&self) -> Vec<Counters> {
        self.rows.iter().map(|[even, odd]| even.plus(odd)).collect()
    }
}

enum State {
    Resting,
    /// The kernel's programs have left the quiet halves; workers have been told to.
    Switching,
    /// The harvesters read.
    Harvesting,
}

/// See the module.
pub struct Swapper {
    options: SwapOptions,
    control: Option<(Arc<ControlMap>, Barrier)>,
    turns: Option<Turns>,
    cpus: Option<Frozen>,
    workers: Option<Frozen>,
    cycle: Cycle,
    governor: Option<Governor>,
    state: State,
    turn: Turn,
    flipped: Moment,
    imbalance: [Imbalance; 2],
    report: HarvestReport,
    shared: SharedReport,
}

impl Swapper {
    /// A swapper for these writers and the harvesters of `cycle`. `start` is now.
    #[must_use]
    pub fn new(options: SwapOptions, writers: Writers, cycle: Cycle, start: Moment) -> Self {
        let Writers { kernel, workers } = writers;
        let (cpus, rows) = (
            kernel.as_ref().map(|kernel| Frozen::new(&kernel.bank)),
            workers.as_ref().map(|workers| Frozen::new(&workers.bank)),
        );
        let mut swapper = Self {
            options,
            control: kernel.map(|kernel| (kernel.control, kernel.barrier)),
            turns: workers.map(|workers| workers.turns),
            cpus,
            workers: rows,
            cycle,
            governor: None,
            state: State::Resting,
            turn: Turn::default(),
            flipped: start,
            imbalance: [Imbalance::default(); 2],
            report: HarvestReport::default(),
            shared: SharedReport::default(),
        };
        swapper.publish();
        swapper
    }

    /// Lets `governor` act when more comes than can be taken. Without one, what is too much is counted as lost.
    #[must_use]
    pub fn governed_by(mut self, governor: Option<Governor>) -> Self {
        self.governor = governor;
        self
    }

    /// What wakes it.
    #[must_use]
    pub fn bell(&self) -> &Bell {
        self.cycle.bell()
    }

    /// Waits until there may be something to do, for a tenth of a second at most.
    pub fn rest(&self, now: Timestamp) {
        let limit = match self.state {
            State::Resting => self.options.interval.saturating_sub(now.since(self.flipped.now)),
            State::Switching | State::Harvesting => REST,
        };
        let limit = if self.governor.is_some() { limit.min(URGENT) } else { limit };
        self.bell().wait(limit.min(REST));
    }

    /// Where the counts can be read from.
    #[must_use]
    pub fn shared_report(&self) -> SharedReport {
        self.shared.clone()
    }

    /// One turn. Waits only for programs that run in the kernel.
    ///
    /// # Errors
    /// When the kernel fails to wait for running programs: without that, reading would lose counts.
    pub fn step(&mut self, moment: Moment) -> Result<Activity, KernelError> {
        match self.state {
            State::Resting => {
                if self.governor.as_ref().is_some_and(Governor::is_urgent) {
                    self.judge(moment.now)?;
                }
                let due = moment.now.since(self.flipped.now) >= self.options.interval;
                if !due && !self.cycle.take_hurry() {
                    return Ok(Activity::Idle);
                }
                self.flip(moment)?;
            }
            State::Switching => {
                if !self.turns.as_ref().is_none_or(Turns::all_taken) {
                    return Ok(Activity::Idle);
                }
                self.cycle.begin(Harvest { turn: self.turn, flipped: self.flipped });
                self.state = State::Harvesting;
            }
            State::Harvesting => {
                if !self.cycle.is_done(self.turn) {
                    return Ok(Activity::Idle);
                }
                self.judge(self.flipped.now)?;
                self.options.durations.observe(moment.now.since(self.flipped.now));
                self.report.swaps += 1;
                self.compare();
                self.publish();
                self.state = State::Resting;
            }
        }
        Ok(Activity::Busy)
    }

    fn flip(&mut self, moment: Moment) -> Result<(), KernelError> {
        self.flipped = moment;
        self.turn = Turn(self.turn.0 + 1);
        if let Some((control, barrier)) = &mut self.control {
            control.set_epoch(self.turn.epoch())?;
            barrier.wait()?;
        }
        // Only now: what the kernel has handed to workers in the epoch that ended waits in their sockets, and they
        // count it before they take the turn.
        if let Some(turns) = &self.turns {
            turns.tell(self.turn);
        }
        self.state = State::Switching;
        Ok(())
    }

    /// All of the epoch that ended is merged: its counters stand still, so they can be compared.
    fn compare(&mut self) {
        let quiet = self.turn.epoch() ^ 1;
        let mut sum = Counters::default();
        for frozen in self.cpus.iter_mut().chain(&mut self.workers) {
            sum = sum.plus(&frozen.freeze(quiet));
        }
        let quiet = quiet as usize;
        let merged = self.cycle.parts().iter().map(|part| part.complete[quiet]).fold(
            Totals::default(),
            |sum, part| Totals {
                flows: 0,
                packets: sum.packets + part.packets,
                octets: sum.octets + part.octets,
            },
        );
        let difference = |writers: u64, readers: u64| writers.wrapping_sub(readers).cast_signed();
        let accounted = sum.metered_packets + sum.unmetered_packets() + sum.steered_packets;
        // Counts only grow, so the latest difference of each epoch holds all earlier ones.
        self.imbalance[quiet] = Imbalance {
            packets: difference(sum.metered_packets, merged.packets + sum.lost_packets)
                + difference(sum.received_packets, accounted),
            octets: difference(sum.metered_octets, merged.octets + sum.lost_octets),
        };
        let [even, odd] = self.imbalance;
        self.report.imbalance =
            Imbalance { packets: even.packets + odd.packets, octets: even.octets + odd.octets };
    }

    /// Lets the governor judge, and does what it says. What writers are told counts for packets from now on, so flows
    /// that were begun before are told with what was metered of them.
    fn judge(&mut self, now: Timestamp) -> Result<(), KernelError> {
        let Some(change) = self.governor.as_mut().and_then(|governor| governor.judge(now)) else {
            return Ok(());
        };
        let interval = change.to.sampling_interval();
        if interval != self.options.sampling.interval() {
            if let Some((control, _)) = &self.control {
                control.set_flow_sampling(interval)?;
            }
            self.options.sampling.set(interval);
        }
        Ok(())
    }

    fn publish(&mut self) {
        let report = &mut self.report;
        report.cpus.counters = self.cpus.as_ref().map(Frozen::report).unwrap_or_default();
        report.workers.counters = self.workers.as_ref().map(Frozen::report).unwrap_or_default();
        report.sum_up(self.cycle.parts());
        report.overload = self.governor.as_ref().map(Governor::status).unwrap_or_default();
        report.flow_sampling = self.options.sampling.interval();
        self.shared.write(report);
    }

    /// The end, when nobody writes any more: two swaps, so that both halves have been quiet once, as far as
    /// `more_time` allows. Afterwards the harvesters may be stopped.
    ///
    /// # Errors
    /// When the kernel fails to wait for running programs.
    pub fn finish(
        &mut self,
        mut clock: impl FnMut() -> Moment,
        mut more_time: impl FnMut() -> bool,
    ) -> Result<(), KernelError> {
        // One that is under way counts for the half that was quiet before.
        let last = Turn(self.turn.0 + 2);
        while !(self.turn >= last && matches!(self.state, State::Resting)) {
            if matches!(self.state, State::Resting) {
                self.cycle.hurry();
            }
            if self.step(clock())? == Activity::Idle && !more_time() {
                break;
            }
        }
        Ok(())
    }

    /// Publishes what the harvesters have counted, after the last of them has ended.
    pub fn conclude(&mut self) {
        self.publish();
    }
}
