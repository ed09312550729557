// SPDX-License-Identifier: Apache-2.0 OR MIT
//! slot → flow → record, on pinned cores.
//!
//! - `swapper`: makes the halves of the caches change places, compares and publishes
//! - `harvester`: one step: drain → merge → expire → enqueue, of a range of all caches
//! - `swap`: the cycle that both follow; `cycle`: what they tell each other of it
//! - `batch`: slots between bank and flow table
//! - `outlet`: records → queue, counting what finds no room
//! - `relief`: what is done when more comes than can be taken
//! - `part`, `report`: what telemetry gets to see, once for each swap

mod batch;
mod cycle;
mod harvester;
mod outlet;
mod part;
mod relief;
mod report;
mod swap;
mod swapper;

pub use cycle::Cycle;
pub use harvester::{Activity, Command, Harvester};
pub use outlet::Outlet;
pub use part::Part;
pub use report::{HarvestReport, Imbalance, RowsReport, SharedReport};
pub use swapper::{KernelWriters, SwapOptions, Swapper, WorkerWriters, Writers};
