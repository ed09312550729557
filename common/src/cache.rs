// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The rules of the micro-flow cache, the same in the kernel and in user space: a hit counts in place, a miss
//! takes a free way or evicts the older slot of its set.
//!
//! Where sets and details lie, and what becomes of an evicted slot, is the caller's part.

use crate::{Detail, Outcome, Slot, Tick, parse::ParsedPacket};

/// Takes what a cache evicts.
pub trait Spill {
    /// Whether packets are counted in the order in which they were seen. Where they are not, a slot's times are those of
    /// its earliest and its latest packet all the same.
    const IN_ORDER: bool = true;

    /// Takes a slot, with its details where they are kept.
    fn spill(&mut self, slot: &Slot, detail: Option<&Detail>);
}

/// A packet, or several that one buffer stands for, about to be counted.
#[derive(Clone, Copy, Debug)]
pub struct Sighting<'a> {
    /// What the parser read, with the interface.
    pub packet: &'a ParsedPacket,
    /// Packets: 1, or the segments of a buffer that stands for several.
    pub packets: u32,
    /// Octets of all their IP packets.
    pub octets: u32,
    /// Which bits of key word 5 count.
    pub key_mask: u64,
    /// When it was seen.
    pub now: Tick,
    /// The epoch, 0 or 1.
    pub epoch: u32,
}

impl Sighting<'_> {
    /// Counts it in one of the two slots of its set. `details` are those of the slots, where they are kept.
    /// `refusal` is asked on a miss, before anything is changed.
    ///
    /// # Errors
    /// What `refusal` says.
    #[inline(always)]
    pub fn count<S: Spill>(
        &self,
        [first, second]: [&mut Slot; 2],
        [first_detail, second_detail]: [Option<&mut Detail>; 2],
        spill: &mut S,
        refusal: impl FnOnce() -> Result<(), Outcome>,
    ) -> Result<(), Outcome> {
        // A free slot is all zero and matches no key: an IPv4 key has its mapped prefix, an IPv6 key its bit.
        if first.is_for(&self.packet.key, self.key_mask) {
            self.add(first, first_detail, spill);
        } else if second.is_for(&self.packet.key, self.key_mask) {
            self.add(second, second_detail, spill);
        } else {
            refusal()?;
            let takes_first = first.packets == 0 || second.packets != 0 && first.last.is_before(second.last);
            let (victim, detail) = if takes_first { (first, first_detail) } else { (second, second_detail) };
            if victim.packets != 0 {
                spill.spill(victim, detail.as_deref());
            }
            self.begin(victim, detail);
        }
        Ok(())
    }

    /// Lets a slot begin with it.
    #[inline(always)]
    fn begin(&self, slot: &mut Slot, detail: Option<&mut Detail>) {
        *slot = Slot::new(&self.packet.key, self.octets, self.packet.tcp_flags, self.now, self.epoch);
        slot.packets = self.packets;
        if let Some(detail) = detail {
            *detail = self.packet.detail;
        }
    }

    /// Adds it to a slot that counts for its key.
    #[inline(always)]
    fn add<S: Spill>(&self, slot: &mut Slot, detail: Option<&mut Detail>, spill: &mut S) {
        if slot.octets > u32::MAX - self.octets {
            spill.spill(slot, detail.as_deref());
            self.begin(slot, detail);
            return;
        }
        slot.packets += self.packets;
        slot.octets += self.octets;
        if S::IN_ORDER || slot.last.is_before(self.now) {
            slot.last = self.now;
        }
        if !S::IN_ORDER && self.now.is_before(slot.first) {
            slot.first = self.now;
        }
        slot.add_tcp_flags(self.packet.tcp_flags);
        if let Some(detail) = detail {
            detail.add_later(&self.packet.detail);
        }
    }
}
