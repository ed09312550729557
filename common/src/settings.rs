// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the loader writes into the program's read-only data before it is verified.

use crate::{ABI_VERSION, HashSeed, KEY_BASE_MASK, PacketSampling};

/// Constants of one run. The verifier knows their values, so branches on them cost nothing.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelSettings {
    /// [`ABI_VERSION`] of the side that wrote this.
    pub abi_version: u32,
    /// CPUs that have a cache and a ring.
    pub cpus: u32,
    /// log2 of the number of sets in one half of one CPU's cache.
    pub set_bits: u32,
    /// Records in one spill ring, minus 1; the number is a power of two.
    pub ring_mask: u32,
    /// 1: publish the spill ring's head with a BPF atomic (needed where stores may pass each other);
    /// 0: with a plain store.
    pub publish_by_atomic: u32,
    /// 64 minus `set_bits`: how far the hash is shifted to give the set.
    pub set_shift: u32,
    /// Which bits of key word 5 count.
    pub key_mask: u64,
    /// Seed of the hash.
    pub seed: HashSeed,
    /// Which packets are looked at.
    pub sampling: PacketSampling,
    /// log2 of the number of ranges into which the sets of every cache are divided. Each range has a spill ring
    /// on each CPU.
    pub range_bits: u32,
    /// Which packets go to AF_XDP sockets: [`Self::STEER_NONE`], [`Self::STEER_DEEP`] or [`Self::STEER_ALL`].
    pub steer: u32,
    /// 1: of packets that go out, those that came in on a metered interface are [`crate::Outcome::AlreadyMetered`].
    pub once: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<KernelSettings>() == 120);

impl KernelSettings {
    /// No packet is steered.
    pub const STEER_NONE: u32 = 0;
    /// Fragments, and packets with more headers than the kernel program follows.
    pub const STEER_DEEP: u32 = 1;
    /// Every packet, but those of queues without a socket.
    pub const STEER_ALL: u32 = 2;

    /// What the object holds until the loader writes the real ones.
    pub const UNSET: Self = Self::new(0, 1, 0, HashSeed::new([0; 2 * crate::flow_key::KEY_WORDS], 1));

    /// Settings with the ABI version of this build.
    #[must_use]
    pub const fn new(cpus: u32, set_bits: u32, ring_mask: u32, seed: HashSeed) -> Self {
        Self {
            abi_version: ABI_VERSION,
            cpus,
            set_bits,
            ring_mask,
            publish_by_atomic: !cfg!(target_arch = "x86_64") as u32,
            set_shift: 64 - set_bits,
            key_mask: KEY_BASE_MASK,
            seed,
            sampling: PacketSampling::OFF,
            range_bits: 0,
            steer: Self::STEER_NONE,
            once: 0,
            reserved: 0,
        }
    }
}

/// What the kernel knows of a metered interface: value of the map `INTERFACES`, whose key is the ifIndex.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct InterfaceEntry {
    /// Where its AF_XDP sockets begin in the map `XSKS`: that of receive queue 0.
    pub first_socket: u32,
    /// Places for sockets, one for each receive queue; 0 where none are wanted.
    pub sockets: u32,
    /// 1: what comes in on it is metered.
    pub ingress: u32,
    /// 1: what goes out on it is metered.
    pub egress: u32,
}

/// A message of the probe itself on its way: addresses as in a [`crate::FlowKey`] and ports in its word 4.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OwnExportKey {
    /// Address words 0-3 of the flow key.
    pub addresses: [u64; 4],
    /// Source port in bits 0-15, destination port in bits 16-31.
    pub ports: u32,
    /// IP protocol: 6, 17 or 132. A whole word, because the map compares octets and padding is none.
    pub protocol: u32,
}

impl OwnExportKey {
    /// The part of a flow key that identifies an export stream.
    #[inline(always)]
    #[must_use]
    pub fn of(key: &crate::FlowKey) -> Self {
        let words = key.words();
        Self {
            addresses: [words[0], words[1], words[2], words[3]],
            ports: (words[4] >> 32) as u32,
            protocol: key.protocol() as u32,
        }
    }
}
