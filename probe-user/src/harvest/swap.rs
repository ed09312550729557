// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The cycle in which the kernel's caches are read:
//!
//! ```text
//! Resting ─time─→ Waiting (epoch flipped, running programs end) ─→ Reading (the quiet halves)
//!    ↑                                                                  │
//!    └── Relieving ←─ Expiring ←─ Catching up (rings, to where they were) ──┘
//! ```
//!
//! When the rings have been read up to where they stood at the end of the wait, every packet of the epoch
//! that ended has been merged, and the kernel's counters of that epoch stand still: they must agree.

/// Where the cycle is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Swap {
    /// Nothing to do until the interval has passed.
    Resting,
    /// The epoch was flipped; programs that began before may still run.
    Waiting,
    /// The quiet halves are being read.
    Reading {
        /// Heads of the rings when the quiet half became quiet.
        heads: Vec<u64>,
    },
    /// The quiet halves are read; the rings are not yet, up to these heads.
    CatchingUp {
        /// As above.
        heads: Vec<u64>,
    },
    /// All of the epoch that ended is merged; flows that are over leave the table.
    Expiring,
    /// Under overload some leave it that are not over.
    Relieving {
        /// Most that still do so in this cycle.
        flows: usize,
    },
}
