// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a packet says of being a fragment.

/// Place of a fragment in its datagram (RFC 791 section 3.1, RFC 8200 section 4.5); all zero for a whole
/// datagram.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Fragment {
    /// Identification: 16 bits for IPv4, 32 for IPv6. 0 where the packet is no fragment.
    pub identification: u32,
    /// Offset in the datagram, in units of 8 octets.
    pub offset: u16,
    /// Whether more fragments follow.
    pub more: bool,
}

impl Fragment {
    /// No fragment.
    pub const NONE: Self = Self { identification: 0, offset: 0, more: false };

    /// A fragment, or none if nothing of the datagram lies before or behind.
    #[inline(always)]
    #[must_use]
    pub fn new(identification: u32, offset: u16, more: bool) -> Self {
        if offset == 0 && !more { Self::NONE } else { Self { identification, offset, more } }
    }

    /// Whether it is part of a datagram, and not the whole.
    #[inline(always)]
    #[must_use]
    pub fn is_part(&self) -> bool {
        self.offset != 0 || self.more
    }

    /// Whether it is the first of several: the one with the ports.
    #[inline(always)]
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.offset == 0 && self.more
    }
}
