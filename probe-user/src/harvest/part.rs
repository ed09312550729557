// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What one harvester has counted.

use crate::flow::{EndReason, Totals};

/// Counts of one harvester at the end of a harvest.
#[derive(Clone, Default, Debug)]
pub struct Part {
    /// What was merged of each epoch (even, odd) when it was last quiet and complete.
    pub complete: [Totals; 2],
    /// What was merged since of the epoch that is written now.
    pub ahead: Totals,
    /// How full its rings are, 0 to 1: those of the first bank's rows, then of the next bank's.
    pub spill_fill: Vec<f64>,
    /// Flows in its table.
    pub live: Totals,
    /// Most flows in its table.
    pub capacity: u64,
    /// Flows created since the start.
    pub created: u64,
    /// Flows expired since the start, in the order of [`EndReason::ALL`].
    pub expired: [u64; EndReason::ALL.len()],
    /// What went into its queue to the exporter.
    pub exported: Totals,
    /// Records in its queue to the exporter.
    pub queue_length: u64,
    /// What found the queue full.
    pub queue_full: Totals,
}
