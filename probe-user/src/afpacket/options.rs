// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is wanted of an interface.

use std::time::Duration;

/// Which packets of the interface.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Ways {
    /// Those that come in.
    #[default]
    Ingress,
    /// Those that go out.
    Egress,
    /// Both.
    Both,
}

/// By what packets are shared between the sockets of an interface.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Spread {
    /// By the CPU that serves them: no two CPUs write the same ring. For NICs with several queues.
    #[default]
    Cpu,
    /// By a hash of the flow, the same for both directions and for all fragments of a packet. For interfaces whose
    /// packets all come on one CPU.
    Flow,
}

/// Size of a receive ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RingSize {
    /// Blocks. While one is read, the kernel fills others.
    pub blocks: u32,
    /// Octets of a block: a power of two, at least 64 KiB, so that every frame fits whose headers are copied.
    pub block_octets: u32,
    /// How old a block may become before it is handed over though it is not full.
    pub block_timeout: Duration,
}

impl RingSize {
    /// Octets of the whole ring.
    #[must_use]
    pub fn octets(&self) -> u64 {
        u64::from(self.blocks) * u64::from(self.block_octets)
    }
}

impl Default for RingSize {
    /// 16 MiB, enough for about 40 thousand packets.
    fn default() -> Self {
        Self { blocks: 64, block_octets: 256 << 10, block_timeout: Duration::from_millis(8) }
    }
}

/// What is wanted of an interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PacketOptions {
    /// ifIndex.
    pub interface: u32,
    /// Its name, for messages.
    pub name: String,
    /// Which packets.
    pub ways: Ways,
    /// Whether packets are wanted that are for other hosts (tap role). The interface is promiscuous as long as a
    /// source is there.
    pub promiscuous: bool,
    /// Sockets, each for one worker.
    pub sockets: u32,
    /// How they share the packets.
    pub spread: Spread,
    /// The ring of each.
    pub ring: RingSize,
    /// Whether time stamps of the NIC are taken where somebody has switched them on, and they are Unix time.
    pub hardware_time: bool,
}

impl PacketOptions {
    /// One socket for what comes in on this interface.
    #[must_use]
    pub fn new(interface: u32, name: impl Into<String>) -> Self {
        Self {
            interface,
            name: name.into(),
            ways: Ways::default(),
            promiscuous: false,
            sockets: 1,
            spread: Spread::default(),
            ring: RingSize::default(),
            hardware_time: true,
        }
    }
}
