// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the kernel program is told while it runs.

use std::sync::{Mutex, PoisonError};

use aya::maps::{Array, MapData};
use probe_common::{Control, sampling_threshold};

use super::KernelError;

/// The program's global, and what it holds now. Each word is written as a whole, so the program sees the
/// old one or the new one.
pub struct ControlMap {
    shared: Mutex<(Array<MapData, Control>, Control)>,
    /// Of so many flows one is metered in any case.
    flow_interval: u32,
}

impl ControlMap {
    /// For a program that meters one of `flow_interval` flows (0 and 1: all).
    pub(super) fn new(map: Array<MapData, Control>, flow_interval: u32) -> Self {
        Self { shared: Mutex::new((map, Control::UNSET)), flow_interval: flow_interval.max(1) }
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

    /// Meters one of `interval` of the flows that would be metered at 1; 0 and 1 stand for all of them. The
    /// flows that stay at a larger interval are among those that stay at a smaller one. It holds for packets
    /// from now on: what was counted of other flows stays.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_flow_sampling(&self, interval: u32) -> Result<(), KernelError> {
        let effective = u64::from(self.flow_interval) * u64::from(interval.max(1));
        self.change(|control| {
            control.flow_sampling = interval;
            control.flow_threshold = sampling_threshold(effective);
        })
    }

    fn change(&self, change: impl FnOnce(&mut Control)) -> Result<(), KernelError> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let (map, control) = &mut *shared;
        change(control);
        map.set(0, *control, 0).map_err(|error| KernelError::Call {
            attempted: "telling the kernel program",
            error: std::io::Error::other(error),
        })
    }
}
