// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Command line, environment and configuration file, brought together.
//!
//! The file has no types of its own: each of its keys is the long name of an option of `run`. A key that
//! was given neither on the command line nor in the environment becomes an argument, and the command
//! line is parsed once more. So one set of types and checks serves all three, and the order (flag over
//! environment over file over default) needs no merging code.

mod environment;
mod file;
mod nearest;
mod settings;

use std::{ffi::OsString, path::Path};

use clap::{ArgMatches, Command, CommandFactory, FromArgMatches, parser::ValueSource};

pub use file::ConfigFile;
pub use settings::{Origin, Setting, Settings};

use crate::{
    cli::{Cli, RunOptions},
    error::ProbeError,
};

/// Why the program ends without having done its work.
#[derive(Debug)]
pub enum ConfigError {
    /// From the command line's parser; also `--help` and `--version`. It prints itself and knows its status.
    CommandLine(clap::Error),
    /// From the configuration file, or from what was done with the options.
    Probe(ProbeError),
}

impl From<clap::Error> for ConfigError {
    fn from(error: clap::Error) -> Self {
        Self::CommandLine(error)
    }
}

impl From<ProbeError> for ConfigError {
    fn from(error: ProbeError) -> Self {
        Self::Probe(error)
    }
}

/// Reads the command line (its first item is the program's name), the environment, and for `run` the
/// configuration file.
///
/// # Errors
/// What is wrong with one of them.
pub fn read_command_line(mut args: Vec<OsString>) -> Result<Cli, ConfigError> {
    let parse = |args: &[OsString]| {
        Cli::command().try_get_matches_from(args).map_err(|error| {
            environment::blame(&error, args).map_or(ConfigError::CommandLine(error), ConfigError::Probe)
        })
    };
    let mut matches = parse(&args)?;
    if let Some(run) = matches.subcommand_matches("run")
        && let Some(path) = run.get_one::<std::path::PathBuf>("config")
    {
        let file = ConfigFile::read(path, &run_command())?;
        // Nothing can stand before the subcommand but the program's name.
        args.splice(2..2, file.arguments_for(run));
        matches = parse(&args)?;
    }
    Ok(Cli::from_arg_matches(&matches)?)
}

/// The settings that `probe run [--config FILE]` would start with, each with where it comes from.
///
/// # Errors
/// What is wrong with the environment or the file.
pub fn effective_settings(path: Option<&Path>) -> Result<Settings, ConfigError> {
    let command = run_command();
    let given = command.clone().try_get_matches_from(["run"]).map_err(|error| {
        let args = [OsString::from("probe"), OsString::from("run")];
        environment::blame(&error, &args).map_or(ConfigError::CommandLine(error), ConfigError::Probe)
    })?;
    let file = path.map(|path| ConfigFile::read(path, &command)).transpose()?;
    let mut args = vec![OsString::from("run")];
    args.extend(file.iter().flat_map(|file| file.arguments_for(&given)));
    let matches = command.clone().try_get_matches_from(args)?;
    let options = RunOptions::from_arg_matches(&matches)?;
    options.validate_settings()?;
    let origin = |name: &str| match given.value_source(&id_of(name)) {
        Some(ValueSource::EnvVariable) => Origin::Environment,
        _ if file.as_ref().is_some_and(|file| file.sets(name)) => Origin::File,
        _ => Origin::Default,
    };
    Ok(Settings::new(&command, &options, origin)?)
}

/// The settings when nothing is given at all, whatever the environment says.
///
/// # Errors
/// Never, unless a default is not allowed by its own option.
pub fn default_settings() -> Result<Settings, ConfigError> {
    let command = run_command().mut_args(|arg| arg.env(None::<&str>));
    let matches = command.clone().try_get_matches_from(["run"])?;
    let options = RunOptions::from_arg_matches(&matches)?;
    Ok(Settings::new(&command, &options, |_| Origin::Default)?)
}

/// The `run` command alone.
fn run_command() -> Command {
    RunOptions::augment()
}

impl RunOptions {
    fn augment() -> Command {
        use clap::Args;
        Self::augment_args(Command::new("run"))
    }
}

/// The clap id of an option: its field's name.
fn id_of(name: &str) -> String {
    name.replace('-', "_")
}

/// Whether an option was given on the command line or in the environment.
fn is_given(matches: &ArgMatches, name: &str) -> bool {
    matches!(matches.value_source(&id_of(name)), Some(ValueSource::CommandLine | ValueSource::EnvVariable))
}

/// Names of the options that can stand in the file, in the order of the help.
fn option_names(command: &Command) -> impl Iterator<Item = &str> {
    command
        .get_arguments()
        .filter_map(|arg| arg.get_long())
        .filter(|name| !matches!(*name, "config" | "help"))
}
