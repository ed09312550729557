// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How packets of an interface get in: the kernel's programs, AF_XDP sockets behind them, or packet sockets. Which of
//! them an interface gets, and why, is decided here and said in the log.

use probe_common::{InterfaceEntry, OwnExportKey};
use tracing::{info, warn};

use super::{
    clock,
    places::{Places, QUEUES},
    workers::{WorkerKind, Workers},
};
use crate::{
    afpacket::{self, PacketOptions, Spread, Ways},
    afxdp::{AfXdpOptions, AfXdpSource, BusyPoll, ZeroCopy},
    cli::{self, Engine, InterfaceOptions},
    error::ProbeError,
    kernel::{AttachPlan, Attachment, Directions, Hook, KernelError, LoadedProgram, XdpMode},
    meter::{FrameSource, OwnExports, SourceError},
    net::{self, Link, Role},
};

/// Packets of one call of busy polling.
const BUSY_BUDGET: u16 = 64;
/// The longest packet that fits into a small frame of AF_XDP: what the kernel keeps of it taken off.
const SMALL_FRAME: u32 = 2048 - crate::afxdp::HEADROOM;
/// Ethernet header with two VLAN tags.
const LINK_HEADER: u32 = 22;

/// Where the places of an interface in the map of sockets begin, and which queues have one.
type Sockets = (u32, Vec<u32>);

/// Why the kernel's programs do not take the packets of an interface.
enum Refused {
    Kernel(KernelError),
    Probe(ProbeError),
}

impl From<KernelError> for Refused {
    fn from(error: KernelError) -> Self {
        Self::Kernel(error)
    }
}

impl From<ProbeError> for Refused {
    fn from(error: ProbeError) -> Self {
        Self::Probe(error)
    }
}

impl From<Refused> for ProbeError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Kernel(error) => error.into(),
            Refused::Probe(error) => error,
        }
    }
}

/// Whether the kernel or the driver cannot, so that another engine may. Where somebody else is there already, as a second
/// probe, or the interface is not there, another engine would hide that.
fn is_inability(error: &KernelError) -> bool {
    matches!(error, KernelError::Attach { .. } | KernelError::Load { .. } | KernelError::NoPrivilege { .. })
}

/// What takes the packets of an interface. Whoever has it gives it back to [`Engines::detach`].
pub(super) enum Capture {
    /// The kernel's programs, perhaps with sockets behind them.
    Kernel {
        attachment: Attachment,
        /// Where its places in the map of sockets begin, and which of them are taken.
        sockets: Option<Sockets>,
        steers_all: bool,
        /// Whether its sockets, if there are any, need no copies.
        zero_copy: bool,
    },
    /// Packet sockets.
    Packet,
}

impl Capture {
    /// `xdp`, `af_xdp` or `af_packet`.
    pub(super) fn engine(&self) -> &'static str {
        match self {
            Self::Kernel { steers_all: true, .. } => "af_xdp",
            Self::Kernel { .. } => "xdp",
            Self::Packet => "af_packet",
        }
    }

    /// Where in the kernel packets are taken, if it is a matter of where.
    pub(super) fn mode(&self) -> Option<&'static str> {
        match self {
            Self::Kernel { attachment, .. } => Some(attachment.mode().name()),
            Self::Packet => None,
        }
    }

    /// How packets are taken, coming in and going out, as the metrics have it.
    pub(super) fn modes(&self) -> Vec<&'static str> {
        match self {
            Self::Kernel { attachment, steers_all, zero_copy, .. } => {
                let hooks = attachment.ingress().into_iter().chain(attachment.egress());
                let mut modes: Vec<&str> = hooks.map(Hook::name).collect();
                modes.dedup();
                if *steers_all {
                    modes.push(if *zero_copy { "af_xdp_zero_copy" } else { "af_xdp_copy" });
                }
                modes
            }
            Self::Packet => vec!["af_packet"],
        }
    }
}

