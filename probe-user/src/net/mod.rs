// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the host says of its interfaces, by rtnetlink.
//!
//! - `netlink`: requests and notifications
//! - `link`: one interface
//! - `role`: is it a mirror port or the host's own?
//! - `bridge`: a bridge and its ports
//! - `ethtool_events`: settings of NICs that change
//! - `monitor`, `watch_list`, `link_change`: interfaces and bridges that change, vanish and come back

mod bridge;
mod ethtool_events;
mod link;
mod link_change;
mod monitor;
mod netlink;
mod role;
mod watch_list;

pub use bridge::{Bridge, bridge};
pub use link::{Link, drops, find, links};
pub use link_change::{LinkChange, LinkSettings};
pub use monitor::LinkMonitor;
pub use role::{Role, RoleChoice, choose};
