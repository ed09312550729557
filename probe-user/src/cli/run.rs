// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Options of `probe run`.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use serde::Serialize;

use super::{
    BusyPoll, CorePlan, Direction, Engine, ExportOptions, FlowOptions, LogOptions, MetricsAddress,
    OutputOptions, OverloadMode, Queues, Role, SocketPath, XdpMode, ZeroCopy, bytes,
    duration::{self, duration_within},
    parse_bytes,
    parsers::{parse_interface, parse_switch, power_of_two_within, serialize_display},
};
use crate::error::ProbeError;

/// Heading of the options about how packets get in.
const ENGINE: &str = "Engine";

/// Options of `probe run`, after command line, environment and file were brought together.
#[derive(Args, Serialize, Clone, Debug)]
#[command(after_help = "Examples:\n  \
    probe run --iface eth1 --collector 192.0.2.10:2055\n  \
    probe run --iface eth1,eth2 --collector v5://192.0.2.10 --collector 'v5://[2001:db8::1]:9995?pps=500'\n  \
    probe run --bridge br0 --direction once --collector ipfix://192.0.2.10\n  \
    probe run --iface eth1 --engine af_xdp --queues 4 --cores harvesters=2,exporters=3,workers=4-7\n  \
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

/// Which interfaces are metered, and how packets get from them into the probe.
#[derive(Args, Serialize, Clone, Debug)]
#[command(next_help_heading = "Interfaces")]
#[serde(rename_all = "kebab-case")]
pub struct InterfaceOptions {
    /// Interface to meter; may be repeated, or several separated by commas
    #[arg(long, value_name = "NAME", env = "PROBE_IFACE", value_delimiter = ',', value_parser = parse_interface)]
    pub iface: Vec<String>,

    /// Bridge whose ports are all metered, also those added later; may be repeated. Each bridge is one exporter of
    /// its own, with its own engine id or observation domain
    #[arg(long, value_name = "NAME", env = "PROBE_BRIDGE", value_delimiter = ',', value_parser = parse_interface)]
    pub bridge: Vec<String>,

    /// What becomes of a packet after it was metered
    #[arg(long, env = "PROBE_ROLE", value_enum, default_value = "auto")]
    pub role: Role,

    /// Accept --role tap on an interface that carries the host's own traffic; it will be cut off
    #[arg(long, value_name = "on|off", env = "PROBE_FORCE", default_value = "off", num_args = 0..=1,
          require_equals = true, default_missing_value = "on", action = clap::ArgAction::Set,
          value_parser = parse_switch)]
    #[serde(serialize_with = "super::parsers::serialize_switch")]
    pub force: bool,

    /// Which packets are metered, in the host role. A mirror port only receives
    #[arg(long, env = "PROBE_DIRECTION", value_enum, default_value = "once")]
    pub direction: Direction,

    /// What takes the packets
    #[arg(long, env = "PROBE_ENGINE", value_enum, default_value = "auto", help_heading = ENGINE)]
    pub engine: Engine,

    /// How to attach to the interface
    #[arg(long, value_name = "MODE", env = "PROBE_XDP_MODE", value_enum, default_value = "auto",
          help_heading = ENGINE)]
    pub xdp_mode: XdpMode,

    /// Receive queues of each interface that get an AF_XDP socket: auto (all in use), how many (4 is 0 to 3), or which
    /// (0,2 or 4-7). Packets of the other queues are metered by XDP as far as it can
    #[arg(long, value_name = "auto|N|LIST", env = "PROBE_QUEUES", default_value = "auto", help_heading = ENGINE)]
    #[serde(serialize_with = "serialize_display")]
    pub queues: Queues,

    /// Whether AF_XDP sockets share the NIC's own buffers
    #[arg(long, env = "PROBE_ZERO_COPY", value_enum, default_value = "auto", help_heading = ENGINE)]
    pub zero_copy: ZeroCopy,

    /// How long an AF_XDP worker asks the NIC for packets before it sleeps (units: us ms), or off. Fewer interrupts,
    /// for a CPU that is never idle
    #[arg(long, value_name = "DURATION|off", env = "PROBE_BUSY_POLL", default_value = "off", help_heading = ENGINE)]
    #[serde(serialize_with = "serialize_display")]
    pub busy_poll: BusyPoll,
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

    /// Threads that keep flows, each a part of them: 1, 2, 4, 8 or 16. One serves some millions of packets a second
    #[arg(long, value_name = "N", env = "PROBE_HARVESTERS", default_value = "1",
          value_parser = power_of_two_within(1..=16))]
    pub harvesters: u32,

    /// CPUs of the probe's threads: auto, harvester,exporter as two numbers (2,3), or a list for each kind, such as
    /// harvesters=2-3,exporters=4,workers=5-6 (workers serve AF_XDP and AF_PACKET). Kinds not named run anywhere
    #[arg(long, value_name = "auto|H,E|KIND=LIST,…", env = "PROBE_CORES", default_value = "auto")]
    #[serde(serialize_with = "serialize_display")]
    pub cores: CorePlan,

    /// Accept --cores that name CPUs which serve the metered NICs' queues; threads there take time from receiving
    #[arg(long, value_name = "on|off", env = "PROBE_CORES_SHARED", default_value = "off", num_args = 0..=1,
          require_equals = true, default_missing_value = "on", action = clap::ArgAction::Set,
          value_parser = parse_switch)]
    #[serde(serialize_with = "super::parsers::serialize_switch")]
    pub cores_shared: bool,

    /// Serve Prometheus metrics on this address: ADDRESS:PORT, or none
    #[arg(long, value_name = "ADDRESS:PORT", env = "PROBE_METRICS", default_value = "127.0.0.1:9990")]
    #[serde(serialize_with = "serialize_display")]
    pub metrics: MetricsAddress,

    /// Control socket, where probe stats, iface and shutdown ask: a path, none, or auto (/run/flowprobe/control.sock
    /// if it can be made, else none, which the log says)
    #[arg(long, value_name = "PATH|auto|none", env = "PROBE_SOCKET", default_value = "auto")]
    #[serde(serialize_with = "serialize_display")]
    pub socket: SocketPath,
}

