// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One interface.

use std::{fs, io, path::Path};

use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
};

use super::{LinkKind, netlink};

/// What rtnetlink says of an interface.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Link {
    /// ifIndex.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Set up by the administrator, and the other end is there.
    pub up: bool,
    /// Index of the bridge or bond it is a port of.
    pub controller: Option<u32>,
    /// Index of the interface it is stacked on (a VLAN, macvlan, …); never set for veth, whose "parent" is
    /// only its other end.
    pub stacked_on: Option<u32>,
    /// Whether it is `lo`.
    pub loopback: bool,
    /// What it is made of.
    pub kind: LinkKind,
    /// Octets of the largest packet it sends, Ethernet header excluded.
    pub mtu: u32,
}

impl Link {
    pub(super) fn of(message: &LinkMessage) -> Option<Self> {
        let flags = message.header.flags;
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            up: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
            loopback: flags.contains(LinkFlags::Loopback),
            ..Self::default()
        };
        let mut kind = None;
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Controller(index) => link.controller = Some(*index),
                LinkAttribute::Link(index) => link.stacked_on = Some(*index),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::LinkInfo(infos) => {
                    kind = infos.iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind.clone()),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        link.kind = LinkKind::of(kind.as_ref());
        if link.kind == LinkKind::Veth {
            link.stacked_on = None;
        }
        (!link.name.is_empty()).then_some(link)
    }
}

/// All interfaces of this network namespace.
///
/// # Errors
/// When netlink fails.
pub fn links() -> io::Result<Vec<Link>> {
    let answers = netlink::dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
    Ok(answers
        .iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(message) => Link::of(message),
            _ => None,
        })
        .collect())
}

/// The interface of that name, if there is one.
///
/// # Errors
/// When netlink fails.
pub fn find(name: &str) -> io::Result<Option<Link>> {
    Ok(links()?.into_iter().find(|link| link.name == name))
}

/// Counters of frames that the NIC or its driver lost before XDP saw them, where /sys shows this
/// namespace's interfaces.
#[must_use]
pub fn drops(name: &str) -> Vec<(&'static str, u64)> {
    const COUNTERS: [&str; 5] =
        ["rx_missed_errors", "rx_dropped", "rx_over_errors", "rx_fifo_errors", "rx_errors"];
    let folder = Path::new("/sys/class/net").join(name).join("statistics");
    COUNTERS
        .into_iter()
        .map(|counter| {
            let text = fs::read_to_string(folder.join(counter)).unwrap_or_default();
            (counter, text.trim().parse().unwrap_or(0))
        })
        .collect()
}
