// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How jiffies and `CLOCK_MONOTONIC` relate, which the kernel program needs to stamp packets.
//!
//! The kernel counts a jiffy each time `CLOCK_MONOTONIC` has moved on by a whole number of `TICK_NSEC`
//! (`tick_do_update_jiffies64` in kernel/time/tick-sched.c), so one is the other times a constant plus a
//! constant. The first is the resolution of `CLOCK_MONOTONIC_COARSE`, the second is learned by reading both.

use aya::{
    Ebpf,
    maps::{Array, MapData},
    programs::{TestRun, TestRunOptions, Xdp},
};
use nix::time::{ClockId, clock_getres};
use probe_common::{ClockReading, map_name};

use super::{
    KernelError, programs,
    refusal::{chain, mismatch, take},
};

const PROGRAM: &str = "probe_clock";
/// Shortest frame that a test run takes (ETH_HLEN).
const FRAME: [u8; 14] = [0; 14];

/// The reader of both clocks.
pub(super) struct KernelClock {
    map: Array<MapData, ClockReading>,
    jiffy_ns: u64,
    began_ns: Option<u64>,
}

impl KernelClock {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, KernelError> {
        let map = Array::try_from(take(ebpf, map_name::CLOCK)?).map_err(|_| mismatch(map_name::CLOCK))?;
        program(ebpf)?;
        let resolution =
            clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map_err(|errno| KernelError::Call {
                attempted: "asking for the resolution of CLOCK_MONOTONIC_COARSE",
                error: errno.into(),
            })?;
        let jiffy_ns = u64::try_from(resolution.tv_nsec()).unwrap_or(0).max(1);
        Ok(Self { map, jiffy_ns, began_ns: None })
    }

    /// Nanoseconds of one jiffy.
    pub(super) fn jiffy_ns(&self) -> u64 {
        self.jiffy_ns
    }

    /// Reads both clocks; when the relation is known better than before, or has changed, returns the time
    /// of jiffy 0.
    pub(super) fn learn(&mut self, ebpf: &mut Ebpf) -> Result<Option<u64>, KernelError> {
        let options = TestRunOptions { data_in: Some(&FRAME), ..TestRunOptions::default() };
        program(ebpf)?.test_run(options).map_err(|error| failed(chain(&error)))?;
        let reading = self.map.get(&0, 0).map_err(|error| failed(chain(&error)))?;
        let began_ns = relate(self.began_ns, reading, self.jiffy_ns);
        Ok((self.began_ns.replace(began_ns) != Some(began_ns)).then_some(began_ns))
    }
}

/// Time of jiffy 0, from a reading and what was known before.
///
/// The coarse clock is set a little after the jiffy begins, by as much as the timer's interrupt was late: the
/// earliest reading is the best. One that is later by more than two jiffies means that the relation is
/// another.
fn relate(known: Option<u64>, reading: ClockReading, jiffy_ns: u64) -> u64 {
    let seen = reading.monotonic_ns.wrapping_sub(reading.jiffies.wrapping_mul(jiffy_ns));
    match known {
        Some(known) if (0..=2 * jiffy_ns.cast_signed()).contains(&seen.wrapping_sub(known).cast_signed()) => {
            known
        }
        _ => seen,
    }
}

fn failed(why: String) -> KernelError {
    KernelError::Call { attempted: "reading the kernel's clocks", error: std::io::Error::other(why) }
}

fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp, KernelError> {
    programs::xdp(ebpf, PROGRAM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_reading_stays_until_the_relation_changes() {
        const JIFFY: u64 = 4_000_000;
        let reading = |jiffies: u64, late: u64| ClockReading {
            jiffies,
            // Jiffies begin before the clock does, as they do in Linux.
            monotonic_ns: jiffies.wrapping_mul(JIFFY).wrapping_sub(1_000_000_007).wrapping_add(late),
        };
        let began = 0u64.wrapping_sub(1_000_000_007);
        let first = relate(None, reading(4_294_900_000, 30_000), JIFFY);
        assert_eq!(first, began.wrapping_add(30_000));
        assert_eq!(relate(Some(first), reading(4_294_900_100, 900_000), JIFFY), first);
        let better = relate(Some(first), reading(4_294_900_200, 1_000), JIFFY);
        assert_eq!(better, began.wrapping_add(1_000));
        let jumped = relate(Some(better), reading(4_294_900_300, 9_000_000), JIFFY);
        assert_eq!(jumped, began.wrapping_add(9_000_000));
    }
}
