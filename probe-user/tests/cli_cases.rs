// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The program's command line as a user meets it: statuses, messages, help, completions, manual pages.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    fs::File,
    process::{Command, Output, Stdio},
};

use clap::{CommandFactory, Parser};
use probe_user::cli::{self, Cli};

fn probe(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_probe"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PROBE_")) {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null());
    command
}

fn output(args: &[&str]) -> Output {
    probe(args).output().unwrap()
}

/// Status and standard error.
fn failure(args: &[&str]) -> (Option<i32>, String) {
    let output = output(args);
    assert!(output.stdout.is_empty(), "{args:?} wrote to standard output");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn wrong_usage_is_status_2_and_says_what_is_allowed() {
    for (args, said) in [
        (&["run"][..], "no interface to meter"),
        (&["run", "--iface", "a/b"], "an interface name has 1 to 15 characters"),
        (&["run", "--iface", "sixteen-letters-"], "an interface name has 1 to 15 characters"),
        (&["run", "--iface", ""], "an interface name has 1 to 15 characters"),
        (&["run", "--iface", "eth1,eth1"], "eth1 is given twice"),
        (&["run", "--iface", "a,b", "--engine-id", "255"], "2 interfaces from engine id 255 on do not fit"),
        (
            &["run", "--iface", "a", "--bridge", "b", "--engine-id", "255"],
            "2 interfaces from engine id 255 on",
        ),
        (&["run", "--iface", "a", "--engine", "dpdk"], "[possible values: auto, xdp, af_xdp, af_packet]"),
        (&["run", "--iface", "a", "--xdp-mode", "fast"], "[possible values: auto, native, generic, tc]"),
        (&["run", "--iface", "a", "--direction", "in"], "[possible values: once, ingress, egress, both]"),
        (&["run", "--iface", "eth1", "--idle-timeout", "15"], "the unit is missing"),
        (&["run", "--iface", "eth1", "--idle-timeout", "1ms"], "allowed are 100ms to 365d"),
        (&["run", "--iface", "eth1", "--harvest-interval", "1m"], "allowed are 10ms to 10s"),
        (&["run", "--iface", "eth1", "--cache-slots", "1000"], "allowed are powers of two from 16"),
        (&["run", "--iface", "eth1", "--spill-records", "0"], "allowed are powers of two from 16"),
        (&["run", "--iface", "eth1", "--memory", "1GB"], "such as 512M"),
        (&["run", "--iface", "eth1", "--max-flows", "0"], "from 1 to 268435456"),
        (&["run", "--iface", "eth1", "--engine-id", "256"], "from 0 to 255"),
        (&["run", "--iface", "eth1", "--role", "mirror"], "[possible values: auto, tap, host]"),
        (&["run", "--iface", "eth1", "--decap", "vxlan"], "[possible values: none]"),
        (&["run", "--iface", "eth1", "--key", "mac"], "[possible values: vlanId, dot1qCustomerVlanId]"),
        (&["run", "--iface", "eth1", "--tcp-end", "maybe"], "allowed are on and off"),
        (&["run", "--iface", "eth1", "--details", "all"], "allowed are on and off"),
        (&["replay", "x.pcap", "--sampling", "2:10"], "allowed are off, 1:N (every Nth packet), random:N"),
        (&["run", "--iface", "eth1", "--cores", "1"], "harvester,exporter"),
        (&["run", "--iface", "eth1", "--metrics", "localhost"], "such as 127.0.0.1:9990"),
        (&["run", "--iface", "eth1", "--print", "xml"], "[possible values: auto, none, text, json]"),
        (&["run", "--iface", "eth1", "--log-level", "loud"], "[possible values: error, warn"),
        (&["run", "--ifaces", "eth1"], "a similar argument exists: '--iface'"),
        (&["run", "--iface", "eth1", "--collector", "sflow://192.0.2.10"], "scheme 'sflow' is not known"),
        (&["replay", "x.pcap", "--collector", "192.0.2.10:0"], "'--collector <URL>': "),
        (&["replay"], "<FILE>..."),
        (&["collect", "--listen", "sctp://0.0.0.0:1"], "possible are udp, tcp and tls"),
        (&["collect", "--listen", "tls://127.0.0.1:0"], "without a certificate"),
        (&["collect", "--listen", "tls://127.0.0.1:0", "--tls-cert", "/no/such"], "--tls-key"),
        (&["collect", "--listen", "udp://localhost:2055"], "udp://ADDRESS:PORT"),
        (&["collect", "--count", "0"], "whole numbers from 1"),
        (&["collect", "--rotate", "1m"], "--write <DIR>"),
        (&["collect", "--write-format", "parquet"], "--write <DIR>"),
        (&["config", "check"], "no configuration file to check"),
        (&["config", "check", "--config", "/no/such/file"], "/no/such/file: No such file or directory"),
        (&["completions", "tcsh"], "[possible values: bash"),
        (&["iface"], "Usage: probe iface"),
        (&["iface", "add"], "<NAME>..."),
        (&["iface", "add", "a/b"], "an interface name has 1 to 15 characters"),
        (&["stats", "--socket", "none"], "a probe with --socket none cannot be asked"),
        (&["fly"], "unrecognized subcommand 'fly'"),
        (&[], "Usage: probe <COMMAND>"),
    ] {
        let (status, text) = failure(args);
        assert_eq!(status, Some(2), "{args:?}: {text}");
        assert!(text.contains(said), "{args:?}: {text}");
    }
}

#[test]
fn a_wrong_environment_variable_is_named() {
    let output = probe(&["run", "--iface", "eth1"]).env("PROBE_ACTIVE_TIMEOUT", "5").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text.contains("PROBE_ACTIVE_TIMEOUT=5 in the environment: the unit is missing"), "{text}");
}

