// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Arguments in, exit status out.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use probe_user::{
    commands,
    config::{ConfigError, read_command_line},
};

fn main() -> ExitCode {
    match read_command_line(std::env::args_os().collect()).and_then(|cli| commands::dispatch(cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        // Help and version go to standard output with status 0, usage errors to standard error with 2.
        Err(ConfigError::CommandLine(error)) => {
            error.print().ok();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
        Err(ConfigError::Probe(error)) => {
            // With standard error closed, the status must do.
            writeln!(io::stderr(), "{}", error.report()).ok();
            error.exit_code()
        }
    }
}
