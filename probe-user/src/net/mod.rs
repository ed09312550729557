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
