// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Options of the log, which every command with a log shares.

use clap::{Args, ValueEnum};
use serde::Serialize;

/// How much is logged.
#[derive(ValueEnum, Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// What stopped something from working
    Error,
    /// Also what costs accuracy or speed
    Warn,
    /// Also what the probe does, in few lines
    Info,
    /// Also why it does so
    Debug,
    /// Everything
    Trace,
}

/// What a line of the log looks like.
#[derive(ValueEnum, Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// Time, level and message
    Text,
    /// One JSON object a line
    Json,
    /// Without time, with the level as systemd's journal reads it (`<4>` and so on)
    Journald,
}

/// What is logged, and how. The log goes to standard error.
#[derive(Args, Serialize, Clone, Debug)]
#[command(next_help_heading = "Log")]
#[serde(rename_all = "kebab-case")]
pub struct LogOptions {
    /// How much to log
    #[arg(long, value_name = "LEVEL", env = "PROBE_LOG_LEVEL", value_enum, default_value = "info")]
    pub log_level: LogLevel,

    /// What a line of the log looks like
    #[arg(long, value_name = "FORMAT", env = "PROBE_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
}
