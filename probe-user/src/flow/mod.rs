// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Live flows and what becomes of them.

mod record;
mod time;

pub use record::{EndReason, FlowRecord};
pub use time::{Timestamp, WallOffset};
