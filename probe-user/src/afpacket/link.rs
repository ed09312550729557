// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the frames of an interface begin with.

/// Octets of an Ethernet header.
const ETHERNET: usize = 14;
/// `ARPHRD_RAWIP` of include/uapi/linux/if_arp.h.
const ARPHRD_RAWIP: u16 = 519;

/// What the frames of an interface begin with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LinkHeader {
    /// An Ethernet header.
    Ethernet,
    /// None: they are IP packets.
    None,
}

impl LinkHeader {
    /// Of an interface with this hardware type, if it is one that can be metered.
    pub(super) fn of(hardware_type: u16) -> Option<Self> {
        match hardware_type {
            libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => Some(Self::Ethernet),
            // tun, WireGuard and xfrm; PPP (whose header the kernel hides); mobile modems; tunnels without a header of
            // their own in the packet.
            libc::ARPHRD_NONE
            | libc::ARPHRD_PPP
            | ARPHRD_RAWIP
            | libc::ARPHRD_TUNNEL
            | libc::ARPHRD_TUNNEL6
            | libc::ARPHRD_SIT => Some(Self::None),
            _ => None,
        }
    }
}

/// An Ethernet header put before an IP packet, so that all else need not know of links without one. Its addresses are
/// zero.
#[derive(Debug)]
pub(super) struct Framed<const N: usize>([u8; N]);

impl<const N: usize> Framed<N> {
    pub(super) fn new() -> Self {
        Self([0; N])
    }

    /// The packet as a frame, as far as there is room; and how much longer it is than the packet.
    pub(super) fn put(&mut self, packet: &[u8]) -> (&[u8], usize) {
        let kind = match packet.first().map(|first| first >> 4) {
            Some(4) => libc::ETH_P_IP,
            Some(6) => libc::ETH_P_IPV6,
            // Of no IP packet (IEEE 802.1 keeps it for local experiments).
            _ => libc::ETH_P_802_EX1,
        };
        let kind = u16::try_from(kind).unwrap_or(0);
        self.0[ETHERNET - 2..ETHERNET].copy_from_slice(&kind.to_be_bytes());
        let copied = packet.len().min(N - ETHERNET);
        self.0[ETHERNET..ETHERNET + copied].copy_from_slice(&packet[..copied]);
        (&self.0[..ETHERNET + copied], ETHERNET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_becomes_a_frame() {
        let mut framed = Framed::<20>::new();
        let (frame, longer) = framed.put(&[0x45, 1, 2]);
        assert_eq!((frame, longer), ([[0; 12].as_slice(), &[8, 0, 0x45, 1, 2]].concat().as_slice(), 14));
        assert_eq!(framed.put(&[0x60; 100]).0, [[0; 12].as_slice(), &[0x86, 0xdd], &[0x60; 6]].concat());
        assert_eq!(framed.put(&[]).0, [[0; 12].as_slice(), &[0x88, 0xb5]].concat());
    }
}