/// See the module.
pub(super) struct Engines {
    options: InterfaceOptions,
    program: Option<LoadedProgram>,
    workers: Workers,
    own_exports: OwnExports,
    places: Places,
    /// Interfaces that get their packets from metered ones.
    fed: Vec<u32>,
    /// Why the program that was loaded cannot be used.
    refused: Option<&'static str>,
}

impl Engines {
    /// Engines with the program that was loaded, if any, and workers that run.
    pub(super) fn new(
        options: InterfaceOptions,
        program: Option<LoadedProgram>,
        workers: Workers,
        own_exports: OwnExports,
    ) -> Self {
        Self {
            options,
            program,
            workers,
            own_exports,
            places: Places::default(),
            fed: Vec::new(),
            refused: None,
        }
    }

    /// Has the kernel verify what an interface will need, before anything is attached.
    ///
    /// # Errors
    /// When it refuses.
    pub(super) fn prepare(&mut self, link: &Link, role: Role) -> Result<(), ProbeError> {
        let plan = self.plan(role);
        match &mut self.program {
            Some(program) if self.refused.is_none() => match program.prepare(link, plan) {
                Err(error) if self.options.wanted_engine() == Engine::Auto && is_inability(&error) => {
                    warn!("packet sockets (AF_PACKET) take all packets, because XDP cannot: {error}");
                    self.refused = Some("the kernel refused the probe's programs");
                    Ok(())
                }
                result => result.map_err(ProbeError::from),
            },
            _ => Ok(()),
        }
    }

    fn plan(&self, role: Role) -> AttachPlan {
        AttachPlan {
            mode: match self.options.xdp_mode {
                cli::XdpMode::Auto => XdpMode::Auto,
                cli::XdpMode::Native => XdpMode::Native,
                cli::XdpMode::Generic => XdpMode::Generic,
                cli::XdpMode::Tc => XdpMode::Tc,
            },
            directions: match self.options.direction {
                cli::Direction::Once => Directions::Once,
                cli::Direction::Ingress => Directions::Ingress,
                cli::Direction::Egress => Directions::Egress,
                cli::Direction::Both => Directions::Both,
            },
            ..AttachPlan::new(role)
        }
    }

    /// Takes the packets of an interface. `alone`: no other is metered.
    ///
    /// # Errors
    /// When none of the engines that are allowed can.
    pub(super) fn attach(&mut self, link: &Link, role: Role, alone: bool) -> Result<Capture, ProbeError> {
        let Some(why) = self.why_not_kernel() else {
            return match self.attach_program(link, role) {
                Err(Refused::Kernel(error))
                    if self.options.wanted_engine() == Engine::Auto && is_inability(&error) =>
                {
                    warn!(
                        "interface {}: packet sockets (AF_PACKET) take its packets, because XDP cannot: {error}",
                        link.name
                    );
                    self.open_packet_sockets(link, role, alone)
                }
                result => result.map_err(ProbeError::from),
            };
        };
        if let Some(why) = why {
            info!("interface {}: packet sockets (AF_PACKET), because {why}", link.name);
        }
        self.open_packet_sockets(link, role, alone)
    }