#[test]
fn a_wrong_flag_is_not_blamed_on_the_environment() {
    let output = probe(&["run", "--iface", "eth1", "--active-timeout=6"])
        .env("PROBE_ACTIVE_TIMEOUT", "5")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("invalid value '6' for '--active-timeout"), "{text}");
}

#[test]
fn help_and_version_are_status_0_on_standard_output() {
    for args in [&["--help"][..], &["--version"], &["run", "--help"], &["help", "replay"], &["collect", "-h"]]
    {
        let output = output(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{args:?}");
    }
    assert_eq!(output(&["--version"]).stdout, format!("probe {}\n", env!("CARGO_PKG_VERSION")).into_bytes());
}

#[test]
fn replay_spreads_nothing_unless_asked_so_that_its_records_are_always_the_same() {
    let jitter = |args: &[&str]| match Cli::try_parse_from(args).unwrap().command {
        cli::Command::Run(options) => options.flow.active_jitter,
        cli::Command::Replay(options) => options.flow.active_jitter,
        _ => panic!("{args:?}"),
    };
    assert_eq!(jitter(&["probe", "run", "--iface", "eth1"]), 10);
    assert_eq!(jitter(&["probe", "replay", "file"]), 0);
    assert_eq!(jitter(&["probe", "replay", "file", "--active-jitter", "7"]), 7);
}

#[test]
fn every_option_is_explained_has_a_variable_and_stands_under_a_heading() {
    let command = Cli::command();
    command.clone().debug_assert();
    let mut seen = 0;
    for name in ["run", "replay", "collect"] {
        let subcommand = command.find_subcommand(name).unwrap();
        for arg in subcommand.get_arguments().filter(|arg| arg.get_long().is_some()) {
            let long = arg.get_long().unwrap();
            assert!(arg.get_help().is_some(), "{name} --{long} is not explained");
            let variable = format!("PROBE_{}", long.to_uppercase().replace('-', "_"));
            assert_eq!(
                arg.get_env().and_then(|env| env.to_str()),
                Some(variable.as_str()),
                "{name} --{long}"
            );
            seen += 1;
        }
        assert!(subcommand.get_after_help().is_some(), "{name} has no example");
    }
    assert!(seen > 35, "{seen} options seen");
    for name in ["stats", "iface", "shutdown"] {
        let subcommand = command.find_subcommand(name).unwrap();
        assert!(subcommand.get_arguments().all(|arg| arg.get_help().is_some()), "{name}");
        assert!(subcommand.get_after_help().is_some(), "{name} has no example");
    }
}

#[test]
fn completions_for_every_shell_know_the_options() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = output(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(script.contains("harvest-interval") && script.contains("shutdown"), "{shell}");
    }
}

#[test]
fn manual_pages_are_written_for_every_subcommand() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("share/man1");
    let output = output(&["man", target.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    for (page, word) in [
        ("probe.1", "replay"),
        ("probe-run.1", "\\-\\-harvest\\-interval"),
        ("probe-replay.1", "FILE"),
        ("probe-collect.1", "udp"),
        ("probe-config-check.1", "config"),
        ("probe-iface-add.1", "\\-\\-socket"),
        ("probe-shutdown.1", "10 s at most"),
    ] {
        let text =
            std::fs::read_to_string(target.join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
        assert!(text.starts_with(".ie") && text.contains(word), "{page}: {text:.200}");
    }
    let (status, text) = failure(&["man", "/dev/null/x"]);
    assert_eq!(status, Some(1));
    assert!(text.contains("cannot write manual pages to /dev/null/x"), "{text}");
}

#[test]
fn a_full_disk_is_an_error_and_a_reader_that_left_is_none() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = probe(&["completions", "bash"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot write to standard output"));

    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = probe(&["completions", "bash"]).stdout(writer).output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}
