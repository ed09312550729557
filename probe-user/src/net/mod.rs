// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the host says of its interfaces.
//!
//! - `netlink`: requests and notifications (rtnetlink)
//! - `link`, `link_kind`: one interface
//! - `ethtool`: what its NIC does to packets, and its queues (unsafe); `ethtool_events`: settings of NICs that change
//! - `promiscuous`: taking every frame of a mirror port
//! - `clsact`: where its tc filters are
//! - `role`: is it a mirror port or the host's own?
//! - `stack`: which interfaces get their packets from which
//! - `bridge`: a bridge and its ports
//! - `monitor`, `watch_list`, `link_change`: interfaces and bridges that change, vanish and come back

mod bridge;
pub(crate) mod clsact;
mod ethtool;
mod ethtool_events;
mod link;
mod link_change;
mod link_kind;
mod monitor;
mod netlink;
mod promiscuous;
mod role;
mod stack;
mod watch_list;

pub use bridge::{Bridge, bridge};
pub use ethtool::{Offloads, driver, hidden_from_the_stack, hidden_from_xdp, offloads, rx_queues};
pub use link::{Link, drops, find, links};
pub use link_change::{LinkChange, LinkSettings};
pub use link_kind::LinkKind;
pub use monitor::LinkMonitor;
pub use promiscuous::Promiscuous;
pub use role::{Role, RoleChoice, choose};
pub use stack::fed_by;
