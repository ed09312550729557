// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The classic BPF program of a socket: which packets, and how many octets of each the kernel copies.
//!
//! Copying is most of what this engine costs, so only as much is copied as has headers. The program needs no privilege;
//! the kernel checks and compiles it.

use libc::{
    BPF_ABS, BPF_B, BPF_H, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_LEN, BPF_RET, BPF_W, ETH_P_IP,
    ETH_P_IPV6,
};
use socket2::SockFilter;

use super::{Ways, link::LinkHeader};

/// Octets copied of a packet whose headers are of known length: Ethernet, IPv4 with all its options or plain IPv6, TCP
/// with all its options (14 + 60 + 60), and as much again for a tunnel.
const PLAIN: u32 = 256;
/// Octets copied of any other: tags, 64 extension headers, tunnels.
pub(super) const DEEP: u32 = 2048;

/// Lets nothing through.
pub(super) fn nothing() -> Vec<SockFilter> {
    vec![take(0)]
}

/// Lets the packets of these ways through, as much of them as has headers.
pub(super) fn headers(ways: Ways, link: LinkHeader) -> Vec<SockFilter> {
    let mut program = match ways {
        // The kernel passes what goes out to a fanout group even if its members ignore it (before 6.4), so
        // PACKET_IGNORE_OUTGOING does not do.
        Ways::Ingress => vec![load_packet_type(), skip_if_equal(libc::PACKET_OUTGOING.into(), 0, 1), take(0)],
        Ways::Egress => vec![load_packet_type(), skip_if_equal(libc::PACKET_OUTGOING.into(), 1, 0), take(0)],
        Ways::Both => Vec::new(),
    };
    if link == LinkHeader::None {
        program.push(take(DEEP));
        return program;
    }
    program.extend([
        // A load behind the end of the packet would drop it.
        load(BPF_W | BPF_LEN, 0),
        jump(BPF_JGE, 14 + 40, 0, 7),
        load(BPF_H | BPF_ABS, 12),
        skip_if_equal(ETH_P_IP.cast_unsigned(), 6, 0),
        skip_if_equal(ETH_P_IPV6.cast_unsigned(), 0, 4),
        // Next header of IPv6.
        load(BPF_B | BPF_ABS, 14 + 6),
        skip_if_equal(6, 3, 0),
        skip_if_equal(17, 2, 0),
        skip_if_equal(58, 1, 0),
        take(DEEP),
        take(PLAIN),
    ]);
    program
}

fn load_packet_type() -> SockFilter {
    // Reserved offsets give what is not in the packet (Documentation/networking/filter.rst).
    load(BPF_B | BPF_ABS, (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE).cast_unsigned())
}

fn load(what: u32, offset: u32) -> SockFilter {
    instruction(BPF_LD | what, 0, 0, offset)
}

/// Goes on after so many instructions.
fn skip_if_equal(value: u32, equal: u8, other: u8) -> SockFilter {
    jump(BPF_JEQ, value, equal, other)
}

fn jump(condition: u32, value: u32, holds: u8, fails: u8) -> SockFilter {
    instruction(BPF_JMP | condition | BPF_K, holds, fails, value)
}

fn take(octets: u32) -> SockFilter {
    instruction(BPF_RET | BPF_K, 0, 0, octets)
}

fn instruction(code: u32, holds: u8, fails: u8, k: u32) -> SockFilter {
    // Codes have 8 bits.
    SockFilter::new(u16::try_from(code).unwrap_or(0), holds, fails, k)
}
