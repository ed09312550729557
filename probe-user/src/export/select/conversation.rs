// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One hash for both directions of a conversation.

use probe_common::{FlowKey, HashSeed, KEY_BASE_MASK, KEY_CUSTOMER_VLAN_MASK, KEY_VLAN_MASK};

/// Bits of key word 5 that hold the type of service: answers may carry another one.
const TOS: u64 = 0xff << 40;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// Bits of key word 5 that both directions share.
pub(in crate::export) const SHARED_MASK: u64 = KEY_BASE_MASK & !TOS | KEY_VLAN_MASK | KEY_CUSTOMER_VLAN_MASK;

/// A keyed hash of the ends of a flow and its protocol that does not depend on the direction, nor on type
/// of service, interface and VLANs: of a link that is tapped in both directions, each direction may come
/// in by a port of its own. ICMP counts with its addresses alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConversationHash(HashSeed);

impl ConversationHash {
    /// The seed must be drawn for this use alone: with that of the flow table, what is chosen by one would
    /// depend on the other.
    #[must_use]
    pub fn new(seed: HashSeed) -> Self {
        Self(seed)
    }

    /// The hash; all 64 bits are good.
    #[inline]
    #[must_use]
    pub fn hash(&self, key: &FlowKey) -> u64 {
        let [s0, s1, d0, d1, ports, rest] = *key.words();
        let is_icmp = matches!(key.protocol(), ICMP | ICMPV6);
        // Interface and direction through it away; destination port above source port.
        let ports = if is_icmp { 0 } else { ports >> 32 << 32 };
        let swapped = ports >> 48 << 32 | ports << 16 >> 48 << 48;
        let there = [s0, s1, d0, d1, ports, rest];
        let back = [d0, d1, s0, s1, swapped, rest];
        let canonical = FlowKey::from_words(if there <= back { there } else { back });
        mix(self.0.hash(&canonical, KEY_BASE_MASK & !TOS))
    }
}

/// Spreads a number over all 64 bits: the finaliser of SplitMix64 (Steele and others, OOPSLA 2014).
#[inline]
#[must_use]
pub(super) fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

#[cfg(test)]
mod tests {
    use probe_common::Direction;

    use super::*;

    fn key(source: [u8; 4], source_port: u16, destination: [u8; 4], destination_port: u16) -> FlowKey {
        let mut key = FlowKey::ipv4(source, destination, 6, 0);
        key.set_ports(source_port, destination_port);
        key
    }

    #[test]
    fn both_directions_hash_alike_and_others_do_not() {
        let hash = ConversationHash::new(HashSeed::from_random([9; 56]));
        let there = key([10, 0, 0, 1], 40_000, [10, 0, 0, 2], 443);
        let mut back = key([10, 0, 0, 2], 443, [10, 0, 0, 1], 40_000);
        assert_eq!(hash.hash(&there), hash.hash(&back));
        back.set_interface(4, Direction::Egress);
        back.set_vlans(7, 8);
        assert_eq!(hash.hash(&there), hash.hash(&back), "interface and VLANs do not count");
        // The same addresses with the ports crossed are another conversation.
        let crossed = key([10, 0, 0, 1], 443, [10, 0, 0, 2], 40_000);
        assert_ne!(hash.hash(&there), hash.hash(&crossed));
        let mut udp = there;
        udp.set_protocol(17);
        assert_ne!(hash.hash(&there), hash.hash(&udp));
        let mut request = FlowKey::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 1, 0);
        request.set_ports(0, 8 << 8);
        let reply = FlowKey::ipv4([10, 0, 0, 2], [10, 0, 0, 1], 1, 64);
        assert_eq!(hash.hash(&request), hash.hash(&reply));
    }

    #[test]
    fn hosts_that_differ_in_one_bit_spread_evenly() {
        let hash = ConversationHash::new(HashSeed::from_random(std::array::from_fn(|i| [17, 90, 3][i % 3])));
        let mut buckets = [0u32; 64];
        for n in 0..64_000u32 {
            let [_, b, c, d] = n.to_be_bytes();
            let place = hash.hash(&key([10, b, c, d], 5000, [192, 0, 2, 1], 80)) >> 58;
            buckets[usize::try_from(place).unwrap()] += 1;
        }
        // 1000 each; six standard deviations of 31 around it.
        assert!(buckets.iter().all(|count| (810..1190).contains(count)), "{buckets:?}");
    }
}
