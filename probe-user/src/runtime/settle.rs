// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Waiting until everything that programs had handed over when they were detached is counted.

use std::{thread, time::Duration};

use crate::harvest::{Cycle, SharedReport};

/// A swap that takes longer than this means that the probe is in trouble of another kind.
const LIMIT: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(1);

/// Lets others wait for swaps.
#[derive(Clone)]
pub(super) struct Settle {
    cycle: Cycle,
    report: SharedReport,
}

impl Settle {
    /// Waits for the swaps of `cycle` that `report` tells of.
    pub(super) fn new(cycle: Cycle, report: SharedReport) -> Self {
        Self { cycle, report }
    }

    /// Returns when two swaps have ended: of the second at least, the wait for running programs began after this was
    /// called, and the workers have counted since then what those had handed over.
    pub(super) fn wait(&self) {
        let until = self.report.read().swaps + 2;
        for _ in 0..LIMIT.as_millis() / LOOK.as_millis() {
            if self.report.read().swaps >= until {
                return;
            }
            self.cycle.hurry();
            thread::sleep(LOOK);
        }
    }
}
