// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Promiscuous mode: without it, a NIC drops frames that are not addressed to it, which is nearly all of a mirror
//! port's.

use std::{io, os::fd::OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket};

/// Option of packet sockets, see packet(7).
#[derive(Clone, Copy)]
struct AddMembership;

nix::setsockopt_impl!(
    AddMembership,
    libc::SOL_PACKET,
    libc::PACKET_ADD_MEMBERSHIP,
    libc::packet_mreq,
    nix::sys::socket::sockopt::SetStruct<libc::packet_mreq>
);

/// Keeps an interface in promiscuous mode. The kernel counts who wants it, and undoes it when the last has gone,
/// however that process ends; `ip -d link` shows the count as `promiscuity`.
#[derive(Debug)]
pub struct Promiscuous {
    _socket: OwnedFd,
}

impl Promiscuous {
    /// Puts the interface with this index, of this thread's network namespace, into promiscuous mode until the result
    /// is dropped.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`, or when there is no such interface.
    pub fn set(index: u32) -> io::Result<Self> {
        // Protocol 0: it receives nothing.
        let socket =
            socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None::<SockProtocol>)?;
        let request = libc::packet_mreq {
            mr_ifindex: i32::try_from(index).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?,
            mr_type: u16::try_from(libc::PACKET_MR_PROMISC).unwrap_or(1),
            mr_alen: 0,
            mr_address: [0; 8],
        };
        setsockopt(&socket, AddMembership, &request)?;
        Ok(Self { _socket: socket })
    }
}
