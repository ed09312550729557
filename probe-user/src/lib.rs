// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The user side of the probe, as a library so that tests and benches can call each step.
//!
//! In the order of a packet's path:
pub mod flow;

// Around it:
pub mod cli;
pub mod commands;
pub mod config;
pub mod error;
pub mod telemetry;
