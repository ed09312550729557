// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the probe does when more comes than it can take: a ladder of measures, climbed one rung at a time.
//!
//! pressure ─[`Ladder`]→ rung ─[`Governor`]→ idle timeout, early exports, flow sampling
//!
//! - `pressure`: how full what fills up is, and the marks it is compared with
//! - `rung`: what each rung does
//! - `ladder`: when to climb and when to come down; a pure state machine
//! - `governor`: the ladder with its readings, as the swapper keeps it
//! - `gauge`: what it shares with the harvesters

mod gauge;
mod governor;
mod ladder;
mod pressure;
mod rung;
#[cfg(test)]
mod tests;

pub use gauge::Gauge;
pub use governor::{Governor, OverloadStatus};
pub use ladder::{Change, Ladder, LadderOptions};
pub use pressure::{Cause, Pressure};
pub use rung::Rung;
