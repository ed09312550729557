// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Our own datagrams, as the kernel program recognises them when they cross a metered interface.

use std::net::{IpAddr, SocketAddr};

use probe_common::{FlowKey, OwnExportKey};

use crate::export::Endpoint;

const UDP: u8 = 17;

/// The keys of export sockets.
pub(super) fn keys(endpoints: &[Endpoint]) -> Vec<OwnExportKey> {
    endpoints.iter().filter_map(|endpoint| key(endpoint.local, endpoint.peer)).collect()
}

fn key(local: SocketAddr, peer: SocketAddr) -> Option<OwnExportKey> {
    let words = |octets: [u8; 16]| {
        let [high, low] = [&octets[..8], &octets[8..]];
        [high, low].map(|half| u64::from_ne_bytes(half.try_into().unwrap_or_default()))
    };
    let mut key = match (local.ip(), peer.ip()) {
        (IpAddr::V4(local), IpAddr::V4(peer)) => FlowKey::ipv4(local.octets(), peer.octets(), UDP, 0),
        (IpAddr::V6(local), IpAddr::V6(peer)) => {
            FlowKey::ipv6(words(local.octets()), words(peer.octets()), UDP, 0)
        }
        _ => return None,
    };
    key.set_ports(local.port(), peer.port());
    Some(OwnExportKey::of(&key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_that_of_the_packet() {
        let mut packet = FlowKey::ipv4([192, 0, 2, 1], [192, 0, 2, 9], UDP, 0xb8);
        packet.set_ports(40000, 2055);
        packet.set_ingress_interface(7);
        let endpoint = Endpoint {
            protocol: UDP,
            local: "192.0.2.1:40000".parse().unwrap(),
            peer: "192.0.2.9:2055".parse().unwrap(),
        };
        assert_eq!(keys(&[endpoint]), [OwnExportKey::of(&packet)]);
    }
}
