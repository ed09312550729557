// SPDX-License-Identifier: Apache-2.0 OR MIT
//! key → slot. A set-associative cache in one plain array: one map look-up finds the whole set. The rules within a set
//! are those of [`Sighting::count`].
//!
//! With details, a second array beside it has one for each slot: written on a miss, widened on a hit.

use aya_ebpf::helpers::generated::bpf_jiffies64;
use probe_common::{
    Detail, KernelSettings, Outcome, OwnExportKey, Sighting, Tick, parse::ParsedPacket, selects_flow,
};

use crate::{
    maps::{CACHE, CONTROL, DETAIL, OWN_EXPORT},
    place::Place,
    spill_ring::Rings,
};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

/// How much a packet counts for.
#[derive(Clone, Copy)]
pub(crate) struct Counted {
    /// Packets: more than 1 where a buffer stands for several.
    pub(crate) packets: u32,
    /// Octets of their IP packets.
    pub(crate) octets: u32,
}

/// Counts a packet in its slot.
///
/// # Errors
/// [`Outcome::OwnExport`] when the packet is one of our own datagrams, [`Outcome::SampledOut`] when its flow
/// is not metered.
#[inline(always)]
pub(crate) fn meter<const DETAILS: bool>(
    settings: &KernelSettings,
    place: &Place,
    packet: &ParsedPacket,
    counted: Counted,
) -> Result<(), Outcome> {
    let key = &packet.key;
    let mask = settings.key_mask;
    let hash = settings.seed.hash(key, mask);
    let threshold = CONTROL.flow_threshold();
    if threshold != 0 && !selects_flow(threshold, settings.seed.sampling(hash)) {
        return Err(Outcome::SampledOut);
    }
    let half = place.cpu * 2 + place.epoch;
    let set = (hash >> settings.set_shift) as u32;
    let index = (half << settings.set_bits) + set;
    let Some(slots) = CACHE.get_ptr_mut(index) else {
        // Cannot happen: the set has `set_bits` bits. Counted so that the ledger would show it.
        return Err(Outcome::Malformed);
    };
    // SAFETY: a value of an array lives as long as the map; this half belongs to this CPU while its epoch
    // is active, and user space waits for running programs before it touches it.
    let [first, second] = unsafe { &mut (*slots).slots };
    let (first_detail, second_detail) = details::<DETAILS>(index)?;
    // As fine as bpf_ktime_get_coarse_ns, which also steps with the jiffies, without its call: the verifier
    // turns this helper into a load (kernel/bpf/verifier.c, BPF_FUNC_jiffies64).
    // SAFETY: the helper has no preconditions.
    let now = Tick::from_ns(CONTROL.monotonic_ns(unsafe { bpf_jiffies64() }));

    let sighting = Sighting {
        packet,
        packets: counted.packets,
        octets: counted.octets,
        key_mask: mask,
        now,
        epoch: place.epoch,
    };
    let mut rings = Rings { settings, place, set };
    sighting.count([first, second], [first_detail, second_detail], &mut rings, || {
        if CONTROL.own_exports() != 0 && is_own_export(packet) { Err(Outcome::OwnExport) } else { Ok(()) }
    })?;

    let counters = place.counters();
    counters.metered_packets += counted.packets as u64;
    counters.metered_octets += counted.octets as u64;
    if let Some(note) = packet.note {
        if let Some(counter) = counters.notes.get_mut(note as usize) {
            *counter += counted.packets as u64;
        }
    }
    Ok(())
}

/// The details of a slot, where they are kept.
type SlotDetail = Option<&'static mut Detail>;

/// The details of a set's slots.
#[inline(always)]
fn details<const DETAILS: bool>(index: u32) -> Result<(SlotDetail, SlotDetail), Outcome> {
    if !DETAILS {
        return Ok((None, None));
    }
    // Cannot happen either. Left at once, because the verifier wants to see the check before any use.
    let set = DETAIL.get_ptr_mut(index).ok_or(Outcome::Malformed)?;
    // SAFETY: as for the set of slots.
    let [first, second] = unsafe { &mut (*set).details };
    Ok((Some(first), Some(second)))
}

#[inline(always)]
fn is_own_export(packet: &ParsedPacket) -> bool {
    if !matches!(packet.key.protocol(), TCP | UDP | SCTP) {
        return false;
    }
    // SAFETY: only presence is asked; the value is not read.
    unsafe { OWN_EXPORT.get(OwnExportKey::of(&packet.key)) }.is_some()
}
