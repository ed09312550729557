// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Options of `probe collect`.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{LogOptions, UdpListen, duration::duration_within, parsers::number_within};

/// How received records are shown.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum CollectFormat {
    /// One aligned line a record
    Text,
    /// One JSON object a line
    Json,
    /// Comma-separated values with a header line
    Csv,
}

/// Options of `probe collect`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:\n  \
    probe collect                                                  show what arrives on port 2055\n  \
    probe collect --listen udp://127.0.0.1:9995 --format json      as JSON, on another port\n  \
    probe collect --format csv --idle-exit 5s > flows.csv          end 5 s after the last datagram\n\n\
    A summary (datagrams, records, flows missed, malformed) goes to standard error at the end.")]
pub struct CollectOptions {
    /// Where to receive datagrams; port 0 takes a free one and logs it
    #[arg(
        long,
        value_name = "udp://ADDRESS:PORT",
        env = "PROBE_LISTEN",
        default_value = "udp://0.0.0.0:2055"
    )]
    pub listen: UdpListen,

    /// How to show the records on standard output
    #[arg(long, env = "PROBE_FORMAT", value_enum, default_value = "text")]
    pub format: CollectFormat,

    /// End after this many records
    #[arg(long, value_name = "N", env = "PROBE_COUNT", value_parser = number_within::<u64>(1..=u64::MAX))]
    pub count: Option<u64>,

    /// End when no datagram came for this long (units: ms s m h d)
    #[arg(long, value_name = "DURATION", env = "PROBE_IDLE_EXIT",
          value_parser = duration_within(Duration::from_millis(10)..=Duration::from_secs(365 * 86_400)))]
    pub idle_exit: Option<Duration>,

    #[command(flatten)]
    pub log: LogOptions,
}