impl RunOptions {
    /// Checks what no single option can: that there is something to meter, none twice, an engine id for each, and
    /// that engine, mode and cores go together.
    ///
    /// # Errors
    /// A usage error that says what to change.
    pub fn validate(&self) -> Result<(), ProbeError> {
        if self.interface.iface.is_empty() && self.interface.bridge.is_empty() {
            return Err(ProbeError::usage("no interface to meter").hint(
                "give --iface NAME, PROBE_IFACE, or iface = [\"NAME\"] in the file (or bridge in its place); \
                 ip -br link lists them",
            ));
        }
        self.validate_settings()
    }

    /// The same for a configuration file, which may leave the interface to the command line.
    ///
    /// # Errors
    /// A usage error that says what to change.
    pub fn validate_settings(&self) -> Result<(), ProbeError> {
        let InterfaceOptions { iface, bridge, .. } = &self.interface;
        for (option, names) in [("iface", iface), ("bridge", bridge)] {
            for (i, name) in names.iter().enumerate() {
                if names[..i].contains(name) {
                    return Err(ProbeError::usage(format!("{option}: {name} is given twice"))
                        .hint("name each interface once; one program meters all of its packets"));
                }
            }
        }
        let exporters = iface.len() + bridge.len();
        if usize::from(self.export.engine_id) + exporters > 256 {
            return Err(ProbeError::usage(format!(
                "engine-id: {exporters} interfaces from engine id {} on do not fit into 0 to 255",
                self.export.engine_id
            ))
            .hint("lower engine-id, or run a second probe for some of the interfaces"));
        }
        self.interface.validate()?;
        self.resource.validate()
    }
}

impl InterfaceOptions {
    /// The engine that is asked for: who names a mode of XDP wants no other engine to step in.
    #[must_use]
    pub fn wanted_engine(&self) -> Engine {
        if self.engine == Engine::Auto && self.xdp_mode != XdpMode::Auto { Engine::Xdp } else { self.engine }
    }

    /// That no two options rule each other out, whatever the host can.
    fn validate(&self) -> Result<(), ProbeError> {
        let copies = [XdpMode::Generic, XdpMode::Tc].contains(&self.xdp_mode);
        match (self.engine, self.zero_copy) {
            (Engine::AfXdp, _) if self.xdp_mode == XdpMode::Tc => {
                Err(ProbeError::usage("engine = af_xdp needs XDP, and xdp-mode = tc asks for another way")
                    .hint("leave xdp-mode at auto"))
            }
            (Engine::AfPacket, ZeroCopy::Required) => Err(ProbeError::usage(
                "zero-copy = required needs AF_XDP, and engine = af_packet asks for copies",
            )
            .hint("choose engine af_xdp, or leave zero-copy at auto")),
            (_, ZeroCopy::Required) if copies => Err(ProbeError::usage(
                "zero-copy = required needs native XDP, and xdp-mode asks for another way",
            )
            .hint("leave xdp-mode at auto or native")),
            _ if self.role == Role::Tap && [Direction::Egress, Direction::Both].contains(&self.direction) => {
                Err(ProbeError::usage(
                    "a mirror port (role = tap) only receives, so nothing goes out to be metered",
                )
                .hint("leave direction at once, or take role = host"))
            }
            _ => Ok(()),
        }
    }
}

impl ResourceOptions {
    /// That every harvester has a CPU of its own, if CPUs are named for them.
    fn validate(&self) -> Result<(), ProbeError> {
        let CorePlan::Pinned(cores) = &self.cores else { return Ok(()) };
        let (named, harvesters) = (cores.harvesters.len(), self.harvesters as usize);
        if named == 0 || named == harvesters {
            return Ok(());
        }
        Err(ProbeError::usage(format!(
            "cores: CPUs are named for {named} harvesters, but harvesters = {harvesters}"
        ))
        .hint("name one CPU for each harvester, such as --harvesters 2 --cores harvesters=2-3,exporters=4"))
    }
}
