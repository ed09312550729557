// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Mirror port, or the host's own interface? Metered packets of a mirror port are dropped, which would cut
//! a host off from its network.

use std::{io, net::IpAddr};

use netlink_packet_route::{
    RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteType},
};

use super::{Link, netlink};

/// What becomes of packets after metering.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// A TAP or mirror port: dropped.
    Tap,
    /// The host's own interface: passed on.
    Host,
}

impl Role {
    /// Name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tap => "tap",
            Self::Host => "host",
        }
    }
}

/// A role and the reason for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoleChoice {
    /// The role that fits.
    pub role: Role,
    /// Why, as the end of a sentence.
    pub why: String,
}

/// The role that fits an interface.
///
/// # Errors
/// When netlink fails.
pub fn choose(link: &Link, links: &[Link]) -> io::Result<RoleChoice> {
    let host = |why: String| Ok(RoleChoice { role: Role::Host, why });
    let name_of = |index: u32| {
        links
            .iter()
            .find(|link| link.index == index)
            .map_or_else(|| index.to_string(), |link| link.name.clone())
    };
    if link.loopback {
        return host("it is the loopback interface".to_owned());
    }
    if let Some(controller) = link.controller {
        return host(format!("it is a port of {}", name_of(controller)));
    }
    if let Some(upper) = links.iter().find(|other| other.stacked_on == Some(link.index)) {
        return host(format!("{} is stacked on it", upper.name));
    }
    if let Some(port) = links.iter().find(|other| other.controller == Some(link.index)) {
        return host(format!("{} is a port of it", port.name));
    }
    if let Some(address) = address(link.index)? {
        return host(format!("it has the address {address}"));
    }
    if let Some(route) = route(link.index)? {
        return host(format!("the route to {route} leads over it"));
    }
    Ok(RoleChoice {
        role: Role::Tap,
        why: "it has no address, carries no route, and nothing is stacked on it".to_owned(),
    })
}

/// IPv6 gives every interface that is up a link-local address and routes for it; they say nothing.
fn is_automatic(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.is_unicast_link_local() || address.is_multicast(),
    }
}

fn address(index: u32) -> io::Result<Option<IpAddr>> {
    let answers = netlink::dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
    Ok(answers.iter().find_map(|answer| match answer {
        RouteNetlinkMessage::NewAddress(message) if message.header.index == index => {
            message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(address) | AddressAttribute::Local(address) => {
                    (!is_automatic(*address)).then_some(*address)
                }
                _ => None,
            })
        }
        _ => None,
    }))
}

fn route(index: u32) -> io::Result<Option<String>> {
    let answers = netlink::dump(RouteNetlinkMessage::GetRoute(RouteMessage::default()))?;
    Ok(answers.iter().find_map(|answer| match answer {
        RouteNetlinkMessage::NewRoute(message) if message.header.kind == RouteType::Unicast => {
            leads_over(message, index).then(|| destination(message)).flatten()
        }
        _ => None,
    }))
}

fn leads_over(message: &RouteMessage, index: u32) -> bool {
    message.attributes.iter().any(|attribute| match attribute {
        RouteAttribute::Oif(oif) => *oif == index,
        RouteAttribute::MultiPath(hops) => hops.iter().any(|hop| hop.interface_index == index),
        _ => false,
    })
}

/// What a route leads to, `None` if IPv6 made it by itself.
fn destination(message: &RouteMessage) -> Option<String> {
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::from(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::from(*address)),
        _ => None,
    });
    match address {
        Some(address) if is_automatic(address) => None,
        Some(address) => Some(format!("{address}/{}", message.header.destination_prefix_length)),
        None => Some("everything else (default route)".to_owned()),
    }
}
