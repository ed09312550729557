// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What an interface is made of.

use netlink_packet_route::link::InfoKind;

/// What an interface is made of, as far as it matters where its packets are metered.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum LinkKind {
    /// A driver's own: a NIC, virtio, or the loopback interface.
    #[default]
    Device,
    /// One end of a pair.
    Veth,
    /// A tun or tap device: the other end is a program, often a virtual machine.
    Tun,
    /// A bridge.
    Bridge,
    /// A bond or team.
    Bond,
    /// An 802.1Q or 802.1ad device on another interface.
    Vlan,
    /// Any other virtual device.
    Other,
}

impl LinkKind {
    pub(super) fn of(kind: Option<&InfoKind>) -> Self {
        match kind {
            None => Self::Device,
            Some(InfoKind::Veth) => Self::Veth,
            Some(InfoKind::Tun) => Self::Tun,
            Some(InfoKind::Bridge) => Self::Bridge,
            Some(InfoKind::Bond) => Self::Bond,
            Some(InfoKind::Vlan) => Self::Vlan,
            Some(InfoKind::Other(name)) if name == "team" => Self::Bond,
            Some(_) => Self::Other,
        }
    }

    /// Why XDP in its driver costs the host more than it saves the probe, where it does.
    #[must_use]
    pub fn why_not_native(self) -> Option<&'static str> {
        match self {
            // veth_xdp_set in drivers/net/veth.c takes NETIF_F_GSO_SOFTWARE from the peer: whoever sends into the
            // pair then cuts large buffers into packets itself.
            Self::Veth => Some("with XDP, the other end of a veth pair loses its segmentation offload"),
            // tun_build_skb serves XDP only for small packets; large ones are built first, then linearised for it.
            Self::Tun => Some("a tap device receives whole segmentation buffers, which XDP cannot count"),
            _ => None,
        }
    }
}
