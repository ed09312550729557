// SPDX-License-Identifier: Apache-2.0 OR MIT
//! slot → flow → record, on a pinned core.
//!
//! - `harvester`: one step: drain → merge → expire → enqueue
//! - `batch`: slots between kernel and flow table
//! - `swap`: the cycle in which the kernel's caches are read
//! - `outlet`: records → queue, counting what finds no room
//! - `relief`: what is done when more comes than can be taken
//! - `report`: what telemetry gets to see, once for each swap

mod batch;
mod harvester;
mod outlet;
mod relief;
mod report;
mod swap;

pub use harvester::{Activity, Command, HarvestOptions, Harvester};
pub use outlet::Outlet;
pub use report::{HarvestReport, Imbalance, SharedReport};
pub use swap::Swap;
