// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Interfaces and bridges that change, vanish and come back. What the differences mean is decided in `watch_list`.

use std::{collections::BTreeSet, io};

use netlink_packet_route::{AddressFamily, RouteNetlinkMessage, link::LinkMessage};
use netlink_sys::Socket;

use super::{
    Bridge, Link, LinkChange, LinkSettings, ethtool_events, netlink, rx_queues,
    watch_list::{Look, WatchList},
};

/// Watches interfaces by name and index, and bridges with their ports.
pub struct LinkMonitor {
    socket: Socket,
    /// Where the kernel has it; without it a changed number of queues is seen when something else happens.
    ethtool: Option<Socket>,
    list: WatchList,
    /// Something may have changed that no notification will tell.
    unsure: bool,
    /// Of what is watched, indexes removed since the last look.
    removed: BTreeSet<u32>,
}

impl LinkMonitor {
    /// Watches interfaces, as they were when `links` was read.
    ///
    /// # Errors
    /// When netlink fails.
    pub fn new(links: &[Link]) -> io::Result<Self> {
        let mut monitor = Self {
            socket: netlink::listen()?,
            ethtool: ethtool_events::listen().ok(),
            list: WatchList::default(),
            unsure: true,
            removed: BTreeSet::new(),
        };
        let now = all_links()?;
        for link in links {
            monitor.list.watch(link, settings(&now, link));
        }
        Ok(monitor)
    }

    /// Watches one more interface, as it was when `link` was read.
    ///
    /// # Errors
    /// When netlink fails.
    pub fn watch(&mut self, link: &Link) -> io::Result<()> {
        self.list.watch(link, settings(&all_links()?, link));
        self.unsure = true;
        Ok(())
    }

    /// Watches an interface no longer; returns whether it was. If it is the port of a watched bridge, it is told of
    /// again only when it is added to the bridge anew.
    pub fn forget(&mut self, name: &str) -> bool {
        self.list.forget(name)
    }

    /// Watches a bridge and its ports, as they were when `bridge` was read.
    ///
    /// # Errors
    /// When netlink fails.
    pub fn watch_bridge(&mut self, bridge: &Bridge) -> io::Result<()> {
        let now = all_links()?;
        self.list.watch_bridge(bridge, |port| settings(&now, port));
        self.unsure = true;
        Ok(())
    }

    /// Watches a bridge no longer, nor its ports but those watched by themselves; returns whether it was.
    pub fn forget_bridge(&mut self, name: &str) -> bool {
        self.list.forget_bridge(name)
    }

    /// What changed since the last call. Never blocks; looks at the interfaces only if the kernel said that
    /// something happened to one.
    ///
    /// # Errors
    /// When netlink fails; the next call looks again.
    pub fn changes(&mut self) -> io::Result<Vec<LinkChange>> {
        self.unsure |= self.ethtool.as_ref().is_some_and(ethtool_events::heard);
        self.listen()?;
        if !self.unsure {
            return Ok(Vec::new());
        }
        // The notifications only say when to look: the state is read anew, so none can be missed.
        let now = all_links()?;
        let removed: Vec<u32> = std::mem::take(&mut self.removed).into_iter().collect();
        self.unsure = false;
        Ok(self.list.compare(&Look { links: &now, removed: &removed, queues: &rx_queues }))
    }

    /// Reads what the kernel has said.
    fn listen(&mut self) -> io::Result<()> {
        loop {
            match self.socket.recv_from_full() {
                Ok((octets, _)) => {
                    netlink::each(&octets, |message| match message {
                        RouteNetlinkMessage::NewLink(_) => self.unsure = true,
                        RouteNetlinkMessage::DelLink(message) => {
                            self.unsure = true;
                            // Of other families are ports that leave a bridge (br_ifinfo_notify, AF_BRIDGE).
                            let index = message.header.index;
                            let whole = message.header.interface_family == AddressFamily::Unspec;
                            if whole && self.list.knows(index) {
                                self.removed.insert(index);
                            }
                        }
                        _ => {}
                    })?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // More happened than the socket could hold: look.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => self.unsure = true,
                Err(error) => return Err(error),
            }
        }
    }
}

/// All interfaces now.
fn all_links() -> io::Result<Vec<Link>> {
    let answers = netlink::dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
    Ok(answers
        .iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(message) => Link::of(message),
            _ => None,
        })
        .collect())
}

/// Settings of a link that is there; one that has gone meanwhile has none, which the next look tells.
fn settings(links: &[Link], link: &Link) -> LinkSettings {
    links.iter().find(|now| now.index == link.index).map_or_else(LinkSettings::default, |now| LinkSettings {
        mtu: now.mtu,
        receive_queues: rx_queues(&now.name),
    })
}
