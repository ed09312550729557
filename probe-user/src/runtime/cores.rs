// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which thread runs on which CPU.
//!
//! A thread that turns without rest on a CPU that serves a NIC takes time from receiving, so `--cores` may not name such a
//! CPU unless told (`--cores-shared on`), and `auto` never takes one. It takes CPUs of the NIC's NUMA node, the last ones, which
//! NICs use last; where they do not suffice, those of other nodes; and leaves threads for which there is none to the
//! scheduler. Where nobody says which CPUs serve the interface (virtual devices) it takes half of them at most.

use core_affinity::CoreId;

use super::topology::Topology;
use crate::{
    cli::{CorePlan, PinnedCores},
    error::ProbeError,
};

/// Below this many CPUs, a pinned thread would more often wait for a busy CPU than gain by staying.
const FEW_CPUS: usize = 4;

/// How many threads there are of each kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Threads {
    /// Threads that drain, merge and expire.
    pub harvesters: usize,
    /// Threads that encode and send.
    pub exporters: usize,
    /// Threads that meter in user space.
    pub workers: usize,
}

/// The CPU of each thread; `None` leaves it to the scheduler.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Cores {
    /// Of each harvester.
    pub harvesters: Vec<Option<usize>>,
    /// Of each exporter.
    pub exporters: Vec<Option<usize>>,
    /// Of each worker.
    pub workers: Vec<Option<usize>>,
    /// What the operator should know, a sentence each.
    pub warnings: Vec<String>,
}

impl Cores {
    /// Follows the plan for so many threads; `shared` accepts CPUs that serve NICs, of those that are told.
    ///
    /// # Errors
    /// A CPU that is told is not there, or serves a NIC.
    pub(super) fn choose(
        plan: &CorePlan,
        shared: bool,
        threads: Threads,
        topology: &Topology,
    ) -> Result<Self, ProbeError> {
        let mut cores = match plan {
            CorePlan::Pinned(told) => Self::told(told, shared, threads, topology)?,
            CorePlan::Auto => Self::auto(threads, topology),
        };
        cores.warn_of_nodes(topology);
        Ok(cores)
    }

    /// For the log: `harvester on CPU 2, exporter on CPU 3`.
    #[must_use]
    pub(super) fn describe(&self) -> String {
        if self.kinds().iter().all(|(_, cpus)| cpus.iter().all(Option::is_none)) {
            return "all threads run where the scheduler puts them (--cores pins them)".to_owned();
        }
        let kinds: Vec<String> =
            self.kinds().into_iter().filter_map(|(name, cpus)| describe_kind(name, cpus)).collect();
        kinds.join(", ")
    }

