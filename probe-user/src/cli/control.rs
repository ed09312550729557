// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Options of the commands that ask a running probe: `stats`, `iface`, `shutdown`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{
    parsers::parse_interface,
    socket::{DEFAULT_SOCKET, parse_client_socket},
};

/// Which probe is asked.
#[derive(Args, Clone, Debug)]
pub struct SocketOptions {
    /// Control socket of the probe
    #[arg(long, global = true, value_name = "PATH", env = "PROBE_SOCKET", default_value = DEFAULT_SOCKET,
          value_parser = parse_client_socket)]
    pub socket: PathBuf,
}

/// Options of `probe stats`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:\n  \
    probe stats                                     where every packet went, for people\n  \
    probe stats --json | jq .packets.lost           for programs\n\n\
    What is on its way while the probe runs is counted as live or not yet at all; the ledger that the probe \
    prints at its end is the final one.")]
pub struct StatsOptions {
    /// As one line of JSON, as --ledger writes it
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub socket: SocketOptions,
}

/// Options of `probe iface`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:\n  \
    probe iface list\n  \
    probe iface add eth2                            meter it with the options the probe was started with\n  \
    probe iface remove eth2                         export its flows and leave it\n\n\
    A change lasts until the probe ends: what is metered at the next start stands in --iface and --bridge.")]
pub struct IfaceOptions {
    /// What to do.
    #[command(subcommand)]
    pub action: IfaceAction,

    #[command(flatten)]
    pub socket: SocketOptions,
}

/// What to do with the set of metered interfaces.
#[derive(Subcommand, Clone, Debug)]
pub enum IfaceAction {
    /// Meter one or more interfaces besides
    Add {
        /// Interfaces
        #[arg(value_name = "NAME", required = true, value_delimiter = ',', value_parser = parse_interface)]
        names: Vec<String>,
    },
    /// Meter one or more interfaces no longer, and export their flows
    Remove {
        /// Interfaces
        #[arg(value_name = "NAME", required = true, value_delimiter = ',', value_parser = parse_interface)]
        names: Vec<String>,
    },
    /// Show the metered interfaces
    List {
        /// Only these
        #[arg(value_name = "NAME", value_delimiter = ',', value_parser = parse_interface)]
        names: Vec<String>,

        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
}

/// Options of `probe shutdown`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Example:\n  probe shutdown && mv /var/lib/flowprobe/ledger.json yesterday.json\n\n\
    The probe detaches, exports what is left and ends, as on SIGTERM. This command waits until its process has \
    ended: 10 s at most, 5 are promised. systemd does not start a probe again that was ended so.")]
pub struct ShutdownOptions {
    #[command(flatten)]
    pub socket: SocketOptions,
}
