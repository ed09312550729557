// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Interfaces upon interfaces.

use super::{Link, LinkKind};

/// Interfaces beside `metered` on which nothing comes in that has not come in on one of `metered` before: VLANs on a
/// metered interface, bridges and bonds all of whose ports are. The kernel notes for each packet the last interface
/// that it came in on (`skb->skb_iif`), so what was routed from such an interface does not show the metered one.
#[must_use]
pub fn fed_by(links: &[Link], metered: &[u32]) -> Vec<u32> {
    let mut fed: Vec<u32> = Vec::new();
    loop {
        let known = |index: u32| metered.contains(&index) || fed.contains(&index);
        let next = links.iter().find(|link| {
            let mut ports = links.iter().filter(|port| port.controller == Some(link.index)).peekable();
            !known(link.index)
                && match link.kind {
                    LinkKind::Vlan => link.stacked_on.is_some_and(known),
                    LinkKind::Bridge | LinkKind::Bond => {
                        ports.peek().is_some() && ports.all(|port| known(port.index))
                    }
                    // What is on top of a macvlan or a tunnel may also come from beside or from within.
                    _ => false,
                }
        });
        match next {
            Some(link) => fed.push(link.index),
            None => return fed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, kind: LinkKind) -> Link {
        Link { index, name: format!("if{index}"), kind, ..Link::default() }
    }

    #[test]
    fn what_stands_on_metered_interfaces_alone_is_fed_by_them() {
        let port = |index, controller| Link { controller: Some(controller), ..link(index, LinkKind::Device) };
        let vlan = |index, on| Link { stacked_on: Some(on), ..link(index, LinkKind::Vlan) };
        let links = [
            // A VLAN on a bridge of two ports, seen before what it stands on.
            vlan(9, 5),
            link(5, LinkKind::Bridge),
            port(2, 5),
            port(3, 5),
            // A bridge without ports, and a VLAN on something else.
            link(6, LinkKind::Bridge),
            vlan(7, 4),
            link(4, LinkKind::Device),
        ];
        assert_eq!(fed_by(&links, &[2, 3]), [5, 9]);
        assert_eq!(fed_by(&links, &[2]), [0; 0], "the other port feeds the bridge too");
        assert_eq!(fed_by(&links, &[2, 3, 5]), [9]);
        assert_eq!(fed_by(&links, &[4]), [7]);
        assert_eq!(fed_by(&links, &[]), [0; 0]);
    }
}
