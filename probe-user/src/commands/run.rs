// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `probe run`.

use super::conclude::conclude;
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
    conclude(&ledger, path.as_deref())
}
