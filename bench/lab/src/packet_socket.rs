// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Single frames onto an interface.
//!
//! The only file of the lab with `unsafe`: no crate at hand makes a `sockaddr_ll` for sending.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, sendto, socket,
};

use crate::LinkEnd;

/// Sends raw Ethernet frames.
#[derive(Debug)]
pub struct PacketSocket {
    socket: OwnedFd,
    address: LinkAddr,
    name: String,
}

impl PacketSocket {
    /// A socket that sends on `end`, from its namespace.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`.
    pub fn open(end: &LinkEnd) -> Result<Self> {
        let socket = end
            .namespace
            .enter(|| {
                // Protocol 0 receives nothing: this socket only sends.
                socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None::<SockProtocol>)
            })?
            .context("opening a packet socket")?;
        Ok(Self { socket, address: link_address(end.index)?, name: end.name.clone() })
    }

    /// Sends one frame, which goes out as it is.
    ///
    /// # Errors
    /// When the interface is down, or the frame longer than it takes.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        let sent =
            sendto(std::os::fd::AsRawFd::as_raw_fd(&self.socket), frame, &self.address, MsgFlags::empty())
                .with_context(|| format!("sending {} octets on {}", frame.len(), self.name))?;
        ensure!(sent == frame.len(), "only {sent} of {} octets went out on {}", frame.len(), self.name);
        Ok(())
    }
}

fn link_address(index: u32) -> Result<LinkAddr> {
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET)?,
        sll_protocol: 0,
        sll_ifindex: i32::try_from(index)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>())?;
    // SAFETY: the pointer is to a whole sockaddr_ll of this length and family, which is only read.
    unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(length)) }
        .context("the kernel's form of a link address is not what was expected")
}
