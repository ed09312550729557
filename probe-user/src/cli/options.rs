// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Options that `run` and `replay` share.

use std::{path::PathBuf, time::Duration};

use clap::{Args, builder::PossibleValuesParser};
use probe_common::KEY_BASE_MASK;
use serde::Serialize;

use super::{
    CollectorPolicy, KeyField, PrintFormat, RecordFormat,
    duration::{self, duration_within},
    parsers::{
        number_within, parse_collector, parse_sampling, parse_switch, serialize_display, serialize_path,
        serialize_switch,
    },
};
use crate::{
    export::CollectorUrl,
    flow::{ExpiryOptions, MOST_JITTER, Sampling, Spread},
};

const TIMEOUT_MIN: Duration = Duration::from_millis(100);
const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 86_400);

/// What makes a flow, and when it ends.
#[derive(Args, Serialize, Clone, Debug)]
#[command(next_help_heading = "Flows")]
#[serde(rename_all = "kebab-case")]
pub struct FlowOptions {
    /// Export a flow when no packet of it came for this long (units: ms s m h d)
    #[arg(long, value_name = "DURATION", env = "PROBE_IDLE_TIMEOUT", default_value = "15s",
          value_parser = duration_within(TIMEOUT_MIN..=TIMEOUT_MAX))]
    #[serde(serialize_with = "duration::serialize")]
    pub idle_timeout: Duration,

    /// Export a flow that goes on after this long; the rest becomes another record (units: ms s m h d)
    #[arg(long, value_name = "DURATION", env = "PROBE_ACTIVE_TIMEOUT", default_value = "5m",
          value_parser = duration_within(TIMEOUT_MIN..=TIMEOUT_MAX))]
    #[serde(serialize_with = "duration::serialize")]
    pub active_timeout: Duration,

    /// Spread active timeouts over this share of them, so that flows that began together are not exported together:
    /// no record gets longer than the active timeout, most get shorter by a part of this
    #[arg(long, value_name = "PERCENT", env = "PROBE_ACTIVE_JITTER", default_value = "10",
          value_parser = number_within::<u8>(0..=MOST_JITTER.into()))]
    pub active_jitter: u8,

    /// End the records of flows that go on at multiples of the active timeout (on the minute for 1m, and so on), each
    /// later by its part of the jitter: on or off
    #[arg(long, value_name = "on|off", env = "PROBE_ACTIVE_ALIGN", default_value = "off",
          action = clap::ArgAction::Set, value_parser = parse_switch)]
    #[serde(serialize_with = "serialize_switch")]
    pub active_align: bool,

    /// Export a TCP flow soon after FIN or RST: on or off
    #[arg(long, value_name = "on|off", env = "PROBE_TCP_END", default_value = "on",
          action = clap::ArgAction::Set, value_parser = parse_switch)]
    #[serde(serialize_with = "serialize_switch")]
    pub tcp_end: bool,

    /// Flows kept at once; when full, the oldest is exported early and none is refused
    #[arg(long, value_name = "N", env = "PROBE_MAX_FLOWS", default_value = "1048576",
          value_parser = number_within::<u32>(1..=268_435_456))]
    pub max_flows: u32,

    /// Fields added to the flow key, separated by commas: vlanId (or vlan), dot1qCustomerVlanId (or
    /// customer-vlan)
    #[arg(long, value_name = "FIELD,…", env = "PROBE_KEY", value_enum, value_delimiter = ',')]
    pub key: Vec<KeyField>,

    /// Keep MAC addresses, TTLs, packet lengths, fragment flags and the IPv6 flow label of each flow, and print
    /// them with --print json: on or off
    #[arg(long, value_name = "on|off", env = "PROBE_DETAILS", default_value = "off",
          action = clap::ArgAction::Set, value_parser = parse_switch)]
    #[serde(serialize_with = "serialize_switch")]
    pub details: bool,

    /// Meter a part of the traffic: off, 1:N (every Nth packet of a CPU), random:N (each packet with a probability
    /// of 1/N) or flow:N (all packets of one flow in N); records count what was metered, nothing is scaled
    #[arg(long, value_name = "SAMPLING", env = "PROBE_SAMPLING", default_value = "off",
          value_parser = parse_sampling)]
    #[serde(serialize_with = "serialize_display")]
    pub sampling: Sampling,

    /// Tunnels to look into; this version looks into none
    #[arg(long, value_name = "TUNNELS", env = "PROBE_DECAP", default_value = "none",
          value_parser = PossibleValuesParser::new(["none"]))]
    pub decap: String,
}

