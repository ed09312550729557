// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One live flow, as it lies in memory: 80 octets, 16-aligned, so that it touches exactly two cache lines.

use probe_common::{Detail, FlowKey, KEY_WORDS};

use super::{
    record::{EndReason, FlowRecord},
    time::{Moment, Timestamp},
};

/// Where a flow lies in the slab.
pub(super) type FlowId = u32;

/// One live flow.
///
/// `packets == 0` marks a free place; then the first word is one more than the id of the next free place.
/// The last key word carries the TCP flags in bits 48-59, as in a slot.
#[repr(C, align(16))]
#[derive(Clone, Copy)]
pub(super) struct Flow {
    pub(super) words: [u64; KEY_WORDS],
    pub(super) packets: u64,
    pub(super) octets: u64,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
}

const _: () = assert!(size_of::<Flow>() == 80, "two cache lines wherever it lies");

const FLAGS_SHIFT: u32 = 48;
const FLAGS_MASK: u64 = 0xfff << FLAGS_SHIFT;

impl Flow {
    /// A flow that has seen nothing but this.
    #[inline(always)]
    pub(super) fn new(key: &FlowKey, seen: &Seen) -> Self {
        let mut words = *key.words();
        words[5] |= (u64::from(seen.tcp_flags) << FLAGS_SHIFT) & FLAGS_MASK;
        Self { words, packets: seen.packets, octets: seen.octets, first: seen.first, last: seen.last }
    }

    /// Whether this place holds the flow of `key`; `mask` says which bits of key word 5 count.
    #[inline(always)]
    pub(super) fn is_for(&self, key: &FlowKey, mask: u64) -> bool {
        self.packets != 0 && key.matches(&self.key(), mask)
    }

    /// Adds what was seen. CPUs are read one after the other, so it may be older than what is known.
    #[inline(always)]
    pub(super) fn add(&mut self, seen: &Seen) {
        self.packets = self.packets.saturating_add(seen.packets);
        self.octets = self.octets.saturating_add(seen.octets);
        self.first = self.first.min(seen.first);
        self.last = self.last.max(seen.last);
        self.words[5] |= (u64::from(seen.tcp_flags) << FLAGS_SHIFT) & FLAGS_MASK;
    }

    #[inline(always)]
    pub(super) fn key(&self) -> FlowKey {
        FlowKey::from_words(self.words)
    }

    /// All TCP flags seen, 12 bits.
    #[inline(always)]
    pub(super) fn tcp_flags(&self) -> u16 {
        let [high, low, ..] = (self.words[5] & FLAGS_MASK).to_be_bytes();
        u16::from_be_bytes([high, low])
    }

    /// The record that leaves the table in its place.
    pub(super) fn record(&self, detail: Detail, reason: EndReason, moment: Moment) -> FlowRecord {
        FlowRecord {
            key: self.key(),
            packets: self.packets,
            octets: self.octets,
            start_ns: moment.wall.unix_ns(self.first),
            end_ns: moment.wall.unix_ns(self.last),
            tcp_flags: self.tcp_flags(),
            end_reason: reason,
            detail,
        }
    }
}

/// What a metered item adds to a flow, its times in order.
pub(super) struct Seen {
    pub(super) packets: u64,
    pub(super) octets: u64,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    pub(super) tcp_flags: u16,
}
