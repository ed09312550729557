// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Notifications of ethtool's netlink family: numbers of queues change without a word on rtnetlink (virtio_net, for
//! one). Only that something was said matters, so nothing of a notification is read.
//!
//! The number of the family's group is asked for as include/uapi/linux/genetlink.h describes: a message is a netlink
//! header (16 octets), a generic one (4), and attributes, each a length and a type (2 octets each) and its value,
//! aligned to 4.

use std::io;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};

/// Request flag and ids (include/uapi/linux/netlink.h, genetlink.h).
const NLM_F_REQUEST: u16 = 1;
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const CTRL_ATTR_MCAST_GROUPS: u16 = 7;
const CTRL_ATTR_MCAST_GRP_NAME: u16 = 1;
const CTRL_ATTR_MCAST_GRP_ID: u16 = 2;
/// Octets of both headers.
const HEADERS: usize = 20;

/// A socket that hears when somebody changes settings of a NIC; reading it never blocks.
///
/// # Errors
/// When the kernel has no such family (before 5.6), or netlink fails.
pub(super) fn listen() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_GENERIC)?;
    socket.bind_auto()?;
    socket.send_to(&request(), &SocketAddr::new(0, 0), 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let group = monitor_group(&answer).ok_or(io::ErrorKind::Unsupported)?;
    socket.add_membership(group)?;
    socket.set_non_blocking(true)?;
    Ok(socket)
}

/// Whether anything was said since the last call.
pub(super) fn heard(socket: &Socket) -> bool {
    let mut heard = false;
    // 4096 octets: more of a notification is cut off, and not needed.
    let mut buffer = Vec::with_capacity(4096);
    loop {
        buffer.clear();
        match socket.recv(&mut buffer, 0) {
            Ok(_) => heard = true,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // More was said than the socket could hold.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => heard = true,
            Err(_) => return heard,
        }
    }
}

fn request() -> Vec<u8> {
    let name = b"ethtool\0";
    let length = HEADERS + 4 + name.len();
    let mut request = Vec::with_capacity(length);
    request.extend(u32::try_from(length).unwrap_or(0).to_ne_bytes());
    request.extend(GENL_ID_CTRL.to_ne_bytes());
    request.extend(NLM_F_REQUEST.to_ne_bytes());
    // Sequence and sender, which nobody looks at, then command, version and reserved octets.
    request.extend([0; 8]);
    request.extend([CTRL_CMD_GETFAMILY, 1, 0, 0]);
    request.extend(u16::try_from(4 + name.len()).unwrap_or(0).to_ne_bytes());
    request.extend(CTRL_ATTR_FAMILY_NAME.to_ne_bytes());
    request.extend(name);
    request
}

/// The number of the group named "monitor" in an answer about a family.
fn monitor_group(answer: &[u8]) -> Option<u32> {
    let groups = find(answer.get(HEADERS..)?, CTRL_ATTR_MCAST_GROUPS)?;
    attributes(groups).find_map(|(_, group)| {
        (find(group, CTRL_ATTR_MCAST_GRP_NAME)? == b"monitor\0")
            .then(|| find(group, CTRL_ATTR_MCAST_GRP_ID)?.first_chunk().copied().map(u32::from_ne_bytes))?
    })
}

fn find(octets: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(octets).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// Types and values of attributes, as far as their lengths make sense.
fn attributes(mut octets: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [a, b, c, d] = *octets.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = octets.get(4..length)?;
        octets = octets.get((length + 3) & !3..).unwrap_or_default();
        // The two highest bits say how the value is encoded (NLA_TYPE_MASK).
        Some((u16::from_ne_bytes([c, d]) & 0x3fff, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = 4 + value.len();
        let mut octets = u16::try_from(length).unwrap().to_ne_bytes().to_vec();
        octets.extend(kind.to_ne_bytes());
        octets.extend(value);
        octets.resize(length.next_multiple_of(4), 0);
        octets
    }

    fn group(name: &[u8], id: u32) -> Vec<u8> {
        [attribute(CTRL_ATTR_MCAST_GRP_NAME, name), attribute(CTRL_ATTR_MCAST_GRP_ID, &id.to_ne_bytes())]
            .concat()
    }

    #[test]
    fn finds_the_group_and_survives_any_octets() {
        let groups = [attribute(1, &group(b"other\0", 5)), attribute(2, &group(b"monitor\0", 7))].concat();
        let body = [attribute(1, &[20, 0]), attribute(0x8000 | CTRL_ATTR_MCAST_GROUPS, &groups)].concat();
        let answer = [vec![0; HEADERS], body].concat();
        assert_eq!(monitor_group(&answer), Some(7));
        for cut in 0..answer.len() {
            assert_eq!(monitor_group(&answer[..cut]), None, "{cut}");
        }
        for at in HEADERS..answer.len() {
            for octet in [0, 1, 3, 255] {
                let mut broken = answer.clone();
                broken[at] = octet;
                monitor_group(&broken);
            }
        }
    }

    #[test]
    fn the_kernel_tells_the_group() {
        let socket = listen().unwrap();
        assert!(!heard(&socket));
    }
}
