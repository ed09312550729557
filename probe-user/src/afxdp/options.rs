// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What an AF_XDP socket is to be like.

use std::time::Duration;

/// Whether the NIC writes packets into the socket's memory itself.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum ZeroCopy {
    /// Where the driver can; else the kernel copies.
    #[default]
    Auto,
    /// The kernel copies.
    Off,
    /// Or there is no socket.
    Required,
}

/// The worker drives the driver, in place of interrupts. It pays only with `napi_defer_hard_irqs` and
/// `gro_flush_timeout` of the interface set (Documentation/networking/napi.rst).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BusyPoll {
    /// How long a call may look for packets (`SO_BUSY_POLL`; in microseconds).
    pub duration: Duration,
    /// Packets of one call at most (`SO_BUSY_POLL_BUDGET`).
    pub budget: u16,
}

/// What a socket is to be like. [`AfXdpOptions::new`] gives values that suit most links.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AfXdpOptions {
    /// Name of the interface, in the network namespace of the thread that opens the socket.
    pub interface: String,
    /// Its ifIndex.
    pub index: u32,
    /// Its receive queue.
    pub queue: u32,
    /// Frames of memory: as many packets (or buffers of large ones) as can wait. Shared by the fill ring, the kernel,
    /// and the receive ring.
    pub frames: u32,
    /// Octets of a frame: 2048 or 4096. The kernel keeps [`HEADROOM`] of them; what is left holds a packet, or a part
    /// of it with `multi_buffer`.
    pub frame_octets: u32,
    /// Places in the receive ring, a power of two. As many as frames: then packets are only lost for want of frames.
    pub ring: u32,
    /// Who moves the packets.
    pub zero_copy: ZeroCopy,
    /// Drive the driver from the worker.
    pub busy_poll: Option<BusyPoll>,
    /// Take packets that need several frames (`XDP_USE_SG`, Linux 6.6 and later). Without it they are dropped and
    /// counted.
    pub multi_buffer: bool,
    /// Put the memory on huge pages, where the host has reserved some.
    pub huge_pages: bool,
}

/// Octets of each frame that are the kernel's (`XDP_PACKET_HEADROOM`).
pub const HEADROOM: u32 = 256;

/// Frames of a socket for few packets.
const FEW: u32 = 2048;

/// Places in the two rings for sending, which is never done: libxdp wants them.
pub(super) const SENDING_PLACES: u32 = 64;

/// Octets of a place in the fill and completion rings, in the receive and transmit rings, and of what the kernel
/// keeps for a frame (`struct xdp_buff_xsk`, about).
const FILL_PLACE: u64 = 8;
const RECEIVE_PLACE: u64 = 16;
const KERNEL_HEAD: u64 = 128;

impl AfXdpOptions {
    /// 8 MiB of memory: 4096 frames, which a packet of an MTU up to 1500 fits into.
    #[must_use]
    pub fn new(interface: &str, index: u32, queue: u32) -> Self {
        Self {
            interface: interface.to_owned(),
            index,
            queue,
            frames: 4096,
            frame_octets: 2048,
            ring: 4096,
            zero_copy: ZeroCopy::Auto,
            busy_poll: None,
            multi_buffer: false,
            huge_pages: true,
        }
    }

    /// The same for few packets: what XDP cannot meter by itself.
    #[must_use]
    pub fn for_few(interface: &str, index: u32, queue: u32) -> Self {
        Self { frames: FEW, ring: FEW, ..Self::new(interface, index, queue) }
    }

    /// Octets of memory that a socket like this takes, the kernel's included.
    #[must_use]
    pub fn memory_octets(&self) -> u64 {
        self.umem_octets()
            + u64::from(self.frames) * KERNEL_HEAD
            + u64::from(self.fill_places()) * FILL_PLACE
            + u64::from(self.ring) * RECEIVE_PLACE
            + u64::from(SENDING_PLACES) * (FILL_PLACE + RECEIVE_PLACE)
    }

    /// Octets of all frames together.
    pub(super) fn umem_octets(&self) -> u64 {
        u64::from(self.frames) * u64::from(self.frame_octets)
    }

    /// Places in the fill ring: one for every frame, so that a frame that was read can always go back.
    pub(super) fn fill_places(&self) -> u32 {
        self.frames.checked_next_power_of_two().unwrap_or(1 << 31)
    }

    /// What is wrong with these values, if anything.
    pub(super) fn fault(&self) -> Option<&'static str> {
        if self.frames == 0 || self.frames > MAX_PLACES {
            Some("the number of frames must be between 1 and 1048576")
        } else if ![2048, 4096].contains(&self.frame_octets) {
            Some("a frame must have 2048 or 4096 octets")
        } else if !self.ring.is_power_of_two() || self.ring > MAX_PLACES {
            Some("the receive ring must have a power of two of places, at most 1048576")
        } else {
            None
        }
    }
}

/// More frames or places than any use of them: keeps sizes far from where arithmetic would wrap.
const MAX_PLACES: u32 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_to_begin_with_are_valid_and_their_memory_is_known() {
        let options = AfXdpOptions::new("eth1", 7, 0);
        assert_eq!(options.fault(), None);
        assert_eq!(options.umem_octets(), 8 << 20);
        let rings = 4096 * 8 + 4096 * 16 + 64 * 24;
        assert_eq!(options.memory_octets(), (8 << 20) + 4096 * 128 + rings);
    }

    #[test]
    fn values_that_cannot_be_are_named() {
        let good = AfXdpOptions::new("eth1", 7, 0);
        for (options, word) in [
            (AfXdpOptions { frames: 0, ..good.clone() }, "frames"),
            (AfXdpOptions { frames: u32::MAX, ..good.clone() }, "frames"),
            (AfXdpOptions { frame_octets: 1024, ..good.clone() }, "octets"),
            (AfXdpOptions { ring: 1000, ..good.clone() }, "power of two"),
            (AfXdpOptions { ring: 1 << 31, ..good }, "power of two"),
        ] {
            assert!(options.fault().unwrap().contains(word), "{options:?}");
        }
    }

    #[test]
    fn the_fill_ring_has_a_place_for_every_frame() {
        for frames in [1, 64, 100, 4096, 5000] {
            let options = AfXdpOptions { frames, ..AfXdpOptions::new("eth1", 7, 0) };
            assert!(options.fill_places() >= frames);
            assert!(options.fill_places().is_power_of_two());
        }
    }
}
