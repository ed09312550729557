// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether a packet is looked at. Asked before anything is read of it.

use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use probe_common::{KernelSettings, Outcome, PacketSampling};

use crate::{maps::SAMPLER, place::Place};

/// Selects a packet, by what the settings say. The verifier knows them, so it takes out the ways not used.
///
/// # Errors
/// [`Outcome::SampledOut`] when it is not selected.
#[inline(always)]
pub(crate) fn select(settings: &KernelSettings, place: &Place) -> Result<(), Outcome> {
    let sampling = settings.sampling;
    let selected = match sampling.mode {
        PacketSampling::COUNT => {
            let Some(state) = SAMPLER.get_ptr_mut(place.cpu) else {
                // Cannot happen: the map has a place for every CPU. Counted so that the ledger would show it.
                return Err(Outcome::Malformed);
            };
            // SAFETY: a value of an array lives as long as the map; only this CPU writes this one, and XDP
            // programs do not interrupt each other (bottom halves are off).
            sampling.selects_count(unsafe { &mut (*state).passed })
        }
        // SAFETY: the helper has no preconditions.
        PacketSampling::CHANCE => sampling.selects_chance(unsafe { bpf_get_prandom_u32() }),
        _ => true,
    };
    if selected { Ok(()) } else { Err(Outcome::SampledOut) }
}
