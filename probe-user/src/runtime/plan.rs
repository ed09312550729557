// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sizes of everything, within the memory the operator allows.

use probe_common::HashSeed;
use tracing::info;

use super::{cores, places::QUEUES, workers::WorkerCounts};
use crate::{
    afpacket::RingSize,
    afxdp::AfXdpOptions,
    cli::{CorePlan, Engine, Queues, RunOptions},
    error::ProbeError,
    export::{Biflow, DatagramRing, ExporterOptions, OpenCollector, PairingLimits},
    flow::{FlowRecord, FlowTable},
    fragment::JoinerOptions,
    kernel::possible_cpus,
    meter::Fragments,
    net,
    slots::Sizing,
};

/// Records between harvester and exporter: 100 ms of one and a half million flows a second.
const QUEUE_RECORDS: usize = 1 << 17;
/// Without --memory, the kernel's maps of hosts with very many CPUs stay below this.
const KERNEL_DEFAULT: u64 = 1 << 30;

/// What the probe will take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Sizes of the kernel's maps.
    pub sizing: Sizing,
    /// Flows in all tables together.
    pub flows: u32,
    /// Records in all queues together.
    pub queue: usize,
    /// Harvesters, each with a range of the caches, a table and a queue of its own.
    pub harvesters: usize,
    /// Octets of the sockets of the interfaces that are there at the start, and of the joiners of fragments.
    sockets: u64,
    /// Workers, if the kernel takes programs.
    with_program: WorkerCounts,
    /// Workers, if it takes none, or shall not.
    without_program: WorkerCounts,
}

/// What collectors take memory for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Collectors {
    /// How many there are.
    pub all: usize,
    /// How many of them get both directions in one record.
    pub paired: usize,
}

impl Collectors {
    /// Of these.
    #[must_use]
    pub(super) fn of(collectors: &[OpenCollector]) -> Self {
        let paired = collectors.iter().filter(|(url, _)| url.biflow != Biflow::Off).count();
        Self { all: collectors.len(), paired }
    }
}

/// Octets of each part of a plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    /// Caches, rings and counters: of the kernel's CPUs, and of the workers.
    pub kernel: u64,
    /// Memory in which sockets receive, and what is remembered of fragments.
    pub sockets: u64,
    /// Flow table.
    pub flows: u64,
    /// Queue and datagrams.
    pub export: u64,
}

impl Plan {
    /// Plans for `options`; `details` says whether flows keep details.
    ///
    /// # Errors
    /// When --memory does not suffice.
    pub(super) fn new(
        options: &RunOptions,
        interfaces: &[String],
        collectors: Collectors,
        details: bool,
    ) -> Result<Self, ProbeError> {
        let resource = &options.resource;
        let harvesters = resource.harvesters as usize;
        let (with_program, without_program) = workers(options);
        let wanted = Sizing::new(possible_cpus()?, resource.cache_slots, resource.spill_records)
            .with_details(details)
            .with_ranges(u32::try_from(harvesters).unwrap_or(1));
        let mut plan = Self {
            sizing: wanted,
            flows: options.flow.max_flows,
            queue: QUEUE_RECORDS,
            harvesters,
            sockets: sockets(options, with_program, interfaces) + joiners(with_program),
            with_program,
            without_program,
        };
        let Parts { flows, export, sockets, .. } = plan.parts(collectors);
        let kernel = match resource.memory {
            Some(memory) => memory.saturating_sub(flows + export + sockets),
            None => KERNEL_DEFAULT,
        };
        let workers = u32::try_from(with_program.all()).unwrap_or(0);
        let fitting = wanted.with_rows(wanted.rows + workers).within(kernel);
        plan.sizing = fitting.map(|sizing| sizing.with_rows(wanted.rows)).ok_or_else(|| {
            ProbeError::usage(format!(
                "memory: {} MiB do not suffice: the flow table takes {} MiB, the export {} MiB, sockets {} MiB, and caches and rings need at least 1 MiB for each of {} CPUs and {workers} workers",
                resource.memory.unwrap_or(kernel) >> 20,
                flows >> 20,
                export >> 20,
                sockets >> 20,
                wanted.rows
            ))
            .hint("raise --memory, or lower --max-flows")
        })?;
        let Parts { kernel, .. } = plan.parts(collectors);
        info!(
            "memory: {} MiB for {} flows, {} MiB for caches and rings ({} CPUs and {workers} workers: {} cache slots and {} spill records each), {} MiB for sockets, {} MiB for export",
            flows >> 20,
            plan.flows,
            kernel >> 20,
            plan.sizing.rows,
            2u32 << plan.sizing.set_bits,
            plan.sizing.spill_records << plan.sizing.range_bits,
            sockets >> 20,
            export >> 20
        );
        if plan.sizing != wanted {
            info!(
                "the kernel's part was cut to fit {}: {} of {} spill records a CPU",
                if resource.memory.is_some() { "--memory" } else { "1 GiB (--memory allows more)" },
                plan.sizing.spill_records,
                wanted.spill_records
            );
        }
        Ok(plan)
    }

