// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What each subcommand does.

pub mod completions;
pub mod config;
pub mod man;
pub mod replay;

use std::io::{self, Write};

use crate::{
    cli::{Command, LogOptions},
    config::ConfigError,
    error::ProbeError,
    telemetry::log,
};

/// Does what the command line asks for.
///
/// # Errors
/// What the subcommand reports.
pub fn dispatch(command: Command) -> Result<(), ConfigError> {
    match command {
        Command::Run(options) => {
            options.validate()?;
            Ok(logged(&options.log, "run")?)
        }
        Command::Replay(options) => Ok(replay::replay(&options)?),
        Command::Collect(options) => Ok(logged(&options.log, "collect")?),
        Command::Config { action } => config::config(&action),
        Command::Completions { shell } => Ok(completions::completions(shell)?),
        Command::Man { directory } => Ok(man::man(&directory)?),
    }
}

/// Starts the log for a command that is not part of this build.
fn logged(options: &LogOptions, command: &str) -> Result<(), ProbeError> {
    log::start(options)?;
    Err(ProbeError::host(format!("this build has no {command}")).hint("build the newest version"))
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
