// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The metered interfaces: named, or ports of bridges; attached, and attached again when they come back; added and
//! removed while the probe runs.

use std::sync::{Arc, Mutex, PoisonError};

use tracing::{error, info, warn};

use super::{
    engines::{Capture, Engines},
    metered::Metered,
    settle::Settle,
};
use crate::{
    cli::{Direction, InterfaceOptions},
    control::InterfaceInfo,
    error::ProbeError,
    export::DomainNumbers,
    flow::Timestamp,
    kernel::KernelError,
    net::{self, Link, LinkChange, LinkMonitor},
};

/// What telemetry gets to see of an interface.
#[derive(Clone, Debug)]
pub(super) struct InterfaceStatus {
    /// What there is to tell of it.
    pub(super) info: InterfaceInfo,
    /// How its packets are taken, as the metrics have it.
    pub(super) modes: Vec<&'static str>,
}

/// The same of all interfaces, shared.
pub(super) type SharedStatus = Arc<Mutex<Vec<InterfaceStatus>>>;

/// What others must do because an interface changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Consequence {
    /// No packets come from this interface any more: export its flows.
    Flush(u32),
    /// The interface that had the first index now has the second.
    Moved(u32, u32),
    /// This interface is metered from now on, in this domain.
    Added(u32, u8),
    /// This interface is not metered any more.
    Removed(u32),
}

/// See the module.
pub(super) struct Interfaces {
    options: InterfaceOptions,
    metered: Vec<Metered>,
    domains: DomainNumbers,
    monitor: LinkMonitor,
    status: SharedStatus,
}

fn netlink_failed(error: std::io::Error) -> ProbeError {
    ProbeError::host("cannot ask the kernel for its interfaces (rtnetlink)").because(error)
}

fn no_bridge(name: &str, error: std::io::Error) -> ProbeError {
    match error.kind() {
        std::io::ErrorKind::InvalidInput => {
            ProbeError::usage(format!("interface {name} is no bridge")).hint("name it with --iface instead")
        }
        _ => netlink_failed(error),
    }
}

/// What the domain of a bridge is called among those of interfaces.
fn domain_of_bridge(name: &str) -> String {
    format!("bridge {name}")
}

fn no_interface(name: &str) -> ProbeError {
    KernelError::NoInterface { interface: name.to_owned() }.into()
}

impl Interfaces {
    /// Finds the interfaces and decides their roles; nothing is attached yet.
    ///
    /// # Errors
    /// When one does not exist, or the role asked for would cut the host off.
    pub(super) fn find(options: &InterfaceOptions) -> Result<Self, ProbeError> {
        let links = net::links().map_err(netlink_failed)?;
        let mut domains = DomainNumbers::default();
        let mut metered: Vec<Metered> = Vec::new();
        for name in &options.iface {
            let link = links.iter().find(|link| link.name == *name).ok_or_else(|| no_interface(name))?;
            metered.push(Metered::new(link, &links, options, None, domains.join(name))?);
        }
        let named: Vec<Link> = metered.iter().map(|entry| entry.link.clone()).collect();
        let mut monitor = LinkMonitor::new(&named).map_err(netlink_failed)?;
        for name in &options.bridge {
            let bridge = net::bridge(name).map_err(|error| no_bridge(name, error))?;
            let bridge = bridge.ok_or_else(|| no_interface(name))?;
            // One member more than it has ports: its number stays its own also while it has none.
            domains.join(&domain_of_bridge(name));
            info!(
                "bridge {name}: its {} ports are metered, and those that are added later",
                bridge.ports.len()
            );
            for port in &bridge.ports {
                if metered.iter().all(|entry| entry.link.index != port.index) {
                    let domain = domains.join(&domain_of_bridge(name));
                    metered.push(Metered::new(port, &links, options, Some(name.clone()), domain)?);
                }
            }
            monitor.watch_bridge(&bridge).map_err(netlink_failed)?;
        }
        let (options, status) = (options.clone(), SharedStatus::default());
        Ok(Self { options, metered, domains, monitor, status })
    }

    /// Their indexes and observation domains.
    pub(super) fn domains(&self) -> Vec<(u32, u8)> {
        self.metered.iter().map(|entry| (entry.link.index, entry.domain)).collect()
    }

    /// Their names.
    pub(super) fn names(&self) -> Vec<String> {
        self.metered.iter().map(|entry| entry.link.name.clone()).collect()
    }

    /// Where their status can be read.
    pub(super) fn status(&self) -> SharedStatus {
        Arc::clone(&self.status)
    }

    /// Attaches all, after the kernel has verified what they need.
    ///
    /// # Errors
    /// When one refuses; the caller detaches those attached before.
    pub(super) fn attach(&mut self, engines: &mut Engines) -> Result<(), ProbeError> {
        for entry in &self.metered {
            engines.prepare(&entry.link, entry.role)?;
        }
        let alone = self.alone();
        for entry in &mut self.metered {
            entry.attach(engines, alone)?;
        }
        self.changed(engines);
        Ok(())
    }