impl FlowOptions {
    /// When flows end.
    #[must_use]
    pub fn expiry(&self) -> ExpiryOptions {
        ExpiryOptions {
            idle: self.idle_timeout,
            active: self.active_timeout,
            tcp_end: self.tcp_end,
            spread: Spread { jitter: self.active_jitter, align: self.active_align },
        }
    }

    /// Which bits of key word 5 count.
    #[must_use]
    pub fn key_mask(&self) -> u64 {
        self.key.iter().fold(KEY_BASE_MASK, |mask, field| mask | field.mask())
    }

    /// Whether flows keep details: where somebody reads them.
    #[must_use]
    pub fn wants_details<'a>(
        &self,
        printed: Option<RecordFormat>,
        collectors: impl IntoIterator<Item = &'a CollectorUrl>,
    ) -> bool {
        let told = collectors.into_iter().any(|collector| collector.fields.needs_details());
        told || self.details && printed == Some(RecordFormat::Json)
    }
}

/// Where records go.
#[derive(Args, Serialize, Clone, Debug)]
#[command(next_help_heading = "Export")]
#[serde(rename_all = "kebab-case")]
pub struct ExportOptions {
    /// Collector, as HOST[:PORT] (NetFlow v5 over UDP) or SCHEME://HOST[:PORT][?key=value&…]; may be repeated.
    /// Schemes: v1, v5, v7, v9, ipfix, ipfix+tcp, ipfix+tls, ipfix+sctp, and ipfix+file:///DIRECTORY
    #[arg(long, value_name = "URL", env = "PROBE_COLLECTOR", value_delimiter = ' ',
          value_parser = parse_collector)]
    pub collector: Vec<String>,

    /// How records are shared out among several collectors
    #[arg(
        long,
        value_name = "POLICY",
        env = "PROBE_COLLECTOR_POLICY",
        value_enum,
        default_value = "replicate"
    )]
    pub collector_policy: CollectorPolicy,

    /// Engine type in NetFlow v5 headers
    #[arg(long, value_name = "0-255", env = "PROBE_ENGINE_TYPE", default_value = "0",
          value_parser = number_within::<u8>(0..=255))]
    pub engine_type: u8,

    /// Engine id in NetFlow v5 headers: that of the first interface, the following ones count up from it
    #[arg(long, value_name = "0-255", env = "PROBE_ENGINE_ID", default_value = "0",
          value_parser = number_within::<u8>(0..=255))]
    pub engine_id: u8,

    /// Observation domain (IPFIX) and source id (NetFlow v9): that of the first interface, the following ones
    /// count up from it
    #[arg(long, value_name = "N", env = "PROBE_DOMAIN", default_value = "1",
          value_parser = number_within::<u32>(0..=4_294_967_295))]
    pub domain: u32,
}

/// What is shown and written beside the export.
#[derive(Args, Serialize, Clone, Debug)]
#[command(next_help_heading = "Output")]
#[serde(rename_all = "kebab-case")]
pub struct OutputOptions {
    /// Print each exported record to standard output; without a value: text
    #[arg(long, value_name = "FORMAT", env = "PROBE_PRINT", value_enum, num_args = 0..=1,
          default_value = "auto", default_missing_value = "text")]
    pub print: PrintFormat,

    /// On exit write the ledger (where every packet went) as JSON to this file, - is standard output
    #[arg(long, value_name = "FILE", env = "PROBE_LEDGER")]
    #[serde(serialize_with = "serialize_path")]
    pub ledger: Option<PathBuf>,
}
