// SPDX-License-Identifier: Apache-2.0 OR MIT
//! pcapng (draft-ietf-opsawg-pcapng): sections of blocks.
//!
//! Blocks that describe are read by pcap-parser. Packets, which come by the million, are cut out here,
//! without a list of their options; other blocks are stepped over, however long they claim to be.

use pcap_parser::{
    InterfaceDescriptionBlock, OptionCode, parse_interfacedescriptionblock_be,
    parse_interfacedescriptionblock_le, parse_sectionheaderblock,
};

use super::error::CaptureFault;
use super::input::Input;
use super::link::LinkType;
use super::packet::{MAX_PACKET, Record};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
/// Obsolete, but files that have it exist.
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Octets in every block before its body, and around it.
const BLOCK_HEADER: usize = 8;
const BLOCK_FRAME: usize = 12;
/// Octets before the packet, from the start of the block.
const ENHANCED_HEADER: usize = 28;
const SIMPLE_HEADER: usize = 12;

/// Longest block that is kept in memory: a packet and its options, or a description.
const MAX_BLOCK: usize = MAX_PACKET + 128 * 1024;
/// Interfaces of a section; more than any machine has, few enough to keep.
const MAX_INTERFACES: usize = 65_536;

const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;

/// Whether a file with these first octets is pcapng.
pub(super) fn is_magic(magic: [u8; 4]) -> bool {
    u32::from_be_bytes(magic) == SECTION_HEADER
}

/// The current section.
#[derive(Default)]
pub(super) struct Pcapng {
    big_endian: bool,
    interfaces: Vec<Interface>,
    /// Of the last packet that had one: a simple packet block has no time.
    last_ns: u64,
}

struct Interface {
    link_type: LinkType,
    snap_length: u32,
    resolution: Resolution,
    /// Unix time of time zero.
    offset_s: i64,
}

/// Unit of the time stamps of an interface.
#[derive(Clone, Copy)]
enum Resolution {
    /// Nanoseconds in a unit.
    Multiply(u64),
    /// Units in a nanosecond.
    Divide(u64),
    /// 2^-n seconds.
    Binary(u32),
}

impl Resolution {
    /// Of option `if_tsresol`: a power of ten, or of two when the highest bit is set.
    fn from_option(value: u8) -> Self {
        let exponent = u32::from(value & 0x7f);
        match value & 0x80 {
            0 if exponent <= 9 => Self::Multiply(10u64.pow(9 - exponent)),
            0 => Self::Divide(10u64.checked_pow(exponent - 9).unwrap_or(u64::MAX)),
            _ => Self::Binary(exponent),
        }
    }

    #[inline]
    fn to_ns(self, units: u64) -> u64 {
        match self {
            Self::Multiply(factor) => units.saturating_mul(factor),
            Self::Divide(divisor) => units / divisor,
            Self::Binary(exponent) => {
                u64::try_from((u128::from(units) * 1_000_000_000) >> exponent).unwrap_or(u64::MAX)
            }
        }
    }
}

impl Interface {
    #[inline]
    fn unix_ns(&self, units: u64) -> u64 {
        let offset_ns = self.offset_s.saturating_mul(1_000_000_000);
        self.resolution.to_ns(units).saturating_add_signed(offset_ns)
    }
}

impl Pcapng {
    /// Makes the next packet ready; `None` at the end of the file.
    #[inline]
    pub(super) fn next(&mut self, input: &mut Input) -> Result<Option<Record>, CaptureFault> {
        loop {
            if !input.prepare(BLOCK_HEADER)? {
                let left = input.ready().len() as u64;
                if left == 0 {
                    return Ok(None);
                }
                return Err(CaptureFault::Cut { what: "a block header", needed: BLOCK_HEADER as u64, left });
            }
            let kind = self.word(input.ready(), 0);
            // The byte order of a section is known only behind its length.
            if kind == SECTION_HEADER || kind == SECTION_HEADER.swap_bytes() {
                self.read_section(input)?;
                continue;
            }
            let length = self.word(input.ready(), 4);
            match kind {
                ENHANCED_PACKET | PACKET | SIMPLE_PACKET => {
                    let length = whole_block(input, length)?;
                    return self.cut_packet(&input.ready()[..length], kind).map(Some);
                }
                INTERFACE_DESCRIPTION => self.read_interface(input, length)?,
                _ => skip_block(input, length)?,
            }
        }
    }

    #[inline]
    fn word(&self, octets: &[u8], at: usize) -> u32 {
        let Some(octets) = octets.get(at..).and_then(|rest| rest.first_chunk()) else { return 0 };
        if self.big_endian { u32::from_be_bytes(*octets) } else { u32::from_le_bytes(*octets) }
    }

    fn read_section(&mut self, input: &mut Input) -> Result<(), CaptureFault> {
        if !input.prepare(BLOCK_FRAME)? {
            let left = input.ready().len() as u64;
            return Err(CaptureFault::Cut { what: "a section header", needed: BLOCK_FRAME as u64, left });
        }
        self.big_endian = false;
        let order = self.word(input.ready(), 8);
        self.big_endian = order == BYTE_ORDER_MAGIC.swap_bytes();
        if !self.big_endian && order != BYTE_ORDER_MAGIC {
            return Err(CaptureFault::Block("a section header does not say its byte order"));
        }
        let length = self.word(input.ready(), 4);
        let length = whole_block(input, length)?;
        let Ok((_, section)) = parse_sectionheaderblock(&input.ready()[..length]) else {
            return Err(CaptureFault::Block("a section header cannot be read"));
        };
        if section.major_version != 1 {
            return Err(CaptureFault::Version { format: "pcapng", major: section.major_version });
        }
        self.interfaces.clear();
        input.take(length);
        Ok(())
    }

