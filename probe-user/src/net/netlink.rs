// SPDX-License-Identifier: Apache-2.0 OR MIT
//! rtnetlink: dumps and notifications.

use std::io;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// Group of link notifications (include/uapi/linux/rtnetlink.h, RTNLGRP_LINK).
const GROUP_LINK: u32 = 1;

/// All answers to a dump request.
pub(super) fn dump(request: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(request));
    message.header.flags = NLM_F_DUMP | NLM_F_REQUEST;
    message.header.sequence_number = 1;
    message.finalize();
    let mut octets = vec![0; message.buffer_len()];
    message.serialize(&mut octets);
    socket.send(&octets, 0)?;
    let mut answers = Vec::new();
    loop {
        let (octets, _) = socket.recv_from_full()?;
        if !each(&octets, |answer| answers.push(answer))? {
            return Ok(answers);
        }
    }
}

/// A socket that hears of changes to interfaces; reading it never blocks.
pub(super) fn listen() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.add_membership(GROUP_LINK)?;
    socket.set_non_blocking(true)?;
    Ok(socket)
}

/// Hands over the messages of one read; returns whether more reads belong to the answer.
pub(super) fn each(mut octets: &[u8], mut take: impl FnMut(RouteNetlinkMessage)) -> io::Result<bool> {
    while !octets.is_empty() {
        let length = octets
            .first_chunk::<4>()
            .and_then(|length| usize::try_from(u32::from_ne_bytes(*length)).ok())
            .filter(|length| (16..=octets.len()).contains(length))
            .ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, "a netlink message with a wrong length")
            })?;
        // A message that this crate cannot read (a newer kernel's) is skipped, not fatal.
        if let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&octets[..length]) {
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(false),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(inner) => take(inner),
                _ => {}
            }
        }
        // Messages are aligned to 4 octets (NLMSG_ALIGN).
        octets = &octets[((length + 3) & !3).min(octets.len())..];
    }
    Ok(true)
}
