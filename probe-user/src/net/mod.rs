// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the host says of its interfaces, by rtnetlink.
//!
//! - `netlink`: requests and notifications
//! - `link`, `link_kind`: one interface
//! - `ethtool`: what its NIC does to packets, and its queues (unsafe)
//! - `promiscuous`: taking every frame of a mirror port
//! - `clsact`: where its tc filters are
//! - `role`: is it a mirror port or the host's own?
//! - `stack`: which interfaces get their packets from which
//! - `monitor`: interfaces that go down, vanish and come back

pub(crate) mod clsact;
mod ethtool;
mod link;
mod link_kind;
mod monitor;
mod netlink;
mod promiscuous;
mod role;
mod stack;

pub use ethtool::{Offloads, driver, hidden_from_the_stack, hidden_from_xdp, offloads, rx_queues};
pub use link::{Link, drops, find, links};
pub use link_kind::LinkKind;
pub use monitor::{LinkChange, LinkMonitor};
pub use promiscuous::Promiscuous;
pub use role::{Role, RoleChoice, choose};
pub use stack::fed_by;
