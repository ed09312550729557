// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where the parser gets its octets from.

use super::{MAX_EXTENSION_HEADERS, MAX_VLAN_TAGS};

/// The octets of one frame. In the kernel an implementation checks against `data_end`, in user space
/// against the length of a slice.
pub trait PacketBytes {
    /// VLAN tags the parser follows (802.1ad: a service tag and a customer tag).
    const VLAN_TAGS: usize = MAX_VLAN_TAGS;
    /// IPv6 extension headers the parser follows.
    const EXTENSION_HEADERS: usize = MAX_EXTENSION_HEADERS;

    /// `N` octets from `offset`, or `None` when they are not all there.
    fn header<const N: usize>(&self, offset: usize) -> Option<&[u8; N]>;

    /// `offset`, behind a header whose length the packet has told.
    ///
    /// A place where the kernel program can make its verifier forget by which of many ways it came there; in user
    /// space nothing is done.
    #[inline(always)]
    fn settled(&self, offset: usize) -> usize {
        offset
    }

    /// Length of the frame on the wire; larger than what can be read when a capture was cut.
    fn wire_length(&self) -> usize;
}

/// A frame in memory.
#[derive(Clone, Copy, Debug)]
pub struct SliceBytes<'a> {
    octets: &'a [u8],
    wire_length: usize,
}

impl<'a> SliceBytes<'a> {
    /// A whole frame.
    #[must_use]
    pub fn new(octets: &'a [u8]) -> Self {
        Self { octets, wire_length: octets.len() }
    }

    /// A frame of which the capture kept only `octets`.
    #[must_use]
    pub fn cut(octets: &'a [u8], wire_length: usize) -> Self {
        Self { octets, wire_length: wire_length.max(octets.len()) }
    }
}

impl PacketBytes for SliceBytes<'_> {
    #[inline(always)]
    fn header<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        self.octets.get(offset..)?.first_chunk()
    }

    #[inline(always)]
    fn wire_length(&self) -> usize {
        self.wire_length
    }
}

/// A frame in memory, read deeper than the kernel program can: what is steered to user space, and captures.
#[derive(Clone, Copy, Debug)]
pub struct DeepBytes<'a>(pub SliceBytes<'a>);

impl PacketBytes for DeepBytes<'_> {
    const VLAN_TAGS: usize = 8;
    const EXTENSION_HEADERS: usize = 64;

    #[inline(always)]
    fn header<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        self.0.header(offset)
    }

    #[inline(always)]
    fn wire_length(&self) -> usize {
        self.0.wire_length()
    }
}
