// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which packets are metered where not all are. The kernel and user space call the same functions.
//!
//! - **Packet sampling** comes first, before anything is read of a packet: one that is not selected is
//!   [`crate::Outcome::SampledOut`], whatever it is. Parsing it only to know what it would have been is what
//!   sampling is to save.
//! - **Flow sampling** comes after parsing, since it needs the key: all packets of a flow are selected, or
//!   none (RFC 7014 section 5.2).

/// Packet sampling. The loader writes it into the program's read-only data.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct PacketSampling {
    /// 0: every packet; 1: every Nth of a CPU; 2: each with a probability.
    pub mode: u32,
    /// N, or the probability in units of 2^-32.
    pub parameter: u32,
}

impl PacketSampling {
    /// Every packet.
    pub const OFF: Self = Self { mode: Self::ALL, parameter: 0 };
    /// Mode: every packet.
    pub const ALL: u32 = 0;
    /// Mode: every Nth packet of a CPU (systematic count-based, RFC 5475 section 5.1).
    pub const COUNT: u32 = 1;
    /// Mode: each packet with the same probability (uniform probabilistic, RFC 5475 section 5.2.2.1).
    pub const CHANCE: u32 = 2;

    /// Every `interval`th packet of each CPU; 0 and 1 stand for all.
    #[must_use]
    pub const fn every(interval: u32) -> Self {
        if interval < 2 { Self::OFF } else { Self { mode: Self::COUNT, parameter: interval } }
    }

    /// Each packet with a probability of floor(2^32 / `interval`) / 2^32; 0 and 1 stand for all.
    #[must_use]
    pub const fn one_in(interval: u32) -> Self {
        if interval < 2 {
            Self::OFF
        } else {
            Self { mode: Self::CHANCE, parameter: threshold(interval as u64) }
        }
    }

    /// Mode [`Self::COUNT`]: whether this packet is selected. `passed` counts those since the last one that was.
    #[inline(always)]
    pub fn selects_count(self, passed: &mut u32) -> bool {
        *passed += 1;
        let selected = *passed >= self.parameter;
        if selected {
            *passed = 0;
        }
        selected
    }

    /// Mode [`Self::CHANCE`]: whether a packet is selected, by a random number drawn for it.
    #[inline(always)]
    #[must_use]
    pub fn selects_chance(self, random: u32) -> bool {
        random < self.parameter
    }
}

/// Below which value a number of 32 bits is selected, for one in `interval`: floor(2^32 / interval), at least 1.
/// 0 stands for all, when `interval` is 0 or 1.
#[must_use]
pub const fn threshold(interval: u64) -> u32 {
    if interval < 2 {
        return 0;
    }
    let threshold = (1 << 32) / interval;
    if threshold == 0 { 1 } else { threshold as u32 }
}

/// Flow sampling: whether a flow is selected, by [`crate::HashSeed::sampling`] of its key. `threshold` is that
/// of [`threshold`], so flows selected at a larger interval are among those selected at a smaller one.
#[inline(always)]
#[must_use]
pub fn selects_flow(threshold: u32, sampling_hash: u32) -> bool {
    threshold == 0 || sampling_hash < threshold
}

/// What one CPU remembers from packet to packet, over swaps: a cache line of its own.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct SamplerState {
    /// Packets since the last one that was selected by count.
    pub passed: u32,
    reserved: [u32; 15],
}

const _: () = assert!(size_of::<SamplerState>() == 64, "one cache line");

/// Sampling for engines in user space, by the rules of the kernel program.
#[derive(Clone, Debug)]
pub struct Sampler {
    packets: PacketSampling,
    flow_threshold: u32,
    passed: u32,
    random: u64,
}

impl Sampler {
    /// Selects by `packets`, then flows one in `flow_interval` (0 and 1: all). `seed` begins the random
    /// numbers.
    #[must_use]
    pub fn new(packets: PacketSampling, flow_interval: u64, seed: u64) -> Self {
        Self { packets, flow_threshold: threshold(flow_interval), passed: 0, random: seed }
    }

    /// Whether the next packet is selected.
    #[inline(always)]
    pub fn selects_packet(&mut self) -> bool {
        match self.packets.mode {
            PacketSampling::COUNT => self.packets.selects_count(&mut self.passed),
            PacketSampling::CHANCE => {
                let random = self.draw();
                self.packets.selects_chance(random)
            }
            _ => true,
        }
    }

    /// Whether flows are sampled at all; if not, their keys need not be hashed.
    #[inline(always)]
    #[must_use]
    pub fn samples_flows(&self) -> bool {
        self.flow_threshold != 0
    }

    /// Whether the flow with this [`crate::HashSeed::sampling`] hash is selected.
    #[inline(always)]
    #[must_use]
    pub fn selects_flow(&self, sampling_hash: u32) -> bool {
        selects_flow(self.flow_threshold, sampling_hash)
    }

    /// `SplitMix64` (Steele, Lea and Flood, OOPSLA 2014), its high half.
    fn draw(&mut self) -> u32 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(sampler: &mut Sampler, packets: u32) -> u32 {
        (0..packets).filter(|_| sampler.selects_packet()).count() as u32
    }

    #[test]
    fn every_nth_packet_is_selected() {
        let mut sampler = Sampler::new(PacketSampling::every(4), 1, 0);
        let selected: std::vec::Vec<bool> = (0..9).map(|_| sampler.selects_packet()).collect();
        assert_eq!(selected, [false, false, false, true, false, false, false, true, false]);
        for interval in [2, 3, 100, u32::MAX] {
            assert_eq!(
                count(&mut Sampler::new(PacketSampling::every(interval), 1, 0), 1000),
                1000 / interval
            );
        }
        for all in [PacketSampling::every(1), PacketSampling::every(0), PacketSampling::one_in(1)] {
            assert_eq!(all, PacketSampling::OFF);
        }
        assert_eq!(count(&mut Sampler::new(PacketSampling::OFF, 1, 0), 10), 10);
    }

    #[test]
    fn chance_selects_its_share() {
        for interval in [2u32, 10, 1000] {
            let packets = 2_000_000;
            let selected = count(&mut Sampler::new(PacketSampling::one_in(interval), 1, 7), packets);
            let (share, packets) = (1.0 / f64::from(interval), f64::from(packets));
            let sigma = (packets * share * (1.0 - share)).sqrt();
            let off = (f64::from(selected) - packets * share).abs();
            assert!(off < 6.0 * sigma, "1 in {interval}: {selected}, {off} off, sigma {sigma}");
        }
    }

    #[test]
    fn thresholds_round_down_and_never_to_nothing() {
        let cases = [
            (0, 0),
            (1, 0),
            (2, 1 << 31),
            (3, 1_431_655_765),
            (1 << 32, 1),
            (u64::MAX, 1),
            (4_294_967_295, 1),
        ];
        for (interval, expected) in cases {
            assert_eq!(threshold(interval), expected, "{interval}");
        }
        assert!(selects_flow(threshold(1), u32::MAX) && selects_flow(threshold(u64::MAX), 0));
    }
}
