// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The values that options take.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

use clap::{Args, ValueEnum};
use probe_common::{KEY_CUSTOMER_VLAN_MASK, KEY_VLAN_MASK};
use serde::{Serialize, Serializer};

use crate::export::CollectorUrl;

/// What becomes of a packet after it was metered.
#[derive(ValueEnum, Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// `tap` for an interface without address, route, bridge or bond; else `host`
    Auto,
    /// A mirror port: every packet is dropped after metering
    Tap,
    /// An interface that the host itself uses: every packet passes
    Host,
}

/// How the kernel program is attached.
#[derive(ValueEnum, Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum XdpMode {
    /// Native if the driver can, else generic with a warning
    Auto,
    /// In the driver: fast
    Native,
    /// In the kernel's general receive path: works everywhere, several times slower
    Generic,
}

/// A field that can be added to the flow key.
#[derive(ValueEnum, Serialize, Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyField {
    /// VLAN of the outermost tag
    #[value(name = "vlanId", alias = "vlan")]
    #[serde(rename = "vlanId")]
    Vlan,
    /// VLAN of the second tag
    #[value(name = "dot1qCustomerVlanId", alias = "customer-vlan")]
    #[serde(rename = "dot1qCustomerVlanId")]
    CustomerVlan,
}

impl KeyField {
    /// The bits of key word 5 that the field adds.
    #[must_use]
    pub fn mask(self) -> u64 {
        match self {
            Self::Vlan => KEY_VLAN_MASK,
            Self::CustomerVlan => KEY_CUSTOMER_VLAN_MASK,
        }
    }
}

/// How records are printed.
#[derive(ValueEnum, Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum RecordFormat {
    /// One aligned line a record
    Text,
    /// One JSON object a line
    Json,
}

/// Whether and how records are printed.
#[derive(ValueEnum, Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum PrintFormat {
    /// As text where records would otherwise go nowhere: `replay` without a collector
    Auto,
    /// Not at all
    None,
    /// One aligned line a record
    Text,
    /// One JSON object a line
    Json,
}

impl PrintFormat {
    /// The format to print in; `auto` prints text if `records_go_nowhere`.
    #[must_use]
    pub fn format(self, records_go_nowhere: bool) -> Option<RecordFormat> {
        match self {
            Self::Auto if records_go_nowhere => Some(RecordFormat::Text),
            Self::Auto | Self::None => None,
            Self::Text => Some(RecordFormat::Text),
            Self::Json => Some(RecordFormat::Json),
        }
    }
}

/// Which CPUs the probe's own threads run on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CorePlan {
    /// Chosen at the start.
    Auto,
    /// As told.
    Pinned {
        /// CPU of the harvester.
        harvester: usize,
        /// CPU of the exporter.
        exporter: usize,
    },
}

impl FromStr for CorePlan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let cpu = |number: &str| number.parse::<u16>().ok().map(usize::from);
        match text.split_once(',').map(|(harvester, exporter)| (cpu(harvester), cpu(exporter))) {
            Some((Some(harvester), Some(exporter))) => Ok(Self::Pinned { harvester, exporter }),
            _ => Err("allowed are auto, or two CPU numbers: harvester,exporter, such as 2,3".into()),
        }
    }
}

impl fmt::Display for CorePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Pinned { harvester, exporter } => write!(f, "{harvester},{exporter}"),
        }
    }
}

/// Where metrics are served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetricsAddress {
    /// Nowhere.
    None,
    /// On this address.
    Listen(SocketAddr),
}

impl FromStr for MetricsAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::None);
        }
        text.parse().map(Self::Listen).map_err(|_| {
            "allowed are none, or an IP address and a port, such as 127.0.0.1:9990 or [::]:9990".into()
        })
    }
}

impl fmt::Display for MetricsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Listen(address) => address.fmt(f),
        }
    }
}

/// Where datagrams are received: `udp://ADDRESS:PORT`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UdpListen(pub SocketAddr);

impl FromStr for UdpListen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = match text.split_once("://") {
            Some(("udp", address)) => address,
            Some((scheme, _)) => return Err(format!("cannot listen on '{scheme}': only udp is supported")),
            None => text,
        };
        address.parse().map(Self).map_err(|_| {
            "expected udp://ADDRESS:PORT with an IP address, such as udp://0.0.0.0:2055 or udp://[::]:2055".into()
        })
    }
}

impl fmt::Display for UdpListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "udp://{}", self.0)
    }
}

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

/// Reads `on` or `off` (and what people write instead).
pub(super) fn parse_switch(text: &str) -> Result<bool, String> {
    match text {
        "on" | "true" | "yes" | "1" => Ok(true),
        "off" | "false" | "no" | "0" => Ok(false),
        _ => Err("allowed are on and off".into()),
    }
}

/// Reads an interface name as Linux allows it (`dev_valid_name` in net/core/dev.c).
pub(super) fn parse_interface(text: &str) -> Result<String, String> {
    let valid = !text.is_empty()
        && text.len() < 16
        && text != "."
        && text != ".."
        && !text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace());
    if valid {
        Ok(text.into())
    } else {
        Err("an interface name has 1 to 15 characters, without blanks, '/' and ':' (see: ip -br link)".into())
    }
}

/// Checks a collector; what it means is read again where it is used.
pub(super) fn parse_collector(url: &str) -> Result<String, String> {
    CollectorUrl::from_str(url).map(|_| url.into()).map_err(|error| {
        // Option and value stand before this already.
        let error = error.to_string();
        error.strip_prefix(&format!("collector '{url}': ")).unwrap_or(&error).into()
    })
}

/// Reads a power of two within a range.
pub(super) fn power_of_two_within(
    range: std::ops::RangeInclusive<u32>,
) -> impl Fn(&str) -> Result<u32, String> + Clone + Send + Sync + 'static {
    move |text| match text.parse::<u32>() {
        Ok(number) if number.is_power_of_two() && range.contains(&number) => Ok(number),
        _ => Err(format!("allowed are powers of two from {} to {}", range.start(), range.end())),
    }
}

/// Reads a whole number within a range.
pub(super) fn number_within<T: TryFrom<u64>>(
    range: std::ops::RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse::<u64>().ok().filter(|number| range.contains(number));
        number
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| format!("allowed are whole numbers from {} to {}", range.start(), range.end()))
    }
}

pub(super) fn serialize_path<S: Serializer>(
    path: &Option<PathBuf>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    path.clone().unwrap_or_default().serialize(serializer)
}

pub(super) fn serialize_switch<S: Serializer>(on: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if *on { "on" } else { "off" })
}

pub(super) fn serialize_display<T: fmt::Display, S: Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
