// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The configuration file: keys that are long names of options, checked one by one.

use std::{
    ffi::OsString,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use clap::{
    Arg, ArgAction, ArgMatches, Command,
    error::{ContextKind, ContextValue},
};
use toml::de::{DeTable, DeValue};

use super::{is_given, nearest::nearest, option_names};
use crate::error::ProbeError;

/// More than any configuration needs; bounds what a wrong path can make us read.
const MAX_SIZE: u64 = 1 << 20;

/// A configuration file that was read and checked.
#[derive(Debug)]
pub struct ConfigFile {
    path: PathBuf,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    name: String,
    values: Vec<String>,
}

impl ConfigFile {
    /// Reads and checks a file against the options of a command.
    ///
    /// # Errors
    /// Names the file, the line, the key, its value and what is allowed.
    pub fn read(path: &Path, command: &Command) -> Result<Self, ProbeError> {
        let unreadable = |error: std::io::Error| {
            ProbeError::usage(format!("cannot read the configuration file {}", path.display()))
                .because(error)
                .hint("give the path of a TOML file that the probe's user can read; deploy/probe.toml is an example")
        };
        let mut text = String::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(MAX_SIZE + 1).read_to_string(&mut text).map_err(unreadable)?;
        if text.len() as u64 > MAX_SIZE {
            return Err(ProbeError::usage(format!("{}: larger than 1 MiB", path.display()))
                .hint("this is no configuration file of the probe"));
        }
        Self::parse(path, &text, command)
    }

    /// Checks the text of a file against the options of a command.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn parse(path: &Path, text: &str, command: &Command) -> Result<Self, ProbeError> {
        let table = DeTable::parse(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            ProbeError::usage(format!("{}:{line}: not valid TOML: {}", path.display(), error.message()))
                .hint("a line is: name = value, with texts in quotes, such as idle-timeout = \"15s\"")
        })?;
        let mut keys: Vec<_> = table.get_ref().iter().collect();
        keys.sort_by_key(|(key, _)| key.span().start);
        let mut entries = Vec::new();
        for (key, value) in keys {
            let name: &str = key.get_ref();
            let place = format!("{}:{}", path.display(), line_of(text, key.span().start));
            let arg =
                find_option(command, name).ok_or_else(|| unknown(&place, name, value.get_ref(), command))?;
            let written = text.get(value.span()).unwrap_or_default();
            let values = values_of(arg, value.get_ref())
                .map_err(|reason| ProbeError::usage(format!("{place}: {name} = {written}: {reason}")))?;
            for value in &values {
                check(command, name, value).map_err(|reason| {
                    ProbeError::usage(format!("{place}: {name} = {written}: {reason}"))
                        .hint("probe run --help tells what each option means")
                })?;
            }
            entries.push(Entry { name: name.into(), values });
        }
        Ok(Self { path: path.into(), entries })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file gives the option a value.
    #[must_use]
    pub fn sets(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.name == name && !entry.values.is_empty())
    }

    /// What the file says, as arguments, except for options that were given otherwise.
    pub(super) fn arguments_for<'a>(&'a self, given: &'a ArgMatches) -> impl Iterator<Item = OsString> + 'a {
        self.entries
            .iter()
            .filter(|entry| !is_given(given, &entry.name))
            .flat_map(|entry| entry.values.iter().map(|value| argument(&entry.name, value)))
    }
}

fn argument(name: &str, value: &str) -> OsString {
    format!("--{name}={value}").into()
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|octet| *octet == b'\n').count()
}

fn find_option<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    option_names(command).find(|option| *option == name)?;
    command.get_arguments().find(|arg| arg.get_long() == Some(name))
}

fn unknown(place: &str, name: &str, value: &DeValue<'_>, command: &Command) -> ProbeError {
    let error = ProbeError::usage(format!("{place}: unknown key '{name}'"));
    if name == "config" {
        return error.hint("a configuration file cannot name another one");
    }
    if let Some(name) = nearest(name, option_names(command)) {
        return error.hint(format!("did you mean '{name}'?"));
    }
    if matches!(value, DeValue::Table(_)) {
        return error.hint("the file has no sections: write each key at its top level");
    }
    error.hint("keys are the long options of probe run, without the dashes: probe run --help")
}

/// The texts that the option's parser is to read; none if the value stands for "not set".
fn values_of(arg: &Arg, value: &DeValue<'_>) -> Result<Vec<String>, &'static str> {
    let is_list = matches!(arg.get_action(), ArgAction::Append);
    match value {
        DeValue::Array(items) if is_list => items.iter().map(|item| scalar(item.get_ref())).collect(),
        DeValue::Array(_) => Err("takes one value, not a list"),
        value => {
            let text = scalar(value)?;
            // "" is how a file says "not set" where there is no default to fall back to.
            let unset = text.is_empty() && arg.get_default_values().is_empty();
            Ok(if unset { Vec::new() } else { vec![text] })
        }
    }
}

fn scalar(value: &DeValue<'_>) -> Result<String, &'static str> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().into()),
        DeValue::Integer(_) => Err("write the number in decimal"),
        DeValue::Boolean(on) => Ok(on.to_string()),
        DeValue::Float(_) => Err("takes no number with a decimal point"),
        DeValue::Datetime(_) => Err("takes no date or time of day"),
        DeValue::Array(_) => Err("takes no list within a list"),
        DeValue::Table(_) => Err("takes no table"),
    }
}

/// Lets the option's own parser read one value, and returns its reason for refusing it.
pub(super) fn check(command: &Command, name: &str, value: &str) -> Result<(), String> {
    let Err(error) = command.clone().try_get_matches_from(["run".into(), argument(name, value)]) else {
        return Ok(());
    };
    if let Some(source) = std::error::Error::source(&error) {
        return Err(source.to_string());
    }
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(allowed)) => Err(format!("allowed are {}", allowed.join(", "))),
        _ => Err(error.kind().to_string()),
    }
}
