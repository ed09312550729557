// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The keyed hash of a flow key: NH (the hash of UMAC, RFC 4418 section 5.2.2) over the 32-bit halves of
//! the words, then a multiplication by a random odd number of which the high bits are used.
//!
//! NH is almost universal: for keys chosen without knowing the seed, two collide with probability 2^-32.
//! Its products do not depend on each other, so the CPU overlaps them.

use crate::{
    FlowKey, IpVersion,
    flow_key::{KEY_TOS_MASK, KEY_WORDS},
};

/// Random numbers drawn at start, so that nobody outside can aim packets at one set.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashSeed {
    /// Added to the halves of the words.
    pub addends: [u32; 2 * KEY_WORDS],
    /// Odd.
    pub multiplier: u64,
    /// What the two words contribute that are zero in every IPv4 key; kept so that they need not be hashed.
    ipv4: u64,
}

impl HashSeed {
    /// A seed of these numbers; `multiplier` is made odd.
    #[must_use]
    pub const fn new(addends: [u32; 2 * KEY_WORDS], multiplier: u64) -> Self {
        let ipv4 = product(0, addends[0], addends[1]).wrapping_add(product(0, addends[4], addends[5]));
        Self { addends, multiplier: multiplier | 1, ipv4 }
    }

    /// A seed of 56 random octets.
    #[must_use]
    pub fn from_random(random: [u8; 56]) -> Self {
        let mut addends = [0; 2 * KEY_WORDS];
        for (addend, octets) in addends.iter_mut().zip(random.chunks_exact(4)) {
            *addend = u32::from_ne_bytes([octets[0], octets[1], octets[2], octets[3]]);
        }
        let mut tail = [0; 8];
        tail.copy_from_slice(&random[48..]);
        Self::new(addends, u64::from_ne_bytes(tail))
    }

    /// The hash of a key; `mask` says which bits of word 5 count. The high bits are the good ones.
    #[inline(always)]
    #[must_use]
    pub fn hash(&self, key: &FlowKey, mask: u64) -> u64 {
        let [w0, w1, w2, w3, w4, w5] = key.words;
        let a = &self.addends;
        let constant = match key.ip_version() {
            IpVersion::V4 => self.ipv4,
            IpVersion::V6 => product(w0, a[0], a[1]).wrapping_add(product(w2, a[4], a[5])),
        };
        let sum = constant
            .wrapping_add(product(w1, a[2], a[3]))
            .wrapping_add(product(w3, a[6], a[7]))
            .wrapping_add(product(w4, a[8], a[9]))
            .wrapping_add(product(w5 & mask, a[10], a[11]));
        (sum ^ sum >> 32).wrapping_mul(self.multiplier)
    }

    /// A hash that both directions of a conversation share, also if their type of service differs. `mask` as
    /// for [`Self::hash`].
    #[inline(always)]
    #[must_use]
    pub fn conversation(&self, key: &FlowKey, mask: u64) -> u32 {
        let mask = mask & !KEY_TOS_MASK;
        let both = self.hash(key, mask).wrapping_add(self.hash(&key.reversed(), mask));
        ((both ^ both >> 32).wrapping_mul(self.multiplier) >> 32) as u32
    }

    /// The hash by which flows are sampled, of the key's [`Self::hash`]: mixed once more, by another number of
    /// the seed, so that the flows of one set are selected as any others.
    #[inline(always)]
    #[must_use]
    pub fn sampling(&self, hash: u64) -> u32 {
        let multiplier = (self.addends[0] as u64) << 32 | self.addends[1] as u64 | 1;
        let mixed = (hash ^ hash >> 32).wrapping_mul(multiplier);
        ((mixed ^ mixed >> 29).wrapping_mul(self.multiplier) >> 32) as u32
    }
}

#[inline(always)]
const fn product(word: u64, low: u32, high: u32) -> u64 {
    let low = (word as u32).wrapping_add(low);
    let high = ((word >> 32) as u32).wrapping_add(high);
    (low as u64).wrapping_mul(high as u64)
}
