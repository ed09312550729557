// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which thread runs on which CPU.

use core_affinity::CoreId;

use crate::cli::CorePlan;

/// Below this many CPUs, a pinned thread would more often wait for a busy CPU than gain by staying.
const FEW_CPUS: usize = 4;

/// CPUs of the harvester and of the exporter; `None` leaves the choice to the scheduler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cores {
    pub(super) harvester: Option<usize>,
    pub(super) exporter: Option<usize>,
}

impl Cores {
    /// Follows the plan; `auto` takes the last two CPUs that the process may use, which NICs use last.
    pub(super) fn choose(plan: &CorePlan) -> Self {
        match plan {
            CorePlan::Pinned(cores) => Self {
                harvester: cores.harvesters.first().copied().map(usize::from),
                exporter: cores.exporters.first().copied().map(usize::from),
            },
            CorePlan::Auto => Self::auto(&allowed()),
        }
    }

    /// For the log.
    pub(super) fn describe(self) -> String {
        match self {
            Self { harvester: Some(harvester), exporter: Some(exporter) } => {
                format!("harvester on CPU {harvester}, exporter on CPU {exporter}")
            }
            _ => format!(
                "harvester and exporter run where the scheduler puts them: fewer than {FEW_CPUS} CPUs (--cores pins them)"
            ),
        }
    }

    fn auto(allowed: &[usize]) -> Self {
        match allowed {
            [.., harvester, exporter] if allowed.len() >= FEW_CPUS => {
                Self { harvester: Some(*harvester), exporter: Some(*exporter) }
            }
            _ => Self { harvester: None, exporter: None },
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_cpus_are_left_to_the_scheduler() {
        let free = Cores { harvester: None, exporter: None };
        assert_eq!(Cores::auto(&[]), free);
        assert_eq!(Cores::auto(&[0, 1]), free);
        assert_eq!(Cores::auto(&[0, 1, 4, 7]), Cores { harvester: Some(4), exporter: Some(7) });
    }
}
