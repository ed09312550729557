// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Putting the parts together: clocks, cores, signals, threads, interfaces, and what they report.

mod clock;
mod cores;
mod interfaces;
mod observe;
mod own_export;
mod plan;
mod signals;
mod threads;

pub use clock::now;
pub use interfaces::Interfaces;
pub use observe::Observer;
pub use plan::{Parts, Plan};
pub use signals::Signals;
pub use threads::{ExporterThread, HarvesterThread, Stopped};
