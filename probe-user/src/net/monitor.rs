// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Interfaces that go down, vanish and come back.

use std::io;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::Socket;

use super::{Link, link, netlink};

/// What became of a watched interface since the last look.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinkChange {
    /// The interface with this index is gone; what was attached to it is detached.
    Gone {
        /// Its name.
        name: String,
        /// The index it had.
        index: u32,
    },
    /// An interface of that name is there (again), perhaps with another index.
    Came(Link),
    /// It went down: no packets until it is up again.
    Down(Link),
    /// It is up again.
    Up(Link),
}

struct Watched {
    name: String,
    link: Option<Link>,
}

/// Watches interfaces by name.
pub struct LinkMonitor {
    socket: Socket,
    watched: Vec<Watched>,
}

impl LinkMonitor {
    /// Watches interfaces, as they are now.
    ///
    /// # Errors
    /// When netlink fails.
    pub fn new(links: &[Link]) -> io::Result<Self> {
        let watched =
            links.iter().map(|link| Watched { name: link.name.clone(), link: Some(link.clone()) }).collect();
        Ok(Self { socket: netlink::listen()?, watched })
    }

    /// What changed since the last call. Never blocks; looks at the interfaces only if the kernel said that
    /// something happened to one.
    ///
    /// # Errors
    /// When netlink fails.
    pub fn changes(&mut self) -> io::Result<Vec<LinkChange>> {
        if !self.heard()? {
            return Ok(Vec::new());
        }
        // The notifications only say when to look: the state is read anew, so none can be missed.
        let now = link::links()?;
        let mut changes = Vec::new();
        for watched in &mut self.watched {
            let found = now.iter().find(|link| link.name == watched.name).cloned();
            compare(watched.link.as_ref(), found.as_ref(), &mut changes);
            watched.link = found;
        }
        Ok(changes)
    }

    fn heard(&mut self) -> io::Result<bool> {
        let mut heard = false;
        loop {
            match self.socket.recv_from_full() {
                Ok((octets, _)) => {
                    netlink::each(&octets, |message| {
                        heard |= matches!(
                            message,
                            RouteNetlinkMessage::NewLink(_) | RouteNetlinkMessage::DelLink(_)
                        );
                    })?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(heard),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // More happened than the socket could hold: look.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => heard = true,
                Err(error) => return Err(error),
            }
        }
    }
}

fn compare(before: Option<&Link>, now: Option<&Link>, changes: &mut Vec<LinkChange>) {
    match (before, now) {
        (Some(before), Some(now)) if before.index == now.index => match (before.up, now.up) {
            (true, false) => changes.push(LinkChange::Down(now.clone())),
            (false, true) => changes.push(LinkChange::Up(now.clone())),
            _ => {}
        },
        (before, now) => {
            if let Some(before) = before {
                changes.push(LinkChange::Gone { name: before.name.clone(), index: before.index });
            }
            if let Some(now) = now {
                changes.push(LinkChange::Came(now.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, up: bool) -> Link {
        Link {
            index,
            name: "eth1".to_owned(),
            up,
            controller: None,
            stacked_on: None,
            loopback: false,
            ..Link::default()
        }
    }

    #[test]
    fn each_change_is_told_once() {
        let told = |before: Option<Link>, now: Option<Link>| {
            let mut changes = Vec::new();
            compare(before.as_ref(), now.as_ref(), &mut changes);
            changes
        };
        assert_eq!(told(None, None), []);
        assert_eq!(told(Some(link(3, true)), Some(link(3, true))), []);
        assert_eq!(told(Some(link(3, true)), Some(link(3, false))), [LinkChange::Down(link(3, false))]);
        assert_eq!(told(Some(link(3, false)), Some(link(3, true))), [LinkChange::Up(link(3, true))]);
        let gone = LinkChange::Gone { name: "eth1".to_owned(), index: 3 };
        assert_eq!(told(Some(link(3, true)), None), std::slice::from_ref(&gone));
        assert_eq!(told(None, Some(link(4, true))), [LinkChange::Came(link(4, true))]);
        assert_eq!(told(Some(link(3, true)), Some(link(4, true))), [gone, LinkChange::Came(link(4, true))]);
    }
}
