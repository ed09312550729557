// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Options of `probe run`.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use serde::Serialize;

use super::{
    CorePlan, ExportOptions, FlowOptions, LogOptions, MetricsAddress, OutputOptions, OverloadMode, Role,
    XdpMode, bytes,
    duration::{self, duration_within},
    parse_bytes,
    parsers::{parse_interface, parse_switch, power_of_two_within, serialize_display},
};
use crate::error::ProbeError;

/// Options of `probe run`, after command line, environment and file were brought together.
#[derive(Args, Serialize, Clone, Debug)]
#[command(after_help = "Examples:\n  \
    probe run --iface eth1 --collector 192.0.2.10:2055\n  \
    probe run --iface eth1,eth2 --collector v5://192.0.2.10 --collector 'v5://[2001:db8::1]:9995?pps=500'\n  \
    probe run --config /etc/flowprobe/probe.toml --print json\n\n\
    Each option can also stand in the environment, as PROBE_ and its name in capitals (PROBE_IDLE_TIMEOUT), \
    and in the configuration file under its long name. The command line wins over the environment, the \
    environment over the file.")]
#[serde(rename_all = "kebab-case")]
pub struct RunOptions {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE", env = "PROBE_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,

    #[command(flatten)]
    #[serde(flatten)]
    pub interface: InterfaceOptions,

    #[command(flatten)]
    #[serde(flatten)]
    pub flow: FlowOptions,

    #[command(flatten)]
    #[serde(flatten)]
    pub export: ExportOptions,

    #[command(flatten)]
    #[serde(flatten)]
    pub output: OutputOptions,

    #[command(flatten)]
    #[serde(flatten)]
    pub resource: ResourceOptions,

    #[command(flatten)]
    #[serde(flatten)]
    pub log: LogOptions,
}

/// Which interfaces are metered, and how the kernel program is attached to them.
#[derive(Args, Serialize, Clone, Debug)]
#[command(next_help_heading = "Interfaces")]
#[serde(rename_all = "kebab-case")]
pub struct InterfaceOptions {
    /// Interface to meter; may be repeated, or several separated by commas
    #[arg(long, value_name = "NAME", env = "PROBE_IFACE", value_delimiter = ',', value_parser = parse_interface)]
    pub iface: Vec<String>,

    /// What becomes of a packet after it was metered
    #[arg(long, env = "PROBE_ROLE", value_enum, default_value = "auto")]
    pub role: Role,

    /// Accept --role tap on an interface that carries the host's own traffic; it will be cut off
    #[arg(long, value_name = "on|off", env = "PROBE_FORCE", default_value = "off", num_args = 0..=1,
          require_equals = true, default_missing_value = "on", action = clap::ArgAction::Set,
          value_parser = parse_switch)]
    #[serde(serialize_with = "super::parsers::serialize_switch")]
    pub force: bool,

    /// How to attach to the interface
    #[arg(long, value_name = "MODE", env = "PROBE_XDP_MODE", value_enum, default_value = "auto")]
    pub xdp_mode: XdpMode,
}

/// How much memory and which CPUs the probe takes, and where it reports on itself.
#[derive(Args, Serialize, Clone, Debug)]
#[command(next_help_heading = "Resources")]
#[serde(rename_all = "kebab-case")]
pub struct ResourceOptions {
    /// Slots of the kernel's cache on each CPU, a power of two (64 bytes each)
    #[arg(long, value_name = "N", env = "PROBE_CACHE_SLOTS", default_value = "4096",
          value_parser = power_of_two_within(16..=4_194_304))]
    pub cache_slots: u32,

    /// Records of the spill ring on each CPU, a power of two (64 bytes each)
    #[arg(long, value_name = "N", env = "PROBE_SPILL_RECORDS", default_value = "262144",
          value_parser = power_of_two_within(16..=16_777_216))]
    pub spill_records: u32,

    /// Upper bound for the memory of caches, rings, flows and queues together, in bytes or with K, M, G: rings and
    /// caches shrink to fit; refused at the start if even that does not suffice. Not set: rings and caches
    /// stay within 1G
    #[arg(long, value_name = "SIZE", env = "PROBE_MEMORY", value_parser = parse_bytes)]
    #[serde(serialize_with = "bytes::serialize")]
    pub memory: Option<u64>,

    /// How often flows are read from the kernel (units: ms s m h d)
    #[arg(long, value_name = "DURATION", env = "PROBE_HARVEST_INTERVAL", default_value = "500ms",
          value_parser = duration_within(Duration::from_millis(10)..=Duration::from_secs(10)))]
    #[serde(serialize_with = "duration::serialize")]
    pub harvest_interval: Duration,

    /// What to do when rings, flow table or queue fill up
    #[arg(long, value_name = "MODE", env = "PROBE_OVERLOAD", value_enum, default_value = "off")]
    pub overload: OverloadMode,

    /// CPUs of the harvester and the exporter: auto, or two numbers such as 2,3
    #[arg(long, value_name = "auto|H,E", env = "PROBE_CORES", default_value = "auto")]
    #[serde(serialize_with = "serialize_display")]
    pub cores: CorePlan,

    /// Serve Prometheus metrics on this address: ADDRESS:PORT, or none
    #[arg(long, value_name = "ADDRESS:PORT", env = "PROBE_METRICS", default_value = "127.0.0.1:9990")]
    #[serde(serialize_with = "serialize_display")]
    pub metrics: MetricsAddress,
}

impl RunOptions {
    /// Checks what no single option can: that there is an interface, none twice, an engine id for each.
    ///
    /// # Errors
    /// A usage error that says what to change.
    pub fn validate(&self) -> Result<(), ProbeError> {
        let interfaces = &self.interface.iface;
        if interfaces.is_empty() {
            return Err(ProbeError::usage("no interface to meter").hint(
                "give --iface NAME, PROBE_IFACE, or iface = [\"NAME\"] in the file; ip -br link lists them",
            ));
        }
        self.validate_settings()
    }

    /// The same for a configuration file, which may leave the interface to the command line.
    ///
    /// # Errors
    /// A usage error that says what to change.
    pub fn validate_settings(&self) -> Result<(), ProbeError> {
        let interfaces = &self.interface.iface;
        for (i, name) in interfaces.iter().enumerate() {
            if interfaces[..i].contains(name) {
                return Err(ProbeError::usage(format!("iface: {name} is given twice"))
                    .hint("name each interface once; one program meters all of its packets"));
            }
        }
        if usize::from(self.export.engine_id) + interfaces.len() > 256 {
            return Err(ProbeError::usage(format!(
                "engine-id: {} interfaces from engine id {} on do not fit into 0 to 255",
                interfaces.len(),
                self.export.engine_id
            ))
            .hint("lower engine-id, or run a second probe for some of the interfaces"));
        }
        Ok(())
    }
}
