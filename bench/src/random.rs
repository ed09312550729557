// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Random numbers for benches: the same ones in every run, and cheap beside what is measured.

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence; the same for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    #[inline(always)]
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// The next number below `bound`, without a bias that matters here.
    #[inline(always)]
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }
}

/// A seed for the hash of flow keys: random octets, but the same in every run.
#[must_use]
pub fn hash_seed(seed: u64) -> probe_common::HashSeed {
    let mut random = Random::new(seed);
    let mut octets = [0; 56];
    for chunk in octets.chunks_exact_mut(8) {
        chunk.copy_from_slice(&random.next_u64().to_ne_bytes());
    }
    probe_common::HashSeed::from_random(octets)
}
