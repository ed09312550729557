// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Putting the parts together: clocks, cores, signals, threads, interfaces, and what they report.

mod account;
mod clock;
mod cores;
#[cfg(test)]
mod cores_tests;
mod engines;
mod exporters;
mod http;
mod interfaces;
mod metered;
mod observe;
mod outputs;
mod overload;
mod own_export;
mod places;
mod plan;
mod probe;
mod random;
mod reload;
mod settle;
mod signals;
mod start;
mod threads;
mod told;
mod topology;
mod watch;
mod workers;

pub use clock::now;
pub(crate) use outputs::{collectors, printer};
pub use probe::Probe;
pub(crate) use random::random_seed;
pub use signals::Signals;
