// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The one place that reads the clocks.

use nix::time::{ClockId, clock_gettime};

use crate::flow::{Moment, Timestamp, WallOffset};

/// Both clocks: `CLOCK_MONOTONIC`, in which the kernel program stamps packets, and what makes Unix time of
/// it.
#[must_use]
pub fn now() -> Moment {
    let monotonic = read(ClockId::CLOCK_MONOTONIC);
    let wall = read(ClockId::CLOCK_REALTIME);
    Moment {
        now: Timestamp(monotonic),
        wall: WallOffset(wall.cast_signed().wrapping_sub(monotonic.cast_signed())),
    }
}

fn read(clock: ClockId) -> u64 {
    // Both clocks exist on every Linux; a clock that fails would read as 1970.
    clock_gettime(clock).map_or(0, |time| {
        u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0)
    })
}
