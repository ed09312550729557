// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `probe stats`.

use super::print;
use crate::{
    cli::StatsOptions,
    control::{Command, ControlClient, Stats},
    error::ProbeError,
};

/// Prints the ledger of a running probe.
///
/// # Errors
/// When no probe answers.
pub fn stats(options: &StatsOptions) -> Result<(), ProbeError> {
    let stats: Stats = ControlClient::connect(&options.socket.socket)?.ask(&Command::Stats)?;
    let text = if options.json { format!("{}\n", stats.ledger) } else { stats.text };
    print(text.as_bytes())
}
