// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `probe run`.

use std::io::{self, Write};

use crate::{
    cli::RunOptions,
    error::ProbeError,
    runtime::{Probe, Signals},
    telemetry::log,
};

/// Meters until a signal comes.
///
/// # Errors
/// What stopped it.
pub fn run(options: RunOptions) -> Result<(), ProbeError> {
    log::start(&options.log)?;
    let signals =
        Signals::listen().map_err(|error| ProbeError::host("cannot listen to signals").because(error))?;
    let path = options.output.ledger.clone();
    let ledger = Probe::start(options)?.run(&signals)?;
    // With standard error closed, the file must do.
    write!(io::stderr(), "{ledger}").ok();
    if let Some(path) = path {
        ledger.write(&path)?;
    }
    if ledger.balanced() {
        return Ok(());
    }
    Err(ProbeError::run(format!(
        "the ledger does not balance: {} packets, {} octets, {} records",
        ledger.imbalance_packets(),
        ledger.imbalance_octets(),
        ledger.imbalance_records()
    ))
    .hint("this is a fault of the probe: please report it with the ledger (--ledger FILE)"))
}
