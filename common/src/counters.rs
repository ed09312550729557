// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel's counters: one block for each CPU and epoch, written by that CPU alone, never reset.

use crate::{NOTES, OUTCOMES};

/// One CPU's counters for the packets of one epoch (even or odd). After a swap the block of the quiet
/// epoch stands still, and agrees exactly with the slots created in it.
///
/// Octets of frames count from the Ethernet header, without FCS; octets of metered packets are those of
/// the IP packet as its header says.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Packets that entered the program.
    pub received_packets: u64,
    /// Octets of their frames.
    pub received_octets: u64,
    /// Packets counted in a slot.
    pub metered_packets: u64,
    /// Octets of their IP packets.
    pub metered_octets: u64,
    /// Slots evicted to the spill ring.
    pub spilled_records: u64,
    /// Slots that found the spill ring full, and what they had counted.
    pub lost_records: u64,
    /// Packets of those slots.
    pub lost_packets: u64,
    /// Octets of those slots.
    pub lost_octets: u64,
    /// Packets handed to an AF_XDP socket.
    pub steered_packets: u64,
    /// Packets not metered, by [`crate::Outcome`].
    pub outcomes: [u64; OUTCOMES],
    /// Packets metered with a [`crate::Note`].
    pub notes: [u64; NOTES],
    /// Zero.
    pub reserved: [u64; 3],
}

const _: () = assert!(size_of::<Counters>() == 192, "three cache lines");

impl Counters {
    /// The sum of two blocks.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let mut sum = *self;
        sum.received_packets += other.received_packets;
        sum.received_octets += other.received_octets;
        sum.metered_packets += other.metered_packets;
        sum.metered_octets += other.metered_octets;
        sum.spilled_records += other.spilled_records;
        sum.lost_records += other.lost_records;
        sum.lost_packets += other.lost_packets;
        sum.lost_octets += other.lost_octets;
        sum.steered_packets += other.steered_packets;
        for (counter, more) in sum.outcomes.iter_mut().zip(other.outcomes) {
            *counter += more;
        }
        for (counter, more) in sum.notes.iter_mut().zip(other.notes) {
            *counter += more;
        }
        sum
    }

    /// Packets not metered, for whatever reason.
    #[must_use]
    pub fn unmetered_packets(&self) -> u64 {
        self.outcomes.iter().sum()
    }
}
