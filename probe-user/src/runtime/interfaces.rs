// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The metered interfaces: found by name, attached, and attached again when they come back.

use std::sync::{Arc, Mutex, PoisonError};

use tracing::{info, warn};

use crate::{
    cli,
    error::ProbeError,
    kernel::{Attachment, KernelError, LoadedProgram, XdpMode},
    net::{self, Link, LinkChange, LinkMonitor, Role},
};

/// What telemetry gets to see of an interface.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct InterfaceStatus {
    /// ifIndex.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is there, up and attached.
    pub up: bool,
    /// How it is attached.
    pub mode: Option<&'static str>,
}

/// The same of all, shared.
pub(super) type SharedStatus = Arc<Mutex<Vec<InterfaceStatus>>>;

/// What others must do because an interface changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Consequence {
    /// No packets come from this interface any more: export its flows.
    Flush(u32),
    /// The interface that had the first index now has the second.
    Moved(u32, u32),
}

struct Metered {
    link: Link,
    role: Role,
    attachment: Option<Attachment>,
}

/// The metered interfaces. Dropping them detaches all.
pub(super) struct Interfaces {
    metered: Vec<Metered>,
    mode: XdpMode,
    monitor: LinkMonitor,
    status: SharedStatus,
}

fn netlink_failed(error: std::io::Error) -> ProbeError {
    ProbeError::host("cannot ask the kernel for its interfaces (rtnetlink)").because(error)
}

impl Interfaces {
    /// Finds the interfaces and decides their roles; nothing is attached yet.
    ///
    /// # Errors
    /// When one does not exist, or the role asked for would cut the host off.
    pub(super) fn find(options: &cli::InterfaceOptions) -> Result<Self, ProbeError> {
        let links = net::links().map_err(netlink_failed)?;
        let mut metered = Vec::new();
        for name in &options.iface {
            let link = links
                .iter()
                .find(|link| link.name == *name)
                .ok_or_else(|| ProbeError::from(KernelError::NoInterface { interface: name.clone() }))?;
            let role = role(link, &links, options)?;
            metered.push(Metered { link: link.clone(), role, attachment: None });
        }
        let links: Vec<Link> = metered.iter().map(|entry| entry.link.clone()).collect();
        let mode = match options.xdp_mode {
            cli::XdpMode::Auto => XdpMode::Auto,
            cli::XdpMode::Native => XdpMode::Native,
            cli::XdpMode::Generic => XdpMode::Generic,
            cli::XdpMode::Tc => {
                return Err(ProbeError::usage("--xdp-mode tc cannot be had yet").hint("leave it at auto"));
            }
        };
        let monitor = LinkMonitor::new(&links).map_err(netlink_failed)?;
        Ok(Self { metered, mode, monitor, status: SharedStatus::default() })
    }

    /// Their indexes, in the order given.
    #[must_use]
    pub(super) fn indexes(&self) -> Vec<u32> {
        self.metered.iter().map(|entry| entry.link.index).collect()
    }

    /// Where their status can be read.
    #[must_use]
    pub(super) fn status(&self) -> SharedStatus {
        Arc::clone(&self.status)
    }

    /// Attaches the program to all.
    ///
    /// # Errors
    /// When one refuses; those attached before are detached when `self` is dropped.
    pub(super) fn attach(&mut self, program: &mut LoadedProgram) -> Result<(), ProbeError> {
        for entry in &mut self.metered {
            entry.attach(program, self.mode)?;
        }
        self.publish();
        Ok(())
    }

    /// Detaches the program from all. Packets that are being metered may still be.
    pub(super) fn detach(&mut self) {
        for entry in &mut self.metered {
            entry.attachment = None;
        }
        self.publish();
    }

    /// Follows what happened to the interfaces since the last call.
    ///
    /// # Errors
    /// When netlink fails.
    pub(super) fn follow(&mut self, program: &mut LoadedProgram) -> Result<Vec<Consequence>, ProbeError> {
        let changes = self.monitor.changes().map_err(netlink_failed)?;
        let mut consequences = Vec::new();
        for change in &changes {
            self.apply(change, program, &mut consequences);
        }
        if !changes.is_empty() {
            self.publish();
        }
        Ok(consequences)
    }

