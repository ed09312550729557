// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The workers: who meters packets in user space, for which engine, and what they tell.

use std::time::Duration;

use tracing::warn;

use super::threads::{self, Heartbeat, WorkerThread};
use crate::{
    bell::Bell,
    error::ProbeError,
    flow::Timestamp,
    fragment::{JoinerCounts, JoinerOptions},
    harvest::WorkerWriters,
    meter::{
        Fragments, FrameSource, Meter, MeterOptions, MeterShared, OwnExports, SourceDrops, Turns, Worker,
        WorkerHandle, WorkerReport,
    },
    slots::{Bank, CacheRules, Sizing},
};

/// How long a worker may take to let the sources of an interface go.
const REMOVAL: Duration = Duration::from_secs(2);

/// What a worker serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum WorkerKind {
    /// Packets that XDP hands over.
    AfXdp,
    /// Packet sockets.
    AfPacket,
}

/// How many workers of each kind. Their rows are in this order.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct WorkerCounts {
    pub(super) af_xdp: usize,
    pub(super) af_packet: usize,
}

impl WorkerCounts {
    pub(super) fn all(self) -> usize {
        self.af_xdp + self.af_packet
    }

    /// The kind of a row.
    pub(super) fn kind(self, row: usize) -> WorkerKind {
        if row < self.af_xdp { WorkerKind::AfXdp } else { WorkerKind::AfPacket }
    }
}

/// What all workers are made with.
pub(super) struct WorkerOptions {
    /// How many.
    pub(super) counts: WorkerCounts,
    /// Their bank; its rows are set here.
    pub(super) sizing: Sizing,
    /// Of the kernel program and the workers alike, so that a flow is one flow, and sampled alike.
    pub(super) rules: CacheRules,
    /// What those sample whose packets no program has seen.
    pub(super) sampling: MeterOptions,
    /// The interval of sampling under overload.
    pub(super) sampling_now: crate::flow::SamplingNow,
    /// How fragments are joined.
    pub(super) joiner: JoinerOptions,
}

/// Workers that have been made and not started.
pub(super) struct IdleWorkers {
    counts: WorkerCounts,
    workers: Vec<(Worker, WorkerHandle)>,
    tidings: Tidings,
}

/// What workers tell, for whoever wants to know.
#[derive(Clone)]
pub(super) struct Tidings {
    counts: WorkerCounts,
    handles: Vec<WorkerHandle>,
    fragments: FragmentsByKind,
}

/// A joiner for the workers of each kind. One for all would let go with one kind what was held for the other: packets that
/// were steered would be accounted for among those that were not.
#[derive(Clone)]
struct FragmentsByKind {
    af_xdp: Fragments,
    af_packet: Fragments,
}

impl FragmentsByKind {
    fn of(&self, kind: WorkerKind) -> &Fragments {
        match kind {
            WorkerKind::AfXdp => &self.af_xdp,
            WorkerKind::AfPacket => &self.af_packet,
        }
    }
}

impl Tidings {
    /// The workers of a kind, as of their last turns.
    pub(super) fn reports(&self, kind: WorkerKind) -> Vec<WorkerReport> {
        let handles = self.handles.iter().enumerate();
        handles.filter(|(row, _)| self.counts.kind(*row) == kind).map(|(_, handle)| handle.report()).collect()
    }

    /// What the kernel could not give to the sockets of a kind.
    pub(super) fn drops(&self, kind: WorkerKind) -> SourceDrops {
        let reports = self.reports(kind);
        reports.iter().fold(SourceDrops::default(), |sum, report| sum.plus(&report.drops))
    }

    /// Datagrams whose first fragment is remembered.
    pub(super) fn fragments_known(&self) -> u64 {
        let known = |kind| self.fragments.of(kind).with(|joiner| joiner.known()) as u64;
        known(WorkerKind::AfXdp) + known(WorkerKind::AfPacket)
    }

    /// What became of the fragments that the workers of a kind took.
    pub(super) fn fragments(&self, kind: WorkerKind) -> JoinerCounts {
        self.fragments.of(kind).counts()
    }

    /// How many of each kind there are.
    pub(super) fn counts(&self) -> WorkerCounts {
        self.counts
    }
}

/// That no bell can be had.
pub(super) fn no_descriptor(error: std::io::Error) -> ProbeError {
    ProbeError::host("cannot get a file descriptor for waking threads")
        .because(error)
        .hint("raise the limit of open files (ulimit -n, LimitNOFILE= of systemd)")
}

