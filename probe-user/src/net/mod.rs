// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the host says of its interfaces, by rtnetlink.
//!
//! - `netlink`: requests and notifications
//! - `link`, `link_kind`: one interface
//! - `clsact`: where its tc filters are
//! - `role`: is it a mirror port or the host's own?
//! - `monitor`: interfaces that go down, vanish and come back

pub(crate) mod clsact;
mod link;
mod link_kind;
mod monitor;
mod netlink;
mod role;

pub use link::{Link, drops, find, links};
pub use link_kind::LinkKind;
pub use monitor::{LinkChange, LinkMonitor};
pub use role::{Role, RoleChoice, choose};

pub fn bridge_ports<'a>(_links: &'a [Link], _name: &str) -> Vec<&'a Link> {
    Vec::new()
}

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
