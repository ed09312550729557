// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The end of `run` and `replay`: the ledger, shown and written.

use std::{
    io::{self, Write},
    path::Path,
};

use crate::{error::ProbeError, telemetry::Ledger};

/// Prints the ledger to standard error and writes it to `path`.
///
/// # Errors
/// When it cannot be written, or a sum in it does not agree.
pub(super) fn conclude(ledger: &Ledger, path: Option<&Path>) -> Result<(), ProbeError> {
    // With standard error closed, the file must do.
    write!(io::stderr(), "{ledger}").ok();
    if let Some(path) = path {
        ledger.write(path)?;
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
