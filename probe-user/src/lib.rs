// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The user side of the probe, as a library so that tests and benches can call each step.
//!
//! In the order of a packet's path:
pub mod collect;
pub mod export;
pub mod flow;
pub mod queue;
