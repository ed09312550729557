// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Waiting for running programs.
//!
//! An update of a map of maps returns only when every program that was running has ended:
//! `maybe_wait_bpf_programs` calls `synchronize_rcu` (kernel/bpf/syscall.c). So after a flip of the epoch
//! and one such update, nobody writes the quiet half any more. The wait takes some 10 ms.

use std::io;

use aya::maps::{Array, ArrayOfMaps, MapData};

use super::KernelError;

/// The map that nobody reads.
pub struct Barrier {
    outer: ArrayOfMaps<MapData, Array<MapData, u32>>,
    inner: Array<MapData, u32>,
}

impl Barrier {
    pub(super) fn new(outer: ArrayOfMaps<MapData, Array<MapData, u32>>, inner: Array<MapData, u32>) -> Self {
        Self { outer, inner }
    }

    /// Returns when every program that runs now has ended.
    ///
    /// # Errors
    /// When the update fails, in which case nothing was waited for.
    pub fn wait(&mut self) -> Result<(), KernelError> {
        self.outer.set(0, &self.inner, 0).map_err(|error| KernelError::Call {
            attempted: "waiting for running XDP programs",
            error: io::Error::other(error),
        })
    }
}