    fn apply(&mut self, change: &LinkChange, program: &mut LoadedProgram, out: &mut Vec<Consequence>) {
        let name = match change {
            LinkChange::Gone { name, .. } | LinkChange::Renamed { from: name, .. } => name,
            LinkChange::Came(link) | LinkChange::Down(link) | LinkChange::Up(link) => &link.name,
            LinkChange::Settings { .. }
            | LinkChange::PortAdded { .. }
            | LinkChange::PortRemoved { .. }
            | LinkChange::BridgeGone { .. }
            | LinkChange::BridgeCame(_)
            | LinkChange::BridgeRenamed { .. } => return,
        };
        let mode = self.mode;
        let Some(entry) = self.metered.iter_mut().find(|entry| entry.link.name == *name) else { return };
        match change {
            LinkChange::Gone { index, .. } => {
                warn!(
                    "interface {name} is gone; its flows are exported, metering resumes when it comes back"
                );
                entry.attachment = None;
                entry.link.up = false;
                out.push(Consequence::Flush(*index));
            }
            LinkChange::Down(link) => {
                warn!("interface {name} is down; its flows are exported, metering resumes when it is up");
                entry.link = link.clone();
                out.push(Consequence::Flush(link.index));
            }
            LinkChange::Up(link) => {
                info!("interface {name} is up again");
                entry.link = link.clone();
            }
            LinkChange::Renamed { link, .. } => {
                info!("interface {name} is now named {}; metering goes on", link.name);
                entry.link = link.clone();
            }
            LinkChange::Came(link) => {
                let old = std::mem::replace(&mut entry.link, link.clone()).index;
                if old != link.index {
                    out.push(Consequence::Moved(old, link.index));
                }
                match entry.attach(program, mode) {
                    Ok(()) => info!("interface {name} is back with index {}; metering resumes", link.index),
                    Err(error) => {
                        tracing::error!(
                            "interface {name} is back, but cannot be metered: {}",
                            error.report()
                        );
                    }
                }
            }
            // Nothing to do yet.
            _ => {}
        }
    }

    fn publish(&self) {
        let status = self.metered.iter().map(|entry| InterfaceStatus {
            index: entry.link.index,
            name: entry.link.name.clone(),
            up: entry.link.up && entry.attachment.is_some(),
            mode: entry.attachment.as_ref().map(|attachment| attachment.mode().name()),
        });
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status.collect();
    }
}

impl Metered {
    fn attach(&mut self, program: &mut LoadedProgram, mode: XdpMode) -> Result<(), ProbeError> {
        let Link { name, index, .. } = &self.link;
        let attachment = program.attach(&self.link, self.role, mode)?;
        if let Some(why) = attachment.why_not_native() {
            warn!(
                "interface {name}: generic XDP, because {why}; the kernel builds a socket buffer for each packet first, which costs several times as much CPU"
            );
        }
        info!("metering interface {name} (index {index}) with {} XDP", attachment.mode().name());
        self.attachment = Some(attachment);
        Ok(())
    }
}

/// The role of an interface, with the reason in the log.
fn role(link: &Link, links: &[Link], options: &cli::InterfaceOptions) -> Result<Role, ProbeError> {
    let choice = net::choose(link, links).map_err(netlink_failed)?;
    let name = &link.name;
    let (role, why) = match options.role {
        cli::Role::Auto => (choice.role, choice.why),
        cli::Role::Host => (Role::Host, "as asked for".to_owned()),
        cli::Role::Tap if choice.role == Role::Host && !options.force => {
            return Err(ProbeError::usage(format!(
                "--role tap on {name} is refused: {}, and in this role every packet is dropped after metering, so the host would be cut off",
                choice.why
            ))
            .hint("use --role host (or auto), or add --force if losing these packets is what you want"));
        }
        cli::Role::Tap => (Role::Tap, "as asked for".to_owned()),
    };
    let then = match role {
        Role::Tap => "packets end at the probe",
        Role::Host => "packets go on to the host",
    };
    info!("interface {name}: role {} ({why}): {then}", role.name());
    Ok(role)
}
