// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where a packet counts: its CPU, its epoch, and their counters.

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use probe_common::{Counters, KernelSettings, Outcome};

use crate::maps::{CONTROL, COUNTERS};

/// Where this packet counts: this CPU, the epoch that was active when the program began, and its counters.
pub(crate) struct Place {
    pub(crate) cpu: u32,
    pub(crate) epoch: u32,
    counters: *mut Counters,
}

impl Place {
    /// `None` cannot happen: the maps have a place for every possible CPU.
    #[inline(always)]
    pub(crate) fn of_this_cpu(settings: &KernelSettings) -> Option<Self> {
        let epoch = CONTROL.epoch();
        // SAFETY: the helper has no preconditions.
        let cpu = unsafe { bpf_get_smp_processor_id() };
        if cpu >= settings.cpus {
            return None;
        }
        let counters = COUNTERS.get_ptr_mut(cpu * 2 + epoch)?;
        Some(Self { cpu, epoch, counters })
    }

    /// This CPU's counters of this epoch.
    #[inline(always)]
    #[allow(clippy::mut_from_ref, reason = "one value per CPU and epoch, and one program at a time on a CPU")]
    pub(crate) fn counters(&self) -> &mut Counters {
        // SAFETY: a value of an array lives as long as the map; only this CPU writes this one, and XDP
        // programs do not interrupt each other (bottom halves are off).
        unsafe { &mut *self.counters }
    }

    #[inline(always)]
    pub(crate) fn received(&self, packets: u32, frame_octets: u64) {
        let counters = self.counters();
        counters.received_packets += packets as u64;
        counters.received_octets += frame_octets;
    }

    #[inline(always)]
    pub(crate) fn unmetered(&self, packets: u32, outcome: Outcome) {
        if let Some(counter) = self.counters().outcomes.get_mut(outcome as usize) {
            *counter += packets as u64;
        }
    }
}
