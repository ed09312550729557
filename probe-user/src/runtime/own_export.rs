// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Our own messages, as the kernel program recognises them when they cross a metered interface.

use std::net::{IpAddr, SocketAddr};

use probe_common::{FlowKey, OwnExportKey};

use crate::export::Endpoint;

const UDP: u8 = 17;
/// Entries of the map `OWN_EXPORT`.
const CAPACITY: usize = 256;

/// The keys of export sockets: what we send, and of connections, as far as there is room, what the collector
/// answers.
pub(super) fn keys(endpoints: &[Endpoint]) -> Vec<OwnExportKey> {
    let sent = endpoints.iter().filter_map(|ends| key(ends.protocol, ends.local, ends.peer));
    let connections = endpoints.iter().filter(|ends| ends.protocol != UDP);
    let answered = connections.filter_map(|ends| key(ends.protocol, ends.peer, ends.local));
    sent.chain(answered).take(CAPACITY).collect()
}

fn key(protocol: u8, from: SocketAddr, to: SocketAddr) -> Option<OwnExportKey> {
    let words = |octets: [u8; 16]| {
        let [high, low] = [&octets[..8], &octets[8..]];
        [high, low].map(|half| u64::from_ne_bytes(half.try_into().unwrap_or_default()))
    };
    let mut key = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => FlowKey::ipv4(from.octets(), to.octets(), protocol, 0),
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            FlowKey::ipv6(words(from.octets()), words(to.octets()), protocol, 0)
        }
        _ => return None,
    };
    key.set_ports(from.port(), to.port());
    Some(OwnExportKey::of(&key))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: [u8; 4] = [192, 0, 2, 1];
    const PEER: [u8; 4] = [192, 0, 2, 9];

    fn packet(protocol: u8, from: ([u8; 4], u16), to: ([u8; 4], u16)) -> OwnExportKey {
        let mut packet = FlowKey::ipv4(from.0, to.0, protocol, 0xb8);
        packet.set_ports(from.1, to.1);
        packet.set_ingress_interface(7);
        OwnExportKey::of(&packet)
    }

    fn endpoint(protocol: u8) -> Endpoint {
        let (local, peer) = (SocketAddr::from((LOCAL, 40000)), SocketAddr::from((PEER, 2055)));
        Endpoint { protocol, local, peer }
    }

    #[test]
    fn a_key_is_that_of_the_packet() {
        assert_eq!(keys(&[endpoint(UDP)]), [packet(UDP, (LOCAL, 40000), (PEER, 2055))]);
    }

    #[test]
    fn of_a_connection_both_directions_are_ours() {
        let sent = packet(6, (LOCAL, 40000), (PEER, 2055));
        assert_eq!(keys(&[endpoint(6)]), [sent, packet(6, (PEER, 2055), (LOCAL, 40000))]);
    }

    #[test]
    fn the_map_is_never_overfilled() {
        assert_eq!(keys(&vec![endpoint(6); 200]).len(), CAPACITY);
    }
}
