// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the host says of its interfaces, by rtnetlink.
//!
//! - `netlink`: requests and notifications
//! - `link`: one interface; `link_kind`: what it is made of
//! - `clsact`: where its tc filters are
//! - `role`: is it a mirror port or the host's own?
//! - `bridge`: a bridge and its ports
//! - `ethtool_events`: settings of NICs that change
//! - `monitor`, `watch_list`, `link_change`: interfaces and bridges that change, vanish and come back

mod bridge;
pub(crate) mod clsact;
mod ethtool_events;
mod link;
mod link_change;
mod link_kind;
mod monitor;
mod netlink;
mod role;
mod watch_list;

pub use bridge::{Bridge, bridge};
pub use link::{Link, drops, find, links};
pub use link_change::{LinkChange, LinkSettings};
pub use link_kind::LinkKind;
pub use monitor::LinkMonitor;
pub use role::{Role, RoleChoice, choose};

pub fn rx_queues(name: &str) -> Option<u32> {
    let entries = std::fs::read_dir(format!("/sys/class/net/{name}/queues")).ok()?;
    u32::try_from(
        entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("rx-")).count(),
    )
    .ok()
}

pub fn ethtool_warnings(_link: &Link, _sees: bool) -> Vec<String> {
    Vec::new()
}

pub struct Promiscuous;
impl Promiscuous {
    pub fn new(_index: u32) -> std::io::Result<Self> {
        Ok(Self)
    }
}
