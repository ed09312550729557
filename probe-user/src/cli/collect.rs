// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Options of `probe collect`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::{
    LogOptions,
    duration::duration_within,
    parsers::{number_within, parse_switch},
};
use crate::collect::ListenUrl;

/// How received records are shown.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum CollectFormat {
    /// One aligned line a record
    Text,
    /// One JSON object a line
    Json,
    /// Comma-separated values with a header line
    Csv,
    /// Nothing: for a collector that only writes files
    None,
}

/// What kind of files received records are written to.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileFormat {
    /// One JSON object a line and flow
    Json,
    /// IPFIX messages as they came, each file with the templates it needs (RFC 5655)
    Ipfix,
    /// Columns, in directories by day and hour of the flows' ends
    Parquet,
}

/// Whole seconds from one second to a day, so that names with seconds tell files apart.
fn parse_rotation(text: &str) -> Result<Duration, String> {
    let rotation = duration_within(Duration::from_secs(1)..=Duration::from_secs(86_400))(text)?;
    if rotation.subsec_nanos() == 0 { Ok(rotation) } else { Err("allowed are whole seconds".into()) }
}

/// Options of `probe collect`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:\n  \
    probe collect                                                  show what arrives on port 2055\n  \
    probe collect --listen udp://127.0.0.1:9995 --format json      as JSON, on another port\n  \
    probe collect --format csv --idle-exit 5s > flows.csv          end 5 s after the last datagram\n  \
    probe collect --listen udp://0.0.0.0:2055 --listen tcp://0.0.0.0:4739 --options on\n  \
    probe collect --write /var/lib/flows --rotate 5m --write-format parquet,ipfix --format none\n  \
    probe collect --read /var/lib/flows/flows-20261121T051500Z.ipfix\n  \
    probe collect --listen tls://0.0.0.0:4740 --tls-cert c.pem --tls-key k.pem --tls-ca exporters.pem\n\n\
    NetFlow v1, v5, v7, v9 and IPFIX are read. JSON names elements as IANA's registry does; a record that tells its \
    times otherwise has flowStartMilliseconds and flowEndMilliseconds as well. Options records in JSON begin with \
    recordKind, exporter, domain and template. CSV has fixed columns, for flows only.\n\
    A summary (datagrams, records, what is missing, what was not decoded and why, sampling told) goes to \
    standard error at the end.")]
pub struct CollectOptions {
    /// Where to receive: datagrams of any version (udp), or IPFIX over connections (tcp, tls); may be repeated, port 0 takes a free one and logs it
    #[arg(
        long,
        value_name = "udp|tcp|tls://ADDRESS:PORT",
        env = "PROBE_LISTEN",
        value_delimiter = ',',
        default_value = "udp://0.0.0.0:2055"
    )]
    pub listen: Vec<ListenUrl>,

    /// Certificate chain for tls://, PEM
    #[arg(long, value_name = "FILE", env = "PROBE_TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// Private key of the certificate, PEM
    #[arg(long, value_name = "FILE", env = "PROBE_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Authorities that sign exporters' certificates, PEM; with it, exporters without a valid certificate are refused
    #[arg(long, value_name = "FILE", env = "PROBE_TLS_CA", requires = "tls_cert")]
    pub tls_ca: Option<PathBuf>,

    /// Read IPFIX files (RFC 5655) instead of listening; may be repeated
    #[arg(long, value_name = "FILE", env = "PROBE_READ", num_args = 1.., conflicts_with = "listen")]
    pub read: Vec<PathBuf>,

    /// How to show the records on standard output
    #[arg(long, env = "PROBE_FORMAT", value_enum, default_value = "text")]
    pub format: CollectFormat,

    /// Show options records as well (about samplers, interfaces, the exporter itself)
    #[arg(long, value_name = "on|off", env = "PROBE_OPTIONS", default_value = "off",
          action = clap::ArgAction::Set, value_parser = parse_switch)]
    pub options: bool,

    /// End after this many flow records
    #[arg(long, value_name = "N", env = "PROBE_COUNT", value_parser = number_within::<u64>(1..=u64::MAX))]
    pub count: Option<u64>,

    /// End when nothing came for this long (units: ms s m h d)
    #[arg(long, value_name = "DURATION", env = "PROBE_IDLE_EXIT",
          value_parser = duration_within(Duration::from_millis(10)..=Duration::from_secs(365 * 86_400)))]
    pub idle_exit: Option<Duration>,

    /// Write what is received into files in this directory
    #[arg(long, value_name = "DIR", env = "PROBE_WRITE")]
    pub write: Option<PathBuf>,

    /// Begin new files at each multiple of this time, by the wall clock in UTC (whole seconds)
    #[arg(long, value_name = "DURATION", env = "PROBE_ROTATE", default_value = "5m", requires = "write",
          value_parser = parse_rotation)]
    pub rotate: Duration,

    /// What kinds of files to write; separate several with commas
    #[arg(
        long,
        value_name = "FORMAT",
        env = "PROBE_WRITE_FORMAT",
        value_enum,
        default_value = "json",
        requires = "write",
        value_delimiter = ','
    )]
    pub write_format: Vec<FileFormat>,

    #[command(flatten)]
    pub log: LogOptions,
}
