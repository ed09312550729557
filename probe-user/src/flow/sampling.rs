// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which part of the traffic is metered, as asked for and as it is told to collectors.

use std::{
    fmt,
    num::NonZeroU32,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use probe_common::PacketSampling;

/// Selection before metering. The interval is N of "one of N".
///
/// Packets are selected before they are parsed, so one that is not is sampled out, whatever it is; flows are
/// selected after parsing. Nothing is scaled: a record counts what was metered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Sampling {
    /// Every packet.
    #[default]
    Off,
    /// Every N-th packet of each CPU (systematic count-based, RFC 5475 section 5.1).
    Deterministic(NonZeroU32),
    /// Each packet with probability 1/N (uniform probabilistic, RFC 5475 section 5.2.2.1); exactly
    /// floor(2^32 / N) / 2^32.
    Random(NonZeroU32),
    /// All packets of one flow in N, chosen by a keyed hash of the flow key (RFC 7014 section 5.2).
    Flow(NonZeroU32),
}

/// Why `--sampling` was not understood.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "'{0}' is no sampling; write off, 1:N (every Nth packet), random:N or flow:N, N from 1 to 4294967295"
)]
pub struct SamplingError(String);

impl Sampling {
    /// N of "one of N"; 1 when every packet counts.
    #[must_use]
    pub fn interval(self) -> u32 {
        match self {
            Self::Off => 1,
            Self::Deterministic(interval) | Self::Random(interval) | Self::Flow(interval) => interval.get(),
        }
    }
}

impl Sampling {
    /// Its part before parsing.
    #[must_use]
    pub fn packets(self) -> PacketSampling {
        match self {
            Self::Off | Self::Flow(_) => PacketSampling::OFF,
            Self::Deterministic(interval) => PacketSampling::every(interval.get()),
            Self::Random(interval) => PacketSampling::one_in(interval.get()),
        }
    }

    /// Its part after parsing: of so many flows one is metered.
    #[must_use]
    pub fn flow_interval(self) -> u32 {
        match self {
            Self::Flow(interval) => interval.get(),
            Self::Off | Self::Deterministic(_) | Self::Random(_) => 1,
        }
    }
}

impl FromStr for Sampling {
    type Err = SamplingError;

    fn from_str(text: &str) -> Result<Self, SamplingError> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let error = || SamplingError(text.to_owned());
        let (kind, interval) = text.split_once(':').ok_or_else(error)?;
        let interval: NonZeroU32 = interval.parse().map_err(|_| error())?;
        match (kind, interval.get()) {
            ("1" | "random" | "flow", 1) => Ok(Self::Off),
            ("1", _) => Ok(Self::Deterministic(interval)),
            ("random", _) => Ok(Self::Random(interval)),
            ("flow", _) => Ok(Self::Flow(interval)),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Sampling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Deterministic(interval) => write!(f, "1:{interval}"),
            Self::Random(interval) => write!(f, "random:{interval}"),
            Self::Flow(interval) => write!(f, "flow:{interval}"),
        }
    }
}

/// The interval of the flow sampling that an overload has brought about, as it is now: one writer, any number
/// of readers. It comes on top of what was asked for: one flow in (asked for × now) is metered.
#[derive(Clone, Debug)]
pub struct SamplingNow(Arc<AtomicU32>);

impl Default for SamplingNow {
    fn default() -> Self {
        Self(Arc::new(AtomicU32::new(1)))
    }
}

impl SamplingNow {
    /// N of "one flow in N"; 1 when every flow is metered.
    #[must_use]
    pub fn interval(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Changes it for all readers; 0 means 1.
    pub fn set(&self, interval: u32) {
        self.0.store(interval.max(1), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for text in ["off", "1:100", "random:2", "flow:4294967295"] {
            assert_eq!(text.parse::<Sampling>().unwrap().to_string(), text);
        }
        for text in ["1:1", "random:1", "flow:1"] {
            assert_eq!(text.parse::<Sampling>().unwrap(), Sampling::Off);
        }
        for text in ["", "2:10", "1:0", "flow", "random:x", "1:4294967296"] {
            assert!(text.parse::<Sampling>().is_err(), "{text}");
        }
    }
}
