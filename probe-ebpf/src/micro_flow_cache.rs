// SPDX-License-Identifier: Apache-2.0 OR MIT
//! key → slot. A set-associative cache in one plain array: a hit counts in place, a miss takes a free way
//! or evicts the older slot of its set to the spill ring. One map look-up finds the whole set.
//!
//! With details, a second array beside it has one for each slot: written on a miss, widened on a hit.

use aya_ebpf::helpers::generated::bpf_jiffies64;
use probe_common::{
    Detail, KernelSettings, Outcome, OwnExportKey, Slot, Tick, parse::ParsedPacket, selects_flow,
};

use crate::{
    maps::{CACHE, CONTROL, DETAIL, OWN_EXPORT},
    place::Place,
    spill_ring,
};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

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
) -> Result<(), Outcome> {
    let key = &packet.key;
    let mask = settings.key_mask;
    let hash = settings.seed.hash(key, mask);
    let threshold = CONTROL.flow_threshold();
    if threshold != 0 && !selects_flow(threshold, settings.seed.sampling(hash)) {
        return Err(Outcome::SampledOut);
    }
    let half = place.cpu * 2 + place.epoch;
    let index = (half << settings.set_bits) + (hash >> settings.set_shift) as u32;
    let Some(set) = CACHE.get_ptr_mut(index) else {
        // Cannot happen: the set has `set_bits` bits. Counted so that the ledger would show it.
        return Err(Outcome::Malformed);
    };
    // SAFETY: a value of an array lives as long as the map; this half belongs to this CPU while its epoch
    // is active, and user space waits for running programs before it touches it.
    let [first, second] = unsafe { &mut (*set).slots };
    let (first_detail, second_detail) = details::<DETAILS>(index)?;
    // As fine as bpf_ktime_get_coarse_ns, which also steps with the jiffies, without its call: the verifier
    // turns this helper into a load (kernel/bpf/verifier.c, BPF_FUNC_jiffies64).
    // SAFETY: the helper has no preconditions.
    let now = Tick::from_ns(CONTROL.monotonic_ns(unsafe { bpf_jiffies64() }));

    // A free slot is all zero and matches no key: an IPv4 key has its mapped prefix, an IPv6 key its bit.
    if first.is_for(key, mask) {
        count(settings, place, first, first_detail, packet, now);
    } else if second.is_for(key, mask) {
        count(settings, place, second, second_detail, packet, now);
    } else {
        if CONTROL.own_exports() != 0 && is_own_export(packet) {
            return Err(Outcome::OwnExport);
        }
        let takes_first = first.packets == 0 || second.packets != 0 && first.last.is_before(second.last);
        let (victim, detail) = if takes_first { (first, first_detail) } else { (second, second_detail) };
        if victim.packets != 0 {
            spill_ring::spill(settings, place, victim, detail.as_deref());
        }
        begin(place, victim, detail, packet, now);
    }

    let counters = place.counters();
    counters.metered_packets += 1;
    counters.metered_octets += packet.octets as u64;
    if let Some(note) = packet.note {
        if let Some(counter) = counters.notes.get_mut(note as usize) {
            *counter += 1;
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

/// Lets a slot begin with a packet.
#[inline(always)]
fn begin(place: &Place, slot: &mut Slot, detail: Option<&mut Detail>, packet: &ParsedPacket, now: Tick) {
    *slot = Slot::new(&packet.key, packet.octets, packet.tcp_flags, now, place.epoch);
    if let Some(detail) = detail {
        *detail = packet.detail;
    }
}

/// Adds a packet to a slot that counts for its key.
#[inline(always)]
fn count(
    settings: &KernelSettings,
    place: &Place,
    slot: &mut Slot,
    detail: Option<&mut Detail>,
    packet: &ParsedPacket,
    now: Tick,
) {
    if slot.octets > u32::MAX - packet.octets {
        spill_ring::spill(settings, place, slot, detail.as_deref());
        begin(place, slot, detail, packet, now);
        return;
    }
    slot.packets += 1;
    slot.octets += packet.octets;
    slot.last = now;
    slot.add_tcp_flags(packet.tcp_flags);
    if let Some(detail) = detail {
        detail.add_later(&packet.detail);
    }
}

#[inline(always)]
fn is_own_export(packet: &ParsedPacket) -> bool {
    if !matches!(packet.key.protocol(), TCP | UDP | SCTP) {
        return false;
    }
    // SAFETY: only presence is asked; the value is not read.
    unsafe { OWN_EXPORT.get(OwnExportKey::of(&packet.key)) }.is_some()
}
