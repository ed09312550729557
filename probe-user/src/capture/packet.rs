// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One packet of a capture file.

use std::ops::Range;

use super::link::LinkType;

/// Longest packet that is read. BIG TCP makes packets of half a megabyte; a damaged file claims gigabytes.
pub const MAX_PACKET: usize = 4 * 1024 * 1024;

/// One packet as the file has it.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Unix time. A simple packet block of pcapng has no time; it gets that of the packet before it.
    pub timestamp_ns: u64,
    /// What was captured.
    pub data: &'a [u8],
    /// How long the packet was on the wire, as the file claims.
    pub wire_length: u32,
    /// How the packet begins.
    pub link_type: LinkType,
    /// Number of the interface within the section of a pcapng file; 0 in pcap.
    pub interface: u32,
}

/// A packet that is ready in the input, and where.
pub(super) struct Record {
    pub(super) timestamp_ns: u64,
    pub(super) wire_length: u32,
    pub(super) link_type: LinkType,
    pub(super) interface: u32,
    /// Octets to take from the input.
    pub(super) length: usize,
    /// Those of the packet among them.
    pub(super) data: Range<usize>,
}
