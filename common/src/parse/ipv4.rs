// SPDX-License-Identifier: Apache-2.0 OR MIT
//! IPv4 (RFC 791 section 3.1).

use super::{Fragment, PacketBytes, ParsedPacket, transport};
use crate::{Detail, FlowKey, Note, Outcome};

const HEADER: usize = 20;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

#[inline(always)]
pub(super) fn parse<B: PacketBytes>(bytes: &B, offset: usize) -> Result<ParsedPacket, Outcome> {
    let header: &[u8; HEADER] = bytes.header(offset).ok_or(Outcome::Truncated)?;
    let header_length = usize::from(header[0] & 0x0f) * 4;
    if header[0] >> 4 != 4 || header_length < HEADER {
        return Err(Outcome::Malformed);
    }
    let total_length = match u16::from_be_bytes([header[2], header[3]]) {
        // Segmentation offload (BIG TCP): longer than 16 bits can say, so the frame tells.
        0 => bytes.wire_length().checked_sub(offset).ok_or(Outcome::Truncated)?,
        length => usize::from(length),
    };
    if total_length < header_length {
        return Err(Outcome::Malformed);
    }
    let key = FlowKey::ipv4(
        [header[12], header[13], header[14], header[15]],
        [header[16], header[17], header[18], header[19]],
        header[9],
        header[1],
    );
    let octets = total_length as u32;
    // The flags lie where IANA element 197 has them.
    let flags = header[6] & (Detail::DONT_FRAGMENT | Detail::MORE_FRAGMENTS);
    let detail = Detail::of_ip(octets, header[8], 0, flags);
    let place = u16::from_be_bytes([header[6], header[7]]);
    let identification = u16::from_be_bytes([header[4], header[5]]);
    let fragment = Fragment::new(identification.into(), place & OFFSET, place & MORE_FRAGMENTS != 0);
    let header_octets = header_length as u32;
    let mut packet = ParsedPacket { key, octets, header_octets, tcp_flags: 0, fragment, note: None, detail };
    if place & OFFSET != 0 {
        packet.note = Some(Note::LaterFragment);
        return Ok(packet);
    }
    transport::parse(bytes, offset + header_length, total_length - header_length, header[9], &mut packet)?;
    Ok(packet)
}
