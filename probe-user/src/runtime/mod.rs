// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Putting the parts together: clocks, cores, signals, threads, interfaces, and what they report.

mod clock;
mod cores;
#[cfg(test)]
mod cores_tests;
mod interfaces;
mod observe;
mod overload;
mod own_export;
mod plan;
mod probe;
mod reload;
mod signals;
mod threads;
mod told;
mod topology;
mod watch;

pub use clock::now;
pub use probe::Probe;
pub(crate) use probe::{collectors, printer, random_seed};
pub use signals::Signals;
