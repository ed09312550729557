// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The values that options take.

use std::{fmt, net::SocketAddr, str::FromStr};

use clap::ValueEnum;
use probe_common::{KEY_CUSTOMER_VLAN_MASK, KEY_VLAN_MASK};
use serde::Serialize;

use crate::export;

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

/// How records are shared out among collectors.
#[derive(ValueEnum, Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum CollectorPolicy {
    /// Each gets every record
    Replicate,
    /// Each record goes to one of those that are up, both directions of a conversation to the same
    Balance,
    /// All records go to the first that is up
    Failover,
}

impl From<CollectorPolicy> for export::CollectorPolicy {
    fn from(policy: CollectorPolicy) -> Self {
        match policy {
            CollectorPolicy::Replicate => Self::Replicate,
            CollectorPolicy::Balance => Self::Balance,
            CollectorPolicy::Failover => Self::Failover,
        }
    }
}

/// What is done when more comes than can be taken.
#[derive(ValueEnum, Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum OverloadMode {
    /// Nothing: the oldest flows make room, and what finds none is counted as lost
    Off,
    /// Step by step: a shorter idle timeout, early export of the oldest flows, flow sampling; and back again when it
    /// is over
    Adaptive,
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
