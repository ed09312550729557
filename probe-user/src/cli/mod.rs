// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The command line: what can be said to the probe, as plain typed data.
//!
//! Every option of `run` also stands in the environment (`PROBE_*`) and in the configuration file under
//! its long name; [`crate::config`] brings the three together.

mod bytes;
mod collect;
mod control;
mod cores;
mod duration;
mod engine;
mod log;
mod number_list;
mod options;
mod parsers;
mod queues;
mod replay;
mod run;
mod socket;
mod values;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use bytes::{format_bytes, parse_bytes};
pub use collect::{CollectFormat, CollectOptions, FileFormat};
pub use control::{IfaceAction, IfaceOptions, ShutdownOptions, SocketOptions, StatsOptions};
pub use cores::{CorePlan, PinnedCores};
pub use engine::{BusyPoll, Direction, Engine, XdpMode, ZeroCopy};
pub use log::{LogFormat, LogLevel, LogOptions};
pub use options::{ExportOptions, FlowOptions, OutputOptions};
pub use queues::Queues;
pub use replay::ReplayOptions;
pub use run::{InterfaceOptions, ResourceOptions, RunOptions};
pub use socket::{DEFAULT_SOCKET, SocketPath};
pub use values::{CollectorPolicy, KeyField, MetricsAddress, OverloadMode, PrintFormat, RecordFormat, Role};

/// The whole command line.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "probe",
    version,
    about = "Turns the packets of an interface into flow records and sends them to collectors",
    long_about = "Turns the packets of an interface into flow records and sends them to collectors.\n\n\
        Packets are metered in the kernel (XDP, tc) or from sockets, flows are kept in user space, records leave as \
        NetFlow or IPFIX. \
        Every packet is accounted for: the ledger says where each one went.",
    after_help = "Examples:\n  \
        probe run --iface eth1 --collector 192.0.2.10:2055\n  \
        probe replay trace.pcap.gz --print json\n  \
        probe collect --listen udp://127.0.0.1:2055\n  \
        probe stats\n\n\
        Exit status: 0 fine, 1 failed while running, 2 wrong usage or configuration, 3 the host cannot do it.",
    max_term_width = 110,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Meter the packets of one or more interfaces and export their flows
    Run(Box<RunOptions>),
    /// Read capture files (pcap, pcapng, also gzip) by packet time and export their flows
    Replay(Box<ReplayOptions>),
    /// Receive flow datagrams and show the records in them: a small collector
    Collect(CollectOptions),
    /// Show where every packet went: the ledger of a running probe
    Stats(StatsOptions),
    /// Show or change the interfaces of a running probe
    Iface(IfaceOptions),
    /// Have a running probe export what is left and end
    Shutdown(ShutdownOptions),
    /// Check a configuration file, or show the settings in effect
    Config {
        /// What to do with the configuration.
        #[command(subcommand)]
        action: ConfigAction,
    },
    /// Print the completion script of a shell to standard output
    #[command(after_help = "Example:\n  probe completions bash > /etc/bash_completion.d/probe")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a directory
    #[command(after_help = "Example:\n  probe man /usr/local/share/man/man1")]
    Man {
        /// The directory; it is made if it does not exist.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

/// What to do with the configuration.
#[derive(Subcommand, Clone, Debug)]
pub enum ConfigAction {
    /// Read a configuration file and say whether `probe run` would take it (exit status 0 or 2)
    Check(ConfigFile),
    /// Print the settings in effect as a configuration file, each with where it comes from
    Show(ConfigFile),
}

/// Which configuration file.
#[derive(Args, Clone, Debug)]
pub struct ConfigFile {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE", env = "PROBE_CONFIG")]
    pub config: Option<PathBuf>,
}
