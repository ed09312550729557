// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Ports, ICMP type and code, TCP flags.

use super::{PacketBytes, ParsedPacket};
use crate::Outcome;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;

/// Reads what the flow key needs. `length` is what the network layer says is left for the transport.
///
/// Only the octets that hold the key are required: of a TCP header cut by the capture before its flags,
/// the ports still count, with no flags.
#[inline(always)]
pub(super) fn parse<B: PacketBytes>(
    bytes: &B,
    offset: usize,
    length: usize,
    protocol: u8,
    packet: &mut ParsedPacket,
) -> Result<(), Outcome> {
    match protocol {
        // Source port, destination port: RFC 9293 section 3.1, RFC 768, RFC 4340 section 5.1,
        // RFC 9260 section 3.1, RFC 3828 section 3.
        TCP | UDP | DCCP | SCTP | UDP_LITE => {
            if length < 4 {
                return Err(Outcome::Malformed);
            }
            let ports: &[u8; 4] = bytes.header(offset).ok_or(Outcome::Truncated)?;
            packet.key.set_ports(
                u16::from_be_bytes([ports[0], ports[1]]),
                u16::from_be_bytes([ports[2], ports[3]]),
            );
            if protocol != TCP {
                packet.header_octets += if protocol == SCTP { 12 } else { 8 };
            } else if length >= 14 {
                // Data offset, reserved bits and flags; the low 12 bits are IANA's "TCP Header Flags".
                if let Some(flags) = bytes.header::<2>(offset + 12) {
                    packet.tcp_flags = u16::from_be_bytes([flags[0], flags[1]]) & 0x0fff;
                    packet.header_octets += (flags[0] >> 4) as u32 * 4;
                }
            }
        }
        // Type and code (RFC 792, RFC 4443 section 2.1), where collectors look for them: source port 0,
        // destination port type × 256 + code.
        ICMP | ICMPV6 => {
            if length < 2 {
                return Err(Outcome::Malformed);
            }
            let kind: &[u8; 2] = bytes.header(offset).ok_or(Outcome::Truncated)?;
            packet.key.set_ports(0, u16::from_be_bytes([kind[0], kind[1]]));
        }
        _ => {}
    }
    Ok(())
}