impl IdleWorkers {
    /// Makes workers, and what the swapper needs of them; nothing where there are none. `swapper` wakes it.
    ///
    /// # Errors
    /// When their memory cannot be had.
    pub(super) fn new(
        options: WorkerOptions,
        own_exports: &OwnExports,
        swapper: Bell,
    ) -> Result<(Self, Option<WorkerWriters>), ProbeError> {
        let WorkerOptions { counts, sizing, rules, sampling, sampling_now, joiner } = options;
        let fragments = FragmentsByKind { af_xdp: Fragments::new(joiner), af_packet: Fragments::new(joiner) };
        let turns = Turns::new(counts.all(), swapper).map_err(no_descriptor)?;
        let mut workers = Vec::new();
        let mut writers = None;
        if counts.all() > 0 {
            let rows = u32::try_from(counts.all()).unwrap_or(u32::MAX);
            let bank = Bank::in_memory(sizing.with_rows(rows)).map_err(|error| {
                ProbeError::host("cannot get memory for the workers' caches and rings")
                    .because(error)
                    .hint("lower --cache-slots and --spill-records, or give --memory")
            })?;
            for (number, row) in (0..counts.all()).zip(0..rows) {
                // What the kernel program has let pass was chosen there.
                let packets = match counts.kind(number) {
                    WorkerKind::AfXdp => probe_common::PacketSampling::OFF,
                    WorkerKind::AfPacket => sampling.packets,
                };
                let shared = MeterShared {
                    sampling: sampling_now.clone(),
                    own_exports: own_exports.clone(),
                    fragments: fragments.of(counts.kind(number)).clone(),
                };
                let meter =
                    Meter::new(bank.slot_writer(row, rules), MeterOptions { packets, ..sampling }, shared);
                workers.push(Worker::new(number, meter, turns.clone()));
            }
            writers = Some(WorkerWriters { bank, turns });
        }
        let handles = workers.iter().map(|(_, handle)| handle.clone()).collect();
        let tidings = Tidings { counts, handles, fragments };
        Ok((Self { counts, workers, tidings }, writers))
    }

    /// Where what they tell can be read.
    pub(super) fn tidings(&self) -> Tidings {
        self.tidings.clone()
    }

    /// Starts them, each on its CPU if there is one for it.
    ///
    /// # Errors
    /// When a thread cannot be had.
    pub(super) fn start(self, cpus: &[Option<usize>]) -> Result<Workers, ProbeError> {
        let mut threads = Vec::new();
        for (number, (worker, handle)) in self.workers.into_iter().enumerate() {
            let cpu = cpus.get(number).copied().flatten();
            threads.push(WorkerThread::start(format!("worker-{number}"), worker, handle, cpu)?);
        }
        Ok(Workers { counts: self.counts, threads })
    }
}

/// Running workers.
pub(super) struct Workers {
    counts: WorkerCounts,
    threads: Vec<WorkerThread>,
}

impl Workers {
    /// How many of a kind there are.
    pub(super) fn count(&self, kind: WorkerKind) -> usize {
        match kind {
            WorkerKind::AfXdp => self.counts.af_xdp,
            WorkerKind::AfPacket => self.counts.af_packet,
        }
    }

    /// Gives sources to the workers of a kind, in turn from the first on.
    pub(super) fn add(&self, kind: WorkerKind, sources: Vec<Box<dyn FrameSource>>) {
        let of_kind: Vec<_> = self.of(kind).collect();
        for (number, source) in sources.into_iter().enumerate() {
            if let Some(worker) = of_kind.get(number % of_kind.len().max(1)) {
                worker.handle().add(source);
            }
        }
    }

    /// Has the workers of a kind let the sources of an interface go.
    pub(super) fn remove(&self, kind: WorkerKind, interface: u32) {
        let removals: Vec<_> = self.of(kind).map(|worker| worker.handle().remove(interface)).collect();
        if !removals.iter().all(|removal| removal.wait(REMOVAL)) {
            warn!("a worker did not let interface {interface} go within {REMOVAL:?}");
        }
    }

    fn of(&self, kind: WorkerKind) -> impl Iterator<Item = &WorkerThread> {
        let threads = self.threads.iter().enumerate();
        threads.filter(move |(row, _)| self.counts.kind(*row) == kind).map(|(_, thread)| thread)
    }

    /// Sources that have failed since the last call: their interfaces, what there is to say of each logged.
    pub(super) fn failed(&self) -> Vec<u32> {
        let failures = self.threads.iter().flat_map(|thread| thread.handle().take_failures());
        failures
            .map(|failure| {
                warn!("{}; its packets are not metered there any more", failure.error);
                failure.interface
            })
            .collect()
    }

    /// Their turns.
    pub(super) fn heartbeats(&self) -> impl Iterator<Item = Heartbeat> {
        self.threads.iter().map(|worker| worker.thread().heartbeat())
    }

    /// Whether none has ended by itself.
    pub(super) fn are_running(&self) -> bool {
        self.threads.iter().all(|worker| worker.thread().is_running())
    }

    /// Has them count what still waits, and end.
    ///
    /// # Errors
    /// When one panicked.
    pub(super) fn stop(self, deadline: Timestamp) -> Result<(), ProbeError> {
        threads::stop_all(self.threads.into_iter().map(WorkerThread::into_thread), deadline)
    }
}
