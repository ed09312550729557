// SPDX-License-Identifier: Apache-2.0 OR MIT
//! IPv6 and its extension headers (RFC 8200 sections 3 and 4).

use super::{Fragment, PacketBytes, ParsedPacket, transport};
use crate::{Detail, FlowKey, Note, Outcome};

/// Extension headers the kernel program follows. RFC 8200 section 4.1 recommends an order of at most seven.
pub const MAX_EXTENSION_HEADERS: usize = 8;

const HEADER: usize = 40;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const NO_NEXT_HEADER: u8 = 59;
const DESTINATION: u8 = 60;
const SHIM6: u8 = 140;

#[inline(always)]
fn is_extension(header: u8) -> bool {
    matches!(header, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION | SHIM6)
}

#[inline(always)]
fn word(header: &[u8; HEADER], at: usize) -> u64 {
    u64::from_ne_bytes([
        header[at],
        header[at + 1],
        header[at + 2],
        header[at + 3],
        header[at + 4],
        header[at + 5],
        header[at + 6],
        header[at + 7],
    ])
}

#[inline(always)]
pub(super) fn parse<B: PacketBytes>(bytes: &B, offset: usize) -> Result<ParsedPacket, Outcome> {
    let header: &[u8; HEADER] = bytes.header(offset).ok_or(Outcome::Truncated)?;
    if header[0] >> 4 != 6 {
        return Err(Outcome::Malformed);
    }
    let payload_length = match u16::from_be_bytes([header[4], header[5]]) {
        // Nothing follows (RFC 8200 section 4.7); what the frame still holds is padding.
        0 if header[6] == NO_NEXT_HEADER => 0,
        // A jumbogram (RFC 2675) or segmentation offload: the frame tells.
        0 => bytes.wire_length().checked_sub(offset + HEADER).ok_or(Outcome::Truncated)?,
        length => usize::from(length),
    };
    let traffic_class = header[0] << 4 | header[1] >> 4;
    let mut protocol = header[6];
    let source = [word(header, 8), word(header, 16)];
    let destination = [word(header, 24), word(header, 32)];
    let key = FlowKey::ipv6(source, destination, protocol, traffic_class);
    let octets = (payload_length + HEADER) as u32;
    let flow_label = u32::from_be_bytes([0, header[1] & 0x0f, header[2], header[3]]);
    let detail = Detail::of_ip(octets, header[7], flow_label, 0);
    let mut packet = ParsedPacket {
        key,
        octets,
        header_octets: HEADER as u32,
        tcp_flags: 0,
        fragment: Fragment::NONE,
        note: None,
        detail,
    };

    let mut at = offset + HEADER;
    let end = at + payload_length;
    for _ in 0..B::EXTENSION_HEADERS {
        if !is_extension(protocol) {
            break;
        }
        if at + 8 > end {
            return Err(Outcome::Malformed);
        }
        // Every extension header has at least 8 octets (RFC 8200 section 4.2, RFC 4302 section 2).
        let extension: &[u8; 8] = bytes.header(at).ok_or(Outcome::Truncated)?;
        let length = match protocol {
            FRAGMENT => 8,
            // In 4-octet units, minus 2 (RFC 4302 section 2.2).
            AUTHENTICATION => (usize::from(extension[1]) + 2) * 4,
            // In 8-octet units, not counting the first.
            _ => (usize::from(extension[1]) + 1) * 8,
        };
        let is_fragment = protocol == FRAGMENT;
        protocol = extension[0];
        at = bytes.settled(at + length);
        packet.header_octets = (at - offset) as u32;
        if is_fragment {
            let place = u16::from_be_bytes([extension[2], extension[3]]);
            let identification = u32::from_be_bytes([extension[4], extension[5], extension[6], extension[7]]);
            packet.fragment = Fragment::new(identification, place >> 3, place & 1 != 0);
            if packet.fragment.more {
                packet.detail.fragment_flags |= Detail::MORE_FRAGMENTS;
            }
            if packet.fragment.offset != 0 {
                packet.key.set_protocol(protocol);
                packet.note = Some(Note::LaterFragment);
                return Ok(packet);
            }
        }
    }
    packet.key.set_protocol(protocol);
    if is_extension(protocol) {
        packet.note = Some(Note::DeepHeaders);
        return Ok(packet);
    }
    if at > end {
        return Err(Outcome::Malformed);
    }
    transport::parse(bytes, at, end - at, protocol, &mut packet)?;
    Ok(packet)
}
