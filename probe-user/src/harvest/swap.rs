// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The cycle in which the caches are read.
//!
//! ```text
//! swapper    Resting ─time─→ flip, wait for running programs ─→ Switching (workers) ─→ Harvesting ─→ compare ─→ Resting
//! harvester  Resting ─begun─→ Reading (its range of the quiet halves) ─→ Catching up (rings, to where they were)
//!               ↑                                                              │
//!               └───────────── Relieving ←──────────── Expiring ←──────────────┘
//! ```
//!
//! When every harvester has read its rings up to where they stood at the end of the wait, every packet of the epoch that
//! ended has been merged, and the writers' counters of that epoch stand still: they must agree.

use super::cycle::Harvest;

/// Where a harvester is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Swap {
    /// Nothing is quiet that was not read.
    Resting,
    /// The quiet halves are being read.
    Reading {
        harvest: Harvest,
        /// Heads of the rings when the quiet half became quiet.
        heads: Vec<u64>,
    },
    /// The quiet halves are read; the rings are not yet, up to these heads.
    CatchingUp { harvest: Harvest, heads: Vec<u64> },
    /// All of the epoch that ended is merged; flows that are over leave the table.
    Expiring { harvest: Harvest },
    /// Under overload some leave it that are not over, at most so many in this cycle.
    Relieving { harvest: Harvest, flows: usize },
}
