// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Options of packet sockets (packet(7), include/uapi/linux/if_packet.h) that `nix` does not have.
#![allow(missing_docs, reason = "each is the option of the kernel of that name")]

use nix::{getsockopt_impl, setsockopt_impl, sockopt_impl};

sockopt_impl!(Version, SetOnly, libc::SOL_PACKET, libc::PACKET_VERSION, libc::c_int);
sockopt_impl!(VnetHeader, SetOnly, libc::SOL_PACKET, libc::PACKET_VNET_HDR, libc::c_int);
sockopt_impl!(IgnoreOutgoing, SetOnly, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, libc::c_int);
sockopt_impl!(Timestamp, SetOnly, libc::SOL_PACKET, libc::PACKET_TIMESTAMP, libc::c_int);
sockopt_impl!(ReceiveRing, SetOnly, libc::SOL_PACKET, libc::PACKET_RX_RING, libc::tpacket_req3);
sockopt_impl!(AddMembership, SetOnly, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, libc::packet_mreq);
sockopt_impl!(Fanout, Both, libc::SOL_PACKET, libc::PACKET_FANOUT, u32);
sockopt_impl!(Statistics, GetOnly, libc::SOL_PACKET, libc::PACKET_STATISTICS, libc::tpacket_stats_v3);