    /// Workers, with a program in the kernel or without.
    #[must_use]
    pub(super) fn workers(&self, program: bool) -> WorkerCounts {
        if program { self.with_program } else { self.without_program }
    }

    /// Room in each table: keys are spread evenly by a hash, so each gets its share and a little more.
    #[must_use]
    pub(super) fn flows_of_harvester(&self) -> usize {
        (self.flows as usize).div_ceil(self.harvesters)
    }

    /// Records in each queue, a power of two.
    #[must_use]
    pub(super) fn queue_of_harvester(&self) -> usize {
        self.queue.div_ceil(self.harvesters).next_power_of_two()
    }

    /// What each part takes.
    #[must_use]
    pub(super) fn parts(&self, collectors: Collectors) -> Parts {
        // At most a stream for each, and at least one.
        let streams = collectors.all.max(1);
        let ring = DatagramRing::memory_octets(ExporterOptions::default().ring_of_stream(streams), 1464);
        let pairing = collectors.paired * PairingLimits::default().memory_octets();
        Parts {
            kernel: self
                .sizing
                .with_rows(self.sizing.rows + u32::try_from(self.with_program.all()).unwrap_or(0))
                .octets(),
            sockets: self.sockets,
            flows: FlowTable::memory_octets(self.flows, self.sizing.details),
            export: (self.queue * size_of::<FlowRecord>() + streams * ring + pairing) as u64,
        }
    }
}

/// Octets that the joiners of fragments take: one for the workers of each kind.
fn joiners(workers: WorkerCounts) -> u64 {
    let kinds = [workers.af_xdp, workers.af_packet].into_iter().filter(|workers| *workers > 0).count();
    let options = JoinerOptions::new(HashSeed::new([0; 12], 0));
    (kinds * Fragments::memory_octets(&options)) as u64
}

/// Octets that the sockets of these interfaces take.
fn sockets(options: &RunOptions, workers: WorkerCounts, interfaces: &[String]) -> u64 {
    let of = |name: &String| {
        let queues = u64::from(net::rx_queues(name).unwrap_or(1).min(QUEUES));
        match options.interface.wanted_engine() {
            Engine::AfPacket => workers.af_packet as u64 * RingSize::default().octets(),
            Engine::AfXdp => queues * AfXdpOptions::new(name, 0, 0).memory_octets(),
            // Only those of mirror ports, which are not known yet.
            Engine::Auto | Engine::Xdp => queues * AfXdpOptions::for_few(name, 0, 0).memory_octets(),
        }
    };
    interfaces.iter().map(of).sum()
}

/// Workers that are made without being asked for.
const MOST_WORKERS: usize = 8;

/// How many workers there are, with a program in the kernel and without.
fn workers(options: &RunOptions) -> (WorkerCounts, WorkerCounts) {
    let asked = match (&options.resource.cores, &options.interface.queues) {
        (CorePlan::Pinned(cores), _) if !cores.workers.is_empty() => Some(cores.workers.len()),
        (_, Queues::First(count)) => Some(usize::from(*count)),
        (_, Queues::These(queues)) => Some(queues.len()),
        _ => None,
    };
    // The other half is for those who receive, harvest and export.
    let several = asked.unwrap_or_else(|| (cores::allowed().len() / 2).clamp(1, MOST_WORKERS));
    let packet = WorkerCounts { af_xdp: 0, af_packet: several };
    let with_program = match options.interface.wanted_engine() {
        Engine::AfPacket => packet,
        Engine::AfXdp => WorkerCounts { af_xdp: several, af_packet: 0 },
        // Few packets are handed over, so one worker serves all queues. Interfaces that come later may be mirror ports.
        Engine::Xdp => WorkerCounts { af_xdp: 1, af_packet: 0 },
        Engine::Auto => WorkerCounts { af_xdp: 1, af_packet: 1 },
    };
    (with_program, packet)
}
