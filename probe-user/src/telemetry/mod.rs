// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the probe says about itself: ledger, metrics, log. It is given plain numbers and knows no other part.

pub mod http;
pub mod ledger;
pub mod log;
pub mod metrics;
pub mod process;
mod prometheus;

pub use ledger::{AfXdpLedger, CollectorLedger, FlowLedger, Ledger, OctetLedger, PacketLedger, Reasons};
pub use metrics::Snapshot;
