// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One metered interface: what it is, and what takes its packets.

use std::time::Duration;

use tracing::info;

use super::{
    engines::{Capture, Engines},
    settle::Settle,
};
use crate::{
    cli::{self, InterfaceOptions},
    control::{InterfaceInfo, InterfaceState},
    error::ProbeError,
    flow::Timestamp,
    net::{self, Link, Role},
};

/// After so long, what takes the packets of an interface is made anew if it failed; then after longer and longer.
const FIRST_PATIENCE: Duration = Duration::from_secs(2);
const LONGEST_PATIENCE: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct Metered {
    /// As it was last seen.
    pub(super) link: Link,
    /// Whether it is there.
    pub(super) present: bool,
    pub(super) role: Role,
    /// The bridge through which it is metered; nothing if it was named itself.
    pub(super) bridge: Option<String>,
    /// Number of its observation domain.
    pub(super) domain: u8,
    pub(super) capture: Option<Capture>,
    /// When what takes its packets is made anew, because it failed.
    pub(super) retry: Option<Timestamp>,
    /// How long it is left alone after it failed again.
    pub(super) patience: Duration,
}

impl Metered {
    /// An interface that nothing takes packets of yet.
    ///
    /// # Errors
    /// When the role asked for would cut the host off.
    pub(super) fn new(
        link: &Link,
        links: &[Link],
        options: &InterfaceOptions,
        bridge: Option<String>,
        domain: u8,
    ) -> Result<Self, ProbeError> {
        let role = role(link, links, options)?;
        Ok(Self {
            link: link.clone(),
            present: true,
            role,
            bridge,
            domain,
            capture: None,
            retry: None,
            patience: FIRST_PATIENCE,
        })
    }

    /// Takes its packets. `alone`: no other interface is metered.
    ///
    /// # Errors
    /// When no engine can.
    pub(super) fn attach(&mut self, engines: &mut Engines, alone: bool) -> Result<(), ProbeError> {
        self.retry = None;
        self.capture = Some(engines.attach(&self.link, self.role, alone)?);
        self.patience = FIRST_PATIENCE;
        Ok(())
    }

    /// Has it tried again after a while, each time a longer one.
    pub(super) fn try_later(&mut self, now: Timestamp) {
        self.retry = Some(now + self.patience);
        self.patience = (self.patience * 2).min(LONGEST_PATIENCE);
    }

    /// Takes no more of its packets.
    pub(super) fn detach(&mut self, engines: &mut Engines, settle: &Settle) {
        if let Some(capture) = self.capture.take() {
            engines.detach(self.link.index, capture, || settle.wait());
        }
    }

    /// What there is to tell of it.
    pub(super) fn info(&self) -> InterfaceInfo {
        let state = match (self.present, self.link.up) {
            (false, _) => InterfaceState::Gone,
            (true, false) => InterfaceState::Down,
            (true, true) => InterfaceState::Up,
        };
        InterfaceInfo {
            name: self.link.name.clone(),
            index: self.link.index,
            state,
            role: self.role.name().to_owned(),
            engine: self.capture.as_ref().map(|capture| capture.engine().to_owned()),
            mode: self.capture.as_ref().and_then(Capture::mode).map(str::to_owned),
            bridge: self.bridge.clone(),
        }
    }
}

/// The role of an interface, with the reason in the log.
fn role(link: &Link, links: &[Link], options: &InterfaceOptions) -> Result<Role, ProbeError> {
    let choice = net::choose(link, links).map_err(|error| {
        ProbeError::host("cannot ask the kernel for addresses and routes (rtnetlink)").because(error)
    })?;
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
    let then = match (role, options.engine) {
        (Role::Tap, cli::Engine::AfPacket) => "what comes in is metered",
        (Role::Tap, _) => "packets end at the probe",
        (Role::Host, _) => "packets go on to the host",
    };
    info!("interface {name}: role {} ({why}): {then}", role.name());
    Ok(role)
}
