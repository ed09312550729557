// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One slot of the micro-flow cache: exactly one cache line. Its alignment is 8, because LLVM's BPF backend
//! copies no stricter type; the maps place every slot on a multiple of 64 octets all the same.

use crate::{FlowKey, IpVersion, Tick, flow_key::KEY_WORDS};

/// What one CPU has counted for a key since the slot was created. 64 octets, all of them used.
///
/// A slot with `packets == 0` is free. The last key word carries, in bits 48-63, the TCP flags (12 bits)
/// and in bit 63 the epoch in which the slot was created.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Slot {
    words: [u64; KEY_WORDS],
    /// Packets; 0 marks a free slot.
    pub packets: u32,
    /// Octets of the IP packets. The kernel evicts a slot before this overflows.
    pub octets: u32,
    /// When the first packet came.
    pub first: Tick,
    /// When the last packet came.
    pub last: Tick,
}

const _: () = assert!(size_of::<Slot>() == 64, "a slot is one cache line");

const FLAGS_SHIFT: u32 = 48;
const EPOCH_SHIFT: u32 = 63;
const FLAGS_MASK: u64 = 0xfff << FLAGS_SHIFT;

impl Slot {
    /// A slot of one packet. `epoch` is 0 or 1.
    #[inline(always)]
    #[must_use]
    pub fn new(key: &FlowKey, octets: u32, tcp_flags: u16, now: Tick, epoch: u32) -> Self {
        let mut words = key.words;
        words[5] |= (tcp_flags as u64) << FLAGS_SHIFT & FLAGS_MASK | (epoch as u64) << EPOCH_SHIFT;
        Self { words, packets: 1, octets, first: now, last: now }
    }

    /// Whether the slot counts for `key`; `mask` says which bits of key word 5 count.
    #[inline(always)]
    #[must_use]
    pub fn is_for(&self, key: &FlowKey, mask: u64) -> bool {
        let mut difference = (self.words[1] ^ key.words[1])
            | (self.words[3] ^ key.words[3])
            | (self.words[4] ^ key.words[4])
            | ((self.words[5] ^ key.words[5]) & mask);
        // The version is always part of the mask, and words 0 and 2 of every IPv4 key are zero.
        if key.ip_version() == IpVersion::V6 {
            difference |= (self.words[0] ^ key.words[0]) | (self.words[2] ^ key.words[2]);
        }
        difference == 0
    }

    /// Adds TCP flags (12 bits).
    #[inline(always)]
    pub fn add_tcp_flags(&mut self, tcp_flags: u16) {
        self.words[5] |= (tcp_flags as u64) << FLAGS_SHIFT & FLAGS_MASK;
    }

    /// The key.
    #[inline(always)]
    #[must_use]
    pub fn key(&self) -> FlowKey {
        FlowKey::from_words(self.words)
    }

    /// All TCP flags seen (12 bits, RFC 9293 section 3.1).
    #[inline(always)]
    #[must_use]
    pub fn tcp_flags(&self) -> u16 {
        ((self.words[5] & FLAGS_MASK) >> FLAGS_SHIFT) as u16
    }

    /// The epoch (0 or 1) in which the slot was created.
    #[inline(always)]
    #[must_use]
    pub fn epoch(&self) -> u32 {
        (self.words[5] >> EPOCH_SHIFT) as u32
    }
}