    /// Tells others of what has changed.
    fn changed(&self, engines: &mut Engines) {
        if self.options.direction == Direction::Once {
            let metered: Vec<u32> = self.metered.iter().map(|entry| entry.link.index).collect();
            let links = net::links().unwrap_or_default();
            engines.set_fed(net::fed_by(&links, &metered));
        }
        self.publish();
    }

    fn alone(&self) -> bool {
        self.metered.len() == 1 && self.options.bridge.is_empty()
    }

    /// Detaches all. Packets that are being metered may still be.
    pub(super) fn detach(&mut self, engines: &mut Engines, settle: &Settle) {
        // All at first, so that one wait does for all of them.
        let captures =
            self.metered.iter_mut().filter_map(|entry| Some((entry.link.index, entry.capture.take()?)));
        engines.detach_all(captures.collect(), || settle.wait());
        self.publish();
    }

    /// Meters one more interface.
    ///
    /// # Errors
    /// When there is none of that name, it is metered already, or no engine takes its packets.
    pub(super) fn add(
        &mut self,
        name: &str,
        engines: &mut Engines,
    ) -> Result<(InterfaceInfo, Vec<Consequence>), ProbeError> {
        if self.metered.iter().any(|entry| entry.link.name == name) {
            return Err(ProbeError::usage(format!("interface {name} is metered already")));
        }
        let links = net::links().map_err(netlink_failed)?;
        let link = links.iter().find(|link| link.name == name).ok_or_else(|| no_interface(name))?;
        let domain = self.domains.join(name);
        let added = Metered::new(link, &links, &self.options, None, domain).and_then(|mut entry| {
            engines.prepare(link, entry.role)?;
            self.monitor.watch(link).map_err(netlink_failed)?;
            entry.attach(engines, false).map(|()| entry)
        });
        let entry = added.inspect_err(|_| {
            self.monitor.forget(name);
            self.domains.leave(name);
        })?;
        let (info, index) = (entry.info(), link.index);
        self.metered.push(entry);
        self.changed(engines);
        Ok((info, vec![Consequence::Added(index, domain)]))
    }

    /// Meters an interface no longer.
    ///
    /// # Errors
    /// When it is not metered.
    pub(super) fn remove(
        &mut self,
        name: &str,
        engines: &mut Engines,
        settle: &Settle,
    ) -> Result<Vec<Consequence>, ProbeError> {
        let at = self.metered.iter().position(|entry| entry.link.name == name).ok_or_else(|| {
            ProbeError::usage(format!("interface {name} is not metered"))
                .hint("probe iface list shows those that are")
        })?;
        let mut consequences = Vec::new();
        self.drop_entry(at, engines, settle, &mut consequences);
        self.changed(engines);
        Ok(consequences)
    }

    fn drop_entry(&mut self, at: usize, engines: &mut Engines, settle: &Settle, out: &mut Vec<Consequence>) {
        let mut entry = self.metered.remove(at);
        entry.detach(engines, settle);
        self.monitor.forget(&entry.link.name);
        match &entry.bridge {
            Some(bridge) => self.domains.leave(&domain_of_bridge(bridge)),
            None => self.domains.leave(&entry.link.name),
        }
        info!("interface {} is not metered any more; its flows are exported", entry.link.name);
        out.extend([Consequence::Flush(entry.link.index), Consequence::Removed(entry.link.index)]);
    }

    /// Follows what happened to the interfaces since the last call.
    ///
    /// # Errors
    /// When netlink fails.
    pub(super) fn follow(
        &mut self,
        engines: &mut Engines,
        settle: &Settle,
        now: Timestamp,
    ) -> Result<Vec<Consequence>, ProbeError> {
        let mut consequences = Vec::new();
        let mut changed = false;
        for index in engines.failed() {
            if let Some(entry) = self.metered.iter_mut().find(|entry| entry.link.index == index) {
                entry.try_later(now);
            }
        }
        for change in self.monitor.changes().map_err(netlink_failed)? {
            changed = true;
            self.apply(change, engines, settle, now, &mut consequences);
        }
        let alone = self.alone();
        for entry in &mut self.metered {
            if entry.present && entry.retry.is_some_and(|at| now >= at) {
                changed = true;
                entry.detach(engines, settle);
                resume(entry, engines, alone, now);
            }
        }
        if changed {
            self.changed(engines);
        }
        Ok(consequences)
    }

