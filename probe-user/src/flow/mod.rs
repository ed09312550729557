// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Live flows and what becomes of them.
//!
//! slot or observation ([`Metered`]) ─merge→ flow ([`FlowTable`]) ─expire→ [`FlowRecord`]

mod bucket;
mod details;
mod expiry;
mod index;
mod live_flow;
mod memory;
mod metered;
mod options;
mod record;
mod sampling;
mod slab;
mod spread;
mod table;
#[cfg(test)]
mod tests;
mod time;
mod timer_link;
mod wheel;

pub use expiry::{ExpiryOptions, TCP_LINGER};
pub use metered::{Metered, Observation};
pub use options::{TableError, TableOptions};
pub use record::{EndReason, FlowRecord};
pub use sampling::{Sampling, SamplingError, SamplingNow};
pub use spread::{MOST_JITTER, Spread};
pub use table::{FlowTable, Flush, Totals};
pub use time::{Moment, Timestamp, WallOffset};
