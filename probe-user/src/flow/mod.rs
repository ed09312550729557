// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Live flows and what becomes of them.
//!
//! slot or observation ([`Metered`]) ─merge→ flow ([`FlowTable`]) ─expire→ [`FlowRecord`]

mod expiry;
mod index;
mod memory;
mod metered;
mod prefetch;
mod record;
mod slab;
mod table;
#[cfg(test)]
mod tests;
mod time;
mod wheel;

pub use expiry::{ExpiryOptions, TCP_LINGER};
pub use metered::{Metered, Observation};
pub use record::{EndReason, FlowRecord};
pub use table::{FlowTable, Flush, TableError, TableOptions, Totals};
pub use time::{Moment, Timestamp, WallOffset};
