// SPDX-License-Identifier: Apache-2.0 OR MIT
//! rtnetlink: dumps and notifications.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// Group of link notifications (include/uapi/linux/rtnetlink.h, RTNLGRP_LINK).
const GROUP_LINK: u32 = 1;

/// All answers to a dump request.
pub(super) fn dump(request: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
    let socket = send(request, NLM_F_DUMP)?;
    let mut answers = Vec::new();
    loop {
        let (octets, _) = socket.recv_from_full()?;
        if !each(&octets, |answer| answers.push(answer))? {
            return Ok(answers);
        }
    }
}

/// All answers to a dump request as they came, each without its netlink header: for messages that this crate's
/// decoder may not know whole, and of which none may be missed.
pub(super) fn dump_octets(request: RouteNetlinkMessage) -> io::Result<Vec<Vec<u8>>> {
    let socket = send(request, NLM_F_DUMP)?;
    let mut answers = Vec::new();
    loop {
        let (octets, _) = socket.recv_from_full()?;
        let mut more = true;
        each_message(&octets, |message| {
            match u16::from_ne_bytes([message[4], message[5]]) {
                NLMSG_DONE => more = false,
                NLMSG_ERROR => return Err(error_of(message)),
                _ => answers.push(message[HEADER..].to_vec()),
            }
            Ok(more)
        })?;
        if !more {
            return Ok(answers);
        }
    }
}

/// A request that changes something, carried out when this returns.
pub(super) fn change(request: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
    let socket = send(request, NLM_F_ACK | flags)?;
    let (octets, _) = socket.recv_from_full()?;
    each(&octets, drop).map(drop)
}

fn send(request: RouteNetlinkMessage, flags: u16) -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(request));
    message.header.flags = NLM_F_REQUEST | flags;
    message.header.sequence_number = 1;
    message.finalize();
    let mut octets = vec![0; message.buffer_len()];
    message.serialize(&mut octets);
    socket.send(&octets, 0)?;
    Ok(socket)
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
pub(super) fn each(octets: &[u8], mut take: impl FnMut(RouteNetlinkMessage)) -> io::Result<bool> {
    each_message(octets, |message| {
        // A message that this crate cannot read (a newer kernel's) is skipped, not fatal.
        if let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(message) {
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(false),
                // An acknowledgement is an error without a code.
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(inner) => take(inner),
                _ => {}
            }
        }
        Ok(true)
    })
}

/// Octets of a netlink header (struct nlmsghdr).
const HEADER: usize = 16;
/// Message types (include/uapi/linux/netlink.h).
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// Hands over the messages of one read as they are, header first, until `take` returns `false`; returns what it
/// returned last.
fn each_message(mut octets: &[u8], mut take: impl FnMut(&[u8]) -> io::Result<bool>) -> io::Result<bool> {
    while !octets.is_empty() {
        let length = octets
            .first_chunk::<4>()
            .and_then(|length| usize::try_from(u32::from_ne_bytes(*length)).ok())
            .filter(|length| (HEADER..=octets.len()).contains(length))
            .ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, "a netlink message with a wrong length")
            })?;
        if !take(&octets[..length])? {
            return Ok(false);
        }
        // Messages are aligned to 4 octets (NLMSG_ALIGN).
        octets = &octets[((length + 3) & !3).min(octets.len())..];
    }
    Ok(true)
}

/// What an error message says: its first word is the error number, negative (struct nlmsgerr).
fn error_of(message: &[u8]) -> io::Error {
    let code = message[HEADER..].first_chunk::<4>().map_or(0, |code| i32::from_ne_bytes(*code));
    io::Error::from_raw_os_error(code.wrapping_abs())
}
