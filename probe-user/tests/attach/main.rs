// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Programs on interfaces, in every role, mode and direction: each packet is counted as it was sent, none twice, and
//! what is detached is gone.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod crossing;
mod leftovers;
mod modes;
mod offload;
mod sizes;
mod subject;
