// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `probe completions SHELL`.

use clap::CommandFactory;
use clap_complete::Shell;

use super::print;
use crate::{cli::Cli, error::ProbeError};

/// Prints the completion script.
///
/// # Errors
/// If standard output cannot be written.
pub fn completions(shell: Shell) -> Result<(), ProbeError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "probe", &mut script);
    print(&script)
}