    fn apply(
        &mut self,
        change: LinkChange,
        engines: &mut Engines,
        settle: &Settle,
        now: Timestamp,
        out: &mut Vec<Consequence>,
    ) {
        let alone = self.alone();
        let named = |name: &str| self.metered.iter().position(|entry| entry.link.name == name);
        match change {
            LinkChange::Gone { name, index } => {
                let Some(at) = named(&name) else { return };
                warn!(
                    "interface {name} is gone; its flows are exported, metering resumes when it comes back"
                );
                let entry = &mut self.metered[at];
                entry.detach(engines, settle);
                (entry.present, entry.link.up, entry.retry) = (false, false, None);
                out.push(Consequence::Flush(index));
            }
            LinkChange::Down(link) => {
                let Some(at) = named(&link.name) else { return };
                warn!(
                    "interface {} is down; its flows are exported, metering resumes when it is up",
                    link.name
                );
                out.push(Consequence::Flush(link.index));
                self.metered[at].link = link;
            }
            LinkChange::Up(link) => {
                let Some(at) = named(&link.name) else { return };
                info!("interface {} is up again", link.name);
                self.metered[at].link = link;
            }
            LinkChange::Came(link) => {
                let Some(at) = named(&link.name) else { return };
                let entry = &mut self.metered[at];
                let old = std::mem::replace(&mut entry.link, link).index;
                entry.present = true;
                if old != entry.link.index {
                    out.push(Consequence::Moved(old, entry.link.index));
                }
                if resume(entry, engines, alone, now) {
                    let Link { name, index, .. } = &entry.link;
                    info!("interface {name} is back with index {index}; metering resumes");
                }
            }
            LinkChange::Renamed { from, link } => {
                let Some(at) = named(&from) else { return };
                info!("interface {from} is called {} now; metering goes on", link.name);
                self.metered[at].link = link;
            }
            LinkChange::Settings { link, before, now: settings } => {
                let Some(at) = named(&link.name) else { return };
                let entry = &mut self.metered[at];
                entry.link = link;
                if before.receive_queues != settings.receive_queues || before.mtu < settings.mtu {
                    entry.detach(engines, settle);
                    if resume(entry, engines, alone, now) {
                        info!(
                            "interface {}: MTU {}, {} receive queues; what takes its packets was made anew",
                            entry.link.name,
                            settings.mtu,
                            settings
                                .receive_queues
                                .map_or_else(|| "some".to_owned(), |queues| queues.to_string())
                        );
                    }
                }
            }
            LinkChange::PortAdded { bridge, port } => self.add_port(&bridge, &port, engines, now, out),
            LinkChange::PortRemoved { bridge, name, .. } => {
                let Some(at) = named(&name) else { return };
                if self.metered[at].bridge.as_ref() == Some(&bridge) {
                    info!("interface {name} is no port of bridge {bridge} any more");
                    self.drop_entry(at, engines, settle, out);
                }
            }
            LinkChange::BridgeGone { name } => {
                warn!("bridge {name} is gone; its ports are metered again when it comes back");
            }
            LinkChange::BridgeCame(link) => info!("bridge {} is there again", link.name),
            LinkChange::BridgeRenamed { from, link } => {
                info!("bridge {from} is called {} now; metering goes on", link.name);
                for entry in self.metered.iter_mut().filter(|entry| entry.bridge.as_ref() == Some(&from)) {
                    entry.bridge = Some(link.name.clone());
                }
                self.domains.rename(&domain_of_bridge(&from), &domain_of_bridge(&link.name));
            }
        }
    }

    /// Meters a port that was added to a bridge.
    fn add_port(
        &mut self,
        bridge: &str,
        port: &Link,
        engines: &mut Engines,
        now: Timestamp,
        out: &mut Vec<Consequence>,
    ) {
        if self.metered.iter().any(|entry| entry.link.index == port.index) {
            return;
        }
        let domain = self.domains.join(&domain_of_bridge(bridge));
        let links = net::links().unwrap_or_default();
        match Metered::new(port, &links, &self.options, Some(bridge.to_owned()), domain) {
            Ok(mut entry) => {
                info!("interface {} is a port of bridge {bridge} now, and metered", port.name);
                resume(&mut entry, engines, false, now);
                self.metered.push(entry);
                out.push(Consequence::Added(port.index, domain));
            }
            Err(error) => {
                self.domains.leave(&domain_of_bridge(bridge));
                error!(
                    "interface {}, a new port of bridge {bridge}, is not metered: {}",
                    port.name,
                    error.report()
                );
            }
        }
    }

    fn publish(&self) {
        let status = self.metered.iter().map(|entry| InterfaceStatus {
            info: entry.info(),
            modes: entry.capture.as_ref().map(Capture::modes).unwrap_or_default(),
        });
        let status = status.collect();
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }
}

/// Takes the packets of an interface, and says whether that worked; tries again later when it did not.
fn resume(entry: &mut Metered, engines: &mut Engines, alone: bool, now: Timestamp) -> bool {
    let attached = entry.attach(engines, alone);
    if let Err(error) = &attached {
        error!("interface {} cannot be metered now: {}", entry.link.name, error.report());
        entry.try_later(now);
    }
    attached.is_ok()
}
