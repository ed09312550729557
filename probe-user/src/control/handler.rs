// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who answers in the probe.

use super::{Action, Asker, InterfaceInfo, Refusal};
use crate::{error::ProbeError, telemetry::Ledger};

/// What a running probe can be asked. Called on the control server's thread, one call at a time; a call that takes
/// long keeps other clients waiting.
pub trait ControlHandler: Send + Sync {
    /// The ledger now. Packets are on their way, so it is complete and balanced only as far as the probe can tell
    /// while it runs.
    fn stats(&self) -> Ledger;

    /// The metered interfaces, those that are gone included, in the order they were given.
    fn iface_list(&self) -> Vec<InterfaceInfo>;

    /// Meters one more interface.
    ///
    /// # Errors
    /// When there is none of that name, it is metered already, or it cannot be.
    fn iface_add(&self, name: &str) -> Result<InterfaceInfo, Refusal>;

    /// Meters an interface no longer; its flows are exported.
    ///
    /// # Errors
    /// When it is not metered.
    fn iface_remove(&self, name: &str) -> Result<(), Refusal>;

    /// Has the probe end soon after this returns.
    ///
    /// # Errors
    /// When it cannot be told.
    fn shutdown(&self) -> Result<(), Refusal>;
}

/// Reads some part of the probe's state.
type Provider<T> = Box<dyn Fn() -> T + Send + Sync>;

/// The handler of a probe: what is only read is read at once, what changes something is left to the main thread.
pub struct Desk {
    stats: Provider<Ledger>,
    interfaces: Provider<Vec<InterfaceInfo>>,
    main: Asker,
}

impl Desk {
    /// A handler that reads with the two functions and leaves the rest to the other end of `main`.
    #[must_use]
    pub fn new(
        stats: impl Fn() -> Ledger + Send + Sync + 'static,
        interfaces: impl Fn() -> Vec<InterfaceInfo> + Send + Sync + 'static,
        main: Asker,
    ) -> Self {
        Self { stats: Box::new(stats), interfaces: Box::new(interfaces), main }
    }
}

impl ControlHandler for Desk {
    fn stats(&self) -> Ledger {
        (self.stats)()
    }

    fn iface_list(&self) -> Vec<InterfaceInfo> {
        (self.interfaces)()
    }

    fn iface_add(&self, name: &str) -> Result<InterfaceInfo, Refusal> {
        let added = self.main.ask(Action::AddInterface(name.into()))?;
        serde_json::from_value(added).map_err(|error| {
            ProbeError::run(format!("{name} is metered, but how was not understood")).because(error).into()
        })
    }

    fn iface_remove(&self, name: &str) -> Result<(), Refusal> {
        self.main.ask(Action::RemoveInterface(name.into())).map(drop)
    }

    fn shutdown(&self) -> Result<(), Refusal> {
        self.main.ask(Action::Shutdown).map(drop)
    }
}
