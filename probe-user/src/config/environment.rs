// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Names the variable when a value from the environment is refused: clap names only the option.

use std::ffi::OsString;

use clap::{Command, CommandFactory, error::ErrorKind};

use super::file::check;
use crate::{cli::Cli, error::ProbeError};

/// The error with the variable's name, if `error` is about a value and one from the environment is to blame.
pub(super) fn blame(error: &clap::Error, args: &[OsString]) -> Option<ProbeError> {
    if !matches!(error.kind(), ErrorKind::InvalidValue | ErrorKind::ValueValidation) {
        return None;
    }
    let name = args.get(1)?.to_str()?;
    let command = Cli::command().find_subcommand(name)?.clone();
    let variables: Vec<(String, String)> = command
        .get_arguments()
        .filter_map(|arg| Some((arg.get_long()?.to_string(), arg.get_env()?.to_str()?.to_string())))
        .collect();
    // What is left are the required arguments, which say nothing about a value.
    let bare = command.mut_args(|arg| arg.env(None::<&str>).required(false));
    variables.iter().find_map(|(option, variable)| blame_one(&bare, args, option, variable))
}

fn blame_one(command: &Command, args: &[OsString], option: &str, variable: &str) -> Option<ProbeError> {
    let value = std::env::var(variable).ok()?;
    let flag = format!("--{option}");
    let is_flag = |arg: &OsString| {
        arg.to_str().is_some_and(|arg| {
            arg == flag || arg.strip_prefix(&flag).is_some_and(|rest| rest.starts_with('='))
        })
    };
    if args.iter().any(is_flag) {
        return None;
    }
    let reason = check(command, option, &value).err()?;
    Some(
        ProbeError::usage(format!("{variable}={value} in the environment: {reason}"))
            .hint(format!("correct or unset {variable}, or give {flag}")),
    )
}