    /// Why the kernel's programs are not tried; nothing if they are, no reason if nobody wants to know.
    fn why_not_kernel(&self) -> Option<Option<&'static str>> {
        match (self.options.wanted_engine(), &self.program) {
            (Engine::AfPacket, _) => Some(None),
            (_, None) => Some(Some("the kernel takes no BPF programs from this process")),
            (_, Some(_)) => self.refused.map(Some),
        }
    }

    fn attach_program(&mut self, link: &Link, role: Role) -> Result<Capture, Refused> {
        let plan = self.plan(role);
        let steers_all = self.options.wanted_engine() == Engine::AfXdp;
        if steers_all && role == Role::Host {
            return Err(ProbeError::usage(format!(
                "engine af_xdp on {}: packets that go to an AF_XDP socket do not reach the host, and this is the host's own interface",
                link.name
            ))
            .hint("take engine auto or xdp for it, or --role tap if nothing else needs its packets")
            .into());
        }
        let Some(program) = &mut self.program else { return Err(KernelError::NoObject.into()) };
        // Before the program is there, so that what goes out can be told from what came in.
        let mut entry = InterfaceEntry {
            first_socket: 0,
            sockets: 0,
            ingress: u32::from(plan.directions.ingress()),
            egress: u32::from(plan.directions.egress()),
        };
        program.set_interface(link.index, entry)?;
        let attachment = match program.attach(link, plan) {
            Ok(attachment) => attachment,
            Err(error) => {
                program.remove_interface(link.index).ok();
                return Err(error.into());
            }
        };
        info!("metering interface {} (index {}) with {attachment}", link.name, link.index);
        for warning in attachment.warnings() {
            warn!("interface {}: {warning}", link.name);
        }
        let (mut sockets, mut zero_copy) = (None, false);
        if role == Role::Tap {
            match self.open_sockets(link, &attachment, &mut entry) {
                Ok(opened) => (sockets, zero_copy) = opened,
                Err(error) if steers_all => {
                    self.forget(link.index);
                    return Err(error.into());
                }
                Err(error) => warn!(
                    "interface {}: fragments are metered with ports 0, because no AF_XDP socket can be had for them: {}",
                    link.name,
                    error.report()
                ),
            }
        }
        Ok(Capture::Kernel { attachment, sockets, steers_all, zero_copy })
    }

    /// Opens a socket for each receive queue that is asked for, and tells the program of them.
    fn open_sockets(
        &mut self,
        link: &Link,
        attachment: &Attachment,
        entry: &mut InterfaceEntry,
    ) -> Result<(Option<Sockets>, bool), ProbeError> {
        let steers_all = self.options.wanted_engine() == Engine::AfXdp;
        // Counted now: a driver may use more queues once a program is attached.
        let queues = self.queues(link)?;
        let mut sources = Vec::new();
        for queue in &queues {
            let source = AfXdpSource::open(self.socket_options(link, *queue, attachment)).map_err(refused)?;
            sources.push(source);
        }
        if let Some(first) = sources.first() {
            let binding = first.binding();
            let way = if binding.zero_copy { "zero-copy" } else { "copy mode" };
            let why = binding.why_not_zero_copy.as_ref().map(|why| format!(", because {why}"));
            let what = if steers_all { "all packets" } else { "fragments and what else XDP cannot read" };
            info!(
                "interface {}: {} AF_XDP sockets for {what} ({way}{})",
                link.name,
                sources.len(),
                why.unwrap_or_default()
            );
        }
        // A frame in several buffers that is redirected to a socket which takes none is lost, and before Linux 6.6 nobody
        // counts it (`xdp_do_redirect` refuses it after the program's verdict).
        if attachment.multi_buffer() && !sources.iter().all(|source| source.binding().multi_buffer) {
            let why = "frames of this interface may lie in several buffers, which AF_XDP sockets take since Linux 6.6";
            if steers_all {
                return Err(ProbeError::host(format!("engine af_xdp on {}: {why}", link.name))
                    .hint("lower its MTU, or take engine xdp or af_packet"));
            }
            warn!("interface {}: fragments are metered with ports 0, because {why}", link.name);
            return Ok((None, false));
        }
        let Some(first) = self.places.take() else {
            warn!("interface {}: no more interfaces can have AF_XDP sockets", link.name);
            return Ok((None, false));
        };
        let Some(program) = &mut self.program else { return Ok((None, false)) };
        for source in &sources {
            let place = first + source.options().queue;
            if let Err(error) = program.set_socket(place, source.fd()) {
                self.places.give(first);
                return Err(error.into());
            }
        }
        entry.first_socket = first;
        entry.sockets = QUEUES;
        program.set_interface(link.index, *entry)?;
        let zero_copy = sources.iter().all(|source| source.binding().zero_copy);
        let sources = sources.into_iter().map(|source| Box::new(source) as Box<dyn FrameSource>).collect();
        self.workers.add(WorkerKind::AfXdp, sources);
        Ok((Some((first, queues)), zero_copy))
    }

    fn queues(&self, link: &Link) -> Result<Vec<u32>, ProbeError> {
        let count = net::rx_queues(&link.name).unwrap_or(1).max(1);
        let wanted = self.options.queues.choose(count).map_err(|missing| {
            ProbeError::usage(format!(
                "queues: interface {} has {count} receive queues in use, and queue {missing} is not among them",
                link.name
            ))
            .hint("leave queues at auto; ethtool -l and -L show and change how many there are")
        })?;
        if wanted.iter().any(|queue| *queue >= QUEUES) {
            warn!(
                "interface {}: only the first {QUEUES} receive queues get AF_XDP sockets; packets of the others are metered by XDP",
                link.name
            );
        }
        Ok(wanted.into_iter().filter(|queue| *queue < QUEUES).collect())
    }

    fn socket_options(&self, link: &Link, queue: u32, attachment: &Attachment) -> AfXdpOptions {
        let steers_all = self.options.wanted_engine() == Engine::AfXdp;
        let mut options = match steers_all {
            true => AfXdpOptions::new(&link.name, link.index, queue),
            false => AfXdpOptions::for_few(&link.name, link.index, queue),
        };
        if link.mtu + LINK_HEADER > SMALL_FRAME {
            options.frame_octets = 4096;
        }
        options.multi_buffer = attachment.multi_buffer();
        options.zero_copy = match self.options.zero_copy {
            // With zero-copy every packet of the queue lies in the socket's memory, also those that XDP meters by itself:
            // a worker that is late would starve the NIC of buffers for all of them.
            cli::ZeroCopy::Auto if !steers_all => ZeroCopy::Off,
            cli::ZeroCopy::Auto => ZeroCopy::Auto,
            cli::ZeroCopy::Off => ZeroCopy::Off,
            cli::ZeroCopy::Required => ZeroCopy::Required,
        };
        options.busy_poll = match self.options.busy_poll {
            cli::BusyPoll::Off => None,
            cli::BusyPoll::For(duration) => Some(BusyPoll { duration, budget: BUSY_BUDGET }),
        };
        options
    }

    fn open_packet_sockets(&mut self, link: &Link, role: Role, alone: bool) -> Result<Capture, ProbeError> {
        let sockets = self.workers.count(WorkerKind::AfPacket);
        let ways = match (role, self.options.direction) {
            (Role::Tap, _) | (_, cli::Direction::Ingress) => Ways::Ingress,
            (_, cli::Direction::Egress) => Ways::Egress,
            (_, cli::Direction::Both) => Ways::Both,
            (_, cli::Direction::Once) if alone => Ways::Both,
            (_, cli::Direction::Once) => {
                info!(
                    "interface {}: only what comes in is metered; a packet socket cannot tell whether a packet that goes out was metered when it came in (--direction both meters it twice)",
                    link.name
                );
                Ways::Ingress
            }
        };
        let several = net::rx_queues(&link.name).unwrap_or(1) > 1;
        let options = PacketOptions {
            ways,
            promiscuous: role == Role::Tap,
            sockets: u32::try_from(sockets.max(1)).unwrap_or(1),
            spread: if several { Spread::Cpu } else { Spread::Flow },
            ..PacketOptions::new(link.index, &link.name)
        };
        let sources = afpacket::open(&options, clock::now().now).map_err(refused)?;
        info!("metering interface {} (index {}) with {sockets} packet sockets", link.name, link.index);
        let sources = sources.into_iter().map(|source| Box::new(source) as Box<dyn FrameSource>).collect();
        self.workers.add(WorkerKind::AfPacket, sources);
        Ok(Capture::Packet)
    }

    /// Lets the packets of an interface go; see [`Self::detach_all`].
    pub(super) fn detach(&mut self, index: u32, capture: Capture, settle: impl FnOnce()) {
        self.detach_all(vec![(index, capture)], settle);
    }

    /// Lets the packets of all these interfaces go. `settle` returns when programs that were running have ended and the
    /// workers have counted what those handed over; it is called once, and only where there are sockets.
    pub(super) fn detach_all(&mut self, captures: Vec<(u32, Capture)>, settle: impl FnOnce()) {
        let mut socketed = Vec::new();
        for (index, capture) in captures {
            match capture {
                // The programs go first; the sockets when the programs of all have ended.
                Capture::Kernel { attachment, sockets, .. } => {
                    drop(attachment);
                    self.forget(index);
                    socketed.extend(sockets.map(|sockets| (index, sockets)));
                }
                Capture::Packet => self.workers.remove(WorkerKind::AfPacket, index),
            }
        }
        if !socketed.is_empty() {
            settle();
        }
        for (index, sockets) in socketed {
            self.close_sockets(index, sockets);
        }
    }

    /// Closes the sockets of an interface of which no program runs any more.
    fn close_sockets(&mut self, index: u32, (first, queues): Sockets) {
        self.workers.remove(WorkerKind::AfXdp, index);
        if let Some(program) = &mut self.program {
            // A socket that is closed leaves the map by itself.
            queues.iter().for_each(|queue| drop(program.unset_socket(first + queue)));
        }
        self.places.give(first);
    }

    /// Tells the programs which interfaces beside the metered ones get all they get from those: what goes out and came
    /// in on one of them was metered before.
    pub(super) fn set_fed(&mut self, fed: Vec<u32>) {
        let Some(program) = &mut self.program else { return };
        for gone in self.fed.iter().filter(|index| !fed.contains(index)) {
            // What is gone already needs no forgetting.
            program.remove_interface(*gone).ok();
        }
        for index in &fed {
            let entry = InterfaceEntry { ingress: 1, ..InterfaceEntry::default() };
            if let Err(error) = program.set_interface(*index, entry) {
                warn!(
                    "packets that come in on interface {index} and go out again may be metered twice: {error}"
                );
            }
        }
        self.fed = fed;
    }

    fn forget(&mut self, index: u32) {
        if let Some(program) = &mut self.program {
            // What is gone already needs no forgetting.
            program.remove_interface(index).ok();
        }
    }

    /// Interfaces of which a source has failed since the last call.
    pub(super) fn failed(&self) -> Vec<u32> {
        self.workers.failed()
    }

    /// Which datagrams are our own.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn set_own_exports(&mut self, keys: &[OwnExportKey]) -> Result<(), ProbeError> {
        self.own_exports.replace(keys.iter().copied());
        match &mut self.program {
            Some(program) => program.set_own_exports(keys).map_err(ProbeError::from),
            None => Ok(()),
        }
    }

    /// Compares the kernel's clocks.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(super) fn learn_clock(&mut self) -> Result<(), ProbeError> {
        match &mut self.program {
            Some(program) => program.learn_clock().map_err(ProbeError::from),
            None => Ok(()),
        }
    }

    /// Shows what the programs have logged.
    pub(super) fn show_log(&mut self) {
        if let Some(program) = &mut self.program {
            program.show_log();
        }
    }

    /// The workers.
    pub(super) fn workers(&self) -> &Workers {
        &self.workers
    }

    /// The workers, to be stopped: nothing is attached any more.
    pub(super) fn into_workers(self) -> Workers {
        self.workers
    }
}

fn refused(error: SourceError) -> ProbeError {
    ProbeError::host(error.to_string())
}
