// SPDX-License-Identifier: Apache-2.0 OR MIT
//! pcap (draft-ietf-opsawg-pcap): a header, then records.

use pcap_parser::parse_pcap_header;

use super::error::CaptureFault;
use super::input::Input;
use super::link::LinkType;
use super::packet::{MAX_PACKET, Record};

const FILE_HEADER: usize = 24;

/// The link type is 16 bits; the others say how long a frame check sequence is.
const LINK_TYPE_MASK: i32 = 0xffff;

const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;
/// Alexey Kuznetzov's libpcap of 1999: record headers have 8 octets more.
const MODIFIED: u32 = 0xa1b2_cd34;

/// What the header says about the records.
pub(super) struct Pcap {
    big_endian: bool,
    /// Nanoseconds in a unit of the fraction.
    unit_ns: u64,
    record_header: usize,
    link_type: LinkType,
}

/// Whether a file with these first octets is pcap.
pub(super) fn is_magic(magic: [u8; 4]) -> bool {
    [u32::from_le_bytes(magic), u32::from_be_bytes(magic)]
        .iter()
        .any(|magic| matches!(*magic, MICROSECONDS | NANOSECONDS | MODIFIED))
}

impl Pcap {
    /// Reads the file header.
    pub(super) fn open(input: &mut Input) -> Result<Self, CaptureFault> {
        if !input.prepare(FILE_HEADER)? {
            let left = input.ready().len() as u64;
            return Err(CaptureFault::Cut { what: "the file header", needed: FILE_HEADER as u64, left });
        }
        // pcap-parser does not know the modified format in the other byte order, whose header is alike.
        let mut header = [0; FILE_HEADER];
        header.copy_from_slice(&input.ready()[..FILE_HEADER]);
        let (little, big) = (header.first_chunk().copied(), header.first_chunk().copied());
        let (little, big) = (little.map(u32::from_le_bytes), big.map(u32::from_be_bytes));
        let modified = little == Some(MODIFIED) || big == Some(MODIFIED);
        if big == Some(MODIFIED) {
            header[..4].copy_from_slice(&MICROSECONDS.to_be_bytes());
        }
        let Ok((_, header)) = parse_pcap_header(&header) else {
            return Err(CaptureFault::Block("the file header cannot be read"));
        };
        if header.version_major != 2 {
            return Err(CaptureFault::Version { format: "pcap", major: header.version_major });
        }
        input.take(FILE_HEADER);
        let link_type = u16::try_from(header.network.0 & LINK_TYPE_MASK).unwrap_or(u16::MAX);
        Ok(Self {
            big_endian: header.is_bigendian(),
            unit_ns: if header.is_nanosecond_precision() { 1 } else { 1000 },
            record_header: if modified { 24 } else { 16 },
            link_type: LinkType(link_type),
        })
    }

    /// Makes the next packet ready; `None` at the end of the file.
    #[inline]
    pub(super) fn next(&mut self, input: &mut Input) -> Result<Option<Record>, CaptureFault> {
        if !input.prepare(self.record_header)? {
            let left = input.ready().len() as u64;
            if left == 0 {
                return Ok(None);
            }
            return Err(CaptureFault::Cut {
                what: "a record header",
                needed: self.record_header as u64,
                left,
            });
        }
        let Some(fields) = input.ready().first_chunk::<16>() else {
            return Err(CaptureFault::Block("a record header cannot be read"));
        };
        let word = |at: usize| {
            let octets = [fields[at], fields[at + 1], fields[at + 2], fields[at + 3]];
            if self.big_endian { u32::from_be_bytes(octets) } else { u32::from_le_bytes(octets) }
        };
        let timestamp_ns = u64::from(word(0)) * 1_000_000_000 + u64::from(word(4)) * self.unit_ns;
        let (captured, wire_length) = (word(8) as usize, word(12));
        if captured > MAX_PACKET {
            return Err(CaptureFault::Length {
                what: "a packet",
                length: captured as u64,
                least: 0,
                most: MAX_PACKET as u64,
            });
        }
        let length = self.record_header + captured;
        if !input.prepare(length)? {
            let left = (input.ready().len() - self.record_header) as u64;
            return Err(CaptureFault::Cut { what: "a packet", needed: captured as u64, left });
        }
        let data = self.record_header..length;
        Ok(Some(Record { timestamp_ns, wire_length, link_type: self.link_type, interface: 0, length, data }))
    }
}
