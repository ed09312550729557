// SPDX-License-Identifier: Apache-2.0 OR MIT
//! packet → slot in user space: the cache of `probe-ebpf/src/micro_flow_cache.rs`, with the same rules
//! ([`Sighting::count`]), in the row of one worker.
//!
//! JUSTIFICATION for unsafe: a slot is counted in place, as in the kernel. Only the writer of a row touches the half
//! of its cache that is active, and only readers the other: it changes hands by [`SlotWriter::switch`], whose caller
//! tells the readers with release and acquire. A record of a ring belongs to the writer from tail to head, both
//! published with release and acquire.

use std::{mem::offset_of, sync::atomic::Ordering};

use probe_common::{
    Counters, Detail, HashSeed, Note, Outcome, RingCursor, Sighting, Slot, Spill, Tick, parse::ParsedPacket,
};

use super::Bank;

/// What makes two packets one flow, and where it is counted.
#[derive(Clone, Copy, Debug)]
pub struct CacheRules {
    /// Which bits of key word 5 count.
    pub key_mask: u64,
    /// Seed of the hash.
    pub seed: HashSeed,
}

/// The only writer of a row.
#[derive(Debug)]
pub struct SlotWriter {
    bank: Bank,
    row: u32,
    rules: CacheRules,
    epoch: u32,
    /// What is in the bank, of each epoch.
    counters: [Counters; 2],
    /// Head of each ring, and its tail as last read.
    rings: Vec<(u64, u64)>,
}

/// How much a packet counts for, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Amount {
    /// Packets: more than 1 where a buffer stands for several.
    pub packets: u32,
    /// Octets of their IP packets.
    pub octets: u32,
    /// When they were seen.
    pub at: Tick,
}

impl SlotWriter {
    pub(super) fn new(bank: Bank, row: u32, rules: CacheRules) -> Self {
        assert!(row < bank.sizing.rows, "row {row} of {}", bank.sizing.rows);
        let rings = vec![(0, 0); 1 << bank.sizing.range_bits];
        Self { bank, row, rules, epoch: 0, counters: [Counters::default(); 2], rings }
    }

    /// The hash by which a key finds its set; to be passed to the other calls.
    #[inline]
    #[must_use]
    pub fn hash(&self, packet: &ParsedPacket) -> u64 {
        self.rules.seed.hash(&packet.key, self.rules.key_mask)
    }

    /// The hash by which flows are sampled, of [`Self::hash`].
    #[inline]
    #[must_use]
    pub fn sampling_hash(&self, hash: u64) -> u32 {
        self.rules.seed.sampling(hash)
    }

    /// Asks for the set of a hash before it is needed.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.bank.cache.prefetch(self.index(hash));
    }

    #[inline]
    fn set(&self, hash: u64) -> u32 {
        u32::try_from(hash >> (64 - self.bank.sizing.set_bits)).unwrap_or(0)
    }

    #[inline]
    fn index(&self, hash: u64) -> usize {
        (((self.row * 2 + self.epoch) << self.bank.sizing.set_bits) + self.set(hash)) as usize
    }

    /// Counts a packet in its slot. `refusal` is asked when its flow has none yet.
    ///
    /// # Errors
    /// What `refusal` says; it is not counted anywhere then.
    #[inline]
    pub fn count(
        &mut self,
        hash: u64,
        packet: &ParsedPacket,
        amount: Amount,
        refusal: impl FnOnce() -> Result<(), Outcome>,
    ) -> Result<(), Outcome> {
        let index = self.index(hash);
        // SAFETY: the half of the active epoch of this row is this writer's (see the module), and the reference ends
        // with this call.
        let [first, second] = unsafe { &mut self.bank.cache.exclusive(index).slots };
        let details = match &self.bank.details {
            Some(details) => {
                // SAFETY: as for the slots.
                let [first, second] = unsafe { &mut details.exclusive(index).details };
                [Some(first), Some(second)]
            }
            None => [None, None],
        };
        let sighting = Sighting {
            packet,
            packets: amount.packets,
            octets: amount.octets,
            key_mask: self.rules.key_mask,
            now: amount.at,
            epoch: self.epoch,
        };
        let range = self.set(hash) >> (self.bank.sizing.set_bits - self.bank.sizing.range_bits);
        let counters = &mut self.counters[self.epoch as usize];
        let mut ring = Ring {
            bank: &self.bank,
            ring: self.bank.sizing.ring(self.row, range) as usize,
            ends: &mut self.rings[range as usize],
            counters,
        };
        sighting.count([first, second], details, &mut ring, refusal)?;
        counters.metered_packets += u64::from(amount.packets);
        counters.metered_octets += u64::from(amount.octets);
        if let Some(note) = packet.note {
            self.note(note, amount.packets.into());
        }
        Ok(())
    }

    /// Counts packets that came, whatever becomes of them. `octets` are those of their frames.
    #[inline]
    pub fn received(&mut self, packets: u64, octets: u64) {
        let counters = &mut self.counters[self.epoch as usize];
        counters.received_packets += packets;
        counters.received_octets += octets;
    }

    /// Counts packets that are not metered.
    #[inline]
    pub fn unmetered(&mut self, outcome: Outcome, packets: u64) {
        self.counters[self.epoch as usize].outcomes[outcome as usize] += packets;
    }

    fn note(&mut self, note: Note, packets: u64) {
        self.counters[self.epoch as usize].notes[note as usize] += packets;
    }

    /// Lets others see the counters of the active epoch; those of the other stand still.
    pub fn publish(&self) {
        let at = (self.row * 2 + self.epoch) as usize;
        self.bank.counters.write(at, self.counters[self.epoch as usize]);
    }

    /// The epoch (0 or 1) that packets count in.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Counts in another epoch from now on. The half of the one before belongs to the readers once the caller has
    /// told them, with release; this one must have been given back.
    pub fn switch(&mut self, epoch: u32) {
        self.publish();
        self.epoch = epoch & 1;
    }
}

/// One ring, while a slot is counted.
struct Ring<'a> {
    bank: &'a Bank,
    ring: usize,
    ends: &'a mut (u64, u64),
    counters: &'a mut Counters,
}

impl Spill for Ring<'_> {
    /// Fragments that were held back come later than they were seen.
    const IN_ORDER: bool = false;

    #[inline]
    fn spill(&mut self, slot: &Slot, detail: Option<&Detail>) {
        let records = u64::from(self.bank.sizing.spill_records);
        let (head, seen_tail) = &mut *self.ends;
        if *head - *seen_tail >= records {
            let tail = self.bank.cursor.word64(self.ring, offset_of!(RingCursor, tail));
            // Acquire: the reader has copied what lies before the tail.
            *seen_tail = tail.load(Ordering::Acquire);
            if *head - *seen_tail >= records {
                self.counters.lost_records += 1;
                self.counters.lost_packets += u64::from(slot.packets);
                self.counters.lost_octets += u64::from(slot.octets);
                return;
            }
        }
        let position = usize::try_from(*head & (records - 1)).unwrap_or(0);
        let index = self.ring * self.bank.sizing.spill_records as usize + position;
        self.bank.spill.write(index, *slot);
        if let (Some(details), Some(detail)) = (&self.bank.spilled_details, detail) {
            details.write(index, *detail);
        }
        *head += 1;
        // Release: the record was written before.
        self.bank.cursor.word64(self.ring, offset_of!(RingCursor, head)).store(*head, Ordering::Release);
        self.counters.spilled_records += 1;
    }
}
