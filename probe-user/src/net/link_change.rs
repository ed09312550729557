// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What becomes of interfaces and bridges.

use super::Link;

/// What may change while an interface stays the same one.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct LinkSettings {
    /// Octets of the largest packet it sends, Ethernet header excluded.
    pub mtu: u32,
    /// Receive queues in use, where /sys shows this namespace's interfaces.
    pub receive_queues: Option<u32>,
}

/// What became of something watched since the last look.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinkChange {
    /// The interface with this index is gone, removed or moved to another namespace; what was attached to it is
    /// detached. It is waited for by its name.
    Gone {
        /// Its name.
        name: String,
        /// The index it had.
        index: u32,
    },
    /// An interface of that name is there (again), perhaps with another index.
    Came(Link),
    /// It went down: no packets until it is up again.
    Down(Link),
    /// It is up again.
    Up(Link),
    /// It has another name. What is attached to it stays attached.
    Renamed {
        /// Its name before.
        from: String,
        /// What it is now.
        link: Link,
    },
    /// MTU or receive queues changed.
    Settings {
        /// The interface.
        link: Link,
        /// What was.
        before: LinkSettings,
        /// What is.
        now: LinkSettings,
    },
    /// A bridge has a new port, which is watched from now on until it is removed from the bridge.
    PortAdded {
        /// The bridge's name.
        bridge: String,
        /// The port.
        port: Link,
    },
    /// A bridge lost a port: taken from it, removed, or moved to another namespace. Unless it is watched by itself as
    /// well, nothing else is told of it any more.
    PortRemoved {
        /// The bridge's name.
        bridge: String,
        /// The port's name.
        name: String,
        /// The port's index.
        index: u32,
    },
    /// A bridge is gone; its ports were told before.
    BridgeGone {
        /// Its name.
        name: String,
    },
    /// A bridge of that name is there (again); its ports are told after.
    BridgeCame(Link),
    /// A bridge has another name.
    BridgeRenamed {
        /// Its name before.
        from: String,
        /// What it is now.
        link: Link,
    },
}
