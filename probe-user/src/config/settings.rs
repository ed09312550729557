// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The settings in effect, shown as a configuration file.

use std::fmt;

use clap::Command;
use toml::{Table, Value};

use super::option_names;
use crate::{cli::RunOptions, error::ProbeError};

/// Where a setting comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Given nowhere.
    Default,
    /// The configuration file.
    File,
    /// A `PROBE_*` variable.
    Environment,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Environment => "environment",
        })
    }
}

/// One setting.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The option's long name.
    pub name: String,
    /// The heading of the option in the help.
    pub heading: String,
    /// The value in effect; an empty text or list means "not set".
    pub value: Value,
    /// Where the value comes from.
    pub origin: Origin,
}

/// All settings of `run`, in the order of its help.
#[derive(Clone, Debug)]
pub struct Settings(Vec<Setting>);

impl Settings {
    pub(super) fn new(
        command: &Command,
        options: &RunOptions,
        origin: impl Fn(&str) -> Origin,
    ) -> Result<Self, ProbeError> {
        let mut table = Table::try_from(options)
            .map_err(|error| ProbeError::run("cannot show the settings as TOML").because(error))?;
        let setting = |name: &str| {
            let arg = command.get_arguments().find(|arg| arg.get_long() == Some(name));
            Setting {
                name: name.into(),
                heading: arg.and_then(clap::Arg::get_help_heading).unwrap_or_default().into(),
                value: table.remove(name).unwrap_or_else(|| Value::String(String::new())),
                origin: origin(name),
            }
        };
        Ok(Self(option_names(command).map(setting).collect()))
    }

    /// The settings, in the order of the help.
    pub fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.0.iter()
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.0.iter().map(|setting| format!("{} = {}", setting.name, setting.value));
        let lines: Vec<String> = lines.collect();
        let width = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0).min(44);
        let mut heading = "";
        for (setting, line) in self.0.iter().zip(&lines) {
            if heading != setting.heading {
                let gap = if heading.is_empty() { "" } else { "\n" };
                writeln!(f, "{gap}# {}", setting.heading)?;
                heading = &setting.heading;
            }
            writeln!(f, "{line:width$}  # {}", setting.origin)?;
        }
        Ok(())
    }
}
