// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Options of `probe replay`.

use std::path::PathBuf;

use clap::Args;

use super::{ExportOptions, FlowOptions, LogOptions, OutputOptions};

/// Options of `probe replay`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:\n  \
    probe replay trace.pcap                              print the flows of a capture\n  \
    probe replay a.pcap b.pcapng.gz --print json         several files in this order, as JSON\n  \
    probe replay trace.pcap --collector 192.0.2.10:2055  send them to a collector\n  \
    tcpdump -w - | probe replay -                        from standard input\n\n\
    Without a collector the records are printed as text.")]
// A file is replayed to the same records every time, unless asked otherwise: jitter depends on a random seed.
#[command(mut_arg("active_jitter", |jitter| jitter.default_value("0")))]
pub struct ReplayOptions {
    /// Capture files, read in this order; - is standard input
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,

    #[command(flatten)]
    pub flow: FlowOptions,

    #[command(flatten)]
    pub export: ExportOptions,

    #[command(flatten)]
    pub output: OutputOptions,

    #[command(flatten)]
    pub log: LogOptions,
}