    fn kinds(&self) -> [(&'static str, &[Option<usize>]); 3] {
        [("harvester", &self.harvesters), ("exporter", &self.exporters), ("worker", &self.workers)]
    }

    fn told(
        told: &PinnedCores,
        shared: bool,
        threads: Threads,
        topology: &Topology,
    ) -> Result<Self, ProbeError> {
        let mut cores = Self::default();
        for (name, list) in
            [("harvesters", &told.harvesters), ("exporters", &told.exporters), ("workers", &told.workers)]
        {
            for cpu in list.iter().map(|cpu| usize::from(*cpu)) {
                if let Some(warning) = check(name, cpu, shared, topology)? {
                    cores.warnings.push(warning);
                }
            }
        }
        // With fewer CPUs than threads they take turns.
        let spread = |list: &[u16], count: usize| -> Vec<Option<usize>> {
            (0..count).map(|thread| list.get(thread % list.len().max(1)).copied().map(usize::from)).collect()
        };
        cores.harvesters = spread(&told.harvesters, threads.harvesters);
        cores.exporters = spread(&told.exporters, threads.exporters);
        cores.workers = spread(&told.workers, threads.workers);
        Ok(cores)
    }

    fn auto(threads: Threads, topology: &Topology) -> Self {
        let Threads { harvesters, exporters, workers } = threads;
        let wanted = harvesters + exporters + workers;
        let (cpus, warning) = free_cpus(wanted, topology);
        // Harvesters first: they cannot do without.
        let mut cpus = cpus.into_iter().map(Some).chain(std::iter::repeat(None));
        let mut take = |count| cpus.by_ref().take(count).collect::<Vec<_>>();
        Self {
            harvesters: take(harvesters),
            exporters: take(exporters),
            workers: take(workers),
            warnings: warning.into_iter().collect(),
        }
    }

    /// Every packet's slot, flow and frame lies in the memory of the NIC's node.
    fn warn_of_nodes(&mut self, topology: &Topology) {
        let Some((nic, home)) = topology.nics.iter().find_map(|nic| nic.node.map(|node| (nic, node))) else {
            return;
        };
        let mut far: Vec<usize> = [&self.harvesters, &self.workers]
            .into_iter()
            .flatten()
            .flatten()
            .copied()
            .filter(|cpu| topology.node_of(*cpu).is_some_and(|node| node != home))
            .collect();
        far.sort_unstable();
        far.dedup();
        if !far.is_empty() {
            self.warnings.push(format!(
                "{} {} on another NUMA node than {} (node {home}), whose packets they reach more slowly; \
                 --cores can name others",
                listed(&far),
                if far.len() == 1 { "is" } else { "are" },
                nic.name,
            ));
        }
    }
}

/// Whether a thread may be kept on a CPU that was told; with a warning where it had better not.
fn check(kind: &str, cpu: usize, shared: bool, topology: &Topology) -> Result<Option<String>, ProbeError> {
    if !topology.allowed.is_empty() && !topology.allowed.contains(&cpu) {
        return Err(ProbeError::host(format!(
            "--cores names CPU {cpu} for the {kind}, which is not there or which the probe may not use; it may use {}",
            listed(&topology.allowed)
        ))
        .hint("name others, or --cores auto; taskset and AllowedCPUs= of systemd take CPUs away"));
    }
    let Some(nic) = topology.served_by(cpu) else { return Ok(None) };
    let serves =
        format!("--cores names CPU {cpu} for the {kind}, which serves a receive queue of {}", nic.name);
    if shared {
        return Ok(Some(format!("{serves}: whichever of both is busy makes the other wait")));
    }
    let others: Vec<usize> =
        topology.allowed.iter().copied().filter(|cpu| topology.served_by(*cpu).is_none()).collect();
    let hint = if others.is_empty() {
        "let fewer CPUs serve it (ethtool -L, or /proc/irq/*/smp_affinity_list), or add --cores-shared on"
            .to_owned()
    } else {
        format!("{} no queue; name these, or add --cores-shared on", serve(&others))
    };
    Err(ProbeError::usage(format!(
        "{serves}: one of them would wait for the other, and packets would be lost"
    ))
    .hint(hint))
}

fn serve(cpus: &[usize]) -> String {
    format!("{} {}", listed(cpus), if cpus.len() == 1 { "serves" } else { "serve" })
}

/// At most `wanted` CPUs for threads that turn without rest, the best first; with a sentence if they are fewer.
fn free_cpus(wanted: usize, topology: &Topology) -> (Vec<usize>, Option<String>) {
    let Topology { allowed, nics, .. } = topology;
    if allowed.len() < FEW_CPUS {
        return (Vec::new(), None);
    }
    let home = nics.iter().find_map(|nic| nic.node);
    let is_far = |cpu: usize| home.is_some() && topology.node_of(cpu) != home;
    let mut cpus: Vec<usize> =
        allowed.iter().copied().filter(|cpu| topology.served_by(*cpu).is_none()).collect();
    let is_known = nics.iter().any(|nic| !nic.cpus.is_empty());
    let most = if is_known { cpus.len() } else { cpus.len() / 2 };
    // Far ones first, so that the last are the best; of those that are taken, near ones are given first.
    cpus.sort_by_key(|cpu| (!is_far(*cpu), *cpu));
    cpus.drain(..cpus.len() - wanted.min(most));
    cpus.sort_by_key(|cpu| (is_far(*cpu), *cpu));
    let warning = (cpus.len() < wanted).then(|| {
        let why = if is_known { "that serve no receive queue" } else { "to spare" };
        format!(
            "{wanted} threads would each like a CPU of its own, and there are {} {why} of {}: the others run where \
             the scheduler puts them (--cores pins them)",
            cpus.len(),
            allowed.len()
        )
    });
    (cpus, warning)
}

/// `CPU 3`, `CPUs 3,4`.
fn listed(cpus: &[usize]) -> String {
    let list: Vec<String> = cpus.iter().map(ToString::to_string).collect();
    format!("{} {}", if cpus.len() == 1 { "CPU" } else { "CPUs" }, list.join(","))
}

fn describe_kind(name: &str, cpus: &[Option<usize>]) -> Option<String> {
    let plural = if cpus.len() == 1 { "" } else { "s" };
    let pinned: Vec<usize> = cpus.iter().flatten().copied().collect();
    let free = cpus.len() - pinned.len();
    match (pinned.len(), free) {
        (0, 0) => None,
        (_, 0) => Some(format!("{name}{plural} on {}", listed(&pinned))),
        (0, _) => {
            Some(format!("{name}{plural} where the scheduler puts {}", if free == 1 { "it" } else { "them" }))
        }
        _ => Some(format!("{name}{plural} on {} and {free} where the scheduler puts them", listed(&pinned))),
    }
}

/// CPUs that the process may use.
pub(super) fn allowed() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect()
}

/// Keeps the calling thread on a CPU; returns whether it worked.
pub(super) fn pin(cpu: Option<usize>) -> bool {
    cpu.is_none_or(|id| core_affinity::set_for_current(CoreId { id }))
}
