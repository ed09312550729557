// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the host says of its interfaces, by rtnetlink.
//!
//! - `netlink`: requests and notifications
//! - `link`: one interface
//! - `role`: is it a mirror port or the host's own?
//! - `monitor`: interfaces that go down, vanish and come back

mod link;
mod monitor;
mod netlink;
mod role;

pub use link::{Link, drops, find, links};
pub use monitor::{LinkChange, LinkMonitor};
pub use role::{Role, RoleChoice, choose};