    fn read_interface(&mut self, input: &mut Input, length: u32) -> Result<(), CaptureFault> {
        let length = whole_block(input, length)?;
        let block = &input.ready()[..length];
        let parsed = if self.big_endian {
            parse_interfacedescriptionblock_be(block)
        } else {
            parse_interfacedescriptionblock_le(block)
        };
        let Ok((_, block)) = parsed else {
            return Err(CaptureFault::Block("an interface description cannot be read"));
        };
        if self.interfaces.len() == MAX_INTERFACES {
            return Err(CaptureFault::Block("a section describes more than 65536 interfaces"));
        }
        let interface = Interface {
            link_type: LinkType(u16::try_from(block.linktype.0).unwrap_or(u16::MAX)),
            snap_length: block.snaplen,
            resolution: Resolution::from_option(
                option(&block, OptionCode::IfTsresol).map_or(6, |[octet]| octet),
            ),
            // pcap-parser reads this as little-endian in a big-endian section too.
            offset_s: option(&block, OptionCode::IfTsoffset).map_or(0, |octets| {
                if self.big_endian { i64::from_be_bytes(octets) } else { i64::from_le_bytes(octets) }
            }),
        };
        self.interfaces.push(interface);
        input.take(length);
        Ok(())
    }

    /// Where in a block the packet is.
    #[inline]
    fn cut_packet(&mut self, block: &[u8], kind: u32) -> Result<Record, CaptureFault> {
        let length = block.len();
        if self.word(block, length - 4) as usize != length {
            return Err(CaptureFault::Block("the two lengths of a block differ"));
        }
        let (header, interface) = match kind {
            ENHANCED_PACKET => (ENHANCED_HEADER, self.word(block, 8)),
            PACKET => {
                let octets = [block.get(8), block.get(9)].map(|octet| octet.copied().unwrap_or(0));
                let id =
                    if self.big_endian { u16::from_be_bytes(octets) } else { u16::from_le_bytes(octets) };
                (ENHANCED_HEADER, u32::from(id))
            }
            _ => (SIMPLE_HEADER, 0),
        };
        let Some(room) = length.checked_sub(header + 4) else {
            return Err(CaptureFault::Length {
                what: "a packet block",
                length: length as u64,
                least: header as u64 + 4,
                most: MAX_BLOCK as u64,
            });
        };
        let Some(described) = self.interfaces.get(interface as usize) else {
            return Err(CaptureFault::Interface { interface, described: self.interfaces.len() });
        };
        let (captured, wire_length) = if kind == SIMPLE_PACKET {
            let wire_length = self.word(block, 8);
            let limit = if described.snap_length == 0 { u32::MAX } else { described.snap_length };
            // The captured length is not written down: the least of what there was, the limit and the room.
            ((wire_length.min(limit) as usize).min(room), wire_length)
        } else {
            self.last_ns =
                described.unix_ns(u64::from(self.word(block, 12)) << 32 | u64::from(self.word(block, 16)));
            (self.word(block, 20) as usize, self.word(block, 24))
        };
        if captured > room.min(MAX_PACKET) {
            return Err(CaptureFault::Length {
                what: "a packet",
                length: captured as u64,
                least: 0,
                most: room.min(MAX_PACKET) as u64,
            });
        }
        let (timestamp_ns, link_type) = (self.last_ns, described.link_type);
        Ok(Record {
            timestamp_ns,
            wire_length,
            link_type,
            interface,
            length,
            data: header..header + captured,
        })
    }
}

/// Makes a block of `length` octets ready.
#[inline]
fn whole_block(input: &mut Input, length: u32) -> Result<usize, CaptureFault> {
    let length = length as usize;
    if !(BLOCK_FRAME..=MAX_BLOCK).contains(&length) {
        return Err(CaptureFault::Length {
            what: "a block",
            length: length as u64,
            least: BLOCK_FRAME as u64,
            most: MAX_BLOCK as u64,
        });
    }
    if !input.prepare(length)? {
        let left = input.ready().len() as u64;
        return Err(CaptureFault::Cut { what: "a block", needed: length as u64, left });
    }
    Ok(length)
}

fn skip_block(input: &mut Input, length: u32) -> Result<(), CaptureFault> {
    let needed = u64::from(length);
    if needed < BLOCK_FRAME as u64 {
        let (least, most) = (BLOCK_FRAME as u64, u64::from(u32::MAX));
        return Err(CaptureFault::Length { what: "a block", length: needed, least, most });
    }
    let left = input.skip(needed)?;
    if left < needed { Err(CaptureFault::Cut { what: "a block", needed, left }) } else { Ok(()) }
}

/// The value of an option that has exactly `N` octets.
fn option<const N: usize>(block: &InterfaceDescriptionBlock<'_>, code: OptionCode) -> Option<[u8; N]> {
    let option = block.options.iter().find(|option| option.code == code)?;
    option.as_bytes().ok()?.try_into().ok()
}
