// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What makes fragments belong together, and what the first of them tells the others.

use probe_common::{FlowKey, IpVersion, KEY_BASE_MASK, parse::ParsedPacket};

/// Protocol and type of service in word 5 of a flow key.
const PROTOCOL: u64 = 0xff << 32;
const TOS: u64 = 0xff << 40;
/// IP version, and nothing else of the base mask.
const VERSION: u64 = KEY_BASE_MASK & !(PROTOCOL | TOS);

/// The datagram that a fragment is part of: a flow key that has the identification in place of the ports.
///
/// Source, destination, identification, and for IPv4 the protocol (RFC 791 section 3.2); not for IPv6, where only the
/// next header of the first fragment counts and others may have another (RFC 8200 section 4.5). Interface and
/// direction, since the same datagram may cross several. VLANs where they make flows differ. The type of service is no
/// part: routers change it on the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Datagram(FlowKey);

impl Datagram {
    /// That of a fragment. `key_mask`: which bits of key word 5 make flows differ.
    pub(super) fn of(packet: &ParsedPacket, key_mask: u64) -> Self {
        let mut words = *packet.key.words();
        words[4] = words[4] & 0xffff_ffff | u64::from(packet.fragment.identification) << 32;
        let protocol = match packet.key.ip_version() {
            IpVersion::V4 => PROTOCOL,
            IpVersion::V6 => 0,
        };
        words[5] &= key_mask & !(PROTOCOL | TOS) | VERSION | protocol;
        Self(FlowKey::from_words(words))
    }

    /// As a key, to be hashed with a mask of all bits.
    pub(super) fn key(&self) -> &FlowKey {
        &self.0
    }
}

/// What the first fragment tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct First {
    source_port: u16,
    destination_port: u16,
    protocol: u8,
}

impl First {
    pub(super) fn of(key: &FlowKey) -> Self {
        Self {
            source_port: key.source_port(),
            destination_port: key.destination_port(),
            protocol: key.protocol(),
        }
    }

    /// Makes the key of a later fragment that of its first.
    pub(super) fn tell(self, key: &mut FlowKey) {
        key.set_ports(self.source_port, self.destination_port);
        key.set_protocol(self.protocol);
    }
}
