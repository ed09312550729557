// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What each subcommand does.

pub mod collect;
pub mod completions;
mod conclude;
pub mod config;
pub mod iface;
pub mod man;
pub mod replay;
pub mod run;
pub mod shutdown;
pub mod stats;

use std::io::{self, Write};

use crate::{cli::Command, config::ConfigError, error::ProbeError};

/// Does what the command line asks for.
///
/// # Errors
/// What the subcommand reports.
pub fn dispatch(command: Command) -> Result<(), ConfigError> {
    match command {
        Command::Run(options) => Ok(run::run(*options)?),
        Command::Replay(options) => Ok(replay::replay(&options)?),
        Command::Collect(options) => Ok(collect::collect(&options)?),
        Command::Stats(options) => Ok(stats::stats(&options)?),
        Command::Iface(options) => Ok(iface::iface(&options)?),
        Command::Shutdown(options) => Ok(shutdown::shutdown(&options)?),
        Command::Config { action } => config::config(&action),
        Command::Completions { shell } => Ok(completions::completions(shell)?),
        Command::Man { directory } => Ok(man::man(&directory)?),
    }
}

/// Writes to standard output. A reader that went away is no failure: `probe … | head` ends quietly.
fn print(text: &[u8]) -> Result<(), ProbeError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(ProbeError::run("cannot write to standard output").because(error))
        }
        _ => Ok(()),
    }
}
