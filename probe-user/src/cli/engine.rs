// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The values of options that say how packets get into the probe.

use std::{fmt, str::FromStr, time::Duration};

use clap::ValueEnum;
use serde::Serialize;

/// What takes the packets.
#[derive(ValueEnum, Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Engine {
    /// `xdp` where the interface can, else `af_packet`; the log says which and why
    Auto,
    /// Metered in the kernel as they arrive: the cheapest, up to many flows
    Xdp,
    /// Handed to the probe past the kernel's stack: pays with zero-copy NICs and very many flows
    AfXdp,
    /// Copied to the probe by the stack: for interfaces without XDP, several times slower
    AfPacket,
}

/// How the kernel program is attached.
#[derive(ValueEnum, Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum XdpMode {
    /// Native if the driver can, else generic with a warning
    Auto,
    /// In the driver: fast
    Native,
    /// In the kernel's general receive path: works everywhere, several times slower
    Generic,
    /// In the traffic control layer instead of XDP: sees packets after the kernel put segments together
    Tc,
}

/// Which packets of a host's interface are metered.
#[derive(ValueEnum, Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Each packet once: what comes in, and what goes out unless it came in on a metered interface
    Once,
    /// What comes in
    Ingress,
    /// What goes out
    Egress,
    /// What comes in and what goes out; a forwarded packet counts on both interfaces
    Both,
}

/// Whether AF_XDP sockets share the NIC's own buffers.
#[derive(ValueEnum, Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum ZeroCopy {
    /// With --engine af_xdp where the driver can, else packets are copied; the log says which
    Auto,
    /// Packets are copied
    Off,
    /// Do not start where the driver cannot
    Required,
}

/// How long a worker asks the NIC for packets before it sleeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BusyPoll {
    /// Not at all: an interrupt wakes the worker.
    Off,
    /// For so long (`SO_BUSY_POLL`): 1 µs to 100 ms.
    For(Duration),
}

/// Longer polling only burns a CPU; the kernel takes more.
const LONGEST_POLL: u64 = 100_000;

impl FromStr for BusyPoll {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let micros = match text.strip_suffix("us") {
            Some(number) => number.parse::<u64>().ok(),
            None => text.strip_suffix("ms").and_then(|number| number.parse::<u64>().ok()?.checked_mul(1000)),
        };
        match micros {
            Some(micros @ 1..=LONGEST_POLL) => Ok(Self::For(Duration::from_micros(micros))),
            _ => Err("allowed are off, or a duration from 1us to 100ms, such as 50us".into()),
        }
    }
}

impl fmt::Display for BusyPoll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::For(time) if time.subsec_micros().is_multiple_of(1000) => {
                write!(f, "{}ms", time.as_millis())
            }
            Self::For(time) => write!(f, "{}us", time.as_micros()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_polling_times_and_shows_them_in_the_same_form() {
        for (text, micros) in [("1us", 1), ("50us", 50), ("1500us", 1500), ("2ms", 2000), ("100ms", 100_000)]
        {
            let poll = BusyPoll::For(Duration::from_micros(micros));
            assert_eq!(text.parse(), Ok(poll), "{text}");
            assert_eq!(poll.to_string(), text);
        }
        assert_eq!("off".parse(), Ok(BusyPoll::Off));
        assert_eq!("2000us".parse(), "2ms".parse::<BusyPoll>());
        for text in ["", "on", "0us", "50", "101ms", "1s", "us", "-1us", "18446744073709551615ms"] {
            assert!(text.parse::<BusyPoll>().is_err(), "{text}");
        }
    }
}
