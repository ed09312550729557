// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the kernel has written into a block (include/uapi/linux/if_packet.h).
//!
//! ```text
//! tpacket_block_desc   how many frames, and where the first begins
//! for each frame:
//!   tpacket3_hdr       lengths, time, VLAN tag, where the octets begin and where the next header is
//!   sockaddr_ll        whether it came in or went out
//!   …                  virtio_net_hdr, right before the octets: gso_size
//!   octets             from the Ethernet header
//! ```
//!
//! Every offset is checked: one that lies outside the block ends the reading with an error, never with a panic.

use std::mem::offset_of;

use libc::{sockaddr_ll, tpacket_block_desc, tpacket_hdr_v1, tpacket3_hdr};

/// `bh1`, the only variant of the union.
const BLOCK: usize = offset_of!(tpacket_block_desc, hdr);
/// Where the word lies that says whose the block is.
pub(super) const STATUS: usize = BLOCK + offset_of!(tpacket_hdr_v1, block_status);
const NUMBER: usize = BLOCK + offset_of!(tpacket_hdr_v1, num_pkts);
const FIRST: usize = BLOCK + offset_of!(tpacket_hdr_v1, offset_to_first_pkt);

/// A `sockaddr_ll` follows the header, aligned to 16 (TPACKET_ALIGN).
const ADDRESS: usize = size_of::<tpacket3_hdr>().next_multiple_of(libc::TPACKET_ALIGNMENT);
const HEADER: usize = ADDRESS + size_of::<sockaddr_ll>();
const _: () = assert!(HEADER == libc::TPACKET3_HDRLEN);

/// `struct virtio_net_hdr` (include/uapi/linux/virtio_net.h): flags, gso_type, hdr_len, gso_size, csum_start,
/// csum_offset; in the byte order of the host.
const VIRTIO_HEADER: usize = 10;
const GSO_SIZE: usize = 4;

/// A block that is ours at present.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block<'a>(&'a [u8]);

/// A place in a block that holds a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// Where its header begins.
    pub(super) offset: usize,
    /// Frames from here on, this one included.
    pub(super) left: u32,
}

/// A frame, and where the next one is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    /// None: the kernel took the place, then could not fill it and counted the packet as dropped.
    pub(super) frame: Option<BlockFrame<'a>>,
    /// None: it was the last.
    pub(super) next: Option<Place>,
}

/// A frame as it lies in a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BlockFrame<'a> {
    /// As many of its octets as were copied.
    pub(super) octets: &'a [u8],
    /// Octets that it had in the kernel.
    pub(super) length: u32,
    /// Tag control word of the tag that the kernel keeps beside the packet.
    pub(super) stripped_tag: Option<u16>,
    /// `gso_size`; 0: it is one packet.
    pub(super) segment_octets: u16,
    /// Whether it went out.
    pub(super) outgoing: bool,
    /// Unix time in nanoseconds.
    pub(super) unix_ns: u64,
    /// Whether that is of the NIC.
    pub(super) hardware_time: bool,
}

/// An offset of the kernel's lies outside the block.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error, Debug)]
#[error("the kernel wrote an offset that lies outside its block")]
pub(super) struct Outside;

impl<'a> Block<'a> {
    pub(super) fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }

    /// Frames in it.
    pub(super) fn frames(&self) -> Result<u32, Outside> {
        Ok(word(self.chunk(NUMBER)?))
    }

    /// Where the first one is, if there is one.
    pub(super) fn first(&self) -> Result<Option<Place>, Outside> {
        let left = self.frames()?;
        let offset = size(word(self.chunk(FIRST)?));
        Ok((left > 0).then_some(Place { offset, left }))
    }

    /// What lies at a place.
    #[inline]
    pub(super) fn at(&self, place: Place) -> Result<Entry<'a>, Outside> {
        let header: &[u8; HEADER] = self.chunk(place.offset)?;
        let step = size(field32(header, offset_of!(tpacket3_hdr, tp_next_offset)));
        let next = match place.left {
            0 | 1 => None,
            // A place never lies before the one before it: then reading would not end.
            _ if step < HEADER => return Err(Outside),
            left => Some(Place { offset: place.offset.checked_add(step).ok_or(Outside)?, left: left - 1 }),
        };
        let status = field32(header, offset_of!(tpacket3_hdr, tp_status));
        if status & libc::TP_STATUS_USER == 0 {
            // `tpacket_rcv` takes the place before it writes the virtio_net_hdr, which fails for kinds of GSO that
            // that has no name for (SCTP; UDP before Linux 6.2). All else in the place is of an earlier frame.
            return Ok(Entry { frame: None, next });
        }
        let start = usize::from(field16(header, offset_of!(tpacket3_hdr, tp_mac)));
        if start < HEADER + VIRTIO_HEADER {
            return Err(Outside);
        }
        let start = place.offset + start;
        let copied = size(field32(header, offset_of!(tpacket3_hdr, tp_snaplen)));
        let octets = self.0.get(start..).and_then(|rest| rest.get(..copied)).ok_or(Outside)?;
        let virtio: &[u8; VIRTIO_HEADER] = self.chunk(start - VIRTIO_HEADER)?;
        let seconds = u64::from(field32(header, offset_of!(tpacket3_hdr, tp_sec)));
        let nanoseconds = u64::from(field32(header, offset_of!(tpacket3_hdr, tp_nsec)));
        let frame = BlockFrame {
            octets,
            length: field32(header, offset_of!(tpacket3_hdr, tp_len)),
            stripped_tag: (status & libc::TP_STATUS_VLAN_VALID != 0).then(|| {
                // 32 bits wide for the sake of alignment; the tag has 16.
                let tag = field32(header, offset_of!(tpacket3_hdr, hv1) + TAG);
                u16::try_from(tag & 0xffff).unwrap_or(0)
            }),
            segment_octets: field16(virtio, GSO_SIZE),
            outgoing: header[ADDRESS + offset_of!(sockaddr_ll, sll_pkttype)] == libc::PACKET_OUTGOING,
            unix_ns: seconds * 1_000_000_000 + nanoseconds,
            hardware_time: status & libc::TP_STATUS_TS_RAW_HARDWARE != 0,
        };
        Ok(Entry { frame: Some(frame), next })
    }

    /// Asks the CPU for the headers at a place before they are needed.
    #[inline]
    pub(super) fn prefetch(&self, place: Place) {
        crate::prefetch::prefetch(self.0, place.offset);
        crate::prefetch::prefetch(self.0, place.offset + 64);
        crate::prefetch::prefetch(self.0, place.offset + 128);
    }

    #[inline]
    fn chunk<const N: usize>(&self, offset: usize) -> Result<&'a [u8; N], Outside> {
        self.0.get(offset..).and_then(|rest| rest.first_chunk()).ok_or(Outside)
    }
}

const TAG: usize = offset_of!(libc::tpacket_hdr_variant1, tp_vlan_tci);

#[inline]
fn field32<const N: usize>(header: &[u8; N], offset: usize) -> u32 {
    header[offset..].first_chunk().map_or(0, |octets| u32::from_ne_bytes(*octets))
}

#[inline]
fn field16<const N: usize>(header: &[u8; N], offset: usize) -> u16 {
    header[offset..].first_chunk().map_or(0, |octets| u16::from_ne_bytes(*octets))
}

#[inline]
fn word(octets: &[u8; 4]) -> u32 {
    u32::from_ne_bytes(*octets)
}

#[inline]
fn size(octets: u32) -> usize {
    usize::try_from(octets).unwrap_or(usize::MAX)
}

#[cfg(test)]
#[path = "block_tests.rs"]
mod tests;
