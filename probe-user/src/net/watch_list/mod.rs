// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is watched, and what the difference between two looks means.
//!
//! An interface is followed by its index as long as it is there: renamed, it is still the same. When it is gone it is
//! waited for by the name that it had last. A bridge likewise; its ports are whatever has it as its controller.

#[cfg(test)]
mod tests;

use super::{Bridge, Link, LinkChange, LinkSettings};

/// All interfaces at one look, and those that were removed since the look before: an index may be given again.
pub(super) struct Look<'a> {
    pub(super) links: &'a [Link],
    pub(super) removed: &'a [u32],
    /// Receive queues of an interface; asked only for what is watched.
    pub(super) queues: &'a dyn Fn(&str) -> Option<u32>,
}

impl<'a> Look<'a> {
    /// The interface with that index, if it is the one that had it at the last look.
    fn same(&self, index: u32) -> Option<&'a Link> {
        self.links.iter().find(|link| link.index == index && !self.removed.contains(&index))
    }

    fn named(&self, name: &str) -> Option<&'a Link> {
        self.links.iter().find(|link| link.name == name)
    }

    fn settings(&self, link: &Link) -> LinkSettings {
        LinkSettings { mtu: link.mtu, receive_queues: (self.queues)(&link.name) }
    }
}

struct Watched {
    name: String,
    present: Option<(Link, LinkSettings)>,
    /// Watched by itself, not only as the port of a bridge.
    alone: bool,
}

impl Watched {
    fn index(&self) -> Option<u32> {
        self.present.as_ref().map(|(link, _)| link.index)
    }

    /// Follows an interface that is still the same.
    fn follow(&mut self, link: &Link, look: &Look<'_>, changes: &mut Vec<LinkChange>) {
        let now = look.settings(link);
        if let Some((before, settings)) = self.present.replace((link.clone(), now)) {
            if before.name != link.name {
                changes.push(LinkChange::Renamed { from: before.name, link: link.clone() });
            }
            match (before.up, link.up) {
                (true, false) => changes.push(LinkChange::Down(link.clone())),
                (false, true) => changes.push(LinkChange::Up(link.clone())),
                _ => {}
            }
            let queues = settings.receive_queues.zip(now.receive_queues);
            if settings.mtu != now.mtu || queues.is_some_and(|(before, now)| before != now) {
                changes.push(LinkChange::Settings { link: link.clone(), before: settings, now });
            }
        }
        self.name.clone_from(&link.name);
    }
}

struct WatchedBridge {
    name: String,
    present: Option<Link>,
    ports: Vec<Link>,
}

impl WatchedBridge {
    /// Follows the bridge, and returns the ports that it lost.
    fn part(&mut self, look: &Look<'_>, changes: &mut Vec<LinkChange>) -> Vec<Link> {
        let Some(before) = self.present.take() else { return Vec::new() };
        self.present = look.same(before.index).cloned();
        let controller = self.present.as_ref().map(|link| link.index);
        let mut left = Vec::new();
        for port in std::mem::take(&mut self.ports) {
            let now = look.same(port.index);
            match now.filter(|now| controller.is_some() && now.controller == controller) {
                Some(now) => self.ports.push(now.clone()),
                None => left.push(port),
            }
        }
        changes.extend(left.iter().map(|port| LinkChange::PortRemoved {
            bridge: self.name.clone(),
            name: port.name.clone(),
            index: port.index,
        }));
        match &self.present {
            None => changes.push(LinkChange::BridgeGone { name: self.name.clone() }),
            Some(link) if link.name != before.name => {
                changes.push(LinkChange::BridgeRenamed { from: before.name, link: link.clone() });
                self.name.clone_from(&link.name);
            }
            Some(_) => {}
        }
        left
    }

    /// Looks for the bridge if it is not there, and returns the ports that it got.
    fn join<'a>(&mut self, look: &Look<'a>, changes: &mut Vec<LinkChange>) -> Vec<&'a Link> {
        if self.present.is_none() {
            self.present = look.named(&self.name).cloned();
            changes.extend(self.present.clone().map(LinkChange::BridgeCame));
        }
        let Some(index) = self.present.as_ref().map(|link| link.index) else { return Vec::new() };
        let is_new = |link: &&Link| {
            link.controller == Some(index) && !self.ports.iter().any(|port| port.index == link.index)
        };
        let added: Vec<&Link> = look.links.iter().filter(is_new).collect();
        for port in added.iter().copied().cloned() {
            self.ports.push(port.clone());
            changes.push(LinkChange::PortAdded { bridge: self.name.clone(), port });
        }
        added
    }
}

