// SPDX-License-Identifier: Apache-2.0 OR MIT
//! SIGHUP: command line, environment and file are read anew; what can change while running does.

use std::{collections::BTreeSet, ffi::OsString};

use serde_json::Value;

use crate::{
    cli::{Command, FlowOptions, RunOptions},
    config::{self, ConfigError},
    error::ProbeError,
    flow::ExpiryOptions,
};

/// Options that change while running.
const LIVE: [&str; 5] = ["idle-timeout", "active-timeout", "active-jitter", "active-align", "tcp-end"];

/// What the new configuration changes.
pub(super) struct Changes {
    /// New timeouts, if they differ.
    pub(super) expiry: Option<ExpiryOptions>,
    /// The flow options, with what could be taken over.
    pub(super) flow: FlowOptions,
    /// Options that differ and need a restart.
    pub(super) need_restart: Vec<String>,
}

impl Changes {
    pub(super) fn summary(&self) -> String {
        match (self.expiry, self.need_restart.len()) {
            (None, 0) => "nothing has changed".to_owned(),
            (None, _) => "nothing that can change while running".to_owned(),
            (Some(expiry), _) => format!(
                "idle timeout {:?}, active timeout {:?} (jitter {} %, aligned: {}), TCP end {}",
                expiry.idle,
                expiry.active,
                expiry.spread.jitter,
                switch(expiry.spread.align),
                switch(expiry.tcp_end)
            ),
        }
    }
}

fn switch(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

/// Reads the options anew and compares.
pub(super) fn read(old: &RunOptions) -> Result<Changes, ProbeError> {
    let args: Vec<OsString> = std::env::args_os().collect();
    let cli = config::read_command_line(args).map_err(|error| match error {
        ConfigError::Probe(error) => error,
        ConfigError::CommandLine(error) => ProbeError::usage(error.to_string()),
    })?;
    let Command::Run(new) = cli.command else {
        return Err(ProbeError::usage("the command line is no longer that of `probe run`"));
    };
    new.validate()?;
    compare(old, &new)
}

fn compare(old: &RunOptions, new: &RunOptions) -> Result<Changes, ProbeError> {
    let values = |options: &RunOptions| {
        serde_json::to_value(options).map_err(|error| ProbeError::run("comparing the options").because(error))
    };
    let (before, after) = (values(old)?, values(new)?);
    let names = |value: &Value| -> BTreeSet<String> {
        value.as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default()
    };
    let mut differing: Vec<String> = names(&before).union(&names(&after)).cloned().collect();
    differing.retain(|name| before.get(name) != after.get(name));
    let (live, need_restart) =
        differing.into_iter().partition::<Vec<String>, _>(|name| LIVE.contains(&name.as_str()));
    let mut flow = old.flow.clone();
    flow.idle_timeout = new.flow.idle_timeout;
    flow.active_timeout = new.flow.active_timeout;
    flow.active_jitter = new.flow.active_jitter;
    flow.active_align = new.flow.active_align;
    flow.tcp_end = new.flow.tcp_end;
    Ok(Changes { expiry: (!live.is_empty()).then_some(flow.expiry()), flow, need_restart })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::*;
    use crate::{cli::Cli, flow::Spread};

    fn options(more: &[&str]) -> RunOptions {
        let args = ["probe", "run", "--iface", "eth1"].iter().chain(more);
        let Command::Run(options) = Cli::parse_from(args).command else { panic!("not run") };
        *options
    }

    #[test]
    fn timeouts_change_while_running_and_the_rest_is_told() {
        let changes =
            compare(&options(&[]), &options(&["--idle-timeout", "3s", "--max-flows", "5"])).unwrap();
        assert_eq!(changes.expiry.unwrap().idle, Duration::from_secs(3));
        assert_eq!(changes.need_restart, ["max-flows"]);
        assert_eq!((changes.flow.idle_timeout, changes.flow.max_flows), (Duration::from_secs(3), 1_048_576));
        let spread =
            compare(&options(&[]), &options(&["--active-jitter", "0", "--active-align", "on"])).unwrap();
        assert_eq!(spread.expiry.unwrap().spread, Spread { jitter: 0, align: true });
        assert!(spread.flow.active_align && spread.need_restart.is_empty());
        assert!(spread.summary().contains("(jitter 0 %, aligned: on)"), "{}", spread.summary());
        let same = compare(&options(&[]), &options(&[])).unwrap();
        assert!(same.expiry.is_none() && same.need_restart.is_empty());
        assert_eq!(same.summary(), "nothing has changed");
    }
}
