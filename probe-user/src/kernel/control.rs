// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the kernel program is told while it runs.

use std::sync::{Mutex, PoisonError};

use aya::maps::{Array, MapData};
use probe_common::Control;

use super::KernelError;

/// The program's global, and what it holds now. Each word is written as a whole, so the program sees the
/// old one or the new one.
pub struct ControlMap(Mutex<(Array<MapData, Control>, Control)>);

impl ControlMap {
    pub(super) fn new(map: Array<MapData, Control>) -> Self {
        Self(Mutex::new((map, Control::UNSET)))
    }

    /// Makes a half of the caches active: 0 or 1.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_epoch(&self, epoch: u32) -> Result<(), KernelError> {
        self.change(|control| control.epoch = epoch & 1)
    }

    /// Tells how many streams of our own there are.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_own_exports(&self, count: u32) -> Result<(), KernelError> {
        self.change(|control| control.own_exports = count)
    }

    /// Tells how jiffies and `CLOCK_MONOTONIC` relate.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_clock(&self, jiffy_ns: u64, jiffies_began_ns: u64) -> Result<(), KernelError> {
        self.change(|control| {
            control.jiffy_ns = jiffy_ns;
            control.jiffies_began_ns = jiffies_began_ns;
        })
    }

    fn change(&self, change: impl FnOnce(&mut Control)) -> Result<(), KernelError> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (map, control) = &mut *shared;
        change(control);
        map.set(0, *control, 0).map_err(|error| KernelError::Call {
            attempted: "telling the kernel program",
            error: std::io::Error::other(error),
        })
    }
}
