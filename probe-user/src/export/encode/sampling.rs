// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How much of the traffic a collector sees, put together from all that was left out before.

use super::Told;
use crate::flow::Sampling;

/// Selection of packets, and after it of flows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SamplingTold {
    /// How packets are selected; never by flow.
    pub(super) packets: Sampling,
    /// Flows are sampled one in so many: as configured, by overload and for this collector alone.
    pub(super) flows: u32,
}

/// Values of the mode in the v5 header (and of samplingAlgorithm, element 35).
const DETERMINISTIC: u8 = 1;
const RANDOM: u8 = 2;

impl SamplingTold {
    /// Largest interval that the v5 header can tell.
    pub(super) const MAX_V5_INTERVAL: u16 = (1 << 14) - 1;

    pub(super) fn new(told: &Told, record_sampling: u32) -> Self {
        let (packets, flows) = match told.sampling {
            Sampling::Flow(interval) => (Sampling::Off, interval.get()),
            packets => (packets, 1),
        };
        let flows =
            flows.saturating_mul(told.overload_sampling.max(1)).saturating_mul(record_sampling.max(1));
        Self { packets, flows }
    }

    /// What packets and octets are to be multiplied with to estimate the traffic.
    pub(super) fn interval(&self) -> u32 {
        self.packets.interval().saturating_mul(self.flows)
    }

    /// 0 for all packets, else 1 (deterministic) or 2 (random). Flows chosen by a hash are as good as random.
    pub(super) fn mode(&self) -> u8 {
        match self.packets {
            _ if self.interval() == 1 => 0,
            Sampling::Deterministic(_) if self.flows == 1 => DETERMINISTIC,
            _ => RANDOM,
        }
    }

    /// Last field of the v5 header, 0 for all packets; and whether the interval did not fit.
    ///
    /// The mode can be left out for collectors that take all 16 bits for the interval (Akvorado).
    pub(super) fn v5_field(&self, mode_bits: bool) -> (u16, bool) {
        let mode = self.mode();
        if mode == 0 {
            return (0, false);
        }
        let fitting =
            u16::try_from(self.interval()).ok().filter(|interval| *interval <= Self::MAX_V5_INTERVAL);
        let bits = if mode_bits { u16::from(mode) << 14 } else { 0 };
        (bits | fitting.unwrap_or(Self::MAX_V5_INTERVAL), fitting.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(sampling: &str, overload_sampling: u32, record_sampling: u32) -> SamplingTold {
        let told = Told { sampling: sampling.parse().unwrap(), overload_sampling, ..Told::default() };
        SamplingTold::new(&told, record_sampling)
    }

    #[test]
    fn all_that_was_left_out_counts() {
        for (sampling, overload, record, interval, mode, field) in [
            ("off", 0, 0, 1, 0, 0),
            ("off", 1, 1, 1, 0, 0),
            ("1:100", 1, 1, 100, 1, 0x4000 | 100),
            ("random:100", 1, 1, 100, 2, 0x8000 | 100),
            ("flow:8", 1, 1, 8, 2, 0x8000 | 8),
            ("1:100", 4, 2, 800, 2, 0x8000 | 800),
            ("off", 4, 2, 8, 2, 0x8000 | 8),
        ] {
            let told = told(sampling, overload, record);
            assert_eq!((told.interval(), told.mode()), (interval, mode), "{sampling}");
            assert_eq!(told.v5_field(true), (field, false), "{sampling}");
            assert_eq!(told.v5_field(false), (field & 0x3fff, false), "{sampling}");
        }
    }

    #[test]
    fn an_interval_that_does_not_fit_is_cut_and_said_so() {
        assert_eq!(told("1:16383", 1, 1).v5_field(true), (0x7fff, false));
        assert_eq!(told("1:16384", 1, 1).v5_field(true), (0x7fff, true));
        assert_eq!(told("1:4294967295", 9, 9).interval(), u32::MAX);
    }
}
