// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A bridge and its ports.

use std::io;

use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage},
};

use super::{Link, netlink};

/// A Linux bridge as it is now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bridge {
    /// The bridge itself.
    pub link: Link,
    /// Its ports, in the order in which the kernel tells them.
    pub ports: Vec<Link>,
}

/// The bridge of that name, if there is an interface of that name.
///
/// # Errors
/// When netlink fails, or (kind `InvalidInput`) the interface is no bridge.
pub fn bridge(name: &str) -> io::Result<Option<Bridge>> {
    let answers = netlink::dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
    let messages = answers.iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewLink(message) => Some(message),
        _ => None,
    });
    let mut found = None;
    let mut links = Vec::new();
    for message in messages {
        let Some(link) = Link::of(message) else { continue };
        if link.name == name {
            if !is_bridge(message) {
                let why = format!("{name} is an interface, but no Linux bridge (ip -d link show dev {name})");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
            found = Some(link.clone());
        }
        links.push(link);
    }
    Ok(found.map(|link| {
        links.retain(|port| port.controller == Some(link.index));
        Bridge { link, ports: links }
    }))
}

fn is_bridge(message: &LinkMessage) -> bool {
    message.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => {
            infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Bridge)))
        }
        _ => false,
    })
}