/// What is watched, as it was at the last look.
#[derive(Default)]
pub(super) struct WatchList {
    interfaces: Vec<Watched>,
    bridges: Vec<WatchedBridge>,
}

impl WatchList {
    /// Watches an interface, as it was when `link` was read.
    pub(super) fn watch(&mut self, link: &Link, settings: LinkSettings) {
        self.add(link, settings, true);
    }

    fn add(&mut self, link: &Link, settings: LinkSettings, alone: bool) {
        match self.interfaces.iter_mut().find(|watched| watched.name == link.name) {
            Some(watched) => watched.alone |= alone,
            None => {
                let present = Some((link.clone(), settings));
                self.interfaces.push(Watched { name: link.name.clone(), present, alone });
            }
        }
    }

    /// Watches an interface no longer; returns whether it was. The port of a watched bridge comes into view again only
    /// when it is added to a bridge anew.
    pub(super) fn forget(&mut self, name: &str) -> bool {
        let before = self.interfaces.len();
        self.interfaces.retain(|watched| watched.name != name);
        self.interfaces.len() != before
    }

    /// Watches a bridge and its ports, as they were when `bridge` was read.
    pub(super) fn watch_bridge(&mut self, bridge: &Bridge, settings: impl Fn(&Link) -> LinkSettings) {
        let Bridge { link, ports } = bridge;
        if self.bridges.iter().any(|watched| watched.name == link.name) {
            return;
        }
        for port in ports {
            self.add(port, settings(port), false);
        }
        self.bridges.push(WatchedBridge {
            name: link.name.clone(),
            present: Some(link.clone()),
            ports: ports.clone(),
        });
    }

    /// Watches a bridge no longer, nor its ports but those watched by themselves; returns whether it was.
    pub(super) fn forget_bridge(&mut self, name: &str) -> bool {
        let Some(at) = self.bridges.iter().position(|bridge| bridge.name == name) else { return false };
        for port in self.bridges.swap_remove(at).ports {
            self.forget_port(port.index);
        }
        true
    }

    fn forget_port(&mut self, index: u32) {
        self.interfaces.retain(|watched| watched.alone || watched.index() != Some(index));
    }

    /// Whether an interface with that index was watched, or a watched bridge or its port, at the last look.
    pub(super) fn knows(&self, index: u32) -> bool {
        let of_bridge = |bridge: &WatchedBridge| {
            bridge.present.iter().chain(&bridge.ports).any(|link| link.index == index)
        };
        self.interfaces.iter().any(|watched| watched.index() == Some(index))
            || self.bridges.iter().any(of_bridge)
    }

    /// What changed since the last look: interfaces first, then bridges.
    pub(super) fn compare(&mut self, look: &Look<'_>) -> Vec<LinkChange> {
        let mut changes = Vec::new();
        for watched in &mut self.interfaces {
            match watched.index().map(|index| (index, look.same(index))) {
                Some((_, Some(link))) => watched.follow(link, look, &mut changes),
                Some((index, None)) if watched.alone => {
                    watched.present = None;
                    changes.push(LinkChange::Gone { name: watched.name.clone(), index });
                }
                // What was only a port is told with its bridge.
                _ => {}
            }
        }
        self.find_missing(look, &mut changes);
        // First what was lost anywhere: a port may go from one watched bridge to another.
        for at in 0..self.bridges.len() {
            for port in self.bridges[at].part(look, &mut changes) {
                self.forget_port(port.index);
            }
        }
        for at in 0..self.bridges.len() {
            for link in self.bridges[at].join(look, &mut changes) {
                self.add(link, look.settings(link), false);
            }
        }
        changes
    }

    /// Looks by name for what is not there; not for what is watched under another entry already, which took the name.
    fn find_missing(&mut self, look: &Look<'_>, changes: &mut Vec<LinkChange>) {
        let mut taken: Vec<u32> = self.interfaces.iter().filter_map(Watched::index).collect();
        for watched in self.interfaces.iter_mut().filter(|watched| watched.present.is_none()) {
            let Some(link) = look.named(&watched.name).filter(|link| !taken.contains(&link.index)) else {
                continue;
            };
            taken.push(link.index);
            watched.present = Some((link.clone(), look.settings(link)));
            changes.push(LinkChange::Came(link.clone()));
        }
    }
}
